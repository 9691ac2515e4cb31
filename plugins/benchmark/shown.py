"""A report as inert HTML: figures, published beside measured, on what and how it was measured."""

from collections.abc import Callable, Mapping, Sequence

from dflash_app.ui.components import Card, render_cards, render_notice
from dflash_app.ui.format import (
    UNKNOWN,
    escape_html,
    format_count,
    format_decimal,
    format_duration,
    format_percent,
    format_ratio,
    format_speed,
    format_when,
)

from .counts import say_counts
from .plan import Plan
from .published import Beside
from .report import Line, Report, say_hardware, taken
from .words import say, say_remark, texts

_Columns = Mapping[str, Callable[[Line], str]]
"""How each column, by the key of its head, writes a line."""

_NUMBERS = {
    "concurrency_head", "speedup", "quartiles", "decoding", "end_to_end", "acceptance", "ttft",
    "tpot", "speedup_mean_tpot", "speedup_end_to_end", "speedup_there", "acceptance_there",
}  # fmt: skip


def render_report(report: Report) -> str:
    """Everything but the charts."""
    state = "finished" if report.finished_at else "unfinished"
    title = say("title", number=report.benchmark_id, pair=report.plan.pair)
    badge = f'<span class="badge {state}">{say(f"state_{state}")}</span>'
    notes = "".join(render_notice(say_remark(note)) for note in report.notes)
    return (
        f'<div class="run-detail bench-report"><h2>{title} {badge}</h2>{_headline(report.lines)}'
        f"{_table('figures', _columns(_FIGURES, report), report.lines)}"
        f"{_table('times', _columns(_TIMES, report), report.lines)}"
        f"{_published(report)}{notes}{_facts(report)}</div>"
    )


def say_plan(plan: Plan, num_questions: Mapping[str, int]) -> str:
    """What of a plan the figures depend on, in one line.

    Args:
        plan: of the benchmark.
        num_questions: that were taken, by data set.
    """
    sampling = texts.say("greedy")
    if plan.temperature:
        sampling = texts.say(
            "sampled",
            temperature=f"{plan.temperature:g}",
            top_p=f"{plan.top_p:g}",
            top_k=plan.top_k,
            seed=plan.seed,
        )
    asked = ", ".join(map(say_remark, taken(plan, num_questions)))
    options = {
        name: getattr(plan.options, name)
        for name in ("device", "dtype", "quantization", "drafter_quantization", "num_threads")
    }
    return texts.say(
        "settings_told",
        sampling=sampling,
        thinking=plan.thinking or texts.say("thinking_template"),
        tokens=format_count(plan.max_new_tokens),
        prompts=asked,
        repetitions=plan.repetitions,
        warm_up=plan.warm_up,
    ) + "".join(f", {name} {value}" for name, value in options.items() if value)


def _headline(lines: Sequence[Line]) -> str:
    """The figures of the only way of drafting, where there is one and one data set."""
    drafting = [line for line in lines if line.speedup is not None]
    if len(drafting) != 1:
        return ""
    (line,) = drafting
    low, high = line.speedup_quartiles or (None, None)
    spread = texts.say(
        "speedup_hint",
        low=format_ratio(low),
        high=format_ratio(high),
        num_pairs=format_count(line.num_pairs),
    )
    return render_cards(
        [
            Card(texts.say("speedup"), format_ratio(line.speedup), spread, main=True),
            Card(
                texts.say("decoding"), format_speed(line.decode_tok_s), texts.say("decoding_hint")
            ),
            Card(
                texts.say("end_to_end"),
                format_speed(line.end_to_end_tok_s),
                texts.say("end_to_end_hint"),
            ),
            Card(
                texts.say("acceptance"), _acceptance(line), texts.say("acceptance_hint"), main=True
            ),
            Card(texts.say("right"), _score(line), texts.say("right_hint")),
            Card(texts.say("same"), _same(line), texts.say("same_hint")),
        ]
    )


def _columns(chosen: _Columns, report: Report) -> _Columns:
    """With those that say which cell a line is; what no line knows is left out."""
    place = _PLACE | (_LEVEL if report.plan.concurrency != (1,) else {})
    known = (
        (key, write)
        for key, write in (place | dict(chosen)).items()
        if any(write(line) not in ("", UNKNOWN) for line in report.lines)
    )
    return dict(known)


def _table(title: str, columns: _Columns, lines: Sequence[Line]) -> str:
    rows = [[write(line) for write in columns.values()] for line in lines]
    return _draw(title, list(columns), rows)


