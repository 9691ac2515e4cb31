"""Targets and drafters chosen apart: which drafters a target can have, and the pair of the two."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dflash_app.errors import RegistryError
from dflash_app.hub.lines import compose, find_lines, key_of, quantization_by_name
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import ModelRef, Pair


@dataclass(frozen=True, slots=True)
class DrafterChoice:
    """A drafter that a target can have.

    Attributes:
        key: names it to `resolve`.
        ref: where it is.
        pair: name of the pair that the target and it make; any method of the workspace takes it.
        trained_for: the target that it was trained for, where it is another one.
    """

    key: str
    ref: ModelRef
    pair: str
    trained_for: str | None


@dataclass(frozen=True, slots=True)
class TargetChoice:
    """A target, with the drafters it can have, its own first; "none" is always possible.

    A drafter that several rows give the target is there several times, with each row's name.

    Attributes:
        key: names it to `resolve`.
        ref: where it is.
        title: of its first row, for people.
        family: its `model_type`.
        quantization: as its name says it ("4bit", "AWQ"); None where it says nothing.
        drafters: what it can be paired with; empty where none is published.
    """

    key: str
    ref: ModelRef
    title: str
    family: str
    quantization: str | None
    drafters: tuple[DrafterChoice, ...]


def targets(registry: Registry) -> tuple[TargetChoice, ...]:
    """Every target once, in the order of the rows."""
    lines = find_lines(registry.pairs)
    known = {pair.name: pair for pair in (*registry.pairs, *registry.composed)}
    found = []
    for row in _first_rows(registry):
        # Of one composed name at two revisions of its target, the registry has the first.
        pairs = [
            registry.with_trained_for(pair)
            for pair in _drafting(row, lines[row.target.source])
            if known.get(pair.name) == pair
        ]
        found.append(_target(row, pairs))
    return tuple(found)


def find_target(registry: Registry, key: str) -> TargetChoice:
    """A target by its key, or by its place alone.

    Raises:
        RegistryError: no row has it.
    """
    known = targets(registry)
    by_place = {choice.ref.source: choice for choice in reversed(known)}
    by_key = {choice.key: choice for choice in known}
    choice = by_key.get(key) or by_place.get(key)
    if choice is not None:
        return choice
    raise RegistryError(
        f"No pair has the target {key[:96]!r}: choose one from the list, or add a pair with it."
    )


def targets_of(registry: Registry, drafter: str) -> tuple[TargetChoice, ...]:
    """The targets, quantised ones too, that a drafter can be chosen for.

    Args:
        registry: the known pairs.
        drafter: its key, or its place alone.
    """
    return tuple(
        choice
        for choice in targets(registry)
        if any(drafter in (each.key, each.ref.source) for each in choice.drafters)
    )


def resolve(registry: Registry, target: str, drafter: str | None) -> Pair:
    """The pair of a target and a drafter: a row, or one that is composed of two rows.

    Args:
        registry: the known pairs.
        target: its key, or its place alone.
        drafter: the same of the drafter; None is the target alone: the first row that has it, to be
            loaded with `LoadOptions(drafter=False)` or run in mode "ar".

    Raises:
        RegistryError: no row has the target, or none says that the drafter goes with it.
    """
    choice = find_target(registry, target)
    if drafter is None:
        return next(row for row in registry.pairs if key_of(row.target) == choice.key)
    for each in choice.drafters:
        if drafter in (each.key, each.ref.source):
            return registry.get(each.pair)
    raise RegistryError(
        f"No row says that {drafter[:96]!r} drafts for {choice.ref.source}: add the pair, which "
        "checks whether they fit."
    )


def keys_of(pair: Pair) -> tuple[str, str | None]:
    """The keys of a pair's target and drafter: what `resolve` makes the pair of."""
    return key_of(pair.target), key_of(pair.drafter) if pair.drafter else None


def with_composed(registry: Registry) -> Registry:
    """The registry that also finds, by name, the pairs that are composed of its rows."""
    lines = find_lines(registry.pairs)
    rows = {pair.name for pair in registry.pairs}
    composed: dict[str, Pair] = {}
    for row in _first_rows(registry):
        for pair in _drafting(row, lines[row.target.source]):
            if pair.name not in rows:
                composed.setdefault(pair.name, pair)
    return replace(registry, composed=tuple(composed.values()))


def _first_rows(registry: Registry) -> list[Pair]:
    """The first row of each target."""
    first: dict[str, Pair] = {}
    for row in registry.pairs:
        first.setdefault(key_of(row.target), row)
    return list(first.values())


def _drafting(target: Pair, line: Sequence[Pair]) -> list[Pair]:
    """The pairs of a target: all its own rows, then those with the other drafters of its line."""
    drafting = [row for row in line if row.drafter is not None]
    pairs = [row for row in drafting if key_of(row.target) == key_of(target.target)]
    places = {row.drafter.source for row in pairs if row.drafter is not None}
    for row in drafting:
        if row.drafter is not None and row.drafter.source not in places:
            pairs.append(compose(target, row))
            places.add(row.drafter.source)
    return pairs


def _target(row: Pair, pairs: Sequence[Pair]) -> TargetChoice:
    return TargetChoice(
        key=key_of(row.target),
        ref=row.target,
        title=row.title,
        family=row.family,
        quantization=quantization_by_name(row.target),
        drafters=tuple(
            DrafterChoice(key_of(pair.drafter), pair.drafter, pair.name, pair.trained_for)
            for pair in pairs
            if pair.drafter is not None
        ),
    )
