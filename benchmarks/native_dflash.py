"""A z-lab drafter as the assistant of transformers' own DFlash.

`generate(..., assistant_model=, speculation_type="dflash")` takes any model that answers like
`MuseGlimmerAssistantModel`, the only drafter that transformers 5.23 ships. Its layers are z-lab's
under other names, so the weights are handed over as they are.
"""

from typing import Any

import torch
from transformers import MuseGlimmerAssistantConfig, MuseGlimmerAssistantModel

from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.drafters.formats.muse_assistant import MUSE_ASSISTANT

NEEDLESS_WINDOW = 1 << 30
"""Where no layer slides; transformers' config wants a number."""
STATEFUL = "transformers refuses assisted decoding with recurrent layers"


def why_not_native(model: Any, drafter: DFlashDrafter) -> str | None:
    """Why transformers' own DFlash cannot run the pair, or None where it can.

    Args:
        model: the target, from transformers.
        drafter: ours.
    """
    config = drafter.config
    if model._is_stateful:
        return STATEFUL
    if config.selector is not None or config.drafts_from_anchor:
        return "transformers knows no such drafter"
    if any(rule.causal for rule in config.attention_rules) or config.attention_bias:
        return "transformers' layers attend in both directions and have no bias"
    if (config.input_embedding_scale, config.output_multiplier) != (1.0, 1.0):
        return "transformers scales neither embedding nor logits"
    return None


def as_assistant(drafter: DFlashDrafter) -> Any:
    """The drafter's weights, shared, in transformers' model.

    Args:
        drafter: one that `why_not_native` says nothing about.
    """
    shape = drafter.config
    windows = [rule.window for rule in shape.attention_rules if rule.window is not None]
    configs: Any = MuseGlimmerAssistantConfig
    config = configs(
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.head_dim,
        rms_norm_eps=shape.rms_norm_eps,
        rope_parameters=dict(shape.rope_parameters),
        max_position_embeddings=shape.max_position_embeddings,
        # There a key at the window's distance is still seen.
        sliding_window=windows[0] - 1 if windows else NEEDLESS_WINDOW,
        layer_types=[
            "full_attention" if rule.window is None else "sliding_attention"
            for rule in shape.attention_rules
        ],
        hidden_act=shape.hidden_act,
        block_size=shape.block_size,
        mask_token_id=shape.mask_token_id,
        target_layer_ids=list(shape.target_layer_ids),
        attn_implementation="sdpa",
    )
    weight = drafter.norm.weight
    model_class: Any = MuseGlimmerAssistantModel
    with torch.device("meta"):
        assistant = model_class(config)
    names = {ours: theirs for theirs, ours in MUSE_ASSISTANT.renamed.items()}
    state = {names.get(name, name): value for name, value in drafter.state_dict().items()}
    assistant.load_state_dict(state, assign=True)
    # Computed and not loaded, so still nowhere.
    assistant.rotary_emb = type(assistant.rotary_emb)(config).to(weight.device)
    return assistant.eval()
