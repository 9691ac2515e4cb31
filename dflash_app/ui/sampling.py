"""The controls that become a request: limits, sampling, thinking, stop texts, system prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from dflash_app.errors import RequestError
from dflash_app.request import GenerationRequest, Message, Mode, SamplingParams
from dflash_app.ui.format import UNKNOWN, format_excerpt
from dflash_app.ui.language import Texts

_texts = Texts.load("sampling", Path(__file__).with_name("texts") / "sampling.yaml")

NAMES = (
    "max-tokens",
    "temperature",
    "top-p",
    "top-k",
    "min-p",
    "repetition-penalty",
    "seed",
    "thinking",
    "stop-texts",
    "system",
    "drafts",
)
"""What each control's elem_id ends in, in the order in which `build_request` takes the values."""

DRAWING = NAMES[1:6]
"""Those of them that say how a token is drawn, which a preset sets."""


@dataclass(frozen=True, slots=True)
class SamplingControls:
    """The widgets.

    Attributes:
        inputs: in the order of `NAMES`.
        preset: sets those that say how a token is drawn.
    """

    inputs: tuple[gr.components.Component, ...]
    preset: gr.Dropdown

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def drawing(self) -> tuple[gr.components.Component, ...]:
        """Those that say how a token is drawn: temperature, top-p, top-k, min-p, penalty."""
        return self.inputs[1:6]

    def say_changes(self, settings: Mapping[str, Any]) -> str:
        """What differs from the values that the page begins with, in a few words; "" for nothing.

        Args:
            settings: values by the names of `NAMES`; others are left out.
        """
        begun: dict[str, Any] = {
            name: getattr(widget, "value", None)
            for name, widget in zip(NAMES, self.inputs, strict=True)
        }
        return _texts.say("between").join(
            _texts.say(f"has_{name.replace('-', '_')}", value=_say_value(settings[name]))
            for name, value in begun.items()
            if name in settings and (settings[name] or 0) != (value or 0)
        )

    def say_heading(self, plain: str, settings: Mapping[str, Any]) -> str:
        """What to call the fold around them: `plain`, and what `say_changes` tells."""
        changes = self.say_changes(settings)
        return _texts.say("heading", plain=plain, changes=changes) if changes else plain

    @property
    def thinking(self) -> gr.components.Component:
        return self.inputs[NAMES.index("thinking")]


def build_sampling(prefix: str, *, max_new_tokens: int = 512) -> SamplingControls:
    """Make the controls; `prefix` starts their elem_ids. `presets.connect_presets` moves them."""
    widgets: dict[str, gr.components.Component] = {}

    def named(suffix: str) -> str:
        return f"{prefix}-{suffix}"

    preset = gr.Dropdown(
        preset_choices(), value="greedy", label=_texts.label("preset"), elem_id=named("preset"),
        allow_custom_value=True,  # else Gradio refuses what another pair offered
    )  # fmt: skip
    widgets["max-tokens"] = gr.Slider(
        1, 16384, max_new_tokens, step=1, label=_texts.label("limit"), elem_id=named("max-tokens")
    )
    widgets["drafts"] = gr.Dropdown(
        [(_texts.label(f"drafts_{each}"), each) for each in ("fixed", "adaptive")],
        value="fixed", label=_texts.label("drafts"), info=_texts.label("drafts_info"),
        elem_id=named("drafts"),
    )  # fmt: skip
    widgets |= _build_drawing(named)
    with gr.Row():
        widgets["seed"] = gr.Textbox(
            label=_texts.label("seed"), placeholder=_texts.label("random"), max_lines=1,
            min_width=120, elem_id=named("seed"),
        )  # fmt: skip
        widgets["thinking"] = gr.Dropdown(
            thinking_labels(["on", "off"]), value="auto", label=_texts.label("thinking"),
            min_width=120, elem_id=named("thinking"), allow_custom_value=True,
        )  # fmt: skip
    widgets["stop-texts"] = gr.Textbox(
        label=_texts.label("stop"), placeholder=_texts.label("one_a_line"), lines=1, max_lines=4,
        elem_id=named("stop-texts"),
    )  # fmt: skip
    widgets["system"] = gr.Textbox(
        label=_texts.label("system"), placeholder=_texts.label("none"), lines=2, max_lines=8,
        elem_id=named("system"),
    )  # fmt: skip
    return SamplingControls(tuple(widgets[name] for name in NAMES), preset)


