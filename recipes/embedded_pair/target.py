"""Train the target: float32 masters, Muon for matrices and AdamW for the rest."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from dflash_app.training.compiling import compiled_if_possible
from dflash_app.training.optimizer import MasterOptimizer, learning_rate_scale
from dflash_app.training.precision import resolve_dtype
from recipes.embedded_pair.rows import batches, rows
from recipes.embedded_pair.target_model import TargetShape, TrainableTarget

CHECKPOINT = "target.pt"


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """How the target is trained.

    Attributes:
        shape: sizes of the model.
        num_steps: optimiser steps.
        batch_rows: short rows a step.
        row_length: tokens of a short row.
        long_every: one step in so many reads long rows (of the whole context).
        long_rows: long rows of such a step.
        matrix_lr: peak rate of Muon.
        other_lr: peak rate of AdamW (embedding, norms).
        warmup_steps: linear rise.
        seed: of weights and data.
        save_every: steps between checkpoints.
    """

    shape: TargetShape = field(default_factory=TargetShape)
    num_steps: int = 7_500
    batch_rows: int = 16
    row_length: int = 256
    long_every: int = 24
    long_rows: int = 2
    matrix_lr: float = 6e-3
    other_lr: float = 3e-3
    warmup_steps: int = 100
    seed: int = 20261120
    save_every: int = 250


def train_target(
    config: TargetConfig,
    tokenizer: Tokenizer,
    excluded: frozenset[str],
    folder: Path,
    *,
    compiled: bool,
    log: Callable[[str], None] = print,
) -> tuple[TrainableTarget, list[float]]:
    """Train from nothing, or go on from the last checkpoint in `folder`.

    Args:
        config: of the run.
        tokenizer: the pair's.
        excluded: normalised held-out prompts.
        folder: of the checkpoint.
        compiled: use torch.compile.
        log: is told one line at a time.

    Returns:
        The model in bfloat16 and the loss of each step of this call.
    """
    torch.manual_seed(config.seed)
    model = TrainableTarget(config.shape)
    optimizer = MasterOptimizer(model, matrix_lr=config.matrix_lr, other_lr=config.other_lr)
    dtype = resolve_dtype("auto", log)
    model.to(dtype)
    start = _resume(optimizer, folder / CHECKPOINT)
    forward = compiled_if_possible(model, log) if compiled else model
    source = _mixed_batches(config, tokenizer, excluded, skip=start)
    positions = {
        n: model.positions(n, dtype) for n in (config.row_length, config.shape.context_length)
    }
    losses: list[float] = []
    since, tokens = time.perf_counter(), 0
    for step in range(start, config.num_steps):
        inputs, targets = next(source)
        loss = forward(inputs, targets, *positions[inputs.shape[1]])
        loss.backward()
        optimizer.step(learning_rate_scale(step, config.warmup_steps, config.num_steps))
        losses.append(loss.item())
        tokens += inputs.numel()
        if (step + 1) % 50 == 0:
            elapsed_s = time.perf_counter() - since
            recent = losses[-50:]
            left_min = elapsed_s / len(recent) * (config.num_steps - step - 1) / 60
            log(
                f"target step {step + 1}/{config.num_steps} loss {sum(recent) / len(recent):.4f} "
                f"{tokens / elapsed_s:,.0f} tok/s, {left_min:.0f} min left"
            )
            since, tokens = time.perf_counter(), 0
        if (step + 1) % config.save_every == 0 or step + 1 == config.num_steps:
            _save(optimizer, folder / CHECKPOINT, step + 1)
    return model.to(torch.bfloat16), losses


def _mixed_batches(
    config: TargetConfig, tokenizer: Tokenizer, excluded: frozenset[str], skip: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Short batches with a long one now and then; the data seed moves on when resumed."""
    seed = config.seed + skip
    short = batches(rows(tokenizer, seed, config.row_length, excluded), config.batch_rows)
    context = config.shape.context_length
    long = batches(
        rows(tokenizer, seed + 1, context, excluded, max_chars=3 * context), config.long_rows
    )
    step = skip
    while True:
        step += 1
        yield next(long) if step % config.long_every == 0 else next(short)


def _save(optimizer: MasterOptimizer, path: Path, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({"step": step, "optimizer": optimizer.state_dict()}, partial)
    partial.replace(path)


def _resume(optimizer: MasterOptimizer, path: Path) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
