"""The oracle forces what it is told to, and a corrected lane follows the truth it was given."""

import pytest

from dflash_app.backends.torch.selftest.decoding import run_lane
from dflash_app.backends.torch.selftest.oracle import Divergence, OracleLane
from dflash_app.backends.torch.selftest.plain import PlainText, decode_plainly
from dflash_app.backends.torch.selftest.tiny_families import VOCAB_SIZE, build_model
from dflash_app.backends.torch.target import TorchTarget

FORCED = [4, 0, 7, 2]


@pytest.fixture(scope="module")
def target() -> TorchTarget:
    return TorchTarget(build_model("llama"))


@pytest.fixture(scope="module")
def text(target: TorchTarget) -> PlainText:
    return decode_plainly(target, num_prompt=6, num_tokens=40)


def test_accepted_lengths_are_the_forced_ones(target: TorchTarget, text: PlainText) -> None:
    lane = OracleLane(target, text.prompt, text.truth, FORCED)
    decoded = run_lane(lane, text.prompt, 30, num_draft=7)
    assert [step.num_accepted for step in decoded.steps][: len(FORCED)] == FORCED
    assert decoded.token_ids == text.truth[:30]


def test_a_lane_that_is_not_corrected_follows_the_target(
    target: TorchTarget, text: PlainText
) -> None:
    wrong = [*text.truth[:9], (text.truth[9] + 1) % VOCAB_SIZE, *text.truth[10:]]
    lane = OracleLane(target, text.prompt, wrong, FORCED)
    assert run_lane(lane, text.prompt, 12, num_draft=7).token_ids == text.truth[:12]
    assert lane.divergences == []


@pytest.mark.parametrize("index", [0, 3, 9, 12])
def test_a_corrected_lane_puts_out_the_truth_it_was_given_and_says_where_it_had_to(
    target: TorchTarget, text: PlainText, index: int
) -> None:
    told = (text.truth[index] + 1) % VOCAB_SIZE
    # Behind the wrong token the target says something else: the truth is its text from there on.
    lane = OracleLane(target, [*text.prompt, *text.truth[:index], told], [], [])
    rest = run_lane(lane, [*text.prompt, *text.truth[:index], told], 20, num_draft=0).token_ids
    given = [*text.truth[:index], told, *rest]
    lane = OracleLane(target, text.prompt, given, FORCED, corrected=True)
    decoded = run_lane(lane, text.prompt, index + 15, num_draft=7)
    assert decoded.token_ids == given[: index + 15]
    place = len(text.prompt) + index
    assert lane.divergences == [Divergence(place, expected=told, found=text.truth[index])]
