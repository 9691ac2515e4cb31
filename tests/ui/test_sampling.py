"""Widget values become a request, or one sentence that says which value is wrong."""

import gradio as gr
import pytest

from dflash_app.errors import RequestError
from dflash_app.request import Message, SamplingParams
from dflash_app.ui.sampling import (
    as_mode,
    build_request,
    build_sampling,
    connect_heading,
    saved_settings,
)
from tests.ui.stage import SAMPLING

TURNS = [Message("user", "How many divisors?")]


def with_value(index: int, value: object) -> list[object]:
    return [*SAMPLING[:index], value, *SAMPLING[index + 1 :]]


def test_every_control_reaches_the_request() -> None:
    values = [256, 0.5, 0.9, 40, 0.05, 1.1, " 7 ", "off", "END\n\nSTOP", "Be brief.", "adaptive"]
    request = build_request(values, TURNS, "dflash", 8)
    assert [message.role for message in request.messages] == ["system", "user"]
    assert (request.max_new_tokens, request.block_size, request.thinking) == (256, 8, "off")
    assert request.stop == ("END", "STOP")
    assert request.policy == "adaptive"
    assert request.sampling == SamplingParams(
        temperature=0.5, top_p=0.9, top_k=40, min_p=0.05, repetition_penalty=1.1, seed=7
    )


def test_controls_stand_in_the_order_of_the_values_and_switch_nothing_on() -> None:
    with gr.Blocks():
        controls = build_sampling("chat", max_new_tokens=64)
    names = ["max-tokens", "temperature", "top-p", "top-k", "min-p", "repetition-penalty"]
    names += ["seed", "thinking", "stop-texts", "system", "drafts"]
    assert [widget.elem_id for widget in controls.inputs] == [f"chat-{name}" for name in names]
    assert [widget.value or 0 for widget in controls.inputs] == [value or 0 for value in SAMPLING]


def test_values_left_alone_are_greedy_without_seed_stop_or_system_prompt() -> None:
    request = build_request(SAMPLING, TURNS, "ar", None)
    assert request.sampling == SamplingParams()
    assert (request.stop, request.thinking, request.policy) == ((), None, "fixed")
    assert request.messages == tuple(TURNS)


def test_what_differs_from_the_first_values_is_said_in_a_few_words() -> None:
    with gr.Blocks():
        controls = build_sampling("chat")
    begun = saved_settings([widget.value for widget in controls.inputs])
    assert controls.say_changes(begun) == ""
    changed = begun | {"max-tokens": 16384, "temperature": 2, "thinking": "off", "system": "Rhyme."}
    said = "16,384 tokens, temperature 2, thinking off, system prompt"
    assert controls.say_changes(changed) == said
    assert controls.say_heading("Limits", begun) == "Limits"
    assert controls.say_heading("Limits", changed) == f"Limits: {said}"


def test_every_control_moves_the_heading_of_the_fold_around_it() -> None:
    with gr.Blocks() as blocks:
        with gr.Accordion("Limits") as fold:
            controls = build_sampling("chat")
        connect_heading(controls, fold, lambda: "Limits")
    (event,) = blocks.fns.values()
    moved = {target for target, name in event.targets if name == "change"}
    assert moved == {widget._id for widget in controls.inputs}
    begun = [widget.value for widget in controls.inputs]
    assert event.fn(*begun).label == "Limits"
    assert event.fn(*begun[:-1], "adaptive").label == "Limits: adaptive drafts"


def test_a_whole_number_may_come_as_a_float() -> None:
    assert build_request(with_value(0, 12.0), TURNS, "ar", None).max_new_tokens == 12


@pytest.mark.parametrize(
    ("index", "value", "named"),
    [(0, 0, "max_new_tokens"), (0, None, "Max new tokens"), (0, 1.5, "Max new tokens"),
     (1, 9, "temperature"), (1, "warm", "Temperature"), (1, float("nan"), "temperature"),
     (2, 0, "top_p"), (3, -1, "top_k"),
     (4, 1, "min_p"), (4, None, "Min-p"), (5, 0, "repetition_penalty"),
     (5, "", "Repetition penalty"), (6, "abc", "Seed"), (6, "-4", "seed")],
)  # fmt: skip
def test_a_value_out_of_range_is_named(index: int, value: object, named: str) -> None:
    with pytest.raises(RequestError, match=named):
        build_request(with_value(index, value), TURNS, "dflash", None)


def test_plain_decoding_drops_the_block() -> None:
    request = build_request(SAMPLING, TURNS, "dflash", 8)
    assert as_mode(request, "ar").block_size is None
    assert as_mode(request, "dflash") == request
