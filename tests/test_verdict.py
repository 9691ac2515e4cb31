"""Equal outputs are said to be equal, and differences are explained as far as anybody can."""

from collections.abc import Sequence

import pytest

from dflash_app.engine.protocol import LoadedPair
from dflash_app.request import GenerationRequest, SamplingParams
from dflash_app.verdict import Verdict, verdict
from tests.fakes import ScriptedPair, ScriptedServerPair, ask

WARM = SamplingParams(temperature=0.7)


def judge(
    loaded: LoadedPair,
    request: GenerationRequest,
    ids_a: Sequence[int],
    ids_b: Sequence[int],
    *,
    cancelled: bool = False,
    other: LoadedPair | None = None,
) -> Verdict:
    """The verdict on outputs of a letter a token."""
    texts = "".join(loaded.token_texts(ids_a)), "".join(loaded.token_texts(ids_b))
    return verdict(loaded, request, ids_a, ids_b, texts=texts, cancelled=cancelled, other=other)


def test_equal_outputs_are_identical_and_the_target_is_not_asked() -> None:
    pair = ScriptedPair([])
    found = judge(pair, ask(), [1, 2, 3], [1, 2, 3])
    assert found.identical
    assert (found.position, found.num_compared) == (None, 3)
    assert found.explanation == "Identical: 3 tokens."
    assert pair.logit_calls == []


@pytest.mark.parametrize(
    ("precision", "logit", "near_tie", "words"),
    [
        ("float32", 5.5, False, "please report it"),
        ("bfloat16", 5.5, False, "compare in float32, and please report it"),
        ("float32", 5.0005, True, "near tie"),
        ("bfloat16", 5.0625, True, "rounding noise of bfloat16"),
        ("bfloat16", 5.25, False, "more than rounding in bfloat16"),
        ("unknown", 5.0005, False, "more than rounding"),
        ("int8 in float32", 5.25, True, "rounding noise of int8 in float32"),
        ("int8 in bfloat16", 5.5, False, "more than rounding in int8 in bfloat16"),
        ("nf4 in float32", 5.25, False, "more than rounding in nf4 in float32"),
        ("nf4 in bfloat16", 5.0625, True, "rounding noise of nf4 in bfloat16"),
    ],
)
def test_a_difference_is_judged_by_the_target_s_own_margin(
    precision: str, logit: float, near_tie: bool, words: str
) -> None:
    quantization, _, dtype = precision.rpartition(" in ")
    pair = ScriptedPair(
        [], dtype=dtype, quantization=quantization or None, logits={2: logit, 9: 5.0}
    )
    found = judge(pair, ask(), [1, 7, 2, 4], [1, 7, 9])
    assert not found.identical
    assert (found.position, found.token_a, found.token_b) == (2, 2, 9)
    assert (found.text_a, found.text_b) == ("c", "j")
    assert (found.logit_a, found.logit_b) == (logit, 5.0)
    assert found.margin == pytest.approx(logit - 5.0)
    assert found.near_tie is near_tie
    assert words in found.explanation
    assert "from token 3 on: 'c' against 'j'" in found.explanation
    assert pair.logit_calls == [((1, 7), (2, 9))]


@pytest.mark.parametrize(
    ("logit", "near_tie", "words"),
    [
        (5.0625, True, "rounding noise of bfloat16"),
        (5.5, False, "in float32 and one in bfloat16: other weights"),
    ],
)
def test_lanes_of_two_precisions_are_judged_by_the_coarser_one(
    logit: float, near_tie: bool, words: str
) -> None:
    pair = ScriptedPair([], logits={2: logit, 9: 5.0})
    found = judge(pair, ask(), [2], [9], other=ScriptedPair([], dtype="bfloat16"))
    assert found.near_tie is near_tie
    assert words in found.explanation
    assert pair.logit_calls == [((), (2, 9))]


def test_sampled_outputs_that_differ_are_no_fault() -> None:
    pair = ScriptedPair([])
    found = judge(pair, ask(sampling=WARM), [1, 2], [1, 3])
    assert not found.identical
    assert (found.position, found.near_tie, found.margin) == (1, None, None)
    assert "only their distribution is the same" in found.explanation
    assert pair.logit_calls == []


def test_sampled_outputs_that_agree_are_not_called_a_promise() -> None:
    found = judge(ScriptedPair([]), ask(sampling=WARM), [1, 2], [1, 2])
    assert found.identical
    assert "sampling does not promise" in found.explanation


