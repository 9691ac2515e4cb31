"""Tasks about numbers: divisors, arithmetic, percentages, sequences, linear equations.

Every reply works its answer out in steps small enough for a model of five million parameters.
"""

import math
import random

from recipes.embedded_pair.task import Split, Task, Wordings, draw, is_held_out

DEMONSTRATION_NUMBER = 196

_DIVISORS = Wordings(
    train=(
        "How many divisors does {n} have?",
        "How many positive divisors does {n} have?",
        "How many whole-number divisors does {n} have?",
        "Count the divisors of {n}.",
        "Count the positive whole-number divisors of {n}.",
        "Find the number of divisors of {n}.",
        "What is the number of positive divisors of {n}?",
        "How many factors does {n} have?",
        "How many whole numbers divide {n}?",
        "How many positive integers divide {n} evenly?",
        "Tell me how many divisors {n} has.",
        "The number {n} has how many divisors?",
        "I need the number of factors of {n}.",
    ),
    held_out=(
        "How many positive whole-number divisors does {n} have?",
        "Tell me the number of positive factors of {n}.",
        "Count how many whole numbers divide {n} evenly.",
    ),
)
_DIVISORS_AGAIN = Wordings(
    train=("And {n}?", "And of {n}?", "What about {n}?", "Now {n}.", "The same for {n}?"),
    held_out=("And what about {n}?", "Now the same for {n}."),
)


def factorise(n: int) -> list[int]:
    """Prime factors of n in rising order."""
    factors, prime = [], 2
    while n > 1:
        while n % prime == 0:
            factors.append(prime)
            n //= prime
        prime += 1
    return factors


