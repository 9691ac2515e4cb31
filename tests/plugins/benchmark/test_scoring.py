"""Right and wrong replies, by their text."""

import pytest
from dflash_plugins.benchmark.scoring import is_exact, is_maths, is_number


@pytest.mark.parametrize(
    "reply",
    [
        r"So she has $\boxed{18}$ left.",
        r"\boxed{18 \text{ dollars}}",
        r"\boxed{\$18.00}",
        "**18**",
        "She makes **$18** a day.",
        "In total: **18 eggs**",
        "9 * 2 = 18",
        "#### 18",
        "The answer is 18.",
        "First 3, then 18, that is all.",
        r"\boxed{5} no: \boxed{18}",
    ],
)
def test_a_number_is_found_in_a_reply(reply: str) -> None:
    assert is_number(reply, "18")


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "no number",
        "19",
        "18 and 19",
        r"\boxed{17} for 18",
        "**17** of 18",
        r"\boxed{\frac{18}{2}}",
    ],
)
def test_another_number_is_wrong(reply: str) -> None:
    assert not is_number(reply, "18")


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (r"\boxed{1,080}", "1080"),
        ("1080 metres", "1,080"),
        (r"\boxed{-3}", "-3"),
        ("it is −3", "-3"),
        (r"\boxed{2.50}", "2.5"),
        (r"\boxed{\frac{5}{2}}", "2.5"),
    ],
)
def test_one_number_is_written_in_many_ways(reply: str, answer: str) -> None:
    assert is_number(reply, answer)


def test_an_answer_that_is_no_number_is_never_met() -> None:
    assert not is_number("none", "none")


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("**50, 17, 45**", True),
        ("first **1**, then **50,  17,\n45**", True),
        ("50, 17, 45", True),
        (" 50, 17, 45\n", True),
        ("The list is 50, 17, 45.", False),
        ("**50, 17, 45** or **1**", False),
        ("**50,17,45**", False),
    ],
)
def test_exact_answers_are_the_last_bold_text_or_the_whole_reply(reply: str, right: bool) -> None:
    assert is_exact(reply, "50, 17, 45") is right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        (r"The point is $\boxed{\left( 3, \dfrac{\pi}{2} \right)}$.", True),
        (r"**$(3,\frac{\pi}{2})$**", True),
        (r"\boxed{(3, \frac{\pi}{3})}", False),
        (r"(3, \frac{\pi}{2})", False),
        (r"\boxed{(3, \frac{\pi}{2})", False),
        ("", False),
    ],
)
def test_maths_is_read_from_the_box(reply: str, right: bool) -> None:
    assert is_maths(reply, r"\left( 3, \frac{\pi}{2} \right)") is right
