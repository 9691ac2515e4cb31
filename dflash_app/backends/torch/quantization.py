"""Weights in fewer bits: bitsandbytes' while loading, and checkpoints that come quantised.

Packed MXFP4 and FP8 run on kernels that transformers fetches from the hub, which is remote code:
they are unpacked while loading, on every device. transformers 5.23 must be told so: by itself it
found on a CPU that they need unpacking, and then took the packed numbers for weights.
"""

import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.utils import quantization_config as transformers_configs

from dflash_app.engine.protocol import Quantization
from dflash_app.errors import BackendUnavailable, LoadError, UnsupportedFormat

BLOCK = 64
"""Both sides of a matrix must be a multiple: bitsandbytes' blocks of nf4, and its CPU kernel's 32
rows. GatedDeltaNet's gates, for one, are narrower."""

MADE_ON_LOAD = ("nf4", "int8")
"""What a load can be asked for: bitsandbytes makes them of full weights."""

_PACKAGES: dict[str, tuple[str, ...]] = {
    "bitsandbytes": ("bitsandbytes",),
    "mxfp4": (),
    "fp8": (),
    "compressed-tensors": ("compressed-tensors",),
    "awq": ("gptqmodel",),
    "gptq": ("optimum", "gptqmodel"),
}
"""What each method of a checkpoint needs, by the names that pip knows."""

_configs: Any = transformers_configs
_UNPACKED = ("mxfp4", "fp8", "compressed-tensors")
_UNPACKED_MARK = ", unpacked"
_CPU_BFLOAT16 = "support_avx512bf16_for_cpu"
_READ_IN_FOUR_DIMENSIONS = "kv_b_proj"
"""In latent attention (deepseek_v3, kimi_k25, glm_moe_dsa); bitsandbytes' int8 reads three."""
_SCALES = re.compile(
    r"(?P<layer>.*?layers\.\d+)\..*(scale|scales|scale_inv|blocks|absmax|qzeros|qweight|packed)$"
)


@dataclass(frozen=True, slots=True)
class Storage:
    """How a target's weights are kept.

    Attributes:
        name: "nf4", "int8", or a checkpoint's own method; None where they are plain numbers.
        config: how transformers shall quantise while it loads; None does not.
        warning: a sentence for the user, or None.
    """

    name: str | None = None
    config: Any = None
    warning: str | None = None


PLAIN = Storage()


def choose_storage(
    folder: Path, raw: Mapping[str, Any], wanted: Quantization | None, dtype: torch.dtype
) -> Storage:
    """How to keep the weights of a target's folder; looks at no weight.

    Args:
        folder: named in messages.
        raw: its config.json.
        wanted: None takes the checkpoint as it comes.
        dtype: to compute in.

    Raises:
        BackendUnavailable: a package is missing; the message names it.
        UnsupportedFormat: a method that is not supported.
        LoadError: the checkpoint is quantised already.
    """
    found = _found(raw)
    if "quantization" in raw:
        raise UnsupportedFormat(
            f"The target in {folder} is quantised by mlx-lm, which PyTorch does not read: use the "
            "mlx backend, or choose the full checkpoint."
        )
    if found is None:
        if wanted is None:
            return PLAIN
        check_bitsandbytes(wanted)
        return Storage(wanted, _bitsandbytes_config(wanted, dtype))
    method = str(found.get("quant_method") or "unknown")
    if wanted is not None:
        raise LoadError(
            f"The target in {folder} comes quantised ({method}) and cannot be stored as {wanted}: "
            "leave the precision on auto, or choose the full checkpoint."
        )
    if method not in _PACKAGES:
        raise UnsupportedFormat(
            f"The target in {folder} is quantised by {method!r}, which is not supported (only "
            f"{', '.join(_PACKAGES)} are): choose the full checkpoint."
        )
    missing = [name for name in _PACKAGES[method] if find_spec(name.replace("-", "_")) is None]
    if missing:
        raise BackendUnavailable(
            f"The target in {folder} is quantised by {method}, which needs a package that is not "
            f"installed: run `pip install {' '.join(missing)}`, or choose the full checkpoint."
        )
    if method in _UNPACKED:
        return Storage(
            method + _UNPACKED_MARK,
            warning=f"The weights come packed ({method}) and are unpacked to {_name(dtype)}: they "
            "keep their values and take as much memory as full weights.",
        )
    if method == "bitsandbytes":
        four_bits = bool(found.get("load_in_4bit"))
        return Storage(str(found.get("bnb_4bit_quant_type", "fp4")) if four_bits else "int8")
    return Storage(method)


