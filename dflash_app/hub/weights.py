"""Bytes that a model's weights take once loaded, from the names, types and shapes of its tensors.

These come from the headers of local files (`headers.stored_tensors`) or from the hub's metadata of
a repository that nobody downloaded yet; no weight is read.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, TypeAlias

from dflash_app.hub.model_config import UNPACKED, RawConfig, text_config, ties_embeddings

FLOAT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""By the dtype that a model computes in."""
BLOCK = 64
"""Of nf4, whose matrices must be multiples of it, and of MLX's groups."""


class Header(Protocol):
    """A stored tensor: `headers.StoredTensor`, or huggingface_hub's `TensorInfo`."""

    @property
    def dtype(self) -> str:
        """The format's word ("BF16") or PyTorch's ("bfloat16")."""

    @property
    def shape(self) -> Sequence[int]: ...


Headers: TypeAlias = Mapping[str, Header]
"""By the tensors' names."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor as the model will have it.

    Attributes:
        name: in the checkpoint.
        shape: unpacked, where the loader unpacks it.
        stored: "bfloat16", or "packed"; None for a type that is kept as it is.
        raw_bytes: of a tensor that is kept as it is.
        in_float32: its family asks for that in every precision.
    """

    name: str
    shape: tuple[int, ...]
    stored: str | None
    raw_bytes: int = 0
    in_float32: bool = False

    @property
    def num_elements(self) -> int:
        return prod(self.shape)

    @property
    def is_embedding(self) -> bool:
        return "embed" in self.name

    @property
    def is_head(self) -> bool:
        return re.search(r"(^|\.)(lm_)?head\.weight$", self.name) is not None

    @property
    def is_linear(self) -> bool:
        """Whether it is the matrix of a linear layer of its own, the head included.

        Experts are held together in tensors of three dimensions, and routers are no linear layers.
        """
        matrix = len(self.shape) == 2 and self.name.endswith(".weight")
        return matrix and not self.is_embedding and not _NO_LINEAR.search(self.name)

    def num_bytes(self, dtype: str) -> int:
        """Bytes where the model computes in `dtype`, not quantised."""
        if self.stored is None:
            return self.raw_bytes
        return self.num_elements * FLOAT_BYTES["float32" if self.in_float32 else dtype]


_NO_LINEAR = re.compile(r"\.experts\.|\.(gate|router|conv1d|norm)\.weight$|hc_|compressor\.ape")
_GROUPED = re.compile(r"\.(o_a_proj|wo_a)\.weight$")
"""deepseek_v4: a product for each group of heads, which bitsandbytes does not take."""
_TOWERS = re.compile(
    r"(^|\.)(vision_\w+|visual|audio_\w+|embed_vision|embed_audio|mm_projector|"
    r"multi_modal_projector)\."
)
_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks)\.(\d+)\.")
_FLOATS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8", "F8_E5M2": "float8", "float64": "float64", "float32": "float32",
    "float16": "float16", "bfloat16": "bfloat16", "float8_e4m3fn": "float8",
    "float8_e5m2": "float8",
}  # fmt: skip
_OTHER_BYTES = {
    "I64": 8,
    "int64": 8,
    "U64": 8,
    "I32": 4,
    "int32": 4,
    "U32": 4,
    "I16": 2,
    "int16": 2,
    "U16": 2,
}
_IN_FLOAT32: dict[str, str] = {
    "deepseek_v3": r"e_score_correction_bias$",
    "glm_moe_dsa": r"e_score_correction_bias$",
    "deepseek_v4": r"hc_|attn_sink|norm\.weight$|\.ape$|gate\.bias$",
}
"""By family: what transformers 5.23 keeps in float32, by its name in published checkpoints."""
_SCALES = re.compile(r"(_scale_inv|[._]scales?|_zero_point|_shape|_g_idx|_global_scale)$")
_PACKED = re.compile(r"(_blocks|_packed)$")


def target_weights(headers: Headers, raw: RawConfig) -> list[Weight]:
    """The tensors of a target that the loader keeps.

    Towers of multimodal wrappers, layers that predict several tokens, and a head that is tied are
    dropped; packed tensors count as what they are unpacked to.

    Args:
        headers: of its files.
        raw: its config.json.

    Raises:
        LoadError: the config does not say the model's shape.
    """
    text = text_config(raw)
    wrapped = any("language_model." in name for name in headers)
    tied = ties_embeddings(raw)
    quantised = _quantised(raw)
    float32 = re.compile(_IN_FLOAT32.get(text["family"], r"(?!)"))
    kept = []
    for name, header in headers.items():
        if _is_dropped(name, int(text["num_hidden_layers"]), wrapped=wrapped):
            continue
        weight = _unpacked(name, header, quantised)
        if weight is None or (tied and weight.is_head):
            continue
        in_float32 = float32.search(name) is not None
        kept.append(Weight(weight.name, weight.shape, weight.stored, weight.raw_bytes, in_float32))
    return kept


