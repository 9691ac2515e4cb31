"""The target of the fast path: dense Qwen3 and Llama, full attention, unquantised."""

from typing import Any

import torch
from torch import Tensor

from dflash_app.backends.torch.fast.kv import StaticKV
from dflash_app.backends.torch.fast.layer import (
    Heads,
    Layer,
    build_layer,
    linears_of,
    rms_norm,
    run_layer,
)
from dflash_app.backends.torch.fast.masks import CAUSAL, Masks
from dflash_app.backends.torch.fast.products import Product, choose_kernels, why_not_linears
from dflash_app.backends.torch.fast.rope import RopeTable
from dflash_app.backends.torch.target import TorchTarget

_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Frequencies that do not depend on the length."""


def why_not(model: Any) -> str | None:
    """Why the fast path does not run this model, or None where it does.

    Args:
        model: from transformers.
    """
    return _other_shape(model) or _other_weights(model)


def _other_shape(model: Any) -> str | None:
    config = model.config
    if type(model).__name__ not in ("Qwen3ForCausalLM", "LlamaForCausalLM"):
        return f"the family {config.model_type} is neither dense Qwen3 nor Llama"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        return "some layers attend to a sliding window"
    if config.hidden_act != "silu":
        return f"the activation is {config.hidden_act}"
    rope_type = (config.rope_parameters or {}).get("rope_type", "default")
    if rope_type not in _ROPE_TYPES:
        return f"rotations of the type {rope_type} depend on the length"
    return None


def _other_weights(model: Any) -> str | None:
    linears = [model.get_output_embeddings()]
    for layer in model.model.layers:
        linears += linears_of(layer)
    return why_not_linears(linears, model.parameters())


class FastTarget(TorchTarget):
    """A `TorchTarget` that is a loop over fused layers, with a static cache.

    Args:
        model: one that `why_not` says nothing about, in eval mode, on its device. It gives its
            weights away: only its embedding and its configs can be used afterwards.

    Attributes:
        head: [T, hidden] -> [T, V].
        own_bytes: of weights that are no parameters of the model.
        read_bytes: of weights that a step reads.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        config, body, like = self.config, model.model, self.embedding
        head_dim = body.layers[0].self_attn.head_dim
        self._heads = Heads(config.num_attention_heads, config.num_key_value_heads, head_dim)
        self._masks = Masks(self._heads.num_heads // self._heads.num_kv_heads, like)
        kernels = choose_kernels(like, sum(weight.nbytes for weight in model.parameters()))
        eps = config.rms_norm_eps
        with torch.no_grad():
            self._layers = [build_layer(layer, self._heads, eps, kernels) for layer in body.layers]
            self._norm = rms_norm(body.norm.weight, eps)
            linear: Any = model.get_output_embeddings()
            head = Product(linear.weight, linear.bias, kernels)
            if head.is_half and linear.weight is not like:
                linear.weight.data = linear.weight.new_empty(0)
        self.head: Any = head
        products: list[Product | Layer] = [head, *self._layers]
        self.own_bytes = sum(each.own_bytes for each in products)
        self.read_bytes = sum(each.read_bytes for each in products)
        wide = torch.empty(0, dtype=torch.float32, device=like.device)
        self._rope = RopeTable(lambda positions: body.rotary_emb(wide, positions[None]), like)

    def new_cache(self) -> StaticKV:
        """An empty cache for one request."""
        _, num_kv_heads, head_dim = self._heads
        return StaticKV(self.num_layers, num_kv_heads, head_dim, self.embedding)

    def forward(
        self, token_ids: Tensor, cache: Any, num_logits: int, taps: tuple[int, ...] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """Run tokens after those in the cache; see `TorchTarget.forward`.

        Args:
            token_ids: [T] int64 on the device.
            cache: from `new_cache`; None runs without one.
            num_logits: how many of the last positions get logits, at least 1.
            taps: 0-based layers whose output is kept.

        Returns:
            (logits, tapped): [num_logits, V], and [1, T, taps * hidden] or None without taps.
        """
        cache = self.new_cache() if cache is None else cache
        num_tokens, last = token_ids.shape[0], self.num_layers - 1
        mask = self._masks.mask(CAUSAL, num_tokens, cache.length + num_tokens)
        rotation = self._rope.rows(cache.length, num_tokens)
        hidden = self.embedding.index_select(0, token_ids)
        kept = {}
        layers = zip(self._layers, cache.views(num_tokens), strict=True)
        for index, (layer, views) in enumerate(layers):
            hidden = run_layer(layer, hidden, rotation, views, mask)
            if index in taps:
                kept[index] = hidden
        cache.length += num_tokens
        if last in taps:
            hidden = kept[last] = self._norm(hidden)
        hidden = hidden.narrow(0, num_tokens - num_logits, num_logits)
        logits = self.head(hidden if last in taps else self._norm(hidden))
        return logits, torch.cat([kept[tap] for tap in taps], dim=-1)[None] if taps else None
