"""The Servers tab: servers are asked, added, chosen and removed; nothing they say is markup."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from dflash_app.registry.load import load_registry
from dflash_app.settings import PublicLimits, Settings
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace, open_workspace
from tests.plugins.remote.replayed_vllm import ReplayedVllm, url_of_nobody
from tests.ui.conftest import close_loops
from tests.ui.stage import bar, find_handler, texts

__all__ = ["close_loops"]

EVIL = "<img src=x onerror=alert(1)>${alert(2)}"


class Servers:
    """The tab of one workspace, its events called as the browser fires them."""

    def __init__(self, workspace: Workspace, *, local: bool = True) -> None:
        self.workspace = workspace
        self.blocks = build_page(workspace, LiveRuns(), local_folders=local)

    def cards(self, name: str = "on_show") -> list[str]:
        """Every picture of the list until all servers have answered."""
        return list(find_handler(self.blocks, f"ServersTab.{name}")())

    def check(self, **typed: str) -> dict[str, Any]:
        return self._play("on_check", typed)

    def add(self, **typed: str) -> dict[str, Any]:
        return self._play("on_add", typed)

    def act(self, act: str, pair: str) -> dict[str, Any]:
        event = gr.EventData(None, {"value": {"act": act, "pair": pair}})
        return texts(find_handler(self.blocks, "ServersTab.on_act")(event))

    def confirm(self, pair: str | None) -> dict[str, Any]:
        update = find_handler(self.blocks, "ServersTab.on_confirm")(pair, *bar("embedded"))
        return texts(update)

    def _play(self, name: str, typed: dict[str, str]) -> dict[str, Any]:
        names = ("dflash_url", "plain_url", "model", "name", "key")
        values = [typed.get(each, "") for each in names]
        asking, shown = find_handler(self.blocks, f"ServerForm.{name}")(*values)
        assert "Asking the server" in texts(asking)["server-result"]
        return texts(shown)


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    with closing(open_workspace(settings)) as opened:
        yield opened


@pytest.fixture
def servers(workspace: Workspace) -> Servers:
    return Servers(workspace)


@pytest.fixture
def drafting() -> Iterator[ReplayedVllm]:
    with ReplayedVllm() as served:
        yield served


@pytest.fixture
def plain() -> Iterator[ReplayedVllm]:
    with ReplayedVllm(drafts=False) as served:
        yield served


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def hold() -> None:
            with suppress(OSError):
                while True:
                    held.append(listening.accept()[0])

        threading.Thread(target=hold, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        listening.shutdown(socket.SHUT_RDWR)
        for each in held:
            each.close()


def test_check_tells_what_both_servers_are_and_saves_nothing(
    servers: Servers, settings: Settings, drafting: ReplayedVllm, plain: ReplayedVllm
) -> None:
    shown = servers.check(dflash_url=drafting.url, plain_url=plain.url)
    html = shown["server-result"]
    for words in ("vLLM 0.32.0", "org/replayed", "4,096 tokens", "15 drafts a step"):
        assert words in html
    assert "decodes plainly" in html
    assert "takes the thinking switch" in html
    assert "cannot switch drafts off" in html
    assert shown["server-model"].choices == [("org/replayed", "org/replayed")]
    assert shown["server-model"].value == "org/replayed"
    assert not settings.user_registry.exists()


def test_add_saves_a_pair_on_both_servers_and_chooses_it(
    servers: Servers, settings: Settings, drafting: ReplayedVllm, plain: ReplayedVllm
) -> None:
    shown = servers.add(dflash_url=f"{drafting.url}/", plain_url=plain.url, name="box")
    assert "box is saved in your registry" in shown["server-result"]
    assert [shown[f"server-{box}"] for box in ("dflash", "plain", "name", "key")] == [""] * 4
    assert shown["pair"].value == "box"
    assert "box" in [value for _, value in shown["pair"].choices]
    (pair,) = load_registry([settings.user_registry]).pairs
    assert pair.backends == ("remote",)
    assert (pair.target.server, pair.target.model) == (plain.url, "org/replayed")
    assert pair.drafter is not None
    assert (pair.drafter.server, pair.drafter.model) == (drafting.url, "org/replayed")
    assert pair.block_size == 16
    assert "box" in servers.cards()[-1]


def test_one_server_is_a_pair_too_and_the_card_says_what_a_race_needs(
    servers: Servers, workspace: Workspace, drafting: ReplayedVllm, plain: ReplayedVllm
) -> None:
    assert "saved" in servers.add(dflash_url=drafting.url)["server-result"]
    assert "saved" in servers.add(plain_url=plain.url, name="plain-only")["server-result"]
    pair = workspace.registry.get("replayed-at-127.0.0.1")
    assert pair.drafter is not None
    assert pair.target.server == pair.drafter.server == drafting.url
    assert workspace.registry.get("plain-only").drafter is None
    assert servers.cards()[-1].count("add it with a plain server") == 1


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"name": "embedded"}, "already taken"),
        ({"model": EVIL}, "choose one of those it has: &#x27;org/replayed&#x27;"),
    ],
)
def test_what_cannot_be_added_is_one_sentence_and_nothing_is_saved(
    servers: Servers, settings: Settings, drafting: ReplayedVllm, typed: dict[str, str], said: str
) -> None:
    shown = servers.add(dflash_url=drafting.url, **typed)
    assert shown.keys() == {"server-result"}
    assert shown["server-result"].count("notice error") == 1
    assert said in shown["server-result"]
    assert "<img" not in shown["server-result"]
    assert not settings.user_registry.exists()


def test_a_server_with_a_key_is_asked_with_it_and_no_file_holds_it(
    servers: Servers, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-very-secret"
    monkeypatch.delenv("DFLASH_APP_SERVER_KEY", raising=False)
    with ReplayedVllm(key=secret) as served:
        assert "asks for a key" in servers.check(dflash_url=served.url)["server-result"]
        wrong = servers.check(dflash_url=served.url, key="sk-wrong")["server-result"]
        assert "refuses the key" in wrong
        assert "sk-wrong" not in wrong
        assert "vLLM" in servers.check(dflash_url=served.url, key=secret)["server-result"]
        typed = served.url.replace("http://", f"http://{secret}@")
        assert "vLLM" in servers.check(dflash_url=typed)["server-result"]
        monkeypatch.setenv("DFLASH_APP_KEY_BOX", secret)
        assert "saved" in servers.add(dflash_url=typed, name="box")["server-result"]
        assert "answers" in servers.cards()[-1]
    assert settings.user_registry.read_text().count(served.url) == 2
    for path in settings.home.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


def test_an_address_typed_into_the_page_gets_no_key_of_the_environment(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-very-secret"
    monkeypatch.setenv("DFLASH_APP_SERVER_KEY", secret)
    monkeypatch.setenv("DFLASH_APP_KEY_GPU_BOX", secret)
    with ReplayedVllm(key=secret) as served:
        assert "asks for a key" in servers.check(dflash_url=served.url)["server-result"]
        named = servers.check(dflash_url=served.url, name="gpu-box")["server-result"]
        assert "asks for a key" in named


def test_without_a_keyring_a_typed_key_is_refused_with_the_name_of_the_variable(
    servers: Servers, settings: Settings, drafting: ReplayedVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dflash_plugins.remote.keys.keyring_reason", lambda: "There is none.")
    said = servers.add(dflash_url=drafting.url, name="box", key="sk-secret")["server-result"]
    assert "DFLASH_APP_KEY_BOX" in said
    assert "sk-secret" not in said
    assert load_registry([settings.user_registry]).pairs == ()


def test_servers_that_are_down_or_silent_are_told_and_hold_nobody_up(
    servers: Servers,
    workspace: Workspace,
    drafting: ReplayedVllm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dflash_plugins.remote.asking.TIMEOUT_S", 0.3)
    servers.add(dflash_url=drafting.url, name="up")
    with silent_server() as silent:
        up = workspace.registry.get("up")
        for name, url in (("silent", silent), ("down", url_of_nobody())):
            ref = up.target.model_copy(update={"server": url})
            workspace.add_pair(up.model_copy(update={"name": name, "target": ref, "drafter": ref}))
        pictures = servers.cards()
    assert pictures[0].count("checking…") == 3
    assert len(pictures) == 4  # one for each answer, as it comes
    assert pictures[-1].count("no answer") == 2
    assert pictures[-1].count(">answers<") == 1
    assert "No server answers at" in pictures[-1]
    assert "was silent for 0.3 seconds" in pictures[-1]


def test_a_server_that_no_longer_serves_the_model_says_so(
    servers: Servers, drafting: ReplayedVllm
) -> None:
    servers.add(dflash_url=drafting.url, name="box")
    drafting.model = EVIL
    html = servers.cards("on_again")[-1]
    assert "It no longer serves org/replayed." in html
    assert "<img" not in html


def test_what_a_server_says_is_no_markup(servers: Servers) -> None:
    with ReplayedVllm(model="<img src=x>", version=EVIL) as served:
        checked = servers.check(dflash_url=served.url)["server-result"]
        assert "&lt;img" in checked
        servers.add(dflash_url=served.url, name="evil")
        for html in (checked, servers.cards()[-1]):
            assert "<img" not in html


def test_a_card_chooses_its_pair_and_removes_it_after_a_question(
    servers: Servers, workspace: Workspace, settings: Settings, drafting: ReplayedVllm
) -> None:
    servers.add(dflash_url=drafting.url, name="box")
    assert servers.act("use", "box")["pair"].value == "box"
    assert "Remove box from your registry?" in servers.act("remove", "box")["servers-question"]
    assert workspace.registry.get("box").remote
    shown = servers.confirm("box")
    assert "box is removed" in shown["servers-notice"]
    assert "No server is known yet" in shown["servers-list"]
    assert "box" not in [value for _, value in shown["pair"]["choices"]]
    assert load_registry([settings.user_registry]).pairs == ()
    assert "no pair" in servers.confirm("box")["servers-notice"].lower()


def test_a_local_pair_is_not_removed_here(servers: Servers) -> None:
    assert "on no server" in servers.confirm("embedded")["servers-notice"]
    assert servers.act("remove", "embedded").keys() == {"servers-notice"}


def test_a_page_that_others_reach_asks_for_no_address_and_removes_nothing(
    servers: Servers, workspace: Workspace, drafting: ReplayedVllm
) -> None:
    servers.add(dflash_url=drafting.url, name="box")
    before = len(drafting.asked)
    strangers = Servers(workspace, local=False)
    for shown in (
        strangers.check(dflash_url=drafting.url)["server-result"],
        strangers.add(dflash_url=drafting.url, name="two")["server-result"],
        strangers.act("remove", "box")["servers-notice"],
        strangers.confirm("box")["servers-notice"],
    ):
        assert "on the app&#x27;s own machine only" in shown
    assert workspace.registry.get("box").remote
    assert len(drafting.asked) == before
    html = strangers.cards()[-1]
    assert "vLLM" in html
    assert drafting.url not in html
    assert "data-act='remove'" not in html.replace('"', "'")


def test_a_public_page_has_the_list_alone(
    servers: Servers, settings: Settings, drafting: ReplayedVllm
) -> None:
    servers.add(dflash_url=drafting.url, name="box")
    servers.workspace.close()
    offered = replace(settings, public=PublicLimits(), pairs=("embedded", "box"))
    with closing(open_workspace(offered)) as public:
        shown = Servers(public, local=False)
        ids = {getattr(block, "elem_id", None) for block in shown.blocks.blocks.values()}
        assert "servers-list" in ids
        assert not ids & {"server-add", "server-check", "server-dflash", "server-key"}
        assert "box" in shown.cards()[-1]
