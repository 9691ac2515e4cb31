"""Tasks in words: word problems, units, lists."""

import random

from recipes.embedded_pair.task import Split, Task, Wordings, draw

_NAMES = (
    "Tom", "Anna", "Ben", "Mia", "Sam", "Lily", "Max", "Emma", "Leo", "Nina", "Paul", "Sara",
    "Jack", "Lucy", "Adam", "Rosa",
)  # fmt: skip
_ITEMS = (
    "apples", "books", "coins", "stamps", "pens", "cards", "marbles", "shells", "balls", "cookies",
    "stickers", "eggs", "toys", "oranges",
)  # fmt: skip
_CONTAINERS = ("boxes", "bags", "baskets", "packs")

_GAIN_LOSE = Wordings(
    train=(
        "{name} has {a} {items}. {name} gets {b} more and gives away {c}. "
        "How many {items} does {name} have now?",
        "{name} had {a} {items}, found {b} more and lost {c}. "
        "How many {items} does {name} have now?",
        "There were {a} {items}. {name} bought {b} more and sold {c}. How many {items} are left?",
        "{name} starts with {a} {items}, buys {b} and gives {c} to a friend. "
        "How many {items} are left?",
        "{name} owns {a} {items}. After getting {b} more, {name} gives away {c}. "
        "How many {items} are there now?",
    ),
    held_out=(
        "{name} has {a} {items}, buys {b} more and gives {c} away. "
        "How many {items} does {name} have left?",
        "{name} had {a} {items}. {name} found {b} more and gave away {c}. "
        "How many {items} are there now?",
    ),
)
_GROUPS = Wordings(
    train=(
        "{name} has {a} {containers} with {b} {items} each. How many {items} is that in all?",
        "There are {b} {items} in each of {a} {containers}. How many {items} are there in all?",
        "{name} buys {a} {containers}. Each holds {b} {items}. How many {items} does {name} get?",
        "{name} fills {a} {containers} with {b} {items} each. How many {items} are used?",
    ),
    held_out=(
        "{name} buys {a} {containers} with {b} {items} each. How many {items} are there in all?",
        "Each of {a} {containers} holds {b} {items}. How many {items} does {name} have in all?",
    ),
)
_SHARE = Wordings(
    train=(
        "{name} shares {a} {items} equally among {b} friends. How many {items} does each get?",
        "{a} {items} are shared equally by {b} children. How many {items} does each child get?",
        "{name} puts {a} {items} into {b} equal groups. How many {items} are in each group?",
    ),
    held_out=(
        "{name} shares {a} {items} equally among {b} children. How many {items} does each get?",
        "{a} {items} are put into {b} equal groups. How many {items} are in each?",
    ),
)


def word_problem(rng: random.Random, split: Split) -> Task:
    """One- and two-step stories with numbers below a hundred."""

    def sample() -> tuple[str, int, int, int]:
        form = rng.choice(("gain", "groups", "share"))
        if form == "gain":
            a, b = rng.randint(5, 50), rng.randint(2, 30)
            return form, a, b, rng.randint(1, min(a + b - 1, 30))
        return form, rng.randint(2, 12), rng.randint(2, 12), 0

    form, a, b, c = draw("word problem", split, sample)
    name, items = rng.choice(_NAMES), rng.choice(_ITEMS)
    if form == "gain":
        prompt = _GAIN_LOSE.pick(rng, split)
        answer = a + b - c
        reply = f"Start with {a} {items}.\nAfter getting more: {a} + {b} = {a + b}.\n"
        reply += f"After giving some away: {a + b} - {c} = {answer}.\nThe answer is **{answer}**."
    elif form == "groups":
        prompt = _GROUPS.pick(rng, split)
        answer = a * b
        reply = f"There are {a} groups of {b} {items}.\n{a} × {b} = {answer}\n"
        reply += f"The answer is **{answer}**."
    else:
        prompt = _SHARE.pick(rng, split)
        a, answer = a * b, a
        reply = f"Share {a} {items} into {b} equal parts.\n{a} ÷ {b} = {answer}\n"
        reply += f"The answer is **{answer}**."
    prompt = prompt.format(
        name=name, items=items, containers=rng.choice(_CONTAINERS), a=a, b=b, c=c
    )
    return Task("word problem", prompt, reply, str(answer))


_UNITS = (
    ("kilometres", "metres", 1000, 200), ("metres", "centimetres", 100, 200),
    ("centimetres", "millimetres", 10, 200), ("kilograms", "grams", 1000, 200),
    ("litres", "millilitres", 1000, 200), ("tonnes", "kilograms", 1000, 200),
    ("hours", "minutes", 60, 24), ("minutes", "seconds", 60, 24), ("days", "hours", 24, 14),
    ("weeks", "days", 7, 20), ("years", "months", 12, 20), ("feet", "inches", 12, 20),
    ("euros", "cents", 100, 200), ("dollars", "cents", 100, 200), ("dozens", "pieces", 12, 20),
)  # fmt: skip
_CONVERT = Wordings(
    train=(
        "Convert {n} {a} to {b}.",
        "How many {b} are in {n} {a}?",
        "How many {b} is {n} {a}?",
        "Change {n} {a} into {b}.",
        "Express {n} {a} in {b}.",
        "{n} {a} in {b}?",
        "{n} {a} is how many {b}?",
        "I have {n} {a}. How many {b} is that?",
    ),
    held_out=(
        "How many {b} do {n} {a} make?",
        "Please convert {n} {a} into {b}.",
        "What is {n} {a} in {b}?",
    ),
)


