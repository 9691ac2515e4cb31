"""Downloads by the real library from a hub on this machine, with every fault it may have."""

import contextlib
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dflash_app.hub.disk import repo_folder
from dflash_app.hub.process import Transfer, Wanted
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.hub.conftest import (
    add_pair,
    model_files,
    names_here,
    use_endpoint,
)
from tests.hub.downloading import (
    SLOW_S,
    TARGET_FILES,
    assert_loadable_or_clean,
    finish,
    status,
    until,
)
from tests.hub.server import OTHER_TOKEN, TOKEN, Fault, HubServer


def test_a_connection_that_is_cut_is_taken_up_again(
    workspace: Workspace, server: HubServer
) -> None:
    server.faults = [Fault("GET", "/cdn/org/p-T", cut_after=500_000)]
    assert finish(workspace, workspace.hub.download("p")).state == "done"
    ranges = [request.range for request in server.asked("/cdn/org/p-T")]
    assert ranges[0] is None
    assert ranges[1] is not None
    assert {check.verdict for _, check in workspace.hub.verify("p")} == {"right"}


def test_two_processes_that_want_the_same_file_fetch_it_once(
    server: HubServer, cache: Path
) -> None:
    server.pause_s = SLOW_S / 4
    commit = server.add("org/T", model_files())
    transfers = [Transfer([Wanted("org/T", commit, "target")]) for _ in range(2)]
    ends = [[event["event"] for event in transfer.events()][-1] for transfer in transfers]
    assert ends == ["done", "done"]
    assert [transfer.close() for transfer in transfers] == [0, 0]
    assert len(server.asked("/cdn/org/T")) == 1
    assert names_here(cache, "org/T") == TARGET_FILES


def test_a_server_that_ignores_ranges_still_gives_the_right_file(
    workspace: Workspace, server: HubServer
) -> None:
    server.ignore_range = True
    server.faults = [Fault("GET", "/cdn/org/p-T", cut_after=500_000)]
    assert finish(workspace, workspace.hub.download("p")).state == "done"
    assert {check.verdict for _, check in workspace.hub.verify("p")} == {"right"}


def test_a_wrong_checksum_is_fetched_anew_and_given_up_after_the_second_time(
    workspace: Workspace, server: HubServer, cache: Path
) -> None:
    server.faults = [Fault("GET", "/cdn/org/p-T", wrong=True, times=2)]
    job = finish(workspace, workspace.hub.download("p"))
    assert job.state == "failed"
    assert job.message is not None
    assert job.message.startswith("model.safetensors of org/p-T arrived damaged twice")
    assert not list(repo_folder("org/p-T").glob("blobs/*.incomplete"))
    assert "model.safetensors" not in names_here(cache, "org/p-T")
    assert_loadable_or_clean(workspace, cache)
    server.faults = [Fault("GET", "/cdn/org/p-T", wrong=True)]
    assert finish(workspace, workspace.hub.download("p")).state == "done"


def test_a_gated_model_names_its_licence_page_and_arrives_with_the_token_of_the_library(
    workspace: Workspace, server: HubServer, settings: Settings, tmp_path: Path
) -> None:
    server.repos["org/p-D"].gated = True
    server.faults = []
    job = finish(workspace, workspace.hub.download("p"))
    assert job.state == "failed"
    assert job.licence_url == f"{server.url}/org/p-D"
    assert job.message is not None
    assert "is gated and it needs a token: accept its licence at" in job.message
    assert not server.asked("/cdn/"), "a gated drafter is found before a byte of weights"
    (tmp_path / "token").write_text(OTHER_TOKEN)
    job = finish(workspace, workspace.hub.download("p"))
    assert job.message is not None
    assert "your token has no access to it yet" in job.message
    (tmp_path / "token").write_text(TOKEN)
    job = finish(workspace, workspace.hub.download("p"))
    assert (job.state, job.licence_url) == ("done", None)
    assert [request.authorization for request in server.asked("/cdn/")] == [None, None]
    for path in settings.home.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("GET", "/api/models/org/p-T", 404, {"X-Error-Code": "RepoNotFound"}), "not on the"),
        (Fault("GET", "/api/models/org/p-T", 401), "refuses your token"),
        (Fault("GET", "/api/models/org/p-T", 403), "your token may not read it"),
        (Fault("GET", "/resolve/", 404, {"X-Error-Code": "EntryNotFound"}), "lacks a file"),
        (Fault("GET", "/cdn/", 418), "the hub answered 418"),
    ],
)
def test_a_refusal_is_one_sentence_and_leaves_nothing_half_ready(
    workspace: Workspace, server: HubServer, cache: Path, fault: Fault, said: str
) -> None:
    server.faults = [fault]
    job = finish(workspace, workspace.hub.download("p"))
    assert job.state == "failed"
    assert job.message is not None
    assert job.message.startswith("org/p-T ")
    assert said in job.message
    assert "\n" not in job.message
    assert_loadable_or_clean(workspace, cache)


