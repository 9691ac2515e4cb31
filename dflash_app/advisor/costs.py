"""Rules about time: what drafting, verifying, the host, the prompt and the block's width cost.

A rule returns None where the run's figures do not support it.
"""

from collections.abc import Sequence
from statistics import fmean

from dflash_app.advisor.case import Case
from dflash_app.advisor.finding import Change, Finding
from dflash_app.advisor.profile import Profile, TimedStep, quiet_step_s, usual_step_s

LEAST_SHARE = 0.05
"""Share of a run's time below which a thing is not worth a sentence."""
LEAST_GAIN = 1.08
"""How much faster a change must look to be suggested: estimates are no better than that."""
UNEVEN = 1.4
"""How many times the quiet time of a step its mean must be before interruptions are told."""
WIDENING = 2
"""How many times as wide a block may be suggested: neither costs nor acceptance were seen there."""
LEAST_STEPS = 8
"""Drafting steps below which a run says little of its drafts."""


def drafting_loses(case: Case) -> Finding | None:
    """A drafting step takes longer than the plain steps that would commit as many tokens."""
    block, plain = case.profile.block, case.plain
    if block is None or plain is None or case.present_speed <= 0 or not case.fixed:
        return None
    gain = 1.0 / (plain.step_s * case.present_speed)
    if len(case.profile.drafting) < LEAST_STEPS or gain < LEAST_GAIN:
        return None
    if quiet_step_s(_blocks(case.profile)) < plain.step_s * case.length:
        return None  # only the interruptions made it slow: `uneven` tells them
    return Finding(
        "seeded" if case.seeded else "drafting_loses",
        {
            "length": case.length,
            "plain_steps": block.step_s / plain.step_s,
            "step_ms": block.step_s * 1e3,
            "plain_ms": plain.step_s * 1e3,
        },
        lost_s=case.profile.decode_s * (1 - 1 / gain),
        gain=gain,
        change=Change("policy", "adaptive"),
    )


def block_size(case: Case) -> Finding | None:
    """Another block size commits more tokens a second, by this run's acceptance and costs."""
    profile, start = case.profile, case.start
    if not case.fixed or case.plain is None or len(profile.drafting) < LEAST_STEPS:
        return None
    if uneven(case) is not None:
        return None  # times that were disturbed tell nothing of widths
    trained = (start.trained_block_size or 1) - 1
    widest = max(profile.width, min(trained, WIDENING * profile.width))
    speeds = {width: _speed(case, width) for width in range(1, widest + 1)}
    best = max(speeds, key=speeds.__getitem__)
    present = _speed(case, profile.width)
    gain = speeds[best] / present if present else 0.0
    if best == profile.width or gain < LEAST_GAIN:
        return None
    return Finding(
        "block_narrower" if best < profile.width else "block_wider",
        {
            "present": profile.width + 1,
            "better": best + 1,
            "present_tokens": profile.expected_tokens(profile.width),
            "better_tokens": profile.expected_tokens(best),
            "present_ms": step_s_at(case, profile.width) * 1e3,
            "better_ms": step_s_at(case, best) * 1e3,
            "last_share": profile.survival[-1],
        },
        lost_s=profile.decode_s * (1 - 1 / gain),
        gain=gain,
        change=Change("block_size", best + 1),
    )


def step_s_at(case: Case, width: int) -> float:
    """What a step of `width` drafts would take here, rather too long than too short.

    Verifying is taken to grow evenly from a plain step to the block of this run. Drafting is taken
    to cost what it does in a narrower block, and in proportion more in a wider one.
    """
    block, plain = case.profile.block, case.plain
    if block is None or plain is None:
        return 0.0
    share = width / case.profile.width
    # A plain step that was measured in a slower moment must not make width look like a gain.
    verify_s = min(plain.step_s, block.verify_s)
    verify_s += share * max(0.0, block.verify_s - plain.step_s)
    return block.propose_s * max(1.0, share) + verify_s + block.host_s


