"""Two runs side by side: ratios, what differs, and outputs up to the first differing token."""

import re

import pytest

from tests.plugins.history_tab import History, add_run, history, part
from tests.ui.stage import visitor

__all__ = ["history"]


def compare(history: History, *run_ids: int) -> str:
    history.show()
    history.tick(*run_ids)
    shown = history.call("HistoryTab.on_compare", history.looking, visitor())
    return str(shown["history-comparison"])


def test_exactly_two_runs_are_compared(history: History) -> None:
    for run_ids in ((), (1,), (1, 2, 3)):
        assert "exactly two" in compare(history, *run_ids)
    history.show()
    history.tick(2, 3)
    history.workspace.store.delete_runs([3])
    shown = history.call("HistoryTab.on_compare", history.looking, visitor())
    assert "no longer in the log" in shown["history-comparison"]


def test_figures_stand_beside_their_ratio_the_older_run_first(history: History) -> None:
    drawn = compare(history, 2, 1)
    row = re.search(r"Speed, decoding</th>(.*?)</tr>", drawn)
    assert row is not None
    assert re.findall(r">([^<]+)</td>", row[1]) == ["4.0 tok/s", "12.0 tok/s", "3.00×"]
    drafting = re.search(r"Drafting</th>(.*?)</tr>", drawn)
    assert drafting is not None
    assert drafting[1].endswith('<td class="number">–</td>'), "one of them drafted nothing"
    assert drawn.index("Run 1") < drawn.index("Run 2")
    assert "The outputs are identical: 7 tokens." in drawn


def test_settings_that_differ_stand_apart_from_the_others(history: History) -> None:
    drawn = compare(history, 1, 2)
    differing, same = drawn.split("<details>")
    assert ">Mode</th><td>AR</td><td>DFlash</td>" in differing
    assert ">Block size</th><td>–</td><td>4</td>" in differing
    assert ">Pair</th><td>scripted</td><td>scripted</td>" in same


@pytest.mark.parametrize(
    ("token_ids", "output", "said"),
    [
        ((1, 2, 9, 4), "bcx<i>", "The first 2 tokens are identical; token 3 is the first that "
         "differs: id 3 against id 9."),
        ((1, 2), "bc", "The first 2 tokens are identical, then only run 4 goes on."),
        ((), "", "The texts differ"),
    ],
)  # fmt: skip
def test_outputs_are_compared_to_the_first_differing_token(
    history: History, token_ids: tuple[int, ...], output: str, said: str
) -> None:
    first = add_run(history.workspace, output="bcd", token_ids=(1, 2, 3))
    second = add_run(history.workspace, output=output, token_ids=token_ids)
    drawn = compare(history, first, second)
    assert said in drawn
    if output.startswith("bcx"):
        assert "<span class='same'>bc</span><mark>d</mark>" in drawn
        assert "<span class='same'>bc</span><mark>x&lt;i&gt;</mark>" in drawn


def test_tokens_of_different_targets_are_not_compared(history: History) -> None:
    first = add_run(history.workspace, output="same", token_ids=(1, 2))
    second = add_run(history.workspace, output="same", token_ids=(3, 4), pair="lonely")
    drawn = compare(history, first, second)
    assert "The texts are the same; their tokens are of different targets" in drawn
    assert "These runs are of different pairs." in drawn
    sibling = add_run(history.workspace, output="same", token_ids=(1, 2), pair="second")
    assert "identical: 2 tokens" in compare(history, first, sibling)


def test_what_keeps_figures_from_being_compared_is_said(history: History) -> None:
    first = add_run(history.workspace)
    second = add_run(history.workspace, prompt="other", hardware={"cpu": "another"})
    drawn = compare(history, first, second)
    assert "different machines" in drawn
    assert "different prompts" in drawn
    assert "<ul" not in compare(history, first, add_run(history.workspace))


def test_common_beginnings_are_counted(history: History) -> None:
    num_common = part("comparison").num_common
    assert num_common("abc", "abd") == 2
    assert num_common((), (1,)) == 0
