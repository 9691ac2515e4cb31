"""The tokenizer: byte-level BPE with single digits, ChatML turns and a real mask token."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from recipes.embedded_pair.dialogue import Conversation, conversations

VOCAB_SIZE = 2048
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|mask|>")
END_OF_TEXT_ID, TURN_START_ID, TURN_END_ID, MASK_ID = range(4)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


def train_tokenizer(seed: int, excluded: frozenset[str], num_conversations: int) -> Tokenizer:
    """Learn the merges from training conversations.

    Args:
        seed: of the conversations.
        excluded: normalised held-out prompts.
        num_conversations: how many to read.
    """
    tokenizer = Tokenizer(models.BPE())
    # Digits stay alone, so that arithmetic meets one symbol per digit.
    pattern = Regex(r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\n|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = _texts(itertools.islice(conversations(seed, excluded=excluded), num_conversations))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _texts(source: Iterator[Conversation]) -> Iterator[str]:
    for conversation in source:
        yield from ("user", "assistant", "system", conversation.system or "")
        for turn in conversation.turns:
            yield turn.prompt
            yield turn.task.reply


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context_length: int) -> None:
    """Write the files that AutoTokenizer reads, chat template included."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        mask_token="<|mask|>",
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def render(conversation: Conversation) -> str:
    """A whole conversation as the chat template writes it."""
    parts = []
    if conversation.system is not None:
        parts.append(f"<|im_start|>system\n{conversation.system}<|im_end|>\n")
    for turn in conversation.turns:
        parts.append(f"<|im_start|>user\n{turn.prompt}<|im_end|>\n")
        parts.append(f"<|im_start|>assistant\n{turn.task.reply}<|im_end|>\n")
    return "".join(parts)