def verification(case: Case) -> Finding | None:
    """Verifying a block takes far longer than a plain step, so every draft has its price."""
    block, plain = case.profile.block, case.plain
    if block is None or plain is None or uneven(case) is not None:
        return None
    lost_s = sum(step.event.verify_s - plain.step_s for step in case.profile.drafting)
    ratio = block.verify_s / plain.step_s
    if ratio < 1.3 or lost_s < LEAST_SHARE * case.profile.decode_s:
        return None
    draft_s = (block.verify_s - plain.step_s) / case.profile.width
    figures = {
        "tokens": case.profile.width + 1,
        "verify_ms": block.verify_s * 1e3,
        "plain_ms": plain.step_s * 1e3,
        "ratio": ratio,
        "draft_ms": draft_s * 1e3,
        "needed": draft_s * case.present_speed,
    }
    return Finding("verification", figures, lost_s=lost_s)


def drafting(case: Case) -> Finding | None:
    """The drafter's own share of the time."""
    block, decode_s = case.profile.block, case.profile.decode_s
    lost_s = sum(step.event.propose_s for step in case.profile.steps)
    if block is None or lost_s < 2 * LEAST_SHARE * decode_s:
        return None
    figures = {"share": lost_s / case.profile.total_s, "propose_ms": block.propose_s * 1e3}
    return Finding("drafting", figures, lost_s=lost_s)


def host(case: Case) -> Finding | None:
    """Time of the steps in which neither model computed."""
    steps, decode_s = case.profile.steps, case.profile.decode_s
    lost_s = sum(step.host_s for step in steps)
    if not steps or lost_s < 2 * LEAST_SHARE * decode_s:
        return None
    figures = {"share": lost_s / case.profile.total_s, "host_ms": lost_s / len(steps) * 1e3}
    return Finding("host", figures, lost_s=lost_s)


def uneven(case: Case) -> Finding | None:
    """Blocks of one width took very different times: something else interrupted them."""
    blocks = _blocks(case.profile)
    if not _are_uneven(blocks):
        return None
    quiet_s, mean_s = quiet_step_s(blocks), fmean(step.step_s for step in blocks)
    figures = {"mean_ms": mean_s * 1e3, "quiet_ms": quiet_s * 1e3, "blocks": len(blocks)}
    return Finding("uneven", figures, lost_s=(mean_s - quiet_s) * len(blocks))


def was_interrupted(profile: Profile) -> bool:
    """Whether something else took the machine from a run, by its steps of the usual kind."""
    plain = [step for step in profile.steps if not step.is_start_up]
    return _are_uneven(_blocks(profile) if profile.drafting else plain)


def prefill(case: Case) -> Finding | None:
    """Reading the prompt, which no drafter speeds up."""
    ttft_s, metrics = case.profile.ttft_s, case.record.metrics
    total_s = case.profile.total_s
    if total_s <= 0 or ttft_s < 0.25 * total_s or metrics.num_prompt_tokens is None:
        return None
    figures = {
        "share": ttft_s / total_s,
        "prompt": metrics.num_prompt_tokens - (metrics.num_reused_tokens or 0),
        "output": metrics.num_output_tokens or 0,
    }
    return Finding("prefill", figures, lost_s=ttft_s)


def start_up(case: Case) -> Finding | None:
    """Steps that also recorded what later ones repeat: once a load, not once a run."""
    steps = case.profile.steps
    slow = [step for step in steps if step.is_start_up]
    usual_s = usual_step_s(steps)
    lost_s = sum(step.step_s - usual_s for step in slow)
    if lost_s < LEAST_SHARE * case.profile.decode_s or not usual_s:
        return None
    without_s = case.profile.decode_s - lost_s
    figures = {"steps": len(slow), "lost_s": lost_s}
    return Finding(
        "start_up",
        figures,
        lost_s=lost_s,
        gain=case.profile.decode_s / without_s if without_s > 0 else None,
    )


def _are_uneven(steps: Sequence[TimedStep]) -> bool:
    quiet_s = quiet_step_s(steps)
    if len(steps) < LEAST_STEPS or quiet_s <= 0:
        return False
    return fmean(step.step_s for step in steps) >= UNEVEN * quiet_s


def _blocks(profile: Profile) -> list[TimedStep]:
    """The drafting steps of the usual width, those that record left out."""
    return [
        step
        for step in profile.drafting
        if len(step.event.drafted_ids) == profile.width and not step.is_start_up
    ]


def _speed(case: Case, width: int) -> float:
    step_s = step_s_at(case, width)
    return case.profile.expected_tokens(width) / step_s if step_s > 0 else 0.0
