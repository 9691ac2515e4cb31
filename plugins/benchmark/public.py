"""What a visitor of a public page may measure: little enough that the others need not wait long."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dflash_app.errors import RequestError
from dflash_app.registry.pair import REMOTE_BACKEND
from dflash_app.settings import PublicLimits
from dflash_app.spaces.public import hide_paths

from .cells import methods
from .plan import Plan
from .results import BenchmarkResults, CellResult

OFFLINE_SET = "bundled"
"""The only set that visitors may ask."""
PUBLIC_PROMPTS = 4
"""Questions at once."""
PUBLIC_METHODS = 3
"""Ways of decoding that are compared."""
PUBLIC_TOKENS = 256
"""Of one reply, where the page's own limit is not lower."""


def check_public(plan: Plan, files: Sequence[Path], limits: PublicLimits | None) -> None:
    """Refuse what is too much for one visitor; None allows all.

    Raises:
        RequestError: naming the limit.
    """
    if limits is None:
        return
    most = public_tokens(limits)
    few = plan.num_prompts is not None and plan.num_prompts <= PUBLIC_PROMPTS
    once = plan.repetitions == 1 and plan.warm_up <= 1
    alone = plan.concurrency == (1,) and plan.baseline is None
    if plan.datasets != (OFFLINE_SET,) or files or not few or not once or not alone:
        raise RequestError(
            f"This public page asks at most {PUBLIC_PROMPTS} questions of the set {OFFLINE_SET!r}, "
            "once: ask for no more, or run the app on your own machine."
        )
    if len(methods(plan)) > PUBLIC_METHODS:
        raise RequestError(
            f"This public page compares at most {PUBLIC_METHODS} ways of decoding: choose fewer "
            "block sizes or draft lengths."
        )
    if plan.max_new_tokens > most:
        raise RequestError(
            f"max_new_tokens is {plan.max_new_tokens:,} and a benchmark on this public page gives "
            f"{most:,}: ask for no more than that."
        )


def public_tokens(limits: PublicLimits) -> int:
    """Most tokens of a reply that a visitor may measure."""
    return min(PUBLIC_TOKENS, limits.max_new_tokens)


def without_places(results: BenchmarkResults) -> BenchmarkResults:
    """Results as strangers may see them: without paths and without addresses of servers."""
    return replace(results, cells=tuple(map(_without_places, results.cells)))


def _without_places(cell: CellResult) -> CellResult:
    where = tuple(
        replace(each, device=REMOTE_BACKEND) if each.backend == REMOTE_BACKEND else each
        for each in cell.where
    )
    rows = tuple(
        replace(row, error=None if row.error is None else hide_paths(row.error))
        for row in cell.rows
    )
    return replace(cell, where=where, rows=rows)
