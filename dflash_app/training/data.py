"""Training sequences: prompts from a file, replies by the exact target."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dflash_app.backends.torch.target import TorchTarget
from dflash_app.engine.prompt import encode_prompt
from dflash_app.errors import RequestError, TrainingError
from dflash_app.request import Message
from dflash_app.training.config import TrainingConfig

_BATCH_TOKENS = 16_384
"""Tokens that are read, or answered, together."""
_BUCKET = 128
"""Lengths are rounded up to this, so that few shapes are met (and compiled)."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """Prompts with their replies.

    Attributes:
        token_ids: [n, L] int32, padded at the end with 0.
        lengths: [n] int64, tokens of each.
        starts: [n] int64, where each reply begins.
    """

    token_ids: Tensor
    lengths: Tensor
    starts: Tensor

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pick rows: token ids [b, T] int64 and reply [b, T] bool, T a multiple of 128."""
        longest = int(self.lengths[rows].max())
        width = min(-(-longest // _BUCKET) * _BUCKET, self.token_ids.shape[1])
        positions = torch.arange(width)
        reply = (positions >= self.starts[rows, None]) & (positions < self.lengths[rows, None])
        return self.token_ids[rows, :width].long(), reply

    def shuffled(self, size: int, max_tokens: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Row numbers of batches without end, sequences of like length together.

        Args:
            size: rows a batch.
            max_tokens: long sequences come in fewer rows, so that a batch holds no more tokens.
            generator: random state.
        """
        buckets = (self.lengths - 1) // _BUCKET
        while True:
            batches: list[Tensor] = []
            for bucket in sorted(set(buckets.tolist())):
                rows = torch.nonzero(buckets == bucket).flatten()
                rows = rows[torch.randperm(len(rows), generator=generator)]
                fit = max(1, min(size, max_tokens // ((bucket + 1) * _BUCKET)))
                batches += [rows[i : i + fit] for i in range(0, len(rows) - fit + 1, fit)]
            if not batches:
                raise TrainingError(
                    f"There are fewer than {size} sequences of like length: give more "
                    "conversations or a smaller batch_sequences."
                )
            for index in torch.randperm(len(batches), generator=generator):
                yield batches[int(index)]


def read_conversations(path: Path) -> list[list[Message]]:
    """Read JSON Lines of `{"messages": [{"role", "content"}, ...]}`.

    Raises:
        TrainingError: naming file and line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.readlines()  # splitlines() would also cut at U+2028, which JSON may hold
    except OSError as error:
        raise TrainingError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    conversations = []
    for number, line in enumerate(lines, 1):
        try:
            messages = [Message(m["role"], m["content"]) for m in json.loads(line)["messages"]]
        except (ValueError, KeyError, TypeError, RequestError) as error:
            raise TrainingError(f"{path}, line {number}: not a conversation ({error}).") from error
        conversations.append(messages)
    if not conversations:
        raise TrainingError(f"{path} holds no conversation.")
    return conversations


def load_sequences(
    config: TrainingConfig, tokenizer: Any, target: TorchTarget, log: Callable[[str], None]
) -> Sequences:
    """The training sequences of a config; answered once, then read from its output folder.

    Args:
        config: the run's.
        tokenizer: the target's.
        target: answers the prompts where `regenerate` is on.
        log: is told how far it is.
    """
    key = _fingerprint(config)
    path = config.output / "sequences.safetensors"
    if path.exists():
        saved = load_file(path)
        if bytes(saved.pop("key").tolist()).hex() == key:
            return Sequences(**saved)
    conversations = read_conversations(config.conversations)
    if config.regenerate:
        pairs = list(_regenerate(config, tokenizer, target, conversations, log))
    else:
        pairs = [_as_written(tokenizer, messages) for messages in conversations]
    sequences = _stack(pairs, config.sequence_length)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "token_ids": sequences.token_ids,
        "lengths": sequences.lengths,
        "starts": sequences.starts,
        "key": torch.tensor(list(bytes.fromhex(key)), dtype=torch.uint8),
    }
    save_file(tensors, path)
    return sequences


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(config: TrainingConfig) -> str:
    """What the sequences depend on."""
    parts = [file_sha256(config.conversations)]
    parts += [file_sha256(file) for file in sorted(config.target.glob("*.safetensors"))]
    parts += [str(config.regenerate), str(config.max_new_tokens), str(config.sequence_length)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _as_written(tokenizer: Any, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Prompt and reply ids of a conversation whose last message is the assistant's."""
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise TrainingError(
            "Without `regenerate` every conversation must end with the assistant's reply."
        )
    return encode_prompt(tokenizer, messages[:-1]), _reply_ids(tokenizer, messages[-1:])


def _regenerate(
    config: TrainingConfig,
    tokenizer: Any,
    target: TorchTarget,
    conversations: Sequence[Sequence[Message]],
    log: Callable[[str], None],
) -> Iterator[tuple[list[int], list[int]]]:
    """Let the target answer the last user message of each conversation, greedily, in batches.

    A reply that the file already holds is checked first, in one forward: where the target would
    have put out each of its tokens it is the greedy reply, and need not be generated.
    """
    found = [_prompt(tokenizer, messages) for messages in conversations]
    found = [(p, r) for p, r in found if len(p) + 2 <= config.sequence_length]
    found.sort(key=lambda pair: sum(map(len, pair)))
    open_prompts: list[list[int]] = []
    for batch in _batches(found):
        for (prompt, reply), is_greedy in zip(batch, _greedy(target, batch), strict=True):
            if is_greedy:
                yield prompt, reply
            else:
                open_prompts.append(prompt)
    log(f"{len(found) - len(open_prompts)} of {len(found)} replies are the target's own already")
    open_prompts.sort(key=len)
    done = 0
    for batch in _batches([(prompt, [0] * config.max_new_tokens) for prompt in open_prompts]):
        prompts = [prompt for prompt, _ in batch]
        yield from zip(prompts, _answer(target, prompts, config.max_new_tokens), strict=True)
        done += len(prompts)
        log(f"answered {done}/{len(open_prompts)} prompts")


def _batches(
    pairs: Sequence[tuple[list[int], list[int]]],
) -> Iterator[Sequence[tuple[list[int], list[int]]]]:
    """Cut pairs, the shortest first, into batches of _BATCH_TOKENS at most, padding included.

    A pair that is longer alone is a batch of its own.
    """
    start = 0
    for end, longest in enumerate(pairs):
        if end > start and (end + 1 - start) * sum(map(len, longest)) > _BATCH_TOKENS:
            yield pairs[start:end]
            start = end
    if pairs:
        yield pairs[start:]


@torch.inference_mode()
def _greedy(target: TorchTarget, batch: Sequence[tuple[list[int], list[int]]]) -> list[bool]:
    """Whether each reply is what greedy decoding puts out after its prompt, to the stop token."""
    eos_ids = target.eos_ids()
    width = max(sum(map(len, pair)) for pair in batch)
    rows = [[*p, *r, *[0] * (width - len(p) - len(r))] for p, r in batch]
    ids = torch.tensor(rows, device=target.device)
    # Padding stands at the end, where causal attention never looks back from.
    best = target.model(input_ids=ids, use_cache=False).logits.argmax(-1)
    right = (best[:, :-1] == ids[:, 1:]).tolist()
    return [
        len(r) >= 2 and r[-1] in eos_ids and all(row[len(p) - 1 : len(p) + len(r) - 1])
        for (p, r), row in zip(batch, right, strict=True)
    ]


def _prompt(tokenizer: Any, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Ids of the last user turn's prompt, and of the reply that the file has for it (or none)."""
    end = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
    if end < 0:
        raise TrainingError("A conversation without a user message cannot be answered.")
    prompt = encode_prompt(tokenizer, messages[: end + 1])
    return prompt, _reply_ids(tokenizer, messages[end + 1 : end + 2])


def _reply_ids(tokenizer: Any, replies: Sequence[Message]) -> list[int]:
    ids: list[int] = []
    for message in replies:
        ids += [*tokenizer.encode(message.content, add_special_tokens=False)]
        ids.append(tokenizer.eos_token_id)
    return ids


def _answer(target: TorchTarget, prompts: list[list[int]], max_new: int) -> list[list[int]]:
    """Greedy replies by transformers' own generate; stop token included."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=target.device)
    mask = torch.tensor(
        [[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=target.device
    )
    eos_ids = target.eos_ids()
    with torch.inference_mode():
        output = target.model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=min(max_new, target.context_length - width),
            do_sample=False,
            eos_token_id=sorted(eos_ids),
            pad_token_id=0,
        )
    replies = []
    for row in output[:, width:].tolist():
        end = next((i + 1 for i, token_id in enumerate(row) if token_id in eos_ids), len(row))
        replies.append(row[:end])
    return replies


def _stack(pairs: Sequence[tuple[list[int], list[int]]], length: int) -> Sequences:
    """Pad and cut; a reply needs two tokens within `length` to hold a block."""
    usable = [(p, r) for p, r in pairs if len(p) + 2 <= length and len(r) >= 2]
    if not usable:
        raise TrainingError("No conversation is left: all are longer than sequence_length.")
    token_ids = torch.zeros(len(usable), length, dtype=torch.int32)
    for row, (prompt, reply) in enumerate(usable):
        ids = torch.tensor([*prompt, *reply][:length], dtype=torch.int32)
        token_ids[row, : len(ids)] = ids
    lengths = torch.tensor([min(len(p) + len(r), length) for p, r in usable])
    return Sequences(token_ids, lengths, torch.tensor([len(p) for p, _ in usable]))
