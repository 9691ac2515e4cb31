"""A comparison of two results as inert HTML: the verdict first, then cell by cell."""

from dflash_app.ui.components import render_notice
from dflash_app.ui.format import (
    escape_html,
    format_count,
    format_decimal,
    format_percent,
    format_ratio,
    format_speed,
)

from .regression import CONFIDENCE, MIN_QUESTIONS, THRESHOLDS, CellChange, Change, Comparison
from .words import say, texts

_HEADS = ("figure", "before", "after", "change", "interval", "questions", "verdict")
_NUMBERS = ("before", "after", "change", "interval", "questions")
_WRITTEN = {
    "speedup": format_ratio,
    "decoding": format_speed,
    "end_to_end": format_speed,
    "acceptance": format_decimal,
    "right": format_percent,
    "same": format_percent,
}
"""How each figure is written, by the key of its text."""
_IN_POINTS = ("right", "same")
_WHATS = ("hardware", "pair", "number", "device")
"""First words of what may differ."""
_SETTING = "setting "


def render_comparison(comparison: Comparison) -> str:
    """The whole report."""
    names = escape_html(texts.say("against", before=comparison.names[0], after=comparison.names[1]))
    obstacles = "".join(
        f"<li>{escape_html(told)}</li>"
        for told in (
            *(
                texts.say(
                    "obstacle",
                    what=_say_what(each.what),
                    before=each.before,
                    after=each.after,
                    bars=", ".join(map(_say_figure, each.bars)),
                )
                for each in comparison.obstacles
            ),
            *(texts.say("changed", what=each) for each in comparison.versions),
            *_alone(comparison),
        )
    )
    told = f'<ul class="bench-notes">{obstacles}</ul>' if obstacles else ""
    cells = "".join(map(_cell, comparison.cells))
    return (
        f'<div class="run-detail bench-comparison"><h3>{names}</h3>{_verdict(comparison)}{told}'
        f'{cells}<p class="hub-quiet">{say("method_told", **_method())}</p></div>'
    )


def _verdict(comparison: Comparison) -> str:
    worse = [
        texts.say("worse_in", place=_title(cell), figures=", ".join(_reasons(cell)))
        for cell in comparison.cells
        if cell.regressed
    ]
    if worse:
        return render_notice(f"{texts.say('regressed')} {' '.join(worse)}", "error")
    if comparison.judged:
        partly = "_partly" if comparison.obstacles else ""
        return render_notice(texts.say(f"not_regressed{partly}"), "success")
    return render_notice(texts.say("not_judged", questions=MIN_QUESTIONS), "warning")


def _reasons(cell: CellChange) -> list[str]:
    before, after = cell.num_failed
    worse = [_say_figure(each.figure) for each in cell.changes if each.verdict == "worse"]
    if after > before:
        worse.append(texts.say("more_failed", before=before, after=after))
    return worse


def _cell(cell: CellChange) -> str:
    heads = "".join(f'<th scope="col"{_kind(key)}>{say(f"{key}_compared")}</th>' for key in _HEADS)
    rows = "".join(map(_row, cell.changes))
    told = texts.say(
        "pairs_told",
        num_pairs=format_count(cell.num_pairs),
        num_changed=format_count(cell.num_changed),
    )
    if cell.num_other_prompts:
        told += " " + texts.say("others_told", count=format_count(cell.num_other_prompts))
    return (
        f'<h3>{escape_html(_title(cell))}</h3><div class="runs-scroll" tabindex="0"><table><thead>'
        f"<tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div><p>{escape_html(told)}</p>"
    )


def _row(change: Change) -> str:
    key = _key(change.figure)
    write, unit = _WRITTEN[key], texts.say("points") if key in _IN_POINTS else "%"
    word = change.verdict.replace(" ", "_")
    told = {
        "figure": _say_figure(change.figure),
        "before": write(change.before),
        "after": write(change.after),
        "change": f"{change.change * 100:+.1f} {unit}",
        "interval": texts.say(
            "from_to", low=f"{change.low * 100:+.1f}", high=f"{change.high * 100:+.1f}"
        ),
        "questions": format_count(change.num_questions),
    }
    drawn = "".join(f"<td{_kind(key)}>{escape_html(text)}</td>" for key, text in told.items())
    verdict = f'<span class="badge {word}">{say(f"verdict_{word}")}</span>'
    return f"<tr>{drawn}<td>{verdict}</td></tr>"


def _title(cell: CellChange) -> str:
    return texts.say("place", dataset=cell.dataset, method=cell.label, concurrency=cell.concurrency)


def _alone(comparison: Comparison) -> list[str]:
    sides = zip(comparison.names, (comparison.only_before, comparison.only_after), strict=True)
    return [texts.say("only_in", name=name, cells=", ".join(keys)) for name, keys in sides if keys]


def _method() -> dict[str, object]:
    limits = ", ".join(
        f"{_say_figure(figure)} {limit * 100:g} "
        + (texts.say("points") if _key(figure) in _IN_POINTS else "%")
        for figure, limit in THRESHOLDS.items()
    )
    return {"limits": limits, "confidence": f"{CONFIDENCE:.0%}", "questions": MIN_QUESTIONS}


def _say_figure(figure: str) -> str:
    return texts.say(_key(figure))


def _say_what(what: str) -> str:
    """What differs; a setting by its name, which is the command line's."""
    first = what.partition(" ")[0]
    return texts.say(f"what_{first}") if first in _WHATS else what.removeprefix(_SETTING)


def _key(figure: str) -> str:
    """Of a figure's text: the comparison calls figures by their English names."""
    return figure.partition(" text ")[0].replace(" ", "_")


def _kind(key: str) -> str:
    return ' class="number"' if key in _NUMBERS else ""
