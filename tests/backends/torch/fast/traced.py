"""What a CUDA graph does to a step, on a CPU: operators, shapes and numbers of the first run."""

from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from dflash_app.backends.torch.fast.recorder import NotRecorded, Outputs, Step


class Traced:
    """A recorder that repeats the operators of a step and runs none of its Python again.

    So a length, or an address of a tensor that was replaced, that got into a step stays in it.
    Weights must be such that float16 does not hold them: FBGEMM's products cannot be traced.

    Attributes:
        graphs: of torch.fx, one for each step.
    """

    name = "traced steps"

    def __init__(self, max_steps: int = 1000) -> None:
        self.seconds, self.num_steps = 0.0, 0
        self.graphs: list[Any] = []
        self._max_steps = max_steps

    def record(self, step: Step) -> Step:
        if self.num_steps == self._max_steps:
            raise NotRecorded("no memory for steps")
        held = tuple(torch.empty_like(each) for each in step())

        def copied() -> Outputs:
            for to, each in zip(held, step(), strict=True):
                to.copy_(each)
            return ()

        traced = make_fx(copied)()
        self.graphs.append(traced.graph)
        self.num_steps += 1

        def run() -> Outputs:
            traced()
            return held

        return run
