"""Train a drafter: random blocks of the target's own replies, all blocks in one forward."""

import json
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.backends.torch.loading import load_models
from dflash_app.backends.torch.target import TorchTarget, load_target
from dflash_app.drafters.config import AttentionRule, DFlashConfig
from dflash_app.drafters.fits import check_fits
from dflash_app.drafters.tokenizer import load_tokenizer
from dflash_app.engine.prompt import encode_prompt
from dflash_app.errors import TrainingError
from dflash_app.training.anchors import Blocks, draw_blocks
from dflash_app.training.compiling import compiled_if_possible
from dflash_app.training.config import TrainingConfig
from dflash_app.training.data import Sequences, load_sequences, read_conversations
from dflash_app.training.evaluation import decode_greedy, mean_acceptance_length
from dflash_app.training.loss import block_loss, drafted_prefix
from dflash_app.training.optimizer import MasterOptimizer, learning_rate_scale
from dflash_app.training.precision import resolve_dtype
from dflash_app.training.provenance import write_provenance

_LOG_EVERY = 25
_DAMAGED = (RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError)
"""What reading a checkpoint that is cut, foreign or of another shape raises."""


@dataclass(slots=True)
class TrainingResult:
    """What a run made.

    Attributes:
        folder: of the finished drafter, a z-lab checkpoint.
        losses: of each step of this sitting.
        acceptance: real mean acceptance length by step, from held-out prompts.
    """

    folder: Path
    losses: list[float] = field(default_factory=list)
    acceptance: dict[int, float] = field(default_factory=dict)


def train_drafter(config: TrainingConfig, log: Callable[[str], None] = print) -> TrainingResult:
    """Train from nothing, or go on from the checkpoint in `config.output`.

    Args:
        config: the run's.
        log: is told one line at a time.

    Raises:
        TrainingError: config, data or checkpoint do not fit the target.
        LoadError: the target cannot be loaded.

    Source: arXiv:2602.06036; transformers and z-lab's inference code for positions and context.
    """
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    config.output.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(config.target)
    target = load_target(config.target, torch.device("cpu"), torch.float32)
    sequences = load_sequences(config, tokenizer, target, log)
    run = _Run(config, target, tokenizer, sequences, log)
    run.train()
    return run.result


class _Run:
    """State of one sitting."""

    def __init__(
        self,
        config: TrainingConfig,
        target: TorchTarget,
        tokenizer: Any,
        sequences: Sequences,
        log: Callable[[str], None],
    ) -> None:
        self.config, self.log, self.sequences = config, log, sequences
        self.result = TrainingResult(config.output / "drafter")
        self._tokenizer = tokenizer
        drafter = DFlashDrafter(drafter_config(config, target), attention="eager")
        if config.warm_start:
            warm_start(drafter, target)
        dtype = resolve_dtype(config.dtype, log)
        matrix_lr = config.learning_rate if config.optimizer == "muon" else None
        optimizer = MasterOptimizer(
            drafter, matrix_lr=matrix_lr, other_lr=config.learning_rate, clip=config.clip
        )
        self.drafter, self.optimizer = drafter.to(dtype), optimizer
        target.model.to(dtype)
        self.target = target
        self._generator = torch.Generator().manual_seed(config.seed)
        self._seconds, self._step = 0.0, 0
        self._resume()

    def train(self) -> None:
        """Run the remaining steps."""
        config = self.config
        warmup_steps = round(config.warmup_ratio * config.num_steps)
        forward = compiled_if_possible(self._loss, self.log) if config.compiled else self._loss
        order = self.sequences.shuffled(
            config.batch_sequences, config.batch_tokens, self._generator
        )
        if self._step == 0:
            self._evaluate()
        since, prefix = time.perf_counter(), 0.0
        while self._step < config.num_steps:
            token_ids, reply = self.sequences.batch(next(order))
            blocks = self._draw(token_ids, reply)
            loss, logits = forward(self._tap(token_ids), blocks)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step(learning_rate_scale(self._step, warmup_steps, config.num_steps))
            self.result.losses.append(loss.item())
            self._step += 1
            if self._step % _LOG_EVERY == 0:
                prefix = drafted_prefix(logits, blocks.targets, config.drafter.block_size)
                self._report(prefix, since)
            last = self._step == config.num_steps
            if self._step % config.save_every == 0 or last:
                self._save(time.perf_counter() - since)
                since = time.perf_counter()
            if self._step % config.evaluate_every == 0 or last:
                self._evaluate()
                since = time.perf_counter()
        self._finish()

    def _draw(self, token_ids: Tensor, reply: Tensor) -> Blocks:
        config, shape = self.config, self.config.drafter
        return draw_blocks(
            token_ids,
            reply,
            num_anchors=config.anchors_per_sequence * config.batch_sequences // len(token_ids),
            block_size=shape.block_size,
            mask_token_id=shape.mask_token_id,
            generator=self._generator,
        )

    @torch.no_grad()
    def _tap(self, token_ids: Tensor) -> Tensor:
        """[b, T] -> [b, T, taps * hidden], as the drafter meets them when decoding."""
        taps = self.config.drafter.target_layer_ids
        output = self.target.model(
            input_ids=token_ids,
            use_cache=False,
            logits_to_keep=1,
            output_hidden_states=[tap + 1 for tap in taps],
        )
        return torch.cat([output.hidden_states[tap + 1] for tap in taps], -1)

    def _loss(self, tapped: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor]:
        embeddings = self.drafter.embed(blocks.input_ids, self.target.embedding)
        context_positions = torch.arange(tapped.shape[1])
        batch = tapped.shape[0]
        hidden = self.drafter(
            embeddings,
            tapped,
            context_positions.expand(batch, -1),
            blocks.positions,
            blocks.visible,
        )
        logits = self.drafter.logits(hidden, self.target.head)
        loss = block_loss(logits, blocks.targets, blocks.slots, self.config.gamma)
        return loss, logits.detach()

    def _report(self, prefix: float, since: float) -> None:
        recent = self.result.losses[-_LOG_EVERY:]
        loss = sum(recent) / len(recent)
        total_s = self._seconds + time.perf_counter() - since
        left_s = total_s / self._step * (self.config.num_steps - self._step)
        self.log(
            f"drafter step {self._step}/{self.config.num_steps} loss {loss:.4f} "
            f"teacher-forced prefix {prefix:.2f}, {left_s / 60:.0f} min left"
        )
        self._append({"step": self._step, "loss": loss, "teacher_forced_prefix": prefix})

    def _evaluate(self) -> None:
        """Decode held-out prompts with the drafter as it would be shipped."""
        if self.config.held_out is None:
            return
        save_drafter(self.drafter, self.result.folder, torch.bfloat16)
        models = load_models(self.config.target, self.result.folder)
        conversations = read_conversations(self.config.held_out)[: self.config.num_evaluated]
        decoded = [
            decode_greedy(
                models, encode_prompt(self._tokenizer, messages), self.config.max_new_tokens
            )
            for messages in conversations
        ]
        acceptance = mean_acceptance_length(decoded)
        if acceptance is not None:
            self.result.acceptance[self._step] = acceptance
            self.log(f"drafter step {self._step} mean acceptance length {acceptance:.3f}")
            self._append({"step": self._step, "mean_acceptance_length": acceptance})

    def _append(self, row: dict[str, float]) -> None:
        with (self.config.output / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self, seconds: float) -> None:
        self._seconds += seconds
        path = self.config.output / "checkpoint.pt"
        partial = path.with_suffix(".partial")
        state = {
            "step": self._step,
            "seconds": self._seconds,
            "acceptance": self.result.acceptance,
            "generator": self._generator.get_state(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, partial)
        partial.replace(path)

    def _resume(self) -> None:
        path = self.config.output / "checkpoint.pt"
        if not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True)
            self.optimizer.load_state_dict(state["optimizer"])
            self._generator.set_state(state["generator"])
            self._step, self._seconds = state["step"], state["seconds"]
            self.result.acceptance.update(state["acceptance"])
        except _DAMAGED as error:
            raise TrainingError(
                f"{path} does not fit this config or is damaged: delete it to start anew."
            ) from error
        self.log(f"going on from step {self._step}")

    def _finish(self) -> None:
        save_drafter(self.drafter, self.result.folder, torch.bfloat16)
        write_provenance(
            self.result.folder,
            self.config,
            num_sequences=len(self.sequences.lengths),
            num_parameters=sum(p.numel() for p in self.drafter.parameters()),
            num_seconds=self._seconds,
            acceptance=self.result.acceptance,
        )


