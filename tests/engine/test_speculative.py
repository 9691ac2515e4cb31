from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import pytest

from dflash_app.engine.policy import PLAIN, AdaptiveDrafts, DraftPolicy, FixedDrafts
from dflash_app.engine.protocol import Verified
from dflash_app.engine.speculative import decode
from dflash_app.engine.step_costs import StepCosts
from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone
from dflash_app.metrics import summarize
from tests.engine.scripted import Costs, FakeTime, ScriptedLane, greedy, hashed, output, reason

PROMPT = (5, 3, 8, 1)
GREEDY = greedy(hashed, PROMPT, 40)


def run(
    lane: ScriptedLane,
    *,
    prompt: Sequence[int] = PROMPT,
    policy: DraftPolicy = PLAIN,
    max_new_tokens: int = 12,
    eos_ids: frozenset[int] = frozenset(),
    cancelled: Callable[[], bool] = lambda: False,
    prefill_chunk: int = 512,
    stable_length: int = 0,
) -> list[DecodeEvent]:
    return list(
        decode(
            lane,
            prompt,
            policy=policy,
            max_new_tokens=max_new_tokens,
            eos_ids=eos_ids,
            context_length=lane.context_length,
            clock=lane.time,
            cancelled=cancelled,
            prefill_chunk=prefill_chunk,
            stable_length=stable_length,
        )
    )


def test_the_reference_never_repeats_a_token_so_that_each_can_serve_as_stop_token():
    assert len(set(GREEDY)) == len(GREEDY)


@pytest.mark.parametrize("num_draft", [1, 2, 3])
def test_dflash_equals_ar_for_every_acceptance_pattern_limit_and_stop_position(num_draft):
    patterns = list(product(range(num_draft + 1), repeat=3))
    for max_new_tokens in range(1, 10):
        for stop_at in (None, *range(9)):
            eos_ids = frozenset() if stop_at is None else frozenset({GREEDY[stop_at]})
            plain = run(ScriptedLane(), max_new_tokens=max_new_tokens, eos_ids=eos_ids)
            stops = stop_at is not None and stop_at < max_new_tokens
            expected = GREEDY[: stop_at + 1 if stops else max_new_tokens]
            assert output(plain) == expected
            assert reason(plain) == ("stop" if stops else "length")
            for accepts in patterns:
                lane = ScriptedLane(accepts=accepts)
                events = run(
                    lane,
                    policy=FixedDrafts(num_draft),
                    max_new_tokens=max_new_tokens,
                    eos_ids=eos_ids,
                )
                assert output(events) == expected, (max_new_tokens, stop_at, accepts)
                assert reason(events) == reason(plain)


@pytest.mark.parametrize("accepted", range(16))
def test_each_accepted_length_of_a_block_of_16_commits_that_many_tokens_and_one(accepted):
    events = run(
        ScriptedLane(accepts=[accepted]), policy=FixedDrafts(15), max_new_tokens=len(GREEDY)
    )
    assert output(events) == GREEDY
    steps = [event for event in events if isinstance(event, StepDone)]
    full = [step for step in steps if len(step.drafted_ids) == 15]
    assert full
    for step in full:
        assert step.num_accepted == accepted
    # The last step has room for fewer drafts; every other one commits accepted + 1.
    assert all(len(step.token_ids) == accepted + 1 for step in steps[:-1])


def test_the_first_of_several_stop_tokens_ends_the_run_and_is_put_out():
    eos_ids = frozenset({GREEDY[7], GREEDY[2], GREEDY[4]})
    for accepts in product(range(4), repeat=2):
        events = run(ScriptedLane(accepts=accepts), policy=FixedDrafts(3), eos_ids=eos_ids)
        assert output(events) == GREEDY[:3]
        assert reason(events) == "stop"


def test_a_stop_token_inside_the_drafts_cuts_the_tokens_but_not_the_count():
    events = run(ScriptedLane(accepts=[3]), policy=FixedDrafts(3), eos_ids=frozenset({GREEDY[2]}))
    (step,) = (event for event in events if isinstance(event, StepDone))
    assert step.token_ids == tuple(GREEDY[1:3])
    assert step.num_accepted == 3
    assert step.drafted_ids == tuple(GREEDY[1:4])


def test_drafts_are_clipped_to_what_may_still_come_as_in_zlab():
    lane = ScriptedLane(accepts=[0])
    run(lane, policy=FixedDrafts(3), max_new_tokens=6)
    assert lane.proposed == [3, 3, 3, 2, 1]


