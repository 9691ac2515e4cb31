"""MLX as a backend: pairs in, loaded pairs out. MLX itself is imported when first needed."""

import platform
import sys
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from dflash_app.backends.mlx.families import check_family
from dflash_app.drafters.support import unsupported_reason
from dflash_app.engine.opening import open_pair
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.errors import BackendUnavailable, LoadError
from dflash_app.hub.cache import ready_folders
from dflash_app.registry.pair import Pair

if TYPE_CHECKING:
    from dflash_app.backends.mlx.models import MlxModels
    from dflash_app.backends.mlx.target import MlxTarget

TargetKey = tuple[Path, LoadOptions]
"""Folder, and what of the options makes a target, device and dtype chosen."""

OLDEST_MACOS = 14


class MlxBackend:
    """`engine.protocol.Backend` on MLX and mlx-lm."""

    name = "mlx"

    def __init__(self) -> None:
        # Weak: a target lives as long as a loaded pair uses it, and no longer.
        self._targets: WeakValueDictionary[TargetKey, MlxTarget] = WeakValueDictionary()

    def unavailable_reason(self) -> str | None:
        """None where MLX and mlx-lm are installed and this machine can run them, else the cure."""
        if sys.platform == "darwin" and platform.machine() != "arm64":
            return "MLX needs a Mac with Apple Silicon: use the torch backend."
        macos = platform.mac_ver()[0]
        if macos and int(macos.split(".")[0]) < OLDEST_MACOS:
            return f"MLX needs macOS {OLDEST_MACOS}: update macOS, or use the torch backend."
        if find_spec("mlx") is None or find_spec("mlx_lm") is None:
            return "MLX is not installed: run `pip install '.[mlx]'`."
        return None

    def describe_setup(self) -> str:
        """MLX's version and, on a Mac, the device it takes and what of its memory.

        Elsewhere there is nothing to ask MLX for, and it is not imported.

        Raises:
            BackendUnavailable: MLX does not start.
        """
        said = f"MLX {version('mlx')}"
        if platform.system() != "Darwin":
            return f"{said}, without Metal"
        _import_mlx()
        import mlx.core as mx

        from dflash_app.backends.mlx.device import choose_device, say_device
        from dflash_app.backends.mlx.memory import memory_limits

        device = say_device(choose_device(None))
        limits = memory_limits(mx.device_info())
        found = f"{said} on the {device}"
        return f"{found}: no Metal here" if limits is None else f"{found}. {limits}"

    def unsupported_reason(
        self, pair: Pair, target_dir: Path | None, drafter_dir: Path | None
    ) -> str | None:
        """Why a pair's family or format cannot run here: see `support.unsupported_reason`."""
        return unsupported_reason(pair, target_dir, drafter_dir, check_family)

    def check(self, pair: Pair, options: LoadOptions) -> None:
        """Refuse what `load` would refuse, as far as configs and headers tell; see `PairChecker`.

        Raises:
            PairNotReady, LoadError, BackendUnavailable.
        """
        target_dir, drafter_dir = self._folders(pair, options)
        _import_mlx()
        from dflash_app.backends.mlx.inspection import check_pair
        from dflash_app.backends.mlx.loading import check_target
        from dflash_app.drafters.tokenizer import load_tokenizer

        check_target(target_dir, options)
        load_tokenizer(target_dir)
        if drafter_dir is not None:
            check_pair(target_dir, drafter_dir, pair)

    def load(self, pair: Pair, options: LoadOptions) -> LoadedPair:
        """Load a pair that is on this machine, on a worker thread of its own.

        A target that another loaded pair holds with the same options is shared, not loaded again:
        to change only the drafter, load the new pair before closing the old one.

        Raises:
            PairNotReady, LoadError, BackendUnavailable.
        """
        return self._open(pair, options, None)

    def load_beside(self, pair: Pair, options: LoadOptions, host: LoadedPair) -> LoadedPair:
        """Load a pair on the thread of another, which owns all its arrays; see `BesideLoader`.

        Raises:
            PairNotReady, LoadError, BackendUnavailable.
        """
        return self._open(pair, options, host)

    def _open(self, pair: Pair, options: LoadOptions, host: LoadedPair | None) -> LoadedPair:
        target_dir, drafter_dir = self._folders(pair, options)
        _import_mlx()
        from dflash_app.drafters.tokenizer import load_tokenizer

        return open_pair(
            pair.name,
            self.name,
            load_tokenizer(target_dir),
            lambda eos_ids: self._load(pair, target_dir, drafter_dir, options, eos_ids),
            lambda _, summary: LoadError(
                f"Pair {pair.name!r} cannot be loaded through MLX ({summary}): download it again, "
                "or use the torch backend."
            ),
            host=host,
        )

    def _folders(self, pair: Pair, options: LoadOptions) -> tuple[Path, Path | None]:
        """Where target and drafter are; no drafter where none is wanted."""
        reason = self.unavailable_reason()
        if reason is not None:
            raise BackendUnavailable(reason)
        return ready_folders(pair, drafting=options.drafter)

    def _load(
        self,
        pair: Pair,
        target_dir: Path,
        drafter_dir: Path | None,
        options: LoadOptions,
        eos_ids: tuple[int, ...],
    ) -> "tuple[MlxModels, tuple[str, ...]]":
        from dflash_app.backends.mlx.device import choose_device, say_device
        from dflash_app.backends.mlx.inspection import check_pair
        from dflash_app.backends.mlx.loading import check_target, choose_dtype, load_models

        # Before the target is read, which may take minutes.
        check_target(target_dir, options)
        warnings: tuple[str, ...] = ()
        if drafter_dir is not None:
            warnings = check_pair(target_dir, drafter_dir, pair)
        device = choose_device(options.device)
        chosen = replace(
            options, device=say_device(device), dtype=str(choose_dtype(options.dtype, device))
        )
        key = (target_dir.resolve(), chosen.of_target())
        models = load_models(
            target_dir, drafter_dir, options, eos_ids=eos_ids, target=self._targets.get(key)
        )
        self._targets[key] = models.target
        return models, warnings


def _import_mlx() -> None:
    """Find out whether MLX starts: a Mac without Metal, or a wheel without its library, cannot.

    Raises:
        BackendUnavailable: it does not.
    """
    try:
        import mlx.core  # noqa: F401 only whether it can
    except (ImportError, RuntimeError) as error:
        raise BackendUnavailable(
            f"MLX cannot start here ({error}): run `pip install '.[mlx]'` again, or "
            "use the torch backend."
        ) from error
