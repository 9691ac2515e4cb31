"""A tiny random model of every target family: all its layer types, several experts, short windows.

Shapes are the smallest that keep what makes a family special: grouped heads, more value than key
heads in GatedDeltaNet, KV-shared layers, dense and sparse layers, an indexer that must choose.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    DeepseekV3Config,
    DeepseekV4Config,
    Gemma4Config,
    Gemma4TextConfig,
    Gemma4UnifiedConfig,
    Gemma4UnifiedTextConfig,
    GlmMoeDsaConfig,
    GptOssConfig,
    Kimi_K25Config,
    Lfm2Config,
    LlamaConfig,
    MiniMaxM2Config,
    MuseGlimmerConfig,
    PreTrainedModel,
    Qwen3_5Config,
    Qwen3_5MoeConfig,
    Qwen3_5MoeTextConfig,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3NextConfig,
)

VOCAB_SIZE = 96
HIDDEN_SIZE = 32
WINDOW = 12
"""Of every sliding layer; prompts of the tests are shorter and longer."""

_NUM_EXPERTS = 4

_BASE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
_MOE: dict[str, Any] = {
    "num_experts": _NUM_EXPERTS,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
_GDN: dict[str, Any] = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
}
_MLA: dict[str, Any] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_routed_experts": _NUM_EXPERTS,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
_GEMMA: dict[str, Any] = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "global_head_dim": 16,
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": VOCAB_SIZE,
    "final_logit_softcapping": 30.0,
    "tie_word_embeddings": True,
}
_SHARED_KV: dict[str, Any] = {
    **_GEMMA,
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 8,
}
_UNIFIED = {key: value for key, value in _GEMMA.items() if not key.endswith("_per_layer_input")} | {
    "use_bidirectional_attention": "vision"
}
_VISION: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16}


def _shape(**changes: Any) -> dict[str, Any]:
    return {**_BASE, **changes}


def _qwen_vision() -> dict[str, Any]:
    return {**_VISION, "depth": 1, "num_heads": 2, "out_hidden_size": HIDDEN_SIZE}


def _gemma4_wrapper() -> Gemma4Config:
    vision = {**_VISION, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    vision |= {"num_key_value_heads": 2, "position_embedding_size": 16}
    text = _shape(**{**_SHARED_KV, "pad_token_id": 0})
    return Gemma4Config(text_config=text, vision_config=vision, audio_config=None)


def _gemma4_unified() -> Gemma4UnifiedConfig:
    vision = {"patch_size": 4, "mm_embed_dim": 16, "mm_posemb_size": 16, "output_proj_dims": 16}
    text = _shape(**{**_UNIFIED, "pad_token_id": 0})
    return Gemma4UnifiedConfig(text_config=text, vision_config=vision, audio_config=None)


def _kimi_k25() -> Kimi_K25Config:
    text = {**_shape(**_MLA), "model_type": "deepseek_v3"}
    vision = {**_VISION, "num_hidden_layers": 1, "num_attention_heads": 2}
    return Kimi_K25Config(
        text_config=text,
        vision_config=vision,
        projection_hidden_size=16,
        tie_word_embeddings=False,
    )


def _muse_glimmer() -> MuseGlimmerConfig:
    vision = {**_VISION, "num_hidden_layers": 1, "num_attention_heads": 2}
    return MuseGlimmerConfig(
        text_config=_shape(sliding_window=WINDOW),
        vision_config=vision,
        out_hidden_size=64,
        projector_hidden_size=16,
    )


def _lfm2() -> Lfm2Config:
    shape = _shape(layer_types=["conv", "conv", "full_attention", "conv"])
    del shape["head_dim"]
    return Lfm2Config(**shape)


def _deepseek_v4() -> DeepseekV4Config:
    shape = _shape(
        moe_intermediate_size=24,
        num_key_value_heads=1,
        head_dim=16,
        q_lora_rank=16,
        n_routed_experts=_NUM_EXPERTS,
        num_experts_per_tok=2,
        layer_types=[
            "sliding_attention",
            "heavily_compressed_attention",
            "compressed_sparse_attention",
            "compressed_sparse_attention",
        ],
        compress_rates={"compressed_sparse_attention": 3, "heavily_compressed_attention": 5},
        mlp_layer_types=["hash_moe", "moe", "moe", "moe"],
        hc_mult=2,
        hc_sinkhorn_iters=3,
        sliding_window=WINDOW,
        o_groups=2,
        o_lora_rank=8,
        index_n_heads=16,
        index_head_dim=16,
        index_topk=3,
        partial_rotary_factor=0.5,
    )
    del shape["intermediate_size"]
    return DeepseekV4Config(**shape)


CONFIGS: dict[str, Callable[[], Any]] = {
    "qwen3": lambda: Qwen3Config(**_shape()),
    "qwen3 sliding": lambda: Qwen3Config(
        **_shape(
            use_sliding_window=True,
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention"] * 2,
        )
    ),
    "llama": lambda: LlamaConfig(**_shape()),
    "qwen3_moe": lambda: Qwen3MoeConfig(**_shape(**_MOE, mlp_only_layers=[0])),
    "gpt_oss": lambda: GptOssConfig(
        **_shape(
            sliding_window=WINDOW,
            num_local_experts=_NUM_EXPERTS,
            num_experts_per_tok=2,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 150_000.0,
                "factor": 8.0,
                "original_max_position_embeddings": 64,
                "truncate": False,
            },
        )
    ),
    "gemma4_text": lambda: Gemma4TextConfig(**_shape(**_GEMMA, attention_k_eq_v=True)),
    "gemma4_text moe": lambda: Gemma4TextConfig(
        **_shape(
            **_GEMMA,
            enable_moe_block=True,
            num_experts=_NUM_EXPERTS,
            top_k_experts=2,
            moe_intermediate_size=24,
        )
    ),
    "gemma4_text shared": lambda: Gemma4TextConfig(**_shape(**_SHARED_KV)),
    "gemma4": _gemma4_wrapper,
    "gemma4_unified_text": lambda: Gemma4UnifiedTextConfig(**_shape(**_UNIFIED)),
    "gemma4_unified": _gemma4_unified,
    "deepseek_v3": lambda: DeepseekV3Config(**_shape(**_MLA)),
    "kimi_k25": _kimi_k25,
    "minimax_m2": lambda: MiniMaxM2Config(
        **_shape(num_local_experts=_NUM_EXPERTS, num_experts_per_tok=2, rotary_dim=4)
    ),
    "glm_moe_dsa": lambda: GlmMoeDsaConfig(
        **_shape(
            **{**_MLA, "n_group": 1},
            index_topk=8,
            index_head_dim=16,
            index_n_heads=16,
            indexer_types=["full", "shared", "full", "shared"],
        )
    ),
    "muse_glimmer": _muse_glimmer,
    "qwen3_next": lambda: Qwen3NextConfig(
        **_shape(**_GDN, **_MOE, shared_expert_intermediate_size=24, mlp_only_layers=[1])
    ),
    "qwen3_5_text": lambda: Qwen3_5TextConfig(**_shape(**_GDN)),
    "qwen3_5": lambda: Qwen3_5Config(
        text_config=_shape(**_GDN), vision_config=_qwen_vision(), tie_word_embeddings=False
    ),
    "qwen3_5_moe_text": lambda: Qwen3_5MoeTextConfig(
        **_shape(**_GDN, **_MOE, shared_expert_intermediate_size=24)
    ),
    "qwen3_5_moe": lambda: Qwen3_5MoeConfig(
        text_config=_shape(**_GDN, **_MOE, shared_expert_intermediate_size=24),
        vision_config=_qwen_vision(),
        tie_word_embeddings=False,
    ),
    "deepseek_v4": _deepseek_v4,
}
"""By name: the `model_type`, and after a space what makes this variant of it."""

UNLISTED = "lfm2"
"""A family that `ROLLBACK_KINDS` does not have, with a recurrent state: snapshots are for such."""

_IMAGE_TEXT = ("kimi_k25", "muse_glimmer")


def _choose_every_expert(text: Any) -> None:
    for key in ("num_experts_per_tok", "top_k_experts"):
        if hasattr(text, key):
            setattr(text, key, _NUM_EXPERTS)
    if hasattr(text, "n_group"):
        text.topk_group = text.n_group


def build_model(
    name: str, *, whole: bool = False, every_expert: bool = False, **changes: Any
) -> PreTrainedModel:
    """A random model in eval mode, the same at every call.

    Args:
        name: a key of `CONFIGS`, or `UNLISTED`.
        whole: a wrapper with its vision tower, as its checkpoint is published, also where the text
            model alone could be made.
        every_expert: send each token through all experts. A choice between two of them that
            rounding decides moves logits by whole units: in low precision it would hide the rest.
        changes: to the config, at its top.
    """
    config = _lfm2() if name == UNLISTED else CONFIGS[name]()
    config = type(config).from_dict({**config.to_dict(), **changes})
    if every_expert:
        _choose_every_expert(config.get_text_config(decoder=True))
    image_text = config.model_type in _IMAGE_TEXT or (whole and hasattr(config, "vision_config"))
    auto: Any = AutoModelForImageTextToText if image_text else AutoModelForCausalLM
    torch.manual_seed(1)
    model: Any = auto.from_config(config)
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            # Wide enough that greedy text does not fall into one repeated token; and a tied
            # embedding so small that a token does not predict itself.
            if parameter.dim() > 1:
                tied = parameter is embedding and parameter is head
                torch.nn.init.normal_(parameter, std=0.02 if tied else 0.3)
            elif path.endswith("A_log"):
                parameter.uniform_(-6.0, -1.0)  # a state that remembers
            elif path.endswith("sinks"):
                torch.nn.init.normal_(parameter)
        for path, buffer in model.named_buffers():
            if path.endswith("tid2eid"):
                buffer.random_(0, _NUM_EXPERTS)
    frozen: PreTrainedModel = model.eval().requires_grad_(False)
    return frozen