@pytest.mark.parametrize("policy", [PLAIN, FixedDrafts(1), FixedDrafts(7)])
@pytest.mark.parametrize("room", range(10))
def test_the_context_is_used_to_its_last_position_and_never_beyond(policy, room):
    # The lane asserts that no position beyond the context is fed.
    lane = ScriptedLane(accepts=[2, 7, 0], context_length=len(PROMPT) + room)
    events = run(lane, policy=policy, max_new_tokens=100)
    assert output(events) == GREEDY[: room + 1]
    assert reason(events) == "length"


@pytest.mark.parametrize(
    ("num_prompt", "chunk", "chunks"),
    [(1, 4, [1]), (4, 4, [4]), (5, 4, [4, 1]), (9, 4, [4, 4, 1]), (3, 1, [1, 1, 1])],
)
def test_prefill_feeds_the_whole_prompt_in_chunks(num_prompt, chunk, chunks):
    lane = ScriptedLane()
    prompt = list(range(num_prompt))
    events = run(lane, prompt=prompt, max_new_tokens=3, prefill_chunk=chunk)
    assert lane.chunks == chunks
    assert output(events) == greedy(hashed, prompt, 3)
    assert events[0] == PrefillDone(num_prompt, 0, output(events)[0], 0.0, 0.0)


def test_a_prefix_that_the_lane_holds_is_not_read_again():
    lane = ScriptedLane()
    lane.extend(PROMPT[:3])
    events = run(lane, max_new_tokens=5)
    assert lane.chunks == [3, 1]
    assert output(events) == GREEDY[:5]
    assert isinstance(events[0], PrefillDone)
    assert events[0].num_reused == 3


@pytest.mark.parametrize(
    ("held", "stable_length", "chunks", "savepoints"),
    [
        (0, 0, [4, 4, 1], []),
        (0, 7, [4, 3, 1, 1], [7]),
        (0, 4, [4, 4, 1], [4]),
        (0, 9, [4, 4, 1], [9]),
        (3, 7, [3, 4, 2], [7]),
        (5, 6, [5, 1, 3], [6]),
        (6, 6, [6, 3], []),
        (7, 6, [7, 2], []),
    ],
)
def test_a_savepoint_is_set_where_the_prompt_is_stable_and_not_yet_passed(
    held, stable_length, chunks, savepoints
):
    lane, prompt = ScriptedLane(), range(9)
    if held:
        lane.extend(prompt[:held])
    events = run(lane, prompt=prompt, prefill_chunk=4, stable_length=stable_length)
    assert (lane.chunks, lane.savepoints) == (chunks, savepoints)
    assert output(events) == greedy(hashed, prompt, 12)


@pytest.mark.parametrize("accepts", [[0], [1], [3], [7]])
@pytest.mark.parametrize("stop_at", [None, 1, 2, 5])
def test_the_cache_ends_with_what_was_put_out_but_its_last_token(accepts, stop_at):
    eos_ids = frozenset() if stop_at is None else frozenset({GREEDY[stop_at]})
    lane = ScriptedLane(accepts=accepts)
    events = run(lane, policy=FixedDrafts(7), max_new_tokens=7, eos_ids=eos_ids)
    assert lane.cache == [*PROMPT, *output(events)[:-1]]


def test_a_run_cancelled_during_prefill_reads_no_further_chunk():
    lane = ScriptedLane()
    events = run(lane, prefill_chunk=1, cancelled=lambda: len(lane.chunks) == 2)
    assert lane.chunks == [1, 1]
    assert [type(event) for event in events] == [Finished]
    assert reason(events) == "cancelled"


@pytest.mark.parametrize("policy", [PLAIN, FixedDrafts(3)])
def test_a_run_cancelled_within_a_step_ends_after_that_step(policy):
    flags: list[bool] = []
    lane = ScriptedLane(accepts=[1])
    lane.on_verify = lambda: flags.append(True)
    events = run(lane, policy=policy, cancelled=lambda: len(flags) == 2)
    assert lane.num_verified == 2
    assert reason(events) == "cancelled"
    assert output(events) == GREEDY[: len(output(events))]


def test_closing_the_generator_does_no_further_work():
    lane = ScriptedLane(accepts=[1])
    events = decode(
        lane,
        PROMPT,
        policy=FixedDrafts(3),
        max_new_tokens=20,
        eos_ids=frozenset(),
        context_length=100,
        clock=lane.time,
        cancelled=lambda: False,
    )
    next(events)
    next(events)
    events.close()
    assert lane.num_verified == 1


