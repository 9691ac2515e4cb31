"""The drafter of the fast path: DFlash of the first generation, every attention rule."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dflash_app.backends.torch.dflash import DFlashDrafter, Proposal, Sampler
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
from dflash_app.backends.torch.fast.masks import Masks, keys_near, mask_at
from dflash_app.backends.torch.fast.products import (
    Apply,
    Kernels,
    Product,
    by_columns,
    choose_kernels,
    fuse,
    why_not_linears,
)
from dflash_app.backends.torch.fast.recorder import Outputs, Recorder
from dflash_app.backends.torch.fast.rope import RopeTable, rotate
from dflash_app.backends.torch.fast.steps import Fixed, Place, choose_steps
from dflash_app.backends.torch.layout import stored_bytes


def why_not_drafter(drafter: DFlashDrafter) -> str | None:
    """Why the fast path does not run this drafter, in a few words, or None where it does."""
    if drafter.config.selector is not None:
        return "DFlash 2"
    if drafter.config.hidden_act != "silu":
        return f"the activation {drafter.config.hidden_act}"
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
    """`drafting.DraftingContext` on static buffers; drafting writes the block behind it.

    Args:
        drafter: whose it is.
        kv: empty.
        rope: the drafter's.
    """

    def __init__(self, drafter: "FastDrafter", kv: StaticKV, rope: RopeTable) -> None:
        self._drafter = drafter
        self._kv = kv
        self._rope = rope

    @property
    def length(self) -> int:
        """Tokens held."""
        return self._kv.length

    def extend(self, tapped: Tensor) -> None:
        """Add committed tokens at the end.

        Args:
            tapped: [1, T, taps * hidden], the target's states of them.
        """
        if not self._drafter.extend(self._kv, tapped):
            self.append(self._drafter.project_context(tapped))

    def draft(self, block_embeddings: Tensor) -> Tensor:
        """Run one block after all tokens held; see `FastDrafter.draft`."""
        return self._drafter.draft(block_embeddings, self, self.length)

    def append(self, new: Projected) -> None:
        """Add tokens at the end."""
        num_tokens = new.keys.shape[0]
        keys = rotate(new.keys, *self._rope.rows(self._kv.length, num_tokens))
        self._kv.append(keys, new.values)

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens."""
        self._kv.length = min(self._kv.length, length)

    @property
    def kv(self) -> StaticKV:
        """Has room for a block, which is never held."""
        return self._kv


class FastDrafter:
    """What a lane asks of a `DFlashDrafter`, with fused layers and a static context.

    The context's keys and values of all layers are one product.

    Args:
        drafter: one that `why_not_drafter` says nothing about, in eval mode, on its device. It
            gives the weights of its layers away, and turns states into tokens as before.
        recorder: of steps; None takes what `choose_steps` takes for the device.

    Attributes:
        config: the drafter's.
        own_bytes: of weights that are no parameters of the drafter.
        read_bytes: of weights that a draft and its context read, the head apart.
    """

    def __init__(self, drafter: DFlashDrafter, recorder: Recorder | None = None) -> None:
        self.config = config = drafter.config
        self._drafter = drafter
        self.steps = choose_steps(drafter.fc.weight.device, recorder)
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
        if not self._context_kv.is_half:
            # Its weight is one more copy: the layers hold theirs for the block's own tokens.
            self.own_bytes += self._context_kv.read_bytes

    @property
    def path(self) -> str:
        """What a user reads of it: "CUDA graphs", "static cache"."""
        return self.steps.path

    @property
    def startup_s(self) -> float:
        """Seconds spent on recording steps so far."""
        return self.steps.seconds

    def memory_bytes(self) -> int:
        """Bytes held in weights, whichever way."""
        return stored_bytes(self._drafter) + self.own_bytes

    def new_context(self) -> DraftContext:
        """An empty context for one request."""
        config = self.config
        kv = StaticKV(
            config.num_hidden_layers,
            config.num_key_value_heads,
            config.head_dim,
            self._like,
            self.steps.spare,
        )
        return DraftContext(self, kv, self._rope)

    def project_context(self, tapped: Tensor) -> Projected:
        """Turn tapped states into every layer's keys and values, once per committed token.

        Args:
            tapped: [1, T, taps * hidden].
        """
        hidden = self._hidden_norm(self._fc(tapped[0]))
        keys, values = (
            self._context_kv(hidden).view(hidden.shape[0], 2, -1, self.config.head_dim).unbind(1)
        )
        return Projected(self._context_norm(keys), values)

    def extend(self, kv: StaticKV, tapped: Tensor) -> bool:
        """Add what a step committed as a step of fixed width; False where none are recorded.

        Args:
            kv: of a context.
            tapped: [1, T, taps * hidden]; nothing is done for more than a block of them.
        """
        num_tokens, width = tapped.shape[1], self.config.block_size
        if num_tokens > width:
            return False

        def body(tapped: Tensor, place: Place) -> Outputs:
            new = self.project_context(tapped[None])
            rotation = self._rope.gather(place.positions, place.bucket)
            place.buffers.write(place.positions, rotate(new.keys, *rotation), new.values)
            return ()

        fixed = Fixed("extend", width, body, sees=False)
        if self.steps.run(kv, fixed, tapped[0]) is None:
            return False
        kv.length += num_tokens
        return True

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
        states = self._fixed_draft(hidden, context.kv)
        if states is None:
            states = self._draft(hidden, context.kv)
        return (states if self.config.drafts_from_anchor else states[1:])[None]

    def _draft(self, hidden: Tensor, kv: StaticKV) -> Tensor:
        width, position = hidden.shape[0], kv.length
        seen: list[tuple[Views, Tensor | None]] = []
        for rule, views in zip(self.config.attention_rules, kv.views(width), strict=True):
            num_keys, near = position + width, views
            if rule.window is not None and position >= rule.window:
                # The anchor reaches window - 1 tokens back, later slots less far.
                num_keys = rule.window - 1 + width
                near = views.last(num_keys)
            seen.append((near, self._masks.mask(rule, width, num_keys)))
        return self._run(hidden, self._rope.rows(position, width), seen)

    def _fixed_draft(self, hidden: Tensor, kv: StaticKV) -> Tensor | None:
        """The same as a step of fixed width; None where none are recorded."""
        width, heads = hidden.shape[0], self._heads
        if width > MAX_GROUPED:
            return None

        def body(hidden: Tensor, place: Place) -> Outputs:
            groups = heads.num_heads // heads.num_kv_heads
            rules = self.config.attention_rules
            keys = {rule: keys_near(rule, place.positions, place.bucket) for rule in set(rules)}
            masks = {
                rule: mask_at(rule, place.positions, seen, groups, hidden.dtype)
                for rule, seen in keys.items()
            }
            seen: list[tuple[Views, Tensor | None]] = [
                (views.only(keys[rule]), masks[rule])
                for rule, views in zip(
                    rules, place.buffers.views(place.bucket, place.positions), strict=True
                )
            ]
            rotation = self._rope.gather(place.positions, place.bucket)
            return (self._run(hidden, rotation, seen),)

        outputs = self.steps.run(kv, Fixed("draft", width, body), hidden)
        return None if outputs is None else outputs[0]

    def _run(
        self,
        hidden: Tensor,
        rotation: tuple[Tensor, Tensor],
        seen: Iterable[tuple[Views, Tensor | None]],
    ) -> Tensor:
        for layer, (views, mask) in zip(self._layers, seen, strict=True):
            hidden = run_layer(layer, hidden, rotation, views, mask)
        return self._norm(hidden)

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
