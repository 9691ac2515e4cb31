"""Real tokenizers, made in a moment: byte-level BPE with a chat template, and byte fallback."""

from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content | trim }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}
{%- endif -%}
"""
"""Ends turns and switches thinking as Qwen3's template does."""

CORPUS = (
    "naïve 日本語のテキスト 👩‍👩‍👧 Straße жук\n\ufffd How many divisors does 196 have? system user "
    * 3
)


@cache
def byte_level() -> Tokenizer:
    """Merges cross the borders of characters, as they do in real vocabularies."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    tokenizer.add_tokens([AddedToken("</think>", normalized=False)])
    return tokenizer


def chat_tokenizer(template: str | None = CHATML) -> Any:
    """A transformers tokenizer over a copy of `byte_level`."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(byte_level().to_str()),
        eos_token="<|im_end|>",
        chat_template=template,
    )


_WORDS = ("\u2581", "\u2581hi", "\u2581world", "a", "b", "é")


@cache
def byte_fallback() -> Tokenizer:
    """As SentencePiece vocabularies are: bytes are tokens of their own, spaces are U+2581."""
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), *_WORDS]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


def fallback_ids(text: str) -> list[int]:
    """Characters without a token of their own as bytes."""
    vocab = byte_fallback().get_vocab()
    ids: list[int] = []
    for char in text.replace(" ", "\u2581"):
        spelled = [char] if char in vocab else [f"<0x{byte:02X}>" for byte in char.encode()]
        ids += [vocab[piece] for piece in spelled]
    return ids
