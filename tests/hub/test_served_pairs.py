"""Served, pulled, loaded and run: the embedded pair and a tiny second one, by the command line."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from dflash_app import settings as app_settings
from dflash_app.cli import main
from dflash_app.errors import ModelInUse
from dflash_app.hub.disk import repo_folder
from dflash_app.settings import EMBEDDED_DIR, Settings
from dflash_app.workspace import open_workspace
from tests.e2e.tiny_pair import write_tiny_pair
from tests.hub.server import Fault, HubServer

ROWS = """pairs:
  - name: served
    title: The embedded pair, served
    family: qwen3
    target: {{repo: org/embedded-target, revision: {0}}}
    drafter: {{repo: org/embedded-drafter, revision: {1}}}
    block_size: 16
    backends: [torch]
  - name: tiny
    title: Tiny
    family: qwen3
    target: {{repo: org/tiny-target}}
    drafter: {{repo: org/tiny-drafter}}
    block_size: 8
    backends: [torch]
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture
def served(server: HubServer, settings: Settings, tmp_path: Path) -> HubServer:
    """A hub with both pairs, known to the user's registry."""
    write_tiny_pair(tmp_path / "tiny", tmp_path / "unused.yaml")
    commits = [
        server.add(f"org/{name}-{role}", files_of(folder / role))
        for name, folder in (("embedded", EMBEDDED_DIR), ("tiny", tmp_path / "tiny"))
        for role in ("target", "drafter")
    ]
    settings.user_registry.write_text(ROWS.format(*commits))
    return server


def test_two_pairs_are_pulled_verified_run_and_deleted_by_the_command_line(
    served: HubServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("served", "tiny"):
        assert main(["hub", "pull", name]) == 0
        assert f"Pair {name!r} is here: " in capsys.readouterr().err
        assert main(["hub", "verify", name]) == 0
        assert "right    org/" in capsys.readouterr().out
        assert (
            main(["generate", "word word", "--pair", name, "--max-new-tokens", "8", "--json"]) == 0
        )
        run = json.loads(capsys.readouterr().out)["runs"][0]
        assert (run["mode"], run["finish_reason"]) == ("dflash", "length")
    assert main(["hub", "ls", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["pairs"]}
    assert (rows["served"]["hub_status"], rows["tiny"]["hub_status"]) == ("ready", "ready")
    assert rows["served"]["here_bytes"] > 12_000_000
    assert rows["qwen3-8b"]["hub_status"] == "not downloaded"
    (folder,) = repo_folder("org/embedded-drafter").glob("snapshots/*")
    (folder / "model.safetensors").resolve().write_bytes(b"damaged")
    assert main(["hub", "verify", "served"]) == 1
    assert "1 file cannot be used: run `dflash-app hub verify served --discard`" in (
        capsys.readouterr().err
    )
    assert main(["hub", "verify", "served", "--discard"]) == 1
    assert "1 file cannot be used, deleted: run `dflash-app hub pull" in capsys.readouterr().err
    assert main(["hub", "pull", "served"]) == 0
    assert main(["hub", "verify", "served"]) == 0
    capsys.readouterr()
    assert main(["hub", "rm", "served", "--yes"]) == 0
    assert "Freed 12." in capsys.readouterr().err
    assert main(["hub", "rm", "served", "--yes"]) == 1
    assert "Nothing of it is on this machine" in capsys.readouterr().err
    assert main(["pairs", "--json"]) == 0
    states = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)["pairs"]}
    assert (states["served"], states["tiny"]) == ("needs download", "ready")


