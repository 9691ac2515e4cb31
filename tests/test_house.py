"""The house rules that no linter knows."""

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dflash_app import hookspecs

ROOT = Path(__file__).parent.parent
CODE_FOLDERS = ("dflash_app", "plugins", "recipes", "benchmarks")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_FILE_BYTES = 10_000_000
DOORS = {"dflash_app/plugins.py", "dflash_app/engine/worker.py"}
"""Where a blanket `except` may swallow: around plugin code, and around the worker thread."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    return [
        path
        for folder in CODE_FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def code_lines(function: Function) -> int:
    """Lines of a function without its docstring, which may be as long as it needs."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = first.end_lineno if documented else function.lineno
    assert function.end_lineno is not None
    assert start is not None
    return function.end_lineno - start + 1


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def tracked_files() -> list[str]:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def test_without_git_or_a_checkout_tests_of_tracked_files_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    with pytest.raises(pytest.skip.Exception, match="checkout"):
        tracked_files()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="git is not installed"):
        tracked_files()


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {name_of(path): len(path.read_bytes().splitlines()) for path in sources()}
    assert lengths, "no source was found"
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_every_function_fits_a_screen() -> None:
    too_long = {
        f"{name_of(path)}:{node.name}": code_lines(node)
        for path in sources()
        for node in ast.walk(parse(path))
        if isinstance(node, Function) and code_lines(node) > MAX_FUNCTION_LINES
    }
    assert too_long == {}


def test_blanket_excepts_swallow_at_the_two_doors_only() -> None:
    def swallows(handler: ast.ExceptHandler) -> bool:
        names = {
            node.id
            for node in ast.walk(handler.type or ast.Name("Exception"))
            if isinstance(node, ast.Name)
        }
        raises = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
        return bool(names & {"Exception", "BaseException"}) and not raises

    found = {
        name_of(path)
        for path in sources()
        if name_of(path).startswith(("dflash_app/", "plugins/"))  # what runs in front of a user
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ExceptHandler) and swallows(node)
    }
    assert found <= DOORS


def test_plugins_import_heavy_libraries_only_behind_their_front_door() -> None:
    heavy = {"gradio", "plotly", "torch", "transformers", "pandas"}
    for path in sorted((ROOT / "plugins").glob("*/__init__.py")):
        assert not heavy & set(imported(parse(path))), name_of(path)


def test_no_plugin_touches_tensors() -> None:
    for path in (ROOT / "plugins").rglob("*.py"):
        assert not {"torch", "transformers", "mlx", "safetensors"} & set(imported(parse(path))), (
            path
        )


def test_remote_code_is_never_trusted() -> None:
    for path in sources():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert isinstance(node.value, ast.Constant), name_of(path)
                assert node.value.value is False, name_of(path)


def test_no_test_starts_an_event_loop_in_the_main_thread() -> None:
    """The browser tests' driver has one there, for as long as the tests run in one process."""
    calls = [
        f"{name_of(path)}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.run"
    ]
    assert calls == []


def test_every_hook_is_documented_with_its_signature() -> None:
    page = (ROOT / "docs" / "plugin-hooks.md").read_text(encoding="utf-8")
    hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
    assert len(hooks) == 5
    for hook in hooks:
        assert f"## {hook}\n\n`{hook}(" in page
    documented = re.findall(r"^## (register_\w+)$", page, re.MULTILINE)
    assert sorted(documented) == sorted(hooks)


def readme_tree() -> set[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^## The files\n.*?^```text\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert block, "README.md has no '## The files' block"
    return {line.split()[0].rstrip("/") for line in block[1].splitlines() if line.strip()}


def test_readme_tree_is_current() -> None:
    listed = readme_tree()
    missing = {name for name in listed if not (ROOT / name).exists()}
    assert missing == set(), "listed in the README but not there"
    folders = {name_of(path.parent) for path in sources() if path.name == "__init__.py"}
    modules = {name_of(path) for path in (ROOT / "dflash_app").glob("*.py")}
    top = {name.split("/")[0] for name in tracked_files()}
    expected = folders | modules | {name for name in top if not name.startswith(".")}
    expected -= {"dflash_app/__init__.py", "dflash_app/__main__.py"}
    assert expected - listed == set(), "there but not listed in the README"


def test_every_adr_is_numbered_and_dated() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for number, path in enumerate(records, start=1):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. "), path.name
        assert re.search(r"^Date: \d{4}-\d\d-\d\d\. Status: ", text, re.MULTILINE), path.name


def test_no_tracked_file_is_over_10_mb() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in tracked_files()}
    assert {name: size for name, size in sizes.items() if size >= MAX_FILE_BYTES} == {}


def test_a_space_installs_what_the_package_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == project["dependencies"]


def test_every_dependency_has_a_tested_version() -> None:
    def normal(requirement: str) -> str:
        return re.split(r"[<>=!~;\[ ]", requirement)[0].lower().replace("_", "-")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {normal(line) for line in lines if "==" in line}
    assert {normal(each) for each in wanted} - pinned == set()
