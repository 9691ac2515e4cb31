"""`dflash-app doctor --families`: every target family, proven on this machine, as a table."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dflash_app.cli import terminal
from dflash_app.errors import DFlashAppError

if TYPE_CHECKING:
    from dflash_app.backends.torch.selftest.check import FamilyResult
    from dflash_app.registry.pair import Pair

PAGE = """\
# Target families

Written by `dflash-app doctor --families --write docs/families.md`; a test holds this page to what
the command finds.

Each row is a tiny random model with every layer type of its family: written to disk as its
checkpoint is published (wrappers with their towers), read back, and decoded with drafts that an
oracle makes right and wrong. **yes** under a precision: DFlash put out the tokens of plain greedy
decoding, for every accepted length of a block of 16 several times, after prompts shorter and longer
than the sliding windows, after a prompt read in small chunks, and with a length limit and a stop
token at every place of a block. In float32 no token may differ. In bfloat16 and float16 one may
where the target's own gap between the two logits is within the rounding noise measured at that
token. Experts are not chosen there, all are used: a choice that rounding decides is no such noise.

How rejected drafts are forgotten: **crop** cuts keys and values off; **replay** runs a recurrence
again over the kept tokens, without a second forward; **slice** opens compressed windows again;
**snapshot** restores a copy and reads the kept tokens a second time. The last is for families that
are not listed, on demand; a listed family that used it would fail here.

How it decodes: **static cache** is the app's own loop over fused weights with keys and values
written in place (on CUDA its steps are recorded as graphs); **dynamic cache** is transformers' way,
with the reason why the first does not run this family yet.

{table}
{notes}"""


def check_families(write: Path | None, *, as_json: bool) -> bool:
    """Check every family, print the table, and the progress to stderr.

    Args:
        write: where to put the table as a page of Markdown; None writes none.
        as_json: print JSON instead of the table.

    Returns:
        Whether every row is as it must be.

    Raises:
        DFlashAppError: the page cannot be written.
    """
    from dflash_app.backends.torch.selftest import check
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        pairs = workspace.registry.bundled
    results = []
    for result in check.check_families(check.ALL_FAMILIES):
        found = "as it must be" if result.ok else "WRONG"
        terminal.note(f"{result.name}: {found}, {result.elapsed_s:.1f} s")
        results.append(result)
    ok = all(result.ok for result in results)
    if as_json:
        families = [_as_json(result, pairs) for result in results]
        terminal.print_json({"ok": ok, "families": families})
    else:
        terminal.print_table(*table(results, pairs))
    for result in results:
        for remark in _notes(result):
            terminal.note(remark)
        for problem in result.all_problems():
            terminal.note(f"{result.name}: {problem}.")
    if write is not None:
        _write(write, page(results, pairs))
    return ok


def table(
    results: Sequence["FamilyResult"], pairs: Iterable["Pair"]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The header and a row of text for each result.

    Args:
        results: of the families.
        pairs: each is named in the row of its target's family.
    """
    from dflash_app.backends.torch.selftest.check import PRECISIONS

    pairs = list(pairs)
    header = ("family", "loads as", "rollback", "path", *PRECISIONS, "pairs")
    rows = []
    for result in results:
        lossless = [_precision_cell(result, each) for each in PRECISIONS]
        loaded = (result.loaded_as or "NO", result.rollback_kind or "-", result.path or "-")
        rows.append((_title(result), *loaded, *lossless, _pairs_cell(_pairs_of(result, pairs))))
    return header, rows


def page(results: Sequence["FamilyResult"], pairs: Iterable["Pair"]) -> str:
    """`docs/families.md`."""
    header, rows = table(results, pairs)
    lines = [header, ["---"] * len(header), *rows]
    notes = [f"\n{note}\n" for result in results for note in _notes(result)]
    return PAGE.format(
        table="\n".join(f"| {' | '.join(line)} |" for line in lines), notes="".join(notes)
    )


def _precision_cell(result: "FamilyResult", precision: str) -> str:
    if result.impossible(precision):
        return "cannot"
    return "yes" if result.lossless(precision) else "NO"


def _notes(result: "FamilyResult") -> list[str]:
    from dflash_app.backends.torch.selftest.check import PRECISIONS

    reasons = {precision: result.impossible(precision) for precision in PRECISIONS}
    return [
        f"{result.name} cannot run in {precision}: {reason}."
        for precision, reason in reasons.items()
        if reason
    ]


def _title(result: "FamilyResult") -> str:
    return result.name if result.listed else f"{result.name}, not listed"


def _pairs_of(result: "FamilyResult", pairs: Iterable["Pair"]) -> list["Pair"]:
    """Pairs stand in the plain row of their family, not again in those of its other shapes."""
    if result.variant:
        return []
    return [pair for pair in pairs if pair.family == result.model_type]


def _pairs_cell(pairs: Sequence["Pair"]) -> str:
    if not pairs:
        return "-"
    if all(pair.drafter is None for pair in pairs):
        return f"planned: no z-lab drafter ({', '.join(pair.name for pair in pairs)})"
    names = [
        pair.name if pair.status == "available" else f"{pair.name} ({pair.status})"
        for pair in pairs
    ]
    return ", ".join(names)


def _as_json(result: "FamilyResult", pairs: Iterable["Pair"]) -> dict[str, Any]:
    return {
        "name": result.name,
        "model_type": result.model_type,
        "ok": result.ok,
        "loaded_as": result.loaded_as,
        "rollback_kind": result.rollback_kind,
        "path": result.path,
        "precisions": {
            precision: {
                "lossless": result.lossless(precision),
                "num_compared": evidence.num_compared,
                "num_near_ties": len(evidence.near_ties),
                "largest_near_tie": max(evidence.near_ties, default=None),
            }
            for precision, evidence in result.evidence.items()
        },
        "problems": result.all_problems(),
        "pairs": [{"name": p.name, "status": p.status} for p in _pairs_of(result, pairs)],
        "elapsed_s": result.elapsed_s,
    }


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DFlashAppError(
            f"{path} cannot be written ({error.strerror}): choose another file."
        ) from error
