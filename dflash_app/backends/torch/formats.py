"""Drafter folders: which format one is in, and reading and writing z-lab's.

Only safetensors are opened and no code from a folder is ever run.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dflash_app.backends.torch.dflash import AttentionKind, DFlashDrafter
from dflash_app.backends.torch.dflash_config import DFlashConfig
from dflash_app.backends.torch.weights import read_json, weight_files
from dflash_app.errors import LoadError, UnsupportedFormat

WEIGHTS_NAME = "model.safetensors"
_MARKS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    # name, words in architectures / model_type / keys of the config, parts of tensor names
    ("DFlash 2", ("dflash2",), ("candidate_selector", "attention_conv")),
    ("Domino", ("domino",), ("prefix_gru", "embed_proj")),
    ("DSpark", ("dspark",), ("markov_head", "confidence_head")),
    ("speculators", ("speculators", "transformer_layer_config"), ("d2t", "t2d", "verifier_")),
    ("muse_glimmer_assistant", ("_assistant",), ("encoder.fc",)),
    ("EAGLE", ("eagle",), ("midlayer",)),
    ("DeepSpec", ("deepspec",), ("embed_tokens", "lm_head")),
)


def load_drafter(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    attention: AttentionKind = "sdpa",
) -> DFlashDrafter:
    """Read a z-lab checkpoint.

    Args:
        folder: config.json and *.safetensors.
        device: where to put the weights.
        dtype: what to turn them into.
        attention: see `DFlashDrafter`.

    Returns:
        The drafter in eval mode.

    Raises:
        UnsupportedFormat: another drafter format (the message names it), or no safetensors.
        LoadError: a file is damaged, or a tensor is missing, unknown or of a wrong shape; the
            message names tensor and file.
    """
    raw = read_json(folder / "config.json")
    files = weight_files(folder)
    places: dict[str, Path] = {}
    for file in files:
        with _opened(file) as weights:
            places.update(dict.fromkeys(weights.keys(), file))
    check_format(raw, places)
    config = DFlashConfig.from_dict(raw)
    with torch.device("meta"):
        drafter = DFlashDrafter(config, attention)
    _check_names(drafter, places, folder)
    shapes = {name: tensor.shape for name, tensor in drafter.state_dict().items()}
    state: dict[str, Tensor] = {}
    for file in files:
        with _opened(file) as weights:
            for name in weights.keys():  # noqa: SIM118 (safe_open cannot be iterated)
                if name in shapes:
                    tensor = _checked(name, weights.get_tensor(name), shapes[name], file)
                    state[name] = tensor.to(device=device, dtype=dtype)
    drafter.load_state_dict(state, assign=True)
    # Moves what is no weight: the rotary frequencies.
    return drafter.to(device).eval()


def save_drafter(drafter: DFlashDrafter, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a checkpoint that `load_drafter`, z-lab's code and vLLM read.

    Args:
        drafter: on any device.
        folder: made if absent; its config.json and model.safetensors are replaced.
        dtype: of the file; None keeps the drafter's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for name, tensor in drafter.state_dict().items()
    }
    written = drafter.config.to_dict()
    written["dtype"] = str(next(iter(state.values())).dtype).removeprefix("torch.")
    save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    text = json.dumps(written, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def check_format(raw: Mapping[str, Any], tensor_names: Mapping[str, object]) -> None:
    """Refuse every drafter that is not z-lab's first format.

    Args:
        raw: the parsed config.json.
        tensor_names: names in the checkpoint.

    Raises:
        UnsupportedFormat: naming the format that was recognised.
    """
    nested = raw.get("dflash_config") or {}
    described = [raw.get("model_type"), raw.get("speculators_model_type"), *raw]
    described += [*(raw.get("architectures") or ()), nested.get("projector_type")]
    words = " ".join(str(word) for word in described).lower()
    for name, config_words, tensor_words in _MARKS:
        in_config = any(word in words for word in config_words)
        in_tensors = any(word in tensor for word in tensor_words for tensor in tensor_names)
        if in_config or in_tensors:
            raise UnsupportedFormat(
                f"This drafter is in the {name} format, which is not supported yet: "
                "choose a z-lab DFlash drafter."
            )
    if "fc.weight" not in tensor_names or "hidden_norm.weight" not in tensor_names:
        raise UnsupportedFormat(
            "This folder holds no DFlash drafter (it has no fc.weight and hidden_norm.weight): "
            "choose a z-lab DFlash drafter."
        )


def check_fits(config: DFlashConfig, *, hidden_size: int, vocab_size: int, num_layers: int) -> None:
    """Refuse a drafter that was made for another target. Head counts mean nothing.

    Args:
        config: the drafter's.
        hidden_size: the target's.
        vocab_size: the target's.
        num_layers: the target's depth.

    Raises:
        LoadError: naming both figures.
    """
    deepest = max(config.target_layer_ids)
    mismatches = (
        ("hidden size", config.hidden_size, hidden_size, config.hidden_size != hidden_size),
        ("vocabulary", config.vocab_size, vocab_size, config.vocab_size != vocab_size),
        ("deepest tapped layer", deepest, f"{num_layers} layers", deepest >= num_layers),
    )
    for what, drafters, targets, wrong in mismatches:
        if wrong:
            raise LoadError(
                f"The drafter does not belong to this target ({what}: {drafters} against "
                f"{targets}): choose the drafter that was trained for it."
            )


def _check_names(drafter: DFlashDrafter, places: Mapping[str, Path], folder: Path) -> None:
    wanted = set(drafter.state_dict())
    missing = sorted(wanted - set(places))
    if missing:
        raise LoadError(
            f"The drafter in {folder} has no tensor {missing[0]} ({len(missing)} are missing): "
            "download it again."
        )
    # Frequencies that old checkpoints carry follow from the config.
    extra = sorted(n for n in set(places) - wanted if not n.endswith("rotary_emb.inv_freq"))
    if extra:
        raise LoadError(
            f"{places[extra[0]]} holds a tensor {extra[0]} that its config.json does not explain: "
            "the drafter is damaged or in an unknown format; download it again."
        )


def _checked(name: str, tensor: Tensor, shape: torch.Size, file: Path) -> Tensor:
    if tensor.shape != shape:
        raise LoadError(
            f"Tensor {name} in {file} has the shape {list(tensor.shape)}, but its config.json asks "
            f"for {list(shape)}: download the drafter again."
        )
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise UnsupportedFormat(
            f"Tensor {name} in {file} is stored as {str(tensor.dtype).removeprefix('torch.')}: "
            "quantised drafters are not supported yet; choose the full one."
        )
    return tensor


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file, its library's errors translated."""
    try:
        with safe_open(file, framework="pt", device="cpu") as weights:
            yield weights
    except (SafetensorError, OSError) as error:
        raise LoadError(f"{file} is damaged; download it again ({error}).") from error
