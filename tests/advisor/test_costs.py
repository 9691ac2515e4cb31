import pytest

from dflash_app.advisor import costs
from dflash_app.advisor.finding import Change
from dflash_app.events import DecodeEvent
from tests.advisor.cases import case, repeated, steps

SLOW = {"propose_s": 0.01, "verify_s": 0.03}
SEED_NOTE = {0: "Fixed drafts: adaptive ones depend on measured times."}


def test_drafting_that_loses_is_told_with_what_plain_decoding_would_gain() -> None:
    # 2 tokens in 40 ms, where plain decoding makes one in 4 ms.
    found = costs.drafting_loses(case(steps(repeated([1], 20), **SLOW)))
    assert found is not None
    assert found.key == "drafting_loses"
    assert found.figures["plain_steps"] == pytest.approx(10)
    assert found.gain == pytest.approx(5)
    assert found.lost_s == pytest.approx(0.8 * 0.8)
    assert found.change == Change("policy", "adaptive")


@pytest.mark.parametrize(
    "asked",
    [
        {"events": steps(repeated([5], 20))},  # 6 tokens in 10 ms against 4 ms each
        {"events": steps(repeated([1], 20), **SLOW), "plain_s": None},
        {"events": steps(repeated([1], 20), **SLOW), "policy": "adaptive"},
        {"events": steps(repeated([1], 5), **SLOW)},  # too few to judge
        {"events": steps(repeated([-1], 20))},
        {"events": steps([])},
    ],
)
def test_drafting_that_wins_or_is_not_known_to_lose_is_not_blamed(asked: dict[str, object]) -> None:
    assert costs.drafting_loses(case(**asked)) is None  # type: ignore[arg-type]


def test_drafts_that_a_seed_kept_fixed_are_told_as_such() -> None:
    events = steps(repeated([1], 20), notes=SEED_NOTE, **SLOW)
    found = costs.drafting_loses(case(events, policy="adaptive", temperature=0.7, seed=3))
    assert found is not None
    assert found.key == "seeded"


def test_a_block_too_wide_is_told_with_the_better_one() -> None:
    # Two drafts always stand and no third ever does; each draft costs 0.8 ms.
    events = steps(repeated([2], 20), propose_s=0.001, verify_s=0.0096)
    found = costs.block_size(case(events, plain_s=0.004))
    assert found is not None
    assert found.key == "block_narrower"
    assert found.change == Change("block_size", 3)
    assert found.figures["present_tokens"] == found.figures["better_tokens"] == 3
    assert found.figures["better_ms"] == pytest.approx(1 + 4 + 5.6 * 2 / 7)
    assert found.gain == pytest.approx(10.6 / 6.6)
    assert found.lost_s == pytest.approx(20 * 0.0106 * (1 - 6.6 / 10.6))


def test_a_block_narrower_than_trained_is_told_where_its_last_draft_stands() -> None:
    events = steps(repeated([3], 20), drafted=3, propose_s=0.004, verify_s=0.0046)
    found = costs.block_size(case(events, plain_s=0.004, block_size=4, trained_block_size=16))
    assert found is not None
    # Never more than twice the drafts that were seen.
    assert (found.key, found.change) == ("block_wider", Change("block_size", 7))
    assert found.gain == pytest.approx((7 / (8 + 5.2)) / (4 / 8.6))


def test_a_plain_step_from_a_slower_moment_makes_no_width_look_free() -> None:
    events = steps(repeated([3], 20), drafted=3, propose_s=0.001, verify_s=0.004)
    slow = case(events, plain_s=0.009, block_size=4, trained_block_size=16)
    assert costs.step_s_at(slow, 3) == pytest.approx(0.005)
    assert costs.step_s_at(slow, 6) == pytest.approx(0.006)
    assert costs.step_s_at(slow, 1) == pytest.approx(0.005)


@pytest.mark.parametrize(
    "asked",
    [
        {"events": steps(repeated([7], 20))},  # every draft stands
        {"events": steps(repeated([2], 20), verify_s=0.0042)},  # width costs nothing
        {"events": steps(repeated([2], 20), verify_s=0.0096), "plain_s": None},
        {"events": steps(repeated([2], 20), verify_s=0.0096), "policy": "adaptive"},
        {"events": steps(repeated([2], 5), verify_s=0.0096)},
        {"events": steps(repeated([-1], 20))},
    ],
)
def test_a_block_that_fits_or_cannot_be_judged_is_left_alone(asked: dict[str, object]) -> None:
    assert costs.block_size(case(**asked)) is None  # type: ignore[arg-type]


