"""A task: one question, the reply we teach, and what makes a reply right."""

import random
import zlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal, TypeVar

Split = Literal["train", "held-out"]
ParamsT = TypeVar("ParamsT", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Task:
    """One question and its taught reply.

    Attributes:
        kind: name of the generator, as reported in the model card.
        prompt: the user's text.
        reply: the taught reply.
        answer: what a right reply must give: the last **bold** text, or for kinds without one the
            whole reply.
        cases: for code, (arguments, expected result) pairs the reply's function is run on.
        follow_up: a task that only makes sense after this one ("And of 60?"), or None.
    """

    kind: str
    prompt: str
    reply: str
    answer: str
    cases: tuple[tuple[tuple[object, ...], object], ...] = ()
    follow_up: "Task | None" = None


@dataclass(frozen=True, slots=True)
class Wordings:
    """Ways to ask one thing; the held-out ones are never trained on."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def pick(self, rng: random.Random, split: Split) -> str:
        """One wording of the split."""
        return rng.choice(self.train if split == "train" else self.held_out)


def is_held_out(kind: str, key: Hashable) -> bool:
    """Whether the parameters belong to the held-out split: one in eight, by a stable hash."""
    return zlib.crc32(f"{kind}:{key}".encode()) % 8 == 0


def draw(kind: str, split: Split, sample: Callable[[], ParamsT]) -> ParamsT:
    """Sample parameters until they belong to the split."""
    while True:
        value = sample()
        if is_held_out(kind, value) == (split == "held-out"):
            return value
