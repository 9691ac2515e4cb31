"""Policies by replay: recorded acceptances of the embedded pair over given step costs."""

import random
import re
from itertools import accumulate, groupby

import pytest

from dflash_app.engine.policy import (
    PLAIN,
    SEEDED_NOTE,
    AdaptiveDrafts,
    DraftPolicy,
    FixedDrafts,
    SeededDrafts,
)
from dflash_app.engine.speculative import decode
from dflash_app.engine.step_costs import StepCosts
from dflash_app.events import StepDone
from tests.engine.replay import (
    COSTS,
    NUM_DRAFTS,
    Reply,
    Totals,
    chance_replies,
    compare_policies,
    loaded,
    recorded_replies,
    replay,
    steady,
)
from tests.engine.scripted import Costs, FakeTime, ScriptedLane, greedy, hashed, output

RECORDED = recorded_replies()
BY_CHANCE = {
    f"right by chance {rate}": chance_replies([rate], 360, 4) for rate in (0.1, 0.3, 0.5, 0.7, 0.85)
}
FLAT = COSTS["GPU, verification nearly free"]
EMBEDDED = COSTS["embedded pair on two cores"]
STEEP = COSTS["CPU, each token costs a quarter"]
GOOD, USELESS = Reply([15] * 400), Reply([0] * 400)


def learnt(costs) -> StepCosts:
    """Costs as a pair has them after a first run."""
    result = StepCosts(NUM_DRAFTS)
    while result.unmeasured is not None:
        result.observe(result.unmeasured, costs[result.unmeasured])
    return result


@pytest.mark.parametrize("policy", [PLAIN, FixedDrafts(1), FixedDrafts(15)])
def test_fixed_drafts_never_change_and_never_say_anything(policy: DraftPolicy):
    wanted = policy.num_draft()
    for accepted in (0, wanted, 0):
        assert policy.observe(wanted, accepted, 1.0) is None
        assert policy.num_draft() == wanted


def test_a_policy_refuses_a_negative_number_of_drafts():
    with pytest.raises(ValueError, match="-1"):
        FixedDrafts(-1)


def test_seeded_drafts_are_fixed_and_say_once_why():
    done = replay(SeededDrafts(15), Reply([3] * 40), FLAT)
    assert set(done.widths) == {15}
    assert done.notes == [(0, SEEDED_NOTE)]


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("after_block", [1.0, 1.3])
def test_adaptive_is_within_5_percent_of_the_better_of_fixed_and_ar_on_every_kind(
    name, after_block
):
    totals = compare_policies(
        RECORDED | BY_CHANCE,
        COSTS[name],
        lambda source: steady(0.05, source),
        after_block=after_block,
    )
    assert {kind: t.regret for kind, t in totals.items() if t.regret > 1.05} == {}
    low = {kind for kind, t in totals.items() if t.fixed > t.ar}
    assert {"running on", "right by chance 0.1"} <= low
    assert {kind for kind in low if totals[kind].adaptive >= totals[kind].fixed} == set()


@pytest.mark.parametrize("name", COSTS)
def test_adaptive_stays_within_7_percent_on_a_machine_shared_with_others(name):
    totals = compare_policies(RECORDED | BY_CHANCE, COSTS[name], loaded, num_rounds=4)
    assert {kind: t.regret for kind, t in totals.items() if t.regret > 1.07} == {}


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("rates", [(0.85, 0.15), (0.15, 0.7)])
def test_adaptive_follows_text_that_changes_within_a_reply(name, rates):
    replies = {"changing": chance_replies(rates, 720, 6)}
    (total,) = compare_policies(replies, COSTS[name], lambda source: steady(0.05, source)).values()
    assert total.regret < 1.07


def test_confidences_tell_unknown_text_from_one_wrong_draft():
    costs = COSTS["fast path, AR cheaper still"]
    silent = {kind: [Reply(each.accepted) for each in group] for kind, group in RECORDED.items()}
    told, untold = (
        compare_policies(replies, costs, lambda source: steady(0.05, source), after_block=1.3)
        for replies in (RECORDED, silent)
    )
    for kind in ("gibberish", "foreign", "running on"):
        assert told[kind].adaptive < 0.98 * untold[kind].adaptive
    known = [kind for kind in RECORDED if told[kind].fixed < told[kind].ar]
    assert len(known) > 8
    seconds = [sum(totals[kind].adaptive for kind in known) for totals in (told, untold)]
    assert seconds[0] < 1.02 * seconds[1]


