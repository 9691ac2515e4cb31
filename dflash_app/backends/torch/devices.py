"""The devices of this machine and what is free of each."""

import torch

from dflash_app.backends.torch.memory import free_bytes


def free_by_device() -> dict[str, int]:
    """Free bytes by device name: every CUDA device, Apple's, and the processor's memory."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    free = {name: free_bytes(torch.device(name)) for name in [*names, "cpu"]}
    return {name: size for name, size in free.items() if size is not None}
