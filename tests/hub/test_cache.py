"""What of a pair is on disk, in caches laid out as the hub's documentation says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dflash_app import settings
from dflash_app.errors import PairNotReady, UnsupportedFormat
from dflash_app.hub.cache import is_here, pair_state, resolve
from dflash_app.registry.pair import ModelRef, Pair

REVISION = "0123456789abcdef0123456789abcdef01234567"
MODEL = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "weights"}
INDEX = json.dumps(
    {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
)
SHARDED = {
    "config.json": "{}",
    "tokenizer.json": "{}",
    "model.safetensors.index.json": INDEX,
    "model-1-of-2.safetensors": "1",
    "model-2-of-2.safetensors": "2",
}


def _cache(cache: Path, repo: str, files: dict[str, str], ref: str | None = "main") -> Path:
    """A repository in the hub's cache: blobs, links to them from a snapshot, a ref."""
    base = cache / f"models--{repo.replace('/', '--')}"
    snapshot = base / "snapshots" / REVISION
    for folder in (base / "blobs", base / "refs", snapshot):
        folder.mkdir(parents=True)
    for number, (name, text) in enumerate(files.items()):
        (base / "blobs" / str(number)).write_text(text)
        (snapshot / name).symlink_to(Path("../../blobs") / str(number))
    if ref:
        (base / "refs" / ref).write_text(REVISION)
    return snapshot


def _pair(**changes: object) -> Pair:
    row: dict[str, object] = {
        "name": "p",
        "title": "P",
        "family": "qwen3",
        "target": ModelRef(repo="org/T"),
        "drafter": ModelRef(repo="org/D", revision=REVISION),
    }
    return Pair.model_validate(row | changes)


def test_a_pair_whose_files_are_all_there_is_ready(tmp_path: Path) -> None:
    target = _cache(tmp_path, "org/T", SHARDED)
    drafter = _cache(tmp_path, "org/D", {"config.json": "{}", "model.safetensors": ""}, ref=None)
    state = pair_state(_pair(), tmp_path)
    assert (state.status, state.reason) == ("ready", None)
    assert (state.target_dir, state.drafter_dir) == (target, drafter)


