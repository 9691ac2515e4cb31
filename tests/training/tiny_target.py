"""A tiny random Qwen3 with a word tokenizer on disk: enough to answer, tap and train."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

WORDS = ("<pad>", "<eos>", "<user>", "<mask>", *(f"w{i}" for i in range(28)))
TEMPLATE = "{% for m in messages %}<user> {{ m.content }} {% endfor %}"


def write_target(folder: Path, std: float = 0.35) -> Path:
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<mask>"],
        chat_template=TEMPLATE,
    )
    wrapped.save_pretrained(folder)
    torch.manual_seed(5)
    config = Qwen3Config(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        eos_token_id=1,
        bos_token_id=None,
        pad_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=std)
    model.save_pretrained(folder)
    return folder
