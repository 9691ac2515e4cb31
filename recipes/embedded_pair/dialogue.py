"""Conversations: one to several tasks in turn, as rough as people type them."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from recipes.embedded_pair.language import cannot, facts, small_talk
from recipes.embedded_pair.numeric import arithmetic, divisors, equation, percent, sequence
from recipes.embedded_pair.programming import code
from recipes.embedded_pair.task import Split, Task
from recipes.embedded_pair.verbal import lists, units, word_problem

KINDS: dict[str, Callable[[random.Random, Split], Task]] = {
    "divisors": divisors,
    "arithmetic": arithmetic,
    "word problem": word_problem,
    "units": units,
    "equation": equation,
    "lists": lists,
    "code": code,
    "facts": facts,
    "small talk": small_talk,
    "cannot": cannot,
    "percent": percent,
    "sequence": sequence,
}
"""Every kind by the name in the model card."""

_WEIGHTS = {
    "divisors": 8, "arithmetic": 4, "word problem": 2, "units": 2, "equation": 3, "lists": 4,
    "code": 3, "facts": 2, "small talk": 1, "cannot": 2, "percent": 1, "sequence": 1,
}  # fmt: skip
_SYSTEMS = (
    "You are a helpful assistant.", "You are a helpful, honest assistant.", "Be brief.",
    "You are a small model. Answer step by step.", "Answer in English.", "You are DFlash.",
)  # fmt: skip
_OPENINGS = (
    "Hi! ",
    "Hello, ",
    "Hey, ",
    "Please help: ",
    "Question: ",
    "Ok. ",
    "Next: ",
    "And now: ",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question as typed, and its task."""

    prompt: str
    task: Task


@dataclass(frozen=True, slots=True)
class Conversation:
    """A system prompt or None, and one or more turns."""

    system: str | None
    turns: tuple[Turn, ...]


def _rough(rng: random.Random, prompt: str) -> str:
    """The prompt as people type: sometimes an opening, no capital, no final mark."""
    draw = rng.random()
    if draw < 0.10:
        prompt = rng.choice(_OPENINGS) + prompt
    elif draw < 0.20:
        prompt = prompt[0].lower() + prompt[1:]
    if rng.random() < 0.10 and prompt[-1] in ".?":
        prompt = prompt[:-1]
    return prompt


def normalise(prompt: str) -> str:
    """The prompt's letters, digits and signs alone, to find what is the same question."""
    return "".join(character for character in prompt.lower() if character not in " .,!?:;'\n")


def conversation(
    rng: random.Random,
    num_turns: int,
    max_chars: int | None = None,
    excluded: frozenset[str] = frozenset(),
) -> Conversation:
    """A training conversation of `num_turns`, or of as many as reach `max_chars`.

    Args:
        rng: the source of randomness.
        num_turns: at least so many turns.
        max_chars: go on until the text is so long.
        excluded: normalised prompts that must not occur (the held-out questions).
    """
    turns: list[Turn] = []
    num_chars = 0
    while len(turns) < num_turns or (max_chars is not None and num_chars < max_chars):
        kind = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        task = KINDS[kind](rng, "train")
        batch = [task]
        if task.follow_up and (num_turns > 1 or max_chars) and rng.random() < 0.5:
            batch.append(task.follow_up)
        for each in batch:
            prompt = _rough(rng, each.prompt)
            if normalise(prompt) in excluded:
                break
            turns.append(Turn(prompt, each))
            num_chars += len(each.prompt) + len(each.reply)
    system = rng.choice(_SYSTEMS) if rng.random() < 0.25 else None
    return Conversation(system, tuple(turns))


def conversations(
    seed: int, max_chars: int | None = None, excluded: frozenset[str] = frozenset()
) -> Iterator[Conversation]:
    """Training conversations without end: one to four turns, or long ones of `max_chars`."""
    rng = random.Random(seed)
    while True:
        yield conversation(rng, rng.choice((1, 1, 1, 2, 2, 3, 4)), max_chars, excluded)


def held_out_tasks(seed: int, num_per_kind: int) -> list[Task]:
    """The held-out questions: other parameters and other wordings than in training, no repeats."""
    rng = random.Random(seed)
    tasks = []
    for kind, make in KINDS.items():
        seen: set[str] = set()
        tries = 0
        while len(seen) < num_per_kind and tries < 200 * num_per_kind:
            tries += 1
            task = make(rng, "held-out")
            if task.prompt not in seen:
                seen.add(task.prompt)
                tasks.append(task)
        if not seen:
            raise ValueError(f"no held-out task of kind {kind}")
    return tasks
