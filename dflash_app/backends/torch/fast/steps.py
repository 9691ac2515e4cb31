"""Steps of fixed shapes on a cache: what changes with its length is told to the device.

A graph repeats its kernels with the same addresses and shapes. So the rows that go in, the position
of the first and the keys and values stay where they are; attention reads a bucket, the first part
of the buffers, with a mask that the device makes; and where a graph is outgrown, another is made.
"""

import os
from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from dflash_app.backends.torch.fast.kv import Buffers, SpareBuffers, StaticKV
from dflash_app.backends.torch.fast.recorder import CudaGraphs, NotRecorded, Outputs, Recorder
from dflash_app.engine.out_of_memory import is_out_of_memory

FIRST_BUCKET = 512
"""Tokens of the smallest bucket."""
_YES = ("1", "t", "true")
"""As `spaces` 0.51 reads its variable."""


class Place(NamedTuple):
    """Where a step reads and writes.

    Attributes:
        buffers: of the cache.
        bucket: tokens of it that attention sees; the step's own are among them.
        positions: [W] int64, of its rows; what they are, only the device knows.
    """

    buffers: Buffers
    bucket: int
    positions: Tensor


Body: TypeAlias = Callable[[Tensor, Place], Outputs]
"""Rows [W, ...] and where they are -> what the step puts out, one row for each of them."""


class Fixed(NamedTuple):
    """A step before it is recorded.

    Attributes:
        name: of the body; bodies of one name do the same.
        width: rows.
        body: touches only what stays where it is.
        sees: False where the body looks at no keys: then all buckets share what is recorded.
    """

    name: Hashable
    width: int
    body: Body
    sees: bool = True


class FixedSteps:
    """The steps of one model, each recorded when it is first needed.

    Args:
        recorder: None runs no such steps.
        why_not: why there is no recorder where the device has one.

    Attributes:
        spare: keeps buffers, and what was recorded on them, from one cache to the next.
        why_not: why none, or no more, are recorded, in a few words; None where nobody would.
    """

    def __init__(self, recorder: Recorder | None, why_not: str | None = None) -> None:
        self._recorder = recorder
        self.spare = SpareBuffers() if recorder is not None else None
        self.why_not = why_not

    @property
    def records(self) -> bool:
        """Whether there is a recorder, which may have given up since."""
        return self._recorder is not None

    @property
    def path(self) -> str:
        """What a user reads: "CUDA graphs", or "static cache" and why it is no more than that."""
        if self.why_not is not None:
            return f"static cache: {self.why_not}"
        return "static cache" if self._recorder is None else self._recorder.name

    @property
    def seconds(self) -> float:
        """Spent on recording; it is part of the time of the steps that needed it."""
        return 0.0 if self._recorder is None else self._recorder.seconds

    def run(self, cache: StaticKV, fixed: Fixed, rows: Tensor) -> Outputs | None:
        """Run a step behind what a cache holds, which is not lengthened.

        Args:
            cache: grows, before the step, to the bucket that holds it.
            fixed: the step.
            rows: [T, ...], T up to its width; more rows, of no meaning, follow them.

        Returns:
            What the body puts out; the next run of the step writes over it. None, and nothing is
            done, where steps are not recorded, as after there was no memory for it.
        """
        if self._recorder is None:
            return None
        if self.why_not is None:
            try:
                return _run(self._recorder, cache, fixed, rows)
            except NotRecorded as error:
                self.why_not = str(error)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.why_not = "no memory for CUDA graphs"
            # Only now, as the errors held what the step had made.
            self._free(cache)
        cache.buffers.steps.clear()
        return None

    def _free(self, cache: StaticKV) -> None:
        cache.buffers.steps.clear()
        if self.spare is not None:
            self.spare.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _run(recorder: Recorder, cache: StaticKV, fixed: Fixed, rows: Tensor) -> Outputs:
    bucket = bucket_of(cache.length + fixed.width)
    cache.reserve(bucket)
    steps = cache.buffers.steps
    key = fixed.name, fixed.width, bucket if fixed.sees else None
    run = steps.get(key)
    if run is None:
        steps[key] = run = _recorded(recorder, fixed, cache, bucket, rows)
    outputs: Outputs = run(rows, cache.length)
    return outputs


def _recorded(
    recorder: Recorder, fixed: Fixed, cache: StaticKV, bucket: int, rows: Tensor
) -> Callable[[Tensor, int], Outputs]:
    """(rows, position of the first) -> outputs, from rows and a position of its own."""
    held = rows.new_zeros((fixed.width, *rows.shape[1:]))
    first = torch.zeros((), dtype=torch.int64, device=rows.device)
    slots = torch.arange(fixed.width, device=rows.device)
    # The buffers, not the cache: they outlive it.
    body, buffers = fixed.body, cache.buffers
    seen = bucket if fixed.sees else buffers.capacity

    def fill(rows: Tensor, start: int) -> None:
        held.narrow(0, 0, rows.shape[0]).copy_(rows)
        first.fill_(start)

    fill(rows, cache.length)
    step = recorder.record(lambda: body(held, Place(buffers, seen, first + slots)))

    def run(rows: Tensor, start: int) -> Outputs:
        fill(rows, start)
        return step()

    return run


def choose_steps(device: torch.device, recorder: Recorder | None = None) -> FixedSteps:
    """Steps recorded as a device does it; it records none where they run as fast unrecorded.

    ZeroGPU forks a process for every call, and graphs are captured in the process that runs them.

    Args:
        device: of the model.
        recorder: takes this one instead.
    """
    if recorder is None and device.type == "cuda":
        if os.environ.get("SPACES_ZERO_GPU", "").lower() in _YES:
            return FixedSteps(None, "ZeroGPU")
        recorder = CudaGraphs(device)
    return FixedSteps(recorder)


def width_of(num_rows: int) -> int:
    """The power of two that a step is widened to: few widths are recorded, and cost the same."""
    return 1 << (num_rows - 1).bit_length()


def bucket_of(length: int) -> int:
    """The bucket that holds `length` tokens: a power of two, or one and a half times one.

    It fits into `capacity_of(length)`: a step in a bucket makes no more room than any other.
    """
    size = FIRST_BUCKET
    while size < length:
        size *= 2
    between = size * 3 // 4
    return between if length <= between and size > 2 * FIRST_BUCKET else size
