"""What `generate` does once its options are read: one run, or a race."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from dflash_app.cli import terminal
from dflash_app.cli.outcome import Outcome
from dflash_app.engine.protocol import LoadedPair
from dflash_app.errors import StoreError
from dflash_app.events import DecodeEvent
from dflash_app.race import (
    RaceLane,
    choose_baseline,
    end_to_end_speedup,
    say_ratio,
    seconds_saved,
    speedup,
    warm_up,
)
from dflash_app.request import GenerationRequest
from dflash_app.session import closable, drafter_effect, experiments, where
from dflash_app.verdict import say_precision, verdict
from dflash_app.workspace import Workspace

SOURCE = "cli"


def answer_once(
    workspace: Workspace, loaded: LoadedPair, request: GenerationRequest, *, quiet: bool
) -> dict[str, Any]:
    """One run; streams unless quiet."""
    outcome = Outcome(request.mode, request.policy)
    events = workspace.run(loaded, request, source=SOURCE)
    _drain(_as_lane(events), [outcome], None if quiet else 0)
    if not quiet:
        terminal.stream("\n")
        terminal.note(outcome.summary())
        terminal.note(f"Ran on {where(loaded, request)}.")
        _note_drafter(workspace, loaded, request, outcome)
    return {"runs": [outcome.as_json()]}


def compare_lanes(
    workspace: Workspace, lanes: Sequence[RaceLane], *, quiet: bool
) -> dict[str, Any]:
    """A race, all lanes warmed up; streams the first lane that is not the baseline unless quiet.

    The lanes are held against plain decoding, or the first of them where none decodes plainly.
    """
    outcomes = [Outcome(lane.request.mode, lane.request.policy) for lane in lanes]
    warm_up(lanes)
    baseline = choose_baseline(lanes)
    others = [index for index in range(len(lanes)) if index != baseline]
    events = workspace.race_lanes(lanes, source=SOURCE)
    _drain(events, outcomes, None if quiet else others[0])
    against = lanes[baseline], outcomes[baseline]
    found = {index: _judge(*against, lanes[index], outcomes[index]) for index in others}
    if not quiet:
        _print_race(lanes, outcomes, baseline, found)
        for lane, outcome in zip(lanes, outcomes, strict=True):
            _note_drafter(workspace, lane.loaded, lane.request, outcome)
    return {
        "runs": [
            outcome.as_json() | _lane_as_json(lane) | found.get(index, {})
            for index, (lane, outcome) in enumerate(zip(lanes, outcomes, strict=True))
        ],
        "baseline": baseline,
        **{key: found[others[0]][key] for key in ("speedup", "verdict")},
    }


def note_all(lanes: Sequence[RaceLane], *, quiet: bool) -> tuple[str, ...]:
    """What the user should know of the lanes' pairs and requests; printed unless quiet."""
    said = [(*lane.loaded.warnings, *experiments(lane.loaded, lane.request)) for lane in lanes]
    notes = tuple(dict.fromkeys(note for each in said for note in each))
    if not quiet:
        for note in notes:
            terminal.note(f"Note: {note}")
    return notes


def _judge(baseline: RaceLane, plain: Outcome, lane: RaceLane, outcome: Outcome) -> dict[str, Any]:
    """A lane against the baseline."""
    ids = plain.token_ids, outcome.token_ids
    judged = verdict(
        baseline.loaded,
        baseline.request,
        *ids,
        texts=(plain.text, outcome.text),
        other=lane.loaded,
    )
    return {
        "speedup": speedup(plain.metrics, outcome.metrics),
        "end_to_end_speedup": end_to_end_speedup(plain.metrics, outcome.metrics),
        "seconds_saved": seconds_saved(plain.metrics, outcome.metrics),
        "verdict": judged,
    }


def _lane_as_json(lane: RaceLane) -> dict[str, Any]:
    drafting = lane.request.mode != "ar"
    return {
        "pair": lane.loaded.name,
        "precision": say_precision(lane.loaded),
        "block_size": (lane.request.block_size or lane.loaded.block_size) if drafting else None,
    }


def _note_drafter(
    workspace: Workspace, loaded: LoadedPair, request: GenerationRequest, outcome: Outcome
) -> None:
    """Tell what a drafter in fewer bits does to acceptance."""
    prompt, accepted = request.messages[-1].content, outcome.metrics.mean_acceptance_length
    effect = drafter_effect(workspace.store, loaded, prompt, accepted)
    if effect is not None:
        terminal.note(effect)


def _as_lane(events: Iterator[DecodeEvent]) -> Iterator[tuple[int, DecodeEvent]]:
    with closing(closable(events)) as stream:
        for event in stream:
            yield 0, event


def _drain(
    events: Iterator[tuple[int, DecodeEvent]],
    outcomes: list[Outcome],
    shown: int | None,
) -> None:
    """Take all events; write the text of lane `shown` as it comes."""
    with closing(closable(events)) as stream:
        try:
            for lane, event in stream:
                text = outcomes[lane].add(event)
                if text and lane == shown:
                    terminal.stream(text)
        except StoreError as error:  # comes after the last event: the answer itself is whole
            terminal.note(f"Not recorded: {error}")


def _print_race(
    lanes: Sequence[RaceLane],
    outcomes: Sequence[Outcome],
    baseline: int,
    found: Mapping[int, Mapping[str, Any]],
) -> None:
    shown, plain = next(iter(found)), outcomes[baseline]
    terminal.stream("\n")
    if plain.text != outcomes[shown].text:
        terminal.stream(f"\n{_name(lanes, baseline)} wrote instead:\n{plain.text}\n")
    for outcome in outcomes:
        terminal.note(outcome.summary())
    for index, judged in found.items():
        fast = _say_fast(judged, plain, outcomes[index])
        name = f"{_name(lanes, index)} " if fast else ""
        terminal.note(f"{name}{fast}{judged['verdict'].explanation}")
    for place in dict.fromkeys(where(lane.loaded, lane.request) for lane in lanes[::-1]):
        terminal.note(f"Ran on {place}.")


def _say_fast(judged: Mapping[str, Any], plain: Outcome, outcome: Outcome) -> str:
    """How much faster than the baseline, with and without the prompt; "" where unknown."""
    ratio, whole = judged["speedup"], judged["end_to_end_speedup"]
    if not ratio:
        return ""
    runs = plain.metrics, outcome.metrics
    with_prompt = f" ({say_ratio(whole, *runs)} with the prompt)" if whole else ""
    return f"decodes {say_ratio(ratio, *runs)} times as fast{with_prompt}, in one run. "


def _name(lanes: Sequence[RaceLane], index: int) -> str:
    """The lane in words: its number where others decode in the same mode."""
    modes = [lane.request.mode for lane in lanes]
    name = "Plain decoding" if modes[index] == "ar" else "DFlash"
    return name if modes.count(modes[index]) == 1 else f"{name} (lane {index + 1})"
