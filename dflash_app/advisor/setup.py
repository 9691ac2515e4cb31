"""Rules about how the pair was loaded: path, precision, threads; and whether it drafted at all.

A rule returns None where the run's figures do not support it.
"""

from dflash_app.advisor.case import Case, StepTimes, beside_page, loaded_alike
from dflash_app.advisor.costs import LEAST_GAIN, LEAST_STEPS
from dflash_app.advisor.finding import Change, Figure, Finding
from dflash_app.store.records import RunStart

HALF = ("bfloat16", "float16")
BUSY = 0.25
"""Share of the time that like runs must have saved before the machine is blamed."""
_PACKED = "quantised weights"
"""What a path says of weights in fewer bits."""


def plain_mode(case: Case) -> Finding | None:
    """The run did not draft, and its pair could."""
    if case.start.mode != "ar" or case.pair is None or case.pair.drafter is None:
        return None
    here = _seat(case.start)
    known = [
        run
        for run in case.others
        if run.start.mode == "dflash" and run.metrics.decode_tok_s and _seat(run.start) == here
        if run.start.block_size == run.start.trained_block_size
    ]
    alike = [run for run in known if run.start.prompt == case.start.prompt]
    speeds = [run.metrics.decode_tok_s or 0.0 for run in alike or known]
    change = Change("mode", "dflash")
    if not speeds or case.present_speed <= 0:
        return Finding("plain_mode", {"pair": case.start.pair}, change=change)
    speed = sum(speeds) / len(speeds)
    gain = speed / case.present_speed
    if gain < LEAST_GAIN:
        return None
    figures: dict[str, Figure] = {"pair": case.start.pair, "speed": speed, "runs": len(speeds)}
    lost_s = case.profile.decode_s * (1 - 1 / gain)
    return Finding("plain_mode_log", figures, lost_s, gain, change)


def plain_unknown(case: Case) -> Finding | None:
    """Nobody knows what plain decoding takes here, so no speedup can be told."""
    if case.plain is not None or case.profile.block is None:
        return None
    return Finding("plain_unknown", {"pair": case.start.pair}, change=Change("mode", "ar"))


def slow_path(case: Case) -> Finding | None:
    """The pair does not decode on the fastest path, and the run's path says why."""
    path, here = case.start.paths, _seat(case.start)
    if path is None or ":" not in path or not case.profile.steps:
        return None
    if _PACKED in path and case.start.quantization is not None:
        return None  # `packed_weights` tells it
    figures: dict[str, Figure] = {"path": path}
    others = case.step_times(
        lambda run: ":" not in (run.start.paths or ":") and _seat(run.start) == here
    )
    if others is None:
        return Finding("slow_path", figures)
    return _slower(case, "slow_path_log", figures, others)


def packed_weights(case: Case) -> Finding | None:
    """Weights in fewer bits are unpacked in every step: slower where memory is no limit."""
    bits, (device, page, *_) = case.start.quantization, _seat(case.start)
    if bits is None:
        return None
    others = case.step_times(
        lambda run: run.start.quantization is None and _seat(run.start)[:2] == (device, page)
    )
    path = case.start.paths or ""
    figures: dict[str, Figure] = {"bits": bits, "path": path}
    change = Change("quantization", None)
    if others is not None:
        return _slower(case, "packed_log", figures, others, change)
    return Finding("packed", figures, change=change) if _PACKED in path else None


def half_precision(case: Case) -> Finding | None:
    """Half precision on a processor: slower than float32 where it must be emulated."""
    start = case.start
    if start.dtype not in HALF or start.device != "cpu" or start.quantization is not None:
        return None
    change = Change("dtype", "float32")
    figures: dict[str, Figure] = {"dtype": start.dtype}
    wanted = ("cpu", beside_page(start), "float32", None)
    others = case.step_times(lambda run: _seat(run.start) == wanted)
    if others is not None:
        return _slower(case, "half_log", figures, others, change)
    if start.dtype == "bfloat16" and case.bfloat16_units is False:
        return Finding("half_emulated", figures, change=change)
    return None


def threads(case: Case) -> Finding | None:
    """The page leaves a core to the browser, and runs without a page are faster."""
    start, cores = case.start, case.start.hardware.get("cores")
    if start.device != "cpu" or not beside_page(start) or not isinstance(cores, int) or cores < 2:
        return None
    wanted = ("cpu", False, start.dtype, start.quantization)
    others = case.step_times(
        lambda run: _seat(run.start) == wanted and run.start.path == start.path
    )
    if others is None:
        return None
    figures: dict[str, Figure] = {"threads": cores - 1, "cores": cores}
    change = Change("num_threads", cores)
    return _slower(case, "threads", figures, others, change)


def busy_machine(case: Case) -> Finding | None:
    """Steps took longer than those of other runs like this one: the machine was the difference."""
    length = case.record.metrics.num_context_tokens
    others = case.step_times(
        lambda run: (
            loaded_alike(run.start, case.start)
            and run.start.drafter_quantization == case.start.drafter_quantization
            and length / 2 <= run.metrics.num_context_tokens <= length * 2
        )
    )
    if others is None:
        return None
    found = _slower(case, "busy_machine", {}, others)
    return (
        found if found is not None and (found.lost_s or 0) > BUSY * case.profile.decode_s else None
    )


def snapshots(case: Case) -> Finding | None:
    """Rejected drafts cost a second forward, because the caches cannot go back."""
    rejected = [
        step
        for step in case.profile.drafting
        if step.event.num_accepted < len(step.event.drafted_ids)
    ]
    if case.start.rollback_kind != "snapshot" or len(rejected) < LEAST_STEPS:
        return None
    whole = [step for step in case.profile.drafting if step not in rejected]
    figures: dict[str, Figure] = {"rejected": len(rejected), "steps": len(case.profile.drafting)}
    if not whole:
        return Finding("snapshots", figures)
    whole_s = sum(step.event.verify_s for step in whole) / len(whole)
    lost_s = sum(step.event.verify_s - whole_s for step in rejected)
    return Finding("snapshots", figures, lost_s=lost_s) if lost_s > 0 else None


def _seat(start: RunStart) -> tuple[str, bool, str, str | None]:
    """Where and in what a run computed."""
    return start.device, beside_page(start), start.dtype, start.quantization


def _slower(
    case: Case,
    key: str,
    figures: dict[str, Figure],
    others: StepTimes,
    change: Change | None = None,
) -> Finding | None:
    """A finding where other runs' steps are shorter than this run's."""
    steps = case.profile.steps
    gain = case.profile.decode_s / len(steps) / others.mean_s if steps else 0.0
    if gain < LEAST_GAIN:
        return None
    figures |= {"step_ms": gain * others.mean_s * 1e3, "other_ms": others.mean_s * 1e3}
    figures |= {"runs": others.num_runs}
    lost_s = case.profile.decode_s * (1 - 1 / gain)
    return Finding(key, figures, lost_s, gain if change else None, change)
