"""Runs written down: steps with the acceptances, times and notes that a test needs."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import Any

from dflash_app.advisor.case import Case, PlainStep
from dflash_app.advisor.profile import profile
from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone
from dflash_app.metrics import summarize
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.store.records import RunRecord, RunStart

START = RunStart(
    source="chat",
    pair="tiny",
    backend="torch",
    device="cpu",
    dtype="float32",
    mode="dflash",
    policy="fixed",
    path="static cache",
    drafter_path="static cache",
    rollback_kind="crop",
    block_size=8,
    trained_block_size=8,
    messages=({"role": "user", "content": "How many divisors has the number 196?"},),
    started_at=datetime(2026, 11, 21, tzinfo=UTC),
    app_version="0",
    library_versions={},
    hardware={"cpu": "a processor", "cores": 4, "gpus": []},
)
PAIR = Pair(
    name="tiny",
    title="Tiny",
    family="qwen3",
    target=ModelRef(repo="some/target"),
    drafter=ModelRef(repo="some/drafter"),
    block_size=8,
)
ENGLISH = "It has nine divisors, which are one, two, four, seven and so on."
CHINESE = "它有九个正因数，分别是一、二、四、七、十四、二十八、四十九等等。"


def steps(
    accepted: Sequence[int],
    *,
    drafted: int = 7,
    propose_s: float = 0.002,
    verify_s: float = 0.008,
    host_s: float = 0.0,
    prompt: int = 20,
    ttft_s: float = 0.01,
    notes: dict[int, str] | None = None,
) -> list[DecodeEvent]:
    """A run: one step for each acceptance; -1 is a plain one, which drafts nothing."""
    events: list[DecodeEvent] = [PrefillDone(prompt, 0, 1, 0.0, ttft_s)]
    elapsed_s = ttft_s
    for index, count in enumerate(accepted):
        plain = count < 0
        drafts = () if plain else tuple(range(100, 100 + drafted))
        ids = (*drafts[: max(count, 0)], 99)
        spent_s = 0.0 if plain else propose_s
        elapsed_s += spent_s + verify_s + host_s
        note = (notes or {}).get(index)
        events.append(
            StepDone(ids, drafts, max(count, 0), None, spent_s, verify_s, elapsed_s, note)
        )
    return [*events, Finished("stop", elapsed_s)]


def repeated(pattern: Sequence[int], count: int) -> list[int]:
    return list(islice(cycle(pattern), count))


def record(
    events: Sequence[DecodeEvent], *, run_id: int = 1, output: str = ENGLISH, **asked: Any
) -> RunRecord:
    start = replace(START, **asked)
    return RunRecord(run_id, start, "stop", start.started_at, output, (), summarize(events), None)


def case(
    events: Sequence[DecodeEvent],
    *,
    plain_s: float | None = 0.004,
    others: Sequence[RunRecord] = (),
    pair: Pair | None = PAIR,
    output: str = ENGLISH,
    drafter_positions: int | None = None,
    bfloat16_units: bool | None = None,
    **asked: Any,
) -> Case:
    return Case(
        record=record(events, output=output, **asked),
        profile=profile(events),
        pair=pair,
        drafter_positions=drafter_positions,
        bfloat16_units=bfloat16_units,
        plain=None if plain_s is None else PlainStep(plain_s, 7),
        others=others,
    )
