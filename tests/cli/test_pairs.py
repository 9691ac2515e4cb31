"""`pairs` shows every known pair with its state, and what was left out."""

import json
from collections.abc import Callable

import pytest

from dflash_app.cli import main
from dflash_app.settings import Settings
from tests.fakes import ScriptedPair


def test_table_has_a_row_for_each_pair_with_its_state(
    play: Callable[..., ScriptedPair], capsys: pytest.CaptureFixture[str]
) -> None:
    play()
    assert main(["pairs"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "ready" in rows["scripted"]
    assert "not downloaded" in rows["qwen3-8b"]
    assert "planned" in rows["deepseek-v4-pro"]


def test_json_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pairs", "--json"]) == 0
    pairs = {pair["name"]: pair for pair in json.loads(capsys.readouterr().out)["pairs"]}
    assert pairs["qwen3-8b"]["state"] == "not downloaded"
    assert "hf download" in pairs["qwen3-8b"]["reason"]
    assert pairs["qwen3-8b"]["target"]["repo"] == "Qwen/Qwen3-8B"


def test_bad_row_of_the_user_is_named_with_file_and_line(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.user_registry.write_text("pairs:\n  - name: mine\n    colour: blue\n")
    assert main(["pairs"]) == 0
    captured = capsys.readouterr()
    assert "embedded" in captured.out
    assert f"{settings.user_registry}, line" in captured.err
