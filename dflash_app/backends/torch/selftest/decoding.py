"""One lane through the app's own decode loop, and what it put out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dflash_app.backends.torch.lane import TorchLane
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.speculative import PREFILL_CHUNK, decode
from dflash_app.events import PrefillDone, StepDone


@dataclass(slots=True)
class Decoded:
    """The output of a lane.

    Attributes:
        token_ids: all of it.
        steps: one for each forward after the prefill.
        reason: why it ended.
    """

    token_ids: list[int] = field(default_factory=list)
    steps: list[StepDone] = field(default_factory=list)
    reason: str = ""


def run_lane(
    lane: TorchLane,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    num_draft: int,
    eos_ids: frozenset[int] = frozenset(),
    prefill_chunk: int = PREFILL_CHUNK,
) -> Decoded:
    """Decode a prompt to its end.

    Args:
        lane: fresh.
        prompt: token ids.
        max_new_tokens: at most so many.
        num_draft: drafts of a step; 0 decodes plainly.
        eos_ids: tokens that end the run.
        prefill_chunk: most prompt tokens in one forward.
    """
    decoded = Decoded()
    for event in decode(
        lane,
        prompt,
        policy=FixedDrafts(num_draft),
        max_new_tokens=max_new_tokens,
        eos_ids=eos_ids,
        context_length=len(prompt) + max_new_tokens,
        clock=lambda: 0.0,
        cancelled=lambda: False,
        prefill_chunk=prefill_chunk,
    ):
        if isinstance(event, PrefillDone):
            decoded.token_ids.append(event.token_id)
        elif isinstance(event, StepDone):
            decoded.token_ids += event.token_ids
            decoded.steps.append(event)
        else:
            decoded.reason = event.reason
    return decoded
