"""The controls that become a request: limits, sampling, thinking, stop texts, system prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from dflash_app.errors import RequestError
from dflash_app.request import GenerationRequest, Message, Mode, Policy, SamplingParams

DRAFTS: list[tuple[str, Policy]] = [
    ("fixed: the whole block", "fixed"),
    ("adaptive: what pays here", "adaptive"),
]
THINKING = [("template's default", "auto"), ("on", "on"), ("off", "off")]


@dataclass(frozen=True, slots=True)
class SamplingControls:
    """The widgets, in the order in which `build_request` takes their values."""

    inputs: tuple[gr.components.Component, ...]

    def __len__(self) -> int:
        return len(self.inputs)


def build_sampling(prefix: str, *, max_new_tokens: int = 512) -> SamplingControls:
    """Make the controls; `prefix` starts their elem_ids."""

    def name(suffix: str) -> str:
        return f"{prefix}-{suffix}"

    limit = gr.Slider(
        1, 16384, max_new_tokens, step=1, label="Max new tokens", elem_id=name("max-tokens")
    )
    drafts = gr.Dropdown(
        DRAFTS,
        value="fixed",
        label="Draft length",
        info="adaptive drafts less, or not at all, where that is faster; same text",
        elem_id=name("drafts"),
    )
    temperature = gr.Slider(
        0, 2, 0, step=0.05, label="Temperature", info="0 is greedy", elem_id=name("temperature")
    )
    with gr.Row():
        top_p = gr.Slider(
            0.05, 1, 1, step=0.05, label="Top-p", info="1 is off", elem_id=name("top-p")
        )
        top_k = gr.Slider(0, 200, 0, step=1, label="Top-k", info="0 is off", elem_id=name("top-k"))
    with gr.Row():
        min_p = gr.Slider(
            0, 0.99, 0, step=0.01, label="Min-p", info="0 is off", elem_id=name("min-p")
        )
        penalty = gr.Slider(
            0.5,
            2,
            1,
            step=0.01,
            label="Repeat penalty",
            info="1 is off",
            elem_id=name("repetition-penalty"),
        )
    with gr.Row():
        seed = gr.Textbox(
            label="Seed", placeholder="random", max_lines=1, min_width=120, elem_id=name("seed")
        )
        thinking = gr.Dropdown(
            THINKING, value="auto", label="Thinking", min_width=120, elem_id=name("thinking")
        )
    stop = gr.Textbox(
        label="Stop texts",
        placeholder="one a line",
        lines=1,
        max_lines=4,
        elem_id=name("stop-texts"),
    )
    system = gr.Textbox(
        label="System prompt", placeholder="none", lines=2, max_lines=8, elem_id=name("system")
    )
    cuts = (top_p, top_k, min_p)
    return SamplingControls(
        (limit, temperature, *cuts, penalty, seed, thinking, stop, system, drafts)
    )


def build_request(
    values: Sequence[Any], turns: Sequence[Message], mode: Mode, block_size: int | None
) -> GenerationRequest:
    """Turn widget values into a request.

    Args:
        values: of `SamplingControls.inputs`, in their order.
        turns: the conversation, the new user message last.
        mode: "ar" or "dflash".
        block_size: None takes the drafter's own.

    Raises:
        RequestError: a value is outside its range; the message says which.
    """
    limit, temperature, *cuts, penalty, seed, thinking, stop, system, drafts = values
    top_p, top_k, min_p = cuts
    messages = tuple(turns)
    if (system or "").strip():
        messages = (Message("system", system), *messages)
    return GenerationRequest(
        messages=messages,
        max_new_tokens=_whole("Max new tokens", limit),
        stop=tuple(line for line in (stop or "").splitlines() if line),
        sampling=SamplingParams(
            temperature=_number("Temperature", temperature),
            top_p=_number("Top-p", top_p),
            top_k=_whole("Top-k", top_k),
            min_p=_number("Min-p", min_p),
            repetition_penalty=_number("Repetition penalty", penalty),
            seed=_whole("Seed", seed) if str(seed or "").strip() else None,
        ),
        mode=mode,
        block_size=block_size,
        thinking=None if thinking == "auto" else thinking,
        policy=drafts,
    )


def as_mode(request: GenerationRequest, mode: Mode) -> GenerationRequest:
    """The same request in another mode; plain decoding has no block."""
    return replace(request, mode=mode, block_size=None if mode == "ar" else request.block_size)


def _whole(name: str, value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # a browser's 512 may come as 512.0
    try:
        return int(str(value).strip())
    except ValueError as error:
        raise RequestError(f"{name} must be a whole number, not {value!r}.") from error


def _number(name: str, value: object) -> float:
    try:
        return float(str(value).strip())
    except ValueError as error:
        raise RequestError(f"{name} must be a number, not {value!r}.") from error
