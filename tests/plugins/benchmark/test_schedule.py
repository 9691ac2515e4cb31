from collections import Counter

from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.schedule import Batch, schedule

from dflash_app.hookspecs import Question

QUESTIONS = {"set": [Question(str(number), ("Well?",)) for number in range(5)]}


def order(batches: list[Batch]) -> list[str]:
    return [
        f"{task.question.id} {task.cell.method.key} {task.repetition}"
        for batch in batches
        for task in batch.tasks
    ]


def test_both_modes_of_a_question_stand_together_and_change_their_order() -> None:
    plan = Plan(datasets=("set",), repetitions=2)
    asked = order(list(schedule(plan, QUESTIONS)))
    assert asked[:6] == ["0 ar 0", "0 dflash 0", "1 dflash 0", "1 ar 0", "2 ar 0", "2 dflash 0"]
    assert asked[10:14] == ["0 dflash 1", "0 ar 1", "1 ar 1", "1 dflash 1"]


def test_with_several_at_a_time_a_cell_is_asked_as_a_whole() -> None:
    plan = Plan(pair="served", datasets=("set",), concurrency=(4,), repetitions=2)
    batches = list(schedule(plan, QUESTIONS))
    assert [(each.concurrency, each.tasks[0].cell.method.key) for each in batches] == [
        (4, "ar"),
        (4, "dflash"),
        (4, "dflash"),
        (4, "ar"),
    ]
    assert all(len({task.cell for task in batch.tasks}) == 1 for batch in batches)


def test_shares_have_every_task_once_between_them() -> None:
    plan = Plan(datasets=("set",), repetitions=2, block_sizes=(None, 8))
    whole = order(list(schedule(plan, QUESTIONS)))
    shares = [order(list(schedule(plan, QUESTIONS, share, 3))) for share in range(3)]
    assert Counter(whole) == Counter(shares[0] + shares[1] + shares[2])
    assert max(Counter(whole).values()) == 1
    assert {each.split()[0] for each in shares[1]} == {"1", "4"}
