"""What a target's folder holds and whether this backend runs it, before any weight is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from dflash_app.backends.torch.families import RollbackKind, rollback_of
from dflash_app.drafters.inspection import (
    DrafterInspection,
    check_fit,
    inspect_drafter,
    plain_values,
    tensor_dtypes,
)
from dflash_app.drafters.marks import is_drafter
from dflash_app.drafters.transformers_calls import DAMAGE, first_line, quiet_transformers
from dflash_app.errors import LoadError
from dflash_app.hub.headers import stored_tensors
from dflash_app.hub.model_files import read_json
from dflash_app.registry.pair import Pair

_AutoConfig: Any = AutoConfig


@dataclass(frozen=True, slots=True)
class TargetInspection:
    """What a target's folder holds.

    Attributes:
        folder: that was looked at.
        family: its `model_type`.
        rollback: how its caches forget rejected tokens, see `families.RollbackKind`.
        num_layers: of its text model.
        hidden_size: of its text model.
        vocab_size: rows of its embedding.
        context_length: most positions.
        quantization: the method that its checkpoint is quantised with, or None.
        num_parameters: of all tensors in its files; packed ones count as they are packed.
        dtypes: of the tensors ("bfloat16").
        size_bytes: of the tensors.
    """

    folder: Path
    family: str
    rollback: RollbackKind
    num_layers: int
    hidden_size: int
    vocab_size: int
    context_length: int
    quantization: str | None
    num_parameters: int
    dtypes: tuple[str, ...]
    size_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {"kind": "target", **plain_values(self)}


def inspect_folder(folder: Path) -> DrafterInspection | TargetInspection:
    """Look at a model folder, whichever of the two it holds.

    Raises:
        UnsupportedFormat: a drafter format or a target family that is not implemented, or no
            safetensors.
        LoadError: a file is missing or damaged, or the tensors are not those of the config.
    """
    names = stored_tensors(folder)
    if is_drafter(read_json(folder / "config.json"), names):
        return inspect_drafter(folder)
    return inspect_target(folder)


def inspect_target(folder: Path, *, snapshot: bool = False) -> TargetInspection:
    """Look at a target.

    Args:
        folder: that holds it.
        snapshot: it goes back by snapshots, which families that nobody looked at can too.

    Raises:
        UnsupportedFormat, LoadError: as `inspect_folder`.
    """
    raw = read_json(folder / "config.json")
    family = raw.get("model_type")
    rollback = "snapshot" if snapshot else rollback_of(family)
    tensors = stored_tensors(folder).values()
    try:
        with quiet_transformers():
            config = _AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        text = config.get_text_config(decoder=True)
        shape = {
            "num_layers": int(text.num_hidden_layers),
            "hidden_size": int(text.hidden_size),
            "vocab_size": int(text.vocab_size),
            "context_length": int(text.max_position_embeddings),
        }
    except DAMAGE as error:
        raise LoadError(
            f"{folder / 'config.json'} is no valid config; download the target again "
            f"({first_line(error)})."
        ) from error
    quantised = raw.get("quantization_config")
    return TargetInspection(
        folder=folder,
        family=str(family),
        rollback=rollback,
        **shape,
        quantization=_method(quantised) if quantised else None,
        num_parameters=sum(tensor.num_elements for tensor in tensors),
        dtypes=tensor_dtypes(tensors),
        size_bytes=sum(tensor.size_bytes for tensor in tensors),
    )


def check_pair(
    target_dir: Path, drafter_dir: Path, pair: Pair, *, snapshot: bool = False
) -> tuple[str, ...]:
    """Refuse two folders that do not belong together, before any weight is read.

    Args:
        target_dir: the target's.
        drafter_dir: the drafter's.
        pair: the registry's row.
        snapshot: see `inspect_target`.

    Returns:
        A sentence for each thing that works but is not as it was meant.

    Raises:
        LoadError, UnsupportedFormat: naming what is wrong and the cure.
    """
    target = inspect_target(target_dir, snapshot=snapshot)
    return check_fit(drafter_dir, target, pair)


def _method(quantised: Any) -> str:
    return str(quantised.get("quant_method")) if isinstance(quantised, dict) else "unknown"
