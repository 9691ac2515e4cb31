"""Find a set of questions by its name, take some of it, and score replies to it."""

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from dflash_app.errors import DFlashAppError, PluginError, RequestError
from dflash_app.hookspecs import Dataset, Question

from .jsonl import read_jsonl
from .scoring import is_exact

OWN_SUFFIX = ".jsonl"
"""What the name of a set ends in that is a user's own file."""
OWN_DESCRIPTION = "A file of one's own."

ORDER_SEED = 42
"""Of the shuffle before some questions are taken. z-lab's dflash 0.1.0 shuffles the same way, so
the first n are its first n. Earlier versions of it shuffled otherwise, or, for servers, took the
first rows of the file; which one a published table was made with is not told."""


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """A set that is loaded.

    Attributes:
        name: as it was asked for: of a registered set, or the path of a file.
        description: what is in it.
        questions: in the set's own order.
        grade: whether a reply comes to an answer.
    """

    name: str
    description: str
    questions: tuple[Question, ...]
    grade: Callable[[str, str], bool]

    def select(self, count: int | None, seed: int = ORDER_SEED) -> tuple[Question, ...]:
        """Some of the questions, drawn by a seed; all of them in their own order for None.

        Args:
            count: how many; where the set has fewer, all of them.
            seed: the same seed draws the same, and more contain fewer.
        """
        if count is None:
            return self.questions
        order = list(range(len(self.questions)))
        random.Random(seed).shuffle(order)
        return tuple(self.questions[index] for index in order[:count])

    def score(self, question: Question, reply: str) -> float | None:
        """1.0 for a right reply to the question's last turn, 0.0 for a wrong one; None = ungraded.

        A reply's thinking is left out, and one that never ended thinking is wrong.

        Raises:
            PluginError: the set's own code failed.
        """
        if question.answer is None:
            return None
        said = spoken(reply)
        if said is None:
            return 0.0
        try:
            return float(bool(self.grade(said, question.answer)))
        except Exception as error:
            raise PluginError(
                f"The set {self.name} cannot grade a reply to question {question.id} "
                f"({type(error).__name__}: {error}): correct its plugin."
            ) from error


def load_set(datasets: Sequence[Dataset], name: str) -> QuestionSet:
    """Load a registered set, or the questions of a .jsonl file.

    Args:
        datasets: what is registered.
        name: of one of them, or a path that ends in .jsonl.

    Raises:
        RequestError: there is none of that name, or the file has a broken line.
        HubError: the set cannot be downloaded.
        PluginError: the set's own code failed.
    """
    known = {dataset.name: dataset for dataset in datasets}
    if name in known:
        return _load(known[name])
    if name.lower().endswith(OWN_SUFFIX):
        questions = read_jsonl(Path(name).expanduser())
        return QuestionSet(name, OWN_DESCRIPTION, tuple(questions), is_exact)
    raise RequestError(
        f"Unknown dataset {name!r}: use {', '.join(known)}, or a .jsonl file of your own."
    )


def kept_set(datasets: Sequence[Dataset], name: str, questions: Sequence[Question]) -> QuestionSet:
    """A set whose questions were kept when it was loaded first: needs no file and no network.

    Args:
        datasets: what is registered.
        name: of a registered set, or of a file that need not be there any more.
        questions: of it.

    Raises:
        RequestError: it is neither, so nobody could grade replies as before.
        PluginError: the set's own code failed.
    """
    known = {dataset.name: dataset for dataset in datasets}
    if name in known:
        return QuestionSet(name, known[name].description, tuple(questions), _grader(known[name]))
    if name.lower().endswith(OWN_SUFFIX):
        return QuestionSet(name, OWN_DESCRIPTION, tuple(questions), is_exact)
    raise RequestError(f"No plugin has the set {name!r} any more: install it again.")


def read_question(kept: Mapping[str, Any]) -> Question:
    """A question that was kept as JSON."""
    return Question(**{**kept, "turns": tuple(kept["turns"])})


def digest(questions: Sequence[Question]) -> str:
    """A short fingerprint of what is asked, in which order."""
    asked = [[each.id, each.system, *each.turns] for each in questions]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def spoken(reply: str) -> str | None:
    """A reply without its thinking; None where it thought to its end."""
    _, closed, said = reply.rpartition("</think>")
    if not closed and "<think>" in reply:
        return None
    return said


def _load(dataset: Dataset) -> QuestionSet:
    try:
        questions: tuple[Question, ...] = tuple(_named(dataset.load)())
        grade = _grader(dataset)
    except DFlashAppError:
        raise
    except Exception as error:
        raise PluginError(
            f"The set {dataset.name} cannot be loaded ({type(error).__name__}: {error}): correct "
            "its plugin."
        ) from error
    ids = {question.id for question in questions if isinstance(question, Question)}
    if len(ids) != len(questions):
        raise PluginError(
            f"The set {dataset.name} must yield questions with an id of their own each: correct "
            "its plugin."
        )
    if not questions:
        raise RequestError(f"The set {dataset.name} asks no question: choose another.")
    return QuestionSet(dataset.name, dataset.description, questions, grade)


def _grader(dataset: Dataset) -> Callable[[str, str], bool]:
    if dataset.grade is None:
        return is_exact
    try:
        return _named(dataset.grade)
    except Exception as error:
        raise PluginError(
            f"The set {dataset.name} cannot be graded ({type(error).__name__}: {error}): correct "
            "its plugin."
        ) from error


def _named(place: str) -> Callable[..., Any]:
    """The function that "pkg.mod:function" names."""
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
