import math
import random
import sys

import pytest

from recipes.embedded_pair.dialogue import KINDS, conversations, held_out_tasks, normalise
from recipes.embedded_pair.grading import is_right
from recipes.embedded_pair.numeric import factorise

SEED, NUM_PER_KIND = 1, 60


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", ["train", "held-out"])
def test_every_taught_reply_is_graded_right_and_another_tasks_reply_wrong(kind, split):
    rng = random.Random(5)
    # Each reply of code runs in an interpreter of its own.
    tasks = [KINDS[kind](rng, split) for _ in range(12 if kind == "code" else 60)]
    assert all(is_right(task, task.reply) for task in tasks)
    other = next(task for task in tasks if task.answer != tasks[0].answer)
    if not tasks[0].cases:
        assert not is_right(tasks[0], other.reply)


def test_there_are_at_least_ten_kinds_and_each_has_many_wordings():
    assert len(KINDS) >= 10
    rng = random.Random(3)
    for kind, make in KINDS.items():
        prompts = {normalise(make(rng, "train").prompt) for _ in range(200)}
        assert len(prompts) > 40, kind


@pytest.mark.parametrize("kind", ["divisors", "arithmetic", "equation", "units", "percent"])
def test_worked_answers_are_true(kind):
    rng = random.Random(9)
    for _ in range(200):
        task = KINDS[kind](rng, rng.choice(["train", "held-out"]))
        for line in task.reply.splitlines():
            left, equals, right = line.removesuffix(".").rpartition(" = ")
            terms = left.split(" = ")[-1].split(": ")[-1]
            value = right.split(",")[0].split(" (")[0].strip("*")
            if equals and value.isdigit() and set(terms) <= set("0123456789 +-×÷()"):
                expression = terms.replace("×", "*").replace("÷", "//")
                assert eval(expression) == int(value), line  # digits and signs only


def test_the_count_of_divisors_is_the_true_count():
    rng = random.Random(2)
    for split in ("train", "held-out"):
        for _ in range(100):
            task = KINDS["divisors"](rng, split)
            if "Divide " not in task.reply:
                continue  # asked in powers, or for a prime
            n = int(task.reply.split("Divide ")[1].split()[0])
            assert int(task.answer) == sum(n % d == 0 for d in range(1, n + 1))
            assert math.prod(factorise(n)) == n


def test_no_training_text_holds_a_held_out_question_or_the_demonstration():
    excluded = frozenset(normalise(t.prompt) for t in held_out_tasks(SEED, NUM_PER_KIND))
    demonstration = "How many positive whole-number divisors does 196 have?"
    source = conversations(11, excluded=excluded)
    for _ in range(3000):
        for turn in next(source).turns:
            assert normalise(turn.prompt) not in excluded
            assert normalise(demonstration) not in normalise(turn.prompt)
            if turn.task.kind == "divisors":
                assert "196 ÷" not in turn.task.reply


def test_the_held_out_set_is_the_same_every_time_and_holds_every_kind():
    first, again = held_out_tasks(SEED, 10), held_out_tasks(SEED, 10)
    assert first == again
    assert {task.kind for task in first} == set(KINDS)


@pytest.mark.parametrize(
    "reply",
    [
        "no code at all",
        "```python\ndef f(:\n```",
        "```python\ndef add(a, b):\n    return a - b\n```",
        "```python\ndef add(a, b):\n    while True:\n        pass\n```",
        "```python\ndef add(a, b):\n    sum(range(10**15))\n    return a + b\n```",
        "```python\ndef add(a, b):\n    raise SystemError\n```",
        "```python\ndef add(a, b):\n    exit()\n```",
        "```python\nexit(0)\n```",
        "```python\nadd = a + b\n```",
    ],
)
def test_code_that_is_absent_broken_wrong_endless_or_exits_is_wrong(reply):
    assert not is_right(code_task("adds two numbers"), reply)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory")
def test_code_that_fills_the_memory_is_wrong():
    task = code_task("adds two numbers")
    body = "    bytes({})\n    return a + b\n"
    replies = [f"```python\ndef add(a, b):\n{body.format(n)}```" for n in (10**6, 3 * 10**9)]
    assert [is_right(task, reply) for reply in replies] == [True, False]


def test_code_that_changes_its_argument_is_graded_by_its_result_and_changes_no_case():
    task = code_task("finds the largest number in a list")
    before = repr(task.cases)
    reply = "```python\ndef f(items):\n    items.sort()\n    return items.pop()\n```"
    assert is_right(task, reply)
    assert is_right(task, task.reply)
    assert repr(task.cases) == before


def code_task(what):
    rng = random.Random(0)
    return next(
        t
        for t in iter(lambda: KINDS["code"](rng, "train"), None)
        if what in t.prompt and "Call it" not in t.prompt
    )
