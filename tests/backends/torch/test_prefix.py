"""A chat's next turn reads only what is new in it, and says what a cold one says."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any

import pytest
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from dflash_app.backends.torch.decode_path import fastest_drafter
from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.selftest.tiny_families import CONFIGS, VOCAB_SIZE, WINDOW
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.speculative import decode
from dflash_app.events import Finished
from dflash_app.request import Mode, SamplingParams
from tests.backends.torch.turns import (
    BLOCK_SIZE,
    NUM_TOKENS,
    Turn,
    assert_same_context,
    force,
    held,
    read,
    tiny_models,
)

GREEDY = SamplingParams()
MESSAGE = [5, 17, 3, 42, 8]
OPENING = [90, 91, 92]
"""Opens the reply; the next turn's prompt may have CLOSED in its place."""
CLOSED = [93]
DENSE = ["qwen3", "llama"]
"""On the fast path, where they are not kept from it."""
SAVEPOINT_KINDS = ["gpt_oss", "gemma4_text shared", "qwen3_next", "deepseek_v4"]
"""Sliding layers, shared ones, recurrent ones, compressed ones."""


def cold(models: TorchModels, prompt: Sequence[int], num_tokens: int = NUM_TOKENS) -> list[int]:
    """What a lane says that read all of the prompt itself; the models keep what they kept."""
    lane = TorchLane(models.target, None, GREEDY)
    return read(lane, prompt, num_tokens).token_ids


def warm(models: TorchModels, prompt: Sequence[int], mode: Mode = "ar", **options: Any) -> Turn:
    """A turn that reuses what it can; in "dflash" with the drafter's own drafts."""
    lane = models.open_lane(GREEDY, mode, None, prompt)
    num_draft = BLOCK_SIZE - 1 if mode == "dflash" else 0
    return read(lane, prompt, num_draft=num_draft, **options)


def after(prompt: list[int], reply: list[int], *, kept: bool = True) -> list[int]:
    """The next turn's prompt; without the opening of the last where it is not kept."""
    before = prompt if kept else prompt[: -len(OPENING)]
    return [*before, *([] if kept else CLOSED), *reply, *MESSAGE, *OPENING]


def stable(prompt: Sequence[int]) -> int:
    """How much of a prompt stays whatever its opening becomes."""
    return len(prompt) - len(OPENING)


@pytest.fixture(scope="session")
def make_models(make_drafter: Callable[..., DFlashDrafter]) -> Callable[..., TorchModels]:
    return partial(tiny_models, make_drafter)


