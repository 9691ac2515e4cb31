"""What a race came to: each lane's figures and verdict, as values and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from dflash_app.advisor.costs import was_interrupted
from dflash_app.advisor.profile import profile
from dflash_app.engine.protocol import ON_SERVER, LoadedPair
from dflash_app.metrics import RunMetrics
from dflash_app.race import (
    LaneSpec,
    RaceLane,
    choose_baseline,
    end_to_end_speedup,
    seconds_saved,
    speedup,
)
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import ModelRef
from dflash_app.session import describe
from dflash_app.store.records import RunStart
from dflash_app.ui.run_view import RunView
from dflash_app.verdict import Verdict, near_tie_logits, say_precision, verdict

from .command import race_command


@dataclass(frozen=True, slots=True)
class Spread:
    """Speedups of one lane in several races that were run alike.

    Attributes:
        num_races: how many, the last one included.
        median: of their speedups.
        lowest: of them.
        highest: of them.
    """

    num_races: int
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class LaneOutcome:
    """One lane at the end of a race.

    Attributes:
        spec: what was asked for.
        start: where and how it ran.
        target: its place; of a local folder the name alone.
        drafter: the same; None where it decoded plainly.
        precision: of the target.
        noise: margin of logits that rounding explains in that precision.
        metrics: its figures.
        reason: why it ended.
        interrupted: something else took the machine from it, as its steps show.
        speedup: against the baseline; None for the baseline itself and where unknown.
        end_to_end_speedup: the same with the prompt; None likewise.
        seconds_saved: see `race.seconds_saved`; None likewise.
        verdict: against the baseline's output; None for the baseline itself.
        run_id: in the run log; None where it is not there.
        spread: of the speedup over races like this one; None where there is no other.
    """

    spec: LaneSpec
    start: RunStart
    target: str
    drafter: str | None
    precision: str
    noise: float
    metrics: RunMetrics
    reason: str | None
    interrupted: bool = False
    speedup: float | None = None
    end_to_end_speedup: float | None = None
    seconds_saved: float | None = None
    verdict: Verdict | None = None
    run_id: int | None = None
    spread: Spread | None = None


@dataclass(frozen=True, slots=True)
class RaceOutcome:
    """A race that has ended.

    Attributes:
        lanes: in their order.
        baseline: index of the lane that the others are held against.
        backend: that was asked for; None where it was left to the pair.
    """

    lanes: tuple[LaneOutcome, ...]
    baseline: int
    backend: str | None

    @property
    def others(self) -> list[int]:
        """The lanes that are held against the baseline."""
        return [index for index in range(len(self.lanes)) if index != self.baseline]

    @property
    def prompt(self) -> str:
        return self.lanes[0].start.prompt

    def command(self, *, with_prompt: bool) -> str:
        """What runs the race again on a command line."""
        specs = [lane.spec for lane in self.lanes]
        return race_command(specs, self.backend, self.prompt if with_prompt else None)


def judge(
    lanes: Sequence[RaceLane],
    specs: Sequence[LaneSpec],
    views: Sequence[RunView],
    registry: Registry,
    backend: str | None,
) -> RaceOutcome:
    """Compare what came of the lanes; asks a target for logits where outputs differ.

    Raises:
        GenerationFailed: a target could not be asked.
    """
    baseline = choose_baseline(lanes)
    plain, plain_view = lanes[baseline], views[baseline]
    outcomes = []
    for index, (lane, spec, view) in enumerate(zip(lanes, specs, views, strict=True)):
        against: dict[str, Any] = {}
        if index != baseline:
            ends = [each.finished for each in (plain_view, view)]
            against = {
                "speedup": speedup(plain_view.metrics(), view.metrics()),
                "end_to_end_speedup": end_to_end_speedup(plain_view.metrics(), view.metrics()),
                "seconds_saved": seconds_saved(plain_view.metrics(), view.metrics()),
                "verdict": verdict(
                    plain.loaded,
                    plain.request,
                    plain_view.token_ids,
                    view.token_ids,
                    texts=(plain_view.text, view.text),
                    cancelled=any(end is None or end.reason == "cancelled" for end in ends),
                    other=lane.loaded,
                ),
            }
        outcomes.append(_lane_outcome(lane, spec, view, registry, against))
    return RaceOutcome(tuple(outcomes), baseline, backend)


def _lane_outcome(
    lane: RaceLane, spec: LaneSpec, view: RunView, registry: Registry, against: dict[str, Any]
) -> LaneOutcome:
    loaded: LoadedPair = lane.loaded
    pair, drafting = registry.get(spec.pair), lane.request.mode == "dflash"
    revisions = (lane.target_revision, lane.drafter_revision)
    end = view.finished
    return LaneOutcome(
        spec=spec,
        start=describe(loaded, lane.request, "race", revisions),
        target=_name(pair.target),
        drafter=_name(pair.drafter) if drafting and pair.drafter else None,
        precision=say_precision(loaded),
        noise=near_tie_logits(loaded),
        metrics=view.metrics(),
        reason=None if end is None else end.reason,
        interrupted=was_interrupted(profile(view.events)),
        **against,
    )


def _name(ref: ModelRef) -> str:
    """A model's place; where a folder lies, or a server stands, is nobody's business."""
    if ref.model is not None:
        return ref.model
    embedded = ref.source.startswith("embedded:")
    return ref.source if ref.repo or embedded else PurePath(ref.source).name


def as_json(outcome: RaceOutcome, *, with_prompt: bool) -> dict[str, Any]:
    """The card as a file holds it; without the prompt also without words of the outputs."""
    start = outcome.lanes[0].start
    settings = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
    said = {
        "system": "\n".join(each["content"] for each in start.messages if each["role"] == "system"),
        "prompt": start.prompt,
        "stop": list(start.stop),
    }
    return {
        "kind": "DFlash Studio race",
        "app_version": start.app_version,
        "started_at": start.started_at.isoformat(timespec="seconds"),
        **(said if with_prompt else {}),
        "settings": {
            **{name: getattr(start, name) for name in settings},
            "max_new_tokens": start.max_new_tokens,
            "thinking": start.thinking,
            "threads": outcome.lanes[0].spec.options.num_threads,
        },
        "lanes": [_lane_as_json(lane, with_words=with_prompt) for lane in outcome.lanes],
        "baseline": outcome.baseline,
        "command": outcome.command(with_prompt=with_prompt),
        "machine": start.hardware,
        "library_versions": start.library_versions,
    }


def _lane_as_json(lane: LaneOutcome, *, with_words: bool) -> dict[str, Any]:
    start = lane.start
    return {
        "mode": start.mode,
        "pair": start.pair,
        "target": {"source": lane.target, "revision": start.target_revision},
        "drafter": lane.drafter and {"source": lane.drafter, "revision": start.drafter_revision},
        "backend": start.backend,
        "device": ON_SERVER if start.on_server else start.device,
        "precision": None if start.on_server else start.precision,
        "path": start.paths,
        "block_size": start.block_size,
        "draft_length": start.policy,
        "finish_reason": lane.reason,
        "figures": asdict(lane.metrics),
        "interrupted": lane.interrupted,
        "speedup": lane.speedup,
        "end_to_end_speedup": lane.end_to_end_speedup,
        "speedup_of_races": lane.spread and asdict(lane.spread),
        "seconds_saved": lane.seconds_saved,
        "verdict": lane.verdict and _verdict_as_json(lane.verdict, with_words=with_words),
    }


def _verdict_as_json(found: Verdict, *, with_words: bool) -> dict[str, Any]:
    words = ("text_a", "text_b", "explanation")
    return {name: value for name, value in asdict(found).items() if with_words or name not in words}
