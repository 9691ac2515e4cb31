import pytest

from dflash_app.advisor.profile import profile
from dflash_app.events import DecodeEvent, Finished, ServerCounts, TokensArrived
from dflash_app.metrics import summarize
from tests.advisor.cases import repeated, steps


def test_the_time_of_a_step_is_split_into_drafting_verifying_and_the_rest() -> None:
    found = profile(steps([3, 3], propose_s=0.002, verify_s=0.008, host_s=0.001))
    assert [step.host_s for step in found.steps] == pytest.approx([0.001, 0.001])
    assert found.block is not None
    assert found.block.step_s == pytest.approx(0.011)
    assert found.decode_s == pytest.approx(0.022)
    assert found.plain is None


def test_figures_agree_with_those_of_the_log() -> None:
    events = steps(repeated([0, 3, 7, 2], 12))
    found, metrics = profile(events), summarize(events)
    assert found.survival == pytest.approx(metrics.acceptance_by_position)
    assert found.acceptance_length == pytest.approx(metrics.mean_acceptance_length or 0)
    assert found.num_tokens + 1 == metrics.num_output_tokens
    assert found.decode_s == pytest.approx(metrics.decode_s or 0)


def test_expected_tokens_of_the_runs_own_block_are_its_acceptance_length() -> None:
    found = profile(steps(repeated([0, 3, 7, 2], 12)))
    assert found.expected_tokens(7) == pytest.approx(found.acceptance_length)
    assert found.expected_tokens(2) == pytest.approx(1 + 0.75 + 0.75)
    assert found.expected_tokens(0) == 1


def test_beyond_the_block_each_draft_stands_as_often_as_the_last_one_did() -> None:
    found = profile(steps([2, 2, 2, 1], drafted=2))
    assert found.survival == pytest.approx((1.0, 0.75))
    assert found.expected_tokens(4) == pytest.approx(1 + 1 + 0.75 + 0.75**2 + 0.75**3)


def test_steps_know_how_far_into_the_context_they_stand() -> None:
    found = profile(steps([3, 0, 1], prompt=20))
    assert [step.context for step in found.steps] == [21, 25, 26]


def test_steps_that_record_are_left_out_of_the_costs() -> None:
    found = profile(steps([3, -1, 3], notes={0: "Start-up: 0.50 s of this step."}))
    assert found.block is not None
    assert found.block.num_steps == 1
    assert [step.is_start_up for step in found.steps] == [True, False, False]
    assert found.plain is not None
    assert found.plain.propose_s == 0


def test_a_run_without_prefill_has_no_steps() -> None:
    found = profile([Finished("cancelled", 0.0)])
    assert (found.steps, found.width, found.survival) == ((), 0, ())
    assert found.acceptance_length == 1
    assert profile(steps([])).block is None


def served(counts: ServerCounts | None, num_chunks: int = 5) -> list[DecodeEvent]:
    events: list[DecodeEvent] = [
        TokensArrived(4, (1, 2, 3, 4), 1.0 + 0.5 * index) for index in range(num_chunks)
    ]
    return [*events, *([counts] if counts else []), Finished("stop", 4.0)]


def test_a_run_on_a_server_is_its_sums_as_its_steps_are_not_told() -> None:
    counts = ServerCounts(
        "SGLang", num_steps=10, num_drafted=40, num_accepted=15, accepted_by_position=(8, 5, 2, 0)
    )
    found = profile(served(counts))
    assert (found.steps, found.drafting, found.block, found.plain) == ((), [], None, None)
    assert (found.ttft_s, found.decode_s, found.num_tokens) == (1.0, 2.0, 16)
    assert (found.num_drafting, found.mean_drafted, found.drafting_s) == (10, 4, 2.0)
    assert (found.width, found.survival) == (4, (0.8, 0.5, 0.2, 0.0))
    assert found.acceptance_length == 2.5


@pytest.mark.parametrize(
    "counts",
    [None, ServerCounts("x"), ServerCounts("x", shared=True, num_steps=10, num_accepted=5)],
)
def test_what_others_may_have_counted_into_tells_nothing_of_this_run(
    counts: ServerCounts | None,
) -> None:
    found = profile(served(counts))
    assert (found.num_drafting, found.survival, found.acceptance_length) == (0, (), 1)
    assert found.decode_s == 2.0
