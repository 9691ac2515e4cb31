"""The list of downloads: what stays, what is refused, and what happens without a database."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dflash_app.errors import HubError
from dflash_app.hub.jobs import Downloads
from dflash_app.hub.process import Wanted
from dflash_app.settings import Settings
from tests.hub.conftest import add_pair, environment, model_files
from tests.hub.server import HubServer


@pytest.fixture
def wanted(server: HubServer) -> Wanted:
    return Wanted("org/T", server.add("org/T", model_files(300_000)), "target")


@pytest.fixture
def downloads(home: Path) -> Iterator[Downloads]:
    with closing(Downloads(home / "downloads.db", pin=lambda repo, commit: None)) as opened:
        yield opened


def again(home: Path) -> Downloads:
    return Downloads(home / "downloads.db", pin=lambda repo, commit: None)


def test_asking_what_there_is_makes_no_file(home: Path, downloads: Downloads) -> None:
    assert downloads.snapshot() == ()
    assert list(home.iterdir()) == []


def test_jobs_are_kept_over_a_restart_and_can_be_forgotten(
    home: Path, downloads: Downloads, wanted: Wanted
) -> None:
    *_, done = downloads.watch(downloads.start("p", [wanted]).id)
    downloads.close()
    with closing(again(home)) as later:
        (kept,) = later.snapshot()
        assert (kept.id, kept.state, kept.models) == (done.id, "done", (wanted,))
        assert (kept.created, kept.changed) == (done.created, done.changed)
        assert later.resume(kept.id).state == "done"
        later.forget(kept.id)
    with closing(again(home)) as later:
        assert later.snapshot() == ()
        with pytest.raises(HubError, match="There is no download"):
            later.get(kept.id)


def test_a_live_job_is_not_forgotten(
    server: HubServer, downloads: Downloads, wanted: Wanted
) -> None:
    server.pause_s = 0.2
    job = downloads.start("p", [wanted])
    with pytest.raises(HubError, match="cancel it first"):
        downloads.forget(job.id)
    assert downloads.cancel(job.id).state == "cancelled"
    assert downloads.cancel(job.id).state == "cancelled"
    downloads.forget(job.id)
    assert downloads.snapshot() == ()


def test_a_new_pin_is_another_download_and_an_old_job_is_not_joined(
    server: HubServer, downloads: Downloads, wanted: Wanted
) -> None:
    other = Wanted("org/T", server.add("org/T", model_files(1000, 5)), "target")
    server.pause_s = 0.2
    first = downloads.start("p", [wanted])
    downloads.cancel(first.id)
    server.pause_s = 0
    second = downloads.start("p", [other])
    assert second.id != first.id
    assert [job.state for job in downloads.watch(second.id)][-1] == "done"


def test_without_a_database_downloads_work_and_the_reason_is_told(
    home: Path, wanted: Wanted
) -> None:
    (home / "downloads.db").mkdir()
    with closing(again(home)) as downloads:
        *_, job = downloads.watch(downloads.start("p", [wanted]).id)
        assert job.state == "done"
        assert downloads.problem is not None
        assert "downloads.db" in downloads.problem


def test_a_commit_that_cannot_be_recorded_ends_the_job_with_the_reason(
    settings: Settings, server: HubServer
) -> None:
    from dflash_app.hub.known_pairs import PINS
    from dflash_app.workspace import open_workspace

    add_pair(server, settings, size=1000, pinned=False)
    (settings.home / PINS).write_text("damaged")
    with closing(open_workspace(settings)) as workspace:
        *_, job = workspace.hub.jobs.watch(workspace.hub.download("p").id)
    assert job.state == "failed"
    assert job.message == f"{settings.home / PINS} cannot be read: correct it or delete it."


def test_ctrl_c_pauses_a_pull_and_the_next_pull_goes_on(
    settings: Settings, server: HubServer
) -> None:
    add_pair(server, settings)
    server.pause_s = 0.1
    command = [sys.executable, "-m", "dflash_app", "hub", "pull", "p"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    ) as pull:
        assert pull.stderr is not None
        while " % of " not in (line := pull.stderr.readline()):
            assert line
        os.killpg(pull.pid, signal.SIGINT)  # as a terminal does: to the whole group
        said = pull.stderr.read()
        assert pull.wait() == 130
    assert "Stopped; what is there is kept: `dflash-app hub pull p` goes on." in said
    assert "Traceback" not in said
    with closing(again(settings.home)) as downloads:
        assert [job.state for job in downloads.snapshot()] == ["paused"]
    server.pause_s = 0
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Pair 'p' is here: 2.5 MB." in done.stderr