@pytest.mark.parametrize("name", COSTS)
def test_what_a_block_leaves_to_the_next_plain_step_does_not_make_ar_look_dearer(name):
    costs, known = COSTS[name], StepCosts(NUM_DRAFTS)
    done = replay(AdaptiveDrafts(known), chance_replies([0.7], 1_500, 1)[0], costs, after_block=1.5)
    assert 0 in done.widths
    assert known[NUM_DRAFTS] / known[0] == pytest.approx(costs[NUM_DRAFTS] / costs[0], rel=0.05)


def test_a_trial_of_ar_takes_two_steps_as_only_the_second_is_measured():
    seen = []

    class Watched(StepCosts):
        def observe(self, width: int, step_s: float) -> None:
            seen.append(width)
            super().observe(width, step_s)

    costs = Watched(NUM_DRAFTS)
    while costs.unmeasured is not None:
        costs.observe(costs.unmeasured, EMBEDDED[costs.unmeasured])
    seen.clear()
    done = replay(AdaptiveDrafts(costs), chance_replies([0.5], 1_000, 1)[0], EMBEDDED)
    assert done.notes == []
    runs = [len(list(group)) for width, group in groupby(done.widths) if width == 0]
    assert len(runs) > 1
    assert set(runs) == {2}
    assert seen.count(0) == len(runs)


@pytest.mark.parametrize("kind", ["gibberish", "foreign", "running on"])
def test_adaptive_beats_fixed_where_acceptance_is_low_and_drafts_cost(kind):
    for name in COSTS:
        totals = compare_policies({kind: RECORDED[kind]}, COSTS[name], lambda s: steady(0.05, s))
        if COSTS[name][NUM_DRAFTS] > 1.5 * COSTS[name][1]:
            assert totals[kind].adaptive < 0.95 * totals[kind].fixed, name
        else:
            assert totals[kind].regret < 1.05, name


def test_what_a_first_run_costs_more_is_a_few_steps_whatever_comes():
    for costs in COSTS.values():
        for reply in (GOOD, USELESS):
            total = Totals(
                replay(FixedDrafts(15), reply, costs).seconds,
                costs[0] * len(reply),
                replay(AdaptiveDrafts(StepCosts(NUM_DRAFTS)), reply, costs).seconds,
            )
            assert total.adaptive - min(total.fixed, total.ar) < 8 * costs[15] + 6 * costs[0]


def test_drafting_that_never_pays_falls_back_to_ar_and_tells_with_figures():
    done = replay(AdaptiveDrafts(learnt(STEEP)), USELESS, STEEP)
    assert len(done.notes) == 1
    token, note = done.notes[0]
    assert token < 20
    assert re.fullmatch(
        r"AR fallback: drafting pauses, as it loses time \(a step with drafts commits "
        r"[1-4]\.\d tokens here and takes as long as \d\.\d plain steps\)\.",
        note,
    )
    assert done.widths.count(0) > 0.95 * len(done.widths)


def test_trials_in_ar_fallback_lose_no_more_than_2_percent():
    for costs in COSTS.values():
        policy = AdaptiveDrafts(learnt(costs))
        replay(policy, USELESS, costs)
        done = replay(policy, Reply([0] * 3_000), costs)
        assert done.seconds < 1.02 * 3_000 * costs[0]
        assert any(done.widths), "the other side is looked at now and then"


