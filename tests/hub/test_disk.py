"""What the cache holds, what deleting frees, and when it is refused."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dflash_app.errors import ModelInUse, PairNotReady
from dflash_app.hub import disk
from dflash_app.hub.drift import compare, config_changes, find_drift
from dflash_app.hub.process import Transfer, Wanted
from dflash_app.hub.verify import verify_folder
from dflash_app.registry.pair import ModelRef
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.hub.conftest import add_pair, model_files
from tests.hub.server import HubServer


def bring(repo: str, commit: str, role: str = "target") -> Path:
    """Download a model; its folder."""
    transfer = Transfer([Wanted(repo, commit, role)])
    *_, last = transfer.events()
    transfer.close()
    assert last["event"] == "done"
    return disk.repo_folder(repo) / "snapshots" / commit


@pytest.fixture
def workspace(server: HubServer, settings: Settings) -> Iterator[Workspace]:
    settings.home.mkdir(exist_ok=True)
    add_pair(server, settings, size=50_000)
    with closing(open_workspace(settings)) as opened:
        *_, last = opened.hub.jobs.watch(opened.hub.download("p").id)
        assert last.state == "done"
        yield opened


def test_an_absent_cache_holds_nothing(cache: Path) -> None:
    assert disk.disk_use() == ()
    assert disk.free_bytes() > 0
    assert not cache.exists()


def test_use_is_told_by_repository_and_revision_with_what_is_unfinished(
    server: HubServer, cache: Path
) -> None:
    files = model_files(50_000)
    old = server.add("org/T", files)
    new = server.add("org/T", files | {"config.json": b'{"v": 2}'})
    for commit in (old, new):
        bring("org/T", commit)
    begun = disk.repo_folder("org/T") / "blobs" / ("a" * 64 + ".incomplete")
    begun.write_bytes(bytes(700))
    (use,) = disk.disk_use()
    assert (use.repo, use.unfinished_bytes) == ("org/T", 700)
    assert {revision.commit for revision in use.revisions} == {old, new}
    assert use.size_bytes == disk.bytes_here("org/T")
    on_disk = sum(path.stat().st_size for path in begun.parent.iterdir())
    assert use.size_bytes == on_disk
    assert all(revision.num_files == 5 for revision in use.revisions)


def test_a_deletion_frees_what_it_said_and_leaves_what_other_revisions_share(
    server: HubServer, cache: Path
) -> None:
    files = model_files(50_000)
    old = server.add("org/T", files)
    new = server.add("org/T", files | {"config.json": b'{"v": 2}'})
    for commit in (old, new):
        bring("org/T", commit)
    one = disk.plan_removal([("org/T", old), ("org/T", "f" * 40)])
    assert one.revisions == (("org/T", old),)
    assert one.freed_bytes == len(files["config.json"]), "the weights are shared"
    assert disk.remove(one) == one.freed_bytes
    assert {
        check.verdict for check in verify_folder(cache / f"models--org--T/snapshots/{new}")
    } == {"right"}
    rest = disk.plan_removal([("org/T", new)])
    assert disk.remove(rest) == rest.freed_bytes > 50_000
    assert not disk.repo_folder("org/T").exists()
    assert disk.disk_use() == ()


def test_a_damaged_repository_can_be_deleted_too(server: HubServer, cache: Path) -> None:
    commit = server.add("org/T", model_files(50_000))
    folder = bring("org/T", commit)
    (folder / "config.json").resolve().unlink()
    disk.remove(disk.plan_removal([("org/T", commit)]))
    assert not disk.repo_folder("org/T").exists()


def test_unfinished_downloads_are_deleted_with_the_pair(workspace: Workspace) -> None:
    begun = disk.repo_folder("org/p-D") / "blobs" / ("a" * 64 + ".incomplete")
    begun.write_bytes(bytes(700))
    removal = workspace.hub.plan_removal("p")
    assert removal.unfinished == ("org/p-D",)
    before = disk.bytes_here("org/p-T") + disk.bytes_here("org/p-D")
    assert workspace.hub.remove(removal) == removal.freed_bytes == before
    assert workspace.state("p").status == "needs download"


def test_a_model_that_another_ready_pair_needs_stays_unless_asked_for(
    workspace: Workspace, server: HubServer, settings: Settings
) -> None:
    target = workspace.registry.get("p").target
    row = (
        f"  - name: other\n    title: O\n    family: qwen3\n    target: {{repo: {target.repo}, "
        f"revision: {target.revision}}}\n    drafter: {{path: {settings.home}}}\n"
    )
    for name in ("config.json", "model.safetensors"):
        (settings.home / name).write_text("{}")
    settings.user_registry.write_text(settings.user_registry.read_text() + row)
    workspace._reload_registry()
    removal = workspace.hub.plan_removal("p")
    assert [repo for repo, _ in removal.revisions] == ["org/p-D"]
    assert removal.kept == ("org/p-T stays, because 'other' needs it too.",)
    both = workspace.hub.plan_removal("p", shared=True)
    assert [repo for repo, _ in both.revisions] == ["org/p-T", "org/p-D"]
    (kept,) = workspace.hub.plan_removal("other", ["drafter"]).kept
    assert kept == "The drafter is a folder of this machine and stays."


def test_a_pair_that_is_being_downloaded_or_loaded_is_not_deleted(
    workspace: Workspace, server: HubServer
) -> None:
    hub = workspace.hub
    hub.remove(hub.plan_removal("p", ["drafter"]))
    server.pause_s = 0.2
    job = hub.download("p")
    with pytest.raises(ModelInUse, match="is needed by the download of pair 'p': cancel that"):
        hub.remove(hub.plan_removal("p"))
    hub.jobs.cancel(job.id)
    loading = workspace.not_importing()
    with loading:  # the same thread may, another may not
        import threading

        raised: list[Exception] = []

        def remove() -> None:
            try:
                hub.remove(hub.plan_removal("p"))
            except PairNotReady as error:
                raised.append(error)

        thread = threading.Thread(target=remove)
        thread.start()
        thread.join()
    assert "is being loaded just now" in str(raised[0])
    assert disk.bytes_here("org/p-T") > 0


def test_a_changed_byte_a_missing_file_and_a_copy_are_told_apart(
    workspace: Workspace, cache: Path
) -> None:
    folder = workspace.state("p").target_dir
    assert folder is not None
    for name in ("model.safetensors", "config.json"):  # one named by sha256, one by git's sha1
        blob = (folder / name).resolve()
        data = bytearray(blob.read_bytes())
        data[0] ^= 1
        blob.write_bytes(data)
    shutil.copy(folder / "tokenizer_config.json", folder / "copy.json")
    (folder / "gone.json").symlink_to("../../blobs/" + "a" * 40)
    verdicts = {check.name: check.verdict for check in verify_folder(folder)}
    assert verdicts == {
        "model.safetensors": "damaged",
        "config.json": "damaged",
        "gone.json": "missing",
        "copy.json": "unknown",
        "tokenizer.json": "right",
        "generation_config.json": "right",
        "tokenizer_config.json": "right",
    }
    assert workspace.hub.discard_damaged("p", list(workspace.hub.verify("p"))) == 3
    assert workspace.state("p").status == "needs download"
    *_, last = workspace.hub.jobs.watch(workspace.hub.download("p").id)
    assert last.state == "done"
    assert {check.verdict for check in verify_folder(folder)} == {"right", "unknown"}


def test_a_pair_without_a_damaged_file_is_not_ready_and_a_download_brings_it(
    workspace: Workspace,
) -> None:
    folder = workspace.state("p").target_dir
    assert folder is not None
    (folder / "tokenizer_config.json").resolve().write_bytes(b"damaged")
    assert workspace.hub.discard_damaged("p", list(workspace.hub.verify("p"))) == 1
    assert workspace.state("p").status == "needs download"
    *_, last = workspace.hub.jobs.watch(workspace.hub.download("p").id)
    assert last.state == "done"
    assert {check.verdict for _, check in workspace.hub.verify("p")} == {"right"}


def test_another_revision_in_the_cache_is_warned_of_with_what_its_config_changes(
    server: HubServer, cache: Path
) -> None:
    old = server.add("org/T", model_files(1000, rope={"theta": 1.0}, gone=[1]))
    bring("org/T", old)
    new = server.add("org/T", model_files(1000, rope={"theta": 2.0}, layers=4))
    ref = ModelRef(repo="org/T", revision=new)
    drift = find_drift(ref)
    assert drift is not None
    assert drift.cached == (old,)
    assert old[:12] in drift.warning
    assert new[:12] in drift.warning
    told = {(change.key, change.cached, change.pinned) for change in config_changes(drift)}
    assert told == {
        ("rope.theta", "1.0", "2.0"),
        ("gone", "[1]", "(absent)"),
        ("layers", "(absent)", "4"),
    }
    assert not (disk.repo_folder("org/T") / "snapshots" / new).exists(), "asking writes nothing"
    bring("org/T", new)
    assert find_drift(ref) is None


def test_equal_configs_have_no_changes() -> None:
    assert compare({"a": {"b": 1}, "c": {}}, {"c": {}, "a": {"b": 1}}) == ()