def test_the_same_tokens_come_from_the_served_and_from_the_embedded_pair(
    served: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub", "pull", "served"]) == 0
    outputs = []
    for name in ("served", "embedded"):
        capsys.readouterr()
        ask = ["generate", "What is 12 + 7?", "--pair", name, "--temperature", "0", "--json"]
        assert main([*ask, "--max-new-tokens", "16"]) == 0
        outputs.append(json.loads(capsys.readouterr().out)["runs"][0]["text"])
    assert outputs[0] == outputs[1] != ""


def test_a_pair_in_memory_is_not_deleted_and_one_that_left_it_is(
    served: HubServer, settings: Settings, cache: Path
) -> None:
    with closing(open_workspace(settings)) as workspace:
        hub = workspace.hub
        *_, job = hub.jobs.watch(hub.download("tiny").id)
        assert job.state == "done"
        workspace.loaded("tiny")
        removal = hub.plan_removal("tiny")
        with pytest.raises(ModelInUse, match="is in memory as part of pair 'tiny': choose another"):
            hub.remove(removal)
        assert workspace.state("tiny").status == "ready"
        workspace.unload()
        assert hub.remove(removal) == removal.freed_bytes > 0
        assert workspace.state("tiny").status == "needs download"


def test_show_tells_a_pair_and_what_another_revision_changes(
    served: HubServer, settings: Settings, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub", "pull", "served", "--only", "drafter"]) == 0
    old = served.repos["org/embedded-drafter"].main
    files = dict(served.repos["org/embedded-drafter"].commits[old])
    config = json.loads(files["config.json"]) | {"rope_theta": 5.0}
    new = served.add("org/embedded-drafter", files | {"config.json": json.dumps(config).encode()})
    text = settings.user_registry.read_text()
    settings.user_registry.write_text(text.replace(old, new))
    capsys.readouterr()
    assert main(["hub", "show", "served"]) == 0
    told = capsys.readouterr()
    assert "status: partial" in told.out
    assert f"drafter: org/embedded-drafter at {new}" in told.out
    assert f"Warning: org/embedded-drafter is here at {old[:12]}" in told.err
    assert "rope_theta" in told.out
    served.faults = [Fault("GET", "config.json", 500)]
    assert main(["hub", "show", "served"]) == 0
    assert "Its config cannot be compared" in capsys.readouterr().err


def test_a_gated_pair_a_full_name_and_a_wrong_word_are_one_sentence(
    served: HubServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.repos["org/tiny-drafter"].gated = True
    assert main(["hub", "pull", "tiny"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("Error: org/tiny-drafter is gated and it needs a token: accept its")
    for name in ("org/tiny-target", "../x", "https://huggingface.co/org/x"):
        assert main(["hub", "pull", name]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("Error: No pair is called")
    assert main(["hub", "pull", "tiny", "--only", "both"]) == 2
    assert "choose target or drafter" in capsys.readouterr().err
    assert main(["hub", "verify", "tiny"]) == 1
    assert "is not on this machine" in capsys.readouterr().err


def test_a_newer_registry_is_taken_from_a_file_and_from_an_address(
    served: HubServer,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = app_settings.find_bundled("model_registry.yaml").read_text(encoding="utf-8")
    row = "\n  - {name: brand-new, title: N, family: qwen3, target: {repo: org/n}}\n"
    file = tmp_path / "newer.yaml"
    file.write_text(text + row)
    assert main(["hub", "update-registry", str(file), "--yes"]) == 0
    told = capsys.readouterr()
    assert "new      brand-new" in told.out
    assert main(["pairs", "--json"]) == 0
    names = [pair["name"] for pair in json.loads(capsys.readouterr().out)["pairs"]]
    assert {"brand-new", "served", "tiny", "embedded"} <= set(names)
    served.pages["/r.yaml"] = text.encode()
    assert main(["hub", "update-registry", f"{served.url}/r.yaml", "--yes"]) == 0
    assert "removed  brand-new" in capsys.readouterr().out
    assert main(["hub", "update-registry", f"{served.url}/r.yaml", "--yes"]) == 0
    assert "It says the same" in capsys.readouterr().err
    served.pages["/bad.yaml"] = (text + row.replace("title", "titel")).encode()
    assert main(["hub", "update-registry", f"{served.url}/bad.yaml", "--yes"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{served.url}/bad.yaml, line " in line
    assert "titel is no known key" in line or "title is missing" in line


def test_a_token_with_a_space_is_refused_by_the_command(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: "hf_with space")
    assert main(["hub", "login"]) == 1
    error = capsys.readouterr().err
    assert "A token has no spaces" in error
    assert "hf_with" not in error
    assert server.requests == []
