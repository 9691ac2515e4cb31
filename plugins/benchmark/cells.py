"""The grid of a benchmark: every data set by every way of decoding by every concurrency."""

from dataclasses import dataclass
from itertools import product

from dflash_app.request import Mode, Policy

from .plan import Plan


@dataclass(frozen=True, slots=True)
class Method:
    """One way of decoding: a column of the report.

    Attributes:
        key: short and unique within a plan; the same in every plan that asks for the same.
        label: for people: "AR", "DFlash", "DFlash block 8", "DFlash adaptive", a baseline's label.
        pair: whose.
        mode: "ar" or "dflash".
        block_size: anchor included; None is the drafter's own, and in AR.
        policy: of the drafts; "fixed" in AR too, where it means nothing.
        baseline: whether it is the plan's `baseline`.
    """

    key: str
    label: str
    pair: str
    mode: Mode
    block_size: int | None = None
    policy: Policy = "fixed"
    baseline: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the grid.

    Attributes:
        dataset: its name.
        method: how it is decoded.
        concurrency: requests at a time.
    """

    dataset: str
    method: Method
    concurrency: int

    @property
    def key(self) -> str:
        """Unique within a plan: "gsm8k/dflash-b8/1"."""
        return f"{self.dataset}/{self.method.key}/{self.concurrency}"


def methods(plan: Plan) -> tuple[Method, ...]:
    """The plan's ways of decoding, plain decoding first, the baseline last."""
    found: list[Method] = []
    if "ar" in plan.modes:
        found.append(Method("ar", "AR", plan.pair, "ar"))
    if "dflash" in plan.modes:
        for size, policy in product(plan.block_sizes, plan.policies):
            key, label = "dflash", "DFlash"
            if size is not None:
                key, label = f"{key}-b{size}", f"{label} block {size}"
            if policy != "fixed":
                key, label = f"{key}-{policy}", f"{label} {policy}"
            found.append(Method(key, label, plan.pair, "dflash", size, policy))
    if plan.baseline is not None:
        label = plan.baseline_label or plan.baseline
        mode = plan.baseline_mode
        found.append(Method("baseline", label, plan.baseline, mode, baseline=True))
    return tuple(found)


def cells(plan: Plan) -> tuple[Cell, ...]:
    """The whole grid: data set by data set, concurrency by concurrency, method by method."""
    grid = product(plan.datasets, plan.concurrency, methods(plan))
    return tuple(Cell(dataset, method, level) for dataset, level, method in grid)
