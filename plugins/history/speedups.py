"""Which runs compare, and how many times as fast the drafting one was."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from dflash_app.advisor.case import PAGE_SOURCES
from dflash_app.store.records import RunRecord, RunStart
from dflash_app.ui.shell import machine_key


@dataclass(frozen=True, slots=True)
class Speedup:
    """A DFlash run against plain decoding of the same thing on the same machine.

    Attributes:
        run: the one that drafted.
        baseline_tok_s: decoding speed without drafts, the median where there are several.
        ratio: how many times as fast it was.
        raced: both were lanes of one race; else they had the same prompt and settings.
    """

    run: RunRecord
    baseline_tok_s: float
    ratio: float
    raced: bool


def find_speedups(runs: Iterable[RunRecord]) -> list[Speedup]:
    """A speedup for each DFlash run that has something to compare with, oldest first.

    Comparable are runs of one pair, loaded alike, on one machine, that ended by themselves: lanes
    of one race, or else runs of one conversation with the same sampling and limits. Runs of the
    page are compared with runs of the page only: others may have had other threads.
    """
    lanes: dict[Any, list[float]] = defaultdict(list)
    prompts: dict[Any, list[float]] = defaultdict(list)
    drafted: list[RunRecord] = []
    for run in runs:
        speed = run.metrics.decode_tok_s
        if not speed or not run.whole:
            continue
        if run.start.mode != "ar":
            drafted.append(run)
            continue
        prompts[_prompt_key(run.start)].append(speed)
        if run.start.group_id:
            lanes[_lane_key(run.start)].append(speed)
    found: list[Speedup] = []
    for run in sorted(drafted, key=lambda each: each.id):
        raced = bool(run.start.group_id) and lanes.get(_lane_key(run.start))
        plain = raced or prompts.get(_prompt_key(run.start))
        if plain:
            baseline = median(plain)
            speed = run.metrics.decode_tok_s or 0.0
            found.append(Speedup(run, baseline, speed / baseline, bool(raced)))
    return found


def of_one_machine(
    runs: Sequence[RunRecord], here: dict[str, Any]
) -> tuple[list[RunRecord], list[RunRecord]]:
    """The runs of this machine, or where none is here those of the newest run's, and all others.

    Args:
        runs: newest first.
        here: this machine's fingerprint.
    """
    keys = [machine_key(run.start.hardware) for run in runs]
    wanted = machine_key(here)
    if keys and wanted not in keys:
        wanted = keys[0]
    same = [run for run, key in zip(runs, keys, strict=True) if key == wanted]
    return same, [run for run, key in zip(runs, keys, strict=True) if key != wanted]


def _place(start: RunStart) -> tuple[Any, ...]:
    """Pair, how it was loaded, and the machine."""
    loaded = (start.pair, start.backend, start.device, start.dtype, start.quantization)
    return (*loaded, start.target_revision, machine_key(start.hardware))


def _lane_key(start: RunStart) -> tuple[Any, ...]:
    return (start.group_id, *_place(start))


def _prompt_key(start: RunStart) -> tuple[Any, ...]:
    source = "page" if start.source in PAGE_SOURCES else start.source
    messages = tuple((each.get("role"), each.get("content")) for each in start.messages)
    drawn = (start.temperature, start.top_p, start.top_k, start.min_p, start.repetition_penalty)
    limits = (start.max_new_tokens, start.stop, start.thinking)
    return (source, messages, drawn, limits, *_place(start))