def _draw(title: str, keys: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls on its own."""
    kinds = [' class="number"' if key in _NUMBERS else "" for key in keys]
    heads = "".join(
        f'<th scope="col"{kind}>{say(key)}</th>' for key, kind in zip(keys, kinds, strict=True)
    )
    drawn = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}>{escape_html(each)}</td>" for each, kind in zip(row, kinds, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<h3>{say(title)}</h3><div class="runs-scroll" tabindex="0"><table><thead><tr>{heads}'
        f"</tr></thead><tbody>{drawn}</tbody></table></div>"
    )


def _published(report: Report) -> str:
    """Published figures beside the measured ones of the same kind, with their sources below."""
    if not report.published:
        return ""
    labels = {line.method: line.label for line in report.lines}
    distinct = dict.fromkeys(map(_note, report.published))
    notes = {note: number for number, note in enumerate(distinct, start=1)}
    rows = [
        [
            each.dataset,
            labels.get(each.method, each.method),
            texts.say(f"kind_{each.kind.replace(' ', '_')}"),
            format_ratio(each.published_speedup),
            format_ratio(each.measured_speedup),
            format_decimal(each.published_acceptance_length),
            format_decimal(each.measured_acceptance_length),
            texts.say("alike" if each.alike else "unlike"),
            f"({notes[_note(each)]})",
        ]
        for each in report.published
    ]
    keys = (
        "dataset", "method", "kind", "speedup_there", "speedup_here", "acceptance_there",
        "acceptance_here", "compared", "note",
    )  # fmt: skip
    told = "".join(f"<li>{escape_html(note)}</li>" for note in notes)
    return f'{_draw("published", keys, rows)}<ol class="bench-notes">{told}</ol>'


def _note(each: Beside) -> str:
    """Where a published figure is from, and how it differs."""
    block = (
        texts.say("published_block", size=each.published_block_size)
        if each.published_block_size
        else ""
    )
    setup = ", ".join(filter(None, (each.setup, block))) or texts.say("setup_not_told")
    note = f"{each.pair}, {each.source} ({setup})."
    if each.differences:
        note += " " + texts.say("differs", differences="; ".join(map(say_remark, each.differences)))
    return note


def _facts(report: Report) -> str:
    versions = ", ".join(f"{name} {each}" for name, each in report.library_versions.items())
    counts = report.counts
    asked = {"asked_head": say_counts(counts, say_remark)} if counts else {}
    told = asked | {
        "settings_head": say_plan(report.plan, report.num_questions),
        "runs_on": "; ".join(dict.fromkeys(line.runs_on for line in report.lines if line.runs_on)),
        "hardware": say_hardware(report.hardware),
        "versions": f"DFlash Studio {report.app_version}, {versions}",
        "created": format_when(report.created_at),
        "finished_at": format_when(report.finished_at),
    }
    lines = "".join(
        f"<div><dt>{say(key)}</dt><dd>{escape_html(text)}</dd></div>" for key, text in told.items()
    )
    return f'<h3>{say("how")}</h3><dl class="bench-facts">{lines}</dl>'


def _acceptance(line: Line) -> str:
    length = format_decimal(line.acceptance_length)
    return texts.say("shared", length=length) if line.acceptance_shared else length


def _score(line: Line) -> str:
    if line.score is None:
        return UNKNOWN
    return texts.say("score", score=format_percent(line.score), count=format_count(line.num_scored))


def _same(line: Line) -> str:
    if not line.num_pairs:
        return UNKNOWN
    same = format_count(line.num_identical)
    return texts.say("answered_of", done=same, total=format_count(line.num_pairs))


def _quartiles(line: Line) -> str:
    if line.speedup_quartiles is None:
        return UNKNOWN
    low, high = map(format_ratio, line.speedup_quartiles)
    return texts.say("from_to", low=low, high=high)


def _answered(line: Line) -> str:
    done = format_count(line.num_answered)
    told = texts.say("answered_of", done=done, total=format_count(line.num_prompts))
    if line.num_failed:
        told += ", " + texts.say("num_failed", num_failed=format_count(line.num_failed))
    return told


def _both(median_s: float | None, late_s: float | None) -> str:
    if median_s is None:
        return UNKNOWN
    return f"{format_duration(median_s)} / {format_duration(late_s)}"


_PLACE: dict[str, Callable[[Line], str]] = {
    "dataset": lambda line: line.dataset,
    "method": lambda line: line.label,
}
_LEVEL: dict[str, Callable[[Line], str]] = {"concurrency_head": lambda line: str(line.concurrency)}
_FIGURES: _Columns = {
    "answered": _answered,
    "speedup": lambda line: format_ratio(line.speedup),
    "quartiles": _quartiles,
    "decoding": lambda line: format_speed(line.decode_tok_s),
    "end_to_end": lambda line: format_speed(line.end_to_end_tok_s),
    "acceptance": _acceptance,
    "right": _score,
    "same": _same,
}
_TIMES: _Columns = {
    "ttft": lambda line: _both(line.ttft_p50_s, line.ttft_p95_s),
    "tpot": lambda line: _both(line.tpot_p50_s, line.tpot_p95_s),
    "speedup_mean_tpot": lambda line: format_ratio(line.speedup_mean_tpot),
    "speedup_end_to_end": lambda line: format_ratio(line.speedup_end_to_end),
}
