"""The pair under test, as the app sees it: the shipped one, or two folders in a user's registry."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import yaml

from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.settings import EMBEDDED_DIR, load_settings
from dflash_app.workspace import open_workspace

EMBEDDED = "embedded"
SILENT_TOKEN = "<|mask|>"
"""A token that the embedded target never puts out: it stands in the drafter's blocks only."""


def add_pair(home: Path, name: str, target: Path, drafter: Path) -> None:
    """Name two folders as a pair in the registry of an app's home.

    Args:
        home: DFLASH_APP_HOME of the app that shall know the pair.
        name: of the pair, and what the page's dropdown shows.
        target: folder of the target.
        drafter: folder of the drafter.
    """
    registry = home / "model_registry.yaml"
    rows = yaml.safe_load(registry.read_text())["pairs"] if registry.exists() else []
    rows.append(
        {
            "name": name,
            "title": name,
            "family": "qwen3",
            "target": {"path": str(target.absolute())},
            "drafter": {"path": str(drafter.absolute())},
            "backends": ["torch"],
        }
    )
    registry.write_text(yaml.safe_dump({"pairs": rows}))


def copy_endless(target: Path, folder: Path, silent: str = SILENT_TOKEN) -> Path:
    """Copy a target so that no reply ends before its limit: the stop token becomes a silent one.

    The weights are the same; what follows the end of a reply is more of what it was trained on.

    Args:
        target: folder of a target in the form that transformers saves.
        folder: made by this.
        silent: a token that the target never puts out.

    Returns:
        `folder`.
    """
    shutil.copytree(target, folder)
    names = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    silent_id = next(each["id"] for each in names if each["content"] == silent)
    for file, value in (
        ("config.json", {"eos_token_id": silent_id}),
        ("generation_config.json", {"eos_token_id": [silent_id]}),
        ("tokenizer_config.json", {"eos_token": silent}),
    ):
        old = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps(old | value), encoding="utf-8")
    return folder


@contextmanager
def open_pair(home: Path, name: str, num_threads: int) -> Iterator[LoadedPair]:
    """Load a pair through the workspace, on the CPU in float32, until the block is left."""
    options = LoadOptions(device="cpu", dtype="float32", num_threads=num_threads)
    with closing(open_workspace(load_settings(home))) as workspace:
        yield workspace.loaded(name, options)


def folders(target: Path | None, drafter: Path | None) -> tuple[Path, Path]:
    """The two folders under test; None stands for the shipped pair's."""
    return target or EMBEDDED_DIR / "target", drafter or EMBEDDED_DIR / "drafter"
