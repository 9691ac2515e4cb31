"""GatedDeltaNet layers that go back: the state before a block, and the block's own updates.

transformers' `crop` takes the rejected tokens out of the convolution's state and leaves them in the
recurrent state, silently. Here the recurrence over the kept tokens is computed again from what it
consumed: a triangular system as wide as the block and two products, no second forward.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import LinearAttentionLayer

_KERNELS = ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule")
"""Names in transformers' modelling modules; behind them is flash-linear-attention if installed."""

_L2_EPSILON = 1e-6
"""Of both implementations of these kernels."""


@dataclass(frozen=True, slots=True)
class Updates:
    """What a run of the recurrence over T tokens consumed, as the kernels take it.

    Attributes:
        keys: [1, T, Hk, K].
        values: [1, T, Hv, V], Hv a multiple of Hk.
        log_decays: [1, T, Hv], at most 0.
        betas: [1, T, Hv], learning rates.
        normalize: keys are L2-normalised first.
    """

    keys: Tensor
    values: Tensor
    log_decays: Tensor
    betas: Tensor
    normalize: bool

    @property
    def length(self) -> int:
        """Tokens."""
        return self.keys.shape[1]


class ReplayLayer(LinearAttentionLayer):
    """The cache of a GatedDeltaNet layer that can forget the last tokens of its last forward."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._before: Tensor | None = None
        self._updates: Updates | None = None

    def update_recurrent_state(
        self, recurrent_states: Tensor, state_idx: int = 0, **kwargs: Any
    ) -> Tensor:
        """Take the state after a forward; the one before is kept by reference, not copied."""
        self._updates = vars(recurrent_states).pop("updates", None)
        self._before = self.recurrent_states[state_idx]
        self.recurrent_states[state_idx] = recurrent_states
        self.is_recurrent_states_initialized[state_idx] = True
        return recurrent_states

    def crop(self, tokens_to_remove: int) -> None:
        """Forget tokens of the last forward; see `rollback.RewindableCache`.

        Raises:
            ValueError: they are not all of the last forward, or nothing of it would stay.
        """
        super().crop(tokens_to_remove)
        if tokens_to_remove:
            kept = tokens_to_remove + (self._updates.length if self._updates else 0)
            if self._updates is None or kept < 1:
                raise ValueError(
                    "a recurrent layer goes back within its last forward only, "
                    f"not by {-tokens_to_remove} tokens"
                )
            self.recurrent_states[0] = replay(self._before, self._updates, kept)
        self._before = self._updates = None


def with_replay(layers: list[Any]) -> list[Any]:
    """The layers of a fresh cache, with recurrent ones that go back."""
    return [ReplayLayer() if type(layer) is LinearAttentionLayer else layer for layer in layers]


def replay(before: Tensor | None, updates: Updates, kept: int) -> Tensor:
    """Run the gated delta rule over the first tokens of a block, for its final state only.

    With S the state, a the decay and b the learning rate, token t does
    S <- a_t S + k_t (x) u_t, where u_t = b_t (v_t - (a_t S)^T k_t). All u solve one unit lower
    triangular system, so the final state is one sum.

    Args:
        before: [1, Hv, K, V] state before the block; None is zero.
        updates: of the block.
        kept: how many of its tokens stay, at least 1.

    Returns:
        [1, Hv, K, V], in the dtype of `before`, or float32 without one.

    Source: Yang et al., Gated Delta Networks, arXiv:2412.06464, section 3.3.
    """
    keys, values, log_decays, betas = (
        part[:, :kept].transpose(1, 2).float()
        for part in (updates.keys, updates.values, updates.log_decays, updates.betas)
    )
    if updates.normalize:
        keys = keys * torch.rsqrt((keys * keys).sum(-1, keepdim=True) + _L2_EPSILON)
    keys = keys.repeat_interleave(values.shape[1] // keys.shape[1], dim=1)
    total = log_decays.cumsum(-1)
    changes = betas[..., None] * values
    if before is not None:
        seen = (keys @ before.float()) * total.exp()[..., None]
        changes = changes - betas[..., None] * seen
    if kept > 1:
        decays = (total[..., :, None] - total[..., None, :]).tril().exp()
        system = betas[..., None] * (keys @ keys.transpose(-1, -2)) * decays
        changes = torch.linalg.solve_triangular(system, changes, upper=False, unitriangular=True)
    last = total[..., -1:]
    state: Tensor = (keys * (last - total).exp()[..., None]).transpose(-1, -2) @ changes
    if before is None:
        return state
    return (state + before * last.exp()[..., None]).to(before.dtype)


def record_updates(model: nn.Module) -> None:
    """Let the recurrences of a model's modelling module tell what they consumed.

    The kernels are functions that the layers call by name, and the cache sees only the state that
    they return. So the names are bound to functions that call the same kernels and attach the
    inputs to that state: nothing is kept longer than the state itself, and nothing else changes.

    Args:
        model: any from a family that rolls back by replay.
    """
    names = {type(part).__module__ for part in model.modules()}
    for module in (sys.modules[name] for name in names):
        for kernel_name in _KERNELS:
            kernel = getattr(module, kernel_name, None)
            if kernel is not None and not hasattr(kernel, "records_updates"):
                setattr(module, kernel_name, _recording(kernel))


def _recording(kernel: Callable[..., tuple[Tensor, Any]]) -> Callable[..., tuple[Tensor, Any]]:
    @wraps(kernel)
    def recorded(
        query: Tensor, key: Tensor, value: Tensor, *, g: Tensor, beta: Tensor, **options: Any
    ) -> tuple[Tensor, Any]:
        output, state = kernel(query, key, value, g=g, beta=beta, **options)
        if state is not None:
            normalize = bool(options.get("use_qk_l2norm_in_kernel", False))
            state.updates = Updates(key, value, g, beta, normalize)
        return output, state

    recorded.records_updates = True  # type: ignore[attr-defined]
    return recorded
