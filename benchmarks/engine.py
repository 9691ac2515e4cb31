"""AR and DFlash through the same engine, paired in one process on the same prompts."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.prompts import Prompt
from dflash_app.engine.protocol import LoadedPair
from dflash_app.events import PrefillDone, StepDone
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.request import GenerationRequest, Message, Mode, Policy

MODES: tuple[Mode, Mode] = ("ar", "dflash")
NUM_WARM_UP = 3
"""Prompts run in both modes before anything is timed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt, once in each mode, one right after the other.

    Attributes:
        kind: of the prompt.
        ar: figures of plain decoding.
        dflash: figures of DFlash.
        identical: both put out the same tokens.
    """

    kind: str
    ar: RunMetrics
    dflash: RunMetrics
    identical: bool

    @property
    def speedup(self) -> float | None:
        """DFlash's decoding tok/s over AR's; None where a reply is a single token."""
        fast, plain = self.dflash.decode_tok_s, self.ar.decode_tok_s
        return fast / plain if fast and plain else None


def compare(
    loaded: LoadedPair, prompts: Sequence[Prompt], *, repeats: int, max_new_tokens: int
) -> list[Comparison]:
    """Decode every prompt `repeats` times in both modes, whose order alternates.

    Args:
        loaded: the pair.
        prompts: each asked alone, greedily.
        repeats: rounds over all prompts.
        max_new_tokens: limit of a reply.

    Returns:
        One comparison for each prompt and round, in the order they were run.
    """
    for prompt in prompts[:NUM_WARM_UP]:
        for mode in MODES:
            decode(loaded, prompt, mode, max_new_tokens)
    comparisons = []
    for number in range(repeats):
        for position, prompt in enumerate(prompts):
            order = MODES if (number + position) % 2 == 0 else MODES[::-1]
            runs = {mode: decode(loaded, prompt, mode, max_new_tokens) for mode in order}
            (ar, ar_ids), (dflash, dflash_ids) = runs["ar"], runs["dflash"]
            comparisons.append(Comparison(prompt.kind, ar, dflash, ar_ids == dflash_ids))
    return comparisons


def summarize_comparisons(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Fold comparisons into figures: overall, and for each kind of prompt."""
    kinds: dict[str, list[Comparison]] = defaultdict(list)
    for each in comparisons:
        kinds[each.kind].append(each)
    return {
        **_figures(comparisons),
        "num_runs": 2 * len(comparisons),
        "num_different_outputs": sum(not each.identical for each in comparisons),
        "kinds": {kind: _figures(group) for kind, group in sorted(kinds.items())},
    }


def decode(
    loaded: LoadedPair,
    prompt: Prompt,
    mode: Mode,
    max_new_tokens: int,
    policy: Policy = "fixed",
) -> tuple[RunMetrics, list[int]]:
    """One reply's figures and tokens."""
    messages = (Message("user", prompt.text),)
    request = GenerationRequest(messages, max_new_tokens, mode=mode, policy=policy)
    events = list(loaded.stream(request))
    token_ids = [event.token_id for event in events if isinstance(event, PrefillDone)]
    for event in events:
        if isinstance(event, StepDone):
            token_ids += event.token_ids
    return summarize(events), token_ids


def _figures(comparisons: Sequence[Comparison]) -> dict[str, float | None]:
    steps = sum(each.dflash.num_steps or 0 for each in comparisons)
    accepted = sum(
        count * number
        for each in comparisons
        for count, number in enumerate(each.dflash.acceptance_histogram)
    )
    return {
        "median_speedup": middle(each.speedup for each in comparisons),
        "median_ar_tok_s": middle(each.ar.decode_tok_s for each in comparisons),
        "median_dflash_tok_s": middle(each.dflash.decode_tok_s for each in comparisons),
        "mean_acceptance_length": 1 + accepted / steps if steps else None,
        "median_output_tokens": middle(each.ar.num_output_tokens for each in comparisons),
    }


def middle(values: Iterable[float | None]) -> float | None:
    """The median of the known values; None where there is none."""
    known = [value for value in values if value is not None]
    return median(known) if known else None