CONVERSATION: list[tuple[Mode, bool, str]] = [
    ("ar", True, "nothing"),
    ("ar", False, "stable"),
    ("ar", True, "all"),
    ("dflash", True, "nothing"),  # two plain turns left no context
    ("dflash", False, "stable"),
    ("dflash", True, "all"),
    ("ar", False, "stable"),
    ("dflash", True, "context"),  # a plain turn lies between
]
"""Every change of mode: the turn's, whether its prompt keeps the last opening, what is reused."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in CONFIGS),
        *((name, {"fast": False}) for name in DENSE),
        *((name, {"snapshot": True}) for name in SAVEPOINT_KINDS),
    ],
    ids=str,
)
def test_every_turn_of_a_conversation_says_what_a_cold_lane_says_and_reads_only_what_is_new(
    make_models: Callable[..., TorchModels], name: str, options: dict[str, bool]
) -> None:
    models = make_models(name, **options)
    drafts = models.block_size is not None
    prompt, reply, left, context = [*MESSAGE, *OPENING], [], 0, 0
    for number, (mode, kept, expected) in enumerate(CONVERSATION):
        lengths = {"nothing": 0, "all": left, "stable": stable(prompt), "context": context}
        if number:
            prompt = after(prompt, reply, kept=kept)
        text = [*prompt, *cold(models, prompt)]
        lane = models.open_lane(GREEDY, mode if drafts else "ar", None, prompt)
        if mode == "dflash":
            force(lane, text, [3, 0, 2, 7])
        turn = read(
            lane,
            prompt,
            num_draft=BLOCK_SIZE - 1 if mode == "dflash" else 0,
            stable_length=stable(prompt) if models.need_savepoints else 0,
        )
        reply, left = turn.token_ids, len(text) - 1
        assert reply == text[len(prompt) :], number
        waits = drafts or expected == "stable"  # without a drafter there is no context to miss
        assert turn.num_reused == lengths[expected if waits else "all"], (number, mode, expected)
        assert held(models).token_ids == text[:left]
        if mode == "dflash" and drafts:
            _assert_same_context(models, text[:left])
        # A plain turn leaves as much context as it took over, and no savepoint so far back.
        context = 0 if models.need_savepoints else turn.num_reused
    assert len(prompt) > 5 * WINDOW


def _assert_same_context(models: TorchModels, token_ids: Sequence[int]) -> None:
    """The kept context must be what a lane makes that reads the same text at once."""
    fresh = TorchLane(models.target, models.drafter, GREEDY)
    fresh.extend(token_ids)
    assert_same_context(held(models).context, fresh._prefix.context)


@pytest.mark.parametrize(
    ("name", "from_edit", "from_again"),
    [("qwen3", 14, 1), ("glm_moe_dsa", 14, 1), ("gpt_oss", 0, 3), ("qwen3_5_text", 0, 3)],
)
def test_an_edited_or_repeated_prompt_goes_back_as_far_as_the_cache_can(
    make_models: Callable[..., TorchModels], name: str, from_edit: int, from_again: int
) -> None:
    models = make_models(name)
    prompt = [*Random(4).choices(range(80), k=3 * WINDOW), *OPENING]
    first = warm(models, prompt, "dflash", stable_length=stable(prompt))
    again = warm(models, prompt, "dflash", stable_length=stable(prompt))
    assert again == Turn(first.token_ids, len(prompt) - from_again)
    edited = [*prompt[:14], 81, *prompt[15:]]
    turn = warm(models, edited, "dflash")
    assert turn == Turn(cold(models, edited), from_edit)


def test_a_sliding_window_that_is_not_full_goes_back_anywhere(
    make_models: Callable[..., TorchModels],
) -> None:
    models = make_models("gpt_oss")
    warm(models, MESSAGE, num_tokens=WINDOW - len(MESSAGE))
    assert held(models).length == WINDOW - 1
    edited = [*MESSAGE[:3], 66, 67]
    assert warm(models, edited) == Turn(cold(models, edited), 3)


def test_a_savepoint_behind_an_edit_is_forgotten(make_models: Callable[..., TorchModels]) -> None:
    models = make_models("gpt_oss")
    warm(models, MESSAGE, num_tokens=3, stable_length=4)
    edited = [*MESSAGE[:2], *Random(6).choices(range(50, VOCAB_SIZE), k=3 * WINDOW)]
    assert warm(models, edited).num_reused == 2
    assert warm(models, edited) == Turn(cold(models, edited), 0)


@pytest.mark.parametrize("name", ["qwen3", *SAVEPOINT_KINDS])
def test_another_conversation_reuses_nothing_and_frees_the_last_before_it_reads(
    make_models: Callable[..., TorchModels], name: str
) -> None:
    models = make_models(name)
    prompt = [*MESSAGE, *OPENING]
    warm(models, prompt, stable_length=stable(prompt))
    left = weakref.ref(held(models))
    other = [33, *prompt]
    lane = models.open_lane(GREEDY, "ar", None, other)
    assert left() is None
    assert read(lane, other) == Turn(cold(models, other), 0)


@pytest.mark.parametrize("name", ["qwen3", "gpt_oss", "qwen3_next"])
def test_a_stop_token_inside_a_block_leaves_what_was_put_out_and_no_more(
    make_models: Callable[..., TorchModels], name: str
) -> None:
    models = make_models(name)
    prompt = [*MESSAGE * 3, *OPENING]
    reply = cold(models, prompt, 20)
    stop = next(i for i in range(3, 8) if reply[i] not in reply[:i])
    lane = force(models.open_lane(GREEDY, "dflash", None, prompt), [*prompt, *reply], [])
    ended = read(lane, prompt, 20, num_draft=BLOCK_SIZE - 1, stop_id=reply[stop])
    assert ended.token_ids == reply[: stop + 1]
    following = after(prompt, ended.token_ids)
    expected = Turn(cold(models, following), len(prompt) + stop)
    assert warm(models, following, "dflash") == expected


@pytest.mark.parametrize("name", ["qwen3", "gpt_oss", "qwen3_next"])
def test_a_cancelled_turn_leaves_what_it_had_read_and_put_out(
    make_models: Callable[..., TorchModels], name: str
) -> None:
    models = make_models(name)
    prompt = [*MESSAGE * 4, *OPENING]
    cancelled = warm(models, prompt, "dflash", cancel_after=3)
    assert 2 < len(cancelled.token_ids) < NUM_TOKENS
    following = after(prompt, cancelled.token_ids)
    expected = Turn(cold(models, following), len(prompt) + len(cancelled.token_ids) - 1)
    assert warm(models, following, "dflash") == expected


def test_a_turn_cancelled_while_its_prompt_is_read_leaves_the_chunks_it_read(
    make_models: Callable[..., TorchModels],
) -> None:
    models = make_models("qwen3_next")
    prompt = MESSAGE * 8
    lane = models.open_lane(GREEDY, "dflash", None, prompt)
    lane.extend(prompt[:10])
    lane.close()
    assert warm(models, prompt, "dflash") == Turn(cold(models, prompt), 10)


def test_a_cancel_while_the_prompt_is_read_ends_the_run_within_one_chunk(
    make_models: Callable[..., TorchModels], fast: bool
) -> None:
    lane = make_models("qwen3", fast=fast).open_lane(GREEDY, "dflash", None, MESSAGE * 8)
    events = decode(
        lane,
        MESSAGE * 8,
        policy=FixedDrafts(7),
        max_new_tokens=9,
        eos_ids=frozenset(),
        context_length=512,
        clock=lambda: 0.0,
        cancelled=lambda: lane.length >= 12,
        prefill_chunk=5,
    )
    assert list(events) == [Finished("cancelled", 0.0)]
    assert lane.length == 15


@pytest.mark.parametrize("step", ["prefill", "verify"])
def test_a_turn_that_broke_inside_a_forward_leaves_nothing(
    make_models: Callable[..., TorchModels], monkeypatch: pytest.MonkeyPatch, step: str, fast: bool
) -> None:
    models = make_models("qwen3", fast=fast)
    lane = models.open_lane(GREEDY, "ar", None, MESSAGE)
    lane.extend(MESSAGE[:3])
    lane.extend(MESSAGE[3:])
    lane.first_token()

    def out_of_memory(*_: object, **__: object) -> None:
        raise MemoryError

    # The head comes last: the caches have grown by then.
    monkeypatch.setattr(models.target.head, "apply" if fast else "forward", out_of_memory)
    with pytest.raises(MemoryError):
        lane.verify(lane.propose(0)) if step == "verify" else lane.extend([7])
    lane.close()
    assert held(models) is None
    monkeypatch.undo()
    assert warm(models, MESSAGE).num_reused == 0


@pytest.mark.parametrize("mode", ["ar", "dflash"])
def test_a_repetition_penalty_counts_what_was_reused(
    make_models: Callable[..., TorchModels], mode: Mode
) -> None:
    models = make_models("qwen3")
    sampling = SamplingParams(repetition_penalty=1.8)
    num_draft = BLOCK_SIZE - 1 if mode == "dflash" else 0
    prompt = [*MESSAGE, *OPENING]
    for number in range(3):
        lane = models.open_lane(sampling, mode, None, prompt)
        turn = read(lane, prompt, 20, num_draft=num_draft)
        expected = read(TorchLane(models.target, None, sampling), prompt, 20)
        assert turn.token_ids == expected.token_ids
        assert (number == 0) == (turn.num_reused == 0)
        prompt = after(prompt, turn.token_ids)
    assert turn.token_ids != cold(models, prompt, 20)


def test_pairs_that_share_a_target_keep_their_prefixes_apart(
    make_models: Callable[..., TorchModels],
    make_drafter: Callable[..., DFlashDrafter],
    fast: bool,
) -> None:
    one = make_models("qwen3", fast=True)
    shape = {"block_size": BLOCK_SIZE, "mask_token_id": 95, "target_layer_ids": (1, 2)}
    drafter = make_drafter(VOCAB_SIZE, dflash_config=shape)
    other = TorchModels(one.target, fastest_drafter(drafter, fast=fast))
    prompt = MESSAGE * 4
    assert [warm(models, prompt, "dflash").num_reused for models in (one, other)] == [0, 0]
    for models in (one, other):
        assert warm(models, prompt, "dflash").num_reused == len(prompt) - 1
        _assert_same_context(models, held(models).token_ids)


def test_a_closed_pair_holds_no_prefix_even_where_a_lane_ends_later(
    make_models: Callable[..., TorchModels],
) -> None:
    models = make_models("qwen3_next")
    warm(models, MESSAGE, stable_length=3)
    left = weakref.ref(held(models))
    models.close()
    assert left() is None
    models = make_models("qwen3")
    lane = models.open_lane(GREEDY, "ar", None, MESSAGE)
    lane.extend(MESSAGE)
    models.close()
    lane.close()
    assert held(models) is None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors(inner)


@pytest.mark.parametrize("name", SAVEPOINT_KINDS)
def test_a_savepoint_holds_no_more_than_the_layers_that_need_it(
    make_models: Callable[..., TorchModels], name: str
) -> None:
    models = make_models(name)
    prompt = Random(5).choices(range(VOCAB_SIZE), k=200)
    warm(models, prompt, stable_length=190)
    saved = held(models)._savepoint
    layers = held(models).cache.layers
    full = {index for index, layer in enumerate(layers) if type(layer) is DynamicLayer}
    assert saved.length == 190
    assert set(saved._layers) == set(range(len(layers))) - full
    for layer in saved._layers.values():
        for tensor in _tensors(vars(layer)):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
            assert max(tensor.shape, default=0) < 100  # windows and states, not the prompt
