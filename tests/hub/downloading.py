"""What the tests of downloads share: waiting for a job, and what a cache may hold."""

from collections.abc import Callable
from pathlib import Path

from dflash_app.hub.cache import pair_state
from dflash_app.hub.job_store import Job
from dflash_app.workspace import Workspace
from tests.hub.conftest import (
    names_here,
)

TARGET_FILES = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]
SLOW_S = 0.05
"""Between two chunks of 64 kB: 2 MB take more than a second."""


def finish(workspace: Workspace, job: Job) -> Job:
    *_, last = workspace.hub.jobs.watch(job.id)
    return last


def until(workspace: Workspace, job: Job, reached: Callable[[Job], bool]) -> Job:
    return next(each for each in workspace.hub.jobs.watch(job.id) if reached(each))


def status(workspace: Workspace, name: str = "p") -> str:
    return workspace.hub.standing(workspace.registry.get(name)).status


def assert_loadable_or_clean(workspace: Workspace, cache: Path) -> None:
    """After a fault: what counts as ready has every file, and whatever counts is whole."""
    pair = workspace.registry.get("p")
    for ref in (pair.target, pair.drafter):
        assert ref is not None
        here = names_here(cache, ref.source)
        assert here == [] or "config.json" not in here or len(here) >= len(TARGET_FILES)
    if pair_state(pair).status == "ready":
        assert {check.verdict for _, check in workspace.hub.verify("p")} == {"right"}
