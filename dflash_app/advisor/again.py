"""A recorded run asked for again, as it was or with one thing changed."""

from dataclasses import replace
from typing import Any, cast, get_args

from dflash_app.advisor.case import THREADS_TRIAL_SOURCE, TRIAL_SOURCE
from dflash_app.advisor.finding import Change
from dflash_app.engine.protocol import LoadOptions, Quantization
from dflash_app.request import GenerationRequest, Message, Mode, Policy, Role, SamplingParams
from dflash_app.store.fingerprint import accelerators
from dflash_app.store.records import RunStart

_USUAL_DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
"""What is computed in where nobody asks for another: named, it would load the pair anew."""


def request_of(start: RunStart, change: Change | None = None) -> GenerationRequest:
    """The request of a run; what a change of the loading would change is left as it was.

    Raises:
        RequestError: the log holds a value that is no request's.
    """
    request = GenerationRequest(
        messages=tuple(
            Message(cast(Role, each.get("role", "user")), each.get("content", ""))
            for each in start.messages
        ),
        max_new_tokens=start.max_new_tokens,
        stop=start.stop,
        sampling=SamplingParams(
            temperature=start.temperature,
            top_p=start.top_p,
            top_k=start.top_k,
            min_p=start.min_p,
            repetition_penalty=start.repetition_penalty,
            seed=start.seed,
        ),
        mode=cast(Mode, start.mode),
        block_size=None if start.on_server else start.block_size,
        thinking=start.thinking,
        policy=cast(Policy, start.policy or "fixed"),
        task=start.task,
    )
    return request if change is None or change.reloads else _changed(request, change)


def options_of(
    start: RunStart, num_threads: int | None, change: Change | None = None
) -> LoadOptions:
    """How to load a run's pair as it was loaded then.

    Args:
        start: of the run.
        num_threads: compute threads, as wherever the run is repeated.
        change: of the loading; another one changes nothing here.
    """
    if start.on_server:
        return LoadOptions(num_threads=num_threads)
    # Of several places only "auto" makes use.
    device = "auto" if "+" in start.device else start.device
    usual = _USUAL_DTYPES.get(start.device.partition(":")[0]) == start.dtype
    options = LoadOptions(
        # Beside an accelerator nobody gets the processor unasked.
        device=None if device == "cpu" and not accelerators() else device,
        dtype=None if usual or start.quantization else start.dtype,
        num_threads=num_threads,
        quantization=_asked(start.quantization),
        drafter_quantization=_asked(start.drafter_quantization),
    )
    if change is None or not change.reloads:
        return options
    values: dict[str, Any] = {change.field: change.value}
    return replace(options, **values)


def source_of(change: Change | None) -> str:
    """What the log says of who asked for a trial; threads are not recorded otherwise."""
    other_threads = change is not None and change.field == "num_threads"
    return THREADS_TRIAL_SOURCE if other_threads else TRIAL_SOURCE


def _changed(request: GenerationRequest, change: Change) -> GenerationRequest:
    value: Any = change.value
    if change.field == "temperature":
        return replace(request, sampling=replace(request.sampling, temperature=value))
    if change.field == "mode":
        return replace(request, mode=value, block_size=None)
    if change.field == "policy" and not request.sampling.greedy:
        # With a seed adaptive drafts would stay fixed.
        sampling = replace(request.sampling, seed=None)
        return replace(request, policy=value, sampling=sampling)
    values: dict[str, Any] = {change.field: value}
    return replace(request, **values)


def _asked(quantization: str | None) -> Quantization | None:
    """A checkpoint's own storage ("fp8") is no option."""
    known = quantization in get_args(Quantization)
    return cast(Quantization, quantization) if known else None
