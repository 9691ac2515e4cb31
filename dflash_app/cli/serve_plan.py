"""`dflash-app serve-plan`: the command that serves a pair by vLLM or SGLang, with its reasons."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from dflash_app.cli import terminal

if TYPE_CHECKING:
    from dflash_app.serving.plan import ServePlan

DEFAULT_HOST = "127.0.0.1"


def serve_plan(  # noqa: PLR0917 - a command's options are its parameters
    name: Annotated[str, typer.Argument(metavar="PAIR", help="The pair's name.")],
    engine: Annotated[str, typer.Option(metavar="vllm|sglang", help="What serves it.")] = "vllm",
    gpus: Annotated[int, typer.Option(help="GPUs of each node.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="Their kind: H100-80, H200-141, ... or cpu. Unless given H100-80; for the shipped "
            "pair, where no GPU is seen, cpu."
        ),
    ] = None,
    gpu_memory_gb: Annotated[
        float | None, typer.Option(help="Of one GPU, where the kind is not known.")
    ] = None,
    form: Annotated[
        str, typer.Option(metavar="command|docker|compose", help="How to print it.")
    ] = "command",
    ar: Annotated[
        bool, typer.Option("--ar", help="Print its twin without a drafter too, on the next port.")
    ] = False,
    context: Annotated[
        int | None, typer.Option(help="Tokens of prompt and answer; what fits unless given.")
    ] = None,
    block_size: Annotated[
        int | None, typer.Option(help="Anchor included, where the registry does not tell it.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where the server listens.")] = DEFAULT_HOST,
    port: Annotated[int | None, typer.Option(help="The engine's usual one unless given.")] = None,
    head: Annotated[str | None, typer.Option(help="Address of the first of several nodes.")] = None,
    weights_gb: Annotated[float | None, typer.Option(help="Of the target.")] = None,
    drafter_weights_gb: Annotated[float | None, typer.Option(help="Of the drafter.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody: what is here, and published shapes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Print the command that serves a pair by vLLM or SGLang, and the reason for each argument."""
    from dflash_app.serving.gpus import DEFAULT_GPU, find_gpu, gpus_here, usual_gpu
    from dflash_app.serving.layout import Machines
    from dflash_app.serving.plan import ENGINES, HEAD
    from dflash_app.serving.planner import Wishes, plan_pair, twin_of
    from dflash_app.serving.render import FORMS, render
    from dflash_app.workspace import open_workspace

    wanted = next((each for each in ENGINES if each == engine), None)
    if wanted is None:
        raise typer.BadParameter("choose vllm or sglang", param_hint="--engine")
    shown = next((each for each in FORMS if each == form), None)
    if shown is None:
        raise typer.BadParameter("choose command, docker or compose", param_hint="--form")
    wishes = Wishes(
        block_size=block_size, context_length=context, host=host, port=port, head=head or HEAD
    )
    with closing(open_workspace()) as workspace:
        pair = workspace.registry.get(name)
    if gpu is None and gpu_memory_gb is None:
        usual, why = usual_gpu(pair, gpus_here())
        machines = Machines(usual, gpus, nodes, why)
    else:
        machines = Machines(find_gpu(gpu or DEFAULT_GPU, gpu_memory_gb), gpus, nodes)
    plans = [
        plan_pair(
            pair,
            wanted,
            machines,
            each,
            online=not offline,
            weights_gb=weights_gb,
            drafter_weights_gb=drafter_weights_gb,
        )
        for each in (wishes, *([twin_of(wishes)] if ar else []))
    ]
    if as_json:
        terminal.print_json({"plans": [as_dict(each) for each in plans]})
        return
    print(terminal.printable("\n".join(render(each, shown) for each in plans)), end="")


def as_dict(plan: "ServePlan") -> dict[str, object]:
    """What programs want of a plan."""
    from dflash_app.serving.render import FORMS, blocks, reasons_of

    return {
        "pair": plan.pair,
        "engine": plan.engine,
        "drafting": plan.drafting,
        "needs": plan.needs,
        "argv": [plan.argv(node) for node in range(len(plan.node_arguments))],
        "environment": {each.name: each.value for each in plan.variables},
        "reasons": dict(reasons_of(plan)),
        "forms": {form: [block.text for block in blocks(plan, form)] for form in FORMS},
        "base_url": plan.base_url,
        "model": plan.model_name,
        "layout": plan.layout,
        "notes": plan.notes,
    }
