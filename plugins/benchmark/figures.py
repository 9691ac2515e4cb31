"""The figures of a cell, folded from the answers to its prompts. docs/metrics.md says the same."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from dflash_app.metrics import RunMetrics
from dflash_app.store.benchmark_records import Answer, Asked


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How a figure is spread over prompts, interpolated between neighbours."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a cell measured; None means unknown, never 0. Only complete answers count.

    Attributes:
        num_answered: prompts whose run ended by itself.
        num_failed: prompts whose run failed.
        num_output_tokens: of all answers.
        wall_s: seconds in which at least one request of the cell was under way, the waits for the
            device left out. Of processes side by side, the slowest one's.
        end_to_end_tok_s: all output tokens / `wall_s`, prefill included, as model cards report
            throughput. Processes side by side (GPUs) add up.
        decode_tok_s: tokens after the first / seconds after the first, of one request.
        ttft_s: time to first token.
        tpot_s: time per output token after the first.
        mean_acceptance_length: over all steps, bonus token included; None where nothing drafts.
        acceptance_histogram: number of steps by accepted drafts.
        acceptance_source: who counted the drafts; None is our own engine.
        acceptance_shared: counters of the whole server: other traffic may be in them.
        score: mean of the answers that were checked; None where none was.
        num_scored: how many were.
        num_shares: processes that worked side by side.
    """

    num_answered: int
    num_failed: int
    num_output_tokens: int | None
    wall_s: float | None
    end_to_end_tok_s: float | None
    decode_tok_s: float | None
    ttft_s: Percentiles | None
    tpot_s: Percentiles | None
    mean_acceptance_length: float | None
    acceptance_histogram: tuple[int, ...]
    acceptance_source: str | None
    acceptance_shared: bool
    score: float | None
    num_scored: int
    num_shares: int


@dataclass(frozen=True, slots=True)
class AgainstPlain:
    """A cell held against plain decoding of the same prompts, one by one.

    Attributes:
        num_pairs: prompts that both answered.
        decode_speedup: median over prompts of the ratio of `decode_tok_s`.
        decode_speedup_quartiles: the first and the third quartile of those ratios.
        end_to_end_speedup: ratio of the cells' `end_to_end_tok_s`.
        num_identical: of the pairs, how many answers are the same text.
        score_difference: this cell's score less that of plain decoding, over prompts that were
            checked in both.
    """

    num_pairs: int
    decode_speedup: float | None
    decode_speedup_quartiles: tuple[float, float] | None
    end_to_end_speedup: float | None
    num_identical: int
    score_difference: float | None


def fold(answers: Sequence[Answer]) -> Figures:
    """The figures of a cell's answers, in any order; those that are not complete only count."""
    complete = [each for each in answers if each.complete]
    metrics = [each.record.metrics for each in complete]
    tokens = [each.num_output_tokens for each in metrics]
    scores = [each.score for each in complete if each.score is not None]
    counted = [each for each in metrics if each.mean_acceptance_length is not None]
    by_share = _walls(complete)
    return Figures(
        num_answered=len(complete),
        num_failed=sum(each.record.finish_reason == "failed" for each in answers),
        num_output_tokens=_total(tokens),
        wall_s=max((wall_s for _, wall_s in by_share), default=None),
        end_to_end_tok_s=_throughput(by_share),
        decode_tok_s=_decode_tok_s(metrics),
        ttft_s=percentiles([each.ttft_s for each in metrics if each.ttft_s is not None]),
        tpot_s=percentiles([each.tpot_s for each in metrics if each.tpot_s is not None]),
        mean_acceptance_length=_acceptance_length(counted),
        acceptance_histogram=_added([each.acceptance_histogram for each in counted]),
        acceptance_source=next((each.acceptance_source for each in counted), None),
        acceptance_shared=any(each.acceptance_shared for each in counted),
        score=sum(scores) / len(scores) if scores else None,
        num_scored=len(scores),
        num_shares=len(by_share),
    )


