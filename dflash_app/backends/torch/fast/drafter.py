"""The drafter of the fast path: DFlash of the first generation, every attention rule."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dflash_app.backends.torch.dflash import DFlashDrafter, Proposal, Sampler
from dflash_app.backends.torch.fast.kv import LayerViews, StaticKV
from dflash_app.backends.torch.fast.layer import (
    Heads,
    Layer,
    build_layer,
    linears_of,
    rms_norm,
    run_layer,
)
from dflash_app.backends.torch.fast.masks import Masks
from dflash_app.backends.torch.fast.products import (
    Apply,
    Kernels,
    Product,
    by_columns,
    choose_kernels,
    fuse,
    why_not_linears,
)
from dflash_app.backends.torch.fast.rope import RopeTable, rotate


def why_not_drafter(drafter: DFlashDrafter) -> str | None:
    """Why the fast path does not run this drafter, or None where it does."""
    if drafter.config.selector is not None:
        return "DFlash 2's layers mix neighbouring slots"
    if drafter.config.hidden_act != "silu":
        return f"the activation is {drafter.config.hidden_act}"
    linears: list[Any] = [drafter.fc]
    for layer in drafter.layers:
        linears += linears_of(layer)
    return why_not_linears(linears, drafter.parameters())


class Projected(NamedTuple):
    """What `FastDrafter.project_context` makes of tokens, whatever their positions.

    Attributes:
        keys: [T, layers * kv heads, head_dim], normed, not rotated.
        values: [T, layers * kv heads, head_dim].
    """

    keys: Tensor
    values: Tensor


class DraftContext:
    """A `context.ContextCache` on static buffers; drafting writes the block behind it.

    Args:
        kv: empty.
        rope: the drafter's.
    """

    def __init__(self, kv: StaticKV, rope: RopeTable) -> None:
        self._kv = kv
        self._rope = rope

    @property
    def length(self) -> int:
        """Tokens held."""
        return self._kv.length

    def append(self, new: Projected) -> None:
        """Add tokens at the end."""
        num_tokens = new.keys.shape[0]
        keys = rotate(new.keys, *self._rope.rows(self._kv.length, num_tokens))
        self._kv.append(keys, new.values)

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens."""
        self._kv.length = min(self._kv.length, length)

    def layers(self) -> "DraftContext":
        """Itself: `FastDrafter.draft` takes it whole."""
        return self

    def views(self, num_tokens: int) -> Iterator[LayerViews]:
        """Room for a block, which is never held."""
        return self._kv.views(num_tokens)


