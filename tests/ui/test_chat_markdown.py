"""What a bubble is given marks up text and does nothing else, and gives back what was written."""

import re

import pytest

from dflash_app.ui.chat_markdown import (
    JOINER,
    LATEX,
    close_fence,
    dollars_as_formulas,
    inert_markdown,
    split_thought,
    written,
)

TAG = re.compile(r"<[a-zA-Z/!?]")
IMAGE = re.compile(r"!\[")
DIAGRAM = re.compile(r"[`~]{3,}\s*mermaid(?!\u2060)")


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>1</script>", "<img src=x>", "</div>", "<!-- x",
        "\\`<img src=http://x/p.png>\\`", "text ``` <b>x</b>", "a ` b\n`<b>x</b>`",
        "```\n1\n   ```\n<b>x</b>\n```", "   ```\n```\n<b>x</b>\n```",
        "- a\n\n   ```\n<b>x</b>\n   ```", "~~~\n```\n~~~\n<b>x</b>\n```",
        "$$\n```\n$$\n<b>x</b>\n```", "```\n```~~\n<b>x</b>\n```", "````\n```\n````\n<b>x</b>",
        "```a`b\n<b>x</b>\n", "\\[\n```\n\\]\n<b>x</b>\n```", "\\(\n```\n\\)\n<b>x</b>\n```",
        "```\n\\(\n```\n<b>x</b>\\)", "$$ <img src=x> $$", "\\(<img src=x>\\)",
        "`\\(`<img src=x>`\\)`", "![x](http://x/p.png)", "![x][y]\n\n[y]: http://x/p.png",
        "[![x](http://x/p.png)](http://x)", "a\n```mermaid\nA-->B\n```", "~~~ mermaid\nA\n~~~",
        "> ```mermaid\n> A", "```\u00a0mermaid\nA\n```", "```\ufeffmermaid\nA\n```",
    ],
)  # fmt: skip
def test_no_tag_image_or_diagram_is_left_wherever_markdown_may_see_no_code(hostile: str) -> None:
    shown = inert_markdown(hostile)
    for active in (TAG, IMAGE, DIAGRAM):
        assert not active.search(shown)


def test_fenced_code_and_comparisons_stay_as_written() -> None:
    kept = "if 5 < 7:\n```html\n<b>&amp;</b>\n```\nand\n````\n```\n<b>\n````\nend"
    assert inert_markdown(kept) == kept
    unclosed = "```python\nprint('<b>')"
    assert inert_markdown(unclosed) == unclosed


@pytest.mark.parametrize(
    "text",
    ["<b>bold?</b> & &lt; &#60;", "`vec![1]` and `<i>&amp;`", "![a](b)", "```mermaid\nA\n```",
     "tab\there", "مرحبا <x>", "👩‍👩‍👧", '\\(a<b & "c" &lt;\\) $$\\begin{a}1 & 2\\end{a}$$'],
)  # fmt: skip
def test_what_is_shown_gives_back_what_was_written(text: str) -> None:
    assert written(inert_markdown(text)) == text


def test_characters_that_no_browser_takes_are_replaced() -> None:
    assert inert_markdown("half \ud800 \x00\x1b \r\n x") == "half ? \ufffd\ufffd \n x"


def test_a_formula_is_the_html_that_gradio_puts_unread_where_it_stood() -> None:
    assert inert_markdown(r"\(a<b & c\) and a<b") == rf"\(a&lt;b &amp; c\) and a<{JOINER}b"
    titled = inert_markdown('[x](http://a "$$ " style="background:url(http://x)" $$")')
    assert titled.count('"') == 2
    crossed = inert_markdown('\\( $$ \\) " $$')
    assert '"' not in crossed
    assert written(crossed) == '\\( $$ \\) " $$'


def test_what_gradio_writes_in_the_place_of_a_formula_is_nothing_in_a_message() -> None:
    shown = inert_markdown("```\n%%%LATEX_BLOCK_0%%%\n``` $$x$$ \ue0000\ue001")
    assert "%%%LATEX_BLOCK_0" not in shown
    assert shown.count("$$x$$") == 1


def test_formulas_are_what_the_bubble_takes_for_them() -> None:
    assert [(each["left"], each["right"]) for each in LATEX] == [
        ("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("so $x^2$ is", r"so \(x^2\) is"),
        ("$a$, $b_1 + c$.", r"\(a\), \(b_1 + c\)."),
        ("it costs $5 and $6", None),
        ("$5/$6", None),
        ("`$a$` and\n```sh\necho $HOME$x$\n```", None),
        (r"\$a$", None),
        ("$$x$$", None),
        ("$a\nb$", None),
    ],
)
def test_dollars_are_formulas_where_they_hug_one(text: str, shown: str | None) -> None:
    assert dollars_as_formulas(text) == (text if shown is None else shown)


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("a", "a"),
        ("```py\nx", "```py\nx\n```"),
        ("````\n```\nx", "````\n```\nx\n````"),
        ("~~~\n```", "~~~\n```\n~~~"),
        ("```\nx\n```", "```\nx\n```"),
        ("```a`b", "```a`b"),
    ],
)
def test_code_that_was_cut_is_closed(text: str, closed: str) -> None:
    assert close_fence(text) == closed


@pytest.mark.parametrize(
    ("text", "thought", "goes_on", "answer"),
    [
        ("9", None, False, "9"),
        ("<think>so</think>\n\n9", "so", False, "9"),
        ("\n<think>\nso far", "so far", True, ""),
        ("so\n</think>\n\n9", "so", False, "9"),
        ("<think></think>9", "", False, "9"),
        ("the tag `</think>` ends it", None, False, "the tag `</think>` ends it"),
        ("first <think> is a tag", None, False, "first <think> is a tag"),
    ],
)
def test_reasoning_is_told_from_the_answer(
    text: str, thought: str | None, goes_on: bool, answer: str
) -> None:
    assert split_thought(text) == (thought, goes_on, answer)
