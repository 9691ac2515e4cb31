"""How a step of fixed shapes is run again: as a CUDA graph, or by calling it once more."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Any, Protocol, TypeAlias
from weakref import WeakSet

import torch
from torch import Tensor

from dflash_app.drafters.transformers_calls import first_line
from dflash_app.engine.out_of_memory import is_out_of_memory

Outputs: TypeAlias = tuple[Tensor, ...]
Step: TypeAlias = Callable[[], Outputs]
"""Reads and writes tensors that stay where they are; nothing in it asks the device a question."""

_cuda: Any = torch.cuda  # half of what is used here has no type


class NotRecorded(Exception):
    """A step cannot be recorded; says why in a few words."""


class Recorder(Protocol):
    """Makes a step quicker to run again.

    Attributes:
        name: as a user reads it.
        seconds: spent on recording so far, in vain or not.
        num_steps: recorded so far.
    """

    name: str
    seconds: float
    num_steps: int

    def record(self, step: Step) -> Step:
        """The same step, whose outputs stay where they are: every run writes over the last one's.

        Raises:
            NotRecorded: nothing of it is held, and the step as it was still works.
        """


class Eager:
    """Calls the step each time: the same code as in a graph, on any device."""

    name = "steps of fixed width"

    def __init__(self) -> None:
        self.seconds, self.num_steps = 0.0, 0

    def record(self, step: Step) -> Step:
        """See `Recorder.record`."""
        started_s = time.perf_counter()
        held = tuple(torch.empty_like(each) for each in step())
        self.seconds += time.perf_counter() - started_s
        self.num_steps += 1

        def run() -> Outputs:
            _copy(held, step())
            return held

        return run


class CudaGraphs:
    """Captures a step once; replaying it costs one launch, however many kernels it has.

    All graphs share one memory pool: what a step makes on the way is dead when the next one runs,
    and what it puts out is copied to tensors outside the pool.

    Args:
        device: of CUDA.
    """

    name = "CUDA graphs"

    def __init__(self, device: torch.device) -> None:
        self.seconds, self.num_steps = 0.0, 0
        self._device = device
        self._stream: Any = None  # made with the first graph
        self._live: WeakSet[Any] = WeakSet()

    def record(self, step: Step) -> Step:
        """See `Recorder.record`. Costs one run, one capture and a wait for the device."""
        started_s = time.perf_counter()
        try:
            with _ONE_CAPTURE, _cuda.device(self._device):
                graph, held = self._capture(step)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            raise NotRecorded(_reason(error)) from error
        finally:
            self.seconds += time.perf_counter() - started_s
        self.num_steps += 1

        def replay() -> Outputs:
            graph.replay()
            return held

        return replay

    def _capture(self, step: Step) -> tuple[Any, Outputs]:
        if self._stream is None:
            self._stream = _cuda.Stream()
        current = _cuda.current_stream()
        self._stream.wait_stream(current)
        with _cuda.stream(self._stream):
            # For real, once: loads kernels and makes cuBLAS choose and take its workspace.
            like = step()
        current.wait_stream(self._stream)
        held = tuple(torch.empty_like(each) for each in like)
        del like
        graph = _cuda.CUDAGraph()
        # A pool dies with its last graph, and then its handle must not be used again.
        pool = next((each.pool() for each in self._live), None)
        # Thread-local: another pair's thread may go on using the device meanwhile.
        capture = _cuda.graph(graph, pool, self._stream, capture_error_mode="thread_local")
        # A capture that fails does not go back to the stream before: the outer one does.
        with _cuda.stream(current), capture:
            _copy(held, step())
        self._live.add(graph)
        return graph, held


_ONE_CAPTURE = Lock()
"""PyTorch allows one capture at a time in a process."""


def _copy(held: Outputs, new: Outputs) -> None:
    for to, each in zip(held, new, strict=True):
        to.copy_(each)


def _reason(error: RuntimeError) -> str:
    if is_out_of_memory(error):
        return "no memory for CUDA graphs"
    return f"CUDA graphs failed ({first_line(error)})"
