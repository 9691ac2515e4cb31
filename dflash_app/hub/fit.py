"""Whether a pair fits this machine, before it is downloaded: memory by precision, and disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dflash_app.errors import HubError, PairNotReady
from dflash_app.hub.cache import is_here, resolve
from dflash_app.hub.disk import blob_sizes, bytes_here, free_bytes, repo_folder
from dflash_app.hub.estimates import weights_by_name
from dflash_app.hub.fast_copies import FastPath
from dflash_app.hub.headers import stored_tensors
from dflash_app.hub.memory import MemoryNeed, Storing, estimate
from dflash_app.hub.model_config import RawConfig, goes_fast
from dflash_app.hub.model_files import read_json
from dflash_app.hub.needed import CONFIG
from dflash_app.hub.remote import RemoteModel, ask_config, ask_headers, ask_model
from dflash_app.hub.weights import Headers
from dflash_app.registry.pair import ModelRef, Pair

Source = Literal["files here", "hub", "registry", "its name"]

PRECISIONS = {"bf16": None, "int8": "int8", "nf4": "nf4", "MLX 4-bit": "4bit"}
"""The quantisation of each, as `weights.weight_bytes` knows it."""
SHORT_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_BITS = {"bf16": 16, "int8": 8.5, "nf4": 4.5, "MLX 4-bit": 4.5}
"""A number of a weight matrix with its share of the scales, where only a size is known."""


@dataclass(frozen=True, slots=True)
class Device:
    """A place for weights: its name ("cuda:0") and what is free of it."""

    name: str
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A pair in one precision on one device.

    Attributes:
        precision: of `PRECISIONS`, or the dtype's short name where another was asked for.
        device: its name.
        free_bytes: of the device.
        needed_bytes: at the usual context, or of the weights alone where `need` is None.
        longest_context: most tokens of prompt and answer that fit; 0 is none, None unknown.
        need: the arithmetic (`breakdown`); None where only the weights' size is known.
        by_name: the target's size is a guess from its name.
    """

    precision: str
    device: str
    free_bytes: int
    needed_bytes: int
    longest_context: int | None
    need: MemoryNeed | None
    by_name: bool = False

    @property
    def fits(self) -> bool:
        """Whether it can be loaded and read a prompt; the longest one may be short."""
        if self.longest_context is None:
            return self.needed_bytes <= self.free_bytes
        return self.longest_context > 0


