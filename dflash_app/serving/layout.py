"""How a pair is spread over GPUs: tensor and pipeline parallel sizes, and what then fits."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dflash_app.errors import PlanError
from dflash_app.serving.gpus import BYTES_PER_GB, Gpu
from dflash_app.serving.shapes import Shape

MOST_GPUS = 64
"""Until where more GPUs are tried, to say how many it takes."""
_PER_NODE = 8
_ALLOWANCE_BYTES = 3 * BYTES_PER_GB
"""For activations and CUDA graphs on each GPU: an allowance, not a measurement."""
CPU_CACHE_GB = 1
"""Given to the cache on a processor, where the rest of the memory has other uses."""
_CPU_WIDTH = 2
"""A float32's bytes to a bfloat16's: what a processor computes in, and what is stored."""
DEFAULT_CONTEXT = 32768
LEAST_CONTEXT = 2048
"""With less room than this (or than the model holds) a pair does not fit."""


@dataclass(frozen=True, slots=True)
class Machines:
    """What a pair is served on.

    Attributes:
        gpu: of every node.
        gpus_per_node: that the engine may use.
        num_nodes: machines.
        why: a sentence on the choice of `gpu` where nobody named one.
    """

    gpu: Gpu
    gpus_per_node: int = 1
    num_nodes: int = 1
    why: str | None = None

    @property
    def num_gpus(self) -> int:
        return self.gpus_per_node * self.num_nodes

    def say(self) -> str:
        """Such as "8 x H100-80 on each of 2 nodes"."""
        if self.gpu.is_cpu:
            return "this machine's processor"
        on = f" on each of {self.num_nodes} nodes" if self.num_nodes > 1 else ""
        return f"{self.gpus_per_node} x {self.gpu.name}{on}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be spread, and by which rules.

    Attributes:
        target: the model that decides.
        drafter: None for plain decoding.
        usable: part of a GPU's memory that the engine takes for weights and cache.
        pipeline: whether the engine may put layers on different GPUs.
        context_length: tokens of one request; None takes what fits, up to `DEFAULT_CONTEXT`.
    """

    target: Shape
    drafter: Shape | None
    usable: float
    pipeline: bool
    context_length: int | None = None

    @property
    def longest(self) -> int:
        """Tokens of a request that are wished for."""
        limit = self.target.context_length or DEFAULT_CONTEXT
        return self.context_length or min(limit, DEFAULT_CONTEXT)

    @property
    def least(self) -> int:
        """Tokens of a request without which it does not count as fitting."""
        return self.context_length or min(self.longest, LEAST_CONTEXT)


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to spread a pair, and its arithmetic for the fullest GPU.

    Attributes:
        tensor: GPUs that share each layer.
        pipeline: groups of layers.
        weights_bytes: on one GPU.
        cache_bytes: left for the cache on one GPU; negative where the weights are too large.
        room_tokens: of cache that fit beside the weights; None where a token's size is unknown.
        context_length: tokens of one request.
        fewest_gpus: on which it would fit.
    """

    tensor: int
    pipeline: int
    weights_bytes: int
    cache_bytes: int
    room_tokens: int | None
    context_length: int
    fewest_gpus: int = 1

    @property
    def num_gpus(self) -> int:
        return self.tensor * self.pipeline


def find_layout(wanted: Wanted, machines: Machines) -> Layout:
    """The layout that uses most of the GPUs, in the order in which the engines advise it.

    Raises:
        PlanError: it fits in none; says how many GPUs it takes.
    """
    layout = _first_fitting(wanted, machines)
    if layout is None:
        raise PlanError(_say_too_large(wanted, machines))
    smaller = next(each for each in _growing(machines) if _first_fitting(wanted, each))
    return replace(layout, fewest_gpus=min(smaller.num_gpus, layout.num_gpus))


def divides(shape: Shape, tensor: int) -> bool:
    """Whether a model's heads can be shared by so many GPUs; unknown heads by powers of two."""
    heads, kv_heads = shape.num_heads, shape.num_kv_heads
    if heads is None:
        return tensor & (tensor - 1) == 0
    if heads % tensor or any(count % tensor for count in shape.linear_heads):
        return False
    return kv_heads is None or kv_heads % tensor == 0 or tensor % kv_heads == 0


