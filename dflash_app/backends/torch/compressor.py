"""DeepSeek-V4's compressed attention that goes back: windows that rejected tokens closed reopen.

A layer holds the last keys of its sliding window, one compressed entry for every full window of
`compress_rate` tokens, the projected tokens of the open window and, where windows overlap, what
the last closed one adds to the next. Each entry depends on earlier tokens only, so what a forward
appended can be cut where the kept tokens end.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.models.deepseek_v4.modeling_deepseek_v4 import (
    DeepseekV4CSACache,
    DeepseekV4HCACache,
)


@dataclass(slots=True)
class _Forward:
    """What the last forward brought to a layer.

    Attributes:
        length: tokens.
        keys: [1, 1, held + length, D] of the sliding window, before it was cut to its size.
        closed: by entry name, (kv, gate) of the tokens in the windows it closed.
        overlap: by entry name, (kv, gate) of the overlap before it, then [1, windows, rate, *]
            (kv, gate) of the windows it closed, and how many of their features overlap.
    """

    length: int
    keys: Tensor
    closed: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    overlap: dict[str, tuple[Tensor | None, Tensor | None, Tensor, Tensor, int]] = field(
        default_factory=dict
    )


class SlicingHCALayer(DeepseekV4HCACache):  # type: ignore[no-untyped-call]
    """Heavily compressed attention; see `rollback.RewindableCache` for its `crop`."""

    # Else transformers would give this class to everybody who runs the family.
    _layer_type = None  # type: ignore[assignment]

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self._forward: _Forward | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append keys, which are the values too."""
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        self._forward = _Forward(key_states.shape[-2], keys)
        return keys, values

    def store_compression_weights(
        self, name: str, kv: Tensor, gate: Tensor
    ) -> tuple[Tensor, Tensor, int]:
        """Append projected tokens and hand out those of the windows that became full."""
        closed_kv, closed_gate, position = super().store_compression_weights(name, kv, gate)
        if self._forward is not None:
            self._forward.closed[name] = (closed_kv, closed_gate)
        return closed_kv, closed_gate, position

    def crop(self, tokens_to_remove: int) -> None:
        """Forget tokens of the last forward; see `rollback.RewindableCache`.

        Raises:
            ValueError: they are not all of the last forward.
        """
        forward, self._forward = self._forward, None
        if tokens_to_remove == 0:
            return
        if forward is None or forward.length + tokens_to_remove < 0:
            raise ValueError(
                "a compressor goes back within its last forward only, "
                f"not by {-tokens_to_remove} tokens"
            )
        kept_keys = forward.keys[:, :, :tokens_to_remove]
        self.keys = self.values = kept_keys[:, :, -self.sliding_window + 1 :]
        self.cumulative_length += tokens_to_remove
        for name in forward.closed:
            self._reopen(name, forward, -tokens_to_remove)

    def _reopen(self, name: str, forward: _Forward, num_removed: int) -> None:
        """Put the tokens after the last window that stays closed back into the open one."""
        closed_kv, closed_gate = forward.closed[name]
        open_kv: Any = self.buffer_kv[name]
        open_gate: Any = self.buffer_gate[name]
        kv = torch.cat([closed_kv, open_kv], dim=1)
        gate = torch.cat([closed_gate, open_gate], dim=1)
        num_kept = kv.shape[1] - num_removed
        still_closed = num_kept // self.compress_rate
        start = still_closed * self.compress_rate
        self.buffer_kv[name] = kv[:, start:num_kept]
        self.buffer_gate[name] = gate[:, start:num_kept]
        reopened = closed_kv.shape[1] // self.compress_rate - still_closed
        if reopened:
            self.entry_count[name] -= reopened
            entries: Any = self.compressed_kv[name]
            self.compressed_kv[name] = entries[:, : self.entry_count[name]]
            self._restore_overlap(name, forward, still_closed)

    def _restore_overlap(self, name: str, forward: _Forward, still_closed: int) -> None:
        """Windows of this layer do not overlap."""


class SlicingCSALayer(SlicingHCALayer, DeepseekV4CSACache):  # type: ignore[no-untyped-call]
    """Compressed sparse attention: overlapping windows, and an indexer with windows of its own."""

    _layer_type = None  # type: ignore[assignment]

    def update_overlap_state(
        self, name: str, chunk_kv: Tensor, chunk_gate: Tensor, head_dim: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Take what the last window closed adds to the next, and hand out the one before."""
        before = super().update_overlap_state(name, chunk_kv, chunk_gate, head_dim)
        if self._forward is not None:
            self._forward.overlap[name] = (*before, chunk_kv, chunk_gate, head_dim)
        return before

    def _restore_overlap(self, name: str, forward: _Forward, still_closed: int) -> None:
        """Take the overlap of the last window that stays closed, or the one before the forward."""
        kv, gate, chunk_kv, chunk_gate, head_dim = forward.overlap[name]
        if still_closed:
            kv = chunk_kv[:, still_closed - 1, :, :head_dim].clone()
            gate = chunk_gate[:, still_closed - 1, :, :head_dim].clone()
        self.overlap_kv[name], self.overlap_gate[name] = kv, gate


def with_slicing(layers: list[Any], config: Any) -> list[Any]:
    """The layers of a fresh cache, with compressed ones that go back.

    Args:
        layers: of `DynamicCache(config=config)`.
        config: the text model's.
    """
    slicing = {DeepseekV4HCACache: SlicingHCALayer, DeepseekV4CSACache: SlicingCSALayer}
    return [slicing[type(layer)](config) if type(layer) in slicing else layer for layer in layers]
