"""`pairs` shows every known pair with its state, and what was left out."""

import json
from collections.abc import Callable

import pytest

from dflash_app.cli import main
from dflash_app.registry.load import load_registry
from dflash_app.settings import EMBEDDED_DIR, Settings
from tests.fakes import ScriptedPair


def test_table_has_a_row_for_each_pair_with_its_state(
    play: Callable[..., ScriptedPair], capsys: pytest.CaptureFixture[str]
) -> None:
    play()
    assert main(["pairs"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "ready" in rows["scripted"]
    assert "needs download" in rows["qwen3-8b"]
    assert "planned" in rows["deepseek-v4-pro"]


def test_json_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pairs", "--json"]) == 0
    pairs = {pair["name"]: pair for pair in json.loads(capsys.readouterr().out)["pairs"]}
    assert pairs["qwen3-8b"]["state"] == "needs download"
    assert "dflash-app hub pull qwen3-8b" in pairs["qwen3-8b"]["reason"]
    assert pairs["qwen3-8b"]["target"]["repo"] == "Qwen/Qwen3-8B"


def test_bad_row_of_the_user_is_named_with_file_and_line(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.user_registry.write_text("pairs:\n  - name: mine\n    colour: blue\n")
    assert main(["pairs"]) == 0
    captured = capsys.readouterr()
    assert "embedded" in captured.out
    assert f"{settings.user_registry}, line" in captured.err


EMBEDDED = ["--target", str(EMBEDDED_DIR / "target"), "--drafter", str(EMBEDDED_DIR / "drafter")]


def test_a_pair_is_added_listed_used_and_removed(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pairs", "add", "mine", *EMBEDDED, "--title", "My pair"]) == 0
    assert f"Pair 'mine' is saved in {settings.user_registry}." in capsys.readouterr().err
    (pair,) = load_registry([settings.user_registry]).pairs
    assert (pair.title, pair.family, pair.block_size) == ("My pair", "qwen3", 16)
    assert main(["pairs"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "ready" in rows["mine"]
    asked = ["generate", "Hello", "--pair", "mine", "--max-new-tokens", "4", "--json"]
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["mode"] == "dflash"
    assert main(["pairs", "remove", "mine"]) == 0
    assert load_registry([settings.user_registry]).pairs == ()
    assert main(["pairs", "remove", "embedded"]) == 1


def test_a_pair_that_is_not_downloaded_is_added_with_its_commands(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    refs = ["--target", "org/T", "--drafter", "org/D", "--drafter-revision", "0123456"]
    assert main(["pairs", "add", "mine", *refs]) == 0
    said = capsys.readouterr().err
    assert "run `hf download org/T`" in said
    assert "run `hf download org/D --revision 0123456`" in said
    (pair,) = load_registry([settings.user_registry]).pairs
    assert pair.drafter is not None
    assert pair.drafter.revision == "0123456"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Mine", *EMBEDDED], "name: use 1 to 64"),
        (["embedded", *EMBEDDED], "is already taken"),
        (["mine", "--target", "/no/such", "--drafter", "a/b"], "no folder of this machine"),
        (["mine", "--target", "a/b", "--drafter", "a/b", "--target-revision", "main"], "commit id"),
        (["mine", *EMBEDDED[:2], "--drafter", EMBEDDED[1]], "is no drafter"),
    ],
)
def test_a_pair_that_cannot_be_is_one_sentence_and_not_saved(
    settings: Settings, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["pairs", "add", *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not settings.user_registry.exists()


def test_the_page_and_the_command_line_say_a_state_in_the_same_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dflash_app.ui.model_bar import pair_choices
    from dflash_app.workspace import open_workspace

    assert main(["pairs", "--json"]) == 0
    told = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)["pairs"]}
    workspace = open_workspace()
    offered = {name: label for label, name in pair_choices(workspace)}
    workspace.close()
    assert offered.keys() == told.keys()
    for name, label in offered.items():
        assert told[name] == "ready" or label.endswith(f"·  {told[name]}")
