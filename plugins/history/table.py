"""The table of runs: one page of it, in an order, with marks for what is chosen."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dflash_app.store.records import RunRecord
from dflash_app.ui.format import (
    UNKNOWN,
    escape_html,
    format_count,
    format_decimal,
    format_excerpt,
    format_when,
)

from .words import texts

PAGE_ROWS = 50
MODES = {"ar": "AR", "dflash": "DFlash"}
NUMBERS = ("speed", "acceptance", "tokens")
COLUMNS = ("started", "pair", "mode", *NUMBERS, "end")
"""What one can sort by, in the order of the columns; keys of `store.overview.ORDERS`."""


@dataclass(frozen=True, slots=True)
class Looking:
    """What a browser tab looks at.

    Attributes:
        order: a key of `store.overview.ORDERS`.
        descending: the largest first.
        page: from 0.
        total: runs that the filters named when they were counted.
        chosen: numbers of the runs whose boxes are ticked, on this page or another.
        run_id: of the run that is shown in full.
    """

    order: str = "started"
    descending: bool = True
    page: int = 0
    total: int = 0
    chosen: tuple[int, ...] = ()
    run_id: int | None = None


def num_pages(total: int) -> int:
    """At least one."""
    return max(1, -(-total // PAGE_ROWS))


def render_table(runs: Sequence[RunRecord], looking: Looking, total: int) -> str:
    """One page of the table; buttons and boxes say in `data-` what `ACT_JS` tells the server."""
    if not runs:
        return ""
    head = "".join(_head(column, looking) for column in COLUMNS)
    rows = "".join(_row(run, looking) for run in runs)
    all_boxes = f'<input type="checkbox" data-all aria-label="{_say("choose_page")}">'
    return (
        '<div class="runs-scroll"><table class="runs-table"><thead><tr>'
        f'<th scope="col" class="mark">{all_boxes}</th><th scope="col">{_say("col_id")}</th>{head}'
        f'<th scope="col">{_say("col_prompt")}</th></tr></thead><tbody>{rows}</tbody></table></div>'
        + _pager(looking.page, total)
    )


ACT_JS = """
const boxes = () => [...element.querySelectorAll('input[data-mark]')];
const tell = (value) => trigger('select', {value});
element.addEventListener('click', (event) => {
    if (event.target.closest('.mark')) { return; }
    const button = event.target.closest('[data-sort], [data-page]');
    const row = event.target.closest('[data-run]');
    if (button) {
        tell(button.dataset.sort ? {sort: button.dataset.sort} : {page: +button.dataset.page});
    } else if (row) {
        element.querySelector('[aria-current]')?.removeAttribute('aria-current');
        row.setAttribute('aria-current', 'true');
        tell({open: +row.dataset.run});
    }
});
element.addEventListener('change', (event) => {
    if (event.target.matches('[data-all]')) {
        boxes().forEach((box) => { box.checked = event.target.checked; });
    }
    const ids = (those) => those.map((box) => +box.dataset.mark);
    tell({of: ids(boxes()), marked: ids(boxes().filter((box) => box.checked))});
});
watch('value', () => {
    element.querySelectorAll('input').forEach((box) => { box.checked = box.defaultChecked; });
});
"""
"""A click sorts, turns the page or opens a run; a box adds its run to those that are chosen.

Gradio takes the boxes of one page over into the next with what was ticked in them by hand.
"""


def _head(column: str, looking: Looking) -> str:
    sorted_by = column == looking.order
    direction = "descending" if looking.descending else "ascending"
    aria = f' aria-sort="{direction}"' if sorted_by else ""
    arrow = (" ↓" if looking.descending else " ↑") if sorted_by else ""
    kind = ' class="number"' if column in NUMBERS else ""
    button = f'<button type="button" data-sort="{column}">{_say(f"col_{column}")}{arrow}</button>'
    return f'<th scope="col"{aria}{kind}>{button}</th>'


def _row(run: RunRecord, looking: Looking) -> str:
    metrics = run.metrics
    speed = metrics.decode_tok_s
    cells = (
        str(run.id),
        format_when(run.start.started_at),
        run.start.pair,
        _say_mode(run),
        UNKNOWN if speed is None else f"{speed:,.1f}",
        _say_acceptance(run),
        format_count(metrics.num_output_tokens),
        say_end(run),
    )
    drawn = "".join(
        f'<td class="number">{escape_html(cell)}</td>'
        if column in NUMBERS
        else f"<td>{escape_html(cell)}</td>"
        for column, cell in zip(("id", *COLUMNS), cells, strict=True)
    )
    label = escape_html(texts.say("choose_run", run_id=run.id))
    box = f'<input type="checkbox" data-mark="{run.id}" aria-label="{label}"'
    box += " checked>" if run.id in looking.chosen else ">"
    prompt = escape_html(format_excerpt(run.start.prompt, 90)) or UNKNOWN
    shown = ' aria-current="true"' if run.id == looking.run_id else ""
    return (
        f'<tr data-run="{run.id}"{shown}><td class="mark">{box}</td>{drawn}'
        f'<td class="prompt"><button type="button">{prompt}</button></td></tr>'
    )


def _say_mode(run: RunRecord) -> str:
    mode = MODES.get(run.start.mode, run.start.mode)
    return texts.say("mode_on_server", mode=mode) if run.start.on_server else mode


def _say_acceptance(run: RunRecord) -> str:
    length = format_decimal(run.metrics.mean_acceptance_length)
    shared = run.metrics.acceptance_shared
    return texts.say("acceptance_shared", length=length) if shared else length


def say_end(run: RunRecord) -> str:
    """How a run ended, in a word."""
    return texts.say(f"end_{run.finish_reason or 'running'}")


def say_chosen(chosen: Collection[int]) -> str:
    """How many boxes are ticked, and what for."""
    if not chosen:
        return texts.say("choose_hint")
    return texts.say("chosen", num_runs=len(chosen))


def _pager(page: int, total: int) -> str:
    last = num_pages(total) - 1
    first_row = page * PAGE_ROWS + 1
    range_told = texts.say(
        "range" if total > 1 else "range_one",
        first=format_count(first_row),
        last=format_count(min(total, first_row + PAGE_ROWS - 1)),
        total=format_count(total),
    )
    buttons = "".join(
        f'<button type="button" data-page="{to}" aria-label="{_say(f"page_{name}")}"'
        f'{" disabled" if to == page or not 0 <= to <= last else ""}>{sign}</button>'
        for name, sign, to in (
            ("first", "«", 0), ("previous", "‹", page - 1), ("next", "›", page + 1),
            ("last", "»", last),
        )
    )  # fmt: skip
    return f'<div class="runs-pager"><span>{escape_html(range_told)}</span>{buttons}</div>'


def _say(key: str) -> str:
    return escape_html(texts.say(key))
