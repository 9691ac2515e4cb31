"""Plan a server for a pair, or refuse in one sentence."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dflash_app.errors import PlanError
from dflash_app.hub.cache import resolve
from dflash_app.registry.pair import EMBEDDED_PATHS, ModelRef, Pair
from dflash_app.serving import sglang, vllm
from dflash_app.serving.layout import Machines, Wanted, find_layout
from dflash_app.serving.plan import HEAD, TITLES, Engine, ServePlan
from dflash_app.serving.request import LOOPBACK, Model, ServeRequest
from dflash_app.serving.shapes import Shape, shape_of

MOST_NODES = 64
MOST_GPUS_PER_NODE = 16
LARGEST_BLOCK = 64
LONGEST_CONTEXT = 10_000_000
LAST_PORT = 65535

_RULES = {"vllm": vllm, "sglang": sglang}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user may say beyond pair, engine and machines.

    Attributes:
        drafting: False plans the twin that decodes plainly, spread alike.
        block_size: where the registry does not tell it, or another one; anchor included.
        context_length: tokens of one request; None takes what fits.
        host: where the server listens.
        port: None takes the engine's usual one, and the next for the twin.
        head: address of the first of several nodes.
    """

    drafting: bool = True
    block_size: int | None = None
    context_length: int | None = None
    host: str = LOOPBACK
    port: int | None = None
    head: str = HEAD


USUAL = Wishes()


def plan(
    pair: Pair,
    engine: Engine,
    machines: Machines,
    wishes: Wishes = USUAL,
    *,
    target: Shape,
    drafter: Shape | None,
) -> ServePlan:
    """The commands that serve a pair, each argument with its reason.

    Args:
        pair: a registry row.
        engine: "vllm" or "sglang".
        machines: the GPUs and nodes; a plan for a processor is for one machine.
        wishes: see `Wishes`.
        target: of `shape_of`.
        drafter: the same; None where the pair has none.

    Raises:
        PlanError: there is nothing to serve, a wish is impossible, or it does not fit.
    """
    block_size = check(pair, machines, wishes)
    if machines.gpu.is_cpu:
        machines = Machines(machines.gpu, why=machines.why)
    if engine == "sglang":
        sglang.check(machines)
    rules = _RULES[engine]
    wanted = Wanted(
        target=target,
        drafter=drafter,
        usable=rules.USABLE,
        pipeline=pair.family in rules.PIPELINE_FAMILIES,
        context_length=wishes.context_length,
    )
    layout = find_layout(wanted, machines)
    request = ServeRequest(
        pair=pair,
        target=_model(pair.target, target),
        drafter=_model(pair.drafter, drafter)
        if wishes.drafting and pair.drafter is not None and drafter is not None
        else None,
        machines=machines,
        layout=layout,
        block_size=block_size,
        host=wishes.host,
        port=wishes.port or rules.PORT + (not wishes.drafting),
        head=wishes.head,
    )
    return _build(request, engine)


def plan_pair(
    pair: Pair,
    engine: Engine,
    machines: Machines,
    wishes: Wishes = USUAL,
    *,
    online: bool,
    weights_gb: float | None = None,
    drafter_weights_gb: float | None = None,
) -> ServePlan:
    """As `plan`, with the shapes looked up; may wait for the hub, so use a worker.

    Args:
        pair: a registry row.
        engine: "vllm" or "sglang".
        machines: see `plan`.
        wishes: see `Wishes`.
        online: False asks nobody: see `shape_of`.
        weights_gb: of the target, where the user knows better.
        drafter_weights_gb: the same of the drafter.

    Raises:
        PlanError: see `plan`; or nobody tells how large a model is.
        PairNotReady: it is in a folder of this machine that is not there.
        LoadError: a file that is here is damaged.
    """
    check(pair, machines, wishes)  # before anybody is asked
    drafter = None
    if pair.drafter is not None:
        drafter = shape_of(pair.drafter, "drafter", online=online, weights_gb=drafter_weights_gb)
    target = shape_of(pair.target, "target", online=online, weights_gb=weights_gb)
    return plan(pair, engine, machines, wishes, target=target, drafter=drafter)


def _build(request: ServeRequest, engine: Engine) -> ServePlan:
    rules, pair = _RULES[engine], request.pair
    nodes = range(request.machines.num_nodes)
    return ServePlan(
        pair=pair.name,
        engine=engine,
        drafting=request.drafter is not None,
        needs=rules.needs(request),
        program=rules.program(request),
        arguments=tuple(rules.arguments(request)),
        node_arguments=tuple(tuple(rules.node_arguments(request, node)) for node in nodes),
        variables=tuple(rules.variables(request)),
        model_name=request.model_name,
        folders=tuple(model.source for model in request.models if model.ref.repo is None),
        gated=tuple(model.source for model in request.models if model.ref.gated),
        machines=request.machines,
        layout=request.layout,
        host=request.host,
        port=request.port,
        notes=tuple(_notes(request, engine)),
    )


