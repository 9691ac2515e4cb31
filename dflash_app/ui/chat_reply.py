"""One reply from the first look to the last: what the chat tab shows of it and keeps of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from dflash_app.events import DecodeEvent
from dflash_app.metrics import RunMetrics
from dflash_app.registry.pair import Pair
from dflash_app.request import GenerationRequest
from dflash_app.store.chat_records import Turn
from dflash_app.ui.advice import hint_line
from dflash_app.ui.chat_bubbles import Bubble, bubbles_of
from dflash_app.ui.chat_cautions import context_caution
from dflash_app.ui.chat_conversation import Conversation, Keeper
from dflash_app.ui.choice import Choice
from dflash_app.ui.components import (
    render_cards,
    render_notice,
    render_parts,
    render_status,
    run_cards,
    run_status,
)
from dflash_app.ui.language import Texts
from dflash_app.ui.live import LiveRun
from dflash_app.ui.run_view import RunView
from dflash_app.ui.shell import Page
from dflash_app.ui.strip import render_empty_strip

_texts = Texts.load("reply", Path(__file__).with_name("texts") / "reply.yaml")

PLACE = "chat"


@dataclass(slots=True)
class Reply:
    """A reply that is asked for, written, or through.

    Attributes:
        page: loads and runs.
        keeper: of the conversations.
        conversation: what stands before the question; once it was asked, the question too.
        choice: pair, mode and how to load.
        pair: whose drafter is used.
        request: what the model is asked.
        view: the run as far as it has come.
        position: of the reply in the store; None where it is not kept.
        before: the bubbles of the conversation, the question's last.
        instead: what the browser tab shows by now, where the user has left this conversation.
        replaced: the turns in whose place the question stands; they come back where no text does.
    """

    page: Page
    keeper: Keeper
    conversation: Conversation
    choice: Choice
    pair: Pair
    request: GenerationRequest
    view: RunView
    position: int | None = None
    before: list[Bubble] = field(default_factory=list)
    instead: Conversation | None = None
    replaced: tuple[Turn, ...] = ()

    def ask(self, prompt: str, settings: dict[str, object]) -> None:
        """Put the question behind the conversation, in the store too.

        Raises:
            StoreError: it is not kept; the question stands in the conversation all the same.
        """
        before, self.conversation = self.conversation, self.conversation.asked(prompt)
        try:
            self.conversation, self.position = self.keeper.begin_reply(before, prompt, settings)
        finally:
            self.before = bubbles_of(self.conversation.turns)

    def start(self, browser: gr.Request) -> LiveRun[DecodeEvent]:
        """Load what was chosen and decode, in the reader's thread."""
        owner = self.keeper.owner

        def decode() -> Iterator[DecodeEvent]:
            page, view = self.page, self.view
            loaded = page.load(self.choice)
            view.know(loaded, self.request)
            view.ar_tok_s = page.ar_speed(loaded)
            return page.workspace.run(
                loaded, self.request, source=PLACE, owner=owner, began=self._begin
            )

        return self.page.start(browser, PLACE, decode)

    def _begin(self, run_id: int) -> None:
        self.view.run_id = run_id
        if self.position is not None:
            self.keeper.link(self.conversation, self.position, run_id)

    def render_start(self) -> str:
        """The panel before the first look."""
        return render_panel(render_status(run_status("loading", None), busy=True))

    def render(self, run: LiveRun[DecodeEvent]) -> str:
        """The panel beside the conversation."""
        view, busy = self.view, run.phase != "ended"
        failed = not busy and is_failed(run)
        said = run_status(
            run.phase,
            view.finished,
            stopped=run.stopped and not failed,
            num_before=run.num_before,
        )
        status = render_status(said + (view.circumstances() if view.finished else ""), busy=busy)
        metrics = view.metrics()
        cards = render_cards(run_cards(metrics, view.ar_tok_s, self.choice.mode))
        return render_panel(status, cards, view.render_strip(), self._render_notes(metrics))

    def ended(self) -> Conversation:
        """The conversation with what came, or as it was before where nothing came."""
        if self.view.text:
            return self.conversation.answered(self.view, pair=self.pair.name, mode=self.choice.mode)
        if self.replaced:
            return self.give_back()
        return self.keeper.forget(self.conversation, len(self.conversation.turns) - 1)

    def give_back(self) -> Conversation:
        """The conversation as it was before an edit or a retry that has brought no text."""
        before = self.conversation.cut_to(len(self.conversation.turns) - 1)
        return self.keeper.put_back(before, self.replaced)

    def render_notice(self, run: LiveRun[DecodeEvent]) -> str:
        """What to tell beside a reply that is through."""
        if is_failed(run):
            return render_notice(str(run.error or _texts.say("broken")), "error")
        told, run_id = self.view.hints(), self.view.run_id
        if run_id is not None and self.view.finished and self.choice.mode == "dflash":
            told = " ".join(filter(None, [told, hint_line(self.page.workspace, run_id)]))
        return render_notice(told)

    def _render_notes(self, metrics: RunMetrics) -> str:
        num_tokens = (metrics.num_prompt_tokens or 0) + metrics.num_output_tokens
        caution = context_caution(self.pair, self.choice.mode, num_tokens)
        return self.view.render_notes() + render_notice(caution, "warning")


def is_failed(run: LiveRun[DecodeEvent]) -> bool:
    """Whether a run that is through broke off by an error."""
    return run.error is not None or run.broken


def render_panel(
    status: str | None = None, cards: str | None = None, strip: str | None = None, notes: str = ""
) -> str:
    """The figures, where the run is, the strip, what was told; by default as before any run."""
    return render_parts(
        {
            "chat-cards": cards or render_cards(run_cards(RunMetrics(), None, "dflash")),
            "chat-status": status or render_status(""),
            "chat-notes": notes,
            "chat-strip": render_empty_strip() if strip is None else strip,
        }
    )
