"""`dflash-app benchmark`: measure, go on, list, show and compare."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from dflash_app.cli.generate import Dtype
from dflash_app.engine.protocol import LoadOptions, Quantization
from dflash_app.errors import RequestError

EXIT_REGRESSED = 3
EXIT_NOT_JUDGED = 4
"""No figure can be compared: not a success, or a machine that was exchanged would pass for one."""

What = Annotated[
    list[str] | None,
    typer.Argument(help="With --resume or --show a benchmark's number; with --compare two files."),
]
Datasets = Annotated[
    list[str] | None,
    typer.Option(help="bundled, gsm8k, math500, humaneval, mbpp, mt-bench; repeatable."),
]


def benchmark(  # noqa: PLR0917 - a command's options are its parameters
    what: What = None,
    pair: Annotated[str, typer.Option(help="A pair that `pairs` lists.")] = "embedded",
    dataset: Datasets = None,
    jsonl: Annotated[
        list[Path] | None, typer.Option(help="A file of your own questions; repeatable.")
    ] = None,
    prompts: Annotated[int | None, typer.Option(help="Questions of each set; all.")] = None,
    mode: Annotated[str, typer.Option(help="ar, dflash, or both with a comma.")] = "ar,dflash",
    block_size: Annotated[
        str | None, typer.Option(help="Anchor included; several with commas.")
    ] = None,
    drafts: Annotated[
        str, typer.Option(help="fixed, adaptive, or both with a comma; same text.")
    ] = "fixed",
    temperature: Annotated[float, typer.Option(help="0 is greedy; up to 2.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus mass; 1 keeps all.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Candidates kept; 0 keeps all.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the first repetition; the next count up.")] = 0,
    thinking: Annotated[str | None, typer.Option(help="on, off, or a level.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens of a reply.")] = 2048,
    repetitions: Annotated[int, typer.Option(help="How often everything is asked.")] = 1,
    warm_up: Annotated[int, typer.Option(help="Unrecorded rounds before; 0 is none.")] = 1,
    concurrency: Annotated[
        str, typer.Option(help="Requests at a time, of a server; several with commas.")
    ] = "1",
    baseline: Annotated[
        str | None, typer.Option(help="Another server's pair beside it, as one with MTP.")
    ] = None,
    baseline_label: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    backend: Annotated[str | None, typer.Option(help="A backend that `doctor` lists.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0, mps, auto.")] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="What is computed in.")] = None,
    quantization: Annotated[
        Quantization | None, typer.Option(help="Store the target in fewer bits.")
    ] = None,
    drafter_quantization: Annotated[
        Quantization | None, typer.Option(help="The same for the drafter's.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Compute threads on a CPU.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for results as JSON, CSV and Markdown.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with one that was cut; the latest.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the report of an old one.")] = False,
    ls: Annotated[bool, typer.Option("--ls", help="List benchmarks.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare two results: the older one first.")
    ] = False,
) -> None:
    """Measure a pair on sets of questions, in plain decoding and with DFlash, and report it.

    Ctrl+C leaves a benchmark that --resume goes on with. --compare ends with status 3 where
    something became worse, with 4 where nothing can be compared. On several GPUs: `torchrun
    --nproc-per-node N -m dflash_app benchmark`.
    """
    from . import at_terminal

    what = what or []
    _check_arguments(what, resume=resume, show=show, ls=ls, compare=compare)
    if compare:
        found = at_terminal.compare(Path(what[0]), Path(what[1]), out, as_json=as_json)
        if found.regressed or not found.judged:
            raise typer.Exit(EXIT_REGRESSED if found.regressed else EXIT_NOT_JUDGED)
        return
    number = int(what[0]) if what else None
    from dflash_app.workspace import open_workspace  # costs a second, which --help need not pay

    with closing(open_workspace()) as workspace:
        if ls:
            at_terminal.list_benchmarks(workspace, as_json=as_json)
        elif show:
            at_terminal.show(workspace, number, out, as_json=as_json)
        elif resume:
            at_terminal.resume(workspace, number, out, as_json=as_json)
        else:
            from .plan import Plan

            files = jsonl or []
            names = [*(dataset or ([] if files else ["bundled"])), *(path.name for path in files)]
            options = LoadOptions(
                device,
                dtype,
                num_threads=threads,
                quantization=quantization,
                drafter_quantization=drafter_quantization,
            )
            plan = Plan(
                pair=pair,
                datasets=tuple(names),
                backend=backend,
                options=options,
                num_prompts=prompts,
                modes=tuple(_words(mode)),  # type: ignore[arg-type]
                block_sizes=tuple(_numbers("--block-size", block_size)) or (None,),
                policies=tuple(_words(drafts)),  # type: ignore[arg-type]
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                seed=seed,
                thinking=thinking,
                max_new_tokens=max_new_tokens,
                repetitions=repetitions,
                warm_up=warm_up,
                concurrency=tuple(_numbers("--concurrency", concurrency)),
                baseline=baseline,
                baseline_label=baseline_label,
            )
            at_terminal.start(workspace, plan, files, out, as_json=as_json)


def _check_arguments(
    what: Sequence[str], *, resume: bool, show: bool, ls: bool, compare: bool
) -> None:
    if [resume, show, ls, compare].count(True) > 1:
        raise RequestError("Give one of --resume, --show, --ls and --compare.")
    if compare and len(what) != 2:
        raise RequestError("Give two files to compare: --compare BEFORE.json AFTER.json.")
    if (resume or show) and (len(what) > 1 or not all(each.isdecimal() for each in what)):
        raise RequestError("Give the number of one benchmark, as --ls shows it, or none.")
    if what and not (resume or show or compare):
        raise RequestError(
            f"{what[0][:80]!r} is not understood here: name data sets with --dataset, your own "
            "files with --jsonl."
        )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _numbers(option: str, text: str | None) -> list[int]:
    try:
        return [int(word) for word in text.split(",")] if text else []
    except ValueError as error:
        raise RequestError(
            f"{option} {text!r} is no number: give whole numbers, with commas between several."
        ) from error
