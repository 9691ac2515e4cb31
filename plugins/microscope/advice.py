"""What limits a run, and what became of a suggestion that was tried, as inert HTML."""

from dflash_app.advisor.diagnose import Diagnosis
from dflash_app.advisor.finding import Finding
from dflash_app.advisor.say import (
    say_advice,
    say_change,
    say_cost,
    say_finding,
    say_headline,
)
from dflash_app.ui.advice import advisor_texts
from dflash_app.ui.format import (
    escape_html,
    format_count,
    format_decimal,
    format_ratio,
    format_speed,
)

from .render import words
from .trial import HALVES, Half, Trial


def render_headline(found: Diagnosis) -> str:
    """The run in figures, and the words for nothing found."""
    said = say_headline(found, advisor_texts.say)
    if not found.findings:
        said.append(advisor_texts.say("nothing"))
    sentences = "".join(f"<p>{escape_html(sentence)}</p>" for sentence in said)
    return f'<div class="scope-why"><h3>{escape_html(words.say("why"))}</h3>{sentences}</div>'


def render_finding(finding: Finding, found: Diagnosis, number: int) -> str:
    """One thing that limits the run: the figures, its cost, what to try."""
    say = advisor_texts.say
    advice = say_advice(finding, say)
    tried = f'<p class="scope-advice">{escape_html(advice)}</p>' if advice else ""
    return (
        f'<div class="scope-finding"><p><b>{number}.</b> '
        f"{escape_html(say_finding(finding, say))}</p>"
        f'<p class="scope-cost">{escape_html(say_cost(finding, found, say))}</p>{tried}'
        "</div>"
    )


def name_trial(finding: Finding) -> str:
    """A button's words."""
    return words.say("try", change=say_change(finding, advisor_texts.say))


def say_progress(trial: Trial) -> str:
    """How far a trial has come."""
    counts = {
        half: sum(outcome.metrics.num_output_tokens or 0 for outcome in trial.halves[half])
        for half in HALVES
    }
    done = ", ".join(
        words.say("tried_tokens", half=words.say(f"tried_{half}"), count=format_count(count))
        for half, count in counts.items()
    )
    return words.say("tried_busy", done=done)


def render_trial(trial: Trial, finding: Finding) -> str:
    """Both halves side by side, how much faster the change was, and whether the text is the same.

    Args:
        trial: with a whole pair at least.
        finding: whose suggestion was tried.
    """
    rows = "".join(_row(trial, half) for half in HALVES)
    names = ("tried_run", "speed", "acceptance", "tokens", "tried_steps")
    header = "".join(f"<th>{escape_html(words.say(name))}</th>" for name in names)
    ratio, pairs = format_ratio(trial.speedup), len(trial.pairs)
    sentences = [words.say("tried_ratio", ratio=ratio, pairs=pairs)]
    if trial.gain is not None:
        sentences.append(words.say("tried_estimate", ratio=format_ratio(trial.gain)))
    sentences.append(_say_same(trial))
    ids = [outcome.run_id for half in HALVES for outcome in trial.halves[half] if outcome.run_id]
    if ids:
        sentences.append(words.say("tried_runs", first=min(ids), last=max(ids)))
    title = escape_html(words.say("tried_title", change=say_change(finding, advisor_texts.say)))
    return (
        f'<div class="scope-trial" role="status"><h3>{title}</h3><table><thead><tr>{header}</tr>'
        f"</thead><tbody>{rows}</tbody></table><p>{escape_html(' '.join(sentences))}</p></div>"
    )


def _row(trial: Trial, half: Half) -> str:
    metrics = trial.halves[half][0].metrics
    cells = (
        words.say(f"tried_{half}"),
        format_speed(trial.speed(half)),
        format_decimal(metrics.mean_acceptance_length),
        format_count(metrics.num_output_tokens),
        format_count(metrics.num_steps),
    )
    return f"<tr>{''.join(f'<td>{escape_html(cell)}</td>' for cell in cells)}</tr>"


def _say_same(trial: Trial) -> str:
    position = trial.differs_at
    if position is None:
        num_ids = len(trial.halves["before"][0].token_ids)
        if not num_ids:
            return words.say("tried_same_text")
        return words.say("tried_same", count=format_count(num_ids))
    if trial.change.field in ("thinking", "temperature"):
        return words.say("tried_other")
    if trial.start.temperature > 0:
        return words.say("tried_sampled")
    if trial.start.on_server:
        return words.say("tried_unequal_served")
    return words.say("tried_unequal", position=position + 1)
