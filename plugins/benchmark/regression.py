"""What changed between two results of the same benchmark, told apart from noise.

Both results answer the same prompts, so each prompt is compared with itself. Questions are then
drawn again and again, with replacement (a bootstrap; turns and repetitions stay with their
question). A figure that changed by its threshold or more, and in one direction in the middle 95 %
of the draws, became better or worse; a worse one is a regression. The threshold is for what no draw
of questions sees: two runs of one machine differ.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from dflash_app.errors import RequestError

from .comparable import Obstacle, find_obstacles, find_versions
from .figures import at
from .measures import Both, measures
from .paired import Prompt, complete
from .results import BenchmarkResults, CellResult, PromptRow

Verdict = Literal["worse", "better", "same", "unclear", "too few", "not comparable"]

THRESHOLDS = {
    "speedup": 0.05,
    "decoding": 0.05,
    "end to end": 0.05,
    "acceptance": 0.02,
    "right": 0.01,
    "same text as AR": 0.01,
}
"""Least change that counts: of the first four as a part of what it was, of the others in points."""

_DIFFERENCES = ("right", "same text as AR")
"""Figures whose change is a difference; that of the others is a ratio less 1."""

MIN_QUESTIONS = 8
"""Fewer are not judged."""

NUM_DRAWS = 1000
CONFIDENCE = 0.95

Place = tuple[str, str, int]
"""Data set, method and concurrency."""


@dataclass(frozen=True, slots=True)
class Change:
    """How one figure of a cell changed, over the prompts that both results answered.

    Attributes:
        figure: a key of `THRESHOLDS`.
        before: in the first result.
        after: in the second.
        change: relative to `before` (0.1 = 10 % more), or for parts of one their difference.
        low: lower end of the interval of `change`.
        high: upper end.
        num_questions: that it is computed from.
        verdict: "unclear" is a change above the threshold which the draws do not agree on.
    """

    figure: str
    before: float
    after: float
    change: float
    low: float
    high: float
    num_questions: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class CellChange:
    """How one cell changed.

    Attributes:
        dataset: its name.
        method: key of the way of decoding.
        label: that in words.
        concurrency: requests at a time.
        changes: of each figure that both results tell.
        num_pairs: prompts that both answered.
        num_changed: of those, how many outputs are other texts now.
        num_other_prompts: whose texts are others now, so that they were left out.
        num_failed: failed prompts in the first result and in the second.
    """

    dataset: str
    method: str
    label: str
    concurrency: int
    changes: tuple[Change, ...]
    num_pairs: int
    num_changed: int
    num_other_prompts: int
    num_failed: tuple[int, int]

    @property
    def regressed(self) -> bool:
        """Whether a figure became worse, or more prompts failed."""
        failed_before, failed_after = self.num_failed
        worse = any(change.verdict == "worse" for change in self.changes)
        return worse or failed_after > failed_before


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results.

    Attributes:
        names: of both.
        obstacles: what keeps figures from being compared, first of all.
        versions: what else differs and may be the cause: libraries, models, the app.
        cells: that both have, in the order of the second.
        only_before: keys of cells that only the first has.
        only_after: keys of cells that only the second has.
    """

    names: tuple[str, str]
    obstacles: tuple[Obstacle, ...]
    versions: tuple[str, ...]
    cells: tuple[CellChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    @property
    def judged(self) -> bool:
        """Whether any figure could be."""
        verdicts = {change.verdict for cell in self.cells for change in cell.changes}
        return not verdicts <= {"not comparable", "too few"}

    @property
    def regressed(self) -> bool:
        """Whether any cell did."""
        return any(cell.regressed for cell in self.cells)


def compare(
    before: BenchmarkResults, after: BenchmarkResults, names: tuple[str, str] = ("before", "after")
) -> Comparison:
    """Compare two results cell by cell.

    Args:
        before: the older.
        after: the newer.
        names: of both, as they are shown.

    Raises:
        RequestError: they have no cell or no prompt in common, or figures that cannot be divided.
    """
    obstacles = tuple(find_obstacles(before, after))
    olds, news = _by_place(before), _by_place(after)
    barred = {figure for obstacle in obstacles for figure in obstacle.bars}
    try:
        changes = [
            _compare_cells(
                olds[place], news[place], _plain(before, place), _plain(after, place), barred
            )
            for place in news
            if place in olds
        ]
    except ArithmeticError as error:
        raise RequestError(
            f"{names[0]} or {names[1]} has figures that no run has ({error}): measure again."
        ) from error
    if not any(cell.num_pairs for cell in changes):
        raise RequestError(
            f"{names[0]} and {names[1]} have no answered prompt in common: compare results of the "
            "same data sets, methods and concurrency."
        )
    return Comparison(
        names=names,
        obstacles=obstacles,
        versions=tuple(find_versions(before, after)),
        cells=tuple(changes),
        only_before=tuple(map(_key, (place for place in olds if place not in news))),
        only_after=tuple(map(_key, (place for place in news if place not in olds))),
    )


def _compare_cells(
    old: CellResult,
    new: CellResult,
    old_plain: CellResult | None,
    new_plain: CellResult | None,
    barred: set[str],
) -> CellChange:
    rows = complete(old.rows), complete(new.rows)
    plain = _rows(old_plain), _rows(new_plain)
    common = [prompt for prompt in rows[1] if prompt in rows[0]]
    same = [prompt for prompt in common if _same_text(rows[0][prompt], rows[1][prompt])]
    by_question: dict[str, list[Both]] = defaultdict(list)
    for prompt in same:
        both = rows[0][prompt], rows[1][prompt], plain[0].get(prompt), plain[1].get(prompt)
        by_question[prompt[0]].append(Both(*both))
    pairs = [both for found in by_question.values() for both in found]
    return CellChange(
        dataset=new.dataset,
        method=new.method,
        label=new.label,
        concurrency=new.concurrency,
        changes=tuple(_changes(list(by_question.values()), barred)),
        num_pairs=len(pairs),
        num_changed=sum(both.old.output_digest != both.new.output_digest for both in pairs),
        num_other_prompts=len(common) - len(same),
        num_failed=(old.figures.num_failed, new.figures.num_failed),
    )


def _changes(questions: Sequence[Sequence[Both]], barred: set[str]) -> Iterator[Change]:
    for figure, measured in measures(questions).items():
        num_questions = measured.num_questions
        whole = measured.over(range(num_questions))
        if whole is None:
            continue
        drawn = (measured.over(draw) for draw in _draws(num_questions))
        spread = [_change(figure, *each) for each in drawn if each is not None]
        change = _change(figure, *whole)
        low, high = (at(spread, part) for part in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
        verdict: Verdict = "not comparable"
        if figure not in barred:
            verdict = _judge(figure, change, low, high, num_questions)
        yield Change(figure, *whole, change, low, high, num_questions, verdict)


@lru_cache(maxsize=2)
def _draws(num_questions: int) -> list[list[int]]:
    """Indices of questions, drawn with replacement; always the same ones, so that verdicts are."""
    rng = random.Random(0)
    return [rng.choices(range(num_questions), k=num_questions) for _ in range(NUM_DRAWS)]


def _judge(figure: str, change: float, low: float, high: float, num_questions: int) -> Verdict:
    threshold = THRESHOLDS[figure]
    if num_questions < MIN_QUESTIONS:
        return "too few"
    if abs(change) < threshold:
        return "same"
    if high < 0:
        return "worse"
    return "better" if low > 0 else "unclear"


def _change(figure: str, before: float, after: float) -> float:
    return after - before if figure in _DIFFERENCES else after / before - 1


def _same_text(old: PromptRow, new: PromptRow) -> bool:
    """Whether both have as many prompt tokens; later turns hold replies, which may differ."""
    known = None not in (old.num_prompt_tokens, new.num_prompt_tokens)
    return old.turn > 0 or not known or old.num_prompt_tokens == new.num_prompt_tokens


def _rows(cell: CellResult | None) -> Mapping[Prompt, PromptRow]:
    return complete(cell.rows) if cell else {}


def _plain(results: BenchmarkResults, place: Place) -> CellResult | None:
    dataset, method, concurrency = place
    return None if method == "ar" else results.cell(dataset, "ar", concurrency)


def _by_place(results: BenchmarkResults) -> dict[Place, CellResult]:
    return {(cell.dataset, cell.method, cell.concurrency): cell for cell in results.cells}


def _key(place: Place) -> str:
    return "/".join(map(str, place))
