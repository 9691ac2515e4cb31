"""Begin a benchmark, or take up an earlier one: what it asks is kept with it in the run log."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from dflash_app.errors import RequestError, StoreError
from dflash_app.hookspecs import Question
from dflash_app.store.records import storable
from dflash_app.store.runs import Store
from dflash_app.workspace import Workspace

from .plan import Plan, check_pairs, read_plan
from .question_sets import OWN_SUFFIX, QuestionSet, kept_set, load_set, read_question
from .runner import WHOLE, Share, Sitting

MAX_LOOKED_AT = 20
"""Unfinished benchmarks, for one that nobody works on."""


def create(
    workspace: Workspace, plan: Plan, files: Sequence[Path] = (), owner: str | None = None
) -> int:
    """Check a plan, load its questions and write both down.

    Args:
        workspace: the app.
        plan: its `datasets` name registered sets, and `files` by their names without folders.
        files: of one's own questions.
        owner: the visitor of a public page whose it is, as are its runs; None: this machine's.

    Returns:
        The benchmark's id; nothing was asked yet.

    Raises:
        UnknownPair, RequestError: the plan cannot be carried out; a data set is unknown.
        HubError, PluginError: a data set cannot be loaded.
        StoreError: the run log cannot be written, or this session has none.
    """
    check_pairs(plan, workspace.registry)
    if plan.baseline is not None:
        drafts = workspace.registry.get(plan.baseline).drafter is not None
        plan = replace(plan, baseline_mode="dflash" if drafts else "ar")
    if workspace.store_problem is not None:
        raise workspace.store_problem
    sets = _load(workspace, plan, {path.name: path for path in files})
    questions = {name: [asdict(each) for each in asked] for name, asked in sets.items()}
    return workspace.store.benchmarks.create(plan.as_dict(), questions, owner)


def resumable(store: Store, benchmark_id: int | None) -> int:
    """The benchmark to go on with.

    Args:
        store: the run log.
        benchmark_id: None takes the latest that has prompts left.

    Raises:
        StoreError: there is none.
    """
    if benchmark_id is not None:
        return benchmark_id
    unfinished = store.benchmarks.latest(unfinished=True, limit=MAX_LOOKED_AT)
    left = [each for each in unfinished if not each.running]
    if unfinished and not left:
        raise StoreError(f"Benchmark {unfinished[0].id} is going on already: stop it first.")
    if not left:
        raise StoreError("No benchmark was left unfinished: start one without --resume.")
    return left[0].id


def sit_down(
    workspace: Workspace, benchmark_id: int, share: Share = WHOLE, *, launch: str = ""
) -> Sitting:
    """Take a benchmark up, first or again.

    Args:
        workspace: the app.
        benchmark_id: from `create` or `resumable`.
        share: of the questions; the first one begins, and the others follow it.
        launch: tells the processes that work on it together from all others.

    Raises:
        StoreError: there is none with this id, or another process works on it.
        RequestError: its plan is of another version, or nobody knows one of its sets any more.
        PluginError: a set's own code failed.
    """
    benchmarks = workspace.store.benchmarks
    record = benchmarks.get(benchmark_id)
    plan = read_plan(record.plan)
    check_pairs(plan, workspace.registry)
    sets = sets_of(workspace, benchmark_id)
    if share.index == 0:
        benchmarks.begin(benchmark_id, launch, share.count)
    try:
        return Sitting(workspace, benchmark_id, plan, sets, share, owner=record.owner)
    except BaseException:
        benchmarks.leave(benchmark_id)
        raise


def sets_of(workspace: Workspace, benchmark_id: int) -> dict[str, QuestionSet]:
    """The questions of a benchmark, as they were when it was created."""
    registered = workspace.plugins.hook.register_datasets()
    return {
        name: kept_set(registered, name, [read_question(each) for each in questions])
        for name, questions in workspace.store.benchmarks.questions(benchmark_id).items()
    }


def _load(
    workspace: Workspace, plan: Plan, files: Mapping[str, Path]
) -> dict[str, tuple[Question, ...]]:
    registered = workspace.plugins.hook.register_datasets()
    found = {}
    for name in plan.datasets:
        own = name.lower().endswith(OWN_SUFFIX)
        if name in files and not own:  # its name may be that of a registered set
            raise RequestError(f"{name!r} does not end in {OWN_SUFFIX}: rename the file.")
        if name not in files and own:
            raise RequestError(f"The file {name!r} was not given: name it with --jsonl.")
        loaded = load_set(registered, str(files.get(name, name)))
        # Half of a surrogate pair has no UTF-8, which the run log needs.
        found[name] = tuple(
            replace(each, id=storable(each.id)) for each in loaded.select(plan.num_prompts)
        )
    return found
