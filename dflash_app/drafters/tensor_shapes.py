"""The tensors that a drafter's config asks for, named as z-lab names them."""

from dflash_app.drafters.config import DFlashConfig, SelectorConfig

EMBEDDING, HEAD, TOKEN_OFFSETS = "embed_tokens.weight", "lm_head.weight", "d2t"

Shapes = dict[str, tuple[int, ...]]
"""By the tensors' names."""


def tensor_shapes(config: DFlashConfig) -> Shapes:
    """The names and shapes of a drafter's tensors.

    Raises:
        LoadError: a part needs the vocabulary and the config does not say it.
    """
    size, num_taps = config.hidden_size, len(config.target_layer_ids)
    shapes: Shapes = {
        "fc.weight": (size, num_taps * size),
        "hidden_norm.weight": (size,),
        "norm.weight": (size,),
    }
    for index in range(config.num_hidden_layers):
        shapes |= {f"layers.{index}.{name}": shape for name, shape in _layer(config).items()}
    if config.own_embedding:
        shapes[EMBEDDING] = (config.known_vocab_size, size)
    if config.own_head:
        shapes[HEAD] = (config.draft_vocab_size or config.known_vocab_size, size)
    if config.draft_vocab_size is not None:
        shapes[TOKEN_OFFSETS] = (config.draft_vocab_size,)
    if config.selector is not None:
        rank = config.selector.rank
        shapes["candidate_selector.predecessor_codebook"] = (config.known_vocab_size, rank)
        shapes["candidate_selector.successor_codebook"] = (config.known_vocab_size, rank)
        shapes["candidate_selector.hidden_projection.weight"] = (rank, size)
    return shapes


def _layer(config: DFlashConfig) -> Shapes:
    size, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    outputs = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": size}
    shapes: Shapes = {
        "input_layernorm.weight": (size,),
        "post_attention_layernorm.weight": (size,),
        "self_attn.q_norm.weight": (config.head_dim,),
        "self_attn.k_norm.weight": (config.head_dim,),
        "mlp.gate_proj.weight": (inner, size),
        "mlp.up_proj.weight": (inner, size),
        "mlp.down_proj.weight": (size, inner),
    }
    for name, width in outputs.items():
        shapes[f"self_attn.{name}.weight"] = (width, queries if name == "o_proj" else size)
        if config.attention_bias:
            shapes[f"self_attn.{name}.bias"] = (width,)
    if config.selector is not None:
        for name in ("attention_conv", "mlp_conv"):
            convolution = _convolution(config.selector, size)
            shapes |= {f"{name}.{part}": shape for part, shape in convolution.items()}
    return shapes


def _convolution(selector: SelectorConfig, size: int) -> Shapes:
    taps, num_groups = selector.conv_kernel_size, size // selector.conv_group_size
    return {
        "base_kernel": (2, taps, size),
        "kernel_projection.weight": (2 * taps * num_groups, size),
    }
