"""The dtype that this machine computes fastest in."""

import time
from collections.abc import Callable
from statistics import median

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_SIZE = 512
_NUM_RUNS = 7


def resolve_dtype(name: str, log: Callable[[str], None]) -> torch.dtype:
    """The dtype of a name; "auto" is bfloat16 where the processor multiplies it faster.

    Processors without bfloat16 units emulate it: a training step in it took 1.6 times the time of
    float32 on one without, and 0.6 of it on one with AMX (docs/log.md). So a product is timed.

    Args:
        name: "float32", "bfloat16" or "auto".
        log: is told what was chosen.
    """
    if name != "auto":
        return DTYPES[name]
    seconds = {name: _matmul_s(dtype) for name, dtype in DTYPES.items()}
    chosen = min(seconds, key=seconds.__getitem__)
    log(f"computing in {chosen}: a product takes {seconds[chosen] * 1e3:.2f} ms")
    return DTYPES[chosen]


def _matmul_s(dtype: torch.dtype) -> float:
    matrix = torch.ones(_SIZE, _SIZE, dtype=dtype)
    taken: list[float] = []
    for _ in range(_NUM_RUNS):
        began_s = time.perf_counter()
        torch.mm(matrix, matrix)
        taken.append(time.perf_counter() - began_s)
    return median(taken)