@dataclass(frozen=True, slots=True)
class PairFit:
    """Everything that decides whether a pair fits here.

    Attributes:
        pair: its name.
        source: where the sizes are from, the least sure of both models.
        reason: why the hub was not asked or did not tell; None where it was not needed.
        download_bytes: still to be fetched; None where unknown.
        disk_free_bytes: of the cache's disk.
        fits: every precision on every device.
    """

    pair: str
    source: Source
    reason: str | None
    download_bytes: int | None
    disk_free_bytes: int
    fits: tuple[Fit, ...]

    @property
    def disk_fits(self) -> bool:
        """Whether the download fits the disk; unknown sizes do."""
        return self.download_bytes is None or self.download_bytes <= self.disk_free_bytes


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a model without its weights."""

    source: Source
    config: RawConfig
    headers: Headers
    download_bytes: int


def fit_pair(
    pair: Pair,
    devices: Sequence[Device],
    *,
    online: bool = True,
    context_length: int | None = None,
    cache_dir: Path | None = None,
    dtype: str = "bfloat16",
) -> PairFit:
    """Compare what a pair needs with what is free.

    Args:
        pair: a registry row.
        devices: where it could be loaded.
        online: False takes the registry's sizes for what is not here, or the target's by its
            name; asks nobody.
        context_length: tokens of prompt and answer to tell the need for; None takes the usual.
        cache_dir: the hub's cache; None takes the library's own.
        dtype: that it computes in.

    Raises:
        PairNotReady: it is on a server.
        LoadError: a file or a config that was read is damaged.
        HubError: nothing is known: not here, the hub does not tell, the registry has no size, nor
            does the target's name tell one.
    """
    if pair.remote:
        raise PairNotReady(
            f"Pair {pair.name!r} runs on a server: it takes no memory of this machine."
        )
    refs = [ref for ref in (pair.target, pair.drafter) if ref]
    try:
        known = [
            _look(ref, role, online, cache_dir) for ref, role in zip(refs, _ROLES, strict=False)
        ]
    except HubError as error:
        return _by_registry(pair, refs, devices, str(error), cache_dir)
    target, *drafter = known
    fits = []
    for precision, quantization in PRECISIONS.items():
        fast = quantization is None and goes_fast(target.config)
        storing = Storing(
            dtype=dtype,
            quantization=quantization,
            drafter_quantization=quantization if quantization == "4bit" else None,
            fast_target=FastPath() if fast else None,
            fast_drafter=FastPath() if drafter else None,
        )
        need = estimate(
            target.headers,
            target.config,
            drafter[0].headers if drafter else None,
            storing,
            block_size=pair.block_size,
            context_length=context_length,
        )
        name = precision if quantization else SHORT_NAMES[dtype]
        fits += [_fit(name, device, need) for device in devices]
    source: Source = "hub" if any(each.source == "hub" for each in known) else "files here"
    return PairFit(
        pair=pair.name,
        source=source,
        reason=None,
        download_bytes=sum(each.download_bytes for each in known),
        disk_free_bytes=free_bytes(cache_dir),
        fits=tuple(fits),
    )


_ROLES = ("target", "drafter")


def _look(ref: ModelRef, role: str, online: bool, cache_dir: Path | None) -> _Known:
    """Config and headers of a model, from its files or from the hub."""
    if is_here(ref, cache_dir) or ref.repo is None:
        folder = resolve(ref, cache_dir)
        return _Known("files here", read_json(folder / CONFIG), stored_tensors(folder), 0)
    if not online:
        raise HubError(f"{ref.repo} is not here, and the hub was not asked.")
    model = ask_model(ref.repo, ref.revision)
    headers = ask_headers(model, role)
    config = ask_config(ref.repo, model.commit)
    return _Known("hub", config, headers, _lacking_bytes(model, cache_dir))


def _lacking_bytes(model: RemoteModel, cache_dir: Path | None) -> int:
    """What of the weights is still to come; another revision's do not count."""
    blobs = blob_sizes(repo_folder(model.repo, cache_dir))
    here = {path.name.removesuffix(".incomplete"): size for path, size in blobs.items()}
    return sum(
        max(size - here.get(model.hashes.get(name, ""), 0), 0)
        for name, size in model.weights.items()
    )


def _fit(precision: str, device: Device, need: MemoryNeed) -> Fit:
    return Fit(
        precision=precision,
        device=device.name,
        free_bytes=device.free_bytes,
        needed_bytes=need.total_bytes,
        longest_context=need.longest_context(device.free_bytes),
        need=need,
    )


def _by_registry(
    pair: Pair,
    refs: Sequence[ModelRef],
    devices: Sequence[Device],
    reason: str,
    cache_dir: Path | None,
) -> PairFit:
    """By the weights' sizes alone, which say nothing of the context that fits."""
    by_name = not pair.target.size_bytes
    target_bytes = pair.target.size_bytes or weights_by_name(pair.target)
    sizes = [size for size in (target_bytes, *(ref.size_bytes for ref in refs[1:])) if size]
    if len(sizes) < len(refs):
        raise HubError(f"The registry does not tell the size of pair {pair.name!r}. {reason}")
    missing = [ref for ref in refs if not is_here(ref, cache_dir)]
    lacking = sum(
        max((ref.size_bytes or 0) - bytes_here(ref.repo or "", cache_dir), 0) for ref in missing
    )
    fits = [
        Fit(
            precision=precision,
            device=device.name,
            free_bytes=device.free_bytes,
            needed_bytes=int(sum(sizes) * bits / 16),
            longest_context=None,
            need=None,
            by_name=by_name,
        )
        for precision, bits in _BITS.items()
        for device in devices
    ]
    source: Source = "its name" if by_name else "registry"
    download_bytes = None if by_name else lacking
    return PairFit(pair.name, source, reason, download_bytes, free_bytes(cache_dir), tuple(fits))
