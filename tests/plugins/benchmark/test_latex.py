"""Ways of writing one expression, and expressions that only look alike."""

import pytest
from dflash_plugins.benchmark.latex import as_number, boxed, is_same_expression, normal_form

SAME = [
    (r"\frac{14}{3}", r"\dfrac{14}{3}"),
    (r"\frac43", "4/3"),
    ("0.5", r"\frac12"),
    (".5", "1/2"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\tfrac{\pi}{2})"),
    ("(0.5, 3)", r"\left(\frac{1}{2},3\right)"),
    (r"5.4 \text{ cents}", "5.4"),
    (r"12\text{ cm}^2", "12"),
    (r"36^\circ", "36"),
    (r"36^{\circ}", "36"),
    ("1,000", "1000"),
    (r"10{,}080", "10080"),
    (r"\$18.90", "18.9"),
    (r"10\%", "10"),
    (r"\text{(C)}", "C"),
    (r"\text{Evelyn}", "evelyn"),
    ("1,-2", "-2, 1"),
    ("x = 5", "5"),
    (r"x \in [-2,7]", "[-2,7]"),
    (r"\sqrt3", r"\sqrt{3}"),
    (r"3\sqrt{13}", r"3 \, \sqrt{13}"),
    ("x^{2}+1", "x^2 + 1"),
    ("6 - 5i", "6-5i."),
    (r"\(p - q\)", "$p-q$"),
    (r"2516_8", r"2516_{8}"),
    (r"\frac{\sqrt{3}}{3}", r"\dfrac{\sqrt3}{3}"),
    (r"(-\infty, 0) \cup (0,\infty)", r"(-\infty,0)\cup(0,\infty)"),
]
DIFFERENT = [
    ("2", "3"),
    ("", ""),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("1,2", "1,2,2"),
    ("1,2", "12"),
    ("1000", "1,0,0,0"),
    ("A+B", "a+b"),
    (r"\frac{2}{3}", r"\frac{3}{2}"),
    (r"\frac{1}{0}", "0"),
    ("-5", "5"),
    ("x^2", "x2"),
    ("1" * 3000, "1" * 3000),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_ways_of_writing_one_expression_are_the_same(one: str, other: str) -> None:
    assert is_same_expression(one, other)
    assert is_same_expression(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_expressions_differ(one: str, other: str) -> None:
    assert not is_same_expression(one, other)
    assert not is_same_expression(other, one)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"\boxed{1} then \boxed{\frac{a}{b}}.", r"\frac{a}{b}"),
        (r"\boxed 7", "7"),
        (r"\fbox{x}", "x"),
        (r"\boxed{open", None),
        (r"\boxed", None),
        (r"\boxed{1} and \boxed{cut", "1"),
        ("none", None),
    ],
)
def test_the_last_complete_box_counts(text: str, inside: str | None) -> None:
    assert boxed(text) == inside


def test_a_reply_of_open_boxes_holds_no_answer() -> None:
    assert boxed(r"\boxed{" * 50_000) is None
    assert boxed(r"\boxed{1}" * 50_000) == "1"


@pytest.mark.parametrize("text", ["{" * 100_000, "1," * 100_000, r"\frac" * 20_000])
def test_an_endless_answer_is_none(text: str) -> None:
    assert normal_form(text) == ""
    assert as_number(text) is None
