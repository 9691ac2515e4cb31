"""The target: a language model from mlx-lm, and one way to run it."""

from collections.abc import Iterable, Mapping
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from dflash_app.backends.mlx.families import RollbackKind, check_family
from dflash_app.backends.mlx.rollback import TargetCache
from dflash_app.backends.mlx.taps import Given, tapped_view, view
from dflash_app.backends.mlx.weights import weight_bytes


class MlxTarget:
    """A causal language model in memory.

    Args:
        model: from mlx-lm, its weights evaluated.
        config: the parsed config.json, of the wrapper where there is one.
        eos_ids: tokens that end a turn.
        quantization: what its weights are stored as; None where that is the dtype.

    Attributes:
        rollback_kind: how its caches forget rejected tokens.
        num_layers: depth.

    Raises:
        UnsupportedFormat: the family has no way to go back.
    """

    def __init__(
        self,
        model: Any,
        config: Mapping[str, Any],
        *,
        eos_ids: Iterable[int] = (),
        quantization: str | None = None,
    ) -> None:
        self.model = model
        self.quantization = quantization
        self.eos_ids = frozenset(eos_ids)
        self.rollback_kind: RollbackKind = check_family(config)
        shape = config.get("text_config") or config
        self.hidden_size: int = shape["hidden_size"]
        self.vocab_size: int = shape["vocab_size"]
        self.num_layers: int = shape["num_hidden_layers"]
        self.context_length: int = shape["max_position_embeddings"]
        # A wrapper's language model has all that is needed here.
        self._text = getattr(model, "language_model", model)
        self._body = self._text.model

    @property
    def dtype(self) -> mx.Dtype:
        """What is computed in."""
        dtype: mx.Dtype = self._body.norm.weight.dtype
        return dtype

    def embedding(self, token_ids: mx.array) -> mx.array:
        """Raw rows of the input embedding, [..., hidden], without the family's own scale."""
        rows: mx.array = self._body.embed_tokens(token_ids)
        return rows

    def head(self, hidden: mx.array) -> mx.array:
        """[..., hidden] -> [..., V], before what the family does to its logits."""
        head = getattr(self._text, "lm_head", None)
        projected: mx.array = (head or self._body.embed_tokens.as_linear)(hidden)
        return projected

    def new_cache(self) -> TargetCache:
        """An empty cache for one request."""
        return TargetCache(self._body, make_prompt_cache(self.model))

    def forward(
        self, token_ids: mx.array, cache: TargetCache, num_logits: int, taps: tuple[int, ...] = ()
    ) -> tuple[mx.array, mx.array | None]:
        """Run tokens after those in the cache; nothing is evaluated.

        Args:
            token_ids: [T] int32.
            cache: grows by T.
            num_logits: how many of the last positions get logits, at least 1.
            taps: 0-based layers whose output is kept; the last layer's is taken after the final
                norm, as transformers gives it and z-lab's drafters were trained on.

        Returns:
            (logits, tapped): [num_logits, V], and [1, T, taps * hidden] or None without taps.
        """
        last = self.num_layers - 1
        body, found = tapped_view(cache.body, [tap for tap in taps if tap != last])
        normed = body(token_ids[None], cache=cache.layers)
        tapped = None
        if taps:
            states: list[Any] = [normed if tap == last else found[tap].output for tap in taps]
            tapped = mx.concatenate(states, axis=-1)
        return self._logits(normed[0, -num_logits:]), tapped

    def memory_bytes(self) -> int:
        """Bytes of its weights."""
        return weight_bytes(self.model)

    def _logits(self, hidden: mx.array) -> mx.array:
        """What the family makes of its body's output: head, scale and soft cap are its own."""
        logits: mx.array = view(self._text, model=Given(self._body, hidden))(None)
        return logits
