"""A lane without tensors: a deterministic target, an oracle drafter, and invariants it checks.

The target is a function of the whole prefix, so a cache that holds one wrong token goes astray.
The drafter knows the target and makes exactly as many right drafts as a script tells it to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from dflash_app.engine.protocol import Verified
from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone
from dflash_app.request import Mode, SamplingParams

NextToken = Callable[[Sequence[int]], int]


def hashed(prefix: Sequence[int]) -> int:
    """The next token: depends on every token before it and on their order."""
    state = 17
    for token_id in prefix:
        state = (state * 1_000_003 + token_id + 1) % 2_147_483_647
    return state % 50_000


def greedy(next_token: NextToken, prompt_ids: Sequence[int], count: int) -> list[int]:
    """What plain decoding puts out, computed without any lane."""
    prefix = list(prompt_ids)
    for _ in range(count):
        prefix.append(next_token(prefix))
    return prefix[len(prompt_ids) :]


def output(events: Sequence[DecodeEvent]) -> list[int]:
    """All tokens that a run put out."""
    ids: list[int] = []
    for event in events:
        if isinstance(event, PrefillDone):
            ids.append(event.token_id)
        elif isinstance(event, StepDone):
            ids.extend(event.token_ids)
    return ids


def reason(events: Sequence[DecodeEvent]) -> str:
    """Why the run ended; Finished comes once, at the end."""
    last = events[-1]
    assert isinstance(last, Finished)
    assert not any(isinstance(event, Finished) for event in events[:-1])
    return last.reason


@dataclass
class FakeTime:
    """A clock that moves only when work is done."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def spend(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Costs:
    """Seconds of each operation."""

    extend_s: float = 0.0
    propose_s: float = 0.0
    verify_s: float = 0.0


@dataclass
class ScriptedLane:
    """`Lane[tuple[int, ...]]`; `accepts` is repeated for ever: right drafts in each step."""

    next_token: NextToken = hashed
    accepts: Sequence[int] = (0,)
    context_length: int = 10_000
    time: FakeTime = field(default_factory=FakeTime)
    costs: Costs = field(default_factory=Costs)
    on_verify: Callable[[], None] = lambda: None
    on_extend: Callable[[], None] = lambda: None
    length: int = 0

    def __post_init__(self) -> None:
        self.cache: list[int] = []
        self.committed: list[int] = []
        self.chunks: list[int] = []
        self.proposed: list[int] = []
        self.num_verified = 0
        self.savepoints: list[int] = []
        self.closed = 0
        self._script = cycle(self.accepts)
        self._anchor: int | None = None
        self._length_before = 0
        self._owed_length: int | None = None

    def extend(self, token_ids: Sequence[int]) -> None:
        assert self._anchor is None, "prefill after the first token"
        assert token_ids, "an empty chunk"
        self._feed(token_ids)
        self.committed.extend(token_ids)
        self.chunks.append(len(token_ids))
        self.time.spend(self.costs.extend_s * len(token_ids))
        self.on_extend()

    def first_token(self) -> int:
        assert self.cache, "no prompt"
        assert self._anchor is None, "asked twice"
        return self._take_anchor(self.next_token(self.cache))

    def propose(self, num_draft: int) -> tuple[int, ...]:
        assert self._anchor is not None, "no anchor"
        assert self._owed_length is None, "the lane was not rewound after the last step"
        assert self.cache == self.committed[:-1], "the anchor, and it alone, is not in the cache"
        assert num_draft >= 0
        right = greedy(self.next_token, self.committed, num_draft)
        wanted = next(self._script)
        self.proposed.append(num_draft)
        if num_draft:
            self.time.spend(self.costs.propose_s)
        return tuple(
            token_id if index < wanted else token_id + 100_000
            for index, token_id in enumerate(right)
        )

    def verify(self, draft: tuple[int, ...]) -> Verified:
        assert self._anchor is not None
        before = len(self.cache)
        self._feed([self._anchor, *draft])
        own = [self.next_token(self.cache[: before + 1 + i]) for i in range(len(draft) + 1)]
        num_accepted = 0
        while num_accepted < len(draft) and draft[num_accepted] == own[num_accepted]:
            num_accepted += 1
        self.committed.extend(draft[:num_accepted])
        self._length_before, self._owed_length = before, before + 1 + num_accepted
        self.num_verified += 1
        self.time.spend(self.costs.verify_s)
        self.on_verify()
        return Verified(draft, num_accepted, self._take_anchor(own[num_accepted]))

    def set_savepoint(self) -> None:
        self.savepoints.append(self.length)

    def rewind(self, length: int) -> None:
        owed = self._owed_length
        assert owed is not None, "rewound twice"
        # Less where the step is cut, but never the anchor: it was put out.
        assert self._length_before < length <= owed, f"rewound to {length}, not up to {owed}"
        del self.cache[length:]
        self.length, self._owed_length = length, None

    def close(self) -> None:
        self.closed += 1

    def _feed(self, token_ids: Sequence[int]) -> None:
        self.cache.extend(token_ids)
        self.length = len(self.cache)
        assert self.length <= self.context_length, "a position beyond the context"

    def _take_anchor(self, token_id: int) -> int:
        self._anchor = token_id
        self.committed.append(token_id)
        return token_id


@dataclass
class ScriptedModels:
    """`LoadedModels` whose lanes are scripted."""

    next_token: NextToken = hashed
    accepts: Sequence[int] = (0,)
    context_length: int = 10_000
    block_size: int | None = 4
    max_block_size: int | None = 8
    eos_ids: frozenset[int] = frozenset()
    device: str = "cpu"
    dtype: str = "float32"
    rollback_kind: str = "crop"
    quantization: str | None = None
    drafter_quantization: str | None = None
    path: str = "static cache"
    drafter_path: str | None = "static cache"
    warnings: tuple[str, ...] = ()
    time: FakeTime = field(default_factory=FakeTime)
    costs: Costs = field(default_factory=Costs)
    on_verify: Callable[[], None] = lambda: None
    on_extend: Callable[[], None] = lambda: None
    need_savepoints: bool = False

    def __post_init__(self) -> None:
        self.lanes: list[ScriptedLane] = []
        self.prompts: list[list[int] | None] = []
        self.closed = 0

    def open_lane(
        self,
        sampling: SamplingParams,
        mode: Mode,
        block_size: int | None,
        prompt_ids: Sequence[int] | None = None,
    ) -> ScriptedLane:
        self.prompts.append(None if prompt_ids is None else list(prompt_ids))
        lane = ScriptedLane(
            self.next_token,
            self.accepts,
            self.context_length,
            self.time,
            self.costs,
            self.on_verify,
            self.on_extend,
        )
        self.lanes.append(lane)
        return lane

    def next_logits(self, token_ids: Sequence[int], candidates: Sequence[int]) -> tuple[float, ...]:
        best = self.next_token(token_ids)
        return tuple(float(candidate == best) for candidate in candidates)

    def memory_bytes(self) -> int:
        return 1234

    def close(self) -> None:
        self.closed += 1
