"""The target of the fast path: dense Qwen3 and Llama, full attention, unquantised."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dflash_app.backends.torch.families import special_layers
from dflash_app.backends.torch.fast.attention import MAX_GROUPED
from dflash_app.backends.torch.fast.kv import StaticKV, Views
from dflash_app.backends.torch.fast.layer import (
    Heads,
    Layer,
    build_layer,
    linears_of,
    rms_norm,
    run_layer,
)
from dflash_app.backends.torch.fast.masks import CAUSAL, Masks, mask_at
from dflash_app.backends.torch.fast.products import Product, choose_kernels, why_not_linears
from dflash_app.backends.torch.fast.recorder import Outputs, Recorder
from dflash_app.backends.torch.fast.rope import RopeTable
from dflash_app.backends.torch.fast.steps import Fixed, Place, choose_steps, width_of
from dflash_app.backends.torch.target import TorchTarget

_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Frequencies that do not depend on the length."""


def why_not(model: Any) -> str | None:
    """Why the fast path does not run this model, in a few words, or None where it does.

    Args:
        model: from transformers.
    """
    return _other_shape(model) or _other_weights(model)


def _other_shape(model: Any) -> str | None:
    config = model.config
    special = special_layers(config.get_text_config(decoder=True))
    if special is not None:
        return special
    if type(model).__name__ not in ("Qwen3ForCausalLM", "LlamaForCausalLM"):
        return f"the family {config.model_type}"
    if config.hidden_act != "silu":
        return f"the activation {config.hidden_act}"
    rope_type = (config.rope_parameters or {}).get("rope_type", "default")
    if rope_type not in _ROPE_TYPES:
        return f"{rope_type} rotations"
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
        recorder: of steps; None takes what `choose_steps` takes for the device.

    Attributes:
        steps: those that were recorded, and `steps.path`, how it runs.
        head: [T, hidden] -> [T, V].
        own_bytes: of weights that are no parameters of the model.
        read_bytes: of weights that a step reads.
    """

    def __init__(self, model: Any, recorder: Recorder | None = None) -> None:
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
        self.steps = choose_steps(like.device, recorder)

    @property
    def path(self) -> str:
        """What a user reads of it: "CUDA graphs", "static cache"."""
        return self.steps.path

    @property
    def startup_s(self) -> float:
        """Seconds spent on recording steps so far."""
        return self.steps.seconds

    def new_cache(self) -> StaticKV:
        """An empty cache for one request."""
        _, num_kv_heads, head_dim = self._heads
        return StaticKV(self.num_layers, num_kv_heads, head_dim, self.embedding, self.steps.spare)

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
            (logits, tapped): [num_logits, V], and [1, T, taps * hidden] or None without taps; the
            next forward on this cache may write over them.
        """
        num_tokens = token_ids.shape[0]
        if cache is not None and num_logits == num_tokens <= MAX_GROUPED:
            outputs = self._fixed_step(token_ids, cache, taps)
            if outputs is not None:
                return outputs
        cache = self.new_cache() if cache is None else cache
        num_keys, is_step = cache.length + num_tokens, num_logits == num_tokens
        mask = self._masks.mask(CAUSAL, num_tokens, num_keys, keep=is_step)
        rotation = self._rope.rows(cache.length, num_tokens)
        views = cache.views(num_tokens)
        logits, *tapped = self._run(
            token_ids, rotation, views, mask, num_logits=num_logits, taps=taps
        )
        cache.length += num_tokens
        return logits, tapped[0][None] if taps else None

    def _fixed_step(
        self, token_ids: Tensor, cache: StaticKV, taps: tuple[int, ...]
    ) -> tuple[Tensor, Tensor | None] | None:
        """The forward where all tokens get logits; None where steps are not recorded."""
        groups, dtype = self._heads.num_heads // self._heads.num_kv_heads, self.dtype
        num_tokens = token_ids.shape[0]
        width = width_of(num_tokens)

        def body(token_ids: Tensor, place: Place) -> Outputs:
            seen = torch.arange(place.bucket, device=token_ids.device)
            mask = mask_at(CAUSAL, place.positions, seen, groups, dtype)
            rotation = self._rope.gather(place.positions, place.bucket)
            views = place.buffers.views(place.bucket, place.positions)
            return self._run(token_ids, rotation, views, mask, num_logits=width, taps=taps)

        outputs = self.steps.run(cache, Fixed(taps, width, body), token_ids)
        if outputs is None:
            return None
        cache.length += num_tokens
        logits, *tapped = (each.narrow(0, 0, num_tokens) for each in outputs)
        return logits, tapped[0][None] if taps else None

    def _run(
        self,
        token_ids: Tensor,
        rotation: tuple[Tensor, Tensor],
        views: Iterable[Views],
        mask: Tensor | None,
        *,
        num_logits: int,
        taps: tuple[int, ...],
    ) -> Outputs:
        """Logits [num_logits, V], and with taps their states [T, taps * hidden]."""
        num_tokens, last = token_ids.shape[0], self.num_layers - 1
        hidden = self.embedding.index_select(0, token_ids)
        kept = {}
        for index, (layer, seen) in enumerate(zip(self._layers, views, strict=True)):
            hidden = run_layer(layer, hidden, rotation, seen, mask)
            if index in taps:
                kept[index] = hidden
        if last in taps:
            hidden = kept[last] = self._norm(hidden)
        hidden = hidden.narrow(0, num_tokens - num_logits, num_logits)
        logits = self.head(hidden if last in taps else self._norm(hidden))
        return (logits, torch.cat([kept[tap] for tap in taps], dim=-1)) if taps else (logits,)
