"""The Chat tab: a conversation with live figures and the strip of its last reply."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.events import DecodeEvent
from dflash_app.metrics import RunMetrics
from dflash_app.request import GenerationRequest, Message
from dflash_app.ui.choice import Choice
from dflash_app.ui.components import (
    render_cards,
    render_notice,
    render_parts,
    render_status,
    run_cards,
    run_status,
)
from dflash_app.ui.flow import Update, connect_flow
from dflash_app.ui.format import escape_markdown, well_formed
from dflash_app.ui.live import LiveRun
from dflash_app.ui.run_view import RunView
from dflash_app.ui.sampling import SamplingControls, build_request, build_sampling
from dflash_app.ui.shell import Page
from dflash_app.ui.strip import render_empty_strip

PLACE = "chat"

_WELCOME = (
    "### Ask something\nThe drafter proposes a block of tokens, the target checks all of them in "
    "one forward: same output, fewer steps."
)
_BROKEN = "The run broke off by an error of the app itself; the terminal shows it. Try again."


@dataclass(frozen=True, slots=True)
class ChatTab:
    """The tab's widgets and the page they are on."""

    page: Page
    log: gr.Chatbot
    turns: gr.State
    prompt: gr.Textbox
    notice: gr.HTML
    panel: gr.HTML
    send: gr.Button
    stop: gr.Button
    retry: gr.Button
    clear: gr.Button
    sampling: SamplingControls

    @property
    def outputs(self) -> list[Any]:
        return [self.log, self.turns, self.prompt, self.notice, self.panel]

    @property
    def settings(self) -> list[Any]:
        return [*self.page.bar.inputs, *self.sampling.inputs]

    def on_send(
        self, prompt: str, turns: list[Message], request: gr.Request, *values: Any
    ) -> Iterator[Update]:
        """Answer what was typed."""
        yield from _reply(self, prompt or "", turns, request, values)

    def on_retry(self, turns: list[Message], request: gr.Request, *values: Any) -> Iterator[Update]:
        """Answer the last message again, with the settings as they are now."""
        last = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=None)
        if last is None:
            nothing = "There is nothing to retry yet: send a message first."
            yield {self.notice: render_notice(nothing)}
            return
        yield from _reply(self, turns[last].content, turns[:last], request, values)

    def on_stop(self, request: gr.Request) -> None:
        """Cancel within one step; the run's own updates, which may overtake us, say all of it."""
        self.page.stop(request, PLACE)

    def on_clear(self, request: gr.Request) -> Update:
        """Forget the conversation; the runs stay in the log."""
        self.page.drop(request, PLACE)
        return {
            self.log: [],
            self.turns: [],
            self.notice: "",
            self.panel: _render_panel(),
        }


def build(page: Page) -> None:
    """Build the tab."""
    turns = gr.State([])
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            log = gr.Chatbot(
                label="Conversation", show_label=False, height=430, elem_id="chat-log",
                placeholder=_WELCOME, buttons=["copy"], reasoning_tags=[("<think>", "</think>")],
                allow_tags=False, group_consecutive_messages=False,
            )  # fmt: skip
            notice = gr.HTML(elem_id="chat-notice")
            with gr.Row():
                prompt = gr.Textbox(
                    label="Message", show_label=False, placeholder="Message, Enter sends",
                    lines=1, max_lines=8, scale=8, min_width=180, container=False,
                    elem_id="chat-prompt",
                )  # fmt: skip
                send = gr.Button("Send", variant="primary", scale=1, min_width=86,
                                 elem_id="chat-send", elem_classes="while-idle")  # fmt: skip
                stop = gr.Button("Stop", variant="stop", scale=1, min_width=86,
                                 elem_id="chat-stop", elem_classes="while-busy")  # fmt: skip
            with gr.Row():
                retry = gr.Button("↻ Retry", size="sm", min_width=80, elem_id="chat-retry")
                clear = gr.Button("✕ Clear", size="sm", min_width=80, elem_id="chat-clear")
        with gr.Column(scale=2, min_width=320, elem_classes="side-panel"):
            panel = gr.HTML(_render_panel(), elem_id="chat-panel")
            with gr.Accordion("Sampling and limits", open=False, elem_id="chat-settings"):
                sampling = build_sampling("chat")
    _connect(ChatTab(page, log, turns, prompt, notice, panel, send, stop, retry, clear, sampling))


