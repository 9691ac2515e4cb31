"""What a benchmark measures: checked here and nowhere else, and kept as JSON beside its results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import RequestError
from dflash_app.registry.load import Registry
from dflash_app.request import MAX_BLOCK_SIZE, Mode, Policy, SamplingParams
from dflash_app.store.records import storable

MAX_CONCURRENCY = 1024
MAX_REPETITIONS = 100
MAX_NEW_TOKENS = 2048
"""As the paper's tables."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a benchmark's figures depend on, but the machine and the questions' texts.

    Attributes:
        pair: its name in the registry; a server is a pair too.
        datasets: names, in the order in which they are asked.
        backend: by name; None takes the pair's first that works here.
        options: how to load the pair; whether with its drafter follows from `modes`.
        num_prompts: questions of each data set; None takes all.
        modes: "ar", "dflash" or both.
        block_sizes: of DFlash, anchor included; None is the drafter's own.
        policies: of DFlash's drafts.
        temperature: 0 is greedy.
        top_p: see `SamplingParams`.
        top_k: see `SamplingParams`.
        seed: of the first repetition; the next ones count up.
        thinking: as `GenerationRequest.thinking`.
        max_new_tokens: of one reply.
        repetitions: how often every question is asked.
        warm_up: rounds of short requests before the first question, which are not recorded.
        concurrency: requests at a time, each a cell of its own; local backends decode one.
        baseline: another pair on a server to hold the others against, as it was started with MTP.
        baseline_label: what the baseline is called; None takes its pair's name.
        baseline_mode: "dflash" where its server drafts, by whatever method; "ar" where it does not.
            `kept.create` sets it.

    Raises:
        RequestError: a value is outside its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    pair: str = "embedded"
    datasets: tuple[str, ...] = ("bundled",)
    backend: str | None = None
    options: LoadOptions = field(default_factory=LoadOptions)
    num_prompts: int | None = None
    modes: tuple[Mode, ...] = ("ar", "dflash")
    block_sizes: tuple[int | None, ...] = (None,)
    policies: tuple[Policy, ...] = ("fixed",)
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    thinking: str | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    repetitions: int = 1
    warm_up: int = 1
    concurrency: tuple[int, ...] = (1,)
    baseline: str | None = None
    baseline_label: str | None = None
    baseline_mode: Mode = "dflash"

    def __post_init__(self) -> None:
        if self.num_prompts is not None:
            _check_whole("prompts", self.num_prompts, 1, None)
        _check_whole("max_new_tokens", self.max_new_tokens, 1, 1_000_000)
        _check_whole("repetitions", self.repetitions, 1, MAX_REPETITIONS)
        _check_whole("warm-up", self.warm_up, 0, MAX_REPETITIONS)
        for level in _some("concurrency", self.concurrency):
            _check_whole("concurrency", level, 1, MAX_CONCURRENCY)
        for size in _some("block size", self.block_sizes):
            if size is not None:
                _check_whole("block size", size, 2, MAX_BLOCK_SIZE)
        _check_words("mode", self.modes, get_args(Mode))
        _check_words("policy", self.policies, get_args(Policy))
        for text in (*_some("dataset", self.datasets), self.baseline_label or ""):
            _check_writable(text)
        _ = self.sampling(0), self.sampling(self.repetitions - 1)
        if self.baseline is None and self.baseline_label is not None:
            raise RequestError("A baseline's label needs a baseline: name its pair too.")

    def sampling(self, repetition: int, *, seeded: bool = True) -> SamplingParams:
        """How the tokens of one repetition are drawn.

        Args:
            repetition: counts from 0.
            seeded: False draws a seed in every run.
        """
        seed = self.seed + repetition if seeded else None
        return SamplingParams(self.temperature, self.top_p, self.top_k, seed=seed)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `read_plan` takes it back."""
        return asdict(self)


def read_plan(data: Mapping[str, Any]) -> Plan:
    """A plan that was kept as JSON.

    Raises:
        RequestError: it is none of this version's.
    """
    try:
        return TypeAdapter(Plan).validate_python(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RequestError(
            f"The plan cannot be read at {place!r} ({first['msg']}): it was written by another "
            "version of the app."
        ) from error


def check_pairs(plan: Plan, registry: Registry) -> None:
    """Refuse what the plan's pairs cannot do, before anything is loaded.

    Raises:
        UnknownPair: no registry knows a pair.
        RequestError: the pair is on this machine and more than one request at a time was asked,
            or on a server and something that only its own start can set.
    """
    pair = registry.get(plan.pair)
    if pair.remote:
        if plan.block_sizes != (None,) or plan.policies != ("fixed",):
            raise RequestError(
                f"{plan.pair!r} is on a server, which drafts as it was started: leave out block "
                "sizes and policies."
            )
    elif plan.concurrency != (1,):
        raise RequestError(
            f"{plan.pair!r} decodes one request at a time on this machine: leave out concurrency, "
            "or name a pair on a server."
        )
    if "dflash" in plan.modes and pair.drafter is None:
        raise RequestError(f"{plan.pair!r} has no drafter: ask for mode 'ar' only.")
    if plan.baseline is not None:
        _check_baseline(plan.baseline, plan.pair, registry)


def _check_baseline(name: str, pair: str, registry: Registry) -> None:
    baseline = registry.get(name)
    if name == pair:
        raise RequestError(f"The baseline {name!r} is the pair itself: name another.")
    if not baseline.remote:
        raise RequestError(
            f"The baseline {name!r} is not on a server: add the server that you started with what "
            "you want to compare with (MTP) as a pair, and name that."
        )


def _some(name: str, values: Sequence[Any]) -> Sequence[Any]:
    if not values:
        raise RequestError(f"Give at least one {name}.")
    if len(set(values)) != len(values):
        raise RequestError(f"A {name} is given twice: give each once.")
    return values


def _check_words(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    for value in _some(name, values):
        if value not in known:
            raise RequestError(f"Unknown {name} {value!r}: use {' or '.join(known)}.")


def _check_writable(text: str) -> None:
    """A file's name need not be UTF-8, which the run log and the report need."""
    if storable(text) != text:
        raise RequestError(f"{storable(text)!r} is not UTF-8: rename it.")


def _check_whole(name: str, value: object, low: int, high: int | None) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not low <= value <= (math.inf if high is None else high):  # type: ignore[operator]
        limits = f"at least {low}" if high is None else f"from {low} to {high:,}"
        raise RequestError(f"{name} must be a whole number {limits}, not {value!r}.")
