"""What a step's time goes into, by PyTorch's profiler: products, attention, the rest."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.bandwidth import wait

ATTENTION = ("scaled_dot_product", "flash", "fmha", "attention")
PRODUCTS = ("mm", "linear", "gemm", "gemv", "nvjet", "cutlass", "splitk", "matmul")
"""In the names of operators and of CUDA kernels."""


class Shares(NamedTuple):
    """Seconds of one step while it was profiled, which makes small operators longer.

    Attributes:
        products_s: matrix products.
        attention_s: attention, with all that its operator calls.
        other_s: everything else. On CUDA that a kernel runs, and not the waiting between them.
    """

    products_s: float
    attention_s: float
    other_s: float

    @property
    def outside(self) -> float:
        """Share of the time outside matrix products and attention."""
        return self.other_s / sum(self)

    @property
    def busy_s(self) -> float:
        """On CUDA: how long the device computed."""
        return sum(self)


def profile_steps(step: Callable[[], object], count: int, device: torch.device) -> Shares:
    """Profile some steps.

    Args:
        step: takes one.
        count: how many.
        device: on CUDA kernels are counted, on the CPU operators.
    """
    on_cuda = device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU
    step()
    with profile(activities=[activity], acc_events=True) as profiled:
        for _ in range(count):
            step()
        wait(device)
    seconds = {"products": 0.0, "attention": 0.0, "other": 0.0}
    for event in profiled.events():
        if on_cuda:
            if event.device_type.name == "CUDA":
                seconds[_kind(event.name)] += event.time_range.elapsed_us()
        else:
            seconds[_kind_of_operator(event)] += event.self_cpu_time_total
    return Shares(*(1e-6 * each / count for each in seconds.values()))


def _kind(name: str) -> str:
    lowered = name.lower()
    if any(part in lowered for part in ATTENTION):
        return "attention"
    return "products" if any(part in lowered for part in PRODUCTS) else "other"


def _kind_of_operator(event: Any) -> str:
    """An operator's own kind, or attention where an attention operator called it."""
    caller = event
    while caller is not None:
        if _kind(caller.name) == "attention":
            return "attention"
        caller = caller.cpu_parent
    return _kind(event.name)
