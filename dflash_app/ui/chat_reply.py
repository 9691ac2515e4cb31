"""One reply from the first look to the last: what the chat tab shows of it and keeps of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import gradio as gr

from dflash_app.errors import StoreError
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
    Level,
    render_cards,
    render_notice,
    render_notices,
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
        cautions: where the drafter is known to lose, told before the reply and beside it.
        not_kept: why the store has refused the question; None where it is kept.
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
    cautions: Sequence[str] = ()
    not_kept: StoreError | None = None
    before: list[Bubble] = field(default_factory=list)
    instead: Conversation | None = None
    replaced: tuple[Turn, ...] = ()

    def ask(self, prompt: str, settings: dict[str, object]) -> None:
        """Put the question behind the conversation, in the store too.

        Where it is not kept, which `not_kept` tells, it stands in the conversation all the same.
        """
        asked = self.conversation.asked(prompt)
        try:
            self.conversation = self.keeper.begin_reply(asked, settings)
        except StoreError as error:
            self.not_kept = error
            self.conversation = replace(asked, num_unkept=asked.num_unkept + 1)
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
        self.keeper.link(self.conversation, run_id)

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
            loading_s=run.loading_s,
        )
        status = render_status(said + (view.circumstances() if view.finished else ""), busy=busy)
        metrics = view.metrics()
        cards = render_cards(run_cards(metrics, view.ar_tok_s, self.choice.mode))
        return render_panel(status, cards, view.render_strip(), self._render_notes(metrics))

    def ended(self) -> Conversation:
        """The conversation with what came, or as it was before where nothing came."""
        if not self.view.text:
            return self.give_back()
        answered = self.conversation.answered(self.view, pair=self.pair.name, mode=self.choice.mode)
        settled = self.keeper.settle(answered)
        if not settled.num_unkept:
            self.not_kept = None
        return settled

    def give_back(self) -> Conversation:
        """The conversation as it was before a question, an edit or a retry that brought no text."""
        asked = len(self.conversation.turns) - 1
        try:
            return self.keeper.withdraw(self.conversation, asked, self.replaced)
        except StoreError:
            return self.conversation.without(asked, self.replaced)

    def render_notice(self, run: LiveRun[DecodeEvent] | None = None) -> str:
        """What to tell beside a reply.

        Args:
            run: that is through; None before it begins.
        """
        notices: list[tuple[str, Level]] = []
        if run is not None and is_failed(run):
            notices.append((str(run.error or _texts.say("broken")), "error"))
        elif run is not None:
            notices.append((self._hints(), "info"))
        if self.not_kept is not None:
            said = _texts.say("not_kept", reason=self.page.told(self.not_kept))
            notices.append((said, "warning"))
        notices += [(each, "warning") for each in self.cautions]
        return render_notices(notices)

    def _hints(self) -> str:
        told, run_id = self.view.hints(), self.view.run_id
        if run_id is not None and self.view.finished and self.choice.mode == "dflash":
            told = " ".join(filter(None, [told, hint_line(self.page.workspace, run_id)]))
        return told

    def _render_notes(self, metrics: RunMetrics) -> str:
        caution = context_caution(self.pair, self.choice.mode, metrics.num_context_tokens)
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
