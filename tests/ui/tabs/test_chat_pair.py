"""A conversation that is opened again goes on with the pair that wrote it, or says why not."""

import json
from dataclasses import replace

import pytest

from dflash_app.workspace import Workspace
from tests.ui.conftest import StageOpener
from tests.ui.stage import bar, last, one_reply
from tests.ui.tabs.chat_tab import SETTINGS, Chat, opened

SECOND = bar("second", "second")


def written(open_stage: StageOpener, values: list[str]) -> Chat:
    """A tab with a conversation that was written with the bar at these values."""
    chat = Chat(open_stage(one_reply))
    last(chat.send("x", [*values, *SETTINGS]))
    return chat


@pytest.mark.parametrize("event", ["on_open", "on_load"])
@pytest.mark.parametrize("wrote", [SECOND, bar("second", "none")])
def test_the_bar_is_to_choose_the_pair_of_the_last_reply(
    open_stage: StageOpener, event: str, wrote: list[str]
) -> None:
    chat = written(open_stage, wrote)
    shown = chat.do(event, chat.shown().chat_id, "")
    asked = json.loads(shown["chat-pair-back"])
    assert asked["before"] == bar()[:3]
    assert asked["wanted"] == [*wrote[:2], "auto"]
    assert shown["chat-notice"] == ""
    again = chat.do(event, chat.shown().chat_id, "")["chat-pair-back"]
    assert again != shown["chat-pair-back"]  # or the box would not change, and nothing follow


@pytest.mark.parametrize("chosen", [SECOND, bar("scripted", "second")])
def test_a_bar_that_says_the_pair_already_is_left_alone(
    open_stage: StageOpener, chosen: list[str]
) -> None:
    chat = written(open_stage, SECOND)
    shown = opened(chat, chat.shown().chat_id, chosen=chosen)
    assert "chat-pair-back" not in shown
    assert shown["chat-notice"] == ""


def forget(workspace: Workspace) -> None:
    """As on a public page that no longer offers the pair."""
    offered = tuple(pair for pair in workspace.registry.pairs if pair.name != "second")
    workspace.registry = replace(workspace.registry, bundled=offered)


def lose_file(workspace: Workspace) -> None:
    (workspace.settings.home / "drafter" / "model.safetensors").unlink()


@pytest.mark.parametrize("lose", [forget, lose_file])
def test_a_pair_that_cannot_be_chosen_now_is_named_and_the_bar_stays(
    open_stage: StageOpener, lose: object
) -> None:
    chat = written(open_stage, SECOND)
    assert callable(lose)
    lose(chat.workspace)
    shown = opened(chat, chat.shown().chat_id)
    assert "chat-pair-back" not in shown
    assert "The pair second wrote the last reply here" in shown["chat-notice"]
