"""How long a device worked on something that the host only queued."""

from typing import Any

import torch

_cuda: Any = torch.cuda  # half of what is used here has no type


class EventTimer:
    """Two events in a CUDA stream, read after a wait that is due anyway: they cost none.

    Args:
        device: of CUDA.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began, self._ended = (_cuda.Event(enable_timing=True) for _ in range(2))

    def start(self) -> None:
        """Queue the beginning."""
        self._began.record(_cuda.current_stream(self._device))

    def stop(self) -> None:
        """Queue the end."""
        self._ended.record(_cuda.current_stream(self._device))

    def elapsed_s(self) -> float:
        """Seconds between the last two; the host must have waited for what came after them."""
        milliseconds: float = self._began.elapsed_time(self._ended)
        return milliseconds / 1000.0


def choose_timer(device: torch.device) -> EventTimer | None:
    """A timer where work is queued and the host's clock does not see it; None on a CPU.

    MPS queues too and has such events, but nobody tried them on a device: there the host's clock
    tells, and most of drafting counts as verification.
    """
    return EventTimer(device) if device.type == "cuda" else None
