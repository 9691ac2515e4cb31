"""What `generate` does once its options are read: one run, or a race of both modes."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from dflash_app.cli import terminal
from dflash_app.cli.outcome import Outcome
from dflash_app.engine.protocol import LoadedPair
from dflash_app.errors import StoreError
from dflash_app.events import DecodeEvent
from dflash_app.race import Verdict, speedup, verdict, warm_up
from dflash_app.request import GenerationRequest
from dflash_app.session import closable, drafter_effect, where
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


def compare_modes(
    workspace: Workspace, loaded: LoadedPair, request: GenerationRequest, *, quiet: bool
) -> dict[str, Any]:
    """A race of both modes, both warmed up; streams the DFlash lane unless quiet."""
    requests = [replace(request, mode="ar"), replace(request, mode="dflash")]
    outcomes = [Outcome(each.mode, each.policy) for each in requests]
    warm_up(loaded, requests)
    events = workspace.race(loaded, requests, source=SOURCE)
    _drain(events, outcomes, None if quiet else 1)
    ar, dflash = outcomes
    found = verdict(loaded, requests[0], ar.token_ids, dflash.token_ids)
    ratio = speedup(ar.metrics, dflash.metrics)
    if not quiet:
        _print_race(outcomes, found, ratio)
        terminal.note(f"Ran on {where(loaded, requests[1])}.")
        _note_drafter(workspace, loaded, request, dflash)
    return {"runs": [each.as_json() for each in outcomes], "speedup": ratio, "verdict": found}


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


def _print_race(outcomes: list[Outcome], found: Verdict, ratio: float | None) -> None:
    ar, dflash = outcomes
    terminal.stream("\n")
    if ar.text != dflash.text:
        terminal.stream(f"\nPlain decoding wrote instead:\n{ar.text}\n")
    terminal.note(ar.summary())
    terminal.note(dflash.summary())
    fast = "" if ratio is None else f"DFlash decodes {ratio:.2f} times as fast. "
    terminal.note(f"{fast}{found.explanation}")
