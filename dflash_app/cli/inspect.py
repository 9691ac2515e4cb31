"""`dflash-app inspect`: what a model folder holds, and which targets a drafter fits."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dflash_app.cli import terminal
from dflash_app.errors import LoadError, PairNotReady

if TYPE_CHECKING:
    from dflash_app.backends.torch.inspection import TargetInspection
    from dflash_app.drafters.inspection import DrafterInspection, Fit
    from dflash_app.registry.load import Registry
    from dflash_app.registry.pair import ModelRef
    from dflash_app.workspace import Workspace

MEGA, GIGA = 1e6, 1e9


def inspect(
    model: Annotated[
        str, typer.Argument(metavar="PATH_OR_REPO", help="A folder, a repository, or a pair.")
    ],
    target: Annotated[
        str | None,
        typer.Option(metavar="PATH_OR_REPO|PAIR", help="Hold it against this target only."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what a model is and what it fits; status 1 if it is refused."""
    from dflash_app.backends.torch.candidate import folder_of
    from dflash_app.backends.torch.inspection import TargetInspection, inspect_folder
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        ref = _find(workspace.registry, model, "model")
        found = inspect_folder(folder_of(ref))
        if isinstance(found, TargetInspection):
            if target is not None:
                raise LoadError(f"{model} is a target: --target belongs to a drafter.")
            _print_target(found, as_json)
            return
        fits = list(_fits(workspace, ref, found, target))
    if as_json:
        terminal.print_json({"model": found.as_json(), "targets": [_as_json(*fit) for fit in fits]})
    else:
        _print_drafter(found, fits)
    if target is not None and not all(fit.fits for _, fit in fits):
        raise typer.Exit(1)


def _find(registry: "Registry", text: str, role: str) -> "ModelRef":
    """The model that a user means by a pair's name, a repository or a folder."""
    from dflash_app.hub.cache import is_here
    from dflash_app.registry.custom import read_ref

    pair = next((pair for pair in registry.pairs if pair.name == text), None)
    if pair is None:
        ref = read_ref(text, role=role)
        rows = [row for pair in registry.pairs for row in (pair.target, pair.drafter) if row]
        # A row may pin another commit than the main branch's: what is here counts.
        same = [row for row in rows if row.repo is not None and row.repo == ref.repo]
        return next((each for each in (ref, *same) if is_here(each)), ref)
    if role == "target":
        return pair.target
    if pair.drafter is None:
        raise PairNotReady(f"Pair {text!r} has no drafter: inspect {pair.target.source} instead.")
    return pair.drafter


def _fits(
    workspace: "Workspace", ref: "ModelRef", drafter: "DrafterInspection", only: str | None
) -> Iterator[tuple[str, "Fit"]]:
    """The drafter held against one target, or against every one of the registry that is here."""
    from dflash_app.backends.torch.candidate import folder_of
    from dflash_app.backends.torch.inspection import inspect_target
    from dflash_app.drafters.inspection import Fit, compare

    if only is not None:
        refs = [_find(workspace.registry, only, "target")]
    else:
        here = [p for p in workspace.pairs() if workspace.state(p.name).target_dir is not None]
        refs = list({pair.target.source: pair.target for pair in here}.values())
    meant = {
        row.target.repo
        for row in workspace.registry.bundled
        if row.drafter is not None and row.drafter.source == ref.source and row.target.repo
    }
    for target in refs:
        known = None if target.repo in meant else next(iter(sorted(meant)), None)
        try:
            found = inspect_target(folder_of(target))
            fit = compare(drafter, found, target_repo=target.repo, trained_for=known)
        except LoadError as error:
            if only is not None:
                raise
            fit = Fit((str(error),))
        yield target.source, fit


def _print_drafter(found: "DrafterInspection", fits: list[tuple[str, "Fit"]]) -> None:
    borrowed = {True: "its own", False: "the target's"}
    known = f", knows {found.draft_vocab_size:,} tokens" if found.draft_vocab_size else ""
    taps = ", ".join(map(str, found.target_layer_ids))
    rows = [
        ("format", f"{found.format}, {found.generation}"),
        ("block size", f"{found.block_size} (anchor included)"),
        ("layers", f"{found.num_layers}: {found.attention}"),
        ("hidden size", str(found.hidden_size)),
        ("vocabulary", "the target's" if found.vocab_size is None else f"{found.vocab_size:,}"),
        ("mask token", str(found.mask_token_id)),
        ("taps", f"layers {taps}, so of a target of at least {max(found.target_layer_ids) + 1}"),
        ("embedding", borrowed[found.own_embedding]),
        ("head", borrowed[found.own_head] + known),
        ("weights", _weights(found)),
        ("trained for", ", ".join(found.trained_for) or "not said"),
    ]
    terminal.print_table(("drafter", str(found.folder)), rows)
    print()
    if not fits:
        terminal.note("No target of the registry is on this machine: name one with --target.")
        return
    terminal.print_table(
        ("target", "fits", "why"),
        [
            (name, "yes" if fit.fits else "no", " ".join(fit.reasons or fit.warnings))
            for name, fit in fits
        ],
    )


def _print_target(found: "TargetInspection", as_json: bool) -> None:
    if as_json:
        terminal.print_json({"model": found.as_json()})
        return
    rows = [
        ("family", f"{found.family}, supported"),
        ("rollback", found.rollback),
        ("layers", str(found.num_layers)),
        ("hidden size", str(found.hidden_size)),
        ("vocabulary", f"{found.vocab_size:,}"),
        ("context", f"{found.context_length:,} tokens"),
        ("quantised", found.quantization or "no"),
        ("weights", _weights(found)),
    ]
    terminal.print_table(("target", str(found.folder)), rows)


def _weights(found: "DrafterInspection | TargetInspection") -> str:
    count, size = found.num_parameters, found.size_bytes
    millions = f"{count / GIGA:.2f} B" if count >= GIGA else f"{count / MEGA:.2f} M"
    megabytes = f"{size / GIGA:.2f} GB" if size >= GIGA else f"{size / MEGA:.2f} MB"
    return f"{millions} parameters, {' and '.join(found.dtypes)}, {megabytes}"


def _as_json(target: str, fit: "Fit") -> dict[str, Any]:
    return {
        "target": target,
        "fits": fit.fits,
        "reasons": list(fit.reasons),
        "warnings": list(fit.warnings),
    }
