"""The processors that a plan is made for, and what they hold."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dflash_app.errors import PlanError
from dflash_app.registry.pair import EMBEDDED_PATHS, Pair
from dflash_app.store.fingerprint import hardware_fingerprint

Generation = Literal["ampere", "ada", "hopper", "blackwell", "cpu", "unknown"]

BYTES_PER_GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of processor.

    Attributes:
        name: as it is asked for.
        memory_bytes: of one; decimal, which is a little less than the maker's gigabytes hold.
        generation: decides which attention kernels there are.
        linked: whether several exchange tensors over NVLink.
    """

    name: str
    memory_bytes: int
    generation: Generation
    linked: bool = True

    @property
    def is_cpu(self) -> bool:
        return self.generation == "cpu"


def _gpu(name: str, generation: Generation, *, linked: bool = True) -> Gpu:
    return Gpu(name, int(name.rpartition("-")[2]) * BYTES_PER_GB, generation, linked)


CPU = Gpu("cpu", 8 * BYTES_PER_GB, "cpu", linked=False)
"""A machine without a GPU; its memory is a modest one's."""

GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("H100-80", "hopper"),
        _gpu("H200-141", "hopper"),
        _gpu("B200-180", "blackwell"),
        _gpu("A100-80", "ampere"),
        _gpu("L40S-48", "ada", linked=False),
        _gpu("4090-24", "ada", linked=False),
        CPU,
    )
}
"""The known ones, by name."""

DEFAULT_GPU = "H100-80"


def find_gpu(name: str, memory_gb: float | None = None) -> Gpu:
    """The processor that a name means.

    Args:
        name: of `GPUS`, in any case, with or without its gigabytes ("h100").
        memory_gb: of one, where it is another than the name tells; any name may then be given.

    Raises:
        PlanError: nobody knows the name, and no memory is given; or the memory is none.
    """
    asked = re.sub(r"[\s_]+", "-", name.strip().lower())
    known = next((gpu for key, gpu in GPUS.items() if asked in _names(key)), None)
    if memory_gb is None:
        if known is None:
            raise PlanError(
                f"The GPU {name[:40]!r} is not known: choose {', '.join(GPUS)}, or give its memory "
                "with --gpu-memory-gb."
            )
        return known
    if not 1 <= memory_gb <= 100_000:
        raise PlanError(f"A GPU of {memory_gb:g} GB cannot be planned for: give 1 or more.")
    generation: Generation = known.generation if known else "unknown"
    linked = known.linked if known else True
    return Gpu(name.strip()[:40] or "GPU", int(memory_gb * BYTES_PER_GB), generation, linked)


def usual_gpu(pair: Pair, seen: Sequence[str]) -> tuple[Gpu, str]:
    """What to plan for where nobody names a processor, and the sentence that says so.

    Args:
        pair: that is served.
        seen: of `gpus_here`.
    """
    if seen:
        return GPUS[DEFAULT_GPU], (
            f"No kind of GPU was named: planned for {DEFAULT_GPU}; this machine has "
            f"{', '.join(sorted(set(seen)))} (name a kind with --gpu)."
        )
    if pair.target.path == EMBEDDED_PATHS[0]:
        return CPU, (
            "No NVIDIA GPU is seen on this machine: planned for its processor; for another "
            f"machine's GPU: --gpu {DEFAULT_GPU}."
        )
    return GPUS[DEFAULT_GPU], (
        f"No NVIDIA GPU is seen on this machine: planned for {DEFAULT_GPU}; for its processor: "
        "--gpu cpu."
    )


def gpus_here() -> tuple[str, ...]:
    """Models of this machine's NVIDIA GPUs, as far as they are seen."""
    return tuple(hardware_fingerprint()["gpus"])


def _names(key: str) -> tuple[str, str]:
    """A name, and the same without its gigabytes."""
    return key.lower(), key.rpartition("-")[0].lower() or key