def test_dear_verification_says_how_often_a_draft_must_stand_to_pay() -> None:
    found = costs.verification(case(steps(repeated([3], 20), verify_s=0.011), plain_s=0.004))
    assert found is not None
    assert found.figures["ratio"] == pytest.approx(2.75)
    assert found.figures["draft_ms"] == pytest.approx(1)
    assert found.figures["needed"] == pytest.approx(0.001 * 4 / 0.013)
    assert found.lost_s == pytest.approx(20 * 0.007)
    assert costs.verification(case(steps(repeated([3], 20), verify_s=0.0045))) is None
    assert costs.verification(case(steps(repeated([3], 20)), plain_s=None)) is None


def test_the_drafters_share_is_told_from_a_tenth_on() -> None:
    found = costs.drafting(case(steps(repeated([3], 20), propose_s=0.002, verify_s=0.008)))
    assert found is not None
    assert found.figures == {"share": pytest.approx(0.04 / 0.21), "propose_ms": pytest.approx(2)}
    assert found.lost_s == pytest.approx(0.04)
    assert costs.drafting(case(steps(repeated([3], 20), propose_s=0.0005))) is None
    assert costs.drafting(case(steps(repeated([-1], 20)))) is None


def test_time_that_is_neither_drafting_nor_verifying_is_told_from_a_tenth_on() -> None:
    found = costs.host(case(steps(repeated([3], 20), host_s=0.005)))
    assert found is not None
    assert found.figures["share"] == pytest.approx(0.1 / 0.31)
    assert found.figures["host_ms"] == pytest.approx(5)
    assert found.lost_s == pytest.approx(0.1)
    assert costs.host(case(steps(repeated([3], 20), host_s=0.0005))) is None
    assert costs.host(case(steps([]))) is None


def disturbed(num_steps: int, every: int) -> list[DecodeEvent]:
    """Steps of 10 ms, each `every`-th of which took 110."""
    events, late_s = steps(repeated([1], num_steps)), 0.0
    shifted = events[:1]
    for index, event in enumerate(events[1:]):
        late_s += 0.1 if index % every == 0 else 0.0
        shifted.append(type(event)(**{**_fields(event), "elapsed_s": event.elapsed_s + late_s}))
    return shifted


def test_interrupted_blocks_are_told_by_their_quiet_neighbours() -> None:
    found = costs.uneven(case(disturbed(30, 3)))
    assert found is not None
    assert found.figures["quiet_ms"] == pytest.approx(10)
    assert found.figures["mean_ms"] == pytest.approx(10 + 100 / 3)
    assert found.lost_s == pytest.approx(1.0)
    assert costs.uneven(case(steps(repeated([1], 30)))) is None
    assert costs.uneven(case(disturbed(6, 3))) is None
    assert costs.uneven(case(steps(repeated([-1], 30)))) is None


def test_a_context_that_makes_steps_ever_slower_is_no_interruption() -> None:
    events = steps(repeated([1], 60))
    shifted = [events[0]]
    for index, event in enumerate(events[1:]):
        later = 0.002 * index * (index + 1) / 2
        shifted.append(type(event)(**{**_fields(event), "elapsed_s": event.elapsed_s + later}))
    assert costs.uneven(case(shifted)) is None


def test_neither_drafting_nor_width_is_blamed_for_interruptions() -> None:
    events = disturbed(30, 3)
    assert costs.block_size(case(events)) is None
    assert costs.block_size(case(steps(repeated([1], 30)))) is not None
    assert costs.verification(case(events)) is None
    assert costs.verification(case(steps(repeated([1], 30)))) is not None
    assert costs.drafting_loses(case(events, plain_s=0.006)) is None
    assert costs.drafting_loses(case(events, plain_s=0.004)) is not None


def test_reading_the_prompt_is_told_where_it_takes_a_quarter_of_the_time() -> None:
    found = costs.prefill(case(steps(repeated([3], 10), ttft_s=0.1, prompt=500)))
    assert found is not None
    assert found.figures == {"share": pytest.approx(0.5), "prompt": 500, "output": 41}
    assert found.lost_s == pytest.approx(0.1)
    assert costs.prefill(case(steps(repeated([3], 10), ttft_s=0.01))) is None


def test_recording_is_told_as_what_it_took_beyond_a_usual_step() -> None:
    events = steps(repeated([3], 20), notes={0: "Start-up: 0.5 s of this step."})
    assert costs.start_up(case(events)) is None  # it took no longer than the others
    slow = [events[0]]
    for index, event in enumerate(events[1:]):
        later = 0.5 if index >= 0 else 0.0
        slow.append(type(event)(**{**_fields(event), "elapsed_s": event.elapsed_s + later}))
    found = costs.start_up(case(slow))
    assert found is not None
    assert found.lost_s == pytest.approx(0.5)
    assert found.gain == pytest.approx(0.7 / 0.2)
    assert costs.start_up(case(steps(repeated([3], 20)))) is None


def _fields(event: object) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__slots__}  # type: ignore[attr-defined]
