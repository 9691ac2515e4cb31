"""Checkout, editable install and wheel all find plugins and registry, under the same names."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent

PROBE = """
import json, sys
import dflash_app
from dflash_app.plugins import load_plugins
from dflash_app.settings import EMBEDDED_DIR, find_bundled, load_settings

plugins = load_plugins(load_settings())
print(json.dumps({
    "package": dflash_app.__file__,
    "plugins_dir": str(find_bundled("plugins")),
    "registry": str(find_bundled("model_registry.yaml")),
    "embedded": (EMBEDDED_DIR / "target" / "config.json").is_file(),
    "names": plugins.names,
    "problems": [problem.reason for problem in plugins.problems],
    "tabs": [tab.build for tab in plugins.hook.register_tabs()],
}))
"""


def probe(path: Path, folder: Path, *, isolated: bool = True) -> dict[str, object]:
    """Ask a fresh Python in `folder`, with `path` in front, what it finds."""
    environment = os.environ | {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", PROBE]
    if isolated:
        # -P: the working directory must not help; only what was "installed" counts.
        command.insert(1, "-P")
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a wheel with hatchling, offline and without isolation."""
    out.mkdir()
    code = f"from hatchling.build import build_{kind} as build; print(build({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, as a clone would have them, that a test may damage."""
    copy = tmp_path_factory.mktemp("clone") / "app"
    copy.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("dflash_app", "plugins"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in (
        "app.py",
        "model_registry.yaml",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".gitignore",
    ):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def in_checkout(checkout: Path) -> dict[str, object]:
    """What `python app.py` finds: its folder is the first on sys.path."""
    return probe(checkout, checkout, isolated=False)


def test_checkout_finds_its_own_plugins_and_registry(
    checkout: Path, in_checkout: dict[str, object]
) -> None:
    assert in_checkout["plugins_dir"] == str(checkout / "plugins")
    assert in_checkout["registry"] == str(checkout / "model_registry.yaml")
    assert in_checkout["problems"] == []
    shipped = {path.parent.name for path in (checkout / "plugins").glob("*/__init__.py")}
    assert shipped
    assert {f"dflash_plugins.{name}" for name in shipped} <= set(in_checkout["names"])  # type: ignore[call-overload]


def test_wheel_carries_plugins_registry_and_embedded_pair(
    checkout: Path, in_checkout: dict[str, object], tmp_path: Path
) -> None:
    wheel = build("wheel", checkout, tmp_path / "dist")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    found = probe(site, tmp_path)
    assert found["package"] == str(site / "dflash_app" / "__init__.py")
    assert found["plugins_dir"] == str(site / "dflash_app" / "bundled" / "plugins")
    assert found["registry"] == str(site / "dflash_app" / "bundled" / "model_registry.yaml")
    for same in ("names", "tabs", "problems", "embedded"):
        assert found[same] == in_checkout[same], same
    (metadata,) = distributions(path=[str(site)])
    assert metadata.entry_points["dflash-app"].value == "dflash_app.cli:main"


def test_editable_install_points_at_the_checkout(
    checkout: Path, in_checkout: dict[str, object], tmp_path: Path
) -> None:
    wheel = build("editable", checkout, tmp_path / "dist")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    (pointer,) = site.glob("*.pth")
    found = probe(Path(pointer.read_text().strip()), tmp_path)
    assert found == in_checkout


def test_app_without_plugins_folder_still_builds_and_loads_its_built_ins(
    checkout: Path, in_checkout: dict[str, object], tmp_path: Path
) -> None:
    bare = tmp_path / "app"
    shutil.copytree(checkout, bare)
    shutil.rmtree(bare / "plugins")
    wheel = build("wheel", bare, tmp_path / "dist")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = PROBE.replace('str(find_bundled("plugins"))', "None")
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert found["names"] == [
        name
        for name in in_checkout["names"]
        if not name.startswith("dflash_plugins.")  # type: ignore[attr-defined]
    ]


@pytest.mark.parametrize(
    ("system", "machine", "extra", "installed"),
    [
        ("darwin", "arm64", "", {"mlx", "mlx-lm"}),
        ("darwin", "x86_64", "", set()),
        ("linux", "x86_64", "", set()),
        ("linux", "x86_64", "mlx", {"mlx", "mlx-lm"}),
    ],
)
def test_mlx_comes_with_apple_silicon_and_elsewhere_only_when_asked_for(
    system: str, machine: str, extra: str, installed: set[str]
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"].get(extra, [])]
    place = {"sys_platform": system, "platform_machine": machine}
    requirements = [Requirement(each) for each in wanted]
    found = {
        each.name for each in requirements if each.marker is None or each.marker.evaluate(place)
    }
    assert {name for name in found if name.startswith("mlx")} == installed