class FastDrafter:
    """What a lane asks of a `DFlashDrafter`, with fused layers and a static context.

    The context's keys and values of all layers are one product.

    Args:
        drafter: one that `why_not_drafter` says nothing about, in eval mode, on its device. It
            gives the weights of its layers away, and turns states into tokens as before.

    Attributes:
        config: the drafter's.
        own_bytes: of weights that are no parameters of the drafter.
        read_bytes: of weights that a draft and its context read, the head apart.
    """

    def __init__(self, drafter: DFlashDrafter) -> None:
        self.config = config = drafter.config
        self._drafter = drafter
        like, eps = drafter.fc.weight, config.rms_norm_eps
        self._like = drafter.norm.weight
        self._heads = Heads(config.num_attention_heads, config.num_key_value_heads, config.head_dim)
        self._masks = Masks(self._heads.num_heads // self._heads.num_kv_heads, like)
        self._rope = RopeTable(drafter.rotary, like)
        kernels = choose_kernels(like, sum(weight.nbytes for weight in drafter.parameters()))
        with torch.no_grad():
            attentions: list[Any] = [layer.self_attn for layer in drafter.layers]
            self._context_kv = _context_product(attentions, kernels)
            per_head = [
                each.k_norm.weight.expand(config.num_key_value_heads, -1) for each in attentions
            ]
            self._context_norm = rms_norm(torch.cat(per_head), eps)
            self._fc = fuse([drafter.fc], kernels)
            self._hidden_norm = rms_norm(drafter.hidden_norm.weight, eps)
            self._layers = [
                build_layer(layer, self._heads, eps, kernels) for layer in drafter.layers
            ]
            self._norm = rms_norm(drafter.norm.weight, eps)
        products: list[Product | Layer] = [self._fc, self._context_kv, *self._layers]
        self.own_bytes = sum(each.own_bytes for each in products)
        self.read_bytes = sum(each.read_bytes for each in products)

    def new_context(self) -> DraftContext:
        """An empty context for one request."""
        config = self.config
        kv = StaticKV(
            config.num_hidden_layers, config.num_key_value_heads, config.head_dim, self._like
        )
        return DraftContext(kv, self._rope)

    def project_context(self, tapped: Tensor, positions: Tensor) -> Projected:
        """Turn tapped states into every layer's keys and values, once per committed token.

        Args:
            tapped: [1, T, taps * hidden].
            positions: not looked at: a context rotates what is appended to it.
        """
        del positions
        hidden = self._hidden_norm(self._fc(tapped[0]))
        keys, values = (
            self._context_kv(hidden).view(hidden.shape[0], 2, -1, self.config.head_dim).unbind(1)
        )
        return Projected(self._context_norm(keys), values)

    def draft(self, block_embeddings: Tensor, context: DraftContext, position: int) -> Tensor:
        """Run one block after a context of all positions below `position`.

        Args:
            block_embeddings: [1, B, hidden], anchor first.
            context: holds positions 0 .. position - 1.
            position: position of the anchor.

        Returns:
            [1, B - 1, hidden], normed: the states that hold the drafts, in order.

        Raises:
            ValueError: the context holds another number of tokens.
        """
        if context.length != position:
            raise ValueError(f"the context holds {context.length} tokens, not {position}")
        hidden = block_embeddings[0]
        if self.config.drafts_from_anchor:
            # Slot k holds draft k + 1: the last slot would hold one too many.
            hidden = hidden[:-1]
        width = hidden.shape[0]
        rotation = self._rope.rows(position, width)
        rules = self.config.attention_rules
        for layer, rule, views in zip(self._layers, rules, context.views(width), strict=True):
            num_keys, seen = position + width, views
            if rule.window is not None and position >= rule.window:
                # The anchor reaches window - 1 tokens back, later slots less far.
                num_keys = rule.window - 1 + width
                seen = views.last(num_keys)
            mask = self._masks.mask(rule, width, num_keys)
            hidden = run_layer(layer, hidden, rotation, seen, mask)
        hidden = self._norm(hidden)
        return (hidden if self.config.drafts_from_anchor else hidden[1:])[None]

    def propose(
        self, hidden: Tensor, anchor_id: Tensor, head: Apply, sampler: Sampler | None
    ) -> Proposal:
        """Turn states into drafted tokens; see `DFlashDrafter.propose`."""
        if sampler is not None:
            return self._drafter.propose(hidden, anchor_id, head, sampler)
        logits = self._drafter.logits(hidden, head)
        # The largest probability, in half the time that logsumexp takes.
        confidences = logits.softmax(dim=-1, dtype=torch.float32).amax(dim=-1)
        return Proposal(logits.argmax(dim=-1), None, confidences)

    def embed(self, token_ids: Tensor, embedding: Tensor) -> Tensor:
        """See `DFlashDrafter.embed`."""
        return self._drafter.embed(token_ids, embedding)


def _context_product(attentions: list[Any], kernels: Kernels) -> Product:
    """[T, hidden] -> [T, 2 * layers * kv heads * head_dim]: all keys, then all values."""
    linears: list[nn.Linear] = [each.k_proj for each in attentions]
    linears += [each.v_proj for each in attentions]
    weight = by_columns(torch.cat([linear.weight.data for linear in linears]))
    biases: list[Tensor] = [each.bias for each in linears if each.bias is not None]
    return Product(weight, torch.cat(biases) if biases else None, kernels)
