"""`space check` passes what a Space can run, and of everything else names what to mend."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dflash_app.spaces.check import Check, check_checkout, files_to_push

ROOT = Path(__file__).parents[2]
FRONT = """---
title: DFlash Studio
emoji: ⚡
colorFrom: yellow
colorTo: indigo
sdk: gradio
sdk_version: 6.31.0
python_version: "3.12"
app_file: app.py
suggested_hardware: cpu-basic
short_description: Speculative decoding
---

# DFlash Studio
"""
TOKEN = "hf_" + "aBcD" * 9  # in two pieces, or this file would hold one


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the checks but the last look at, as small as can be."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "README.md").write_text(FRONT, encoding="utf-8")
    (folder / ".gitignore").write_text("__pycache__/\n.venv/\n")
    (folder / "app.py").write_text("")
    for name in ("pyproject.toml", "requirements.txt", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def look(folder: Path) -> dict[str, Check]:
    return {check.name: check for check in check_checkout(folder, build=False)}


def failing(folder: Path) -> dict[str, str]:
    return {name: check.detail for name, check in look(folder).items() if not check.ok}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_sound_checkout_passes(checkout: Path) -> None:
    assert failing(checkout) == {}
    found = look(checkout)
    assert found["torch of ZeroGPU"].detail == "torch>=2.8 takes 2.11.0, 2.10.0, 2.9.1, 2.8.0"
    assert found["gradio"].detail == "6.31.0, as tested"


def test_this_checkout_passes() -> None:
    assert failing(ROOT) == {}


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("README.md", lambda at: (at / "README.md").write_text("# No\n"), "does not begin with"),
    ("README.md", lambda at: (at / "README.md").unlink(), "cannot be read"),
    ("README.md", lambda at: edit(at / "README.md", "emoji: ⚡", "emoji: [\n"), "is no YAML"),
    ("README.md", lambda at: edit(at / "README.md", "emoji: ⚡\n", ""), "emoji .* required"),
    ("README.md", lambda at: edit(at / "README.md", "yellow", "orange"), "colorFrom"),
    ("README.md", lambda at: edit(at / "README.md", "sdk: gradio", "sdk: docker"), "sdk"),
    ("README.md", lambda at: edit(at / "README.md", "decoding\n---", "d" * 60 + "\n---"), "60"),
    ("README.md", lambda at: edit(at / "README.md", "app.py", "main.py"), "app_file is 'main.py'"),
    ("gradio", lambda at: edit(at / "README.md", "6.31.0", "5.50.0"), "set it to 6.31.0"),
    ("Python", lambda at: edit(at / "README.md", '"3.12"', '"3.13"'), "ZeroGPU runs 3.12"),
    (
        "Python",
        lambda at: edit(at / "pyproject.toml", '">=3.11"', '">=3.13"'),
        "the app needs >=3.13",
    ),
    (
        "requirements.txt",
        lambda at: edit(at / "requirements.txt", "pluggy>=1.6\n", ""),
        "pluggy>=1.6 of pyproject.toml is not in it",
    ),
    (
        "requirements.txt",
        lambda at: edit(at / "constraints.txt", "transformers==5.23.0", "transformers==4.57.0"),
        "excludes the tested 4.57.0",
    ),
    (
        "requirements.txt",
        lambda at: edit(at / "constraints.txt", "plotly==7.1.0\n", ""),
        "plotly has no tested version",
    ),
    ("requirements.txt", lambda at: (at / "requirements.txt").unlink(), "a Space needs it"),
    (
        "torch of ZeroGPU",
        lambda at: edit(at / "requirements.txt", "torch>=2.8", "torch>=2.12"),
        "excludes all of 2.11.0",
    ),
    (
        "file sizes",
        lambda at: (at / "model.bin").write_bytes(b"\0" * 10_000_000),
        "model.bin has 10.0 MB",
    ),
    ("secrets", lambda at: (at / "notes.md").write_text(TOKEN), "notes.md holds .* token"),
    ("secrets", lambda at: (at / ".env").write_text("A=1"), ".env is a file of secrets"),
    (
        "secrets",
        lambda at: (at / "key").write_text("-----BEGIN RSA " + "PRIVATE KEY-----"),
        "a private key",
    ),
    (".gitignore", lambda at: (at / ".gitignore").unlink(), "does not name .venv"),
]


@pytest.mark.parametrize(("name", "damage", "sentence"), DAMAGE)
def test_what_is_wrong_fails_alone_with_the_cure(
    checkout: Path, name: str, damage: Callable[[Path], None], sentence: str
) -> None:
    damage(checkout)
    found = failing(checkout)
    assert name in found
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(found[name])


def test_only_what_would_be_pushed_is_looked_at(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "huge").write_text(TOKEN)
    assert ".venv/huge" not in files_to_push(checkout)
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    (checkout / ".gitignore").write_text("__pycache__/\n.venv/\nsecret.txt\n")
    (checkout / "secret.txt").write_text(TOKEN)
    assert "secret.txt" not in files_to_push(checkout)
    assert "app.py" in files_to_push(checkout)
    assert failing(checkout) == {}
