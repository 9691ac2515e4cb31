"""Random anchors: which blocks of a sequence are trained in a step, and what each may see."""

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Blocks:
    """N blocks of B slots in each of b sequences, one after the other: Q = N * B.

    Attributes:
        input_ids: [b, Q] int64: the anchor's token, then mask tokens.
        positions: [b, Q] int64: anchor position a, then a + 1 ... a + B - 1.
        targets: [b, Q] int64: slot k's own token; IGNORED for slot 0 and past the reply's end.
        slots: [Q] int64: k, the slot within its block.
        visible: [b, 1, Q, T + Q] bool: context positions before the anchor, and the own block.
    """

    input_ids: Tensor
    positions: Tensor
    targets: Tensor
    slots: Tensor
    visible: Tensor


def draw_blocks(
    token_ids: Tensor,
    reply: Tensor,
    *,
    num_anchors: int,
    block_size: int,
    mask_token_id: int,
    generator: torch.Generator,
) -> Blocks:
    """Draw anchors among the tokens of replies and lay out their blocks.

    Args:
        token_ids: [b, T] int64.
        reply: [b, T] bool, tokens that the target put out; each row has at least two in a run.
        num_anchors: N, blocks of each sequence; drawn with replacement.
        block_size: B, anchor included.
        mask_token_id: fills the slots to draft.
        generator: random state.

    Returns:
        The blocks. An anchor is a reply's token whose successor belongs to the reply too.

    Source: arXiv:2602.06036, section on training; random anchors instead of fixed ones.
    """
    batch, length = token_ids.shape
    may_anchor = torch.zeros_like(reply)
    may_anchor[:, :-1] = reply[:, :-1] & reply[:, 1:]
    anchors = torch.multinomial(
        may_anchor.float(), num_anchors, replacement=True, generator=generator
    )
    offsets = torch.arange(block_size)
    positions = anchors[:, :, None] + offsets
    inside = positions < length
    clipped = positions.clamp(max=length - 1)
    tokens = token_ids.gather(1, clipped.flatten(1)).view_as(clipped)
    # A slot counts while every token since the anchor belongs to the same reply.
    in_reply = reply.gather(1, clipped.flatten(1)).view_as(clipped) & inside
    trained = in_reply.int().cumprod(-1).bool()
    trained[:, :, 0] = False
    inputs = torch.full_like(tokens, mask_token_id)
    inputs[:, :, 0] = tokens[:, :, 0]
    block_of_slot = torch.arange(num_anchors).repeat_interleave(block_size)
    same_block = (block_of_slot[:, None] == block_of_slot[None, :]).expand(batch, -1, -1)
    anchor_of_slot = anchors.repeat_interleave(block_size, 1)
    before_anchor = torch.arange(length) < anchor_of_slot[:, :, None]
    return Blocks(
        input_ids=inputs.flatten(1),
        positions=positions.flatten(1),
        targets=tokens.masked_fill(~trained, IGNORED).flatten(1),
        slots=offsets.repeat(num_anchors),
        visible=torch.cat([before_anchor, same_block], -1)[:, None],
    )