def _connect(tab: ChatTab) -> None:
    shown: dict[str, Any] = {
        "state": gr.State(None),
        "outputs": tab.outputs,
        "live": [tab.log, tab.panel],
    }
    asked = [tab.prompt, tab.turns, *tab.settings]
    connect_flow([tab.prompt.submit, tab.send.click], tab.on_send, inputs=asked, **shown)
    connect_flow([tab.retry.click], tab.on_retry, inputs=asked[1:], **shown)
    tab.stop.click(tab.on_stop, queue=False, show_progress="hidden", api_visibility="private")
    gr.on(
        [tab.clear.click, tab.log.clear],
        tab.on_clear, outputs=tab.outputs, show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip


def _reply(
    tab: ChatTab, prompt: str, turns: list[Message], gradio_request: gr.Request, values: Any
) -> Iterator[Update]:
    """Stream one reply. Whatever happens, the user's text is in the log or back in its box."""
    num_bar = len(tab.page.bar.inputs)
    try:
        choice = tab.page.read(values[:num_bar])
        asked = [*turns, Message("user", prompt)]
        request = build_request(values[num_bar:], asked, choice.mode, choice.block_size)
        tab.page.check_ready(choice)
    except DFlashAppError as error:
        yield {tab.notice: render_notice(str(error), "error"), tab.prompt: well_formed(prompt)}
        return
    view = RunView()
    run = tab.page.start(gradio_request, PLACE, lambda: _decode(tab.page, choice, request, view))
    yield {
        tab.log: _bubbles(asked, ""),
        tab.prompt: "",
        tab.notice: "",
        tab.panel: _render_panel(render_status(run_status("loading", None), busy=True)),
    }
    for events in run.looks():
        view.add(events)
        if run.phase != "ended":
            yield _progress(tab, asked, choice, run, view)
    yield _ending(tab, asked, choice, run, view)


def _decode(
    page: Page, choice: Choice, request: GenerationRequest, view: RunView
) -> Iterator[DecodeEvent]:
    """Load what was chosen and decode, in the reader's thread."""
    loaded = page.load(choice)
    view.know(loaded, request)
    view.ar_tok_s = page.ar_speed(loaded)
    return page.workspace.run(loaded, request, source=PLACE)


def _progress(
    tab: ChatTab, asked: list[Message], choice: Choice, run: LiveRun[DecodeEvent], view: RunView
) -> Update:
    failed = run.phase == "ended" and (run.error is not None or run.broken)
    status = run_status(run.phase, view.finished, stopped=run.stopped and not failed)
    circumstances = view.circumstances() if view.finished else ""
    shown = render_status(status + circumstances, busy=run.phase != "ended")
    if run.dropped:
        # An update that was under way when the log was cleared may have filled it again.
        return {tab.log: [], tab.panel: _render_panel(shown)}
    cards = render_cards(run_cards(view.metrics(), view.ar_tok_s, choice.mode))
    return {
        tab.log: _bubbles(asked, view.text),
        tab.panel: _render_panel(shown, cards, view.render_strip(), view.render_notes()),
    }


def _ending(
    tab: ChatTab, asked: list[Message], choice: Choice, run: LiveRun[DecodeEvent], view: RunView
) -> Update:
    """The last update: keep the turn if it has a reply, else give the text back."""
    if run.dropped:
        return {tab.log: [], tab.panel: _render_panel()}
    update = _progress(tab, asked, choice, run, view)
    kept = [*asked, Message("assistant", view.text)] if view.text else asked[:-1]
    update |= {tab.log: _bubbles(kept), tab.turns: kept}
    if not view.text:
        update[tab.prompt] = well_formed(asked[-1].content)
    if run.error is not None or run.broken:
        update[tab.notice] = render_notice(str(run.error or _BROKEN), "error")
    else:
        update[tab.notice] = render_notice(view.hints())
    return update


def _render_panel(
    status: str | None = None, cards: str | None = None, strip: str = "", notes: str = ""
) -> str:
    """The figures, where the run is, the strip, what was told; by default as before any run."""
    return render_parts(
        {
            "chat-cards": cards or render_cards(run_cards(RunMetrics(), None, "dflash")),
            "chat-status": status or render_status(""),
            "chat-notes": notes,
            "chat-strip": strip or render_empty_strip(),
        }
    )


def _bubbles(turns: list[Message], growing: str | None = None) -> list[dict[str, str]]:
    """The conversation as the chatbot takes it; `growing` is the reply that is being written."""
    shown = [{"role": turn.role, "content": escape_markdown(turn.content)} for turn in turns]
    if growing is not None:
        shown.append({"role": "assistant", "content": escape_markdown(growing) or "…"})
    return shown