def drafter_weights(headers: Headers) -> list[Weight]:
    """The tensors of a drafter: all, but frequencies that follow from its config."""
    weights = (_unpacked(name, header, None) for name, header in headers.items())
    return [each for each in weights if each and not each.name.endswith("rotary_emb.inv_freq")]


def weight_bytes(weights: Iterable[Weight], dtype: str, quantization: str | None = None) -> int:
    """Bytes held in weights.

    Args:
        weights: of a target or a drafter.
        dtype: that the model computes in: "float32", "bfloat16", "float16".
        quantization: "nf4" or "int8" by bitsandbytes (linear layers, the head apart), "4bit"
            or "8bit" by MLX (every matrix that is wide enough, in groups of 64); None as dtype.
    """
    return sum(_held_bytes(weight, dtype, quantization) for weight in weights)


def context_size(weights: Iterable[Weight]) -> int:
    """Numbers that a drafter keeps for each token of its context: the rows of its keys and values.

    Args:
        weights: of the drafter, in any format that the app reads.
    """
    names = ("k_proj.weight", "v_proj.weight")
    return sum(weight.shape[0] for weight in weights if weight.name.endswith(names))


def tapped_size(weights: Iterable[Weight]) -> int:
    """Numbers of the target's states that a drafter reads of each token.

    Args:
        weights: of the drafter.
    """
    return sum(prod(each.shape[1:]) for each in weights if each.name.endswith("fc.weight"))


def _held_bytes(weight: Weight, dtype: str, quantization: str | None) -> int:
    plain = weight.num_bytes(dtype)
    if quantization is None or weight.stored is None or weight.in_float32:
        return plain
    if quantization in ("4bit", "8bit"):
        return _mlx_bytes(weight, int(quantization[0]), plain)
    if not weight.is_linear or weight.is_head or any(size % BLOCK for size in weight.shape):
        return plain
    # As `backends.torch.quantization` leaves them whole; a test holds them equal.
    in_int8 = quantization == "int8"
    if _GROUPED.search(weight.name) or (in_int8 and weight.name.endswith("kv_b_proj.weight")):
        return plain
    if quantization == "nf4":
        # Two numbers a byte, a scale in float32 for each block, and the sixteen levels.
        return weight.num_elements // 2 + weight.num_elements // BLOCK * 4 + 16 * 4
    return weight.num_elements + weight.shape[0] * 4


def _mlx_bytes(weight: Weight, bits: int, plain: int) -> int:
    """A scale and a bias in 16 bits for each group of 64, of matrices and of experts together."""
    is_matrix = len(weight.shape) >= 2 and "norm" not in weight.name and "conv" not in weight.name
    if not is_matrix or weight.shape[-1] % BLOCK:
        return plain
    return weight.num_elements * bits // 8 + weight.num_elements // BLOCK * 4


def _is_dropped(name: str, num_layers: int, *, wrapped: bool) -> bool:
    if wrapped and "language_model." not in name:
        return not name.startswith("lm_head.")
    layer = _LAYER.search(name)
    beyond = layer is not None and int(layer[1]) >= num_layers
    extra = name.startswith("mtp.") or ".mtp." in name or name.endswith("inv_freq")
    return beyond or extra or (not wrapped and _TOWERS.search(name) is not None)


def _quantised(raw: RawConfig) -> Mapping[str, Any] | None:
    """How the checkpoint was quantised, where the loader unpacks that."""
    for part in (raw, raw.get("text_config") or {}):
        found = part.get("quantization_config")
        if isinstance(found, Mapping) and found.get("quant_method") in UNPACKED:
            return found
    return None


def _unpacked(name: str, header: Header, quantised: Mapping[str, Any] | None) -> Weight | None:
    """A tensor as it will be held; None for scales that unpacking uses up."""
    shape = tuple(int(size) for size in header.shape)
    stored = _FLOATS.get(header.dtype)
    item_bytes = _OTHER_BYTES.get(header.dtype, 1)
    if quantised is not None:
        if _SCALES.search(name):
            return None
        if stored is None and (_PACKED.search(name) or name.endswith(".weight")):
            return _of_codes(name, shape, item_bytes, quantised)
    return Weight(name, shape, stored, raw_bytes=prod(shape) * item_bytes)


def _of_codes(
    name: str, shape: tuple[int, ...], item_bytes: int, quantised: Mapping[str, Any]
) -> Weight:
    """Packed numbers: four bits each unless the config says otherwise, along the last dimension."""
    bits = _num_bits(quantised)
    plain = _PACKED.sub("", name)
    if quantised.get("quant_method") == "mxfp4":
        # [experts, rows, groups, bytes]: groups lie side by side.
        shape = (*shape[:-2], shape[-2] * shape[-1])
    return Weight(plain, (*shape[:-1], shape[-1] * item_bytes * 8 // bits), "packed")


def _num_bits(quantised: Mapping[str, Any]) -> int:
    groups = quantised.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping) and isinstance(weights.get("num_bits"), int):
            return int(weights["num_bits"])
    return 4
