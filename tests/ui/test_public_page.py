"""A page for strangers: what it needs is there before it is served, and nobody else's is shown."""

from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from dflash_app.errors import HubError, ServeError, StoreLocked, StoreReadOnly
from dflash_app.settings import PublicLimits, Settings
from dflash_app.store.chats import Chats
from dflash_app.store.runs import Store
from dflash_app.ui.api import Api
from dflash_app.ui.chat_conversation import Conversation
from dflash_app.ui.live import LiveRun, LiveRuns
from dflash_app.ui.own_machine import OnlyOwnNames
from dflash_app.ui.pair_facts import render_pair
from dflash_app.ui.public_page import (
    app_arguments,
    check_mcp,
    default_host,
    hiding_css,
    line_of,
    prepare,
)
from dflash_app.ui.serve import takes_folders
from dflash_app.ui.shell import Page, build_page, render_problems
from dflash_app.workspace import Workspace, open_workspace
from tests.fakes import ScriptedPair, ask
from tests.hub.conftest import add_pair, cache, names_here, server
from tests.hub.server import HubServer
from tests.ui.conftest import StageOpener
from tests.ui.stage import (
    SAMPLING,
    bar,
    find_handler,
    last,
    one_reply,
    play,
    texts,
    two_lanes,
    visitor,
)

__all__ = ["cache", "server"]

LIMITS = PublicLimits(max_waiting=1)


def open_public(open_stage: StageOpener, make: Any = one_reply) -> Workspace:
    workspace = open_stage(make)
    workspace.settings = replace(workspace.settings, public=LIMITS)
    return workspace


def public_page(workspace: Workspace) -> Page:
    """What a tab of the page is given."""
    return page_of(build_page(workspace, LiveRuns(line_of(workspace.settings))))


def page_of(blocks: gr.Blocks) -> Page:
    api = next(fn.fn for fn in blocks.fns.values() if fn.api_name == "pairs")
    page = api.__self__.page  # type: ignore[union-attr]
    assert isinstance(page, Page)
    return page


def test_what_is_named_and_not_here_is_downloaded_before_the_page_is_served(
    server: HubServer, cache: Path, settings: Settings
) -> None:
    settings.home.mkdir(exist_ok=True)
    add_pair(server, settings)
    named = replace(settings, public=LIMITS, pairs=("p",))
    with closing(open_workspace(named)) as workspace:
        assert workspace.state("p").status == "needs download"
        prepare(workspace)
        assert workspace.state("p").status == "ready"
        assert "model.safetensors" in names_here(cache, "org/p-T")


def test_a_pair_that_cannot_be_brought_stops_the_start(
    server: HubServer, settings: Settings
) -> None:
    settings.home.mkdir(exist_ok=True)
    add_pair(server, settings)
    server.stop()
    named = replace(settings, public=LIMITS, pairs=("p",))
    with (
        closing(open_workspace(named)) as workspace,
        pytest.raises(HubError, match="p could not be downloaded"),
    ):
        prepare(workspace)


def test_on_ones_own_machine_nothing_is_brought_or_limited(open_stage: StageOpener) -> None:
    workspace = open_stage(one_reply)
    prepare(workspace)  # knows a pair that is not here
    assert app_arguments(workspace.settings, own=False, shared=lambda: False) == {}
    (guard,) = app_arguments(workspace.settings, own=True, shared=lambda: False)["middleware"]
    assert guard.cls is OnlyOwnNames
    assert hiding_css(workspace.settings) == ""


def test_a_space_listens_to_everybody_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert default_host() == "127.0.0.1"
    monkeypatch.setenv("SPACE_ID", "ann/studio")
    assert default_host() == "0.0.0.0"
    assert not takes_folders(replace(settings, public=LIMITS, local_folders=True), "127.0.0.1")


@pytest.mark.skipif(find_spec("mcp") is not None, reason="the package mcp is installed")
def test_mcp_without_its_package_is_refused_with_the_cure(settings: Settings) -> None:
    check_mcp(settings)
    with pytest.raises(ServeError, match=r"pip install 'dflash-studio\[mcp\]'"):
        check_mcp(replace(settings, mcp=True))


def test_each_browser_is_an_owner_and_ones_own_machine_has_none(open_stage: StageOpener) -> None:
    page = public_page(open_public(open_stage))
    assert page.public
    owners = {page.owner(visitor(name)) for name in ("a", "b", "a")}
    assert len(owners) == 2
    assert None not in owners
    own = public_page(open_stage(one_reply))
    assert (own.public, own.owner(visitor())) == (False, None)


def test_a_visitor_cannot_have_a_pair_loaded_anew(open_stage: StageOpener) -> None:
    page = public_page(open_public(open_stage))
    pair, drafter, block, *_ = bar()
    choice = page.read([pair, drafter, block, "nf4", "cuda:1", "mlx"])
    assert (choice.quantization, choice.dtype, choice.device, choice.backend) == (None,) * 4


def test_nobody_adds_pairs_to_a_public_page(open_stage: StageOpener) -> None:
    blocks = build_page(open_public(open_stage), LiveRuns())
    ids = {block.elem_id for block in blocks.blocks.values()}
    assert "add-pair" not in ids
    assert "chat-prompt" in ids


