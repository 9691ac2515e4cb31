"""A race in the run log: its rows, and how the races spread that were run like it."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from dflash_app.errors import StoreError
from dflash_app.store.records import RunFilter, RunRecord
from dflash_app.store.runs import Store
from dflash_app.ui.shell import machine_key

from .outcome import RaceOutcome, Spread

SOURCE = "race"
_MOST_RUNS = 600
"""Rows looked at, newest first: so many races are enough, and take milliseconds."""


def with_log(
    outcome: RaceOutcome, store: Store, group_id: str, owner: str | None = None
) -> RaceOutcome:
    """The outcome with what the run log tells of it; as it is where the log has not all of it.

    Args:
        outcome: of the race.
        store: the run log.
        group_id: of the race.
        owner: whose runs may be looked at, see `RunFilter`.
    """
    try:
        mine = _in_order(store.list_runs(RunFilter(group_id=group_id, owner=owner)))
        if len(mine) != len(outcome.lanes):
            return outcome
        races = _races_like(mine, store, owner)
    except StoreError:
        return outcome
    lanes = [
        replace(lane, run_id=run.id, spread=_spread(races, outcome.baseline, index))
        for index, (lane, run) in enumerate(zip(outcome.lanes, mine, strict=True))
    ]
    return replace(outcome, lanes=tuple(lanes))


def _in_order(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Lanes of one race, whose rows were begun in their order."""
    return sorted(runs, key=lambda run: run.id)


def _races_like(
    mine: Sequence[RunRecord], store: Store, owner: str | None
) -> list[list[RunRecord]]:
    """Whole races of the same prompt, lanes and settings on this machine, newest first."""
    filters = RunFilter(source=SOURCE, text=mine[0].start.prompt, owner=owner)
    groups: dict[str | None, list[RunRecord]] = {}
    for run in store.list_runs(filters, limit=_MOST_RUNS):
        groups.setdefault(run.start.group_id, []).append(run)
    wanted = [_settings(run) for run in mine]
    races = [_in_order(runs) for runs in groups.values()]
    return [race for race in races if [_settings(run) for run in race] == wanted and _whole(race)]


def _whole(race: Sequence[RunRecord]) -> bool:
    return all(run.whole and run.metrics.decode_tok_s for run in race)


def _settings(run: RunRecord) -> tuple[Any, ...]:
    """What must agree for two lanes to be the same; the seed is drawn anew for each race."""
    start = run.start
    loaded = (start.pair, start.backend, start.device, start.dtype, start.rollback_kind)
    weights = (start.quantization, start.drafter_quantization)
    revisions = (start.target_revision, start.drafter_revision)
    decoded = (start.mode, start.policy, start.block_size, start.thinking)
    drawn = (start.temperature, start.top_p, start.top_k, start.min_p, start.repetition_penalty)
    asked = (start.messages, start.max_new_tokens, start.stop)
    return (*loaded, *weights, *revisions, *decoded, *drawn, *asked, machine_key(start.hardware))


def _spread(races: Sequence[Sequence[RunRecord]], baseline: int, lane: int) -> Spread | None:
    """None for the baseline, and where there is one race only."""
    if lane == baseline or len(races) < 2:
        return None
    speeds = [
        (race[lane].metrics.decode_tok_s, race[baseline].metrics.decode_tok_s) for race in races
    ]
    ratios = [own / plain for own, plain in speeds if own and plain]
    return Spread(len(ratios), median(ratios), min(ratios), max(ratios))
