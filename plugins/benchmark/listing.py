"""The list of earlier benchmarks as inert HTML, whose buttons say what to do with which."""

from collections.abc import Sequence

from dflash_app.errors import RequestError
from dflash_app.store.benchmark_records import BenchmarkRecord
from dflash_app.ui.format import escape_html, format_count, format_when

from .cells import methods
from .counts import counts_of, say_counts
from .plan import read_plan
from .words import say, say_remark, texts

MAX_LISTED = 50
ACTS = ("open", "resume", "delete")

_HEADS = ("number", "created", "pair", "datasets_head", "methods", "answered", "state")


def render_list(records: Sequence[BenchmarkRecord], opened: int | None, *, may_delete: bool) -> str:
    """The table.

    Args:
        records: the newest first; one more than `MAX_LISTED` says that there are others.
        opened: number of the one that is shown below.
        may_delete: whether who asks may delete.
    """
    if not records:
        return f'<p class="servers-empty">{say("none_yet")}</p>'
    heads = "".join(f'<th scope="col">{say(key)}</th>' for key in _HEADS)
    rows = "".join(_row(each, opened, may_delete=may_delete) for each in records[:MAX_LISTED])
    more = f'<p class="hub-quiet">{say("more")}</p>' if len(records) > MAX_LISTED else ""
    return (
        f'<div class="runs-scroll bench-list" tabindex="0"><table aria-label="{say("earlier")}">'
        f'<thead><tr>{heads}<th scope="col"><span class="bench-hidden">{say("acts")}</span></th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>{more}"
    )


ACT_JS = """
element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-act]');
    if (button) {
        const row = button.closest('[data-benchmark]');
        if (button.dataset.act === 'open') {
            element.querySelector('[aria-current]')?.removeAttribute('aria-current');
            row.setAttribute('aria-current', 'true');
        }
        trigger('select', {value: {act: button.dataset.act, benchmark: +row.dataset.benchmark}});
    }
});
"""
"""A row's buttons tell the server what to do with which benchmark."""


def state_of(record: BenchmarkRecord) -> str:
    """A word that is also the badge's class: "running", "finished", "unfinished"."""
    return "running" if record.running else "finished" if record.finished_at else "unfinished"


def say_choice(record: BenchmarkRecord) -> str:
    """One line by which a benchmark is chosen."""
    number, created, pair, sets, *_ = _cells(record)
    return f"{number}: {pair}, {sets} ({created})"


def _row(record: BenchmarkRecord, opened: int | None, *, may_delete: bool) -> str:
    state = state_of(record)
    drawn = "".join(f"<td>{escape_html(cell)}</td>" for cell in _cells(record))
    badge = f'<td><span class="badge {state}">{say(f"state_{state}")}</span></td>'
    can = {
        "open": record.num_answered > 0,
        "resume": state == "unfinished",
        "delete": may_delete and state != "running",
    }
    buttons = "".join(_button(act, record.id) for act in ACTS if can[act])
    current = ' aria-current="true"' if record.id == opened else ""
    return (
        f'<tr data-benchmark="{record.id}"{current}>{drawn}{badge}'
        f'<td class="server-acts">{buttons}</td></tr>'
    )


def _cells(record: BenchmarkRecord) -> tuple[str, ...]:
    number, created = str(record.id), format_when(record.created_at)[:16]
    done = format_count(record.num_answered)
    try:
        plan = read_plan(record.plan)
    except RequestError as error:  # another version's: the others can still be read
        return number, created, "", str(error), "", done
    counts = counts_of(record, plan)
    total = format_count(counts.num_prompts)
    told = texts.say("answered_of", done=done, total=total)
    if record.running:  # the list is not drawn anew at every answer
        told = texts.say("of_total", total=total)
    told = texts.say("answered_counts", answered=told, counts=say_counts(counts, say_remark))
    return (
        number,
        created,
        plan.pair,
        ", ".join(plan.datasets),
        ", ".join(method.label for method in methods(plan)),
        told,
    )


def _button(act: str, number: int) -> str:
    label = say(f"{act}_named", number=number)
    return f'<button type="button" data-act="{act}" aria-label="{label}">{say(act)}</button>'
