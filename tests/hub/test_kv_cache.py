"""What published configs make of a token, by numbers that anybody can check by hand.

That tiny models of every family really hold it is proven in `tests/backends/torch/test_memory.py`.
"""

from typing import Any

import pytest

from dflash_app.errors import LoadError
from dflash_app.hub.kv_cache import LayerCache, cache_shape
from dflash_app.hub.model_config import COMPRESSED, FULL, LINEAR, SLIDING, SPARSE, layer_types
from dflash_app.hub.model_config import text_config as text_of

QWEN3_8B = {
    "model_type": "qwen3",
    "num_hidden_layers": 36,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
LLAMA_8B = {**QWEN3_8B, "model_type": "llama", "num_hidden_layers": 32, "head_dim": None}
GPT_OSS_20B = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 24,
    "hidden_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "sliding_window": 128,
}
QWEN3_NEXT = {
    "model_type": "qwen3_next",
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 61,
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
}
GEMMA = {
    "model_type": "gemma4_text",
    "num_hidden_layers": 12,
    "hidden_size": 2048,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 512,
    "global_head_dim": 512,
    "num_global_key_value_heads": 2,
}
DEEPSEEK_V4 = {
    "model_type": "deepseek_v4",
    "num_hidden_layers": 4,
    "hidden_size": 4096,
    "num_attention_heads": 64,
}


@pytest.mark.parametrize(
    ("config", "token_bytes"),
    [
        (QWEN3_8B, 36 * 2 * 8 * 128 * 2),
        (LLAMA_8B, 32 * 2 * 8 * 128 * 2),
        (GPT_OSS_20B, 12 * 2 * 8 * 64 * 2),
        (QWEN3_NEXT, 12 * 2 * 2 * 256 * 2),
        (DEEPSEEK_V3, 61 * (512 + 64) * 2),
        (GEMMA, 2 * 2 * 2 * 512 * 2),
    ],
    ids=lambda each: each.get("model_type") if isinstance(each, dict) else "",
)
def test_a_further_token_costs_what_the_config_says(config: Any, token_bytes: int) -> None:
    shape = cache_shape(config)
    assert shape.token_size * 2 == token_bytes
    assert shape.num_bytes(100_001, 2) - shape.num_bytes(100_000, 2) == token_bytes


def test_a_sliding_layer_is_bounded() -> None:
    shape = cache_shape(GPT_OSS_20B)
    sliding = 12 * 2 * 8 * 64 * 2
    full = shape.token_size * 2
    assert shape.num_bytes(50, 2) == 50 * (sliding + full)
    assert shape.num_bytes(10_000, 2, 16) == 10_000 * full + (127 + 16) * sliding


def test_a_recurrent_layer_holds_the_same_at_every_length() -> None:
    layer = cache_shape(QWEN3_NEXT).layers[0]
    state_bytes = 32 * 128 * 128 * 4
    channels = 2 * 16 * 128 + 32 * 128
    assert layer.num_bytes(10, 2) == layer.num_bytes(100_000, 2) == state_bytes + channels * 5 * 2
    assert layer.num_bytes(0, 2) == 0


def test_layers_that_read_anothers_keys_hold_nothing() -> None:
    shared = {**GEMMA, "num_kv_shared_layers": 6}
    assert cache_shape(shared).layers[6:] == (LayerCache(),) * 6
    assert cache_shape(shared).layers[:6] == cache_shape(GEMMA).layers[:6]


def test_a_compressed_layer_adds_an_entry_for_each_full_window() -> None:
    heavy = cache_shape(DEEPSEEK_V4).layers[0]
    assert heavy.num_bytes(12_800, 2) - heavy.num_bytes(1280, 2) == 90 * 512 * 2
    sparse = cache_shape(DEEPSEEK_V4).layers[3]
    assert sparse.num_bytes(4000, 2) - sparse.num_bytes(400, 2) == 900 * (512 + 128) * 2


def test_a_wrapper_is_read_through_its_text_model() -> None:
    wrapper = {"model_type": "kimi_k25", "text_config": DEEPSEEK_V3, "vision_config": {}}
    assert cache_shape(wrapper) == cache_shape(DEEPSEEK_V3)


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        ({**GPT_OSS_20B, "num_hidden_layers": 4}, [SLIDING, FULL] * 2),
        ({**QWEN3_NEXT, "num_hidden_layers": 4}, [LINEAR, LINEAR, LINEAR, FULL]),
        ({**GEMMA, "num_hidden_layers": 7}, [SLIDING] * 5 + [FULL, FULL]),
        ({**DEEPSEEK_V4}, [COMPRESSED, COMPRESSED, COMPRESSED, SPARSE]),
        ({**DEEPSEEK_V4, "compress_ratios": [0, 128, 4, 4]}, [SLIDING, COMPRESSED, SPARSE, SPARSE]),
        ({**QWEN3_8B, "num_hidden_layers": 2, "layer_types": [FULL, SLIDING]}, [FULL, SLIDING]),
        (
            {
                **QWEN3_8B,
                "num_hidden_layers": 3,
                "use_sliding_window": True,
                "sliding_window": 9,
                "max_window_layers": 1,
            },
            [FULL, SLIDING, SLIDING],
        ),
        (
            {**QWEN3_8B, "model_type": "muse_glimmer", "num_hidden_layers": 5},
            [FULL, *[SLIDING] * 3, FULL],
        ),
    ],
)
def test_layers_that_a_config_does_not_list_are_the_familys(config: Any, kinds: list[str]) -> None:
    assert layer_types(text_of(config)) == kinds


@pytest.mark.parametrize("name", ["num_hidden_layers", "hidden_size", "num_attention_heads"])
def test_a_config_without_a_shape_is_refused_by_the_key(name: str) -> None:
    with pytest.raises(LoadError, match=f"no whole number '{name}'"):
        cache_shape({key: value for key, value in QWEN3_8B.items() if key != name})
