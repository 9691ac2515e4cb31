"""What a pair needs on this machine before it is loaded, what is free, and what is then held."""

import gc
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor

from dflash_app.backends.torch.fast.products import choose_kernels
from dflash_app.backends.torch.fast.steps import choose_steps
from dflash_app.drafters.config import DFlashConfig
from dflash_app.engine.protocol import LoadOptions
from dflash_app.hub.fast_copies import FastPath
from dflash_app.hub.free_memory import free_ram_bytes, total_ram_bytes
from dflash_app.hub.headers import stored_tensors
from dflash_app.hub.memory import MemoryNeed, Storing, estimate
from dflash_app.hub.model_config import goes_fast
from dflash_app.hub.model_files import read_json

_LEAVES = (type, ModuleType, CodeType, str, bytes, int, float, torch.dtype, torch.device)


def estimate_pair(
    target_dir: Path,
    drafter_dir: Path | None,
    options: LoadOptions,
    device: torch.device,
    dtype: torch.dtype,
    *,
    drafter: DFlashConfig | None = None,
    fast: bool = True,
    spread: bool = False,
    context_length: int | None = None,
) -> MemoryNeed:
    """Add up what two folders will take; reads configs and headers only.

    Args:
        target_dir: the target's.
        drafter_dir: the drafter's; None for a target alone.
        options: how it will be loaded.
        device: that `loading.choose_device` chose.
        dtype: that `loading.choose_dtype` chose.
        drafter: the drafter's config; None takes the path of a DFlash of the first generation.
        fast: False counts everything as decoded through transformers.
        spread: counts the target so, as one that device "auto" put into several places.
        context_length: tokens of prompt and answer; None takes the usual.

    Raises:
        LoadError, UnsupportedFormat: a file is missing or damaged.
    """
    raw = read_json(target_dir / "config.json")
    name = str(dtype).removeprefix("torch.")
    kernels = choose_kernels(torch.empty(0, dtype=dtype, device=torch.device(device.type)), 0)
    path = FastPath(kernels.half, kernels.onednn, graphs=choose_steps(device).records)
    drafts_fast = fast and (drafter is None or drafter.selector is None)
    plain = not (options.snapshot or options.quantization or spread)
    target_fast = fast and plain and goes_fast(raw)
    return estimate(
        stored_tensors(target_dir),
        raw,
        None if drafter_dir is None else stored_tensors(drafter_dir),
        Storing(
            dtype=name,
            quantization=options.quantization,
            drafter_quantization=options.drafter_quantization,
            fast_target=path if target_fast else None,
            fast_drafter=path if drafts_fast and not options.drafter_quantization else None,
            snapshot=options.snapshot,
        ),
        block_size=None if drafter is None else drafter.block_size,
        context_length=context_length,
    )


def free_bytes(device: torch.device) -> int | None:
    """What nobody uses of a device's memory; None where that is not told."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        # Freed tensors stay with PyTorch, which gives them to the next ones.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    free_ram = free_ram_bytes()
    return total_ram_bytes() if free_ram is None else free_ram


def held_bytes(*roots: Any, beside: tuple[Any, ...] = ()) -> int:
    """Bytes of the memory behind every tensor that can be reached; what is shared counts once.

    Args:
        roots: models, caches, lanes. What FBGEMM and oneDNN hold is theirs: see `own_bytes` of
            the fast path.
        beside: what can be reached from these does not count.
    """
    storages, others = _storages(roots), _storages(beside)
    return sum(size for place, size in storages.items() if place not in others)


def spare_bytes(*parts: Any) -> int:
    """Of buffers that a target or a drafter on the fast path keeps for its next caches."""
    return sum(spare.nbytes for spare in _spares(parts))


def free_spare(*parts: Any) -> None:
    """Free those buffers."""
    for spare in _spares(parts):
        spare.clear()


def _storages(roots: tuple[Any, ...]) -> dict[tuple[str, int], int]:
    """Bytes by device and address."""
    found = {}
    for tensor in _tensors(roots):
        storage = tensor.untyped_storage()
        found[str(tensor.device), storage.data_ptr()] = storage.nbytes()
    return found


def _spares(parts: tuple[Any, ...]) -> Iterator[Any]:
    for part in parts:
        spare = getattr(getattr(part, "steps", None), "spare", None)
        if spare is not None:
            yield spare


def _tensors(roots: tuple[Any, ...]) -> Iterator[Tensor]:
    seen: set[int] = set()
    waiting: list[Any] = list(roots)
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, _LEAVES):
            continue
        seen.add(id(found))
        if isinstance(found, Tensor):
            if found.layout == torch.strided and not found.is_meta:
                yield found
            waiting.append(vars(found))
        elif isinstance(found, FunctionType):
            # What it closes over, and not its module's globals.
            waiting += [cell.cell_contents for cell in found.__closure__ or () if _is_full(cell)]
        else:
            waiting += gc.get_referents(found)


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