def test_a_revision_that_does_not_exist_is_named(
    server: HubServer, cache: Path, settings: Settings
) -> None:
    add_pair(server, settings)
    text = settings.user_registry.read_text()
    commit = server.repos["org/p-T"].main
    settings.user_registry.write_text(text.replace(commit, "f" * 40))
    with closing(open_workspace(settings)) as workspace:
        job = finish(workspace, workspace.hub.download("p"))
    assert job.message == f"org/p-T has no revision '{'f' * 40}': correct it in the registry."
    assert not cache.exists()


def test_why_nothing_comes_is_told_until_something_comes(
    workspace: Workspace, server: HubServer
) -> None:
    server.faults = [
        Fault("GET", "/cdn/org/p-T", cut_after=0, times=2),
        Fault("GET", "/cdn/org/p-T", 429, {"Retry-After": "1"}),
    ]
    job = workspace.hub.download("p")
    until(workspace, job, lambda now: now.message == "The connection broke off: trying again.")
    said = until(workspace, job, lambda now: "asked to wait" in (now.message or "")).message
    time.sleep(0.6)  # two looks at the file's size
    assert workspace.hub.jobs.get(job.id).message == said
    assert finish(workspace, job).message is None


def test_a_limit_and_a_fault_of_the_hub_are_waited_for(
    workspace: Workspace, server: HubServer
) -> None:
    server.faults = [
        Fault("GET", "/api/models/org/p-T", 429, {"Retry-After": "1"}),
        Fault("GET", "/api/models/org/p-D", 500),
        Fault("GET", "/cdn/org/p-T", 429, {"Retry-After": "0"}),
        Fault("GET", "/cdn/org/p-D", 503),
    ]
    job = workspace.hub.download("p")
    seen = [now.message for now in workspace.hub.jobs.watch(job.id)]
    assert workspace.hub.jobs.get(job.id).state == "done"
    assert "The hub is busy (429): asking again in 1 s." in seen
    assert "The hub is busy (500): asking again in 1 s." in seen
    assert any(text and text.startswith("The hub asked to wait") for text in seen)


def test_too_large_for_the_disk_is_said_before_anything_is_fetched(
    workspace: Workspace, server: HubServer, cache: Path
) -> None:
    server.repos["org/p-D"].declared["model.safetensors"] = 10**15
    job = finish(workspace, workspace.hub.download("p"))
    assert job.message is not None
    assert job.message.startswith("The download needs 1000000.00 GB more and the disk of")
    assert not server.asked("/cdn/")
    assert_loadable_or_clean(workspace, cache)


@pytest.fixture
def small_disk(cache: Path) -> Iterator[Path]:
    """The cache on a disk of 4 MB of its own, where the system lets us make one."""
    cache.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", cache], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no right to mount a small disk")
    yield cache
    subprocess.run(["umount", "-l", cache], check=True)


def test_a_disk_that_becomes_full_stops_the_job_and_space_lets_it_go_on(
    workspace: Workspace, server: HubServer, small_disk: Path
) -> None:
    server.pause_s = SLOW_S
    job = workspace.hub.download("p")
    until(workspace, job, lambda now: now.done_bytes > 200_000)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    job = finish(workspace, job)
    assert job.state == "failed"
    assert job.message is not None
    assert job.message.startswith("The disk is full, so the download of org/p-T stopped")
    assert_loadable_or_clean(workspace, small_disk)
    filler.unlink()
    server.pause_s = 0
    assert finish(workspace, workspace.hub.download("p")).state == "done"
    assert server.asked("/cdn/org/p-T")[-1].range is not None


def test_a_write_that_a_quota_refuses_stops_the_job_too(
    workspace: Workspace, server: HubServer, cache: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # the child inherits it
    try:
        job = workspace.hub.download("p")
        until(workspace, job, lambda now: now.total_bytes is not None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    job = finish(workspace, job)
    assert job.message is not None
    assert job.message.startswith("The disk is full, so the download of org/p-T stopped")
    assert_loadable_or_clean(workspace, cache)
    assert finish(workspace, workspace.hub.download("p")).state == "done"


def test_a_cache_that_cannot_be_written_is_said(
    workspace: Workspace, cache: Path, server: HubServer
) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    job = finish(workspace, workspace.hub.download("p"))
    assert job.state == "failed"
    assert job.message is not None
    assert "cannot be saved in" in job.message


def test_offline_is_said_at_once_and_what_is_here_still_works(
    workspace: Workspace, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(workspace, workspace.hub.download("p"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert status(workspace) == "ready"
    assert {check.verdict for _, check in workspace.hub.verify("p")} == {"right"}
    requests = len(server.requests)
    assert workspace.hub.download("p").state == "done"
    assert len(server.requests) == requests, "nothing is lacking, so nobody is asked"
    workspace.hub.remove(workspace.hub.plan_removal("p", ["drafter"]))
    begin = time.monotonic()
    job = finish(workspace, workspace.hub.download("p"))
    assert time.monotonic() - begin < 10
    assert job.message is not None
    assert "HF_HUB_OFFLINE is set: unset it to download" in job.message


def test_nobody_at_the_hubs_address_is_said_within_seconds(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        use_endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}", monkeypatch)
        begin = time.monotonic()
        job = finish(workspace, workspace.hub.download("p"))
        assert time.monotonic() - begin < 10
    assert job.message is not None
    assert "the hub does not answer" in job.message
