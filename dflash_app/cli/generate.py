"""`dflash-app generate`: one prompt, decoded in one mode or raced in both."""

import sys
from contextlib import closing
from typing import Annotated, Any, Literal

import typer

from dflash_app.cli import terminal
from dflash_app.engine.protocol import LoadedPair, LoadOptions, Quantization
from dflash_app.errors import RequestError
from dflash_app.request import GenerationRequest, Message, Mode, Policy, SamplingParams

Dtype = Literal["float32", "bfloat16", "float16"]


def generate(  # noqa: PLR0917 - a command's options are its parameters
    prompt: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    pair: Annotated[str, typer.Option(help="A pair that `pairs` lists.")] = "embedded",
    mode: Annotated[Mode, typer.Option(help="Draft blocks, or decode token by token.")] = "dflash",
    compare: Annotated[bool, typer.Option(help="Race both modes and compare outputs.")] = False,
    lane: Annotated[
        list[str] | None,
        typer.Option(
            help="A lane of the race, 2 or 3 of them: ar, or dflash,block=8,drafts=adaptive,"
            "pair=NAME,precision=bfloat16."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens to put out.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 is greedy; up to 2.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus mass; 1 keeps all.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Candidates kept; 0 keeps all.")] = 0,
    min_p: Annotated[float, typer.Option(help="Least part of the top one; 0 keeps all.")] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1 makes earlier tokens less likely; 1 is off.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Repeats a sampled output.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends it; repeatable.")] = None,
    thinking: Annotated[str | None, typer.Option(help="on, off, or a level.")] = None,
    block_size: Annotated[int | None, typer.Option(help="Anchor included.")] = None,
    drafts: Annotated[
        Policy, typer.Option(help="Draft the whole block, or what pays here; same text.")
    ] = "fixed",
    backend: Annotated[str | None, typer.Option(help="A backend that `doctor` lists.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda:0, mps, or auto: over all GPUs, CPU and disk.")
    ] = None,
    max_memory_gb: Annotated[
        float | None,
        typer.Option(min=0, max=1e6, help="With --device auto: weights on each GPU, or in memory."),
    ] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="What is computed in.")] = None,
    quantization: Annotated[
        Quantization | None,
        typer.Option(help="Store the target in fewer bits: nf4, int8 on torch; 4bit, 8bit on mlx."),
    ] = None,
    drafter_quantization: Annotated[
        Quantization | None, typer.Option(help="The same for the drafter's.")
    ] = None,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Go back by snapshots: any family, but slower.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Compute threads on a CPU.")] = None,
    task: Annotated[
        str | None, typer.Option(help="What the prompt is one of (GSM8K), for the run log.")
    ] = None,
) -> None:
    """Answer a prompt in one mode, or race both."""
    compare = compare or bool(lane)
    if compare and mode == "ar":
        raise RequestError("--compare runs both modes: leave out --mode ar.")
    messages = [Message("system", system)] if system else []
    request = GenerationRequest(
        messages=(*messages, Message("user", _read_prompt(prompt))),
        max_new_tokens=max_new_tokens,
        stop=tuple(stop or ()),
        sampling=SamplingParams(temperature, top_p, top_k, min_p, repetition_penalty, seed),
        mode=mode,
        block_size=block_size,
        thinking=thinking,
        policy=drafts,
        task=task,
    )
    options = LoadOptions(
        device,
        dtype,
        drafter=compare or mode == "dflash",
        num_threads=threads,
        quantization=quantization,
        drafter_quantization=drafter_quantization,
        max_memory_bytes=None if max_memory_gb is None else int(max_memory_gb * 1e9),
        snapshot=snapshot,
    )
    # Here, not above: together they cost a second, which --help need not pay.
    from dflash_app.cli.decoding import answer_once, compare_lanes, note_all
    from dflash_app.cli.lanes import read_lanes
    from dflash_app.race import RaceLane
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        if workspace.store_problem is not None:
            terminal.note(f"Not recorded: {workspace.store_problem}")
        if compare:
            specs = read_lanes(lane or (), pair, options, request)
            with workspace.lanes(specs, backend) as lanes:
                notes = note_all(lanes, quiet=as_json)
                answer = compare_lanes(workspace, lanes, quiet=as_json)
                loaded = lanes[0].loaded
        else:
            loaded = workspace.loaded(pair, options, backend)
            notes = note_all([RaceLane(loaded, request)], quiet=as_json)
            answer = answer_once(workspace, loaded, request, quiet=as_json)
        if as_json:
            terminal.print_json(_where(loaded) | {"warnings": notes} | answer)


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
        "quantization": loaded.quantization,
        "drafter_quantization": loaded.drafter_quantization,
        "rollback_kind": loaded.rollback_kind,
        "path": loaded.path,
        "drafter_path": loaded.drafter_path,
        "startup_s": loaded.startup_s,
        "trained_block_size": loaded.block_size,
    }
