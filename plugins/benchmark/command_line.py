"""The command that measures what a plan does."""

import shlex
from collections.abc import Iterator

from dflash_app.registry.pair import Pair

from .plan import Plan
from .question_sets import OWN_SUFFIX

_USUAL = Plan()


def command_of(plan: Plan, pair: Pair | None) -> str:
    """The command, quoted for a shell; it names what differs from what it takes anyway.

    Args:
        plan: of it. Files of one's own questions stand by their names: they must be there.
        pair: the plan's; None where no registry knows it any more.
    """
    return shlex.join(["dflash-app", "benchmark", *_options(plan, pair)])


def _options(plan: Plan, pair: Pair | None) -> Iterator[str]:
    yield from ("--pair", plan.pair)
    for name in plan.datasets:
        yield from ("--jsonl" if name.lower().endswith(OWN_SUFFIX) else "--dataset", name)
    if plan.num_prompts is not None:
        yield from ("--prompts", str(plan.num_prompts))
    yield from ("--mode", ",".join(plan.modes))
    sizes = [size or (pair.block_size if pair else None) for size in plan.block_sizes]
    if plan.block_sizes != (None,) and all(sizes):
        yield from ("--block-size", ",".join(map(str, sizes)))
    if plan.policies != _USUAL.policies:
        yield from ("--drafts", ",".join(plan.policies))
    for option, value, usual in (
        ("--temperature", plan.temperature, _USUAL.temperature),
        ("--top-p", plan.top_p, _USUAL.top_p),
        ("--top-k", plan.top_k, _USUAL.top_k),
        ("--seed", plan.seed, _USUAL.seed),
        ("--thinking", plan.thinking, _USUAL.thinking),
        ("--max-new-tokens", plan.max_new_tokens, _USUAL.max_new_tokens),
        ("--repetitions", plan.repetitions, _USUAL.repetitions),
        ("--warm-up", plan.warm_up, _USUAL.warm_up),
        ("--baseline", plan.baseline, None),
        ("--baseline-label", plan.baseline_label, None),
        ("--backend", plan.backend, None),
        ("--device", plan.options.device, None),
        ("--dtype", plan.options.dtype, None),
        ("--quantization", plan.options.quantization, None),
        ("--drafter-quantization", plan.options.drafter_quantization, None),
        ("--threads", plan.options.num_threads, None),
    ):
        if value != usual:
            yield from (option, f"{value:g}" if isinstance(value, float) else str(value))
    if plan.concurrency != (1,):
        yield from ("--concurrency", ",".join(map(str, plan.concurrency)))
