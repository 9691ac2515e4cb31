"""Optimisers over float32 masters, so that bfloat16 weights do not round small updates away."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class MasterOptimizer:
    """AdamW, or Muon for the matrices, on float32 copies of a model's parameters.

    Args:
        model: its parameters receive the masters' rounded values after every step.
        matrix_lr: peak rate of Muon for two-dimensional weights (embeddings excepted); None gives
            them to AdamW too.
        other_lr: peak rate of AdamW.
        clip: gradient norm.
        weight_decay: of the matrices.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        matrix_lr: float | None,
        other_lr: float,
        clip: float = 1.0,
        weight_decay: float = 0.01,
    ) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._parameters = [parameter for _, parameter in named]
        self._masters = [p.detach().float().clone().requires_grad_() for p in self._parameters]
        self._clip = clip
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for (name, parameter), master in zip(named, self._masters, strict=True):
            is_matrix = parameter.ndim == 2 and "embedding" not in name
            (matrices if is_matrix else others).append(master)
        adamw_groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
        self._optimizers: list[tuple[torch.optim.Optimizer, float]] = []
        if matrix_lr is not None:
            muon = torch.optim.Muon(
                matrices,
                lr=matrix_lr,
                weight_decay=weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
            self._optimizers.append((muon, matrix_lr))
        else:
            adamw_groups.append({"params": matrices, "weight_decay": weight_decay})
        groups = [group for group in adamw_groups if group["params"]]
        adamw = torch.optim.AdamW(groups, lr=other_lr, betas=(0.9, 0.95), fused=True)
        self._optimizers.append((adamw, other_lr))

    def step(self, scale: float) -> float:
        """Take the gradients, clip, update at `scale` of the peak rates, clear the gradients.

        Returns:
            The gradient's norm before clipping.
        """
        for master, parameter in zip(self._masters, self._parameters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        norm = float(nn.utils.clip_grad_norm_(self._masters, self._clip))
        for optimizer, peak_lr in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak_lr * scale
            optimizer.step()
        self._publish()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Masters and optimiser states, for a checkpoint."""
        return {
            "masters": [master.detach() for master in self._masters],
            "optimizers": [optimizer.state_dict() for optimizer, _ in self._optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        with torch.no_grad():
            for master, saved in zip(self._masters, state["masters"], strict=True):
                master.copy_(saved)
        for (optimizer, _), saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._publish()

    @torch.no_grad()
    def _publish(self) -> None:
        for master, parameter in zip(self._masters, self._parameters, strict=True):
            parameter.copy_(master)


def learning_rate_scale(step: int, warmup_steps: int, num_steps: int) -> float:
    """Share of the peak rate: a linear rise, then a cosine to zero.

    Args:
        step: from 0.
        warmup_steps: length of the rise.
        num_steps: of the whole run.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
