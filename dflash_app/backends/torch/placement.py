"""Where a target's layers are: on one device, or spread over GPUs, CPU and disk by accelerate."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

import torch
from accelerate.utils import align_module_device, get_max_memory
from torch import Tensor, nn

GPU_SHARE = 0.9
"""Of a GPU's free memory for weights; caches, the drafter and activations need the rest."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Layers go to the first device that has room: GPUs, then the CPU's memory, then disk.

    Attributes:
        max_memory_bytes: of weights on each GPU (without one: in memory); None is what is free.
    """

    max_memory_bytes: int | None = None

    def limits(self) -> dict[int | str, int]:
        """Bytes of weights by device, as accelerate takes them."""
        limits: dict[int | str, int] = get_max_memory()
        on_gpus = [device for device in limits if device not in ("cpu", "disk")]
        for device in on_gpus:
            limits[device] = int(limits[device] * GPU_SHARE)
        if self.max_memory_bytes is not None:
            for device in on_gpus or ["cpu"]:
                limits[device] = min(limits[device], self.max_memory_bytes)
        return limits


def loading_arguments(device: torch.device, spread: Spread | None) -> dict[str, Any]:
    """What transformers' `from_pretrained` is told of the place."""
    if spread is None:
        return {"device_map": {"": device}}
    # Used only for weights that are not on disk as they are needed.
    folder = Path(mkdtemp(prefix="dflash-offload-"))
    return {"device_map": "auto", "max_memory": spread.limits(), "offload_folder": folder}


def remove_offload(model: Any | None, arguments: dict[str, Any]) -> None:
    """Remove the folder of `loading_arguments` once a model is gone; now where there is none."""
    folder = arguments.get("offload_folder")
    if folder is not None and model is not None:
        finalize(model, shutil.rmtree, folder, ignore_errors=True)
    elif folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes, wherever its weights wait meanwhile."""
    hook = getattr(module, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    if device is not None:
        return torch.device(device)
    first: Tensor = next(module.parameters())
    return first.device


def weight_on(module: nn.Module, device: torch.device) -> Tensor:
    """A copy of a module's weight, whether it is on another device, in memory or on disk."""
    with align_module_device(module, device):
        weight: Any = module.weight
        copied: Tensor = weight.detach().to(device)
        return copied


def offloaded_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights that wait in memory or on disk, read one by one."""
    for path, module in model.named_modules():
        weights_map = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta and weights_map is not None:
                yield f"{path}.{name}", weights_map[name]


def say_devices(model: Any) -> str:
    """Every place that holds layers, as "cuda:0+cuda:1" or "cpu+disk"."""
    devices = dict.fromkeys(_device_map(model).values())
    if not devices:
        return str(next(model.parameters()).device)
    return "+".join(str(torch.device(each)) if each != "disk" else each for each in devices)


def slow_places(model: Any) -> str | None:
    """A sentence on layers that must cross over in every step, or None."""
    places = _device_map(model)
    layers = [place for name, place in places.items() if name.rpartition(".")[2].isdecimal()]
    has_gpu = any(place not in ("cpu", "disk") for place in places.values())
    num_cpu, num_disk = layers.count("cpu") if has_gpu else 0, layers.count("disk")
    waiting = {"in the CPU's memory": num_cpu, "on disk": num_disk}
    said = " and ".join(f"{count} {where}" for where, count in waiting.items() if count)
    if not said:
        return None
    return (
        f"Of {len(layers)} layers, {said} found no room and cross over in every step: expect far "
        "fewer tokens a second, or choose nf4, a smaller pair, or more memory."
    )


def _device_map(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = getattr(model, "hf_device_map", None) or {}
    return found
