"""The command line as a whole: instant help, statuses, plugins' commands, quiet pipes."""

import subprocess
import sys
from pathlib import Path

import pytest

import dflash_app
from dflash_app.cli import main
from dflash_app.settings import Settings

Capture = pytest.CaptureFixture[str]


def test_help_imports_no_heavy_library(root: Path) -> None:
    code = (
        "import sys\n"
        "from dflash_app.cli import main\n"
        "status = main(['--help'])\n"
        "heavy = {'torch', 'transformers', 'gradio', 'plotly', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("generate", "runs", "pairs", "doctor", "serve", "train"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", ["pairs", "runs", "doctor"])
def test_looking_around_imports_no_heavy_library(root: Path, command: str) -> None:
    code = (
        "import sys\n"
        "from dflash_app.cli import main\n"
        f"main([{command!r}])\n"
        "heavy = {'torch', 'transformers', 'gradio', 'plotly'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_version_is_the_packages(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{dflash_app.__version__}\n"


@pytest.mark.parametrize("arguments", [["fly"], ["--fly"], ["runs", "fly"], ["runs", "show", "x"]])
def test_wrong_usage_ends_with_status_2(capsys: Capture, arguments: list[str]) -> None:
    assert main(arguments) == 2
    assert "Error: " in capsys.readouterr().err


def test_plugin_adds_a_command_and_a_broken_one_does_not_stop_it(
    settings: Settings, capsys: Capture
) -> None:
    for name, body in (("bad", "1 / 0"), ("greet", "@app.command()\n    def hello(): print('hi')")):
        folder = settings.user_plugins / name
        folder.mkdir(parents=True)
        head = "from dflash_app.hookspecs import hookimpl\n@hookimpl\ndef register_commands(app):\n"
        (folder / "__init__.py").write_text(f"{head}    {body}\n")
    assert main(["hello"]) == 0
    assert capsys.readouterr().out == "hi\n"


def test_reader_that_left_is_no_error_message(root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dflash_app", "pairs"],
        cwd=root,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=120) == 1


@pytest.mark.parametrize("group", ["runs", "pairs", "hub", "servers"])
def test_ls_and_list_are_the_same_everywhere(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for word in ("ls", "list"):
        assert main([group, word, "--json"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""
