"""What the form says, as a plan."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dflash_app.errors import RequestError
from dflash_app.ui.choice import AUTO
from dflash_app.ui.shell import Page

from .form import NO_BASELINE, Form
from .jsonl import read_jsonl
from .plan import Plan
from .public import check_public


def read_form(page: Page, bar: Sequence[Any], values: Sequence[Any]) -> tuple[Plan, list[Path]]:
    """What the form asks for, and the files of its own questions.

    Args:
        page: knows the pairs.
        bar: values of `page.bar.inputs`.
        values: of `Form.inputs`.

    Raises:
        RequestError: a value is outside its range; on a page for strangers, more than they may ask.
        PairNotReady, UnknownPair: the bar's pair cannot be used.
    """
    asked = dict(zip((each.name for each in fields(Form)), values, strict=True))
    choice = page.read(bar)
    modes = tuple(asked["modes"] or ())
    page.check_ready(replace(choice, mode="dflash" if "dflash" in modes else "ar"))
    files = [Path(each) for each in asked["files"] or ()]
    baseline = None if asked["baseline"] in (None, NO_BASELINE) else str(asked["baseline"])
    plan = Plan(
        pair=choice.pair,
        datasets=(*(asked["datasets"] or ()), *(path.name for path in files)),
        backend=choice.backend,
        options=choice.options(),
        num_prompts=asked["num_prompts"] or None,
        modes=modes,
        block_sizes=tuple(_block_size(each) for each in asked["block_sizes"] or ()),
        policies=tuple(asked["policies"] or ()),
        temperature=float(asked["temperature"] or 0),
        seed=asked["seed"] or 0,
        thinking=None if asked["thinking"] in (None, AUTO) else str(asked["thinking"]),
        max_new_tokens=asked["max_new_tokens"],
        repetitions=asked["repetitions"],
        warm_up=asked["warm_up"],
        concurrency=tuple(_level(each) for each in asked["concurrency"] or ()),
        baseline=baseline,
    )
    check_public(plan, files, page.workspace.settings.public)
    return plan, files


def check_file(path: Path) -> int:
    """Read a file of one's own questions.

    Returns:
        How many it asks.

    Raises:
        RequestError: it is too large, or a line is wrong (its number is named).
    """
    try:
        return len(read_jsonl(path))
    except RequestError as error:
        # Where an upload lies is nobody's business.
        raise RequestError(str(error).replace(str(path), path.name)) from error


def _block_size(value: Any) -> int | None:
    if value == AUTO:
        return None
    if not str(value).isdecimal() or len(str(value)) > 4:
        raise RequestError(f"{str(value)[:20]!r} is no block size: choose one from the list.")
    return int(value)


def _level(value: Any) -> int:
    if not str(value).isdecimal() or len(str(value)) > 6:
        raise RequestError(
            f"{str(value)[:20]!r} is no number of requests: use a whole number, as 8."
        )
    return int(value)