def prepare(config: Any, storage: Storage, model_class: Any, dtype: torch.dtype) -> None:
    """Set in a config from transformers how a quantised target is loaded and computes.

    Args:
        config: as AutoConfig read it; changed.
        storage: from `choose_storage`; its config is changed.
        model_class: the auto class that will load it.
        dtype: to compute in.
    """
    for part in (config, config.get_text_config(decoder=True)):
        found: Any = getattr(part, "quantization_config", None)
        method = found.get("quant_method") if isinstance(found, dict) else None
        if method in _UNPACKED:
            found["dequantize"] = True
        elif method == "bitsandbytes":
            _import_bitsandbytes()
            # With outliers apart, a token's result depends on the tokens beside it.
            found["llm_int8_threshold"] = 0.0
            found["bnb_4bit_compute_dtype"] = _name(dtype)
    if isinstance(storage.config, _configs.BitsAndBytesConfig):
        _import_bitsandbytes()
        storage.config.llm_int8_skip_modules = _left_whole(
            config, model_class, in_int8=storage.name == "int8"
        )


def check_understood(
    folder: Path, storage: Storage, model: nn.Module, unexpected: set[str]
) -> None:
    """Refuse a quantised checkpoint of which transformers left scales or packed numbers unread.

    Args:
        folder: named in messages.
        storage: how its weights are kept.
        model: that was made of it.
        unexpected: keys that were not read; those of layers that the model lacks may be (MTP).

    Raises:
        UnsupportedFormat: the weights would be read as something else than they are.
    """
    layers = {name for name, _ in model.named_modules()}
    scales = (_SCALES.match(key) for key in unexpected)
    unread = sorted(found[0] for found in scales if found and found["layer"] in layers)
    if storage.name is not None and unread:
        raise UnsupportedFormat(
            f"The target in {folder} is quantised in a way that transformers does not understand "
            f"({unread[0]} is not read): choose the full checkpoint."
        )


def settle_dtype(model: Any, storage: Storage, dtype: torch.dtype) -> None:
    """Let every layer of a loaded model compute in `dtype`, unless its family asks for float32."""
    _multiply_in(dtype, model)
    if not str(storage.name).endswith(_UNPACKED_MARK):
        return
    # FP8 weights come out in the dtype of their scales.
    kept = {
        *(getattr(model, "_keep_in_fp32_modules", None) or ()),
        *(getattr(model, "_keep_in_fp32_modules_strict", None) or ()),
    }
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and not any(part in name for part in kept):
            parameter.data = parameter.data.to(dtype)


def _multiply_in(dtype: torch.dtype, module: nn.Module) -> None:
    """On CPUs with AVX512-BF16, bitsandbytes multiplies nf4 in bfloat16 whatever it is asked for.

    Then float32 would not be lossless.
    """
    for part in module.modules():
        if hasattr(part, _CPU_BFLOAT16) and dtype != torch.bfloat16:
            setattr(part, _CPU_BFLOAT16, False)


def quantized_share(model: nn.Module) -> float:
    """The part of a model's weights that bitsandbytes' layers hold, in [0, 1]."""
    held = sum(
        part.in_features * part.out_features
        for part in model.modules()
        if isinstance(part, nn.Linear) and type(part) is not nn.Linear
    )
    plain = sum(
        parameter.numel() for parameter in model.parameters() if parameter.is_floating_point()
    )
    return held / max(1, held + plain)


