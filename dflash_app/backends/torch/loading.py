"""From two folders to models in memory; needs neither registry nor hub."""

from collections.abc import Iterable
from pathlib import Path

import torch

from dflash_app.backends.torch.checkpoint import load_drafter
from dflash_app.backends.torch.decode_path import fastest_drafter, fastest_target
from dflash_app.backends.torch.drafting import Drafter
from dflash_app.backends.torch.memory import estimate_pair
from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.placement import Spread
from dflash_app.backends.torch.quantization import (
    check_bitsandbytes,
    multiplies_bfloat16,
    quantize_linears,
)
from dflash_app.backends.torch.target import TorchTarget, check_target, load_target
from dflash_app.drafters.checkpoint import open_checkpoint
from dflash_app.drafters.config import DFlashConfig
from dflash_app.drafters.fits import check_fits
from dflash_app.engine.out_of_memory import refusing
from dflash_app.engine.protocol import LoadOptions, Quantization
from dflash_app.errors import BackendUnavailable, LoadError
from dflash_app.hub.memory import MemoryNeed

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

AUTO = "auto"


def load_models(
    target_dir: Path,
    drafter_dir: Path | None,
    options: LoadOptions | None = None,
    *,
    eos_ids: Iterable[int] = (),
    target: TorchTarget | None = None,
    fast: bool = True,
) -> TorchModels:
    """Load a target and its drafter on the calling thread.

    Args:
        target_dir: config.json and *.safetensors of a family in `families.ROLLBACK_KINDS`.
        drafter_dir: of a drafter in a format that `formats` reads; None loads the target alone.
        options: where to, in which precision, and with what.
        eos_ids: tokens that end a turn beside those in the target's configs (the tokenizer's).
        target: already loaded from `target_dir` with the same options: not loaded again.
        fast: False keeps to transformers' modules, to compare with.

    Raises:
        LoadError: a folder cannot become a model, or the two do not belong together.
        UnsupportedFormat: target family or drafter format are not implemented.
        BackendUnavailable: there is no such device here, or a package is missing.
    """
    options = options or LoadOptions()
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device, options.quantization)
    if options.num_threads is not None:
        # OpenMP keeps the number per thread: this must run on the thread that decodes.
        torch.set_num_threads(options.num_threads)
    if target is None:
        target = load_target(
            target_dir,
            device,
            dtype,
            snapshot=options.snapshot,
            quantization=options.quantization,
            spread=choose_spread(options),
        )
        target = fastest_target(target, fast=fast)
    drafter = None
    if drafter_dir is not None and options.drafter:
        drafter = _load_drafter(drafter_dir, target, options.drafter_quantization, fast=fast)
    kept = options.drafter_quantization if drafter is not None else None
    config = drafter.config if drafter is not None else None
    need = memory_need(
        target_dir,
        drafter_dir if drafter else None,
        options,
        config,
        fast=fast,
        spread=target.slow_reason is not None,
    )
    return TorchModels(target, drafter, eos_ids, drafter_quantization=kept, need=need)


def memory_need(
    target_dir: Path,
    drafter_dir: Path | None,
    options: LoadOptions,
    drafter: DFlashConfig | None = None,
    *,
    fast: bool = True,
    spread: bool = False,
) -> MemoryNeed | None:
    """What two folders will take, by the arithmetic; None where a config does not tell.

    Args:
        target_dir: the target's.
        drafter_dir: the drafter's; None for a target alone.
        options: how they are loaded.
        drafter: the drafter's config; None reads it.
        fast: see `load_models`.
        spread: see `memory.estimate_pair`.

    Raises:
        BackendUnavailable: there is no such device here.
    """
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device, options.quantization)
    try:
        if drafter is None and drafter_dir is not None:
            drafter = open_checkpoint(drafter_dir).config
        return estimate_pair(
            target_dir,
            drafter_dir,
            options,
            device,
            dtype,
            drafter=drafter,
            fast=fast,
            spread=spread,
        )
    except LoadError:
        return None


def check_options(target_dir: Path, options: LoadOptions) -> None:
    """Refuse what `load_models` refuses of a target and its options, before any weight is read.

    Raises:
        UnsupportedFormat, BackendUnavailable, LoadError: as `load_models`.
    """
    choose_spread(options)
    dtype = choose_dtype(options.dtype, choose_device(options.device), options.quantization)
    check_target(target_dir, dtype, snapshot=options.snapshot, quantization=options.quantization)
    if options.drafter and options.drafter_quantization:
        check_bitsandbytes(options.drafter_quantization)


def _load_drafter(
    folder: Path, target: TorchTarget, quantization: Quantization | None, *, fast: bool
) -> Drafter:
    """The drafter, where the target's head computes and in what it computes."""
    device, dtype = target.device, target.dtype
    with refusing(
        f"The drafter does not fit into the memory of {device} beside its target: free some, or "
        "load the target alone."
    ):
        if quantization is None:
            drafter = load_drafter(folder, device, dtype)
        else:
            drafter = load_drafter(folder, torch.device("cpu"), dtype)
            quantize_linears(drafter, quantization, device, dtype)
            drafter = drafter.to(device)
    check_fits(
        drafter.config,
        hidden_size=target.hidden_size,
        vocab_size=target.vocab_size,
        num_layers=target.num_layers,
    )
    return fastest_drafter(drafter, fast=fast)


def choose_spread(options: LoadOptions) -> Spread | None:
    """How to spread the target, where device "auto" asks for it.

    Raises:
        LoadError: a limit of memory without it.
    """
    if options.device == AUTO:
        return Spread(options.max_memory_bytes)
    if options.max_memory_bytes is not None:
        raise LoadError("A limit of memory needs the device auto: choose it, or set no limit.")
    return None


def choose_device(name: str | None) -> torch.device:
    """The device of that name, or the best one here.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps"; None takes CUDA, else MPS, else the CPU, and so does
            "auto", which begins to spread there.

    Raises:
        BackendUnavailable: unknown or not here.
    """
    if name in (None, AUTO):
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendUnavailable(
            f"Unknown device {name!r}: use cpu, cuda:0, mps or auto."
        ) from error
    if device.type == "cuda":
        index = device.index or 0
        if not torch.cuda.is_available() or index >= torch.cuda.device_count():
            raise BackendUnavailable(
                f"There is no CUDA device {index} that this PyTorch can use: choose cpu, or "
                "install a driver and a CUDA build of PyTorch."
            )
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BackendUnavailable("There is no Metal device here: choose cpu.")
    if device.type not in ("cpu", "mps"):
        raise BackendUnavailable(f"The device {name!r} is not supported: use cpu, cuda:0 or mps.")
    return torch.device(device.type)


def choose_dtype(
    name: str | None, device: torch.device, quantization: Quantization | None = None
) -> torch.dtype:
    """float32 on the CPU and bfloat16 elsewhere, unless named.

    nf4 takes bfloat16 on a CPU whose kernel for it multiplies nothing else: it was 6 to 11 times as
    fast as unpacking to float32 (2048 x 2048, one thread).

    Raises:
        LoadError: unknown name.
    """
    if name is None:
        plain_cpu = device.type == "cpu" and not (quantization == "nf4" and multiplies_bfloat16())
        return torch.float32 if plain_cpu else torch.bfloat16
    if name not in DTYPES:
        raise LoadError(f"Unknown precision {name!r}: use {', '.join(DTYPES)}.")
    return DTYPES[name]