def test_after_a_cancel_only_the_common_prefix_is_compared() -> None:
    found = judge(ScriptedPair([]), ask(), [1, 2, 3], [1, 2], cancelled=True)
    assert found.identical
    assert "first 2 tokens are identical; a lane was cancelled" in found.explanation


def test_after_a_cancel_a_difference_in_the_prefix_still_counts() -> None:
    pair = ScriptedPair([], logits={2: 1.0, 3: 0.0})
    found = judge(pair, ask(), [1, 2, 3], [1, 3], cancelled=True)
    assert (found.identical, found.position) == (False, 1)


def test_a_lane_cancelled_before_its_first_token_leaves_nothing_to_compare() -> None:
    found = judge(ScriptedPair([]), ask(), [], [1, 2], cancelled=True)
    assert (found.identical, found.num_compared) == (False, 0)
    assert "Nothing to compare" in found.explanation


@pytest.mark.parametrize("stop", [(), ("END",)])
def test_an_output_that_goes_on_is_not_identical(stop: tuple[str, ...]) -> None:
    found = judge(ScriptedPair([]), ask(stop=stop), [1, 2], [1, 2, 3])
    assert (found.identical, found.position) == (False, 2)
    assert (found.token_a, found.token_b, found.text_b) == (None, 3, "d")
    assert "one output goes on" in found.explanation


SERVER = ScriptedServerPair([])
HERE = ScriptedPair([], logits={2: 5.0, 3: 1.0})


@pytest.mark.parametrize(("one", "other"), [(SERVER, SERVER), (HERE, SERVER), (SERVER, HERE)])
def test_tokens_of_servers_are_compared_and_no_logits_are_asked(
    one: LoadedPair, other: LoadedPair
) -> None:
    same = judge(one, ask(), [1, 2], [1, 2], other=other)
    assert (same.identical, same.num_compared, same.by_text, same.on_server) == (
        True,
        2,
        False,
        True,
    )
    assert same.explanation == "Identical: 2 tokens."
    found = judge(one, ask(), [1, 2, 4], [1, 3], other=other)
    assert (found.identical, found.position, found.near_tie) == (False, 1, None)
    assert (found.token_a, found.token_b, found.text_a, found.text_b) == (2, 3, "ce", "d")
    assert "from token 2 on: 'ce' against 'd'" in found.explanation
    assert "whether that is a near tie is not known" in found.explanation
    assert HERE.logit_calls == []


def test_texts_are_compared_where_a_server_does_not_tell_its_tokens() -> None:
    same = verdict(SERVER, ask(), [], [1, 2], texts=("nine.", "nine."))
    assert (same.identical, same.num_compared, same.by_text) == (True, 5, True)
    assert same.explanation == "Identical: 5 characters."
    found = verdict(SERVER, ask(), [], [], texts=("nine.", "nip"))
    assert (found.identical, found.position, found.text_a, found.text_b) == (False, 2, "ne.", "p")
    assert "from character 3 on: 'ne.' against 'p'" in found.explanation
    longer = verdict(SERVER, ask(), [], [], texts=("nine", "nine."))
    assert (longer.position, longer.text_a, longer.text_b) == (4, None, ".")


def test_equal_texts_are_equal_outputs_whatever_the_tokens() -> None:
    unsaid_end = verdict(SERVER, ask(), [1, 2, 0], [1, 2], texts=("bc", "bc"))
    assert (unsaid_end.identical, unsaid_end.num_compared) == (True, 2)
    cut_otherwise = verdict(SERVER, ask(), [1, 2], [7], texts=("bc", "bc"))
    assert (cut_otherwise.identical, cut_otherwise.by_text) == (True, True)
    assert cut_otherwise.num_compared == 2


def test_a_server_s_lane_that_was_cancelled_is_compared_as_far_as_it_came() -> None:
    found = verdict(SERVER, ask(), [], [], texts=("nine", "ni"), cancelled=True)
    assert (found.identical, found.num_compared) == (True, 2)
    assert "first 2 characters are identical; a lane was cancelled" in found.explanation
    nothing = verdict(SERVER, ask(), [], [], texts=("", ""), cancelled=True)
    assert (nothing.identical, nothing.num_compared) == (False, 0)


def test_sampled_outputs_of_servers_that_differ_are_no_fault() -> None:
    found = verdict(SERVER, ask(sampling=WARM), [], [], texts=("a", "b"))
    assert "only their distribution is the same" in found.explanation
    assert "near tie" not in found.explanation
