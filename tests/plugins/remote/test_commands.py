"""`dflash-app servers` lists, checks, adds and removes servers, and says why where it cannot."""

import json
from collections.abc import Iterator

import pytest

from dflash_app.cli import main
from dflash_app.registry.load import load_registry
from dflash_app.settings import Settings
from tests.plugins.remote.replayed_vllm import ReplayedVllm, url_of_nobody


@pytest.fixture
def drafting() -> Iterator[ReplayedVllm]:
    with ReplayedVllm(step_s=0.001) as served:
        yield served


@pytest.fixture
def plain() -> Iterator[ReplayedVllm]:
    with ReplayedVllm(drafts=False, step_s=0.001) as served:
        yield served


def test_a_server_is_added_listed_used_and_removed(
    settings: Settings,
    drafting: ReplayedVllm,
    plain: ReplayedVllm,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["servers", "add", "box", drafting.url, "--ar-url", plain.url]) == 0
    assert f"Pair 'box' is saved in {settings.user_registry}" in capsys.readouterr().err
    assert main(["servers", "ls"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["pair", "decodes", "server", "state", "engine", "model"]
    assert [row.split()[:4] for row in rows] == [
        ["box", "DFlash", drafting.url, "up"],
        ["box", "AR", plain.url, "up"],
    ]
    asked = ["generate", "Hello", "--pair", "box", "--max-new-tokens", "40", "--json"]
    assert main(asked) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["mode"], run["metrics"]["acceptance_source"]) == ("dflash", "vLLM, this request")
    assert [body["max_tokens"] for body in drafting.asked] == [40]
    assert main(["servers", "rm", "box"]) == 0
    assert load_registry([settings.user_registry]).pairs == ()


def test_a_server_that_is_down_is_listed_with_the_reason(
    drafting: ReplayedVllm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["servers", "ls"]) == 0
    assert "No server is known" in capsys.readouterr().err
    assert main(["servers", "add", "box", drafting.url, "--model", "org/replayed"]) == 0
    drafting.close()
    capsys.readouterr()
    assert main(["servers", "ls", "--json"]) == 0
    said = capsys.readouterr()
    (listed,) = json.loads(said.out)["servers"]
    assert (listed["pair"], listed["role"], listed["told"]) == ("box", "dflash", None)
    assert "No server answers at 127.0.0.1" in listed["problem"]
    assert main(["servers", "ls"]) == 0
    assert "box: No server answers at 127.0.0.1" in capsys.readouterr().err


def test_check_tells_what_a_server_is_and_saves_nothing(
    settings: Settings, drafting: ReplayedVllm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["servers", "check", drafting.url]) == 0
    told = capsys.readouterr().out
    for words in ("vLLM 0.32.0", "org/replayed, context 4,096", "yes, 15 tokens a step"):
        assert words in told
    assert main(["servers", "check", drafting.url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["engine"], found["drafts"], found["num_drafts"]) == ("vllm", True, 15)
    assert not settings.user_registry.exists()


def test_a_key_comes_from_the_environment_and_is_never_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ReplayedVllm(key="sk-secret") as served:
        assert main(["servers", "add", "gpu-box.1", served.url]) == 1
        assert "asks for a key" in capsys.readouterr().err
        monkeypatch.setenv("DFLASH_APP_KEY_GPU_BOX_1", "sk-secret")
        assert main(["servers", "add", "gpu-box.1", served.url]) == 0
        assert main(["servers", "ls"]) == 0
    said = capsys.readouterr()
    assert " up " in said.out
    assert "sk-secret" not in said.out + said.err + settings.user_registry.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "box", "ftp://gpu-box"], "by http or https"),
        (["add", "box", "{nobody}"], "No server answers"),
        (["add", "box", "{drafting}", "--model", "gpt-9"], "choose one of those it has"),
        (["add", "embedded", "{drafting}"], "already taken"),
        (["add", "Box", "{drafting}"], "name: use 1 to 64"),
        (["add", " ", "{drafting}"], "name is empty"),
        (["add", "box", "{drafting}", "--plain"], "is no plain server"),
        (["add", "box", "{drafting}", "--plain", "--ar-url", "{drafting}"], "leave out --ar-url"),
        (["check", "gpu-box"], "by http or https"),
        (["rm", "embedded"], "is on no server"),
        (["rm", "nothing"], "nothing"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_saves_nothing(
    settings: Settings,
    drafting: ReplayedVllm,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    known = {"drafting": drafting.url, "nobody": url_of_nobody()}
    assert main(["servers", *(each.format(**known) for each in arguments)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not settings.user_registry.exists()
