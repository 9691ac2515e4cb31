"""A pair is checked, saved and chosen from the page; what a visitor may not name is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dflash_app.registry.load import load_registry
from dflash_app.settings import EMBEDDED_DIR, Settings, load_settings
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.serve import takes_folders
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace
from tests.ui.conftest import StageOpener
from tests.ui.stage import bar, find_handler, one_reply, texts

TARGET, DRAFTER = str(EMBEDDED_DIR / "target"), str(EMBEDDED_DIR / "drafter")


@pytest.fixture
def workspace(open_stage: StageOpener) -> Workspace:
    return open_stage(one_reply)


@pytest.fixture
def page(workspace: Workspace) -> gr.Blocks:
    """The page as this machine alone gets it."""
    return build_page(workspace, LiveRuns(), local_folders=True)


def check(page: gr.Blocks, target: str, drafter: str, name: str = "") -> str:
    reading, said = find_handler(page, "AddPair.on_check")(target, drafter, name)
    assert "Reading configs" in reading
    return str(said)


def add(page: gr.Blocks, target: str, drafter: str, name: str = "") -> dict[str, Any]:
    reading, shown = find_handler(page, "AddPair.on_add")(target, drafter, name)
    assert "Reading configs" in texts(reading)["add-result"]
    return texts(shown)


def test_check_tells_both_models_and_writes_nothing(page: gr.Blocks, settings: Settings) -> None:
    html = check(page, TARGET, DRAFTER)
    assert "The drafter fits this target." in html
    for words in ("qwen3", "8 layers", "DFlash (z-lab)", "block size 16", "2 full bidirectional"):
        assert words in html
    assert not settings.user_registry.exists()


def test_add_saves_the_pair_and_chooses_it(
    page: gr.Blocks, workspace: Workspace, settings: Settings
) -> None:
    shown = add(page, TARGET, DRAFTER, "mine")
    assert "mine is saved in your registry" in shown["add-result"]
    assert (shown["add-target"], shown["add-drafter"], shown["add-name"]) == ("", "", "")
    assert shown["pair"].value == "mine"
    assert "mine" in [value for _, value in shown["pair"].choices]
    assert shown["drafter"].value == "mine"
    assert TARGET in shown["pair-facts"]
    assert [pair.name for pair in load_registry([settings.user_registry]).pairs] == ["mine"]
    assert "mine" in [pair.name for pair in workspace.pairs()]


def test_a_page_that_is_loaded_later_offers_it(page: gr.Blocks) -> None:
    add(page, TARGET, DRAFTER, "mine")
    shown = texts(find_handler(page, "refresh")(*bar()))
    assert "value" not in shown["pair"]  # it stays, or the user's next choice would be lost
    assert "mine" in [value for _, value in shown["pair"]["choices"]]
    assert texts(find_handler(page, "refresh")(*bar("gone since")))["pair"].value == "scripted"


def test_a_repository_that_is_not_here_is_saved_with_its_way_to_the_hub(page: gr.Blocks) -> None:
    shown = add(page, "org/target", "org/drafter")
    assert shown["pair"].value == "drafter"
    assert "needs download" in shown["pair-facts"]
    assert 'class="open-hub"' in shown["pair-facts"]
    assert "hf download org/drafter" in check(page, "org/target", "org/drafter")


def wide_drafter(folder: Path) -> str:
    shutil.copytree(DRAFTER, folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"mask_token_id": 3', '"mask_token_id": 9999'))
    return str(folder)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: ("", DRAFTER, ""), "The target is missing"),
        (lambda folder: (TARGET, "", ""), "The drafter is missing"),
        (lambda folder: (TARGET, DRAFTER, "No Name"), "name: use 1 to 64"),
        (lambda folder: (TARGET, DRAFTER, "scripted"), "already taken"),
        (lambda folder: (TARGET, TARGET, "x"), "is no drafter"),
        (lambda folder: (TARGET, wide_drafter(folder / "d"), "x"), "mask_token_id is outside"),
        (lambda folder: ("<img src=x>/y", DRAFTER, "x"), "repository id"),
    ],
)
def test_what_cannot_be_added_is_one_sentence_and_nothing_is_saved(
    page: gr.Blocks,
    settings: Settings,
    tmp_path: Path,
    make: Callable[[Path], tuple[str, str, str]],
    said: str,
) -> None:
    shown = add(page, *make(tmp_path))
    assert shown.keys() == {"add-result"}
    assert said in shown["add-result"]
    assert "<img" not in shown["add-result"]
    assert not settings.user_registry.exists()


def test_names_from_files_are_no_markup(page: gr.Blocks, tmp_path: Path) -> None:
    folder = tmp_path / "<b>bold"
    shutil.copytree(DRAFTER, folder)
    (folder / "README.md").write_text("---\nbase_model: org/Sibling\n---\n")
    html = add(page, "org/<svg>", str(folder))["add-result"]
    assert "<svg>" not in html
    target = tmp_path / "models--org--New" / "snapshots" / "abc"
    shutil.copytree(TARGET, target)
    shown = add(page, str(target), str(folder), "mine")
    assert "trained for org/Sibling and not for org/New" in shown["add-result"]
    assert "<b>bold" not in shown["pair-facts"]


@pytest.mark.parametrize("text", [TARGET, "/", "~", "../..", "/no/such/folder"])
def test_a_page_that_others_reach_takes_no_folder_and_tells_of_none(
    workspace: Workspace, settings: Settings, text: str
) -> None:
    page = build_page(workspace, LiveRuns())
    for html in (check(page, text, "a/b"), add(page, "a/b", text)["add-result"]):
        assert "takes repository ids only" in html
    assert "saved" in add(page, "a/b", "a/c")["add-result"]
    workspace.remove_pair("c")


def test_a_page_that_gradio_shares_takes_no_folder(page: gr.Blocks) -> None:
    assert "fits" in check(page, TARGET, DRAFTER)
    page.share = True
    assert "takes repository ids only" in check(page, TARGET, DRAFTER)


@pytest.mark.parametrize(
    ("variable", "host", "taken"),
    [
        ("", "127.0.0.1", True),
        ("", "localhost", True),
        ("", "::1", True),
        ("", "[::1]", True),
        ("", "0.0.0.0", False),
        ("", "192.168.1.5", False),
        ("", "some.host", False),
        ("1", "0.0.0.0", True),
        ("0", "127.0.0.1", False),
    ],
)
def test_folders_are_taken_on_this_machine_alone_or_as_the_user_says(
    monkeypatch: pytest.MonkeyPatch, variable: str, host: str, taken: bool
) -> None:
    monkeypatch.setenv("DFLASH_APP_LOCAL_FOLDERS", variable)
    assert takes_folders(load_settings(), host) is taken
