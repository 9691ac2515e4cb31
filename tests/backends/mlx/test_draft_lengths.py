"""Draft lengths that change within a run on MLX: the same text, a whole context, measured costs."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

import mlx.core as mx
import pytest

from dflash_app.backends.mlx.lane import WAITING_TOKENS
from dflash_app.backends.mlx.loading import load_drafter, load_target
from dflash_app.backends.mlx.models import MlxModels
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.engine.policy import AdaptiveDrafts
from dflash_app.engine.speculative import decode
from dflash_app.engine.step_costs import StepCosts
from dflash_app.request import SamplingParams
from tests.backends.torch.drafter_files import random_drafter
from tests.engine.scripted import output

GREEDY = SamplingParams()
PROMPT = [5, 17, 3, 42, 8, 11, 29]
NUM_DRAFTS = 7


@pytest.fixture(scope="module", params=["qwen3", "qwen3_5"])
def models(
    request: pytest.FixtureRequest,
    target_folder: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> MlxModels:
    folder = tmp_path_factory.mktemp("drafter")
    save_drafter(random_drafter(), folder)
    target = load_target(target_folder(request.param), mx.float32)
    return MlxModels(target, load_drafter(folder, mx.float32))


def in_widths(lane: Any, widths: list[int]) -> list[int]:
    """Read the prompt, then a step of each width; all tokens that came."""
    lane.extend(PROMPT)
    token_ids = [lane.first_token()]
    for width in widths:
        length = lane.length
        verified = lane.verify(lane.propose(width))
        lane.rewind(length + 1 + verified.num_accepted)
        token_ids += verified.token_ids
    return token_ids


@pytest.mark.parametrize(
    "widths", [[0, 0, 7, 0, 3, 0, 0, 1, 0], [*[0] * (WAITING_TOKENS + 3), 7, 0]]
)
def test_plain_steps_leave_a_context_that_the_next_block_completes(
    models: MlxModels, widths: list[int]
) -> None:
    truth = in_widths(models.open_lane(GREEDY, "ar"), [0] * 8 * len(widths))
    lane = models.open_lane(GREEDY, "dflash")
    found = in_widths(lane, widths)
    assert found == truth[: len(found)]
    context = lane._prefix.context
    assert 0 < context.num_waiting <= WAITING_TOKENS
    assert context.length == lane.length
    lane.propose(1)
    assert context.num_waiting == 0
    fresh = models.open_lane(GREEDY, "dflash")
    fresh.extend((PROMPT + truth)[: lane.length])
    for held, expected in zip(context.layers(), fresh._prefix.context.layers(), strict=True):
        for array, wanted in zip(held, expected, strict=True):
            assert array.shape == wanted.shape
            assert mx.allclose(array, wanted, atol=1e-4)


def test_adaptive_drafts_by_times_measured_on_mlx_are_lossless(models: MlxModels) -> None:
    with closing(models.open_lane(GREEDY, "ar")) as lane:
        truth = in_widths(lane, [0] * 79)
    costs = StepCosts(NUM_DRAFTS)
    with closing(models.open_lane(GREEDY, "dflash")) as lane:
        events = decode(
            lane, PROMPT, policy=AdaptiveDrafts(costs), max_new_tokens=80, eos_ids=frozenset(),
            context_length=models.context_length, clock=perf_counter, cancelled=lambda: False,
        )  # fmt: skip
        assert output(list(events)) == truth
    assert costs.unmeasured is None
