"""A pair that a user thinks of: what is on disk of it, whether it fits, and the row it makes."""

from dataclasses import dataclass
from pathlib import Path

from dflash_app.backends.torch.inspection import TargetInspection, inspect_folder
from dflash_app.drafters.inspection import DrafterInspection, Fit, compare
from dflash_app.errors import LoadError, PairNotReady
from dflash_app.hub.cache import resolve
from dflash_app.registry.custom import new_pair
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import EMBEDDED_PATHS, UNKNOWN_FAMILY, ModelRef, Pair


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair before it is added.

    Attributes:
        pair: the row that it makes.
        target: what its folder holds; None where it is not on this machine.
        drafter: the same of the drafter.
        fit: whether they belong together; None where one is not on this machine.
        missing: a sentence with the command for each that is not.
    """

    pair: Pair
    target: TargetInspection | None
    drafter: DrafterInspection | None
    fit: Fit | None
    missing: tuple[str, ...]


def consider(
    registry: Registry, name: str, target: ModelRef, drafter: ModelRef, title: str | None = None
) -> Candidate:
    """Look at a target and a drafter, and make the row that pairs them.

    Args:
        registry: knows for which target a published drafter was trained.
        name: of the new pair; empty makes one from the drafter's.
        target: the model that decides.
        drafter: the model that drafts.
        title: for people; None takes the name.

    Raises:
        RegistryError: the name or the title is not allowed.
        LoadError: a model that is here is damaged, of no supported kind, or in the other's place.
    """
    missing: list[str] = []
    found_target = _look(target, missing)
    found_drafter = _look(drafter, missing)
    if isinstance(found_target, DrafterInspection):
        raise LoadError(f"{target.source} is a drafter: give a language model as the target.")
    if isinstance(found_drafter, TargetInspection):
        raise LoadError(f"{drafter.source} is no drafter: give a DFlash drafter.")
    pair = new_pair(
        name,
        target,
        drafter,
        title=title,
        family=found_target.family if found_target else UNKNOWN_FAMILY,
        block_size=found_drafter.block_size if found_drafter else None,
    )
    fit = None
    if found_target and found_drafter:
        known = registry.with_trained_for(pair).trained_for
        fit = compare(found_drafter, found_target, target_repo=target.repo, trained_for=known)
    return Candidate(pair, found_target, found_drafter, fit, tuple(missing))


def check_fit(candidate: Candidate) -> Candidate:
    """The candidate, if nothing that is known forbids it.

    Raises:
        LoadError: with the first reason.
    """
    if candidate.fit is not None and candidate.fit.reasons:
        raise LoadError(candidate.fit.reasons[0])
    return candidate


def folder_of(ref: ModelRef) -> Path:
    """The folder of a model that is here; of a user's own folder, complete or not.

    Raises:
        PairNotReady: a repository that is not, or not completely, on this machine.
        UnsupportedFormat: its weights are no safetensors.
    """
    if ref.path is not None and ref.path not in EMBEDDED_PATHS:
        return Path(ref.path)
    return resolve(ref)


def _look(ref: ModelRef, missing: list[str]) -> DrafterInspection | TargetInspection | None:
    try:
        return inspect_folder(folder_of(ref))
    except PairNotReady as reason:
        missing.append(str(reason))
        return None
