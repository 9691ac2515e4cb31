"""Downloads by the real library from a hub on this machine: what arrives, stops and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from dflash_app.errors import HubError, ModelInUse, PairNotReady, UnknownPair
from dflash_app.hub.blobs import RemoteFile, fetch
from dflash_app.hub.disk import repo_folder
from dflash_app.hub.process import Transfer, Wanted
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.hub.conftest import (
    add_pair,
    environment,
    model_files,
    names_here,
)
from tests.hub.downloading import (
    SLOW_S,
    TARGET_FILES,
    assert_loadable_or_clean,
    finish,
    status,
    until,
)
from tests.hub.server import HubServer


def test_both_models_arrive_with_the_needed_files_only_and_no_other(
    workspace: Workspace, server: HubServer, cache: Path
) -> None:
    assert status(workspace) == "not downloaded"
    job = finish(workspace, workspace.hub.download("p"))
    assert (job.state, job.message, job.done_bytes) == ("done", None, job.total_bytes)
    assert names_here(cache, "org/p-T") == TARGET_FILES
    assert names_here(cache, "org/p-D") == ["README.md", *TARGET_FILES]
    assert status(workspace) == "ready"
    assert {check.verdict for _, check in workspace.hub.verify("p")} == {"right"}
    assert not server.asked("pytorch_model.bin") + server.asked("modeling_evil.py")
    assert [request.authorization for request in server.asked("/cdn/")] == [None, None]


def test_progress_comes_at_most_four_times_a_second(server: HubServer, cache: Path) -> None:
    server.pause_s = SLOW_S
    commit = server.add("org/T", model_files(3_000_000))
    transfer = Transfer([Wanted("org/T", commit, "target")])
    events = [(time.monotonic(), event) for event in transfer.events()]
    assert transfer.close() == 0
    ticks = [at for at, event in events if event["event"] == "progress"]
    assert len(ticks) >= 4
    assert len(ticks) <= 4 * (ticks[-1] - ticks[0]) + 2
    done = [event["done_bytes"] for _, event in events if event["event"] == "progress"]
    assert done == sorted(done)
    assert done[0] < done[-1]


@pytest.mark.parametrize("end", ["paused", "cancelled"])
def test_a_stopped_download_ends_at_once_and_goes_on_where_it_was(
    workspace: Workspace, server: HubServer, cache: Path, end: str
) -> None:
    server.pause_s = SLOW_S
    jobs = workspace.hub.jobs
    job = workspace.hub.download("p")
    until(workspace, job, lambda now: now.done_bytes > 400_000)
    begin = time.monotonic()
    stopped = jobs.pause(job.id) if end == "paused" else jobs.cancel(job.id)
    assert time.monotonic() - begin < 1
    assert stopped.state == end
    (partial,) = repo_folder("org/p-T").glob("blobs/*.incomplete")
    kept = partial.stat().st_size
    assert kept > 300_000
    assert status(workspace) == "partial"
    assert_loadable_or_clean(workspace, cache)
    time.sleep(3 * SLOW_S)
    assert partial.stat().st_size == kept, "the process still writes"
    server.pause_s = 0
    again = finish(workspace, workspace.hub.download("p"))
    assert (again.id, again.state) == (job.id, "done")
    assert server.asked("/cdn/org/p-T")[-1].range == f"bytes={kept}-"
    assert {check.verdict for _, check in workspace.hub.verify("p")} == {"right"}


def test_two_requests_for_the_same_pair_are_one_job_and_another_pair_waits(
    workspace: Workspace, server: HubServer, settings: Settings
) -> None:
    add_pair(server, settings, "q", 100_000)
    workspace._reload_registry()
    server.pause_s = SLOW_S
    first, second = workspace.hub.download("p"), workspace.hub.download("p")
    other = workspace.hub.download("q")
    assert first.id == second.id != other.id
    until(workspace, first, lambda now: now.done_bytes > 0)
    assert [job.state for job in workspace.hub.jobs.snapshot()] == ["queued", "active"]
    assert workspace.hub.jobs.cancel(other.id).state == "cancelled"
    server.pause_s = 0
    assert finish(workspace, first).state == "done"
    assert finish(workspace, workspace.hub.download("q")).state == "done"
    assert len(server.asked("/cdn/org/p-T")) == 1


KILLED = """
import sys
from dflash_app.workspace import open_workspace
workspace = open_workspace()
job = workspace.hub.download("p")
for now in workspace.hub.jobs.watch(job.id):
    if now.done_bytes > 400_000:
        print("halfway", flush=True)
