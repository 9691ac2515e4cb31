"""How fast this machine reads memory and multiplies: no step can be quicker than both allow."""

import time

import torch

NUM_READS = 10
BYTES = {"cpu": 256 << 20, "cuda": 8 << 30}
"""Read at once: more than any cache holds."""
WIDTH = {"cpu": 1024, "cuda": 8192}
"""Of the square factors."""


def read_bytes_s(device: torch.device) -> float:
    """The best of several sums over memory that no cache holds, in bytes a second.

    Args:
        device: "cpu" (as many threads as this one has) or "cuda".
    """
    numbers = torch.zeros(BYTES[device.type] // 4, device=device)
    best_s = float("inf")
    for _ in range(NUM_READS):
        wait(device)
        began_s = time.perf_counter()
        numbers.sum()
        wait(device)
        best_s = min(best_s, time.perf_counter() - began_s)
    return numbers.nbytes / best_s


def multiply_flop_s(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """The best of several large matrix products, in floating point operations a second.

    Args:
        device: "cpu" (as many threads as this one has) or "cuda".
        dtype: of the factors.
    """
    size = WIDTH[device.type]
    factor = torch.ones(size, size, device=device, dtype=dtype)
    best_s = float("inf")
    for _ in range(NUM_READS):
        wait(device)
        began_s = time.perf_counter()
        factor @ factor
        wait(device)
        best_s = min(best_s, time.perf_counter() - began_s)
    return 2 * size**3 / best_s


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
