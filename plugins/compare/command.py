"""A race as a command line that runs it again."""

import shlex
from collections.abc import Sequence

from dflash_app.race import LaneSpec
from dflash_app.request import GenerationRequest, SamplingParams
from dflash_app.ui.format import well_formed

STDIN = "-"
"""In the place of a prompt that is not to be told."""


def race_command(specs: Sequence[LaneSpec], backend: str | None, prompt: str | None) -> str:
    """`dflash-app generate --compare ...`, quoted for a POSIX shell.

    Args:
        specs: of the lanes, in their order.
        backend: of all of them; None leaves it to the pair.
        prompt: None lets the command read it from its standard input, and leaves the system message
            and stop texts out too: they are not to be told either.
    """
    first = specs[0]
    precisions = [_precision(spec) for spec in specs]
    one_precision = len(set(precisions)) == 1
    words = ["dflash-app", "generate", "--compare", "--pair", first.pair]
    words += _option("--backend", backend)
    words += _option("--device", first.options.device)
    words += _option("--threads", first.options.num_threads)
    if one_precision:
        words += _option("--dtype", first.options.dtype)
        words += _option("--quantization", first.options.quantization)
    words += _request_options(specs[0].request)
    if prompt is not None:
        words += _words_of(specs[0].request)
    for spec, precision in zip(specs, precisions, strict=True):
        lane = [spec.request.mode]
        if spec.pair != first.pair:
            lane.append(f"pair={spec.pair}")
        if not one_precision and precision is not None:
            lane.append(f"precision={precision}")
        if spec.request.mode == "dflash":
            if spec.request.block_size is not None:
                lane.append(f"block={spec.request.block_size}")
            if spec.request.policy != "fixed":
                lane.append(f"drafts={spec.request.policy}")
        words += ["--lane", ",".join(lane)]
    command = shlex.join([*words, "--", STDIN if prompt is None else prompt])
    # As an argument it would mean the standard input.
    return f"printf %s {STDIN} | {command}" if prompt == STDIN else well_formed(command)


def _precision(spec: LaneSpec) -> str | None:
    return spec.options.quantization or spec.options.dtype


def _request_options(request: GenerationRequest) -> list[str]:
    sampling, usual = request.sampling, SamplingParams()
    words = ["--max-new-tokens", str(request.max_new_tokens)]
    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty"):
        value = getattr(sampling, name)
        if value != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", repr(value)]
    words += _option("--seed", sampling.seed)
    words += _option("--thinking", request.thinking)
    return [*words, *_option("--task", request.task)]


def _words_of(request: GenerationRequest) -> list[str]:
    """What the user wrote beside the prompt."""
    words = [word for text in request.stop for word in ("--stop", text)]
    system = "".join(each.content for each in request.messages if each.role == "system")
    return [*words, *_option("--system", system or None)]


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [name, str(value)]