def test_the_clock_tells_prefill_draft_and_verification_apart():
    time = FakeTime()
    lane = ScriptedLane(accepts=[1], time=time, costs=Costs(0.5, 0.25, 2.0))
    events = run(lane, policy=FixedDrafts(3), max_new_tokens=5)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert isinstance(events[0], PrefillDone)
    assert events[0].elapsed_s == 2.0
    assert [(step.propose_s, step.verify_s) for step in steps] == [(0.25, 2.0)] * 2
    assert [step.elapsed_s for step in steps] == [4.25, 6.5]
    assert events[-1] == Finished("length", 6.5)


def test_metrics_of_the_events_say_what_the_script_did():
    lane = ScriptedLane(accepts=[3, 0, 1], time=FakeTime(), costs=Costs(0.5, 0.25, 1.75))
    metrics = summarize(run(lane, policy=FixedDrafts(3), max_new_tokens=1 + 4 + 1 + 2))
    assert metrics.num_output_tokens == 8
    assert metrics.num_steps == 3
    assert metrics.ttft_s == 2.0
    assert metrics.decode_s == 6.0
    assert metrics.tpot_s == pytest.approx(6.0 / 7)
    assert metrics.decode_tok_s == pytest.approx(7 / 6.0)
    assert metrics.end_to_end_tok_s == 1.0
    assert metrics.mean_acceptance_length == pytest.approx(1 + 4 / 3)
    assert metrics.acceptance_histogram == (1, 1, 0, 1)
    assert (metrics.propose_s, metrics.verify_s) == (0.75, 5.25)


def test_ar_drafts_nothing_and_takes_a_step_for_each_token_after_the_first():
    lane = ScriptedLane()
    metrics = summarize(run(lane, max_new_tokens=6))
    assert lane.proposed == [0] * 5
    assert metrics.num_steps == 5
    assert metrics.mean_acceptance_length is None


@pytest.mark.parametrize(
    ("prompt", "max_new_tokens"), [((), 5), (tuple(range(11)), 5), (PROMPT, 0)]
)
def test_what_cannot_be_decoded_is_refused_before_the_lane_is_touched(prompt, max_new_tokens):
    lane = ScriptedLane(context_length=10)
    with pytest.raises(ValueError, match="Cannot decode"):
        run(lane, prompt=prompt, max_new_tokens=max_new_tokens)
    assert lane.chunks == []


def test_a_policy_refuses_a_negative_number_of_drafts():
    with pytest.raises(ValueError, match="-1"):
        FixedDrafts(-1)


def test_where_the_device_tells_how_long_it_drafted_the_rest_of_the_step_is_verification():
    class Queued(ScriptedLane):
        """Drafts on after `propose` has returned."""

        def verify(self, draft: tuple[int, ...]) -> Verified:
            return replace(super().verify(draft), propose_s=0.75 if draft else None)

    for policy, times in ((FixedDrafts(3), (0.75, 1.5)), (PLAIN, (0.0, 2.0))):
        lane = Queued(accepts=(3,), costs=Costs(propose_s=0.25, verify_s=2.0))
        events = run(lane, policy=policy, max_new_tokens=5)
        first = next(event for event in events if isinstance(event, StepDone))
        assert (first.propose_s, first.verify_s) == times
        assert first.elapsed_s == sum(times)


def test_a_step_that_records_is_told_and_is_no_measure_of_what_its_width_costs():
    class Recording(ScriptedLane):
        def verify(self, draft: tuple[int, ...]) -> Verified:
            verified = super().verify(draft)
            return replace(verified, startup_s=0.4) if self.num_verified < 3 else verified

    class Watching(AdaptiveDrafts):
        def observe(
            self,
            num_drafted: int,
            num_accepted: int,
            step_s: float | None,
            confidences: Sequence[float] | None = None,
        ) -> str | None:
            seen.append((num_drafted, step_s))
            return super().observe(num_drafted, num_accepted, step_s, confidences)

    seen: list[tuple[int, float | None]] = []
    costs = StepCosts(3)
    lane = Recording(accepts=(3,), costs=Costs(verify_s=1.0))
    events = run(lane, policy=Watching(costs), max_new_tokens=20)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [step_s for _, step_s in seen][:4] == [None, None, 1.0, 1.0]
    said = [step.note for step in steps]
    assert said[0] == "Start-up: 0.40 s of this step went into recording it."
    assert said[1] == said[0]
    assert not any(said[2:])
    # The width that could not be measured is asked for again.
    assert [num_drafted for num_drafted, _ in seen][:3] == [3, 3, 3]
