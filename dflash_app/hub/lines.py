"""Which rows share their drafters, and the pairs that are composed of two rows.

Targets of one line share their drafters: those of the same name but for their quantisation, and
those that a row gives the same drafter or names as `trained_for`.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dflash_app.registry.custom import suggest_name
from dflash_app.registry.pair import ModelRef, Pair

_QUANTISED = re.compile(
    r"[-_.](?:(?:mlx|bnb|unsloth|gptq|awq)[-_.])*"
    r"(\d-?bit|int[48]|nf4|fp8|awq|gptq|mxfp4|nvfp4|w[48]a(?:8|16)|dwq)(?:[-_.].*)?$",
    re.IGNORECASE,
)
"""How the names of quantised repositories end."""
_WORD_CHARS = 26
"""Of a composed name, for each model: with its digest it stays below the registry's 64."""


def key_of(ref: ModelRef) -> str:
    """What names a model to `choices`: its place, with the commit where one is fixed."""
    return f"{ref.source}@{ref.revision}" if ref.revision else ref.source


def quantization_by_name(ref: ModelRef) -> str | None:
    """How a repository is quantised ("4bit", "AWQ"), where its name says so."""
    found = _QUANTISED.search(ref.repo or "")
    return found.group(1) if found else None


def find_lines(rows: Iterable[Pair]) -> Mapping[str, Sequence[Pair]]:
    """The rows of each target's line, in their order, by the target's place."""
    line_of: dict[str, dict[int, Pair]] = {}
    for index, row in enumerate(rows):
        line = {index: row}
        for mark in _marks(row):
            line |= line_of.get(mark, {})
        line_of.update((mark, line) for each in line.values() for mark in _marks(each))
    return {
        row.target.source: [each for _, each in sorted(line.items())]
        for line in line_of.values()
        for row in line.values()
    }


def compose(target: Pair, drafter: Pair) -> Pair:
    """The pair of one row's target and another row's drafter.

    Args:
        target: its target, and what belongs to it.
        drafter: its drafter, and what belongs to that; it must have one.

    Returns:
        A pair whose name depends on the two places alone, without any published figure.
    """
    if drafter.drafter is None:
        raise ValueError(f"pair {drafter.name!r} has no drafter")
    trained_for = drafter.trained_for or drafter.target.repo
    both = [name for name in target.backends if name in drafter.backends]
    return Pair(
        name=_composed_name(target.target, drafter.drafter),
        title=f"{target.title} with {suggest_name(drafter.drafter)}"[:1000],
        family=target.family,
        target=target.target,
        drafter=drafter.drafter,
        trained_for=trained_for if trained_for != target.target.source else None,
        block_size=drafter.block_size,
        backends=tuple(both) or target.backends or drafter.backends,
        status=drafter.status,
        thinking=drafter.thinking,
        thinking_levels=target.thinking_levels,
        languages=drafter.languages,
        trained_context=drafter.trained_context,
        sampling=target.sampling,
        notes=f"Composed of the target of {target.name} and the drafter of {drafter.name}.",
        sources=(f"rows {target.name} and {drafter.name}",),
    )


def _composed_name(target: ModelRef, drafter: ModelRef) -> str:
    places = f"{target.source}\n{drafter.source}".encode()
    words = [suggest_name(ref)[:_WORD_CHARS].rstrip("._-") for ref in (target, drafter)]
    return f"{words[0]}--{words[1]}-{hashlib.sha256(places).hexdigest()[:8]}"


def _marks(row: Pair) -> Iterator[str]:
    """What rows of one line have in common, any of it; servers share with nobody."""
    if row.remote:
        yield f"target {row.target.source}"
        return
    for place in (row.target.source, row.trained_for):
        if place is not None:
            yield f"target {place}"
    for repo in (row.target.repo, row.trained_for):
        if repo is not None:
            yield f"name {_QUANTISED.sub('', repo.split('/')[1]).lower()}"
    if row.drafter is not None:
        yield f"drafter {row.drafter.source}"