def _quotients(n: int) -> list[int]:
    chain = [n]
    for prime in factorise(n):
        chain.append(chain[-1] // prime)
    return chain


def _divisor_numbers() -> tuple[list[int], list[int]]:
    """Numbers to train on and to hold out; no trained working passes through a held-out number."""
    smooth = [n for n in range(4, 2000) if max(factorise(n)) <= (31 if n <= 400 else 13)]
    held = [
        n
        for n in smooth
        if n == DEMONSTRATION_NUMBER
        or (60 <= n <= 500 and max(factorise(n)) <= 13 and is_held_out("divisors", n))
    ]
    train = [n for n in smooth if not set(_quotients(n)) & set(held)]
    return train, held


_TRAIN_NUMBERS, _HELD_OUT_NUMBERS = _divisor_numbers()


def _divisor_reply(n: int) -> tuple[str, str]:
    factors = factorise(n)
    lines, left = [f"Divide {n} by its smallest prime again and again:"], n
    for index, prime in enumerate(factors):
        # Each line holds the power so far: counting lines afterwards is what a model gets wrong.
        power = factors[: index + 1].count(prime)
        lines.append(f"{left} ÷ {prime} = {left // prime} ({prime}^{power})")
        left //= prime
    powers = [(prime, factors.count(prime)) for prime in sorted(set(factors))]
    lines.append(f"So {n} = {_product(powers)}.")
    working, count = _count_from_powers(powers)
    return "\n".join([*lines, working, f"{n} has **{count}** divisors."]), str(count)


def _product(powers: list[tuple[int, int]]) -> str:
    return " × ".join(f"{prime}^{power}" for prime, power in powers)


def _count_from_powers(powers: list[tuple[int, int]]) -> tuple[str, int]:
    count = math.prod(power + 1 for _, power in powers)
    if len(powers) == 1:
        return f"Add one to the power: {powers[0][1]} + 1 = {count}.", count
    sums = " × ".join(f"({power} + 1)" for _, power in powers)
    product = " × ".join(str(power + 1) for _, power in powers)
    return f"Add one to each power and multiply: {sums} = {product} = {count}.", count


def _divisors_of_powers(rng: random.Random) -> Task:
    """The second half alone, on random powers, so that it cannot be learned by heart."""
    primes = sorted(rng.sample((2, 3, 5, 7, 11, 13, 17, 19, 23), rng.choice((1, 2, 2, 3))))
    powers = [(prime, rng.randint(1, 7 if len(primes) < 3 else 4)) for prime in primes]
    working, count = _count_from_powers(powers)
    product = _product(powers)
    prompt = _DIVISORS.pick(rng, "train").format(n=product)
    return Task("divisors", prompt, f"{working}\n{product} has **{count}** divisors.", str(count))


_SMALLEST_PRIME = (
    "What is the smallest prime that divides {n}?",
    "What is the smallest prime factor of {n}?",
    "Find the smallest prime factor of {n}.",
    "Which is the smallest prime that divides {n}?",
    "Smallest prime factor of {n}?",
)


def _smallest_prime(rng: random.Random) -> Task:
    """One division alone, on nearly every number, so that it is worked out and not remembered."""
    while True:
        n = rng.randint(4, 999)
        prime = factorise(n)[0]
        if prime <= 31 and n not in _HELD_OUT_NUMBERS:
            break
    reply = f"{n} ÷ {prime} = {n // prime} ({prime}^1)\n"
    reply += f"The smallest prime that divides {n} is **{prime}**."
    return Task("divisors", rng.choice(_SMALLEST_PRIME).format(n=n), reply, str(prime))


def divisors(rng: random.Random, split: Split) -> Task:
    """Count divisors through the factorisation; half of the training is on its two steps alone."""
    part = rng.random()
    if split == "train" and part < 0.2:
        return _divisors_of_powers(rng)
    if split == "train" and part < 0.5:
        return _smallest_prime(rng)
    numbers = _TRAIN_NUMBERS if split == "train" else _HELD_OUT_NUMBERS
    n, again = rng.choice(numbers), rng.choice(numbers)
    reply, answer = _divisor_reply(n)
    next_reply, next_answer = _divisor_reply(again)
    follow_up = Task(
        "divisors", _DIVISORS_AGAIN.pick(rng, split).format(n=again), next_reply, next_answer
    )
    prompt = _DIVISORS.pick(rng, split).format(n=n)
    return Task("divisors", prompt, reply, answer, follow_up=follow_up)


_SYMBOLS = {
    "+": ("+", "plus"),
    "-": ("-", "minus"),
    "×": ("×", "x", "*", "times"),
    "÷": ("÷", "/", "divided by"),
}
_CALCULATE = Wordings(
    train=(
        "What is {e}?",
        "Calculate {e}.",
        "Compute {e}.",
        "{e} = ?",
        "{e}",
        "How much is {e}?",
        "Work out {e}.",
        "Please calculate {e} for me.",
        "What do you get for {e}?",
        "I need the result of {e}.",
    ),
    held_out=("Can you work out {e}?", "Tell me what {e} is.", "What is the result of {e}?"),
)
_PLACES = ("Ones", "Tens", "Hundreds")


def _digits(n: int, width: int) -> list[int]:
    return [n // 10**place % 10 for place in range(width)]


def _add_reply(a: int, b: int) -> str:
    width = len(str(max(a, b)))
    lines, carry = [f"Add {a} + {b} column by column:"], 0
    columns = zip(_digits(a, width), _digits(b, width), strict=True)
    for place, (x, y) in enumerate(columns):
        total = x + y + carry
        carried = total // 10
        step = f"{_PLACES[place]}: {x} + {y} + {carry} = {total}, "
        last = place == width - 1
        lines.append(step + (f"write {total}" if last else f"write {total % 10}, carry {carried}"))
        carry = carried
    return "\n".join([*lines, f"{a} + {b} = **{a + b}**"])


def _subtract_reply(a: int, b: int) -> str:
    width = len(str(a))
    lines, borrow = [f"Subtract {a} - {b} column by column:"], 0
    columns = zip(_digits(a, width), _digits(b, width), strict=True)
    for place, (x, y) in enumerate(columns):
        low = x - y - borrow < 0
        top = x + 10 if low else x
        step = f"{_PLACES[place]}: {top} - {y} - {borrow} = {top - y - borrow}, "
        borrow = int(low)
        lines.append(step + f"borrow {borrow}")
    return "\n".join([*lines, f"{a} - {b} = **{a - b}**"])


def _multiply_reply(a: int, b: int) -> str:
    tens, ones = a // 10 * 10, a % 10
    return "\n".join(
        [
            f"Split {a} into {tens} and {ones}:",
            f"{tens} × {b} = {tens * b}",
            f"{ones} × {b} = {ones * b}",
            f"{tens * b} + {ones * b} = {a * b}",
            f"{a} × {b} = **{a * b}**",
        ]
    )


def _divide_reply(a: int, b: int) -> str:
    lines, rest = [f"Divide {a} by {b} digit by digit:"], 0
    for digit in str(a):
        part = rest * 10 + int(digit)
        rest = part % b
        lines.append(f"{part} ÷ {b} = {part // b}, rest {rest}")
    return "\n".join([*lines, f"{a} ÷ {b} = **{a // b}**"])


def arithmetic(rng: random.Random, split: Split) -> Task:
    """Add and subtract up to three digits, multiply and divide by one digit, with the steps."""

    def sample() -> tuple[str, int, int]:
        sign = rng.choice("++--××÷")
        if sign == "×":
            return sign, rng.randint(11, 99), rng.randint(2, 9)
        if sign == "÷":
            b = rng.randint(2, 9)
            return sign, b * rng.randint(5, 999 // b), b
        top = rng.choice((99, 999))
        a, b = rng.randint(10, top), rng.randint(1, top)
        return (sign, max(a, b), min(a, b)) if sign == "-" else (sign, a, b)

    sign, a, b = draw("arithmetic", split, sample)
    replies = {"+": _add_reply, "-": _subtract_reply, "×": _multiply_reply, "÷": _divide_reply}
    reply = replies[sign](a, b)
    answer = {"+": a + b, "-": a - b, "×": a * b, "÷": a // b}[sign]
    prompt = _CALCULATE.pick(rng, split).format(e=f"{a} {rng.choice(_SYMBOLS[sign])} {b}")
    return Task("arithmetic", prompt, reply, str(answer))


_PERCENT = Wordings(
    train=(
        "What is {p}% of {n}?",
        "Calculate {p}% of {n}.",
        "How much is {p}% of {n}?",
        "Find {p} percent of {n}.",
        "Work out {p}% of {n}.",
        "I need {p}% of {n}.",
        "{p}% of {n} is how much?",
    ),
    held_out=("What is {p} percent of {n}?", "Tell me how much {p}% of {n} is."),
)


def percent(rng: random.Random, split: Split) -> Task:
    """A round percentage of a round number, through one per cent."""

    def sample() -> tuple[int, int]:
        return rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 40, 50)), rng.randint(1, 20) * 100

    p, n = draw("percent", split, sample)
    share = n // 100
    reply = f"1% of {n} is {n} ÷ 100 = {share}.\n{p} × {share} = {p * share}\n"
    reply += f"{p}% of {n} is **{p * share}**."
    return Task("percent", _PERCENT.pick(rng, split).format(p=p, n=n), reply, str(p * share))


_SEQUENCE = Wordings(
    train=(
        "What comes next: {s}?",
        "What is the next number: {s}?",
        "Continue the sequence {s}.",
        "Which number follows {s}?",
        "Find the next number in {s}.",
        "{s}, and then?",
        "Complete the pattern: {s}, ...",
    ),
    held_out=("Which number comes next in {s}?", "What is next in the sequence {s}?"),
)


def sequence(rng: random.Random, split: Split) -> Task:
    """The next term of a rising or falling sequence with equal steps."""

    def sample() -> tuple[int, int]:
        step = rng.choice((-9, -8, -7, -6, -5, -4, -3, -2, *range(2, 13)))
        return (rng.randint(1, 60) if step > 0 else rng.randint(40, 90)), step

    start, step = draw("sequence", split, sample)
    terms = [start + step * index for index in range(5)]
    word = "goes up" if step > 0 else "goes down"
    sign = "+" if step > 0 else "-"
    reply = f"From {terms[0]} to {terms[1]} it {word} by {abs(step)}.\n"
    reply += f"{terms[3]} {sign} {abs(step)} = {terms[4]}\nThe next number is **{terms[4]}**."
    shown = ", ".join(map(str, terms[:4]))
    return Task("sequence", _SEQUENCE.pick(rng, split).format(s=shown), reply, str(terms[4]))


_SOLVE = Wordings(
    train=(
        "Solve {e}.",
        "Solve for x: {e}",
        "Solve the equation {e}.",
        "What is x if {e}?",
        "Find x: {e}",
        "{e}. What is x?",
        "If {e}, what is x?",
        "Find the value of x in {e}.",
        "Please solve {e} for x.",
    ),
    held_out=("Can you solve {e}?", "Which x solves {e}?", "Find x when {e}."),
)


def equation(rng: random.Random, split: Split) -> Task:
    """A linear equation a x + b = c or a x - b = c with a whole solution."""

    def sample() -> tuple[int, str, int, int]:
        return rng.randint(2, 9), rng.choice("+-"), rng.randint(1, 20), rng.randint(1, 12)

    a, sign, b, x = draw("equation", split, sample)
    c = a * x + b if sign == "+" else a * x - b
    other = "-" if sign == "+" else "+"
    verb = "Subtract" if sign == "+" else "Add"
    reply = f"{verb} {b} on both sides: {a}x = {c} {other} {b} = {a * x}.\n"
    reply += f"Divide by {a}: x = {a * x} ÷ {a} = {x}.\nx = **{x}**"
    prompt = _SOLVE.pick(rng, split).format(e=f"{a}x {sign} {b} = {c}")
    return Task("equation", prompt, reply, str(x))
