"""Every family: the same numbers as transformers, and DFlash as lossless as mlx-lm is greedy."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.generate import generate_step

from dflash_app.backends.mlx.families import ROLLBACK_KINDS
from dflash_app.backends.mlx.lane import MlxLane
from dflash_app.backends.mlx.loading import load_target
from dflash_app.backends.mlx.target import MlxTarget
from dflash_app.backends.torch.selftest.decoding import Decoded, run_lane
from dflash_app.backends.torch.selftest.tiny_families import VOCAB_SIZE, WINDOW
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.errors import LoadError, UnsupportedFormat
from tests.backends.mlx.oracle import GREEDY, OracleLane
from tests.backends.mlx.tiny_models import PUBLISHED, write_target

BLOCK_SIZE = 16
TAPS = (0, 2, 3)
ROUNDS = 2
NUM_TOKENS = 1 + ROUNDS * sum(range(1, BLOCK_SIZE + 1)) + BLOCK_SIZE
PROMPT_LENGTHS = (WINDOW - 7, 3 * WINDOW + 4)
"""Shorter and longer than the sliding windows."""


def prompt_of(length: int) -> list[int]:
    return Random(length).choices(range(VOCAB_SIZE), k=length)


def generated(target: MlxTarget, prompt: Sequence[int], num_tokens: int) -> list[int]:
    """What mlx-lm's own generate says."""
    steps = generate_step(mx.array(prompt), target.model, max_tokens=num_tokens)
    return [int(token) for token, _ in steps]


def run(lane: MlxLane, prompt: Sequence[int], num_tokens: int, **options: int) -> Decoded:
    return run_lane(lane, prompt, num_tokens, **{"num_draft": BLOCK_SIZE - 1, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def load(target_folder: Callable[[str], Path]) -> Callable[[str], MlxTarget]:
    loaded: dict[str, MlxTarget] = {}

    def target(name: str) -> MlxTarget:
        if name not in loaded:
            loaded[name] = load_target(target_folder(name), mx.float32)
        return loaded[name]

    return target


def test_every_family_of_the_table_has_a_tiny_model() -> None:
    assert set(ROLLBACK_KINDS) == {name.split()[0] for name in PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_logits_and_tapped_states_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model = TorchTarget(write_target(name, tmp_path))
    target = load_target(tmp_path, mx.float32)
    ids = prompt_of(3 * WINDOW)
    with torch.inference_mode():
        expected, states = model.forward(torch.tensor(ids), model.new_cache(), len(ids), TAPS)
    found, tapped = target.forward(mx.array(ids), target.new_cache(), len(ids), TAPS)
    assert (target.hidden_size, target.num_layers) == (model.hidden_size, model.num_layers)
    assert target.context_length == model.context_length
    assert tapped is not None
    assert states is not None
    np.testing.assert_allclose(np.array(found), expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(np.array(tapped), states.numpy(), atol=5e-4, rtol=1e-4)
    # The head behind our slice of the body's output is the family's own.
    np.testing.assert_array_equal(np.array(target.model(mx.array(ids)[None])[0]), np.array(found))


@pytest.mark.parametrize("num_prompt", PROMPT_LENGTHS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_forced_accepted_length_gives_what_mlx_lm_generates(
    name: str, num_prompt: int, load: Callable[[str], MlxTarget]
) -> None:
    target, prompt = load(name), prompt_of(num_prompt)
    truth = generated(target, prompt, NUM_TOKENS)
    assert len(set(truth)) > 8, "a text of few tokens would hide a cache that forgot"
    assert run(MlxLane(target, None, GREEDY), prompt, NUM_TOKENS, num_draft=0).token_ids == truth
    accepted = list(range(BLOCK_SIZE)) * ROUNDS
    Random(num_prompt).shuffle(accepted)
    lane = OracleLane(target, prompt, truth, accepted, taps=TAPS)
    found = run(lane, prompt, NUM_TOKENS, prefill_chunk=7)
    assert found.token_ids == truth
    assert [step.num_accepted for step in found.steps][: len(accepted)] == accepted


@pytest.mark.parametrize("name", ["qwen3", "gpt_oss", "qwen3_5"])
def test_a_run_cut_at_every_place_of_a_block_ends_alike(
    name: str, load: Callable[[str], MlxTarget]
) -> None:
    target, prompt = load(name), prompt_of(20)
    truth = generated(target, prompt, 60)
    for offset in range(BLOCK_SIZE + 1):
        num_tokens = 1 + 5 + offset
        lane = OracleLane(target, prompt, truth, [4], taps=TAPS)
        assert run(lane, prompt, num_tokens).token_ids == truth[:num_tokens]
        # What was cut off is not in the cache: the lane reads on as if it had never been.
        lane.extend(truth[num_tokens - 1 : num_tokens + 3])
        fresh = MlxLane(target, None, GREEDY)
        fresh.extend([*prompt, *truth[: num_tokens + 3]])
        assert lane.length == fresh.length
        assert mx.allclose(lane._last_logits, fresh._last_logits, atol=1e-4)


@pytest.mark.parametrize("name", ["qwen3", "gpt_oss", "gemma4_text shared", "qwen3_5"])
@pytest.mark.parametrize("num_prompt", PROMPT_LENGTHS)
def test_single_tokens_between_rejected_blocks_see_nothing_of_them(
    name: str, num_prompt: int, load: Callable[[str], MlxTarget]
) -> None:
    target, prompt = load(name), prompt_of(num_prompt)
    truth = generated(target, prompt, 90)
    lane = OracleLane(target, prompt, truth, [0, 2, 9, 0, 0, 9, 0, 9, 9, 5] * 9, taps=TAPS)
    lane.extend(prompt)
    found = [lane.first_token()]
    for num_draft in [15, 3, 0, 15, 0, 0, 5, 0, 0, 15] * 3:
        verified = lane.verify(lane.propose(num_draft))
        found += verified.token_ids
        lane.rewind(len(prompt) + len(found) - 1)
    assert found == truth[: len(found)]
    assert len(found) > 40


def test_the_model_is_as_it_was_after_lanes_ran(load: Callable[[str], MlxTarget]) -> None:
    for name in ("qwen3", "qwen3_5"):
        target, prompt = load(name), prompt_of(9)
        body = target._text.model
        layers, mixers = list(body.layers), [layer.get("linear_attn") for layer in body.layers]
        run(OracleLane(target, prompt, [1] * 60, [0] * 9, taps=TAPS), prompt, 6)
        assert all(now is before for now, before in zip(body.layers, layers, strict=True))
        assert [layer.get("linear_attn") for layer in body.layers] == mixers


def test_a_family_that_mlx_lm_lacks_or_half_ignores_is_refused_with_the_cure(
    tmp_path: Path,
) -> None:
    from dflash_app.backends.torch.selftest.tiny_families import build_model

    for name in ("minimax_m2", "qwen3 sliding"):
        build_model(name).save_pretrained(tmp_path / name)
        with pytest.raises(UnsupportedFormat, match="use the torch backend"):
            load_target(tmp_path / name, mx.float32)


def test_a_checkpoint_that_mlx_lm_cannot_read_is_refused_with_its_reason(tmp_path: Path) -> None:
    from dflash_app.backends.torch.selftest.tiny_families import build_model

    build_model("qwen3_5_moe_text").save_pretrained(tmp_path)  # its experts one by one
    with pytest.raises(LoadError, match=r"not in model.*mlx-community.*torch backend"):
        load_target(tmp_path, mx.float32)
