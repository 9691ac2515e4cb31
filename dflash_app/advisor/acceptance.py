"""Rules about acceptance: how many drafts the target refused, and what that goes with.

A rule returns None where the run's figures do not support it.
"""

from collections.abc import Callable
from statistics import fmean

from dflash_app.advisor.case import Case
from dflash_app.advisor.costs import LEAST_GAIN, LEAST_SHARE, LEAST_STEPS
from dflash_app.advisor.finding import Change, Figure, Finding
from dflash_app.advisor.profile import acceptance_length
from dflash_app.advisor.scripts import main_script, written_in
from dflash_app.store.records import RunRecord

LEAST_FALL = 1.25
"""How much further drafts must get elsewhere to be worth a sentence: replies differ by nature."""
LONG_PROMPT = 1024
"""Tokens of a prompt from which it is compared with shorter ones."""


def refused(case: Case) -> Finding | None:
    """Most drafts are refused: what the target wants is not what the drafter guesses."""
    profile, drafted = case.profile, case.profile.mean_drafted
    if profile.num_drafting < LEAST_STEPS or not profile.survival:
        return None
    lost_s = profile.drafting_s * (1 - case.length / (drafted + 1))
    if lost_s < 0.25 * profile.decode_s:
        return None
    halfway = next((k for k, share in enumerate(profile.survival, 1) if share < 0.5), None)
    return Finding(
        "refused" if halfway else "refused_late",
        {
            "drafted": drafted,
            "accepted": case.length - 1,
            "first_share": profile.survival[0],
            "last_share": profile.survival[-1],
            "halfway": halfway or profile.width,
        },
        lost_s=lost_s,
    )


def thinking(case: Case) -> Finding | None:
    """The drafter was trained for another thinking mode than the run used."""
    trained = case.pair.thinking if case.pair else None
    used = _thinking_of(case.record)
    if not trained or not used or not case.profile.num_drafting or _same_thinking(used, trained):
        return None
    published = _published(case)
    others = case.lengths(lambda run: _same_thinking(_thinking_of(run), trained))
    figures: dict[str, Figure] = {"trained": trained, "used": used, "length": case.length}
    change = Change("thinking", trained)
    if others is not None:
        figures |= {"other": others.mean, "runs": others.num_runs}
        return _shortfall(case, "thinking_log", figures, others.mean, change)
    if published:
        figures |= {"other": fmean(published), "tasks": len(published)}
        return _shortfall(case, "thinking_published", figures, fmean(published), change)
    return Finding("thinking_unknown", figures, change=change)


def script(case: Case) -> Finding | None:
    """Prompt or output is in another script than runs in which drafts get further."""
    for key, text_of in _TEXTS.items():
        here = main_script(text_of(case.record))
        if here is None:
            continue

        def elsewhere(
            run: RunRecord, here: str = here, text_of: Callable[[RunRecord], str] = text_of
        ) -> bool:
            return main_script(text_of(run)) not in (here, None)

        others = case.lengths(elsewhere)
        if others is not None:
            figures: dict[str, Figure] = {"script": here, "length": case.length}
            figures |= {"other": others.mean, "runs": others.num_runs}
            found = _shortfall(case, key, figures, others.mean)
            if found is not None:
                return found
        elif written_in(case.pair.languages if case.pair else (), here) is False:
            languages = ", ".join(case.pair.languages) if case.pair else ""
            return Finding(
                "script_trained",
                {"script": here, "languages": languages, "length": case.length},
            )
    return None


def temperature(case: Case) -> Finding | None:
    """Tokens were drawn at random, and greedy runs of the pair accept more."""
    if case.start.temperature == 0:
        return None
    others = case.lengths(lambda run: run.start.temperature == 0)
    if others is None:
        return None
    figures: dict[str, Figure] = {"temperature": case.start.temperature, "length": case.length}
    figures |= {"other": others.mean, "runs": others.num_runs}
    return _shortfall(case, "temperature", figures, others.mean, Change("temperature", 0.0))


def drafter_bits(case: Case) -> Finding | None:
    """The drafter is stored in fewer bits, and runs with the whole one accept more."""
    bits = case.start.drafter_quantization
    if bits is None:
        return None
    others = case.lengths(lambda run: run.start.drafter_quantization is None)
    if others is None:
        return None
    figures: dict[str, Figure] = {"bits": bits, "length": case.length}
    figures |= {"other": others.mean, "runs": others.num_runs}
    change = Change("drafter_quantization", None)
    return _shortfall(case, "drafter_bits", figures, others.mean, change)


