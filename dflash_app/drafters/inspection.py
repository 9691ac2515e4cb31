"""What a drafter's folder holds and whether it fits a target, before any weight is read."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol

from dflash_app.drafters.attention_rule import AttentionRule
from dflash_app.drafters.checkpoint import open_checkpoint
from dflash_app.drafters.config import DFlashConfig
from dflash_app.drafters.fits import misfits
from dflash_app.drafters.marks import FormatName
from dflash_app.drafters.trained_for import repo_of, trained_for
from dflash_app.drafters.vocabulary import disagreement, ordinary_mask, read_vocabulary
from dflash_app.errors import LoadError
from dflash_app.hub.headers import StoredTensor
from dflash_app.hub.model_files import read_json
from dflash_app.registry.pair import Pair


@dataclass(frozen=True, slots=True)
class DrafterInspection:
    """What a drafter's folder holds.

    Attributes:
        folder: that was looked at.
        format: the tool's that wrote it.
        generation: of DFlash.
        num_layers: of the drafter.
        hidden_size: the target's too.
        block_size: anchor included.
        target_layer_ids: tapped layers of the target, counted from 0.
        attention: each layer's rule, in words.
        vocab_size: of the target; None where the config does not say.
        mask_token_id: fills the slots to draft.
        own_embedding: it brings one; else the target's is borrowed.
        own_head: it brings one; else the target's is borrowed.
        draft_vocab_size: tokens that its own head knows, where those are not all.
        num_parameters: of all tensors in its files.
        dtypes: of the tensors ("bfloat16").
        size_bytes: of the tensors.
        trained_for: repositories of targets that it names.
        config: all of the above that the config says, and the rest of it.
    """

    folder: Path
    format: FormatName
    generation: Literal["DFlash", "DFlash 2"]
    num_layers: int
    hidden_size: int
    block_size: int
    target_layer_ids: tuple[int, ...]
    attention: str
    vocab_size: int | None
    mask_token_id: int
    own_embedding: bool
    own_head: bool
    draft_vocab_size: int | None
    num_parameters: int
    dtypes: tuple[str, ...]
    size_bytes: int
    trained_for: tuple[str, ...]
    config: DFlashConfig = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Everything but `config`, as plain values."""
        return {"kind": "drafter", **plain_values(self, "config")}


class TargetShape(Protocol):
    """What of a target a drafter must fit."""

    @property
    def folder(self) -> Path: ...

    @property
    def num_layers(self) -> int: ...

    @property
    def hidden_size(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a drafter can run with a target.

    Attributes:
        reasons: a sentence for each thing that forbids it; none where it fits.
        warnings: sentences on what works but is not as it was meant.
    """

    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.reasons


def inspect_drafter(folder: Path) -> DrafterInspection:
    """Look at a drafter.

    Raises:
        UnsupportedFormat, LoadError: as `inspect_folder`.
    """
    checkpoint = open_checkpoint(folder)
    config, tensors = checkpoint.config, checkpoint.tensors.values()
    return DrafterInspection(
        folder=folder,
        format=checkpoint.layout.name,
        generation="DFlash 2" if config.selector else "DFlash",
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        block_size=config.block_size,
        target_layer_ids=config.target_layer_ids,
        attention=say_attention(config.attention_rules),
        vocab_size=config.vocab_size,
        mask_token_id=config.mask_token_id,
        own_embedding=config.own_embedding,
        own_head=config.own_head,
        draft_vocab_size=config.draft_vocab_size,
        num_parameters=sum(tensor.num_elements for tensor in tensors),
        dtypes=tensor_dtypes(tensors),
        size_bytes=sum(tensor.size_bytes for tensor in tensors),
        trained_for=trained_for(folder, read_json(folder / "config.json")),
        config=config,
    )


def compare(
    drafter: DrafterInspection,
    target: TargetShape,
    *,
    target_repo: str | None = None,
    trained_for: str | None = None,
    block_size: int | None = None,
) -> Fit:
    """Hold a drafter against a target.

    Args:
        drafter: what it is.
        target: what it is.
        target_repo: the target's repository; None takes what its folder tells.
        trained_for: the target that the drafter was trained for, where the registry knows it
            beside what the drafter itself names.
        block_size: that a registry row names.
    """
    reasons = misfits(
        drafter.config,
        hidden_size=target.hidden_size,
        vocab_size=target.vocab_size,
        num_layers=target.num_layers,
    )
    warnings = [
        _sibling(drafter, target_repo or repo_of(target.folder), trained_for),
        _other_block_size(drafter, block_size),
    ]
    targets = read_vocabulary(target.folder)
    if targets is not None:
        drafters = read_vocabulary(drafter.folder)
        unlike = drafters and disagreement(drafters, targets, drafter.mask_token_id)
        reasons += (unlike,) if unlike else ()
        warnings.append(ordinary_mask(targets, drafter.mask_token_id))
    return Fit(reasons, tuple(warning for warning in warnings if warning))


def check_fit(drafter_dir: Path, target: TargetShape, pair: Pair) -> tuple[str, ...]:
    """Refuse two folders that do not belong together, before any weight is read.

    Args:
        drafter_dir: the drafter's.
        target: what its folder says.
        pair: the registry's row.

    Returns:
        A sentence for each thing that works but is not as it was meant.

    Raises:
        LoadError, UnsupportedFormat: naming what is wrong and the cure.
    """
    fit = compare(
        inspect_drafter(drafter_dir),
        target,
        target_repo=pair.target.repo,
        trained_for=pair.trained_for,
        block_size=pair.block_size,
    )
    if fit.reasons:
        raise LoadError(fit.reasons[0])
    return fit.warnings


def say_attention(rules: Sequence[AttentionRule]) -> str:
    """Which keys the layers see, from the first layer on, equal neighbours together."""
    said = []
    for rule, same in groupby(rules):
        reach = "full" if rule.window is None else f"sliding {rule.window}"
        said.append(f"{len(list(same))} {reach} {'causal' if rule.causal else 'bidirectional'}")
    return ", then ".join(said)


def _sibling(
    drafter: DrafterInspection, target_repo: str | None, others_say: str | None
) -> str | None:
    meant = ((others_say,) if others_say else ()) + drafter.trained_for
    if target_repo is None or not meant or target_repo in meant:
        return None
    return (
        f"The drafter was trained for {meant[0]} and not for {target_repo}: the target still "
        "decides every token, but expect fewer accepted drafts, or choose its own drafter."
    )


def _other_block_size(drafter: DrafterInspection, said: int | None) -> str | None:
    if said in (None, drafter.block_size):
        return None
    return (
        f"The registry says block size {said} and the drafter's config.json {drafter.block_size}: "
        f"{drafter.block_size} is used; correct the row."
    )


def tensor_dtypes(tensors: Iterable[StoredTensor]) -> tuple[str, ...]:
    """The types of tensors, each once."""
    return tuple(sorted({tensor.dtype for tensor in tensors}))


def plain_values(inspection: Any, *left_out: str) -> dict[str, Any]:
    """The fields of an inspection for JSON, but those left out."""
    values = {key: value for key, value in asdict(inspection).items() if key not in left_out}
    return values | {"folder": str(inspection.folder)}
