"""The benchmark that goes on, as inert HTML: how far it is, and the medians so far."""

from collections.abc import Mapping, Sequence
from statistics import median

from dflash_app.store.benchmark_records import Measured
from dflash_app.ui.components import render_notice, render_parts, render_status, run_status
from dflash_app.ui.format import (
    escape_html,
    format_count,
    format_decimal,
    format_ratio,
    format_speed,
)

from .background import Standing
from .cells import Cell, cells
from .counts import Counts, say_counts
from .plan import Plan
from .progress import Progress
from .words import say, say_remark, texts

_HEADS = ("method", "prompts", "median_speed", "median_speedup", "median_acceptance")
_Prompt = tuple[str, int, int]


def render_nothing() -> str:
    """The panel before anything was started."""
    return render_parts({"bench-status": render_status(""), "bench-medians": ""})


def render_going(
    standing: Standing,
    plan: Plan,
    counts: Counts,
    measured: Sequence[Measured],
    problem: str | None,
) -> str:
    """The panel.

    Args:
        standing: of the benchmark.
        plan: of it.
        counts: of what it asks.
        measured: its answers so far.
        problem: why it ended before its time, as who uses the page may read it.
    """
    shown = not standing.progress.finished  # then the report says it all
    told = escape_html(say_counts(counts, say_remark))
    return render_parts(
        {
            "bench-status": render_status(say_standing(standing), busy=standing.running),
            "bench-counts": f'<p class="hub-quiet">{told}</p>',
            "bench-bar": _bar(standing.progress) if shown else "",
            "bench-problems": _problems(standing, problem),
            "bench-medians": _medians(plan, standing.progress, measured) if shown else "",
        }
    )


def say_standing(standing: Standing) -> str:
    """Where it stands, in a line."""
    progress = standing.progress
    far = {
        "done": format_count(progress.num_done),
        "total": format_count(progress.num_prompts),
        "number": progress.benchmark_id,
    }
    if not standing.running:
        if progress.finished:
            return texts.say("finished", **far)
        return texts.say("stopped" if standing.stopped else "ended", **far)
    if standing.stopped:
        return texts.say("stopping", **far)
    if standing.num_before != 0:
        waiting = run_status("waiting", None, num_before=standing.num_before)
        return f"{texts.say('going', **far)} · {waiting}"
    if progress.cell is None:
        return texts.say("warming_up", **far)
    parts = [texts.say("going", **far)]
    if progress.left_s is not None:
        parts.append(texts.say("left", time=say_left(progress.left_s)))
    parts.append(f"{progress.cell.dataset}, {progress.cell.method.label}")
    return " · ".join(parts)


def say_left(seconds: float) -> str:
    """A rest of time as "0:42", "12:05" or "3:10:00"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(progress: Progress) -> str:
    share = 100 * progress.num_done // progress.num_prompts if progress.num_prompts else 0
    return (
        f'<div class="hub-bar active" role="progressbar" aria-label="{say("progress_label")}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share}">'
        f'<i style="width: {share}%"></i></div>'
    )


def _problems(standing: Standing, problem: str | None) -> str:
    """What went wrong, the newest of it."""
    progress = standing.progress
    if problem is not None:
        return render_notice(problem, "error")
    if not (standing.running or standing.stopped or progress.finished):
        return render_notice(texts.say("broken"), "error")
    if not progress.num_failed:
        return ""
    told = texts.say("failed", num_failed=format_count(progress.num_failed))
    return render_notice(told, "warning")


def _medians(plan: Plan, progress: Progress, measured: Sequence[Measured]) -> str:
    """A row for each method, of the data set and concurrency that are being asked."""
    by_cell: dict[str, list[Measured]] = {}
    for each in measured:
        by_cell.setdefault(each.asked.cell, []).append(each)
    if not by_cell:
        return ""
    shown = _beside(plan, progress, by_cell)
    plain = _speeds(by_cell.get(next((c.key for c in shown if c.method.key == "ar"), ""), ()))
    rows = "".join(_row(cell, by_cell.get(cell.key, ()), plain) for cell in shown)
    heads = "".join(
        f'<th scope="col"{" class=number" if index else ""}>{say(key)}</th>'
        for index, key in enumerate(_HEADS)
    )
    title = say("medians_title", dataset=shown[0].dataset, concurrency=shown[0].concurrency)
    return (
        f'<div class="bench-medians"><h3>{title}</h3><div class="runs-scroll" tabindex="0"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def _beside(plan: Plan, progress: Progress, by_cell: Mapping[str, object]) -> list[Cell]:
    """The cells that differ from the newest one in their method only."""
    grid = cells(plan)
    newest = progress.cell or next((cell for cell in grid if cell.key in by_cell), grid[0])
    place = newest.dataset, newest.concurrency
    return [cell for cell in grid if (cell.dataset, cell.concurrency) == place]


def _row(cell: Cell, found: Sequence[Measured], plain: Mapping[_Prompt, float]) -> str:
    speeds = _speeds(found)
    ratios = [speed / plain[prompt] for prompt, speed in speeds.items() if plain.get(prompt)]
    lengths = [each.mean_acceptance_length for each in found]
    told = (
        format_count(len(found)),
        format_speed(_median(list(speeds.values()))),
        format_ratio(None if cell.method.key == "ar" else _median(ratios)),
        format_decimal(_median([each for each in lengths if each is not None])),
    )
    drawn = "".join(f'<td class="number">{escape_html(each)}</td>' for each in told)
    return f'<tr><th scope="row">{escape_html(cell.method.label)}</th>{drawn}</tr>'


def _speeds(found: Sequence[Measured]) -> dict[_Prompt, float]:
    return {
        (each.asked.question_id, each.asked.repetition, each.asked.turn): each.decode_tok_s
        for each in found
        if each.decode_tok_s is not None
    }


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
