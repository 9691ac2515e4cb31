"""A run's updates reach the page through three events, in order, once, and nobody else's."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from dflash_app.ui import flow as flow_module
from dflash_app.ui.flow import Flow, Update, connect_flow
from tests.ui.stage import play, texts


class Updates:
    """A run of three live updates on a page of its own; remembers whether it was closed."""

    def __init__(self) -> None:
        self.closed = 0
        with gr.Blocks() as self.blocks:
            self.button = gr.Button()
            self.box = gr.Textbox(elem_id="box")
            self.panel = gr.HTML(elem_id="live")
            self.other = gr.HTML(elem_id="other")
            connect_flow(
                [self.button.click],
                self.on_go,
                gr.State(None),
                inputs=[self.box],
                outputs=[self.box, self.panel, self.other],
                live=[self.panel],
                box=self.box,
            )

    def on_go(self, text: str, *_: Any) -> Iterator[Update]:
        try:
            yield {self.box: "", self.panel: f"begun {text}"}
            for number in range(3):
                yield {self.panel: f"live {number}"}
            yield {self.panel: "ended", self.other: "verdict"}
            yield {self.box: "again"}
        finally:
            self.closed += 1

    def begin(self, flow: Flow | None) -> Update:
        function = next(fn for fn in self.blocks.fns.values() if fn.name == "on_go")
        return dict(function.fn("text", flow))


@pytest.fixture
def updates() -> Updates:
    return Updates()


def test_the_first_and_last_updates_may_change_all_and_those_between_the_live_outputs(
    updates: Updates,
) -> None:
    shown = [texts(update) for update in play(updates.blocks, "on_go", "text")]
    assert shown == [
        {"box": "", "live": "begun text"},
        *({"live": f"live {number}"} for number in range(3)),
        {"live": "ended", "other": "verdict", "box": "again"},
    ]
    assert updates.closed == 1


def test_the_event_that_repeats_has_the_live_outputs_alone(updates: Updates) -> None:
    repeats = next(fn for fn in updates.blocks.fns.values() if fn.name == "show_live")
    assert repeats.outputs == [updates.panel]


def test_a_closed_browser_tab_closes_the_run(updates: Updates) -> None:
    flow = Flow(updates.on_go("text"))
    flow.begin()
    live = flow.live([updates.panel])
    next(live)
    live.close()
    assert updates.closed == 1


def test_a_second_message_waits_for_the_end_of_the_first(updates: Updates) -> None:
    first = Flow(updates.on_go("first"))
    first.begin()
    live = first.live([updates.panel])
    next(live)
    refused = updates.begin(first)
    assert [type(widget) for widget in refused] == [gr.State]
    # What the refused one would start, were it allowed to, gets nothing and ends nothing.
    assert list(first.live([updates.panel])) == []
    assert first.end() is None
    assert [texts(update) for update in live] == [{"live": "live 1"}, {"live": "live 2"}]
    assert texts(first.end() or {})["other"] == "verdict"


def test_a_run_without_live_updates_leaves_the_live_outputs_as_they_are(updates: Updates) -> None:
    show_live = next(fn.fn for fn in updates.blocks.fns.values() if fn.name == "show_live")
    refused = Flow(iter([{updates.panel: "no"}]))
    refused.begin()
    # No update at all would make Gradio empty them.
    for flow in (refused, None):
        assert list(show_live(flow)) == [{updates.panel: gr.skip()}]


@pytest.mark.parametrize(
    ("typed", "stands"), [("", "again"), ("typed meanwhile", "again\ntyped meanwhile")]
)
def test_what_the_end_gives_back_stands_before_what_was_typed_meanwhile(
    updates: Updates, typed: str, stands: str
) -> None:
    end = next(fn for fn in updates.blocks.fns.values() if fn.name == "end")
    assert [type(each) for each in end.inputs] == [gr.State, gr.Textbox]
    flow = Flow(updates.on_go("text"))
    flow.begin()
    list(flow.live([updates.panel]))
    assert end.fn(flow, typed)[updates.box] == stands


def test_a_flow_whose_tab_is_gone_gives_way(
    updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Flow(updates.on_go("first"))
    first.begin()
    monkeypatch.setattr(flow_module, "ABANDONED_S", 0.0)
    begun = updates.begin(first)
    assert updates.closed == 1
    assert texts({k: v for k, v in begun.items() if not isinstance(k, gr.State)}) == {
        "box": "", "live": "begun text",
    }  # fmt: skip