def long_prompt(case: Case) -> Finding | None:
    """The prompt is long, and runs of short ones accept more."""
    num_prompt = case.record.metrics.num_prompt_tokens or 0
    if num_prompt < LONG_PROMPT:
        return None
    others = case.lengths(lambda run: 0 < (run.metrics.num_prompt_tokens or 0) < num_prompt / 4)
    if others is None:
        return None
    figures: dict[str, Figure] = {"prompt": num_prompt, "short": num_prompt // 4}
    figures |= {"length": case.length, "other": others.mean, "runs": others.num_runs}
    return _shortfall(case, "long_prompt", figures, others.mean)


def falling(case: Case) -> Finding | None:
    """Drafts get less far towards the end of the reply than at its beginning."""
    steps = case.profile.drafting
    third = len(steps) // 3
    if third < LEAST_STEPS:
        return None
    first, last = acceptance_length(steps[:third]), acceptance_length(steps[-third:])
    spent_s = sum(step.step_s for step in steps[third:])
    lost_s = spent_s * (1 - acceptance_length(steps[third:]) / first)
    if first < LEAST_FALL * last or lost_s < LEAST_SHARE * case.profile.decode_s:
        return None
    figures = {"first": first, "last": last, "context": steps[-third].context}
    return Finding("falling", figures, lost_s=lost_s)


def beyond_drafter(case: Case) -> Finding | None:
    """Steps stand further back than the drafter was trained or configured for, and accept less."""
    trained = case.pair.trained_context if case.pair else None
    key, limit = "beyond_trained", trained
    if limit is None:
        key, limit = "beyond_drafter", case.drafter_positions
    steps = case.profile.drafting
    if limit is None or not steps:
        return None
    within = [step for step in steps if step.context < limit]
    beyond = [step for step in steps if step.context >= limit]
    if min(len(within), len(beyond)) < LEAST_STEPS:
        return None
    before, after = acceptance_length(within), acceptance_length(beyond)
    if before < LEAST_FALL * after:
        return None
    lost_s = sum(step.step_s for step in beyond) * (1 - after / before)
    figures = {"limit": limit, "within": before, "beyond": after, "steps": len(beyond)}
    return Finding(key, figures, lost_s=lost_s)


def fallback(case: Case) -> Finding | None:
    """Adaptive drafts decoded much of the reply plainly, because drafting lost time."""
    profile = case.profile
    plain = [step for step in profile.steps if not step.event.drafted_ids]
    notes = [step.event.note for step in profile.steps if step.event.note]
    told = next((note for note in notes if note.startswith("AR fallback")), None)
    if case.start.policy != "adaptive" or told is None or len(plain) < LEAST_STEPS:
        return None
    figures = {
        "plain": sum(len(step.event.token_ids) for step in plain),
        "tokens": profile.num_tokens,
        "length": case.length,
    }
    return Finding("fallback", figures)


_TEXTS: dict[str, Callable[[RunRecord], str]] = {
    "script_output": lambda run: run.output,
    "script_prompt": lambda run: run.start.prompt,
}


def _published(case: Case) -> list[float]:
    """Acceptance lengths that the registry tells of the pair at this block size."""
    rows = case.pair.published if case.pair else ()
    sizes = (None, case.start.block_size)
    return [
        row.acceptance_length for row in rows if row.acceptance_length and row.block_size in sizes
    ]


def _shortfall(
    case: Case, key: str, figures: dict[str, Figure], other: float, change: Change | None = None
) -> Finding | None:
    """A finding where drafts get further elsewhere; the steps saved are time saved."""
    gain = other / case.length
    if case.profile.num_drafting < LEAST_STEPS or gain < max(LEAST_FALL, LEAST_GAIN):
        return None
    lost_s = case.profile.drafting_s * (1 - 1 / gain)
    return Finding(key, figures, lost_s, gain if change else None, change)


def _thinking_of(run: RunRecord) -> str | None:
    """The mode that a run used: as asked, else as its output shows; None where it does not."""
    if run.start.thinking is not None:
        return run.start.thinking
    if "</think>" in run.output or run.output.lstrip().startswith("<think>"):
        return "on"
    # Some templates begin the thinking themselves: a reply that was cut may never have ended it.
    return "off" if run.finish_reason == "stop" else None


def _same_thinking(used: str | None, trained: str) -> bool:
    """A level is a way of thinking, so where only "on" is known both agree."""
    if used is None:
        return False
    if "on" in (used, trained):
        return used != "off" and trained != "off"
    return used == trained
