"""PyTorch as a backend: pairs in, loaded pairs out. torch itself is imported when first needed."""

from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

from dflash_app.backends.torch.families import check_family
from dflash_app.drafters.support import unsupported_reason
from dflash_app.engine.opening import end_ids, open_pair
from dflash_app.engine.out_of_memory import is_out_of_memory
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.errors import BackendUnavailable, LoadError
from dflash_app.hub.cache import ready_folders
from dflash_app.hub.room import refusal, room_warning
from dflash_app.registry.pair import Pair

if TYPE_CHECKING:
    from dflash_app.backends.torch.models import TorchModels
    from dflash_app.backends.torch.target import TorchTarget
    from dflash_app.engine.local import PairTokenizer

TargetKey = tuple[Path, LoadOptions]
"""Folder, and what of the options makes a target, device and dtype chosen."""


class TorchBackend:
    """`engine.protocol.Backend` on PyTorch and transformers."""

    name = "torch"

    def __init__(self) -> None:
        # Weak: a target lives as long as a loaded pair uses it, and no longer.
        self._targets: WeakValueDictionary[TargetKey, TorchTarget] = WeakValueDictionary()
        self._loaded: WeakSet[TorchModels] = WeakSet()

    def unavailable_reason(self) -> str | None:
        """None where PyTorch and transformers are installed, else the cure."""
        for library in ("torch", "transformers"):
            if find_spec(library) is None:
                return f"{library} is not installed: run `pip install {library}`."
        return None

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

        from dflash_app.backends.torch.inspection import check_pair, inspect_target
        from dflash_app.backends.torch.loading import check_options
        from dflash_app.drafters.tokenizer import load_tokenizer

        check_options(target_dir, options)
        load_tokenizer(target_dir)
        if drafter_dir is None:
            inspect_target(target_dir, snapshot=options.snapshot)
        else:
            check_pair(target_dir, drafter_dir, pair, snapshot=options.snapshot)
        self._check_room(target_dir, drafter_dir, options)

    def load(self, pair: Pair, options: LoadOptions) -> LoadedPair:
        """Load a pair that is on this machine, on a worker thread of its own.

        A target that another loaded pair holds with the same options is shared, not loaded again:
        to change only the drafter, load the new pair before closing the old one.

        Raises:
            PairNotReady, LoadError, BackendUnavailable.
        """
        return self._open(pair, options, None)

    def load_beside(self, pair: Pair, options: LoadOptions, host: LoadedPair) -> LoadedPair:
        """Load a pair on the thread of another; see `BesideLoader`.

        Raises:
            PairNotReady, LoadError, BackendUnavailable.
        """
        return self._open(pair, options, host)

    def load_here(
        self, pair: Pair, options: LoadOptions
    ) -> "tuple[PairTokenizer, TorchModels, tuple[str, ...]]":
        """Load a pair on the calling thread, for whoever runs it elsewhere.

        Returns:
            (tokenizer, models, warnings): what `LocalPair` is made of, but for its worker.

        Raises:
            PairNotReady, LoadError, BackendUnavailable.
        """
        target_dir, drafter_dir = self._folders(pair, options)
        from dflash_app.drafters.tokenizer import load_tokenizer

        tokenizer: Any = load_tokenizer(target_dir)
        eos_ids = end_ids(tokenizer)
        models, warnings = self._load(pair, target_dir, drafter_dir, options, eos_ids)
        return tokenizer, models, warnings

    def _open(self, pair: Pair, options: LoadOptions, host: LoadedPair | None) -> LoadedPair:
        target_dir, drafter_dir = self._folders(pair, options)
        from dflash_app.drafters.tokenizer import load_tokenizer

        def refuse(error: Exception, summary: str) -> LoadError:
            if is_out_of_memory(error):
                return LoadError(
                    f"Pair {pair.name!r} does not fit into memory: free some, or choose nf4, "
                    "bfloat16 or a smaller pair."
                )
            return LoadError(
                f"Pair {pair.name!r} cannot be loaded ({summary}): "
                "download it again, or choose another."
            )

        return open_pair(
            pair.name,
            self.name,
            load_tokenizer(target_dir),
            lambda eos_ids: self._load(pair, target_dir, drafter_dir, options, eos_ids, host=host),
            refuse,
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
        *,
        host: LoadedPair | None = None,
    ) -> "tuple[TorchModels, tuple[str, ...]]":
        from dflash_app.backends.torch.inspection import check_pair
        from dflash_app.backends.torch.loading import (
            AUTO,
            choose_device,
            choose_dtype,
            load_models,
        )

        device = choose_device(options.device)
        warnings: tuple[str, ...] = ()
        if drafter_dir is not None:
            # Before the target is read, which may take minutes.
            warnings = check_pair(target_dir, drafter_dir, pair, snapshot=options.snapshot)
        chosen = replace(
            options,
            device=AUTO if options.device == AUTO else str(device),
            dtype=str(choose_dtype(options.dtype, device, options.quantization)),
        )
        key = (target_dir.resolve(), chosen.of_target())
        shared = self._targets.get(key)
        if host is None:
            warnings += self._check_room(target_dir, drafter_dir, options)
        else:
            warnings += self._check_room_beside(target_dir, drafter_dir, options, host, shared)
        models = load_models(target_dir, drafter_dir, options, eos_ids=eos_ids, target=shared)
        self._targets[key] = models.target
        self._loaded.add(models)
        return models, warnings

    def _check_room(
        self, target_dir: Path, drafter_dir: Path | None, options: LoadOptions
    ) -> tuple[str, ...]:
        """Refuse what the free memory cannot hold; warn where it holds little context.

        Raises:
            LoadError: naming both sizes and the cures.
        """
        from dflash_app.backends.torch.loading import choose_device
        from dflash_app.backends.torch.models import held_on

        device = choose_device(options.device)
        # What is in memory is shared, or goes before others come.
        held = held_on(device, list(self._loaded))
        cures = "choose nf4, a smaller pair, or the target alone"
        cures += ", or the device auto" if device.type == "cuda" else ""
        where = f"on {device}"
        return _judge_room(target_dir, drafter_dir, options, held=held, where=where, cures=cures)

    def _check_room_beside(
        self,
        target_dir: Path,
        drafter_dir: Path | None,
        options: LoadOptions,
        host: LoadedPair,
        shared: "TorchTarget | None",
    ) -> tuple[str, ...]:
        """The same where what is in memory stays there, but for what earlier turns have left.

        Raises:
            LoadError: naming both sizes and the cures.
        """
        held = 0 if shared is None else shared.memory_bytes()
        where = f"on {host.device} beside {host.name!r} ({host.quantization or host.dtype})"
        cures = "choose lanes of one precision, a lower one, or a smaller pair"

        def judge() -> tuple[str, ...]:
            return _judge_room(
                target_dir, drafter_dir, options, held=held, where=where, cures=cures
            )

        with suppress(LoadError):
            if not judge():
                return ()
        from dflash_app.backends.torch.models import free_all_unused

        free_all_unused(list(self._loaded))  # we are on the thread of all of them, between lanes
        return judge()


def _judge_room(
    target_dir: Path,
    drafter_dir: Path | None,
    options: LoadOptions,
    *,
    held: int,
    where: str,
    cures: str,
) -> tuple[str, ...]:
    """A warning where little context fits; `held` bytes of what is in memory do not count."""
    from dflash_app.backends.torch.loading import AUTO, choose_device, memory_need
    from dflash_app.backends.torch.memory import free_bytes

    free = free_bytes(choose_device(options.device))
    need = memory_need(target_dir, drafter_dir, options)
    if free is None or need is None or options.device == AUTO:
        return ()
    reason = refusal(need, free + held, where, cures)
    if reason is not None:
        raise LoadError(reason)
    warning = room_warning(need, free + held, where)
    return () if warning is None else (warning,)
