"""The flow of one answer, as the chat tab plays it: begin, look after look, end."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError, RequestError
from dflash_app.events import DecodeEvent
from dflash_app.request import Message
from dflash_app.spaces.public import check_limits
from dflash_app.ui.chat_bubbles import bubbles_of, growing_bubbles
from dflash_app.ui.chat_cautions import cautions
from dflash_app.ui.chat_conversation import Conversation
from dflash_app.ui.chat_reply import Reply, render_panel
from dflash_app.ui.chat_widgets import ChatWidgets
from dflash_app.ui.components import render_notice
from dflash_app.ui.flow import Update
from dflash_app.ui.format import well_formed
from dflash_app.ui.language import Texts
from dflash_app.ui.live import LiveRun
from dflash_app.ui.presets import template_of
from dflash_app.ui.run_view import RunView
from dflash_app.ui.sampling import build_request, saved_settings
from dflash_app.ui.shell import session_of

_texts = Texts.load("answer", Path(__file__).with_name("texts") / "answer.yaml")


def answer(
    tab: ChatWidgets,
    prompt: str,
    conversation: Conversation,
    browser: gr.Request,
    values: Sequence[Any],
    *,
    num_kept: int | None = None,
) -> Iterator[Update]:
    """Stream one reply. Whatever happens, the user's text is in the log or back in its box.

    Args:
        tab: where it is shown.
        prompt: the message.
        conversation: as the store has it now.
        browser: who asks.
        values: of `tab.settings`.
        num_kept: turns that the answer stands behind; None keeps all: the message is a new one,
            which was typed into the box.
    """
    typed = num_kept is None
    kept = conversation if num_kept is None else conversation.cut_to(num_kept)
    try:
        if conversation.under_way:
            raise RequestError(_texts.say("answered_elsewhere"))
        reply = _prepare(tab, prompt, kept, browser, values)
    except DFlashAppError as error:
        told = {tab.notice: render_notice(tab.page.told(error), "error")}
        back = (
            {tab.prompt: well_formed(prompt)}
            if typed
            else {tab.log: bubbles_of(conversation.turns)}
        )
        yield told | back
        return
    reply.replaced = conversation.turns[len(kept.turns) :]
    search, session = values[-1], session_of(browser)
    # Where the store cannot keep the question, the chat goes on without being kept.
    reply.ask(prompt, saved_settings(values[len(tab.page.bar.inputs) : -2]))
    told = {tab.notice: reply.render_notice()}
    run = reply.start(browser)
    tab.replies[session] = reply
    ended = False
    try:
        yield _beginning(tab, reply, search) | told | ({tab.prompt: ""} if typed else {})
        for events in run.looks():
            reply.view.add(events)
            reply.view.stopped = run.stopped
            if run.phase != "ended":
                yield _progress(tab, reply, run)
        update = _ending(tab, reply, run, search)
        ended = not run.dropped
        yield update
    finally:
        if reply.replaced and not ended and not reply.view.text:
            reply.give_back()
        if tab.replies.get(session) is reply:
            del tab.replies[session]


def _prepare(
    tab: ChatWidgets, prompt: str, kept: Conversation, browser: gr.Request, values: Sequence[Any]
) -> Reply:
    """The reply to be, checked.

    Raises:
        DFlashAppError: it cannot be asked for; says why.
    """
    num_bar = len(tab.page.bar.inputs)
    *sampling, colour, _ = values[num_bar:]
    choice = tab.page.read(values[:num_bar])
    messages = [*kept.messages, Message("user", prompt)]
    request = build_request(sampling, messages, choice.mode, choice.block_size)
    check_limits([request], tab.page.workspace.settings.public)  # before anything is replaced
    tab.page.check_ready(choice)
    pair = tab.page.workspace.registry.get(choice.pair)
    view = RunView(colour=bool(colour))
    told = cautions(pair, template_of(tab.page.workspace, pair), request)
    return Reply(tab.page, tab.keeper(browser), kept, choice, pair, request, view, told)


def _beginning(tab: ChatWidgets, reply: Reply, search: str) -> Update:
    conversation = reply.conversation
    return {
        tab.log: [*reply.before, *growing_bubbles("")],
        tab.turns: conversation,
        tab.stored: conversation.chat_id or "",
        tab.panel: reply.render_start(),
        **tab.side.show(reply.keeper, conversation, search),
    }


def _progress(tab: ChatWidgets, reply: Reply, run: LiveRun[DecodeEvent]) -> Update:
    if run.dropped:
        # An update that was under way when another conversation was shown may have undone that.
        return _left(tab, reply)
    shown = [*reply.before, *growing_bubbles(reply.view.text)]
    return {tab.log: shown, tab.panel: reply.render(run)}


def _ending(tab: ChatWidgets, reply: Reply, run: LiveRun[DecodeEvent], search: str) -> Update:
    """The last update: keep the turn if it has a reply, else give the text back."""
    if run.dropped:
        return _left(tab, reply)
    conversation, question = reply.ended(), reply.conversation.turns[-1]
    update = {
        tab.log: bubbles_of(conversation.turns),
        tab.turns: conversation,
        tab.panel: reply.render(run),
        tab.notice: reply.render_notice(run),
        **tab.side.show(reply.keeper, conversation, search),
    }
    if not reply.view.text and question.content not in [each.content for each in reply.replaced]:
        update[tab.prompt] = well_formed(question.content)
    return update


def _left(tab: ChatWidgets, reply: Reply) -> Update:
    """What the browser tab shows since its user left the conversation of this reply."""
    turns = reply.instead.turns if reply.instead else ()
    return {tab.log: bubbles_of(turns), tab.panel: render_panel()}