def _notes(request: ServeRequest, engine: Engine) -> Iterator[str]:
    """What the user should know before starting it."""
    pair, machines, layout = request.pair, request.machines, request.layout
    if machines.why is not None:
        yield machines.why
    measured = pair.target.path == EMBEDDED_PATHS[0] and engine == "vllm"  # by ourselves
    if engine not in pair.backends and not measured:
        named = ", ".join(pair.backends) or "no engine"
        where = f" ({', '.join(pair.sources)})" if pair.sources else ""
        yield f"No source shows {TITLES[engine]} running this pair; the registry: {named}{where}."
    guessed = [
        f"{model.source} (by {model.shape.source})"
        for model in request.models
        if model.shape.source in ("its name", "published shapes")
    ]
    if guessed:
        yield f"Sizes not read from files: {', '.join(guessed)}; compare the engine's own log."
    loose = [model.source for model in request.models if model.ref.repo and not model.revision]
    if loose:
        yield (
            f"No commit is pinned for {' and '.join(loose)}: the newest is taken, and some "
            "drafters were retrained in place."
        )
    if layout.fewest_gpus < layout.num_gpus:
        yield (
            f"It fits on {layout.fewest_gpus} of them: for many users, several such copies may "
            f"serve more than one on {layout.num_gpus}."
        )
    if layout.num_gpus < machines.num_gpus:
        yield (
            f"{layout.num_gpus} of {machines.num_gpus} GPUs are used: the heads of target and "
            "drafter cannot be shared by more."
        )
    if layout.tensor > 1 and not machines.gpu.linked:
        yield (
            f"{machines.gpu.name} has no NVLink: every layer waits for the slower bus, so measure "
            "against fewer GPUs."
        )
    if pair.family in vllm.REMOTE_CODE_FAMILIES:
        yield (
            f"{request.target.source} is documented with --trust-remote-code, which runs Python "
            "from that repository: this plan leaves it out; add it yourself after reading that "
            "code, if the engine asks for it."
        )
    if machines.gpu.is_cpu and request.drafter is not None:
        yield (
            "Ask for temperature 0: with sampling this build of vLLM reads uninitialised "
            "temperatures while it drafts (vLLM issue 55005)."
        )


def _model(ref: ModelRef, shape: Shape) -> Model:
    return Model(ref, ref.repo or str(resolve(ref)), shape)


def check(pair: Pair, machines: Machines, wishes: Wishes) -> int:
    """Refuse what cannot be served, before anybody is asked for sizes.

    Returns:
        The block size that counts, anchor included; 1 without a drafter.

    Raises:
        PlanError: there is nothing to serve, or a wish is impossible.
    """
    if pair.remote:
        raise PlanError(f"Pair {pair.name!r} is served already, at {pair.target.server}.")
    if pair.status == "planned":
        raise PlanError(
            f"Pair {pair.name!r} is planned, its drafter is not published: choose another."
        )
    if wishes.drafting and pair.drafter is None:
        raise PlanError(
            f"Pair {pair.name!r} has no drafter, so there is nothing for DFlash to serve: choose "
            "another."
        )
    in_node = 1 <= machines.gpus_per_node <= MOST_GPUS_PER_NODE
    if not in_node or not 1 <= machines.num_nodes <= MOST_NODES:
        raise PlanError(f"Give 1 to {MOST_GPUS_PER_NODE} GPUs a node, and 1 to {MOST_NODES} nodes.")
    if wishes.context_length is not None and not 1 <= wishes.context_length <= LONGEST_CONTEXT:
        raise PlanError(f"Give a context of 1 to {LONGEST_CONTEXT:,} tokens.")
    if wishes.port is not None and not 1 <= wishes.port <= LAST_PORT:
        raise PlanError(f"Give a port from 1 to {LAST_PORT}.")
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,255}", wishes.host + wishes.head):
        raise PlanError("Give an address of letters, digits, dots, colons and dashes.")
    return _block_size(pair, wishes)


def _block_size(pair: Pair, wishes: Wishes) -> int:
    block_size = wishes.block_size or pair.block_size
    if not wishes.drafting:
        return block_size or 1
    if block_size is None:
        raise PlanError(
            f"No source tells the block size of {pair.name!r}: take it from the drafter's card "
            "(dflash_config.block_size) and give it with --block-size."
        )
    if not 2 <= block_size <= LARGEST_BLOCK:
        raise PlanError(f"Give a block size from 2 to {LARGEST_BLOCK}, the anchor included.")
    return block_size


def twin_of(wishes: Wishes) -> Wishes:
    """The same without a drafter, on the next port."""
    return replace(wishes, drafting=False, port=None if wishes.port is None else wishes.port + 1)