def test_too_much_is_refused_where_the_run_would_begin(open_stage: StageOpener) -> None:
    page = public_page(open_public(open_stage))
    loaded = page.workspace.loaded("scripted")
    assert isinstance(loaded, ScriptedPair)
    run: LiveRun[Any] = page.start(
        visitor(),
        "chat",
        lambda: page.workspace.run(loaded, ask(max_new_tokens=5000), source="chat"),
    )
    list(run.looks(0.01))
    assert "this public page gives 1,024" in str(run.error)
    assert loaded.requests == []


def test_strangers_are_not_told_where_files_are(open_stage: StageOpener) -> None:
    workspace = open_public(open_stage)
    workspace.store_problem = StoreReadOnly("The database /home/user/data/runs.db is read only.")
    assert "/home" not in render_problems(workspace)
    assert "is read only" in render_problems(workspace)
    page = public_page(workspace)

    def broken() -> Any:
        raise StoreReadOnly("The database /home/user/data/runs.db is read only.")

    run: LiveRun[Any] = page.start(visitor(), "chat", broken)
    list(run.looks(0.01))
    assert str(run.error) == "The database … is read only."


def test_what_is_too_much_for_a_visitor_is_refused_before_a_race_warms_up(
    open_stage: StageOpener,
) -> None:
    pair = two_lanes()
    page = public_page(open_public(open_stage, lambda: pair))
    with pytest.raises(gr.Error, match="this public page takes 20,000"):
        list(Api(page).compare("x" * 20_001, pair="scripted", request=visitor()))
    assert pair.requests == []


def test_an_edit_that_is_too_long_for_a_visitor_takes_nothing_away(
    open_stage: StageOpener,
) -> None:
    workspace = open_public(open_stage)
    blocks = build_page(workspace, LiveRuns(line_of(workspace.settings)))
    asked = [*bar(), *SAMPLING, True, ""]
    shown = last(play(blocks, "on_send", "Hello", Conversation(), visitor(), *asked))
    conversation = shown["state"]
    event = gr.EditData(None, {"index": 0, "value": "x" * 20_001, "previous_value": ""})
    refused = last(play(blocks, "on_edit", conversation, event, visitor(), *asked))
    assert "this public page takes 20,000" in refused["chat-notice"]
    assert len(refused["chat-log"]) == 2
    owner = page_of(blocks).owner(visitor())
    kept = workspace.store.chats.load(conversation.chat_id, owner)
    assert kept is not None
    assert [turn.content for turn in kept.turns] == ["Hello", "bcdefgh"]


def test_a_visitor_who_has_had_enough_for_an_hour_is_told_when_to_come_back(
    open_stage: StageOpener,
) -> None:
    workspace = open_stage(one_reply)
    workspace.settings = replace(workspace.settings, public=PublicLimits(max_per_hour=2))
    api = Api(public_page(workspace))
    for _ in range(2):
        assert list(api.chat("x", pair="scripted", request=visitor("a")))[-1]["text"] == "bcdefgh"
    with pytest.raises(gr.Error, match=r"begun 2 runs in the last hour.*come back in 60 minutes"):
        list(api.chat("x", pair="scripted", request=visitor("a")))
    assert list(api.chat("x", pair="scripted", request=visitor("b")))[-1]["text"] == "bcdefgh"
    shown = last(play(build_page(workspace, LiveRuns()), "on_send", *sent("x")))
    assert shown["chat-log"] != []


def sent(text: str) -> list[Any]:
    return [text, Conversation(), visitor("c"), *bar(), *SAMPLING, True, ""]


def test_no_sentence_tells_a_stranger_where_files_are(
    open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    workspace = open_public(open_stage)
    blocks = build_page(workspace, LiveRuns(line_of(workspace.settings)))
    api = Api(page_of(blocks))
    (settings.home / "target" / "config.json").unlink()

    def locked(*_: Any, **__: Any) -> None:
        raise StoreLocked(f"The run database {settings.database} is locked: close it.")

    reasons = [each["reason"] for each in api.pairs() if each["name"] != "absent"]
    with pytest.raises(gr.Error) as refused:
        next(api.chat("x", pair="scripted", request=visitor()))
    chat = last(play(blocks, "on_send", *sent("x")))["chat-notice"]
    facts = render_pair(workspace, "scripted")
    monkeypatch.setattr(Chats, "load", locked)
    opened = texts(find_handler(blocks, "on_open")("id", "", visitor()))["chat-notice"]
    file = texts(find_handler(blocks, "on_json")(Conversation("id"), visitor()))["chat-question"]
    looked: Any = find_handler(blocks, "HistoryTab.on_compare")
    monkeypatch.setattr(Store, "get_run", locked)
    history = texts(looked(SimpleNamespace(chosen=(1, 2)), visitor()))["history-comparison"]
    told = [*filter(None, reasons), str(refused.value), chat, facts, opened, file, history]
    assert len(told) > 6
    for sentence in told:
        assert "…" in sentence
        assert str(settings.home) not in sentence
