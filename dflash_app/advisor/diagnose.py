"""Read one run and all that it can be compared with, and let every rule speak."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import fmean

from dflash_app.advisor import acceptance, costs, setup
from dflash_app.advisor.case import THREADS_TRIAL_SOURCE, Case, PlainStep, loaded_alike
from dflash_app.advisor.finding import Finding
from dflash_app.advisor.profile import Profile, profile
from dflash_app.errors import LoadError, StoreError, UnknownPair
from dflash_app.hub.cache import pair_state
from dflash_app.hub.model_files import read_json
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import Pair
from dflash_app.store.fingerprint import hardware_fingerprint
from dflash_app.store.records import RunFilter, RunRecord
from dflash_app.store.runs import Store

COMPARED_RUNS = 150
"""Newest runs of the pair that are looked at."""
NEAREST_PLAIN = 5
"""Most plain runs whose mean tells what a plain step takes."""
SAME_MOMENT = timedelta(minutes=30)
"""How far from a run its plain runs may begin: a machine is busier at one time than at another."""
LEAST_PLAIN_STEPS = 6
"""Plain steps of the run itself that tell it better than any other run."""
HINT_GAIN = 1.1
"""How much faster a change must look to be worth a line under every reply."""
LOW_ACCEPTANCE = 1.5
HINT_STEPS = 16
_OF_ACCEPTANCE = (
    "thinking_unknown", "script_output", "script_prompt", "script_trained", "refused",
)  # fmt: skip

RULES: tuple[Callable[[Case], Finding | None], ...] = (
    costs.drafting_loses,
    costs.block_size,
    costs.verification,
    costs.drafting,
    costs.host,
    costs.uneven,
    costs.prefill,
    costs.start_up,
    acceptance.refused,
    acceptance.thinking,
    acceptance.script,
    acceptance.temperature,
    acceptance.drafter_bits,
    acceptance.long_prompt,
    acceptance.falling,
    acceptance.beyond_drafter,
    acceptance.fallback,
    setup.plain_mode,
    setup.plain_unknown,
    setup.slow_path,
    setup.packed_weights,
    setup.half_precision,
    setup.threads,
    setup.busy_machine,
    setup.snapshots,
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the advisor has to say of a run.

    Attributes:
        case: what it knew.
        headline: the run in figures: its speed, its speedup, and how fast it could be at most.
        findings: what limits it, the dearest first; those whose cost is not known come last.
    """

    case: Case
    headline: tuple[Finding, ...]
    findings: tuple[Finding, ...]

    def hint(self) -> Finding | None:
        """The one finding worth a line under a reply; often None.

        The change that gains most; where drafts hardly help and none is known, what goes with it.
        """
        gains = [
            (each.gain, each)
            for each in self.findings
            if each.change and each.gain and each.gain >= HINT_GAIN and each.change.field != "mode"
        ]
        if gains:
            return max(gains, key=lambda each: each[0])[1]
        case = self.case
        if case.profile.num_drafting < HINT_STEPS or case.length >= LOW_ACCEPTANCE:
            return None
        return next((each for each in self.findings if each.key in _OF_ACCEPTANCE), None)


def diagnose(store: Store, registry: Registry, run_id: int) -> Diagnosis:
    """Say why a run was not faster.

    Args:
        store: has the run, and those to compare it with: of the same owner only.
        registry: knows its pair, or no longer.
        run_id: of a run that has ended.

    Raises:
        StoreError: there is no such run, its steps were not kept, or they are damaged.
    """
    record = store.get_run(run_id)
    if record is None:
        raise StoreError(f"There is no run {run_id}: `dflash-app runs list` shows their numbers.")
    events = store.run_events(run_id)
    if events is None:
        raise StoreError(f"No steps of run {run_id} were kept: run its prompt again, then ask.")
    return judge(gather(store, registry, record, profile(events)))


def judge(case: Case) -> Diagnosis:
    """Let every rule speak of a case."""
    found = [finding for rule in RULES if (finding := rule(case)) is not None]
    found.sort(key=lambda each: -1.0 if each.lost_s is None else each.lost_s, reverse=True)
    return Diagnosis(case, tuple(_headline(case)), tuple(found))


def gather(store: Store, registry: Registry, record: RunRecord, steps: Profile) -> Case:
    """Look up what a run is judged by.

    Raises:
        StoreError: the log cannot be read.
    """
    filters = RunFilter(pair=record.start.pair, owner=record.start.owner)
    others = [
        run
        for run in store.list_runs(filters, limit=COMPARED_RUNS)
        if run.id != record.id
        and run.finish_reason in ("stop", "length", "cancelled")
        and run.start.owner == record.start.owner
        and run.start.source != THREADS_TRIAL_SOURCE  # neither the page's threads nor without it
        and _machine(run) == _machine(record)
    ]
    pair = _row(registry, record.start.pair)
    here = _machine(record) == _machine_key(hardware_fingerprint())
    return Case(
        record=record,
        profile=steps,
        pair=pair,
        drafter_positions=None if pair is None else _drafter_positions(pair),
        bfloat16_units=bfloat16_units() if here else None,
        plain=_plain_step(record, steps, others),
        others=others,
    )