def test_the_folder_is_the_one_that_the_hub_library_finds(tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    _cache(tmp_path, "org/T", MODEL)
    _cache(tmp_path, "org/S", MODEL, ref="0123456")
    for ref in (
        ModelRef(repo="org/T"),
        ModelRef(repo="org/T", revision=REVISION),
        ModelRef(repo="org/S", revision="0123456"),
    ):
        expected = snapshot_download(
            ref.source, revision=ref.revision, cache_dir=tmp_path, local_files_only=True
        )
        assert resolve(ref, tmp_path) == Path(expected)


def test_an_absent_pair_names_its_command_once(tmp_path: Path) -> None:
    state = pair_state(_pair(), tmp_path / "no cache yet")
    assert state.status == "needs download"
    assert state.reason == ("Pair 'p' is not on this machine: run `dflash-app hub pull p`.")
    assert (state.target_dir, state.drafter_dir) == (None, None)


def test_a_missing_drafter_alone_is_named_with_its_command_only(tmp_path: Path) -> None:
    target = _cache(tmp_path, "org/T", MODEL)
    state = pair_state(_pair(), tmp_path)
    assert (state.status, state.target_dir, state.drafter_dir) == ("needs download", target, None)
    assert state.reason is not None
    assert "only partly here" in state.reason
    assert "org/T" not in state.reason
    assert state.reason.endswith("run `dflash-app hub pull p`.")
    with pytest.raises(PairNotReady, match=f"`hf download org/D --revision {REVISION}`"):
        resolve(ModelRef(repo="org/D", revision=REVISION), tmp_path)


def test_another_revision_than_the_pinned_one_does_not_count(tmp_path: Path) -> None:
    _cache(tmp_path, "org/D", MODEL)
    with pytest.raises(PairNotReady, match="not on this machine"):
        resolve(ModelRef(repo="org/D", revision="f" * 40), tmp_path)


@pytest.mark.parametrize("lacking", ["config.json", "model-2-of-2.safetensors"])
def test_a_half_done_download_names_the_file(tmp_path: Path, lacking: str) -> None:
    files = {name: text for name, text in SHARDED.items() if name != lacking}
    _cache(tmp_path, "org/T", files)
    state = pair_state(_pair(drafter=None), tmp_path)
    assert (state.status, state.target_dir) == ("needs download", None)
    assert state.reason is not None
    assert f"(org/T lacks {lacking}): run `dflash-app hub pull p`." in state.reason


def test_a_target_needs_its_tokenizer_and_a_drafter_none(tmp_path: Path) -> None:
    files = {name: text for name, text in MODEL.items() if name != "tokenizer.json"}
    _cache(tmp_path, "org/T", files)
    ref = ModelRef(repo="org/T")
    assert pair_state(_pair(drafter=None), tmp_path).status == "needs download"
    assert pair_state(_pair(target=ref, drafter=ref), tmp_path).drafter_dir == resolve(
        ref, tmp_path
    )


def test_a_link_whose_blob_is_gone_counts_as_missing(tmp_path: Path) -> None:
    snapshot = _cache(tmp_path, "org/T", MODEL)
    (snapshot / "model.safetensors").resolve().unlink()
    with pytest.raises(PairNotReady, match=r"org/T lacks model\.safetensors"):
        resolve(ModelRef(repo="org/T"), tmp_path)


@pytest.mark.parametrize("index", ["", "[]", "{", '{"weight_map": {"a": 3}}', "[" * 100_000])
def test_a_damaged_index_is_partly_here_and_not_a_crash(tmp_path: Path, index: str) -> None:
    _cache(tmp_path, "org/T", SHARDED | {"model.safetensors.index.json": index})
    with pytest.raises(PairNotReady, match="lacks a readable model"):
        resolve(ModelRef(repo="org/T"), tmp_path)


def test_an_index_without_shards_is_not_complete(tmp_path: Path) -> None:
    empty = SHARDED | {"model.safetensors.index.json": '{"weight_map": {}}'}
    _cache(tmp_path, "org/T", empty)
    with pytest.raises(PairNotReady, match="lacks its weights"):
        resolve(ModelRef(repo="org/T"), tmp_path)


def test_weights_that_are_no_safetensors_are_not_supported_and_never_asked_for_again(
    tmp_path: Path,
) -> None:
    _cache(tmp_path, "org/T", {"config.json": "{}", "tokenizer.json": "", "model.bin": "pickle"})
    state = pair_state(_pair(drafter=None), tmp_path)
    assert (state.status, state.target_dir) == ("not supported", None)
    assert state.reason is not None
    assert "never opened because they can run code" in state.reason
    with pytest.raises(UnsupportedFormat, match="can run code"):
        resolve(ModelRef(repo="org/T"), tmp_path)


def test_a_drafters_weights_may_be_called_otherwise_and_a_targets_not(tmp_path: Path) -> None:
    _cache(tmp_path, "org/T", {"config.json": "", "tokenizer.json": "", "a.safetensors": ""})
    state = pair_state(_pair(drafter=ModelRef(repo="org/T")), tmp_path)
    assert (state.target_dir is None, state.drafter_dir is None) == (True, False)
    assert is_here(ModelRef(repo="org/T"), tmp_path)
    assert not is_here(ModelRef(repo="org/D"), tmp_path)


def test_a_gated_model_says_to_accept_its_licence_and_log_in(tmp_path: Path) -> None:
    reason = pair_state(_pair(target=ModelRef(repo="org/T", gated=True)), tmp_path).reason
    assert reason is not None
    assert (
        "accept the licence at https://huggingface.co/org/T, run `dflash-app hub login`" in reason
    )
    assert reason.index("hub login") < reason.index("hub pull")


def test_a_planned_pair_is_planned_whatever_is_on_disk(tmp_path: Path) -> None:
    _cache(tmp_path, "org/T", MODEL)
    state = pair_state(_pair(status="planned", drafter=None), tmp_path)
    assert state.status == "planned"
    assert state.reason is not None
    assert "planned" in state.reason


def test_the_embedded_pair_is_found_beside_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "EMBEDDED_DIR", tmp_path)
    pair = _pair(target=ModelRef(path="embedded:target"), drafter=ModelRef(path="embedded:drafter"))
    assert pair_state(pair).reason == (
        "Pair 'p' is not on this machine: "
        "run `python -m recipes.embedded_pair --install` or install the app again."
    )
    for name in ("target", "drafter"):
        (tmp_path / name).mkdir()
        for file, text in MODEL.items():
            (tmp_path / name / file).write_text(text)
    state = pair_state(pair)
    assert (state.status, state.drafter_dir) == ("ready", tmp_path / "drafter")


@pytest.mark.parametrize("name", ["absent", "n" * 300])
def test_a_local_folder_that_cannot_be_used_names_the_registry(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    with pytest.raises(PairNotReady, match="correct the path in your registry"):
        resolve(ModelRef(path=str(folder)))


def test_the_state_needs_no_network_and_follows_the_hubs_environment(tmp_path: Path) -> None:
    _cache(tmp_path, "org/T", MODEL)
    code = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise AssertionError('the network was touched')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from dflash_app.hub.cache import resolve\n"
        "from dflash_app.registry.pair import ModelRef\n"
        "print(resolve(ModelRef(repo='org/T')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).name == REVISION
