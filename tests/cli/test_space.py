"""`dflash-app space check` says of this very checkout whether a Space can run it."""

import json
from pathlib import Path

import pytest

from dflash_app.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.mark.slow
def test_this_checkout_builds_its_public_page(capsys: Capture) -> None:
    status = main(["space", "check", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert {each["name"]: each["detail"] for each in printed["checks"] if not each["ok"]} == {}
    assert (status, printed["ok"]) == (0, True)
    page = next(each for each in printed["checks"] if each["name"] == "public page")
    assert page["detail"] == "built, offering embedded"


def test_what_fails_is_marked_and_ends_with_status_1(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "app.py").write_text("raise SystemExit('broken')")
    assert main(["space", "check", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["what", "found"]
    assert any(line.startswith("FAIL  README.md") for line in lines)
    assert "broken" in next(line for line in lines if "public page" in line)
    assert any(line.startswith("pass  secrets") for line in lines)


def test_a_folder_without_the_app_is_wrong_usage(tmp_path: Path, capsys: Capture) -> None:
    assert main(["space", "check", str(tmp_path)]) == 2
    assert "is no checkout of this app" in " ".join(capsys.readouterr().err.split())
