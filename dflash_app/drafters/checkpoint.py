"""Opening a drafter of any format: its config and the headers of its tensors, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dflash_app.drafters.config import DFlashConfig
from dflash_app.drafters.formats.checkpoint_format import CheckpointFormat
from dflash_app.drafters.formats.recognise import check_format
from dflash_app.drafters.tensor_shapes import EMBEDDING, HEAD, TOKEN_OFFSETS, tensor_shapes
from dflash_app.errors import LoadError, UnsupportedFormat
from dflash_app.hub.headers import StoredTensor, stored_tensors
from dflash_app.hub.model_files import read_json

_FLOATS = ("float32", "bfloat16", "float16")
_TOKEN_IDS = ("int64", "int32")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A drafter on disk whose config and tensor headers agree; no weight was read.

    Attributes:
        folder: that holds it.
        layout: its format.
        config: of the drafter.
        tensors: by the names that z-lab gives them, ours too.
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
    wanted = tensor_shapes(config)
    _check_names(set(wanted), stored, folder)
    for name, tensor in stored.items():
        _check_header(tensor, wanted[name], _TOKEN_IDS if name == TOKEN_OFFSETS else _FLOATS)
    return Checkpoint(folder, layout, config, stored)


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
    offsets = stored.get(TOKEN_OFFSETS)
    if offsets is not None and HEAD not in stored:
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
        own_embedding=EMBEDDING in stored,
        own_head=HEAD in stored,
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


def _check_header(stored: StoredTensor, shape: tuple[int, ...], dtypes: tuple[str, ...]) -> None:
    place = f"Tensor {stored.name} in {stored.file}"
    if stored.shape != shape:
        raise LoadError(
            f"{place} has the shape {list(stored.shape)}, but its config.json asks for "
            f"{list(shape)}: download the drafter again."
        )
    if stored.dtype not in dtypes:
        raise UnsupportedFormat(
            f"{place} is stored as {stored.dtype}: quantised drafters are not supported yet; "
            "choose the full one."
        )
