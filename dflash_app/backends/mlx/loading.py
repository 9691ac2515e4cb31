"""From two folders to models in memory; needs neither registry nor hub."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_map_with_path

from dflash_app.backends.mlx.config import eos_ids as read_eos_ids
from dflash_app.backends.mlx.config import read_config
from dflash_app.backends.mlx.device import choose_device, say_device
from dflash_app.backends.mlx.dflash import DFlashDrafter
from dflash_app.backends.mlx.dflash2 import new_drafter
from dflash_app.backends.mlx.families import stored_as
from dflash_app.backends.mlx.layout import lay_out_for_products
from dflash_app.backends.mlx.memory import (
    FOR_MLX,
    check_room,
    estimate_pair,
    free_bytes,
    memory_limits,
    set_memory_limits,
)
from dflash_app.backends.mlx.models import MlxModels
from dflash_app.backends.mlx.quantization import check_name, check_storage, quantize
from dflash_app.backends.mlx.target import MlxTarget
from dflash_app.backends.mlx.weights import named_arrays
from dflash_app.drafters.checkpoint import open_checkpoint
from dflash_app.drafters.fits import check_fits
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import LoadError
from dflash_app.hub.model_files import weight_files
from dflash_app.hub.room import room_warning

DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}

_DAMAGE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, AssertionError)
"""What mlx and mlx-lm raise for damaged or strange files."""


def load_models(
    target_dir: Path,
    drafter_dir: Path | None,
    options: LoadOptions | None = None,
    *,
    eos_ids: Iterable[int] = (),
    target: MlxTarget | None = None,
) -> MlxModels:
    """Load a target and its drafter on the calling thread, which is the one that decodes.

    Args:
        target_dir: config.json and *.safetensors of a family in `families.ROLLBACK_KINDS`.
        drafter_dir: of a drafter in a format that is read; None loads the target alone.
        options: where to, in which precision, and with what.
        eos_ids: tokens that end a turn beside those in the target's configs (the tokenizer's).
        target: already loaded from `target_dir` with the same options: not loaded again.

    Raises:
        LoadError: a folder cannot become a model, or the two do not belong together.
        UnsupportedFormat: target family or drafter format are not implemented.
        BackendUnavailable: there is no such device here.
    """
    options = options or LoadOptions()
    check_options(options)
    device = choose_device(options.device)
    mx.set_default_device(device)
    dtype = choose_dtype(options.dtype, device)
    limits = memory_limits(mx.device_info())
    set_memory_limits(limits)
    wanted_dir = drafter_dir if options.drafter else None
    need = estimate_pair(target_dir, wanted_dir, options, say_dtype(dtype))
    free = free_bytes(limits)
    if target is not None and free is not None:
        free += target.memory_bytes()
    check_room(need, free)
    if target is None:
        target = load_target(target_dir, dtype, options.quantization)
    drafter = None
    if wanted_dir is not None:
        drafter = load_drafter(wanted_dir, dtype, options.drafter_quantization)
        check_fits(
            drafter.config,
            hidden_size=target.hidden_size,
            vocab_size=target.vocab_size,
            num_layers=target.num_layers,
        )
    return MlxModels(
        target,
        drafter,
        eos_ids,
        device=say_device(device),
        drafter_quantization=options.drafter_quantization if drafter is not None else None,
        limits=limits,
        need=need,
        room=room_warning(need, free, FOR_MLX) if need is not None and free is not None else None,
    )


def load_target(folder: Path, dtype: mx.Dtype, quantization: str | None = None) -> MlxTarget:
    """Read a target's safetensors through mlx-lm; no remote code, no network.

    Args:
        folder: config.json and *.safetensors, of Hugging Face or of mlx-community.
        dtype: what to turn them into, or to compute in where they stay quantised.
        quantization: what to store linear weights as; None as the checkpoint has them.

    Raises:
        UnsupportedFormat: another family or quantisation, or no safetensors.
        LoadError: files are missing, damaged, or do not fit the config, or weights are no numbers.
    """
    from mlx_lm.utils import load_model

    weight_files(folder)
    config = read_config(folder)
    stored = stored_as(config)
    check_storage(folder, config, quantization)
    try:
        model, config = load_model(folder, lazy=True, model_config=config)
    except _DAMAGE as error:
        raise LoadError(
            f"mlx-lm does not read the target in {folder} ({_words(error)}): download it again, "
            "choose an mlx-community conversion of it, or use the torch backend."
        ) from error
    _cast(model, dtype)
    _check_experts(model, dtype)
    if quantization is not None:
        quantize(model, quantization)
        stored = quantization
    lay_out_for_products(model)
    _settle(model, f"the target in {folder}")
    return MlxTarget(model, config, eos_ids=read_eos_ids(folder, config), quantization=stored)


def load_drafter(folder: Path, dtype: mx.Dtype, quantization: str | None = None) -> DFlashDrafter:
    """Read a drafter of any format that the app reads.

    Args:
        folder: config.json and *.safetensors.
        dtype: what to turn its weights into.
        quantization: what to store its linear weights as; None as `dtype`.

    Raises:
        UnsupportedFormat, LoadError: as `drafters.checkpoint.open_checkpoint`; or a weight is
            no number.
    """
    checkpoint = open_checkpoint(folder)
    drafter = new_drafter(checkpoint.config)
    files = {stored.file for stored in checkpoint.tensors.values()}
    try:
        opened: dict[Path, Any] = {file: mx.load(str(file)) for file in files}
    except _DAMAGE as error:
        raise LoadError(f"{folder} is damaged; download it again ({error}).") from error
    weights = [
        (name, _as(opened[stored.file][stored.name], dtype))
        for name, stored in checkpoint.tensors.items()
    ]
    drafter.load_weights(weights)
    drafter.eval()
    if quantization is not None:
        quantize(drafter, quantization)
    lay_out_for_products(drafter)
    _settle(drafter, f"the drafter in {folder}")
    return drafter


def check_target(folder: Path, options: LoadOptions) -> None:
    """Refuse what `load_models` refuses of a target and its options, before any weight is read.

    Raises:
        UnsupportedFormat, BackendUnavailable, LoadError: as `load_models`.
    """
    check_options(options)
    weight_files(folder)
    check_storage(folder, read_config(folder), options.quantization)
    limits = memory_limits(mx.device_info())
    if limits is not None:
        # All that the GPU may hold: what is in memory now goes before this is loaded.
        dtype = choose_dtype(options.dtype, choose_device(options.device))
        check_room(estimate_pair(folder, None, options, say_dtype(dtype)), limits.wired_bytes)


def check_options(options: LoadOptions) -> None:
    """Refuse what this backend cannot do; MLX's threads are its own, `num_threads` changes nothing.

    Raises:
        LoadError, UnsupportedFormat, BackendUnavailable.
    """
    if options.device == "auto" or options.max_memory_bytes is not None:
        raise LoadError(
            "MLX has one device with one memory: leave the device empty, and set no limit."
        )
    if options.snapshot:
        raise LoadError(
            "On MLX caches go back in their family's own way only: leave snapshots off, or use the "
            "torch backend."
        )
    check_name(options.quantization)
    check_name(options.drafter_quantization if options.drafter else None)
    choose_dtype(options.dtype, choose_device(options.device))


def choose_dtype(name: str | None, device: mx.Device) -> mx.Dtype:
    """float32 on the CPU and bfloat16 elsewhere, unless named.

    Raises:
        LoadError: unknown name.
    """
    if name is None:
        return mx.float32 if say_device(device) == "cpu" else mx.bfloat16
    if name not in DTYPES:
        raise LoadError(f"Unknown precision {name!r}: use {', '.join(DTYPES)}.")
    return DTYPES[name]


def say_dtype(dtype: mx.Dtype) -> str:
    """The dtype by its name: "bfloat16"."""
    return str(dtype).removeprefix("mlx.core.")


def _check_experts(model: nn.Module, dtype: mx.Dtype) -> None:
    """Say before the first forward what MLX's CPU kernels cannot do.

    Raises:
        LoadError: experts in half precision on the CPU.
    """
    from mlx_lm.models.switch_layers import SwitchLinear

    on_cpu = say_device(mx.default_device()) == "cpu"
    experts = any(type(module) is SwitchLinear for module in model.modules())
    if on_cpu and experts and dtype != mx.float32:
        raise LoadError("MLX computes experts on the CPU in float32 only: choose float32.")


def _cast(model: Any, dtype: mx.Dtype) -> None:
    """Turn floating weights into a dtype, but for those that a family keeps as they are."""
    keeps = getattr(getattr(model, "language_model", model), "cast_predicate", lambda path: True)
    model.update(
        tree_map_with_path(
            lambda path, array: _as(array, dtype) if keeps(path) else array, model.parameters()
        )
    )


def _as(array: mx.array, dtype: mx.Dtype) -> mx.array:
    if mx.issubdtype(array.dtype, mx.floating):
        return array.astype(dtype)
    return array.astype(mx.int32) if array.dtype == mx.int64 else array


def _settle(model: nn.Module, what: str) -> None:
    """Compute all that a model holds, or no other thread could, and refuse what is no number.

    Raises:
        LoadError: a weight is NaN or infinite, or the weights do not fit into memory.
    """
    named = named_arrays(model.parameters())
    try:
        mx.eval(model.state)  # with what is no parameter: a rotation's frequencies
        finite = [
            (name, mx.isfinite(array).all())
            for name, array in named
            if mx.issubdtype(array.dtype, mx.floating)
        ]
        mx.eval([flag for _, flag in finite])
    except RuntimeError as error:
        raise LoadError(
            f"Reading {what} failed ({_words(error)}): free some memory, download it again, "
            "or choose a smaller pair."
        ) from error
    broken = [name for name, flag in finite if not flag.item()]
    if broken:
        raise LoadError(
            f"Tensor {broken[0]} of {what} holds values that are no finite numbers (NaN or "
            "infinity): download it again, or choose another revision."
        )


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
