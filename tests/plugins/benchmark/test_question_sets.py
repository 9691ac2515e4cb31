"""Finding a set by its name, taking some of it, and scoring replies."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dflash_plugins.benchmark.question_sets import (
    ORDER_SEED,
    QuestionSet,
    digest,
    kept_set,
    load_set,
)

from dflash_app.errors import DFlashAppError, PluginError, RequestError
from dflash_app.hookspecs import Dataset, Question
from dflash_app.plugins import load_plugins
from dflash_app.settings import Settings

HERE = __name__


def three() -> Iterator[Question]:
    for index in range(3):
        yield Question(str(index), ("Say it.",), answer=str(index))


def twins() -> list[Question]:
    return [Question("1", ("a",)), Question("1", ("b",))]


def nothing() -> list[Question]:
    return []


def texts() -> list[str]:
    return ["a prompt"]


def broken() -> list[Question]:
    return [Question("1", (Path("/no/such/file").read_text(),))]


def blank() -> list[Question]:
    return [Question("1", (" ",))]


def longer(reply: str, answer: str) -> bool:
    return len(reply) > len(answer)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sets_of_a_test", sys.modules[HERE])


def dataset(load: str, grade: str | None = None) -> Dataset:
    grade = grade and f"sets_of_a_test:{grade}"
    return Dataset("mine", "a set", f"sets_of_a_test:{load}", grade)


def test_the_shipped_sets_are_registered(settings: Settings) -> None:
    registered = load_plugins(settings).hook.register_datasets()
    assert [each.name for each in registered] == [
        "bundled", "gsm8k", "math500", "humaneval", "mbpp", "mt-bench",
    ]  # fmt: skip
    bundled = load_set(registered, "bundled")
    question = next(each for each in bundled.questions if each.id == "facts-2")
    assert bundled.score(question, "The capital of Finland is **Helsinki**.") == 1.0
    assert bundled.score(question, "The capital of Finland is **Oslo**, not Helsinki.") == 0.0


def test_a_registered_set_is_loaded_and_graded_by_its_own_function() -> None:
    found = load_set([dataset("three", "longer")], "mine")
    assert [each.id for each in found.questions] == ["0", "1", "2"]
    assert found.score(found.questions[0], "ab") == 1.0
    assert found.score(found.questions[0], "a") == 0.0


def test_a_file_of_ones_own_is_a_set(tmp_path: Path) -> None:
    path = tmp_path / "own.JSONL"
    path.write_text('{"prompt": "2 + 2?", "answer": "4"}')
    found = load_set([], str(path))
    assert found.name == str(path)
    assert found.score(found.questions[0], r"It is $\boxed{4}$, not 5.") == 1.0


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(RequestError, match=r"Unknown dataset 'gsm9k': use mine, or a .jsonl file"):
        load_set([dataset("three")], "gsm9k")


@pytest.mark.parametrize(
    ("load", "error", "reason"),
    [
        ("twins", PluginError, "an id of their own each"),
        ("texts", PluginError, "an id of their own each"),
        ("broken", PluginError, "FileNotFoundError"),
        ("absent", PluginError, "AttributeError"),
        ("nothing", RequestError, "The set mine asks no question"),
        ("blank", RequestError, "asks nothing in a turn"),
    ],
)
def test_a_set_whose_code_fails_says_so(
    load: str, error: type[DFlashAppError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        load_set([dataset(load)], "mine")


def many(count: int) -> QuestionSet:
    questions = tuple(Question(str(index), ("?",)) for index in range(count))
    return QuestionSet("many", "", questions, lambda *_: True)


def test_some_are_the_first_of_z_labs_shuffle() -> None:
    order = list(range(1319))
    random.Random(42).shuffle(order)
    taken = [int(each.id) for each in many(1319).select(128)]
    assert ORDER_SEED == 42
    assert taken == order[:128]


def test_more_contain_fewer_and_no_number_takes_all_in_order() -> None:
    found = many(10)
    assert found.select(7)[:3] == found.select(3)
    assert len(found.select(99)) == 10
    assert found.select(None) == found.questions
    assert found.select(10, seed=1) != found.select(10, seed=2)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("7", 1.0),
        ("<think>maybe **8**</think>\n**7**", 1.0),
        ("<think>**7**</think> **8**", 0.0),
        ("maybe **8**</think>**7**", 1.0),
        ("<think>**7**", 0.0),
        ("", 0.0),
    ],
)
def test_thinking_is_no_answer(reply: str, score: float) -> None:
    found = load_set([dataset("three")], "mine")
    assert found.score(Question("q", ("?",), answer="7"), reply) == score


def test_a_question_without_an_answer_is_not_scored() -> None:
    assert many(1).score(Question("q", ("Write code.",)), "import os") is None


def test_the_digest_changes_with_what_is_asked() -> None:
    first = [Question("1", ("a", "b"))]
    changed = [[Question("1", ("a",))], [Question("2", ("a", "b"))], [Question("1", ("a", "c"))]]
    changed.append([Question("1", ("a", "b"), system="s")])
    assert digest(first) == digest([Question("1", ("a", "b"), answer="not asked")])
    assert len({digest(first), *map(digest, changed)}) == 5


def raising(reply: str, answer: str) -> bool:
    raise ZeroDivisionError("a bug")


def test_a_grader_that_fails_is_named() -> None:
    graded = kept_set([dataset("three", "raising")], "mine", list(three()))
    with pytest.raises(PluginError, match=r"The set mine cannot grade .* question 0 .*a bug"):
        graded.score(graded.questions[0], "2")
    with pytest.raises(PluginError, match="The set mine cannot be graded"):
        kept_set([dataset("three", "absent")], "mine", list(three()))


def test_a_kept_set_is_graded_as_before_or_not_at_all() -> None:
    assert kept_set([], "own.jsonl", list(three())).score(next(three()), "0") == 1.0
    with pytest.raises(RequestError, match="No plugin has the set 'mine' any more"):
        kept_set([], "mine", list(three()))
