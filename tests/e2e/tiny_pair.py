"""A tiny random pair on disk whose every word is hostile: whatever it says must be inert."""

from pathlib import Path

TITLE = "Tiny hostile pair"

HOSTILE_WORDS = (
    "<b>bold</b>", "<img/src=x/onerror=window.pwned=1>", "<script>window.pwned=2</script>",
    "${window.pwned=3}", "{{value}}", "`${window.pwned=4}`", "</div></span>",
    "<svg/onload=window.pwned=5>", "<|im_end|>", "&lt;i&gt;", "**strong**", "word",
)  # fmt: skip

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.content }}<|im_stop|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)

ROW = """
pairs:
  - name: tiny
    title: {title}
    family: qwen3
    target: {{path: "{folder}/target"}}
    drafter: {{path: "{folder}/drafter"}}
    block_size: 8
    backends: [torch]
"""


def write_tiny_pair(folder: Path, registry: Path) -> None:
    """Make the pair in `folder` and name it in the user's registry file."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    from dflash_app.backends.torch.checkpoint import save_drafter
    from dflash_app.backends.torch.dflash import DFlashConfig, DFlashDrafter

    words = ["<unk>", "<|im_start|>", "<|im_stop|>", "<mask>", *HOSTILE_WORDS]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<|im_stop|>",
        additional_special_tokens=["<|im_start|>", "<mask>"], chat_template=TEMPLATE,
    )  # fmt: skip
    wrapped.save_pretrained(folder / "target")
    shape = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    }  # fmt: skip
    torch.manual_seed(1)
    config = Qwen3Config(
        **shape, num_hidden_layers=4, max_position_embeddings=32_768, eos_token_id=2,
        bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    target = Qwen3ForCausalLM(config)
    for parameter in target.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():  # the special tokens are never the likeliest: it talks to the limit
        target.lm_head.weight[:4] = 0
    target.save_pretrained(folder / "target")
    raw = shape | {
        "num_hidden_layers": 1, "rope_theta": 10_000.0, "num_target_layers": 4,
        "dflash_config": {"block_size": 8, "mask_token_id": 3, "target_layer_ids": [0, 2, 3]},
    }  # fmt: skip
    save_drafter(DFlashDrafter(DFlashConfig.from_dict(raw)), folder / "drafter")
    registry.write_text(ROW.format(title=TITLE, folder=folder))
