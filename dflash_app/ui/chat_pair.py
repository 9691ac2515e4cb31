"""The pair that wrote a conversation comes back into the model bar with it."""

import json
import time
from collections.abc import Sequence
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.hub.choices import keys_of, resolve
from dflash_app.store.chat_records import ReplyFigures, Turn
from dflash_app.ui.choice import AUTO, NO_DRAFTER, Choice, read_choice
from dflash_app.ui.model_bar import BAR_EVENT, drafter_choices, refresh_model_bar
from dflash_app.ui.pair_facts import find_pair
from dflash_app.ui.shell import Page

_CHOOSE_JS = """(told, ...chosen) => {
    const {before, wanted} = JSON.parse(told);
    return before.every((value, index) => value === chosen[index]) ? wanted : chosen;
}"""
"""In the browser, between two events of its own: what was chosen since the page asked stays."""


def last_figures(turns: Sequence[Turn]) -> ReplyFigures | None:
    """Those of the last reply that has any: they say which pair wrote it, and how."""
    return next((turn.figures for turn in reversed(turns) if turn.figures), None)


def ask_back(page: Page, figures: ReplyFigures, values: Sequence[Any]) -> str | None:
    """What the box of `connect_pair_back` must become for the bar to choose a reply's pair.

    Args:
        page: its bar, and what it offers.
        figures: of the reply.
        values: of `bar.inputs`, as they stand.

    Returns:
        "" where the bar says that pair already; None where the page cannot choose it.
    """
    now = _read(page, values)
    if now is not None and (now.pair, now.mode) == (figures.pair, figures.mode):
        return ""
    wanted = _find(page, figures)
    if wanted is None:
        return None
    # The time lets the box change where the same is asked for again.
    return json.dumps({"before": values[:3], "wanted": wanted, "at": time.monotonic_ns()})


def connect_pair_back(page: Page, asked: gr.Textbox) -> None:
    """Let the bar choose what `ask_back` has put into a box that nobody sees."""
    bar, workspace = page.bar, page.workspace

    def follow(*values: Any) -> dict[Any, Any]:
        return refresh_model_bar(bar, workspace, values)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    chosen = bar.inputs[:3]
    asked.change(None, [asked, *chosen], chosen, js=_CHOOSE_JS, **quiet).then(
        follow, bar.inputs, [bar.pair, *bar.follows_pair], **BAR_EVENT
    )


def _read(page: Page, values: Sequence[Any]) -> Choice | None:
    try:
        return page.read(values)
    except DFlashAppError:
        return None  # a pair that is gone, or a block size that is none


def _find(page: Page, figures: ReplyFigures) -> list[str] | None:
    """Pair, drafter and block size for the bar; None where it has not got them."""
    workspace = page.workspace
    pair = find_pair(workspace, figures.pair)
    if pair is None:
        return None
    rows = [each.name for each in workspace.pairs()]
    row = pair if pair.name in rows else resolve(workspace.registry, keys_of(pair)[0], None)
    drafter = NO_DRAFTER if figures.mode == "ar" else pair.name
    offered = [value for _, value in drafter_choices(workspace, row.name)]
    wanted = [row.name, drafter, AUTO]
    try:
        page.check_ready(read_choice([*wanted, AUTO, AUTO, AUTO]))
    except DFlashAppError:
        return None
    return wanted if drafter in offered else None
