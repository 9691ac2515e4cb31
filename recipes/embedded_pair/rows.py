"""Training rows: conversations one after the other, with the tokens to learn marked."""

import itertools
from collections.abc import Iterator

import torch
from tokenizers import Tokenizer

from recipes.embedded_pair.dialogue import conversations
from recipes.embedded_pair.tokenizer import END_OF_TEXT_ID, TURN_END_ID, TURN_START_ID, render

_CHUNK = 256


def reply_mask(token_ids: list[int], assistant_id: int) -> list[bool]:
    """True for each token of an assistant's reply, the end of the turn included."""
    mask, inside, since_start = [], False, 0
    for index, token_id in enumerate(token_ids):
        if token_id == TURN_START_ID:
            inside = token_ids[index + 1 : index + 2] == [assistant_id]
            since_start = 0
        # The turn's head is three tokens: start, role, newline.
        mask.append(inside and since_start >= 3)
        since_start += 1
        if token_id == TURN_END_ID:
            inside = False
    return mask


def rows(
    tokenizer: Tokenizer,
    seed: int,
    length: int,
    excluded: frozenset[str],
    max_chars: int | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows of whole conversations without end, each row beginning with a new one.

    Args:
        tokenizer: the pair's.
        seed: of the conversations.
        length: tokens a row.
        excluded: normalised held-out prompts.
        max_chars: one long conversation of at least so many characters instead of short ones.

    Yields:
        token ids [length + 1] int64, and targets [length] int64, -100 where nothing is learned.
    """
    (assistant_id,) = tokenizer.encode("assistant").ids
    source = conversations(seed, max_chars, excluded)
    ids: list[int] = []
    learned: list[bool] = []
    while True:
        texts = [render(conversation) for conversation in itertools.islice(source, _CHUNK)]
        for encoding in tokenizer.encode_batch(texts):
            ids += [*encoding.ids, END_OF_TEXT_ID]
            learned += [*reply_mask(encoding.ids, assistant_id), False]
            if len(ids) <= length:
                continue
            row = torch.tensor(ids[: length + 1])
            keep = torch.tensor(learned[1 : length + 1])
            yield row, torch.where(keep, row[1:], -100)
            ids, learned = [], []


def batches(
    source: Iterator[tuple[torch.Tensor, torch.Tensor]], size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Stack rows: inputs [size, T] and targets [size, T]."""
    while True:
        picked = [next(source) for _ in range(size)]
        yield (
            torch.stack([row[:-1] for row, _ in picked]),
            torch.stack([targets for _, targets in picked]),
        )
