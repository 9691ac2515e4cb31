"""The plans in docs/scaling.md are what our own command prints, word by word."""

import re
import shlex
from pathlib import Path

import pytest

from dflash_app.cli import main
from dflash_app.settings import EMBEDDED_DIR

Capture = pytest.CaptureFixture[str]

DOC = Path(__file__).parents[2] / "docs" / "scaling.md"
BLOCK = re.compile(r"^```console\n\$ dflash-app (serve-plan [^\n]*)\n(.*?)^```$", re.M | re.S)
CHECKOUT = "/path/to/dflash-studio/dflash_app/embedded"
"""Stands in the page for where the shipped pair is."""


def printed(command: str, capsys: Capture) -> str:
    main(shlex.split(command))
    captured = capsys.readouterr()
    return (captured.out + captured.err).replace(str(EMBEDDED_DIR), CHECKOUT)


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.usefixtures("no_cache")
def test_every_printed_plan_is_still_true(capsys: Capture) -> None:
    blocks = BLOCK.findall(DOC.read_text(encoding="utf-8"))
    assert len(blocks) >= 8
    for command, shown in blocks:
        assert printed(command, capsys) == shown, command
