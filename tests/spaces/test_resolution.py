"""pip itself resolves the requirements, from wheels that a test wrote or from the index."""

import os
import zipfile
from pathlib import Path

import pytest

from dflash_app.spaces.check import ZERO_GPU_PYTHON, ZERO_GPU_TORCH, check_checkout
from dflash_app.spaces.resolution import CannotResolve, resolve

ROOT = Path(__file__).resolve().parents[2]


def write_wheel(folder: Path, name: str, version: str, *needs: str, python: str = ">=3.8") -> None:
    info = f"{name}-{version}.dist-info"
    lines = [f"Name: {name}", f"Version: {version}", f"Requires-Python: {python}"]
    lines += [f"Requires-Dist: {each}" for each in needs]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", *lines, ""]))
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only index that pip asks."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_the_newest_set_that_fits_python_and_what_comes_besides_is_named(
    wheels: Path, tmp_path: Path
) -> None:
    write_wheel(wheels, "studio", "1.0", "engine>=2")
    for version in ("2.0", "2.1", "3.0"):
        write_wheel(wheels, "engine", version)
    write_wheel(wheels, "engine", "2.2", python=">=3.13")
    listed = tmp_path / "requirements.txt"
    listed.write_text("studio>=1\n")
    assert resolve(listed, ["engine<3"], "3.12") == {"studio": "1.0", "engine": "2.1"}
    assert list(tmp_path.glob("**/*.dist-info")) == []


def test_a_set_that_cannot_be_is_told_with_its_reason(wheels: Path, tmp_path: Path) -> None:
    write_wheel(wheels, "studio", "1.0", "engine>=2")
    write_wheel(wheels, "engine", "1.0")
    listed = tmp_path / "requirements.txt"
    listed.write_text("studio>=1\n")
    with pytest.raises(CannotResolve, match=r"engine==1\.0 .* conflicting dependencies"):
        resolve(listed, ["engine==1.0"], "3.12")


def index_answers(tmp_path: Path) -> bool:
    listed = tmp_path / "requirements.txt"
    listed.write_text("pluggy>=1.6\n")
    try:
        return "pluggy" in resolve(listed, [], ZERO_GPU_PYTHON)
    except CannotResolve:
        return False


@pytest.mark.slow
def test_this_checkout_resolves_as_zerogpu_installs_it(tmp_path: Path) -> None:
    if "CI" not in os.environ and not index_answers(tmp_path):
        pytest.skip("no package index can be reached")
    *_, last = check_checkout(ROOT, build=False, resolve=True)
    assert last.name == "installation on ZeroGPU"
    assert last.ok, last.detail
    assert "transformers 5." in last.detail
    assert ZERO_GPU_TORCH[0] == "2.11.0"
