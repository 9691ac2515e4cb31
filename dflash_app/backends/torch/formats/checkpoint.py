"""Reading a drafter of any format, tensor by tensor, and writing z-lab's."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.backends.torch.dflash2 import new_drafter
from dflash_app.backends.torch.dflash_config import DFlashConfig
from dflash_app.backends.torch.dflash_layer import AttentionKind
from dflash_app.backends.torch.formats.checkpoint_format import CheckpointFormat
from dflash_app.backends.torch.formats.recognise import check_format
from dflash_app.backends.torch.headers import StoredTensor, stored_tensors
from dflash_app.backends.torch.weights import read_json
from dflash_app.errors import LoadError, UnsupportedFormat

WEIGHTS_NAME = "model.safetensors"
_EMBEDDING, _HEAD, _TOKEN_OFFSETS = "embed_tokens.weight", "lm_head.weight", "d2t"


_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A drafter on disk whose config and tensor headers agree; no weight was read.

    Attributes:
        folder: that holds it.
        layout: its format.
        config: of the drafter.
        tensors: by their names in `DFlashDrafter`.
    """

    folder: Path
    layout: CheckpointFormat
    config: DFlashConfig
    tensors: Mapping[str, StoredTensor]


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read config.json and the headers of a drafter of any supported format, and check them.

    Args:
        folder: config.json and *.safetensors.

    Raises:
        UnsupportedFormat: another drafter format (the message names it), quantised weights, or no
            safetensors.
        LoadError: a file is damaged, or a tensor is missing, unknown or of a wrong shape; the
            message names tensor and file.
    """
    raw = read_json(folder / "config.json")
    if not isinstance(raw.get("dflash_config") or {}, dict):
        raise LoadError(
            f"{folder / 'config.json'} has a 'dflash_config' that is no object: download the "
            "drafter again."
        )
    found = stored_tensors(folder)
    for said in (raw, raw.get("transformer_layer_config")):
        num_layers = said.get("num_hidden_layers") if isinstance(said, dict) else None
        # Before anything is built: a wrong number could take all memory.
        if isinstance(num_layers, int) and num_layers > len(found):
            raise LoadError(
                f"{folder / 'config.json'} promises {str(num_layers)[:20]} layers, and there are "
                f"{len(found)} tensors: download the drafter again."
            )
    layout = check_format(raw, found)
    stored = _under_our_names(found, layout)
    config = _with_own_vocabulary(DFlashConfig.from_dict(layout.to_zlab(raw)), stored)
    wanted = _without_weights(config, "sdpa").state_dict()
    _check_names(set(wanted), stored, folder)
    for name, tensor in stored.items():
        _check_header(tensor, wanted[name])
    return Checkpoint(folder, layout, config, stored)


def load_drafter(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    attention: AttentionKind = "sdpa",
) -> DFlashDrafter:
    """Read a checkpoint of any supported format.

    Args:
        folder: config.json and *.safetensors.
        device: where to put the weights.
        dtype: what to turn them into.
        attention: see `DFlashDrafter`.

    Returns:
        The drafter in eval mode.

    Raises:
        UnsupportedFormat, LoadError: see `open_checkpoint`; or a weight is no number.
    """
    checkpoint = open_checkpoint(folder)
    config, stored = checkpoint.config, checkpoint.tensors
    drafter = _without_weights(config, attention)
    state: dict[str, Tensor] = {}
    for file in {tensor.file for tensor in stored.values()}:
        with _opened(file) as weights:
            for name, tensor in stored.items():
                if tensor.file == file:
                    value = _checked(tensor, weights.get_tensor(tensor.name))
                    kept = dtype if value.is_floating_point() else torch.int64
                    state[name] = value.to(device=device, dtype=kept)
    _check_token_offsets(config, state)
    drafter.load_state_dict(state, assign=True)
    # Moves what is no weight: the rotary frequencies.
    return drafter.to(device).eval()


def save_drafter(drafter: DFlashDrafter, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a checkpoint that `load_drafter`, z-lab's code and vLLM read.

    Args:
        drafter: on any device, of either generation.
        folder: made if absent; its config.json and model.safetensors are replaced.
        dtype: of the file; None keeps the drafter's.

    Raises:
        LoadError: z-lab's format cannot hold this drafter; nothing was written.
    """
    written = drafter.config.to_dict()
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for name, tensor in drafter.state_dict().items()
    }
    written["dtype"] = str(next(iter(state.values())).dtype).removeprefix("torch.")
    save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    text = json.dumps(written, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def _without_weights(config: DFlashConfig, attention: AttentionKind) -> DFlashDrafter:
    with torch.device("meta"):
        return new_drafter(config, attention)


def _under_our_names(
    found: Mapping[str, StoredTensor], layout: CheckpointFormat
) -> dict[str, StoredTensor]:
    # Frequencies that old checkpoints carry follow from the config.
    return {
        layout.renamed.get(name, name): tensor
        for name, tensor in found.items()
        if name not in layout.needless and not name.endswith("rotary_emb.inv_freq")
    }


def _with_own_vocabulary(config: DFlashConfig, stored: Mapping[str, StoredTensor]) -> DFlashConfig:
    """What only the tensors tell: whether embedding and head were brought along."""
    offsets = stored.get(_TOKEN_OFFSETS)
    if offsets is not None and _HEAD not in stored:
        raise LoadError(
            f"{offsets.file} maps a draft vocabulary (d2t) but has no lm_head.weight for it: "
            "download the drafter again."
        )
    if offsets is not None and config.selector is not None:
        raise UnsupportedFormat(
            "A DFlash 2 with a draft vocabulary of its own (d2t) is not supported yet: choose one "
            "that drafts the whole vocabulary."
        )
    return replace(
        config,
        own_embedding=_EMBEDDING in stored,
        own_head=_HEAD in stored,
        draft_vocab_size=None if offsets is None else offsets.num_elements,
    )


def _check_names(wanted: set[str], stored: Mapping[str, StoredTensor], folder: Path) -> None:
    missing = sorted(wanted - set(stored))
    if missing:
        raise LoadError(
            f"The drafter in {folder} has no tensor {missing[0]} ({len(missing)} are missing): "
            "download it again."
        )
    extra = sorted(set(stored) - wanted)
    if extra:
        tensor = stored[extra[0]]
        raise LoadError(
            f"{tensor.file} holds a tensor {tensor.name} that its config.json does not explain: "
            "the drafter is damaged or in an unknown format; download it again."
        )


def _check_header(stored: StoredTensor, wanted: Tensor) -> None:
    place = f"Tensor {stored.name} in {stored.file}"
    if stored.shape != tuple(wanted.shape):
        raise LoadError(
            f"{place} has the shape {list(stored.shape)}, but its config.json asks for "
            f"{list(wanted.shape)}: download the drafter again."
        )
    if stored.dtype not in (("int64", "int32") if wanted.dtype == torch.int64 else _DTYPES):
        raise UnsupportedFormat(
            f"{place} is stored as {stored.dtype}: quantised drafters are not supported yet; "
            "choose the full one."
        )


def _checked(stored: StoredTensor, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise LoadError(
            f"Tensor {stored.name} in {stored.file} holds values that are no finite numbers (NaN "
            "or infinity): download the drafter again, or choose another revision."
        )
    return tensor


def _check_token_offsets(config: DFlashConfig, state: Mapping[str, Tensor]) -> None:
    if _TOKEN_OFFSETS not in state:
        return
    offsets = state[_TOKEN_OFFSETS]
    token_ids = torch.arange(len(offsets), device=offsets.device) + offsets
    if token_ids.min() < 0 or token_ids.max() >= config.known_vocab_size:
        raise LoadError(
            "The drafter's d2t points at tokens outside its vocabulary of "
            f"{config.known_vocab_size}: download the drafter again."
        )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file, its library's errors translated."""
    try:
        with safe_open(file, framework="pt", device="cpu") as weights:
            yield weights
    except (SafetensorError, OSError) as error:
        raise LoadError(f"{file} is damaged; download it again ({error}).") from error