def _first_fitting(wanted: Wanted, machines: Machines) -> Layout | None:
    for tensor, pipeline in _sizes(wanted, machines):
        layout = _lay_out(wanted, machines.gpu, tensor, pipeline)
        if layout.room_tokens is None:
            fits = layout.cache_bytes > 0
        else:
            fits = layout.room_tokens >= wanted.least
        if fits:
            return layout
    return None


def _sizes(wanted: Wanted, machines: Machines) -> Iterator[tuple[int, int]]:
    """Tensor and pipeline sizes whose heads divide, those that use more GPUs first."""
    models = [shape for shape in (wanted.target, wanted.drafter) if shape]
    for used in range(machines.gpus_per_node, 0, -1):
        total = used * machines.num_nodes
        # Layers stay within a node where they can be on several: what crosses is least then.
        nodes = machines.num_nodes
        groups = range(nodes, total + 1, nodes) if wanted.pipeline else (1,)
        for pipeline in groups:
            tensor, rest = divmod(total, pipeline)
            if rest == 0 and all(divides(shape, tensor) for shape in models):
                yield tensor, pipeline
        if wanted.pipeline and nodes > 1 and all(divides(shape, total) for shape in models):
            yield total, 1


def _lay_out(wanted: Wanted, gpu: Gpu, tensor: int, pipeline: int) -> Layout:
    target, drafter = wanted.target, wanted.drafter
    weights = target.weights_bytes // (tensor * pipeline)
    token_bytes = _on_one(target, tensor, pipeline)
    if drafter is not None:  # it is whole on the last group of layers
        weights += drafter.weights_bytes // tensor
        drafting = _on_one(drafter, tensor, 1)
        token_bytes = None if token_bytes is None or drafting is None else token_bytes + drafting
    if gpu.is_cpu:
        weights *= _CPU_WIDTH
        token_bytes = token_bytes and token_bytes * _CPU_WIDTH
        left = min(CPU_CACHE_GB * BYTES_PER_GB, gpu.memory_bytes - weights)
    else:
        left = int(gpu.memory_bytes * wanted.usable) - _ALLOWANCE_BYTES - weights
    room = None if token_bytes is None else max(0, int(left / token_bytes))
    context = wanted.longest
    if room is not None and wanted.context_length is None and room < context:
        context = max(room // 1024 * 1024, min(room, LEAST_CONTEXT))
    return Layout(tensor, pipeline, weights, left, room, context)


def _on_one(shape: Shape, tensor: int, pipeline: int) -> float | None:
    """Bytes of cache that a token takes on one GPU; heads that are too few are kept by several."""
    if shape.token_bytes is None:
        return None
    return shape.token_bytes / (pipeline * min(tensor, shape.num_kv_heads or 1))


def _say_too_large(wanted: Wanted, machines: Machines) -> str:
    gpu = machines.gpu
    size = wanted.target.weights_bytes + (wanted.drafter.weights_bytes if wanted.drafter else 0)
    said = f"{size / 1e9:,.0f} GB of weights" if size >= 1e9 else f"{size / 1e6:,.0f} MB of weights"
    room = f"a request of {wanted.least:,} tokens"
    begin = f"{said} and {room} do not fit on {machines.say()}"
    if gpu.is_cpu:
        return f"{begin} with {gpu.memory_bytes / 1e9:.0f} GB: take a machine with more memory."
    enough = next((each for each in _growing(machines) if _first_fitting(wanted, each)), None)
    if enough is None:
        return f"{begin}, nor on any number up to {MOST_GPUS}: choose GPUs with more memory."
    cure = f"--gpus {enough.gpus_per_node}"
    if enough.num_nodes > 1:
        cure += f" --nodes {enough.num_nodes}"
    return f"{begin}: it takes {enough.num_gpus} such GPUs ({cure})."


def _growing(machines: Machines) -> Iterator[Machines]:
    """More and more GPUs of the kind: on one node up to eight, then on more nodes."""
    for count in range(1, _PER_NODE + 1):
        yield replace(machines, gpus_per_node=count, num_nodes=1)
    for nodes in range(2, MOST_GPUS // _PER_NODE + 1):
        yield replace(machines, gpus_per_node=_PER_NODE, num_nodes=nodes)
    yield machines
