"""Caches that go back: what is left equals a cache that never saw the rejected tokens."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, Lfm2Config, Lfm2ForCausalLM
from transformers.models.qwen3_next.modeling_qwen3_next import (
    torch_chunk_gated_delta_rule,
    torch_recurrent_gated_delta_rule,
)

from dflash_app.backends.torch.gated_delta import Updates, replay
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.selftest.oracle import OracleLane
from dflash_app.backends.torch.selftest.tiny_families import VOCAB_SIZE, WINDOW, build_model
from dflash_app.backends.torch.target import TorchTarget, load_target
from dflash_app.errors import UnsupportedFormat
from dflash_app.request import SamplingParams

GREEDY = SamplingParams()
PROMPT = [5, 17, 3, 42, 8, 11, 29, 61, 7, 90, 33, 2, 58, 24, 71, 13, 49]
BLOCK = [40, 9, 77, 15, 66, 31, 84, 20]
ONE_OF_EACH_KIND = ["gpt_oss", "gemma4_text shared", "glm_moe_dsa", "qwen3_next", "deepseek_v4"]
"""Sliding and full layers, shared ones, indexed ones, recurrent ones, compressed ones."""


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor that a cache layer holds to go on from, and the numbers as tensors."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, bool | int):
        yield path, torch.tensor(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _tensors(inner, f"{path}.{key}")


def _contents(cache: Any) -> dict[str, Tensor]:
    # Attributes with an underscore are what a layer holds to go back: nothing to compare.
    return dict(
        entry
        for index, layer in enumerate(cache.layers)
        for name, value in vars(layer).items()
        if not name.startswith("_")
        for entry in _tensors(value, f"{index}.{name}")
    )


def _read(target: TorchTarget, cache: Any, token_ids: list[int]) -> Tensor:
    with torch.inference_mode():
        return target.forward(torch.tensor(token_ids), cache, 1)[0][0]


def _block_then_crop(target: TorchTarget, kept: int) -> Any:
    cache = target.new_cache()
    _read(target, cache, PROMPT)
    cache.crop(0)
    _read(target, cache, BLOCK)
    with torch.inference_mode():
        cache.crop(kept - len(BLOCK))
    return cache


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_a_cropped_cache_holds_what_a_fresh_one_holds(name: str, snapshot: bool) -> None:
    target = TorchTarget(build_model(name), snapshot=snapshot)
    for kept in range(1, len(BLOCK) + 1):
        cropped, fresh = _block_then_crop(target, kept), target.new_cache()
        _read(target, fresh, PROMPT)
        fresh.crop(0)
        _read(target, fresh, BLOCK[:kept])
        fresh.crop(0)
        found, expected = _contents(cropped), _contents(fresh)
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            assert torch.allclose(found[key].float(), tensor.float(), atol=1e-5), (kept, key)
        after = _read(target, cropped, [3]), _read(target, fresh, [3])
        assert torch.allclose(*after, atol=1e-4), kept


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_the_snapshot_fallback_is_lossless_for_every_kind_of_layer(
    name: str, run_lane: Callable[..., Any]
) -> None:
    target = TorchTarget(build_model(name), snapshot=True)
    assert target.rollback_kind == "snapshot"
    truth = run_lane(TorchLane(target, None, GREEDY), PROMPT, 50, num_draft=0).token_ids
    lane = OracleLane(target, PROMPT, truth, [4, 0, 7, 2, 6, 1, 5, 3])
    assert run_lane(lane, PROMPT, 37, num_draft=7).token_ids == truth[:37]


def _rounding_noise(target: TorchTarget, token_ids: list[int]) -> float:
    """How far the logits of one text differ between one forward and one of its blocks."""
    ids, cache = torch.tensor(token_ids), target.new_cache()
    with torch.inference_mode():
        whole, _ = target.forward(ids, None, len(ids))
        blocks = [target.forward(block, cache, len(block))[0] for block in ids.split(8)]
    return float((whole - torch.cat(blocks)).abs().max())


@pytest.mark.parametrize("name", ["qwen3", *ONE_OF_EACH_KIND])
def test_bfloat16_differs_only_where_the_targets_margin_is_rounding_noise(
    name: str, run_lane: Callable[..., Any]
) -> None:
    target = TorchTarget(build_model(name).to(torch.bfloat16))
    truth = run_lane(TorchLane(target, None, GREEDY), PROMPT, 60, num_draft=0).token_ids
    lane = OracleLane(target, PROMPT, truth, [4, 0, 7, 2, 6, 1, 5, 3, 7, 0])
    dflash = run_lane(lane, PROMPT, 46, num_draft=7).token_ids
    first = next((index for index in range(46) if dflash[index] != truth[index]), None)
    if first is None:
        return
    text = [*PROMPT, *truth[:first]]
    logits = _read(target, None, text).float()
    margin = abs(float(logits[truth[first]] - logits[dflash[first]]))
    assert margin <= 2 * _rounding_noise(target, text)


def test_transformers_own_crop_is_wrong_for_recurrent_layers() -> None:
    """Or replay would be needless: this fails once transformers does it."""
    target = TorchTarget(build_model("qwen3_next"))
    plain: Any = DynamicCache(config=target.config)
    plain.activate_past_recording()
    _read(target, plain, PROMPT)
    _read(target, plain, BLOCK)
    plain.crop(3 - len(BLOCK))
    right = _block_then_crop(target, 3)
    assert not torch.allclose(plain.layers[0].recurrent_states[0], _state(right), atol=1e-2)


def _state(cache: Any) -> Tensor:
    state: Tensor = cache.layers[0].recurrent_states[0]
    return state


@pytest.mark.parametrize("kernel", [torch_chunk_gated_delta_rule, torch_recurrent_gated_delta_rule])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("with_before", [True, False])
def test_replay_ends_in_the_kernels_own_state(
    kernel: Callable[..., Any], normalize: bool, with_before: bool
) -> None:
    generator = torch.Generator().manual_seed(3)
    queries, keys = torch.randn(2, 1, 16, 2, 8, generator=generator).unbind()
    values = torch.randn(1, 16, 4, 6, generator=generator)
    log_decays = -torch.rand(1, 16, 4, generator=generator)
    betas = torch.rand(1, 16, 4, generator=generator)
    before = torch.randn(1, 4, 8, 6, generator=generator) if with_before else None
    keys = keys if normalize else keys / 4
    updates = Updates(keys, values, log_decays, betas, normalize)
    for kept in (1, 2, 7, 16):
        _, expected = kernel(
            queries[:, :kept],
            keys[:, :kept],
            values[:, :kept],
            g=log_decays[:, :kept],
            beta=betas[:, :kept],
            initial_state=before,
            output_final_state=True,
            use_qk_l2norm_in_kernel=normalize,
        )
        assert torch.allclose(replay(before, updates, kept), expected, atol=1e-5), kept


def test_replay_runs_no_forward_of_the_model() -> None:
    target = TorchTarget(build_model("qwen3_next"))
    calls: list[int] = []
    target.model.register_forward_hook(lambda *_: calls.append(1))
    _block_then_crop(target, 3)
    assert len(calls) == 2  # prompt and block


@pytest.mark.parametrize(
    ("name", "snapshot"), [("qwen3_next", False), ("deepseek_v4", False), ("qwen3", True)]
)
def test_going_back_further_than_the_last_forward_is_refused(name: str, snapshot: bool) -> None:
    target = TorchTarget(build_model(name), snapshot=snapshot)
    with pytest.raises(ValueError, match="within"):
        _block_then_crop(target, -1)
    settled = _block_then_crop(target, len(BLOCK))
    with pytest.raises(ValueError, match="within"):
        settled.crop(-1)


def test_a_read_prompt_leaves_nothing_that_only_going_back_needs() -> None:
    sliding = TorchLane(TorchTarget(build_model("gpt_oss")), None, GREEDY)
    recurrent = TorchLane(TorchTarget(build_model("qwen3_5_text")), None, GREEDY)
    for lane in (sliding, recurrent):
        for start in range(0, 400, 100):
            lane.extend([(start + index) % VOCAB_SIZE for index in range(100)])
    assert sliding._prefix.cache.layers[0].keys.shape[2] == WINDOW - 1
    layer = recurrent._prefix.cache.layers[0]
    assert layer.conv_states[0].shape[-1] == 4
    assert layer._updates is None
    assert layer._before is None
    assert not hasattr(layer.recurrent_states[0], "updates")


def test_an_unknown_family_loads_only_where_the_fallback_is_chosen(
    tmp_path: Path, run_lane: Callable[..., Any]
) -> None:
    config = Lfm2Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        layer_types=["conv", "conv", "full_attention", "conv"],
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    torch.manual_seed(1)
    Lfm2ForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedFormat, match="'lfm2'"):
        load_target(tmp_path, torch.device("cpu"), torch.float32)
    target = load_target(tmp_path, torch.device("cpu"), torch.float32, snapshot=True)
    truth = run_lane(TorchLane(target, None, GREEDY), PROMPT, 40, num_draft=0).token_ids
    lane = OracleLane(target, PROMPT, truth, [4, 0, 7, 2, 6, 1])
    assert run_lane(lane, PROMPT, 25, num_draft=7).token_ids == truth[:25]