"""


def test_after_kill_9_the_job_is_interrupted_and_resumes_where_it_was(
    server: HubServer, cache: Path, settings: Settings
) -> None:
    add_pair(server, settings)
    server.pause_s = SLOW_S
    app = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, env=environment()
    )
    with app, closing(open_workspace(settings)) as meanwhile:
        assert app.stdout is not None
        assert app.stdout.readline() == "halfway\n"
        with pytest.raises(HubError, match="is being downloaded by another dflash-app"):
            meanwhile.hub.download("p")
        with pytest.raises(ModelInUse, match="needed by the download of pair 'p'"):
            meanwhile.hub.remove(meanwhile.hub.plan_removal("p"))
        app.send_signal(signal.SIGKILL)
    (partial,) = repo_folder("org/p-T").glob("blobs/*.incomplete")
    with closing(open_workspace(settings)) as workspace:
        (job,) = workspace.hub.jobs.snapshot()
        assert (job.pair, job.state) == ("p", "interrupted")
        assert job.total_bytes is not None
        assert status(workspace) == "partial"
        assert_loadable_or_clean(workspace, cache)
        wait_until_still(partial)
        kept = partial.stat().st_size
        server.pause_s = 0
        workspace.hub.jobs.resume(job.id)
        assert finish(workspace, job).state == "done"
    assert server.asked("/cdn/org/p-T")[-1].range == f"bytes={kept}-"


def wait_until_still(path: Path) -> None:
    """The transfer ends with its parent: within a second the file no longer grows."""
    size = -1
    for _ in range(20):
        if (now := path.stat().st_size) == size:
            return
        size = now
        time.sleep(4 * SLOW_S)
    pytest.fail("the download process outlived the app")


def test_a_paused_job_is_not_resumed_while_another_process_goes_on_with_it(
    workspace: Workspace, server: HubServer, settings: Settings
) -> None:
    server.pause_s = SLOW_S
    job = workspace.hub.download("p")
    workspace.hub.jobs.pause(job.id)
    with closing(open_workspace(settings)) as other:
        other.hub.jobs.resume(job.id)
        for resume in (
            lambda: workspace.hub.jobs.resume(job.id),
            lambda: workspace.hub.download("p"),
        ):
            with pytest.raises(HubError, match="is being downloaded by another dflash-app"):
                resume()
    server.pause_s = 0
    assert finish(workspace, workspace.hub.download("p")).state == "done"


def test_closing_the_app_interrupts_and_the_next_start_offers_to_resume(
    server: HubServer, cache: Path, settings: Settings
) -> None:
    add_pair(server, settings)
    server.pause_s = SLOW_S
    with closing(open_workspace(settings)) as workspace:
        until(workspace, workspace.hub.download("p"), lambda now: now.done_bytes > 0)
    server.pause_s = 0
    with closing(open_workspace(settings)) as workspace:
        (job,) = workspace.hub.jobs.snapshot()
        assert job.state == "interrupted"
        assert finish(workspace, workspace.hub.download("p")).state == "done"


def test_a_branch_is_resolved_once_and_the_commit_is_used_ever_after(
    server: HubServer, cache: Path, settings: Settings
) -> None:
    old, _ = add_pair(server, settings, pinned=False)
    with closing(open_workspace(settings)) as workspace:
        assert workspace.registry.get("p").target.revision is None
        finish(workspace, workspace.hub.download("p"))
        assert workspace.registry.get("p").target.revision == old
    new = server.add("org/p-T", model_files(1000, 9))
    (cache / "models--org--p-T" / "refs" / "main").write_text(new)  # another program updated it
    with closing(open_workspace(settings)) as workspace:
        assert workspace.registry.get("p").target.revision == old
        assert workspace.state("p").status == "ready"
        assert workspace.revisions("p")[0] == old
        removal = workspace.hub.plan_removal("p")
        workspace.hub.remove(removal)
        finish(workspace, workspace.hub.download("p"))
        assert workspace.revisions("p")[0] == old
    assert json.loads((settings.home / "revisions.json").read_text())["org/p-T"] == old


def test_only_the_shards_that_the_index_names_are_fetched(server: HubServer, cache: Path) -> None:
    files = model_files(100)
    shards = {f"model-0000{i}-of-00002.safetensors": os.urandom(50_000) for i in (1, 2)}
    index = json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}).encode()
    more = {"model.safetensors.index.json": index, "consolidated.safetensors": b"never"}
    commit = server.add("org/S", files | shards | more)
    transfer = Transfer([Wanted("org/S", commit, "target")])
    events = [event["event"] for event in transfer.events()]
    assert (transfer.close(), events[-1]) == (0, "done")
    here = names_here(cache, "org/S")
    assert set(shards) | {"model.safetensors.index.json"} <= set(here)
    assert not {"model.safetensors", "consolidated.safetensors"} & set(here)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b""}, "never opened because they can run"),
        ({"model.safetensors": b""}, "has no config.json"),
        ({"config.json": b"{}", "model.safetensors.index.json": b"["}, "cannot be read"),
        (
            {
                "config.json": b"{}",
                "model.safetensors.index.json": b'{"weight_map": {"a": "../../x.safetensors"}}',
            },
            "lacks '../../x.safetensors'",
        ),
    ],
)
def test_a_repository_that_holds_no_safe_model_is_refused(
    server: HubServer, cache: Path, files: dict[str, bytes], said: str
) -> None:
    commit = server.add("org/bad", files)
    transfer = Transfer([Wanted("org/bad", commit, "target")])
    *_, last = transfer.events()
    transfer.close()
    assert said in last["text"]
    assert names_here(cache, "org/bad") == []


def test_an_empty_file_arrives_without_a_question(server: HubServer, cache: Path) -> None:
    commit = server.add("org/D", model_files(1000) | {"README.md": b""})
    transfer = Transfer([Wanted("org/D", commit, "drafter")])
    *_, last = transfer.events()
    transfer.close()
    assert last["event"] == "done"
    assert (repo_folder("org/D") / "snapshots" / commit / "README.md").read_bytes() == b""


def test_a_listing_whose_commit_is_no_commit_writes_nothing(server: HubServer, cache: Path) -> None:
    server.add("org/T", model_files(1000))
    repo = server.repos["org/T"]
    repo.main = "../../../out"
    repo.commits[repo.main] = model_files(1000)
    transfer = Transfer([Wanted("org/T", None, "target")])
    events = list(transfer.events())
    transfer.close()
    assert [event["event"] for event in events] == ["failed"]
    assert "org/T is listed at another commit" in events[0]["text"]
    assert not cache.exists()


@pytest.mark.parametrize("name", ["../../etc", "https://huggingface.co/org/x", "", "nobody"])
def test_a_name_that_is_no_pair_writes_nothing(
    workspace: Workspace, cache: Path, name: str
) -> None:
    with pytest.raises(UnknownPair, match="No pair is called"):
        workspace.hub.download(name)
    assert not cache.exists()
    assert workspace.hub.jobs.snapshot() == ()


def test_a_file_beyond_the_hubs_limit_for_plain_http_names_the_command(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "MAX_HTTP_DOWNLOAD_SIZE", 1000)
    large = RemoteFile("org/T", "c" * 40, "model.safetensors", 1001, "a" * 64, cache)
    with pytest.raises(HubError, match=r"run `hf download org/T --revision cccc"):
        fetch(large, server.url)
    assert server.requests == []


def test_what_is_not_on_the_hub_cannot_be_downloaded(workspace: Workspace) -> None:
    with pytest.raises(PairNotReady, match="is from a folder of this machine"):
        workspace.hub.download("embedded")
    with pytest.raises(PairNotReady, match="is planned"):
        workspace.hub.download("deepseek-v4-pro")
