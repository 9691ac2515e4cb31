from collections.abc import Iterator

import pytest

from dflash_app.errors import StoreLocked
from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone
from dflash_app.metrics import summarize
from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store
from dflash_app.ui.advice import hint_line
from dflash_app.workspace import Workspace
from tests.fakes import ask
from tests.ui.conftest import StageOpener
from tests.ui.stage import one_reply


@pytest.fixture
def workspace(open_stage: StageOpener) -> Iterator[Workspace]:
    yield open_stage(one_reply)


def add(store: Store, num_accepted: int) -> int:
    """Twenty steps of a second that drafted three tokens each."""
    events: list[DecodeEvent] = [PrefillDone(4, 0, 1, 0.0, 0.1)]
    drafts = (2, 3, 4)
    for step in range(1, 21):
        ids = (*drafts[:num_accepted], 9)
        events.append(StepDone(ids, drafts, num_accepted, None, 0.4, 0.6, 0.1 + step))
    events.append(Finished("stop", 20.1))
    start = RunStart(
        source="chat", pair="scripted", backend="script", device="cpu", dtype="float32",
        mode="dflash", policy="fixed", block_size=4, trained_block_size=4,
        messages=({"role": "user", "content": "Hi"},),
    )  # fmt: skip
    run_id = store.start_run(start)
    metrics = summarize(events)
    store.finish_run(run_id, "stop", output="b", token_ids=[], metrics=metrics, events=events)
    return run_id


def test_a_reply_whose_drafts_are_refused_gets_a_line_with_its_figures(
    workspace: Workspace,
) -> None:
    said = hint_line(workspace, add(workspace.store, 0))
    assert said.startswith("Drafts are refused: of 3 a step the target takes 0.00.")


def test_a_reply_that_nothing_would_speed_up_gets_none(workspace: Workspace) -> None:
    assert hint_line(workspace, add(workspace.store, 3)) == ""
    list(workspace.run(workspace.loaded("scripted"), ask(), source="chat"))
    assert hint_line(workspace, workspace.store.list_runs(limit=1)[0].id) == ""


def test_a_log_that_cannot_be_read_stops_no_reply(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = add(workspace.store, 0)
    assert hint_line(workspace, run_id + 1) == ""

    def locked(*_: object) -> None:
        raise StoreLocked("The run database is locked.")

    monkeypatch.setattr(Store, "run_events", locked)
    assert hint_line(workspace, run_id) == ""
