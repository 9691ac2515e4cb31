"""Two runs side by side: figures with their ratio, settings that differ, and both outputs."""

from collections.abc import Sequence
from itertools import takewhile

from dflash_app.store.records import RunRecord
from dflash_app.ui.format import (
    UNKNOWN,
    escape_html,
    format_bytes,
    format_count,
    format_decimal,
    format_duration,
    format_ratio,
    format_speed,
)
from dflash_app.ui.shell import machine_key

from .detail import machine_of, settings_of
from .words import texts

_FIGURES = {
    "speed": ("decode_tok_s", format_speed),
    "end_to_end": ("end_to_end_tok_s", format_speed),
    "first_token": ("ttft_s", format_duration),
    "total": ("total_s", format_duration),
    "tpot": ("tpot_s", format_duration),
    "prompt_tokens": ("num_prompt_tokens", format_count),
    "output_tokens": ("num_output_tokens", format_count),
    "steps": ("num_steps", format_count),
    "acceptance": ("mean_acceptance_length", format_decimal),
    "propose": ("propose_s", format_duration),
    "verify": ("verify_s", format_duration),
    "memory": ("peak_memory_bytes", format_bytes),
}
"""Rows of figures: the attribute of `RunMetrics`, and how it is written."""


def render_comparison(first: RunRecord, second: RunRecord, *, same_target: bool) -> str:
    """Two runs side by side.

    Args:
        first: the older one; ratios are the other's to its.
        second: the other.
        same_target: both runs' tokens are of one target, so that they may be compared.
    """
    figures = "".join(_figure(key, first, second) for key in _FIGURES)
    differing, same = _settings(first, second)
    heads = [texts.say("run", run_id=run.id) for run in (first, second)]
    return (
        f'<div class="run-detail runs-compared">{_warnings(first, second)}'
        + _table([texts.say("figure"), *heads, texts.say("ratio")], figures, "number")
        + _table([texts.say("settings_differing"), *heads], differing, "text")
        + f"<details><summary>{_say('settings_same')}</summary>"
        + _table([texts.say("settings"), *heads], same, "text")
        + f"</details>{_outputs(first, second, same_target=same_target)}</div>"
    )


def num_common(first: Sequence[object], second: Sequence[object]) -> int:
    """How many tokens, or characters, two outputs begin with alike."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(first, second)))  # noqa: B905


def _figure(key: str, first: RunRecord, second: RunRecord) -> str:
    name, format_value = _FIGURES[key]
    a, b = getattr(first.metrics, name), getattr(second.metrics, name)
    # A run without drafts spends next to nothing on them: no ratio to that says anything.
    both = key != "propose" or "ar" not in (first.start.mode, second.start.mode)
    ratio = format_ratio(b / a if both and a and b is not None else None)
    values = (format_value(a), format_value(b), ratio)
    cells = "".join(f'<td class="number">{value}</td>' for value in values)
    return f'<tr><th scope="row">{_say(key)}</th>{cells}</tr>'


def _table(heads: Sequence[str], rows: str, kind: str) -> str:
    drawn = "".join(
        f'<th scope="col" class="{kind if index else "text"}">{escape_html(head)}</th>'
        for index, head in enumerate(heads)
    )
    return (
        f'<div class="runs-scroll" tabindex="0"><table class="{kind}s"><thead><tr>{drawn}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _settings(first: RunRecord, second: RunRecord) -> tuple[str, str]:
    """Rows of settings: those that differ, and those that are the same."""
    told = [dict(settings_of(run) + machine_of(run.start)) for run in (first, second)]
    differing, same = [], []
    for label in {**told[0], **told[1]}:
        values = [each.get(label, UNKNOWN) for each in told]
        cells = "".join(f"<td>{escape_html(value)}</td>" for value in values)
        row = f'<tr><th scope="row">{escape_html(label)}</th>{cells}</tr>'
        (same if values[0] == values[1] else differing).append(row)
    return "".join(differing), "".join(same)


def _warnings(first: RunRecord, second: RunRecord) -> str:
    """What keeps the figures from being compared."""
    reasons = []
    if machine_key(first.start.hardware) != machine_key(second.start.hardware):
        reasons.append("other_machine")
    if first.start.messages != second.start.messages:
        reasons.append("other_prompt")
    if first.start.pair != second.start.pair:
        reasons.append("other_pair")
    lines = "".join(f"<li>{_say(reason)}</li>" for reason in reasons)
    return f'<ul class="runs-reasons">{lines}</ul>' if lines else ""


def _outputs(first: RunRecord, second: RunRecord, *, same_target: bool) -> str:
    """Both texts, from the first difference on marked."""
    shared = num_common(first.output, second.output)
    columns = "".join(
        f"<div><h3>{escape_html(texts.say('output_of', run_id=run.id))}</h3>"
        f"<pre tabindex='0'><span class='same'>{escape_html(run.output[:shared])}</span>"
        f"<mark>{escape_html(run.output[shared:])}</mark></pre></div>"
        for run in (first, second)
    )
    told = escape_html(_say_outputs(first, second, same_target=same_target))
    return f"<p class='judged'>{told}</p><div class='runs-outputs'>{columns}</div>"


def _say_outputs(first: RunRecord, second: RunRecord, *, same_target: bool) -> str:
    if not first.output and not second.output:
        return texts.say("outputs_empty")
    if (first.start.on_server or second.start.on_server) and first.output == second.output:
        return texts.say("texts_same_served")  # it may not tell the token that ended its run
    if not same_target or not first.token_ids or not second.token_ids:
        return texts.say("texts_same" if first.output == second.output else "texts_differ")
    ids = (first.token_ids, second.token_ids)
    common = num_common(*ids)
    if common == len(ids[0]) == len(ids[1]):
        return texts.say("outputs_same", num_tokens=format_count(common))
    if common in (len(ids[0]), len(ids[1])):
        longer = first.id if len(ids[0]) > common else second.id
        return texts.say("one_goes_on", num_tokens=format_count(common), run_id=longer)
    return texts.say(
        "outputs_differ",
        num_tokens=format_count(common),
        position=format_count(common + 1),
        token_a=ids[0][common],
        token_b=ids[1][common],
    )


def _say(key: str) -> str:
    return escape_html(texts.say(key))
