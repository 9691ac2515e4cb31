"""A run, one of its blocks, and where its time went, as inert HTML."""

from pathlib import Path

from dflash_app.ui.charts import NEUTRAL, mode_name
from dflash_app.ui.format import (
    UNKNOWN,
    escape_html,
    format_count,
    format_decimal,
    format_duration,
    format_excerpt,
    format_percent,
    format_speed,
    format_when,
)
from dflash_app.ui.language import Texts

from .charts import TIME_COLOURS
from .specimen import Draft, Specimen

words = Texts.load("microscope", Path(__file__).with_name("texts.yaml"))
"""All that the tab says beside its charts."""


def render_summary(run: Specimen) -> str:
    """What the run was, its prompt, and what cannot be shown of it."""
    start, metrics = run.record.start, run.record.metrics
    block = "" if start.block_size is None else f" {start.block_size}"
    facts = [
        (words.say("pair"), f"{start.pair}, {mode_name(start.mode)}{block}"),
        (words.say("when"), format_when(start.started_at)),
        (words.say("speed"), format_speed(metrics.decode_tok_s)),
        (words.say("acceptance"), format_decimal(metrics.mean_acceptance_length)),
        (words.say("tokens"), format_count(metrics.num_output_tokens)),
        *_counted(run),
        (words.say("prompt"), format_excerpt(start.prompt, 160)),
    ]
    drawn = "".join(
        f"<div><dt>{escape_html(name)}</dt><dd>{escape_html(value)}</dd></div>"
        for name, value in facts
    )
    told = "".join(f"<p>{escape_html(sentence)}</p>" for sentence in _limits(run))
    return f'<div class="scope-run"><dl>{drawn}</dl>{told}</div>'


def render_block(run: Specimen, index: int) -> str:
    """One step: what was drafted, what of it stands, and the reply so far with it marked."""
    step = run.steps[index]
    drafts, own = run.drafts(index), run.own_token(index)
    title = words.say("step_plain" if not drafts else "step", **_counts(run, index))
    times = words.say(
        "step_times",
        step=format_duration(step.step_s),
        propose=format_duration(step.event.propose_s),
        verify=format_duration(step.event.verify_s),
        host=format_duration(step.host_s),
    )
    note = f'<p class="scope-note">{escape_html(step.event.note)}</p>' if step.event.note else ""
    texts = run.tokens([draft.token_id for draft in drafts])
    chips = "".join(
        _draft(draft, text, position)
        for position, (draft, text) in enumerate(zip(drafts, texts, strict=True), start=1)
    )
    if own is not None:
        fate = "plain" if not drafts else "bonus" if _all_stand(run, index) else "corrected"
        (text,) = run.tokens([own])
        chips += _token(text, fate, words.say(fate), words.say(f"{fate}_hint"))
    else:
        chips += f'<li class="scope-end">{escape_html(words.say("ended_before"))}</li>'
    return (
        f'<div class="scope-step"><h3>{escape_html(title)}</h3><p>{escape_html(times)}</p>{note}'
        f'<ol class="scope-block">{chips}</ol>{_reply(run, index)}</div>'
    )


def render_time(run: Specimen) -> str:
    """Where all of the run's time went: one bar, and the same in words."""
    steps = run.steps
    parts = {
        "prefill": run.profile.ttft_s,
        "propose": sum(step.event.propose_s for step in steps),
        "verify": sum(step.event.verify_s for step in steps),
        "host": sum(step.host_s for step in steps),
    }
    if run.profile.served is not None:
        parts = {"prefill": run.profile.ttft_s, "served": run.profile.decode_s}
    total_s = sum(parts.values())
    if total_s <= 0:
        return ""
    colours = {"prefill": "#d97706", "served": NEUTRAL, **TIME_COLOURS}
    bar = "".join(
        f'<i style="flex-grow:{seconds / total_s:.4f};background:{colours[part]}"></i>'
        for part, seconds in parts.items()
    )
    legend = "".join(
        f'<li><b style="background:{colours[part]}"></b>{escape_html(words.say(part))} '
        f"{format_duration(seconds)} ({format_percent(seconds / total_s)})</li>"
        for part, seconds in parts.items()
    )
    title = escape_html(words.say("time", total=format_duration(total_s)))
    return (
        f'<div class="scope-time"><h3>{title}</h3><div class="scope-bar" aria-hidden="true">{bar}'
        f"</div><ul>{legend}</ul></div>"
    )


def render_empty(text: str) -> str:
    """The place of a run, before there is one or where it cannot be shown."""
    return f'<div class="scope-run empty">{escape_html(text)}</div>' if text else ""


def _counted(run: Specimen) -> list[tuple[str, str]]:
    """What the server told that ran it."""
    counts = run.counts
    if counts is None:
        return []
    told = {
        "served_by": counts.source,
        "served_steps": format_count(counts.num_steps),
        "served_drafted": format_count(counts.num_drafted),
        "served_accepted": format_count(counts.num_accepted),
        "served_decode": format_duration(counts.decode_s),
    }
    return [(words.say(key), value) for key, value in told.items() if value != UNKNOWN]


def _limits(run: Specimen) -> list[str]:
    if run.profile.served is not None:
        shared = run.record.metrics.acceptance_shared
        return [words.say("served_run"), *([words.say("served_shared")] if shared else [])]
    told = []
    if run.texts is None:
        told.append(words.say("no_tokenizer", pair=run.record.start.pair))
    if not run.steps:
        told.append(words.say("no_steps"))
    elif not run.profile.drafting:
        told.append(words.say("plain_run"))
    elif not run.has_confidences:
        told.append(words.say("no_confidences"))
    return told


def _counts(run: Specimen, index: int) -> dict[str, object]:
    event = run.steps[index].event
    counts = {"accepted": event.num_accepted, "drafted": len(event.drafted_ids)}
    return {"number": index + 1, "total": len(run.steps), **counts}


def _all_stand(run: Specimen, index: int) -> bool:
    event = run.steps[index].event
    return event.num_accepted == len(event.drafted_ids)


def _draft(draft: Draft, text: str, position: int) -> str:
    hint = f"{words.say(draft.fate)}: {words.say(f'{draft.fate}_hint')}"
    return _token(text, draft.fate, str(position), hint, draft.confidence)


def _token(text: str, fate: str, label: str, hint: str, confidence: float | None = None) -> str:
    shown = escape_html(text.replace("\n", "⏎").replace("\t", "⇥")) or "∅"
    sure = ""
    if confidence is not None:
        title = escape_html(words.say("sure"))
        sure = (
            f'<span class="scope-sure" title="{title}"><i style="width:{confidence * 100:.0f}%">'
            f"</i>{format_percent(confidence)}</span>"
        )
    return (
        f'<li class="{fate}" title="{escape_html(hint)}"><small>{escape_html(label)}</small>'
        f'<span class="scope-tok">{shown}</span>{sure}</li>'
    )


def _reply(run: Specimen, index: int) -> str:
    before, block, cut = run.reply_at(index)
    more = "… " if cut else ""
    label = escape_html(words.say("reply"))
    return (
        f'<div class="scope-reply" tabindex="0" role="region" aria-label="{label}"><div>{more}'
        f"{escape_html(before)}<mark>{escape_html(block)}</mark></div></div>"
    )
