"""The check of one target family, as `dflash-app doctor --families` and the tests run it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import torch
from transformers import PreTrainedModel

from dflash_app.backends.torch.decode_path import fastest_target
from dflash_app.backends.torch.families import NOT_IN_FLOAT16, ROLLBACK_KINDS, RollbackKind
from dflash_app.backends.torch.selftest.lossless import Evidence, check_lossless
from dflash_app.backends.torch.selftest.tiny_families import (
    CONFIGS,
    HIDDEN_SIZE,
    UNLISTED,
    VOCAB_SIZE,
    build_model,
)
from dflash_app.backends.torch.target import TorchTarget, load_target
from dflash_app.drafters.transformers_calls import DAMAGE, first_line, quiet_transformers
from dflash_app.errors import DFlashAppError

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
ALL_FAMILIES = (*CONFIGS, UNLISTED)
NUM_LOADED_TOKENS = 40
SAME_LOGITS = 1e-3
"""Apart at most in float32: what was read is laid out otherwise, and adds up in another order."""


@dataclass(slots=True)
class FamilyResult:
    """What the check of a family found.

    Attributes:
        name: a key of `tiny_families.CONFIGS`, or `UNLISTED`.
        loaded_as: the class that its checkpoint was read into; None where it could not be.
        rollback_kind: how its caches went back.
        path: how it decodes.
        evidence: by precision.
        problems: what is wrong beside the evidence's own problems.
        elapsed_s: how long it took.
    """

    name: str
    loaded_as: str | None = None
    rollback_kind: RollbackKind | None = None
    path: str | None = None
    evidence: dict[str, Evidence] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def model_type(self) -> str:
        """The family."""
        return self.name.split()[0]

    @property
    def variant(self) -> str:
        """Which of its shapes this is, "" for the plain one."""
        return self.name.partition(" ")[2]

    @property
    def listed(self) -> bool:
        """Whether the app loads the family without being asked for snapshots."""
        return self.model_type in ROLLBACK_KINDS

    @property
    def ok(self) -> bool:
        """It loads, goes back in its own way, and is lossless in every precision."""
        return not self.problems and all(
            self.lossless(precision) or self.impossible(precision) for precision in PRECISIONS
        )

    def impossible(self, precision: str) -> str | None:
        """Why the family cannot run in a precision; None where it can."""
        return NOT_IN_FLOAT16.get(self.model_type) if precision == "float16" else None

    def lossless(self, precision: str) -> bool:
        """Whether DFlash was plain decoding in a precision; False where that was not tried."""
        evidence = self.evidence.get(precision)
        return evidence is not None and not evidence.problems

    def all_problems(self) -> list[str]:
        """What is wrong, in words."""
        return [
            *self.problems,
            *(
                f"{name}, {each}"
                for name, found in self.evidence.items()
                for each in found.problems
            ),
        ]


def check_families(names: Iterable[str]) -> Iterator[FamilyResult]:
    """Check families on the CPU, one after the other, on files in a temporary folder.

    Args:
        names: keys of `tiny_families.CONFIGS`, or `UNLISTED`.
    """
    with _one_thread(), TemporaryDirectory() as folder:
        for name in names:
            yield check_family(name, Path(folder, name))


def check_family(name: str, folder: Path, *, fast: bool = True) -> FamilyResult:
    """Check a family on a tiny random model of it.

    The model is written to disk as its checkpoint is published (wrappers with their towers) and
    read back by `load_target`, in each precision; everything runs on what came back, on the path
    that it takes in the app.

    Args:
        name: a key of `tiny_families.CONFIGS`, or `UNLISTED`, which goes back by snapshots.
        folder: where its checkpoints are left, one for each precision.
        fast: False keeps it from the fast path.
    """
    result = FamilyResult(name)
    started_s = monotonic()
    try:
        with quiet_transformers():
            for precision, dtype in PRECISIONS.items():
                if result.impossible(precision):
                    continue
                exact = dtype == torch.float32
                published = build_model(name, whole=True, every_expert=not exact)
                published.save_pretrained(folder / precision)
                loaded = load_target(
                    folder / precision, torch.device("cpu"), dtype, snapshot=not result.listed
                )
                target = fastest_target(loaded, fast=fast)
                _check_loaded(result, target, published if exact else None)
                result.evidence[precision] = check_lossless(target)
    except (DFlashAppError, *DAMAGE) as error:
        result.problems.append(first_line(error))
    result.elapsed_s = monotonic() - started_s
    return result


def _check_loaded(
    result: FamilyResult, target: TorchTarget, published: PreTrainedModel | None
) -> None:
    """Does it say what was written, has it its own shape, and does it go back in its own way?"""
    result.loaded_as = type(target.model).__name__
    result.rollback_kind, result.path = target.rollback_kind, target.path
    # No family of the table may use the fallback: it costs a second forward.
    wanted = ROLLBACK_KINDS.get(result.model_type, "snapshot")
    if target.rollback_kind != wanted:
        result.problems.append(f"it goes back by {target.rollback_kind} and not by {wanted}")
    if (target.hidden_size, target.vocab_size) != (HIDDEN_SIZE, VOCAB_SIZE):
        result.problems.append("its shape is another one than its text model's")
    if published is not None:
        ids = torch.arange(NUM_LOADED_TOKENS) % VOCAB_SIZE
        with torch.inference_mode():
            expected = published(input_ids=ids[None]).logits[0]
            found, _ = target.forward(ids, None, len(ids))
        if not torch.allclose(found, expected, atol=SAME_LOGITS):
            result.problems.append("what was read says something else than what was written")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Models this small run fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
