"""Tasks about code: short Python functions, graded by running them."""

import random
from dataclasses import dataclass

from recipes.embedded_pair.task import Split, Task, draw

_ASK_TRAIN = (
    "Write a Python function that {what}.",
    "Write a function that {what}.",
    "Give me Python code for a function that {what}.",
    "I need a Python function that {what}.",
    "Please write a Python function that {what}.",
    "Show me a Python function that {what}.",
    "Code a function in Python that {what}.",
    "How do I write a Python function that {what}?",
)
_ASK_HELD_OUT = (
    "Can you write a Python function that {what}?",
    "Make a Python function that {what}.",
    "I want a function in Python that {what}.",
)
_NAMED = " Call it {name}."
_ANY_NAMES = (
    "solve", "run", "compute", "f", "calc", "work", "task", "func", "my_function", "answer",
    "process", "helper", "do_it", "convert", "apply",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Spec:
    """One function: how it may be asked for, its code and the cases it must pass.

    `{k}` in any field is replaced by a whole number.
    """

    name: str
    whats: tuple[str, ...]
    params: str
    body: str
    cases: tuple[tuple[object, ...], ...]
    numbers: tuple[int, ...] = (0,)


_WORDS = (("hello",), ("Level",), ("a",), ("",))
_LISTS = (([3, 1, 2],), ([5],), ([-1, 4, 4, 0],), ([10, 20, 30, 40],))
_INTS = ((0,), (1,), (7,), (12,), (-5,))
_PAIRS = ((3, 5), (10, 4), (-2, 7), (0, 0))
_MANY = tuple(range(2, 31))
_SPECS = (
    _Spec("add", ("adds two numbers", "returns the sum of two numbers"), "a, b", "return a + b", _PAIRS),
    _Spec("subtract", ("subtracts two numbers", "returns a minus b"), "a, b", "return a - b", _PAIRS),
    _Spec("multiply", ("multiplies two numbers", "returns the product of two numbers"), "a, b", "return a * b", _PAIRS),
    _Spec("larger", ("returns the larger of two numbers", "returns the bigger of two numbers"), "a, b", "return max(a, b)", _PAIRS),
    _Spec("smaller", ("returns the smaller of two numbers", "returns the lower of two numbers"), "a, b", "return min(a, b)", _PAIRS),
    _Spec("average", ("returns the average of two numbers", "returns the mean of two numbers"), "a, b", "return (a + b) / 2", _PAIRS),
    _Spec("add_{k}", ("adds {k} to a number", "returns a number plus {k}"), "n", "return n + {k}", _INTS, _MANY),
    _Spec("minus_{k}", ("subtracts {k} from a number", "returns a number minus {k}"), "n", "return n - {k}", _INTS, _MANY),
    _Spec("times_{k}", ("multiplies a number by {k}", "returns a number times {k}"), "n", "return n * {k}", _INTS, _MANY),
    _Spec("divisible_by_{k}", ("checks if a number is divisible by {k}", "tests whether a number is a multiple of {k}"), "n", "return n % {k} == 0", ((0,), (5,), (12,), (60,), (7,)), _MANY),
    _Spec("above_{k}", ("checks if a number is greater than {k}", "tests whether a number is above {k}"), "n", "return n > {k}", _INTS, _MANY),
    _Spec("below_{k}", ("checks if a number is less than {k}", "tests whether a number is below {k}"), "n", "return n < {k}", _INTS, _MANY),
    _Spec("first_{k}", ("returns the first {k} items of a list", "takes the first {k} elements of a list"), "items", "return items[:{k}]", _LISTS, _MANY),
    _Spec("last_{k}", ("returns the last {k} items of a list", "takes the last {k} elements of a list"), "items", "return items[-{k}:]", _LISTS, _MANY),
    _Spec("repeat_{k}", ("repeats a text {k} times", "returns a string {k} times"), "text", "return text * {k}", _WORDS, _MANY),
    _Spec("keep_above_{k}", ("keeps the numbers above {k} in a list", "filters a list to numbers greater than {k}"), "items", "return [n for n in items if n > {k}]", _LISTS, _MANY),
    _Spec("add_{k}_to_all", ("adds {k} to every number in a list", "returns a list with {k} added to each number"), "items", "return [n + {k} for n in items]", _LISTS, _MANY),
    _Spec("count_{k}", ("counts how often {k} occurs in a list", "returns how many times {k} is in a list"), "items", "return items.count({k})", _LISTS, _MANY),
    _Spec("square", ("squares a number", "returns the square of a number"), "n", "return n * n", _INTS),
    _Spec("cube", ("cubes a number", "returns the cube of a number"), "n", "return n * n * n", _INTS),
    _Spec("double", ("doubles a number", "returns twice a number"), "n", "return n * 2", _INTS),
    _Spec("is_even", ("checks if a number is even", "tells whether a number is even"), "n", "return n % 2 == 0", _INTS),
    _Spec("is_odd", ("checks if a number is odd", "tells whether a number is odd"), "n", "return n % 2 == 1", _INTS),
    _Spec("absolute", ("returns the absolute value of a number", "gives the absolute value of a number"), "n", "return abs(n)", _INTS),
    _Spec("total", ("returns the sum of a list", "adds up all numbers in a list"), "items", "return sum(items)", _LISTS),
    _Spec("largest", ("finds the largest number in a list", "returns the maximum of a list"), "items", "return max(items)", _LISTS),
    _Spec("smallest", ("finds the smallest number in a list", "returns the minimum of a list"), "items", "return min(items)", _LISTS),
    _Spec("length", ("returns the length of a list", "counts the items of a list"), "items", "return len(items)", _LISTS),
    _Spec("sort_list", ("sorts a list", "returns a sorted list"), "items", "return sorted(items)", _LISTS),
    _Spec("reverse_list", ("reverses a list", "returns a list in reverse order"), "items", "return items[::-1]", _LISTS),
    _Spec("first", ("returns the first item of a list", "gives the first element of a list"), "items", "return items[0]", _LISTS),
    _Spec("last", ("returns the last item of a list", "gives the last element of a list"), "items", "return items[-1]", _LISTS),
    _Spec("unique", ("removes duplicates from a list", "returns the unique items of a list"), "items", "return sorted(set(items))", _LISTS),
    _Spec("evens", ("keeps the even numbers of a list", "filters the even numbers from a list"), "items", "return [n for n in items if n % 2 == 0]", _LISTS),
    _Spec("squares", ("squares every number in a list", "returns the squares of a list of numbers"), "items", "return [n * n for n in items]", _LISTS),
    _Spec("reverse_text", ("reverses a string", "returns a text backwards"), "text", "return text[::-1]", _WORDS),
    _Spec("upper", ("makes a string upper case", "turns a text into upper case"), "text", "return text.upper()", _WORDS),
    _Spec("lower", ("makes a string lower case", "turns a text into lower case"), "text", "return text.lower()", _WORDS),
    _Spec("count_letters", ("counts the characters of a string", "returns the length of a text"), "text", "return len(text)", _WORDS),
    _Spec("is_palindrome", ("checks if a string is a palindrome", "tells whether a text is a palindrome"), "text", "text = text.lower()\n    return text == text[::-1]", _WORDS),
    _Spec("count_words", ("counts the words in a string", "returns the number of words in a text"), "text", "return len(text.split())", (("one two",), ("",), ("a b c",))),
    _Spec("factorial", ("computes the factorial of a number", "returns the factorial of n"), "n", "result = 1\n    for i in range(2, n + 1):\n        result = result * i\n    return result", ((0,), (1,), (5,), (7,))),
    _Spec("fibonacci", ("returns the nth Fibonacci number", "computes the nth Fibonacci number"), "n", "a, b = 0, 1\n    for i in range(n):\n        a, b = b, a + b\n    return a", ((0,), (1,), (5,), (10,))),
    _Spec("is_prime", ("checks if a number is prime", "tells whether a number is prime"), "n", "if n < 2:\n        return False\n    for i in range(2, n):\n        if n % i == 0:\n            return False\n    return True", ((0,), (2,), (9,), (13,))),
    _Spec("count_divisors", ("counts the divisors of a number", "returns how many divisors a number has"), "n", "count = 0\n    for i in range(1, n + 1):\n        if n % i == 0:\n            count = count + 1\n    return count", ((1,), (7,), (12,))),
    _Spec("sum_to", ("adds the numbers from 1 to n", "returns the sum of 1 to n"), "n", "return n * (n + 1) // 2", ((1,), (4,), (10,))),
    _Spec("greet", ("greets a person by name", "says hello to a name"), "name", 'return "Hello, " + name + "!"', (("Ann",), ("Bob",))),
)  # fmt: skip


def code(rng: random.Random, split: Split) -> Task:
    """A short function; the name may be asked for, constants vary."""

    def sample() -> tuple[int, int, str]:
        index = rng.randrange(len(_SPECS))
        spec = _SPECS[index]
        name = rng.choice(_ANY_NAMES) if rng.random() < 0.4 else spec.name
        return index, rng.choice(spec.numbers), name

    index, number, name = draw("code", split, sample)
    spec = _SPECS[index]
    asked = name != spec.name
    name = name.format(k=number)
    wording = rng.choice(_ASK_TRAIN if split == "train" else _ASK_HELD_OUT)
    prompt = wording.format(what=rng.choice(spec.whats).format(k=number))
    prompt += _NAMED.format(name=name) if asked else ""
    source = f"def {name}({spec.params}):\n    {spec.body.format(k=number)}"
    cases = tuple((args, _run(source, name, args)) for args in spec.cases)
    return Task("code", prompt, f"```python\n{source}\n```", name, cases=cases)


def _run(source: str, name: str, args: tuple[object, ...]) -> object:
    scope: dict[str, object] = {}
    exec(source, scope)  # our own text from the table above
    return scope[name](*args)  # type: ignore[operator]