def test_a_fallen_back_run_drafts_again_when_the_text_becomes_easy_and_says_so():
    reply = Reply([*USELESS.accepted, *[15 - token % 16 for token in range(400)]])
    for costs in COSTS.values():
        done = replay(AdaptiveDrafts(learnt(costs)), reply, costs)
        starts = [note.split(":")[0] for _, note in done.notes]
        assert starts == ["AR fallback", "Drafting again"]
        assert 400 <= done.notes[1][0] < 600
        assert sorted(done.widths[-5:])[1] >= 3, "one of them may be a trial"


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("noise_of", [lambda source: steady(0.05, source), loaded])
def test_acceptance_near_the_break_even_makes_few_changes_however_long_the_run(name, noise_of):
    costs = COSTS[name]
    reply = chance_replies([break_even_rate(costs)], 2_000, 1)[0]
    for seed in range(4):
        noise, known = noise_of(random.Random(seed)), learnt(costs)
        done = replay(AdaptiveDrafts(known), reply, costs, noise)
        assert len(done.notes) <= 6
        assert done.seconds < 1.07 * 2_000 * costs[0]


def break_even_rate(costs) -> float:
    """The chance of each draft at which the best width decodes as fast as AR."""

    def speed(rate: float) -> float:
        tokens = accumulate(rate**position for position in range(NUM_DRAFTS + 1))
        return max(number / cost for number, cost in zip(tokens, costs, strict=True) if cost > 1)

    return next(rate for rate in (each / 200 for each in range(200)) if speed(rate) >= 1 / costs[0])


def test_in_ar_fallback_drafts_are_rare_though_near_the_break_even_they_cost_nothing():
    fallen_back = []
    for reply in chance_replies([break_even_rate(STEEP) - 0.1], 2_000, 6):
        done = replay(AdaptiveDrafts(learnt(STEEP)), reply, STEEP)
        if done.notes[-1][1].startswith("AR fallback"):
            fallen_back.append(done.widths[-500:])
    assert len(fallen_back) > 3
    assert sum(rest.count(0) for rest in fallen_back) > 0.85 * 500 * len(fallen_back)


def test_where_a_wide_step_is_dear_few_drafts_are_verified():
    metal = COSTS["Metal 4-bit, another kernel from the 5th draft on"]
    done = replay(AdaptiveDrafts(learnt(metal)), Reply([3] * 600), metal)
    assert set(done.widths[-50:]) <= {0, 2, 3, 4, 6}


def test_where_wide_steps_are_nearly_free_and_drafts_good_the_whole_block_is_verified():
    done = replay(AdaptiveDrafts(learnt(FLAT)), GOOD, FLAT)
    assert set(done.widths) == {15}
    assert done.notes == []


def test_a_machine_that_becomes_slow_is_no_reason_to_stop_drafting():
    speed = iter([*[1.0] * 60, *[2.5] * 1_000])
    reply = Reply([4] * 1_500)
    done = replay(AdaptiveDrafts(learnt(EMBEDDED)), reply, EMBEDDED, lambda: next(speed))
    assert done.notes == []
    assert done.widths.count(0) < 0.03 * len(done.widths)


def test_single_slow_steps_are_no_reason_to_stop_drafting():
    source = random.Random(2)
    done = replay(
        AdaptiveDrafts(learnt(EMBEDDED)),
        Reply([4] * 2_000),
        EMBEDDED,
        lambda: 6.0 if source.random() < 0.05 else 1.0,
    )
    assert done.notes == []


def test_a_run_decodes_the_same_tokens_and_carries_the_note_in_the_step_where_it_begins():
    prompt = (5, 3, 8, 1)
    time = FakeTime()
    lane = ScriptedLane(accepts=[0], time=time, costs=Costs(0.0, 1.0, 1.0))
    events = list(
        decode(
            lane,
            prompt,
            policy=AdaptiveDrafts(StepCosts(3)),
            max_new_tokens=150,
            eos_ids=frozenset(),
            context_length=lane.context_length,
            clock=time,
            cancelled=lambda: False,
        )
    )
    assert output(events) == greedy(hashed, prompt, 150)
    steps = [event for event in events if isinstance(event, StepDone)]
    told = [index for index, step in enumerate(steps) if step.note]
    assert len(told) == 1
    assert steps[told[0]].drafted_ids == ()
    assert (steps[told[0]].note or "").startswith("AR fallback")
    assert any(step.drafted_ids for step in steps[: told[0]])
