"""What a training run needs to know, read from YAML."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dflash_app.errors import TrainingError


class DrafterShape(BaseModel):
    """Sizes of the drafter; everything else follows from the target.

    Attributes:
        num_layers: depth.
        block_size: anchor included.
        target_layer_ids: 0-based target layers whose output is tapped.
        mask_token_id: a real, otherwise unused row of the target's embedding.
        sliding_window: None: full bidirectional attention.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_layers: int = Field(ge=1, le=64)
    block_size: int = Field(ge=2, le=64)
    target_layer_ids: tuple[int, ...] = Field(min_length=1)
    mask_token_id: int = Field(ge=0)
    sliding_window: int | None = Field(default=None, ge=1)


class TrainingConfig(BaseModel):
    """One training run.

    Attributes:
        target: folder of the target (config, tokenizer, safetensors).
        conversations: JSON Lines, each `{"messages": [{"role", "content"}, ...]}`. With
            `regenerate` the last user turn is answered anew; its reply in the file is a guess.
        output: folder of checkpoints, logs and the finished drafter (`output/drafter`).
        drafter: its shape.
        held_out: JSON Lines as `conversations`; its prompts are decoded to measure acceptance.
        regenerate: let the target answer every prompt greedily (the paper does); off takes the
            assistants' texts in the file as they are.
        max_new_tokens: limit of a regenerated reply.
        sequence_length: tokens of a training sequence; what is longer is cut.
        batch_sequences: sequences a step.
        batch_tokens: a step of long sequences holds fewer, to read no more tokens than this.
        anchors_per_sequence: random blocks of a sequence in each step; more where a step holds
            fewer sequences, so that every step learns from as many blocks.
        num_steps: optimiser steps.
        optimizer: "adamw" as in the paper, or "muon" for matrices (AdamW for the rest).
        learning_rate: peak.
        warmup_ratio: share of the steps that the rate rises.
        clip: gradient norm.
        gamma: decay of the loss over positions, weight exp(-(k - 1) / gamma); 7, 5, 4 for blocks of
            16, 10, 8 in the paper.
        warm_start: begin with the target's top layers and the deepest tap passed through.
        dtype: of compute; "auto" takes the one that this machine is faster in. Masters are float32.
        compiled: use torch.compile; it costs a minute or more before it saves any.
        num_threads: of the CPU; None leaves the library's own.
        seed: of weights, order and anchors.
        evaluate_every: steps between measurements of the real acceptance.
        num_evaluated: held-out prompts decoded each time.
        save_every: steps between checkpoints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Path
    conversations: Path
    output: Path
    drafter: DrafterShape
    held_out: Path | None = None
    regenerate: bool = True
    max_new_tokens: int = Field(default=256, ge=1)
    sequence_length: int = Field(default=384, ge=16)
    batch_sequences: int = Field(default=16, ge=1)
    batch_tokens: int = Field(default=16_384, ge=128)
    anchors_per_sequence: int = Field(default=8, ge=1)
    num_steps: int = Field(default=2000, ge=1)
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(default=6e-4, gt=0)
    warmup_ratio: float = Field(default=0.04, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    gamma: float = Field(default=7.0, gt=0)
    warm_start: bool = True
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    compiled: bool = False
    num_threads: int | None = Field(default=None, ge=1)
    seed: int = 0
    evaluate_every: int = Field(default=500, ge=1)
    num_evaluated: int = Field(default=40, ge=1)
    save_every: int = Field(default=500, ge=1)


def load_training_config(path: Path) -> TrainingConfig:
    """Read a training config; relative paths in it start at the working folder.

    Args:
        path: a YAML file.

    Raises:
        TrainingError: the file is absent, no YAML, or a value is wrong; the message names it.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TrainingConfig.model_validate(raw)
    except OSError as error:
        raise TrainingError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise TrainingError(f"{path}: {place}: {first['msg']}.") from error