def bfloat16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Whether this machine's processor multiplies in bfloat16; None where Linux does not say."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return bool({"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"} & set(flags.split()))
    return None


def _headline(case: Case) -> Iterator[Finding]:
    steps, block, plain = case.profile.steps, case.profile.block, case.plain
    if case.profile.served is not None:
        yield from _headline_of_server(case)
        return
    if not steps:
        yield Finding("no_steps")
        return
    speed = case.present_speed
    step_ms = case.profile.decode_s / len(steps) * 1e3
    if block is None:
        yield Finding("speed_plain", {"speed": speed, "step_ms": step_ms})
        return
    parts = {
        "propose_ms": block.propose_s * 1e3,
        "verify_ms": block.verify_s * 1e3,
        "host_ms": block.host_s * 1e3,
    }
    figures = {"speed": speed, "length": case.length, "step_ms": block.step_s * 1e3} | parts
    yield Finding("speed", figures)
    if plain is not None:
        ratio = block.step_s / plain.step_s
        told = {"plain_ms": plain.step_s * 1e3, "speedup": speed * plain.step_s, "ratio": ratio}
        if plain.run_id is None:
            yield Finding("speedup", told | {"length": case.length})
        else:
            runs = {"run": plain.run_id, "runs": plain.num_runs}
            yield Finding("speedup_of_runs", told | runs | {"length": case.length})
        whole = (case.profile.width + 1) / ratio
        ceiling = {"ratio": ratio, "perfect": whole, "length": case.length}
        yield Finding("ceiling", ceiling | {"tokens": case.profile.width + 1})
    if len(case.profile.drafting) < costs.LEAST_STEPS:
        yield Finding("short", {"steps": len(case.profile.drafting)})


def _headline_of_server(case: Case) -> Iterator[Finding]:
    """What can be told without steps; other rules about them are silent."""
    if case.present_speed <= 0:
        yield Finding("served_uncounted")
        return
    yield Finding("served", {"speed": case.present_speed})
    if case.profile.num_drafting:
        yield Finding("served_length", {"length": case.length, "steps": case.profile.num_drafting})
    if case.plain is not None and case.start.mode == "dflash":
        speedup = case.present_speed * case.plain.step_s
        times = {"plain_ms": case.plain.step_s * 1e3, "speedup": speedup}
        runs = {"run": case.plain.run_id or case.record.id, "runs": case.plain.num_runs}
        yield Finding("served_speedup", {**times, **runs})


def _plain_step(record: RunRecord, steps: Profile, others: Sequence[RunRecord]) -> PlainStep | None:
    """From the run's own plain steps, else its race, else the plain runs nearest to it in time."""
    own = steps.plain
    if own is not None and (own.num_steps >= LEAST_PLAIN_STEPS or record.start.mode == "ar"):
        return PlainStep(own.step_s)
    known = [
        run
        for run in others
        if run.start.mode == "ar" and run.metrics.tpot_s and loaded_alike(run.start, record.start)
    ]
    group, began = record.start.group_id, record.start.started_at
    raced = [run for run in known if group is not None and run.start.group_id == group]
    by_time = sorted(raced or known, key=lambda run: abs(run.start.started_at - began))
    near = [run for run in by_time if abs(run.start.started_at - began) <= SAME_MOMENT]
    taken = near[:NEAREST_PLAIN] or by_time[:1]
    if not taken:
        return None
    mean_s = fmean(run.metrics.tpot_s or 0.0 for run in taken)
    return PlainStep(mean_s, taken[0].id, len(taken))


def _row(registry: Registry, name: str) -> Pair | None:
    try:
        return registry.with_trained_for(registry.get(name))
    except UnknownPair:
        return None


def _drafter_positions(pair: Pair) -> int | None:
    folder = pair_state(pair).drafter_dir
    if folder is None:
        return None
    try:
        positions = read_json(folder / "config.json").get("max_position_embeddings")
    except LoadError:
        return None
    return positions if isinstance(positions, int) else None


def _machine(run: RunRecord) -> tuple[object, ...]:
    return _machine_key(run.start.hardware)


def _machine_key(hardware: dict[str, object]) -> tuple[object, ...]:
    gpus = hardware.get("gpus")
    return hardware.get("cpu"), hardware.get("cores"), tuple(gpus) if isinstance(gpus, list) else ()
