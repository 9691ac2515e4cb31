"""A chat's next turn reads only what is new in it, and says what a cold one says."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import mlx.core as mx
import pytest

from dflash_app.backends.mlx.lane import MlxLane
from dflash_app.backends.mlx.loading import load_drafter, load_target
from dflash_app.backends.mlx.models import MlxModels
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.backends.torch.selftest.tiny_families import VOCAB_SIZE, WINDOW
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.prefix import PrefixSlot
from dflash_app.engine.speculative import decode
from dflash_app.events import PrefillDone, StepDone
from dflash_app.request import Mode
from tests.backends.mlx.oracle import GREEDY
from tests.backends.torch.drafter_files import random_drafter

BLOCK_SIZE = 8
NUM_TOKENS = 9
MESSAGE = [5, 17, 3, 42, 8]
OPENING = [90, 91, 92]
"""Opens the reply; the next turn's prompt has CLOSED in its place where it is not kept."""
CLOSED = [93]
KINDS = ["qwen3", "gpt_oss", "gemma4_text shared", "qwen3_5"]
"""Full layers alone, sliding ones, shared ones, recurrent ones."""


@pytest.fixture(scope="module")
def make_models(
    target_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], MlxModels]:
    folder = tmp_path_factory.mktemp("drafter")
    save_drafter(random_drafter(), folder)
    drafter = load_drafter(folder, mx.float32)

    def make(name: str) -> MlxModels:
        return MlxModels(load_target(target_folder(name), mx.float32), drafter)

    return make


def read(
    lane: MlxLane, prompt: Sequence[int], mode: Mode, stable_length: int = 0
) -> tuple[list[int], int]:
    """The reply, and how much of the prompt came from the turn before; the lane is closed."""
    reply, reused = [], 0
    for event in decode(
        lane,
        prompt,
        policy=FixedDrafts(BLOCK_SIZE - 1 if mode == "dflash" else 0),
        max_new_tokens=NUM_TOKENS,
        eos_ids=frozenset(),
        context_length=512,
        clock=lambda: 0.0,
        cancelled=lambda: False,
        stable_length=stable_length,
    ):
        if isinstance(event, PrefillDone):
            reply, reused = [event.token_id], event.num_reused
        elif isinstance(event, StepDone):
            reply += event.token_ids
    lane.close()
    return reply, reused


def cold(models: MlxModels, prompt: Sequence[int]) -> list[int]:
    return read(MlxLane(models.target, None, GREEDY), prompt, "ar")[0]


def stable(prompt: Sequence[int]) -> int:
    return len(prompt) - len(OPENING)


CONVERSATION: list[tuple[Mode, bool, str]] = [
    ("ar", True, "nothing"),
    ("ar", False, "stable"),
    ("ar", True, "all"),
    ("dflash", True, "nothing"),  # plain turns left no context
    ("dflash", False, "stable"),
    ("dflash", True, "all"),
    ("ar", False, "stable"),
]


@pytest.mark.parametrize("name", KINDS)
def test_every_turn_says_what_a_cold_lane_says_and_reads_only_what_is_new(
    name: str, make_models: Callable[[str], MlxModels]
) -> None:
    models = make_models(name)
    assert models.need_savepoints is (name != "qwen3")
    prompt, reply, left = [*MESSAGE, *OPENING], [], 0
    for number, (mode, kept, expected) in enumerate(CONVERSATION):
        common = 0
        if number:
            before = prompt if kept else prompt[: -len(OPENING)]
            common = left if kept else len(before)
            prompt = [*before, *([] if kept else CLOSED), *reply, *MESSAGE, *OPENING]
        truth = cold(models, prompt)
        lane = models.open_lane(GREEDY, mode, None, prompt)
        reply, reused = read(lane, prompt, mode, stable(prompt) if models.need_savepoints else 0)
        assert reply == truth, number
        assert reused == (0 if expected == "nothing" else common), (number, mode)
        left = len(prompt) + len(reply) - 1
    assert len(prompt) > 4 * WINDOW


@pytest.mark.parametrize(("name", "from_edit"), [("qwen3", 14), ("gpt_oss", 0), ("qwen3_5", 0)])
def test_an_edited_prompt_goes_back_as_far_as_the_cache_can(
    name: str, from_edit: int, make_models: Callable[[str], MlxModels]
) -> None:
    models = make_models(name)
    prompt = [*Random(4).choices(range(80), k=3 * WINDOW), *OPENING]
    read(models.open_lane(GREEDY, "dflash", None, prompt), prompt, "dflash", stable(prompt))
    edited = [*prompt[:14], 81, *prompt[15:]]
    reply, reused = read(models.open_lane(GREEDY, "dflash", None, edited), edited, "dflash")
    assert (reply, reused) == (cold(models, edited), from_edit)


def test_a_window_that_still_holds_all_is_cut_without_a_savepoint(
    make_models: Callable[[str], MlxModels],
) -> None:
    models, prompt = make_models("gpt_oss"), [1, 2, 3, 4]
    lane = MlxLane(models.target, None, GREEDY, slot=(slot := PrefixSlot()))
    lane.extend(prompt)
    lane.close()
    kept = slot.take([1, 2, 9, 9])
    assert kept is not None
    assert kept.token_ids == [1, 2]


def test_a_lane_that_failed_in_a_forward_leaves_nothing(
    make_models: Callable[[str], MlxModels], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = make_models("qwen3")
    lane = models.open_lane(GREEDY, "ar", None, MESSAGE)
    lane.extend(MESSAGE)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(models.target, "forward", broken)
        with pytest.raises(RuntimeError):
            lane.extend([7])
    lane.close()
    assert models.open_lane(GREEDY, "ar", None, [*MESSAGE, 7]).length == 0


def test_a_lane_for_no_prompt_leaves_nothing(make_models: Callable[[str], MlxModels]) -> None:
    models = make_models("qwen3")
    lane = models.open_lane(GREEDY, "ar")
    lane.extend(MESSAGE)
    lane.close()
    assert models.open_lane(GREEDY, "ar", None, [*MESSAGE, VOCAB_SIZE - 1]).length == 0
