"""The Chat tab with a pair on a server: it streams, says who measured, and keeps the run."""

from dataclasses import replace

import pytest

from dflash_app.errors import GenerationFailed
from dflash_app.events import TokensArrived
from dflash_app.workspace import Workspace
from tests.fakes import ScriptedServerPair, server_script_of
from tests.ui.conftest import StageOpener
from tests.ui.stage import (
    COUNTS,
    add_server,
    bar,
    last,
    one_reply,
    one_served_reply,
    texts,
)
from tests.ui.tabs.chat_tab import SETTINGS, Chat, said

SERVED = [*bar("served", "served"), *SETTINGS]


@pytest.fixture
def workspace(open_stage: StageOpener) -> Workspace:
    return add_server(open_stage(one_reply), one_served_reply)


def test_a_reply_of_a_server_is_shown_with_its_counts_and_recorded(workspace: Workspace) -> None:
    chat = Chat(workspace)
    shown = last(chat.send("How many?", SERVED))
    assert said(shown["chat-log"]) == ["How many?", "bcde"]
    assert "Client speed" in shown["chat-cards"]
    assert "12.0 tok/s" in shown["chat-cards"]
    assert "acceptance 3.00 · first" in str(shown["chat-log"])
    assert "3.00" in shown["chat-cards"]
    assert "Times were measured at the client" in shown["chat-status"]
    assert "does not tell which of its tokens were drafted" in shown["chat-strip"]
    (run,) = workspace.store.list_runs()
    assert (run.start.backend, run.start.device, run.token_ids) == (
        "remote", "gpu-box:8000", (1, 2, 3, 4),
    )  # fmt: skip
    assert (run.metrics.at_client, run.metrics.acceptance_source) == (True, COUNTS.source)


def test_a_count_that_others_may_be_in_is_marked_below_the_reply_and_after_a_reload(
    workspace: Workspace,
) -> None:
    shared = server_script_of((1,), (2, 3, 4), counts=replace(COUNTS, shared=True))
    workspace._backends["remote"].make = lambda: ScriptedServerPair([shared])  # type: ignore[attr-defined]
    chat = Chat(workspace)
    shown = last(chat.send("How many?", SERVED))
    assert "acceptance 3.00 (shared count)" in str(shown["chat-log"])
    assert "* Acceptance is a count of the whole server" in shown["chat-status"]
    (head,) = workspace.store.chats.list_heads(None)
    kept = workspace.store.chats.load(head.id, None)
    assert kept is not None
    assert [turn.figures.acceptance_shared for turn in kept.turns if turn.figures] == [True]


def test_the_speed_is_live_while_tokens_arrive(workspace: Workspace) -> None:
    chat = Chat(workspace)
    looks = [texts(update) for update in chat.send("How many?", SERVED)]
    assert any("tok/s" in look.get("chat-cards", "") for look in looks)


def test_the_speedup_is_against_plain_decoding_on_the_same_server(workspace: Workspace) -> None:
    plain = ScriptedServerPair([server_script_of((1,), (2,), (3,))])
    drafted = one_served_reply()
    served = ScriptedServerPair(plain.scripts)
    workspace._backends["remote"].make = lambda: served  # type: ignore[attr-defined]
    chat = Chat(workspace)
    last(chat.send("x", [*bar("served", "none"), *SETTINGS]))
    served.scripts = drafted.scripts
    shown = last(chat.send("x", SERVED))["chat-cards"]
    assert "3.00×" in shown
    assert "both measured at the client" in shown
    assert [request.mode for request in served.requests] == ["ar", "dflash"]
    assert workspace._backends["remote"].options[0].drafter  # type: ignore[attr-defined]


def test_a_server_that_breaks_off_leaves_what_came_and_says_why(workspace: Workspace) -> None:
    cut = [TokensArrived(1, (1,), 0.5), GenerationFailed("gpu-box:8000 closed the connection.")]
    served = ScriptedServerPair([cut])
    workspace._backends["remote"].make = lambda: served  # type: ignore[attr-defined]
    shown = last(Chat(workspace).send("How many?", SERVED))
    assert "closed the connection" in shown["chat-notice"]
    (run,) = workspace.store.list_runs()
    assert (run.finish_reason, run.metrics.num_output_tokens) == ("failed", 1)
