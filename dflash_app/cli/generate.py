"""`dflash-app generate`: one prompt, decoded in one mode or raced in both."""

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Annotated, Any, Literal

import typer

from dflash_app.cli import terminal
from dflash_app.cli.outcome import Outcome
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.errors import RequestError, StoreError
from dflash_app.events import DecodeEvent
from dflash_app.race import Verdict, speedup, verdict
from dflash_app.request import GenerationRequest, Message, Mode, SamplingParams
from dflash_app.session import closable
from dflash_app.workspace import Workspace, open_workspace

SOURCE = "cli"
WARM_UP_TOKENS = 32
"""Decoded in both modes before a race: first calls pay for allocations and kernels."""

Dtype = Literal["float32", "bfloat16", "float16"]


def generate(  # noqa: PLR0917 - a command's options are its parameters
    prompt: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    pair: Annotated[str, typer.Option(help="A pair that `pairs` lists.")] = "embedded",
    mode: Annotated[Mode, typer.Option(help="Draft blocks, or decode token by token.")] = "dflash",
    compare: Annotated[bool, typer.Option(help="Race both modes and compare outputs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens to put out.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 is greedy; up to 2.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus mass; 1 keeps all.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Candidates kept; 0 keeps all.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Repeats a sampled output.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends it; repeatable.")] = None,
    thinking: Annotated[str | None, typer.Option(help="on, off, or a level.")] = None,
    block_size: Annotated[int | None, typer.Option(help="Anchor included.")] = None,
    backend: Annotated[str | None, typer.Option(help="A backend that `doctor` lists.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0 or mps.")] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Precision of the weights.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Compute threads on a CPU.")] = None,
) -> None:
    """Answer a prompt in one mode, or race both."""
    messages = [Message("system", system)] if system else []
    request = GenerationRequest(
        messages=(*messages, Message("user", _read_prompt(prompt))),
        max_new_tokens=max_new_tokens,
        stop=tuple(stop or ()),
        sampling=SamplingParams(temperature, top_p, top_k, seed),
        mode=mode,
        block_size=block_size,
        thinking=thinking,
    )
    options = LoadOptions(device, dtype, drafter=compare or mode == "dflash", num_threads=threads)
    with closing(open_workspace()) as workspace:
        if workspace.store_problem is not None:
            terminal.note(f"Not recorded: {workspace.store_problem}")
        loaded = workspace.loaded(pair, options, backend)
        if compare:
            answer = _compare(workspace, loaded, request, quiet=as_json)
        else:
            answer = _answer(workspace, loaded, request, quiet=as_json)
        if as_json:
            terminal.print_json(_where(loaded) | answer)


def _answer(
    workspace: Workspace, loaded: LoadedPair, request: GenerationRequest, *, quiet: bool
) -> dict[str, Any]:
    """One run; streams unless quiet."""
    outcome = Outcome(request.mode)
    events = workspace.run(loaded, request, source=SOURCE)
    _drain(_as_lane(events), [outcome], None if quiet else 0)
    if not quiet:
        terminal.stream("\n")
        terminal.note(outcome.summary())
    return {"runs": [outcome.as_json()]}


def _compare(
    workspace: Workspace, loaded: LoadedPair, request: GenerationRequest, *, quiet: bool
) -> dict[str, Any]:
    """A race of both modes, both warmed up; streams the DFlash lane unless quiet."""
    requests = [replace(request, mode="ar"), replace(request, mode="dflash")]
    outcomes = [Outcome("ar"), Outcome("dflash")]
    _warm_up(loaded, requests)
    events = workspace.race(loaded, requests, source=SOURCE)
    _drain(events, outcomes, None if quiet else 1)
    ar, dflash = outcomes
    found = verdict(loaded, requests[0], ar.token_ids, dflash.token_ids)
    ratio = speedup(ar.metrics, dflash.metrics)
    if not quiet:
        _print_race(outcomes, found, ratio)
    return {"runs": [each.as_json() for each in outcomes], "speedup": ratio, "verdict": found}


def _warm_up(loaded: LoadedPair, requests: list[GenerationRequest]) -> None:
    num_tokens = min(WARM_UP_TOKENS, requests[0].max_new_tokens)
    short = [replace(request, max_new_tokens=num_tokens) for request in requests]
    with closing(closable(loaded.race(short))) as events:
        for _ in events:
            pass


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


def _read_prompt(prompt: str) -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8") if prompt == "-" else prompt
        text.encode("utf-8")
    except UnicodeError as error:
        raise RequestError("The prompt is not UTF-8 text: convert it first.") from error
    return text


def _where(loaded: LoadedPair) -> dict[str, Any]:
    return {
        "pair": loaded.name,
        "backend": loaded.backend,
        "device": loaded.device,
        "dtype": loaded.dtype,
    }
