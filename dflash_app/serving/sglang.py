"""SGLang's command for a pair, as of 0.5.20.

Sources: `srt/server_args.py` and `srt/arg_groups/speculative_hook.py` of its main branch (read in
September 2026), its documentation of speculative decoding and of several nodes, and the drafters'
cards. Nothing here was run: SGLang has no DFlash without a GPU.
"""

from collections.abc import Iterator

from dflash_app.errors import PlanError
from dflash_app.serving.layout import Machines
from dflash_app.serving.plan import Argument, Needs, Variable
from dflash_app.serving.request import LOOPBACK, Model, ServeRequest
from dflash_app.serving.vllm import say_context, say_weights

PORT = 30000
USABLE = 0.75
"""Of a GPU's memory for weights and cache: what the drafters' cards launch it with."""
PIPELINE_FAMILIES: tuple[str, ...] = ()
"""DFlash asks for a pipeline of one."""
_MEET_PORT = 20000

_DENSE = ("qwen3", "llama", "qwen3_moe")
_HYBRID = ("qwen3_next", "qwen3_5", "qwen3_5_moe")
_GEMMA = ("gemma4", "gemma4_unified")
_BACKENDS = {
    "hopper": ("fa3", None),
    "blackwell": ("trtllm_mha", "fa4"),
}
"""Of target and drafter by generation, in the cards of targets with ordinary heads."""


def check(machines: Machines) -> None:
    """Refuse what SGLang cannot run.

    Raises:
        PlanError: there is no GPU.
    """
    if machines.gpu.is_cpu:
        raise PlanError(
            "SGLang decodes with DFlash on CUDA and NPU devices only: choose a GPU, or "
            "--engine vllm."
        )


def needs(request: ServeRequest) -> Needs:
    """What has to be installed."""
    return Needs(
        "sglang[all]>=0.5.20",
        "lmsysorg/sglang:v0.5.20",
        "These are the names of 0.5.20 and later; it takes its overlapped scheduler (Spec V2) for "
        "DFlash by itself, so the SGLANG_ENABLE_..._SPEC_V2 variables of older cards are not "
        "needed.",
    )


def program(request: ServeRequest) -> tuple[str, ...]:
    """The words before the arguments."""
    return ("python3", "-m", "sglang.launch_server", "--model-path", request.target.source)


def variables(request: ServeRequest) -> tuple[Variable, ...]:
    """What the environment has to say."""
    if request.drafter is None:
        return ()
    known = request.drafter.shape.context_length
    if known is not None and known >= request.layout.context_length:
        return ()
    return (
        Variable(
            "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN",
            "1",
            "As the drafters' cards set it: a drafter's config may tell a shorter context than "
            "the target's, which is refused without it.",
        ),
    )


def arguments(request: ServeRequest) -> Iterator[Argument]:
    """The arguments that every node has."""
    target, layout = request.target, request.layout
    if target.revision:
        yield Argument("--revision", target.revision, "The commit that the registry pins.")
    if target.ref.repo is None:
        yield Argument("--served-model-name", request.model_name, "Else it is called by its path.")
    yield Argument("--host", request.host, _say_host(request.host))
    yield Argument("--port", str(request.port), "Where requests go.")
    if layout.tensor > 1:
        yield Argument(
            "--tp-size",
            str(layout.tensor),
            f"Each layer is shared by {layout.tensor} GPUs of all nodes, {say_weights(layout)} on "
            "each; DFlash takes no pipeline parallelism and no data-parallel attention here.",
        )
    yield Argument("--context-length", str(layout.context_length), say_context(layout))
    yield Argument(
        "--mem-fraction-static",
        str(USABLE),
        "Of the memory for weights and cache, as the drafters' cards launch it.",
    )
    if request.drafter is not None:
        yield from _drafting(request, request.drafter)
    yield from _attention(request)
    if request.pair.family in _HYBRID:
        yield Argument(
            "--mamba-radix-cache-strategy",
            "extra_buffer",
            "Recurrent layers cannot go back by cutting: this keeps states to return to. Before "
            "0.5.20 it was --mamba-scheduler-strategy.",
        )


def node_arguments(request: ServeRequest, node: int) -> Iterator[Argument]:
    """What one of several nodes has besides, by SGLang's own launcher."""
    if request.machines.num_nodes == 1:
        return
    meeting = f"{request.head}:{_MEET_PORT}"
    yield Argument("--nnodes", str(request.machines.num_nodes), "Machines.")
    yield Argument("--node-rank", str(node), "This machine, counted from 0.")
    yield Argument("--dist-init-addr", meeting, "The first node, where all others meet.")


def _drafting(request: ServeRequest, drafter: Model) -> Iterator[Argument]:
    yield Argument("--speculative-algorithm", "DFLASH", "DFlash 2 too: the drafter's config tells.")
    yield Argument("--speculative-draft-model-path", drafter.source, "The drafter.")
    if drafter.revision:
        why = "The commit that the registry pins; main otherwise."
        yield Argument("--speculative-draft-model-revision", drafter.revision, why)
    yield Argument(
        "--speculative-num-draft-tokens",
        str(request.block_size),
        "SGLang counts the whole block, the anchor included; vLLM would want "
        f"{request.block_size - 1}.",
    )
    window = drafter.shape.window
    if window:
        yield Argument(
            "--speculative-draft-window-size",
            str(window),
            "All of the drafter's layers reach back that far only, so nothing older is kept for "
            "it; it was --speculative-dflash-draft-window-size.",
        )


def _attention(request: ServeRequest) -> Iterator[Argument]:
    family, generation = request.pair.family, request.machines.gpu.generation
    target, drafter = _BACKENDS.get(generation, (None, None))
    if family in _GEMMA:
        target = "triton"
    elif family not in _DENSE + _HYBRID:
        return  # the engine knows better which of its kernels the family needs
    if target:
        yield Argument(
            "--attention-backend", target, "As the drafters' cards launch this family on such GPUs."
        )
    if drafter and request.drafter is not None:
        yield Argument(
            "--speculative-draft-attention-backend",
            drafter,
            "The drafter attends in both directions, which the target's backend may not.",
        )


def _say_host(host: str) -> str:
    if host == LOOPBACK:
        return "This machine only: the server asks nobody for a key."
    return "Whoever reaches this address may use it: add --api-key, or keep it behind a proxy."