def drafter_config(config: TrainingConfig, target: TorchTarget) -> DFlashConfig:
    """The drafter's shape: the target's sizes, the config's depth.

    Raises:
        TrainingError: a tap or the mask token does not exist in the target.
    """
    shape, model = config.drafter, target.config
    if max(shape.target_layer_ids) >= target.num_layers:
        raise TrainingError(
            f"target_layer_ids go up to {target.num_layers - 1} for this target, not "
            f"{max(shape.target_layer_ids)}."
        )
    if shape.mask_token_id >= target.vocab_size:
        raise TrainingError(f"mask_token_id must be below {target.vocab_size}.")
    window = shape.sliding_window
    rule = AttentionRule(causal=window is not None, window=window)
    head_dim = getattr(model, "head_dim", None) or model.hidden_size // model.num_attention_heads
    made = DFlashConfig(
        vocab_size=target.vocab_size,
        hidden_size=target.hidden_size,
        intermediate_size=model.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=model.num_attention_heads,
        num_key_value_heads=model.num_key_value_heads,
        head_dim=head_dim,
        target_layer_ids=shape.target_layer_ids,
        block_size=shape.block_size,
        mask_token_id=shape.mask_token_id,
        attention_rules=(rule,) * shape.num_layers,
        rope_parameters=dict(model.rope_parameters),
        max_position_embeddings=target.context_length,
        rms_norm_eps=model.rms_norm_eps,
        num_target_layers=target.num_layers,
    )
    check_fits(
        made,
        hidden_size=target.hidden_size,
        vocab_size=target.vocab_size,
        num_layers=target.num_layers,
    )
    return made


@torch.no_grad()
def warm_start(drafter: DFlashDrafter, target: TorchTarget) -> None:
    """Begin with the target's top layers and final norm, and the deepest tap passed through.

    A start from noise has to find again what the target knows: in the feasibility study the loss at
    step 30 was 8.4 instead of 4.8.

    Args:
        drafter: float32.
        target: of the same hidden size; tensors that it lacks or that differ in shape stay as
            they are (Llama has no q_norm).
    """
    source = dict(target.model.named_parameters())
    depth, num_layers = target.num_layers, drafter.config.num_hidden_layers
    for name, parameter in drafter.named_parameters():
        if name.startswith("layers."):
            _, index, rest = name.split(".", 2)
            found = source.get(f"model.layers.{depth - num_layers + int(index)}.{rest}")
        elif name == "norm.weight":
            found = source.get("model.norm.weight")
        else:
            continue
        if found is not None and found.shape == parameter.shape:
            parameter.copy_(found)
    size = drafter.config.hidden_size
    nn.init.normal_(drafter.fc.weight, std=0.002)
    drafter.fc.weight[:, -size:] += torch.eye(size)
