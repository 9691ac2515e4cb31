"""What can be done to one reply that stands in the log: links at the end of the line below it."""

from pathlib import Path

from dflash_app.store.chat_records import Turn
from dflash_app.ui.format import escape_html
from dflash_app.ui.language import Texts

_texts = Texts.load("acts", Path(__file__).with_name("texts") / "acts.yaml")

RUN_LINK = "#run-{run_id}"
"""Address of a run; the Microscope, where it is installed, follows it (and shows `run-link`s)."""

REMOVE_JS = """
let asked = null;
document.addEventListener('click', (event) => {
    const link = event.target.closest('#chat-log small.foot a.remove-turn');
    if (asked && asked !== link) {
        asked.textContent = asked.said;
        asked = null;
    }
    if (!link) { return; }
    event.preventDefault();
    if (link === asked) {
        trigger('select', {value: decodeURIComponent(link.hash.slice(1))});
        return;
    }
    asked = link;
    link.said = link.textContent;
    link.textContent = link.title;
});
"""
"""The first click asks, the second tells the server which question is to go.

Only a click in a line of ours counts: a message may hold links, but neither tags nor classes.
"""


def render_run_link(run_id: int) -> str:
    """A link to a run in the Microscope, seen where something follows it."""
    href = RUN_LINK.format(run_id=run_id)
    return f'<a class="run-link" href="{href}">{escape_html(_texts.say("steps"))}</a>'


def render_acts(reply: Turn) -> str:
    """The links below a reply: to its run where that was recorded, and to take it away.

    Args:
        reply: its `created_at` is its question's.
    """
    asked_at = escape_html(reply.created_at.isoformat())
    remove, ask = (escape_html(_texts.say(key)) for key in ("remove", "ask_remove"))
    links = [f'<a class="remove-turn" href="#{asked_at}" title="{ask}">{remove}</a>']
    if reply.figures is not None and reply.run_id is not None:
        links.insert(0, render_run_link(reply.run_id))
    return " ".join(links)