def units(rng: random.Random, split: Split) -> Task:
    """Convert to the smaller unit, and back where the number is a multiple."""

    def sample() -> tuple[int, int, bool]:
        index = rng.randrange(len(_UNITS))
        return index, rng.randint(2, _UNITS[index][3]), rng.random() < 0.3

    index, count, back = draw("units", split, sample)
    big, small, factor, _ = _UNITS[index]
    rule = f"1 {_singular(big)} is {factor} {small}."
    if back:
        source, target, n, answer = small, big, count * factor, count
        step = f"{n} ÷ {factor} = {answer}"
    else:
        source, target, n, answer = big, small, count, count * factor
        step = f"{n} × {factor} = {answer}"
    prompt = _CONVERT.pick(rng, split).format(n=n, a=source, b=target)
    reply = f"{rule}\n{step}\n{n} {source} are **{answer}** {target}."
    return Task("units", prompt, reply, str(answer))


def _singular(unit: str) -> str:
    irregular = {"feet": "foot", "inches": "inch", "pieces": "piece"}
    return irregular.get(unit, unit.removesuffix("s"))


_LISTS = {
    "sort": Wordings(
        train=(
            "Sort {s}.",
            "Sort these numbers: {s}.",
            "Put {s} in order.",
            "Sort {s} from smallest to largest.",
            "Arrange {s} in rising order.",
            "Order the numbers {s}.",
        ),
        held_out=("Please sort the numbers {s}.", "Put these numbers in order: {s}."),
    ),
    "reverse": Wordings(
        train=(
            "Reverse the list {s}.",
            "Write {s} backwards.",
            "Give me {s} in reverse order.",
            "Reverse {s}.",
        ),
        held_out=("Please reverse the list {s}.", "Write the list {s} in reverse order."),
    ),
    "largest": Wordings(
        train=(
            "What is the largest of {s}?",
            "Find the largest number in {s}.",
            "Which number is the biggest: {s}?",
            "Give me the maximum of {s}.",
        ),
        held_out=("Which is the largest number: {s}?", "Find the maximum of {s}."),
    ),
    "smallest": Wordings(
        train=(
            "What is the smallest of {s}?",
            "Find the smallest number in {s}.",
            "Which number is the lowest: {s}?",
            "Give me the minimum of {s}.",
        ),
        held_out=("Which is the smallest number: {s}?", "Find the minimum of {s}."),
    ),
    "sum": Wordings(
        train=(
            "Add up {s}.",
            "What is the sum of {s}?",
            "Find the total of {s}.",
            "Sum the list {s}.",
        ),
        held_out=("Add up the numbers {s}.", "Find the sum of {s}."),
    ),
}


def lists(rng: random.Random, split: Split) -> Task:
    """Sort, reverse, largest, smallest, sum of three to five numbers."""

    def sample() -> tuple[str, tuple[int, ...]]:
        operation = rng.choice(("sort", "sort", *_LISTS))
        top = 30 if operation == "sum" else 60
        return operation, tuple(rng.sample(range(1, top), rng.randint(3, 5)))

    operation, numbers = draw("lists", split, sample)
    answer, reply = _list_reply(operation, numbers)
    prompt = _LISTS[operation].pick(rng, split).format(s=_shown(numbers))
    return Task("lists", prompt, reply, answer)


def _shown(numbers: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, numbers))


def _list_reply(operation: str, numbers: tuple[int, ...]) -> tuple[str, str]:
    if operation == "sort":
        lines, left = ["Take the smallest number each time:"], list(numbers)
        while len(left) > 1:
            smallest = min(left)
            left.remove(smallest)
            lines.append(f"{smallest}, left: {_shown(left)}")
        answer = _shown(sorted(numbers))
        return answer, "\n".join([*lines, f"In order: **{answer}**"])
    if operation == "reverse":
        answer = _shown(numbers[::-1])
        return answer, f"From the last to the first: **{answer}**"
    if operation == "sum":
        lines, total = ["Add one number at a time:"], numbers[0]
        for number in numbers[1:]:
            lines.append(f"{total} + {number} = {total + number}")
            total += number
        return str(total), "\n".join([*lines, f"The sum is **{total}**."])
    lines, best = ["Compare one number at a time:"], numbers[0]
    choose = max if operation == "largest" else min
    for number in numbers[1:]:
        best_next = choose(best, number)
        lines.append(f"{best} or {number}: {best_next}")
        best = best_next
    return str(best), "\n".join([*lines, f"The {operation} number is **{best}**."])
