"""Which questions are asked: held out of the pair's training, always the same ones."""

from dataclasses import dataclass

from recipes.embedded_pair.config import FULL
from recipes.embedded_pair.dialogue import held_out_tasks
from recipes.embedded_pair.task import Task

DEMONSTRATION = "How many positive whole-number divisors does 196 have?"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question and the kind of task it is."""

    kind: str
    text: str


UNLIKE = Prompt("none", "Unlike all others")
"""Asked before a reply that is timed as a whole: ours would go on from the same prompt's caches."""


def held_out_prompts(count: int) -> list[Prompt]:
    """The demonstration prompt, then `count` held-out questions spread evenly over all kinds.

    Args:
        count: how many; the first of each kind, then the second of each, and so on.
    """
    rounds = zip(*_by_kind().values(), strict=False)
    spread = [Prompt(task.kind, task.prompt) for tasks in rounds for task in tasks]
    return [Prompt("divisors", DEMONSTRATION), *spread[:count]]


def talkative_prompts(count: int) -> list[Prompt]:
    """The held-out questions with the longest taught replies, at most two of a kind.

    Args:
        count: how many; the longest first.
    """
    longest: list[Task] = []
    for tasks in _by_kind().values():
        longest += sorted(tasks, key=lambda task: len(task.reply), reverse=True)[:2]
    longest.sort(key=lambda task: len(task.reply), reverse=True)
    return [Prompt(task.kind, task.prompt) for task in longest[:count]]


def _by_kind() -> dict[str, list[Task]]:
    """The recipe's own held-out set, which its model card grades."""
    kinds: dict[str, list[Task]] = {}
    for task in held_out_tasks(FULL.seed, FULL.num_held_out):
        kinds.setdefault(task.kind, []).append(task)
    return kinds
