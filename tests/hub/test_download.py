"""Downloads by the real library from a hub on this machine, with every fault it may have."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dflash_app.errors import HubError, ModelInUse, PairNotReady, UnknownPair
from dflash_app.hub.blobs import RemoteFile, fetch
from dflash_app.hub.cache import pair_state
from dflash_app.hub.disk import repo_folder
from dflash_app.hub.job_store import Job
from dflash_app.hub.process import Transfer, Wanted
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.hub.conftest import (
    add_pair,
    environment,
    model_files,
    names_here,
    use_endpoint,
)
from tests.hub.server import OTHER_TOKEN, TOKEN, Fault, HubServer

TARGET_FILES = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]
SLOW_S = 0.05
"""Between two chunks of 64 kB: 2 MB take more than a second."""


@pytest.fixture
def workspace(server: HubServer, settings: Settings) -> Iterator[Workspace]:
    """A workspace that knows the pair `p`, which the hub has."""
    settings.home.mkdir(exist_ok=True)
    add_pair(server, settings)
    with closing(open_workspace(settings)) as opened:
        yield opened


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