def connect_heading(
    controls: SamplingControls, fold: gr.Accordion, say_plain: Callable[[], str]
) -> None:
    """The heading of the fold tells which settings were changed, by hand or by a preset.

    Args:
        controls: within the fold.
        fold: whose heading it is.
        say_plain: what it says while nothing is changed, in the language of the event's browser.
    """

    def head(*values: Any) -> gr.Accordion:
        return gr.Accordion(label=controls.say_heading(say_plain(), saved_settings(values)))

    inputs = list(controls.inputs)
    changed = [widget.change for widget in inputs]  # type: ignore[attr-defined]
    gr.on(
        changed, head, inputs, fold, trigger_mode="always_last", show_progress="hidden",
        api_visibility="private", preprocess=False,  # "0." on its way to "0.9" is no error
    )  # fmt: skip


def preset_choices(*, recommended: bool = False) -> list[tuple[Any, str]]:
    """The presets by what they are called; the pair's own where one is known."""
    names = ["greedy", "recommended", "balanced", "creative", "own"]
    offered = [name for name in names if recommended or name != "recommended"]
    return [(_texts.label(f"preset_{name}"), name) for name in offered]


def thinking_labels(choices: Sequence[str]) -> list[tuple[Any, str]]:
    """The template's default, then what it can be told; a level is called what it is."""
    switches = {each: _texts.label(f"thinking_{each}") for each in ("auto", "on", "off")}
    return [(switches.get(each, each), each) for each in ("auto", *choices)]


def _build_drawing(named: Any) -> dict[str, gr.components.Component]:
    at_zero, at_one = _texts.label("off_at_zero"), _texts.label("off_at_one")
    temperature = gr.Slider(
        0, 2, 0, step=0.05, label=_texts.label("temperature"),
        info=_texts.label("temperature_info"), elem_id=named("temperature"),
    )  # fmt: skip
    with gr.Row():
        top_p = gr.Slider(
            0.05, 1, 1, step=0.05, label=_texts.label("top_p"), info=at_one, elem_id=named("top-p")
        )
        top_k = gr.Slider(
            0, 200, 0, step=1, label=_texts.label("top_k"), info=at_zero, elem_id=named("top-k")
        )
    with gr.Row():
        min_p = gr.Slider(
            0, 0.99, 0, step=0.01, label=_texts.label("min_p"), info=at_zero, elem_id=named("min-p")
        )
        penalty = gr.Slider(
            0.5, 2, 1, step=0.01, label=_texts.label("penalty"), info=at_one,
            elem_id=named("repetition-penalty"),
        )  # fmt: skip
    return dict(zip(DRAWING, (temperature, top_p, top_k, min_p, penalty), strict=True))


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


def saved_settings(values: Sequence[Any]) -> dict[str, Any]:
    """Widget values by name, to keep with a conversation."""
    return dict(zip(NAMES, values, strict=True))


def restored_settings(
    controls: SamplingControls, settings: Mapping[str, Any]
) -> dict[gr.components.Component, Any]:
    """The widgets that take back what `saved_settings` kept; what is not known stays as it is."""
    named = dict(zip(NAMES, controls.inputs, strict=True))
    kept = {named[name]: value for name, value in settings.items() if name in named}
    return {widget: value for widget, value in kept.items() if isinstance(value, str | int | float)}


def _say_value(value: object) -> str:
    if isinstance(value, int | float):
        return f"{value:,g}"
    if value in ("on", "off"):
        return _texts.say(f"thinking_{value}")
    return format_excerpt(str(value), 20) if value is not None else UNKNOWN


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
