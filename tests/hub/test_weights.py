"""Weights by their headers: what is dropped, unpacked, packed, and kept in float32."""

from dataclasses import dataclass
from typing import Any

import pytest

from dflash_app.hub.weights import (
    context_size,
    drafter_weights,
    target_weights,
    weight_bytes,
)

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "num_hidden_layers": 1,
    "hidden_size": 128,
    "num_attention_heads": 2,
}


@dataclass(frozen=True)
class Told:
    """A tensor as the hub's metadata tell it."""

    dtype: str
    shape: list[int]


TARGET = {
    "model.embed_tokens.weight": Told("BF16", [1000, 128]),
    "model.layers.0.self_attn.q_proj.weight": Told("BF16", [256, 128]),
    "model.layers.0.input_layernorm.weight": Told("BF16", [128]),
    "lm_head.weight": Told("BF16", [1000, 128]),
}
LINEAR, NORM, ROWS = 256 * 128, 128, 1000 * 128


def held(headers: Any, config: Any, dtype: str = "bfloat16", quantization: Any = None) -> int:
    return weight_bytes(target_weights(headers, config), dtype, quantization)


def test_precision_is_chosen_and_not_the_files() -> None:
    assert held(TARGET, CONFIG) == 2 * (2 * ROWS + LINEAR + NORM)
    assert held(TARGET, CONFIG, "float32") == 4 * (2 * ROWS + LINEAR + NORM)


def test_linear_layers_take_fewer_bits_and_a_scale_for_each_block_or_row() -> None:
    plain = 2 * (2 * ROWS + NORM)
    assert held(TARGET, CONFIG, quantization="nf4") == plain + LINEAR // 2 + LINEAR // 64 * 4 + 64
    assert held(TARGET, CONFIG, quantization="int8") == plain + LINEAR + 256 * 4


def test_mlx_takes_every_wide_matrix_in_groups() -> None:
    numbers = 2 * ROWS + LINEAR
    groups = numbers // 64 * 4
    assert held(TARGET, CONFIG, quantization="4bit") == numbers // 2 + groups + 2 * NORM
    assert held(TARGET, CONFIG, quantization="8bit") == numbers + groups + 2 * NORM


def test_a_tied_head_counts_once_also_where_only_the_wrapper_says_so() -> None:
    for config in (
        {**CONFIG, "tie_word_embeddings": True},
        {"text_config": CONFIG, "tie_word_embeddings": True},
    ):
        assert held(TARGET, config) == 2 * (ROWS + LINEAR + NORM)


def test_experts_and_routers_stay_whole_and_odd_sizes_too() -> None:
    extra = {
        "model.layers.0.mlp.experts.3.up_proj.weight": Told("BF16", [128, 128]),
        "model.layers.0.mlp.gate.weight": Told("BF16", [64, 128]),
        "model.layers.0.linear_attn.in_proj_b.weight": Told("BF16", [4, 128]),
    }
    more = held({**TARGET, **extra}, CONFIG, quantization="nf4") - held(
        TARGET, CONFIG, quantization="nf4"
    )
    assert more == 2 * (128 * 128 + 64 * 128 + 4 * 128)


@pytest.mark.parametrize(
    "name",
    [
        "mtp.fc.weight",
        "model.mtp.layers.0.mlp.up_proj.weight",
        "model.layers.1.self_attn.q_proj.weight",
        "model.visual.blocks.0.mlp.fc1.weight",
        "vision_tower.encoder.layers.0.mlp.fc1.weight",
        "model.rotary_emb.inv_freq",
    ],
)
def test_what_the_loader_drops_is_not_counted(name: str) -> None:
    assert held({**TARGET, name: Told("BF16", [640, 128])}, CONFIG) == held(TARGET, CONFIG)


def test_of_a_wrapper_only_the_language_model_and_the_head_count() -> None:
    inner = {
        name.replace("model.", "model.language_model.") if name.startswith("model.") else name: told
        for name, told in TARGET.items()
    }
    wrapper = {**inner, "model.vision_adapter.fc1.weight": Told("BF16", [640, 128])}
    assert held(wrapper, {"model_type": "muse_glimmer", "text_config": CONFIG}) == held(
        TARGET, CONFIG
    )


def test_some_families_keep_parts_in_float32() -> None:
    config = {**CONFIG, "model_type": "deepseek_v3"}
    bias = {"model.layers.0.mlp.gate.e_score_correction_bias": Told("F32", [64])}
    assert held({**TARGET, **bias}, config) - held(TARGET, config) == 64 * 4


def test_whole_numbers_stay_what_they_are() -> None:
    table = {"model.layers.0.ffn.gate.tid2eid": Told("I64", [1000, 6])}
    assert held({**TARGET, **table}, CONFIG) - held(TARGET, CONFIG) == 6000 * 8


def packed(method: str, name: str, told: Told, **said: Any) -> int:
    """Bytes of one packed tensor, and its scales, beside the rest."""
    config = {**CONFIG, "quantization_config": {"quant_method": method, **said}}
    scales = {
        "model.layers.0.mlp.up_proj.weight_scale_inv": Told("F32", [2, 2]),
        "model.layers.0.mlp.up_proj.weight_shape": Told("I64", [2]),
        "model.layers.0.mlp.experts.gate_up_proj_scales": Told("U8", [4, 256, 4]),
    }
    return held({**TARGET, name: told, **scales}, config) - held(TARGET, config)


def test_packed_checkpoints_count_as_what_they_are_unpacked_to() -> None:
    up = "model.layers.0.mlp.up_proj.weight"
    assert packed("fp8", up, Told("F8_E4M3", [256, 128])) == LINEAR * 2
    assert packed("fp8", up, Told("I8", [256, 64])) == LINEAR * 2  # experts in 4 bits
    four_bits = {"config_groups": {"group_0": {"weights": {"num_bits": 4}}}}
    assert (
        packed("compressed-tensors", f"{up}_packed", Told("I32", [256, 16]), **four_bits)
        == LINEAR * 2
    )
    blocks = Told("U8", [4, 256, 4, 16])
    experts = "model.layers.0.mlp.experts.gate_up_proj_blocks"
    assert packed("mxfp4", experts, blocks) == 4 * LINEAR * 2


def test_a_checkpoint_that_stays_packed_counts_its_files() -> None:
    config = {**CONFIG, "quantization_config": {"quant_method": "bitsandbytes"}}
    stored = {
        **TARGET,
        "model.layers.0.mlp.up_proj.weight": Told("U8", [LINEAR // 2, 1]),
        "model.layers.0.mlp.up_proj.weight.absmax": Told("F32", [LINEAR // 64]),
    }
    more = held(stored, config, "float32") - held(TARGET, config, "float32")
    assert more == LINEAR // 2 + LINEAR // 64 * 4


def test_a_drafters_context_is_the_rows_of_its_keys_and_values() -> None:
    drafter = {
        "fc.weight": Told("BF16", [128, 384]),
        "layers.0.self_attn.k_proj.weight": Told("BF16", [64, 128]),
        "layers.0.self_attn.v_proj.weight": Told("BF16", [64, 128]),
        "layers.0.self_attn.rotary_emb.inv_freq": Told("F32", [32]),
    }
    weights = drafter_weights(drafter)
    assert context_size(weights) == 128
    assert weight_bytes(weights, "bfloat16") == 2 * (128 * 384 + 2 * 64 * 128)
