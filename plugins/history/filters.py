"""The boxes above the table, and the runs that they name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import gradio as gr

from dflash_app.errors import RequestError
from dflash_app.store.records import RunFilter
from dflash_app.ui.format import format_excerpt

from .table import MODES
from .words import texts

ALL = "all"
ENDS = ("stop", "length", "cancelled", "failed", "interrupted", "running")


@dataclass(frozen=True, slots=True)
class Filters:
    """The boxes; `inputs` is the order in which their values come."""

    text: gr.Textbox
    pair: gr.Dropdown
    mode: gr.Dropdown
    end: gr.Dropdown
    backend: gr.Dropdown
    source: gr.Dropdown
    task: gr.Dropdown
    since: gr.Textbox
    until: gr.Textbox

    @property
    def inputs(self) -> list[Any]:
        texts_and_fixed = [self.text, self.pair, self.mode, self.end]
        return [*texts_and_fixed, *self.growing[1:], self.since, self.until]

    @property
    def growing(self) -> list[gr.Dropdown]:
        """Boxes that offer what occurs in the log."""
        return [self.pair, self.backend, self.source, self.task]

    def offer(self, choices: Mapping[str, Sequence[str]]) -> dict[Any, Any]:
        """Let the boxes offer what occurs; see `store.overview.Overview.choices`."""
        boxes = zip(("pair", "backend", "source", "task"), self.growing, strict=True)
        every = (texts.say("all"), ALL)
        return {
            box: gr.Dropdown([every, *((each, each) for each in choices[column])])
            for column, box in boxes
        }


def build_filters() -> Filters:
    """Build the boxes: what is used most in a row, the others folded below."""
    box: dict[str, Any] = {"value": ALL, "interactive": True, "min_width": 110}
    every = (texts.label("all"), ALL)
    modes = [every, ("DFlash", "dflash"), ("AR", "ar")]
    ends = [every, *((texts.label(f"end_{end}"), end) for end in ENDS)]

    def growing(name: str) -> gr.Dropdown:
        # A value that no run has any more, such as a deleted one's pair, is no error.
        label = texts.label(f"filter_{name}")
        return gr.Dropdown(
            [every], label=label, allow_custom_value=True, elem_id=f"history-{name}", **box
        )

    with gr.Row(elem_classes="model-bar"):
        text = gr.Textbox(
            label=texts.label("filter_text"), max_lines=1, min_width=180, scale=2,
            elem_id="history-text",
        )  # fmt: skip
        pair = growing("pair")
        mode = gr.Dropdown(modes, label=texts.label("filter_mode"), elem_id="history-mode", **box)
        end = gr.Dropdown(ends, label=texts.label("filter_end"), elem_id="history-end", **box)
    with (
        gr.Accordion(texts.label("more_filters"), open=False, elem_id="history-more"),
        gr.Row(elem_classes="model-bar"),
    ):
        others = [growing(name) for name in ("backend", "source", "task")]
        days = [
            gr.Textbox(
                label=texts.label(f"filter_{name}"), placeholder=texts.label("day_hint"),
                max_lines=1, min_width=130, elem_id=f"history-{name}",
            )
            for name in ("since", "until")
        ]  # fmt: skip
    return Filters(text, pair, mode, end, *others, *days)


def read_filters(values: Sequence[Any], owner: str | None) -> RunFilter:
    """The runs that the boxes name.

    Args:
        values: of `Filters.inputs`.
        owner: whose runs may be seen; None = all.

    Raises:
        RequestError: a day that is none.
    """
    text, pair, mode, end, backend, source, task, since, until = values
    last = _day(until)
    return RunFilter(
        pair=_one(pair), mode=_one(mode), finish_reason=_one(end), backend=_one(backend),
        source=_one(source), task=_one(task), text=(text or "").strip() or None,
        since=_day(since), until=last + timedelta(days=1) if last else None, owner=owner,
    )  # fmt: skip


def say_filters(filters: RunFilter) -> str:
    """The filters in words, for a question or a file that is about the runs they name."""
    said = []
    if filters.text is not None:
        said.append(texts.say("text_contains", text=format_excerpt(filters.text, 60)))
    last = None if filters.until is None else filters.until - timedelta(days=1)
    told = {
        "pair": filters.pair,
        "mode": filters.mode and MODES.get(filters.mode, filters.mode),
        "end": filters.finish_reason and texts.say(f"end_{filters.finish_reason}"),
        "backend": filters.backend,
        "source": filters.source,
        "task": filters.task,
        "since": filters.since and f"{filters.since:%Y-%m-%d}",
        "until": last and f"{last:%Y-%m-%d}",
    }
    said += [f"{texts.say(f'filter_{name}')}: {value}" for name, value in told.items() if value]
    return ", ".join(said) or texts.say("no_filter")


def _one(value: object) -> str | None:
    return None if value in (None, "", ALL) else str(value)


def _day(text: str | None) -> datetime | None:
    """Midnight at a day's begin in this machine's zone, in which the table tells times."""
    if not text or not text.strip():
        return None
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").astimezone()
    except (ValueError, OverflowError) as error:
        raise RequestError(texts.say("no_day", text=text.strip()[:40])) from error
