"""Published figures beside this machine's own, as tables with their sources."""

from collections.abc import Sequence

from dflash_app.ui.format import escape_html, format_decimal, format_ratio

from .published import Measured, Sheet
from .words import texts

_HEADS = ("task", "published_speedup", "measured_speedup", "published_length", "measured_length")


def render_sheets(sheets: Sequence[Sheet]) -> str:
    """A table for each pair; nothing where no pair has published figures."""
    return "".join(map(_render, sheets))


def _render(sheet: Sheet) -> str:
    heads = "".join(
        f'<th scope="col"{" class=number" if index else ""}>{_say(key)}</th>'
        for index, key in enumerate(_HEADS)
    )
    rows = "".join(
        _row(row.task, format_ratio(row.speedup), format_decimal(row.acceptance_length), own)
        for row, own in sheet.rows
    )
    every = _row(texts.say("your_prompts"), "", "", sheet.every)
    where = {True: "this_hardware", False: "other_hardware", None: "hardware_not_told"}[sheet.here]
    setup = escape_html(sheet.table.setup or texts.say("setup_not_told"))
    badge = f'<span class="badge {where.replace("_", "-")}">{_say(where)}</span>'
    return (
        f'<div class="run-detail runs-sheet"><h3>{escape_html(sheet.pair.title)} {badge}</h3>'
        f"<p>{_say('source_of_published')}: {escape_html(sheet.table.source)}. {setup}.</p>"
        f'<div class="runs-scroll" tabindex="0"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}{every}</tbody></table></div></div>"
    )


def _row(task: str, speedup: str, length: str, own: Measured) -> str:
    runs = texts.say("of_runs", num_runs=own.num_runs) if own.num_runs else ""
    cells = (speedup, format_ratio(own.speedup), length, format_decimal(own.acceptance_length))
    drawn = "".join(f'<td class="number">{escape_html(cell)}</td>' for cell in cells)
    note = f" <small>{escape_html(runs)}</small>" if runs else ""
    return f'<tr><th scope="row">{escape_html(task)}{note}</th>{drawn}</tr>'


def _say(key: str) -> str:
    return escape_html(texts.say(key))
