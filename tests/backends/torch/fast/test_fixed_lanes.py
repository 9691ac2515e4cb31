"""Lanes whose steps are recorded put out what the other lanes put out, token by token."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import pytest

from dflash_app.backends.torch.fast import FastDrafter, FastTarget
from dflash_app.backends.torch.fast.recorder import Eager
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.selftest.oracle import OracleLane
from dflash_app.request import SamplingParams
from tests.backends.torch.fast.test_lane import PROMPT, SAMPLINGS
from tests.backends.torch.fast.traced import Traced

pytestmark = pytest.mark.usefixtures("small_buckets")
GREEDY = SamplingParams()


@pytest.fixture
def pairs(
    both_targets: Callable[..., Any], both_drafters: Callable[..., Any]
) -> tuple[TorchModels, Callable[[Any], TorchModels]]:
    """The ordinary fast path, and what makes the same with a recorder."""
    slow, target = both_targets(bfloat16=False)
    slow_drafter, drafter = both_drafters(bfloat16=False)

    def make(recorder: Any) -> TorchModels:
        return TorchModels(
            FastTarget(deepcopy(slow.model), recorder),
            FastDrafter(deepcopy(slow_drafter), recorder),
        )

    return TorchModels(target, drafter), make


def step(lane: TorchLane, num_draft: int, length: int) -> tuple[int, ...]:
    verified = lane.verify(lane.propose(num_draft))
    lane.rewind(length + len(verified.token_ids))
    return verified.token_ids


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("block_size", [None, 6])
def test_both_modes_agree_under_every_sampling(
    pairs: Any, run_lane: Any, sampling: str, block_size: int | None
) -> None:
    plain, make = pairs
    params, num_draft = SAMPLINGS[sampling], (block_size or 16) - 1
    models = make(Eager())
    for mode, drafts in (("ar", 0), ("dflash", num_draft)):
        expected, found = (
            run_lane(each.open_lane(params, mode, block_size), PROMPT, 90, num_draft=drafts)
            for each in (plain, models)
        )
        assert found.token_ids == expected.token_ids
        assert [s.drafted_ids for s in found.steps] == [s.drafted_ids for s in expected.steps]


def test_steps_that_cannot_look_at_the_host_agree_too(pairs: Any, run_lane: Any) -> None:
    plain, make = pairs
    recorder = Traced()
    models = make(recorder)
    expected, found = (
        run_lane(each.open_lane(GREEDY, "dflash"), PROMPT, 28) for each in (plain, models)
    )
    assert found.token_ids == expected.token_ids
    assert [s.drafted_ids for s in found.steps] == [s.drafted_ids for s in expected.steps]
    assert len(found.steps) > 2 * recorder.num_steps


def test_every_forced_accepted_length_is_lossless_in_every_bucket(
    pairs: Any, run_lane: Any
) -> None:
    plain, make = pairs
    truth = run_lane(plain.open_lane(GREEDY, "ar"), PROMPT, 300, num_draft=0).token_ids
    models = make(Eager())
    lengths = [*range(16), *range(15, -1, -1)] * 2
    lane = OracleLane(models.target, PROMPT, truth, lengths, drafter=models.drafter)
    found = run_lane(lane, PROMPT, 280)
    assert found.token_ids == truth[:280]
    assert {step.num_accepted for step in found.steps} == set(range(16))


@pytest.mark.parametrize("num_draft", [0, 2, 15])
def test_a_turn_that_goes_on_from_the_last_one_drafts_what_a_fresh_one_drafts(
    pairs: Any, run_lane: Any, num_draft: int
) -> None:
    plain, make = pairs
    models = make(Eager())
    prompt: Sequence[int] = PROMPT
    for turn in range(3):
        expected, found = (
            run_lane(
                each.open_lane(GREEDY, "dflash", prompt_ids=prompt),
                prompt,
                20,
                num_draft=num_draft,
            )
            for each in (plain, models)
        )
        assert found.token_ids == expected.token_ids
        assert [s.drafted_ids for s in found.steps] == [s.drafted_ids for s in expected.steps]
        # The next prompt keeps a part of the reply, so that caches go back into it.
        prompt = [*prompt, *found.token_ids[: 7 * turn], 90, 91, 92]


def test_a_run_that_ends_anywhere_leaves_buffers_that_the_next_one_can_use(
    pairs: Any, run_lane: Any
) -> None:
    plain, make = pairs
    recorder = Eager()
    models = make(recorder)
    expected = run_lane(plain.open_lane(GREEDY, "dflash"), PROMPT, 60).token_ids
    # The second run, as the first one's buffers grew and left behind what was recorded on them.
    for _ in range(2):
        assert run_lane(models.open_lane(GREEDY, "dflash"), PROMPT, 60).token_ids == expected
    num_steps = recorder.num_steps
    for num_forwards in range(4):
        lane = models.open_lane(GREEDY, "dflash")
        lane.extend(PROMPT[::-1])
        if num_forwards:
            lane.first_token()
            draft = lane.propose(15)
        if num_forwards > 1:
            lane.verify(draft)
        if num_forwards > 2:
            lane.propose(15)
        lane.close()
        del lane
        assert run_lane(models.open_lane(GREEDY, "dflash"), PROMPT, 60).token_ids == expected
    assert recorder.num_steps == num_steps


def test_lanes_that_take_turns_do_not_touch_each_other(pairs: Any, run_lane: Any) -> None:
    plain, make = pairs
    models = make(Eager())
    prompts = (PROMPT, PROMPT[::-1], PROMPT)
    drafts = (0, 15, 7)
    expected = [
        run_lane(plain.open_lane(GREEDY, "dflash"), prompt, 60, num_draft=0).token_ids
        for prompt in prompts
    ]
    lanes = [models.open_lane(GREEDY, "dflash") for _ in prompts]
    for lane, prompt in zip(lanes, prompts, strict=True):
        lane.extend(prompt)
    # Only now: the logits of the first lane must have outlived the others' prompts.
    found = [[lane.first_token()] for lane in lanes]
    for _ in range(12):
        for lane, prompt, output, num_draft in zip(lanes, prompts, found, drafts, strict=True):
            output.extend(step(lane, num_draft, len(prompt) + len(output) - 1))
    for output, truth in zip(found, expected, strict=True):
        assert len(output) > 12
        assert output[:60] == truth[: len(output)]


def test_a_race_that_is_run_again_records_nothing(pairs: Any, run_lane: Any) -> None:
    _, make = pairs
    recorder = Eager()
    models = make(recorder)
    num_steps = []
    for _ in range(3):
        lanes = [models.open_lane(GREEDY, mode) for mode in ("ar", "dflash")]
        for lane in lanes:
            lane.extend(PROMPT * 4)
            lane.first_token()
        for num_forwards in range(1, 4):
            for lane, num_draft in zip(lanes, (0, 15), strict=True):
                lane.verify(lane.propose(num_draft))
                lane.rewind(4 * len(PROMPT) + num_forwards)
        for lane in lanes:
            lane.close()
        del lanes, lane
        num_steps.append(recorder.num_steps)
    assert num_steps[0] > 3
    assert num_steps[1:] == num_steps[:1] * 2


def test_after_memory_ran_short_both_modes_go_on_and_say_so(pairs: Any, run_lane: Any) -> None:
    plain, make = pairs
    for max_steps in (0, 1, 3):
        models = make(Traced(max_steps))
        expected, found = (
            run_lane(each.open_lane(GREEDY, "dflash"), PROMPT, 70) for each in (plain, models)
        )
        assert found.token_ids == expected.token_ids
        assert [s.drafted_ids for s in found.steps] == [s.drafted_ids for s in expected.steps]
        assert models.path == models.drafter_path == "static cache: no memory for steps"
        plain_ar = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 40, num_draft=0)
        assert plain_ar.token_ids == expected.token_ids[:40]


def test_a_lane_tells_which_of_its_steps_were_recorded_and_models_how_long_that_took(
    pairs: Any,
) -> None:
    plain, make = pairs
    models = make(Eager())
    assert models.startup_s == plain.startup_s == 0.0
    lane = models.open_lane(GREEDY, "dflash")
    lane.extend(PROMPT)
    lane.first_token()
    told = []
    for _ in range(2):
        verified = lane.verify(lane.propose(15))
        lane.rewind(len(PROMPT))
        told.append(verified.startup_s)
    # A short prompt is added to the drafter's context by a step too: that is no step's time.
    assert 0.0 < told[0] < models.startup_s
    assert told[1] == 0.0
    other = plain.open_lane(GREEDY, "dflash")
    other.extend(PROMPT)
    other.first_token()
    verified = other.verify(other.propose(15))
    assert (verified.startup_s, verified.propose_s) == (0.0, None)  # a CPU's clock tells


def test_closed_models_still_tell_how_they_decoded(pairs: Any) -> None:
    models = pairs[1](Eager())
    models.close()
    assert models.path == models.drafter_path == "steps of fixed width"