def quantize_linears(
    module: nn.Module, kind: Quantization, device: torch.device, dtype: torch.dtype
) -> None:
    """Replace a module's linear layers by bitsandbytes' ones; a head (`lm_head`) stays whole.

    Args:
        module: on the CPU; changed in place, one layer at a time.
        kind: what they are stored as.
        device: where they go; the rest stays.
        dtype: to compute in.

    Raises:
        BackendUnavailable: bitsandbytes is missing.
    """
    check_bitsandbytes(kind)
    layers = _import_bitsandbytes()
    for name, part in list(module.named_modules()):
        if type(part) is nn.Linear and not _is_odd(part) and name != "lm_head":
            module.set_submodule(name, _quantized(layers, part, kind, device, dtype))
    _multiply_in(dtype, module)


def multiplies_bfloat16() -> bool:
    """Whether this CPU has AVX512-BF16, which bitsandbytes' kernel for nf4 needs."""
    cpu: Any = torch.cpu
    return bool(cpu._is_avx512_bf16_supported())


def check_bitsandbytes(kind: str) -> None:
    """Ask for bitsandbytes where it is missing.

    Raises:
        BackendUnavailable: it is.
        UnsupportedFormat: bitsandbytes does not store weights so.
    """
    if kind not in MADE_ON_LOAD:
        raise UnsupportedFormat(
            f"PyTorch does not store weights as {kind}: use {' or '.join(MADE_ON_LOAD)}, or the "
            "mlx backend."
        )
    if find_spec("bitsandbytes") is None:
        raise BackendUnavailable(
            f"Storing weights as {kind} needs bitsandbytes: run "
            "`pip install 'dflash-studio[cuda]'` or `pip install bitsandbytes`."
        )


def _import_bitsandbytes() -> Any:
    """Its layers, and neither its log of every cast nor code from elsewhere.

    On some CPUs its import fetches a kernel from the hub and runs it, if `kernels` is installed.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    absent = object()
    kernels: Any = sys.modules.get("kernels", absent)
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        return import_module("bitsandbytes.nn")
    finally:
        del sys.modules["kernels"]
        if kernels is not absent:
            sys.modules["kernels"] = kernels


def _quantized(
    layers: Any, part: nn.Linear, kind: Quantization, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    shape = (part.in_features, part.out_features, part.bias is not None)
    weight = part.weight.detach()
    layer: Any
    with torch.device("meta"):
        if kind == "nf4":
            layer = layers.Linear4bit(*shape, compute_dtype=dtype, quant_type="nf4")
        else:
            layer = layers.Linear8bitLt(*shape, has_fp16_weights=False, threshold=0.0)
    if kind == "nf4":
        layer.weight = layers.Params4bit(weight, requires_grad=False, quant_type="nf4").to(device)
    else:
        layer.weight = layers.Int8Params(weight, requires_grad=False).to(device)
    if part.bias is not None:
        layer.bias = nn.Parameter(part.bias.detach().to(device), requires_grad=False)
    quantized: nn.Module = layer.eval()
    return quantized


def _bitsandbytes_config(kind: Quantization, dtype: torch.dtype) -> Any:
    if kind == "nf4":
        return _configs.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    return _configs.BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)


def _left_whole(config: Any, model_class: Any, *, in_int8: bool) -> list[str]:
    """Patterns of the layers that bitsandbytes must not take: odd ones, and the head."""
    with torch.device("meta"):
        model = model_class.from_config(config, trust_remote_code=False)
    odd = [
        re.escape(name)
        for name, part in model.named_modules()
        if type(part) is nn.Linear
        and (_is_odd(part) or (in_int8 and name.endswith(_READ_IN_FOUR_DIMENSIONS)))
    ]
    return odd + [str(name) for name in get_keys_to_not_convert(model)]


def _is_odd(part: nn.Linear) -> bool:
    return part.in_features % BLOCK != 0 or part.out_features % BLOCK != 0


def _found(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The quantisation that a config.json names; wrappers may name their text model's."""
    for part in (raw, raw.get("text_config")):
        if isinstance(part, Mapping) and part.get("quantization_config"):
            found = part["quantization_config"]
            return found if isinstance(found, Mapping) else {}
    return None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