def hold_against(
    answers: Sequence[Answer], figures: Figures, plain: Sequence[Answer], plain_figures: Figures
) -> AgainstPlain:
    """A cell against the one of plain decoding with the same prompts."""
    others = _by_prompt(plain)
    pairs = [(each, others[key]) for key, each in _by_prompt(answers).items() if key in others]
    ratios = [
        mine.record.metrics.decode_tok_s / other.record.metrics.decode_tok_s
        for mine, other in pairs
        if mine.record.metrics.decode_tok_s and other.record.metrics.decode_tok_s
    ]
    end_to_end = figures.end_to_end_tok_s, plain_figures.end_to_end_tok_s
    scores = [
        mine.score - other.score
        for mine, other in pairs
        if mine.score is not None and other.score is not None
    ]
    return AgainstPlain(
        num_pairs=len(pairs),
        decode_speedup=median(ratios) if ratios else None,
        decode_speedup_quartiles=(at(ratios, 0.25), at(ratios, 0.75)) if ratios else None,
        end_to_end_speedup=end_to_end[0] / end_to_end[1] if all(end_to_end) else None,  # type: ignore[operator]
        num_identical=sum(mine.record.output == other.record.output for mine, other in pairs),
        score_difference=sum(scores) / len(scores) if scores else None,
    )


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """The spread of some values; None of none."""
    return Percentiles(*(at(values, part) for part in (0.5, 0.9, 0.99))) if values else None


def at(values: Sequence[float], part: float) -> float:
    """The value that `part` of all lie below, interpolated as numpy does by default."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _by_prompt(answers: Sequence[Answer]) -> Mapping[tuple[str, int, int], Answer]:
    def prompt(asked: Asked) -> tuple[str, int, int]:
        return asked.question_id, asked.repetition, asked.turn

    return {prompt(each.asked): each for each in answers if each.complete}


def _walls(answers: Sequence[Answer]) -> list[tuple[int | None, float]]:
    """Output tokens and seconds under way of each process that worked beside the others."""
    found = []
    for share in sorted({each.share for each in answers}):
        mine = [each for each in answers if each.share == share]
        spans = [_span(each) for each in mine]
        known = [span for span in spans if span is not None]
        if len(known) == len(spans):
            tokens = _total([each.record.metrics.num_output_tokens for each in mine])
            found.append((tokens, _covered(known)))
    return found


def _span(answer: Answer) -> tuple[float, float] | None:
    """From when to when the request was under way, in seconds since 1970."""
    metrics = answer.record.metrics
    if metrics.total_s is None:
        return None
    begin = answer.began_at + (metrics.queue_s or 0.0)
    return begin, begin + metrics.total_s


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that lie in at least one span."""
    covered_s, end = 0.0, -math.inf
    for first, last in sorted(spans):
        covered_s += max(0.0, last - max(first, end))
        end = max(end, last)
    return covered_s


def _throughput(walls: Sequence[tuple[int | None, float]]) -> float | None:
    parts = [tokens / wall_s for tokens, wall_s in walls if tokens is not None and wall_s]
    return sum(parts) if parts and len(parts) == len(walls) else None


def _decode_tok_s(metrics: Sequence[RunMetrics]) -> float | None:
    timed = [each for each in metrics if each.decode_s and each.decode_tok_s]
    seconds = sum(each.decode_s or 0.0 for each in timed)
    tokens = sum((each.decode_s or 0.0) * (each.decode_tok_s or 0.0) for each in timed)
    return tokens / seconds if seconds else None


def _acceptance_length(counted: Sequence[RunMetrics]) -> float | None:
    """The mean over all steps; runs without a count of steps would weigh nothing."""
    steps = sum(each.num_steps or 0 for each in counted)
    tokens = sum((each.num_steps or 0) * (each.mean_acceptance_length or 0) for each in counted)
    return tokens / steps if steps else None


def _added(histograms: Sequence[Sequence[int]]) -> tuple[int, ...]:
    width = max(map(len, histograms), default=0)
    return tuple(
        sum(each[index] for each in histograms if index < len(each)) for index in range(width)
    )


def _total(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
