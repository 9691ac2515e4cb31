"""The two forms of the recipe: the one that made the shipped pair, and a short one for CI."""

from dataclasses import dataclass, field, replace

from dflash_app.training.config import DrafterShape
from recipes.embedded_pair.target import TargetConfig
from recipes.embedded_pair.target_model import TargetShape
from recipes.embedded_pair.tokenizer import MASK_ID


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the pair.

    Attributes:
        seed: of the held-out set, tokenizer text and drafter.
        num_held_out: questions of each kind that are kept out of training and graded.
        num_tokenizer_conversations: read to learn the merges.
        target: see `TargetConfig`.
        max_new_tokens: limit of every reply of the pair, in training and in the report.
        num_drafter_conversations: of one to four turns; the target answers their last question,
            and the drafter learns from its replies.
        num_long_conversations: the same of many turns, up to the whole context.
        drafter: its shape.
        drafter_steps: optimiser steps.
        drafter_batch: sequences a step.
        drafter_anchors: blocks of each sequence.
        drafter_lr: peak rate.
        drafter_batch_tokens: a step of long sequences holds fewer, to read no more than this.
        compiled: use torch.compile for both; it costs minutes before it saves any.
        num_evaluated: held-out prompts decoded at each quarter of the drafter's training.
    """

    seed: int = 1
    num_held_out: int = 60
    num_tokenizer_conversations: int = 20_000
    target: TargetConfig = field(default_factory=TargetConfig)
    max_new_tokens: int = 300
    num_drafter_conversations: int = 12_000
    num_long_conversations: int = 1_200
    drafter: DrafterShape = field(
        default_factory=lambda: DrafterShape(
            num_layers=2, block_size=16, target_layer_ids=(1, 2, 3, 4, 5), mask_token_id=MASK_ID
        )
    )
    drafter_steps: int = 3_600
    drafter_batch: int = 16
    drafter_batch_tokens: int = 8_192
    drafter_anchors: int = 8
    drafter_lr: float = 2e-3
    compiled: bool = True
    num_evaluated: int = 48


FULL = Recipe()
SHORT = replace(
    FULL,
    num_held_out=2,
    num_tokenizer_conversations=2_000,
    target=TargetConfig(
        shape=TargetShape(
            hidden_size=128, intermediate_size=256, num_layers=4, num_heads=4, num_kv_heads=2
        ),
        num_steps=240,
        batch_rows=8,
        long_every=1_000,
        warmup_steps=20,
    ),
    compiled=False,
    # A target so little trained ends few of its replies by itself.
    max_new_tokens=64,
    num_drafter_conversations=400,
    num_long_conversations=40,
    drafter=DrafterShape(
        num_layers=1, block_size=8, target_layer_ids=(0, 1, 2), mask_token_id=MASK_ID
    ),
    drafter_steps=300,
    drafter_batch=8,
    drafter_batch_tokens=2_048,
    num_evaluated=12,
)
