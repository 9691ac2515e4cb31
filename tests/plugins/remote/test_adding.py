"""What is typed and what the servers tell become a row, or one sentence that says why not."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from dflash_plugins.remote.adding import Typed, add_server, ask_servers, new_row, remove_server

from dflash_app.errors import DFlashAppError
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.plugins.remote.replayed_vllm import ReplayedVllm, url_of_nobody


@pytest.fixture
def drafting() -> Iterator[ReplayedVllm]:
    with ReplayedVllm() as served:
        yield served


@pytest.fixture
def plain() -> Iterator[ReplayedVllm]:
    with ReplayedVllm(drafts=False) as served:
        yield served


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    with closing(open_workspace(settings)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({}, "No server is named"),
        ({"dflash_url": "ftp://gpu-box/v1"}, "by http or https"),
        ({"dflash_url": "gpu-box:8000"}, "by http or https"),
        ({"dflash_url": "file:///etc/passwd"}, "by http or https"),
        ({"dflash_url": "http://127.0.0.1:99999/v1"}, "by http or https"),
        ({"dflash_url": "{drafting}", "plain_url": "javascript:alert(1)"}, "by http or https"),
        ({"dflash_url": "{drafting}", "model": "gpt-9"}, "choose one of those it has: 'org/repl"),
        ({"dflash_url": "{drafting}", "name": "No Name"}, "name: use 1 to 64"),
        ({"dflash_url": "{plain}"}, "decodes plainly: start it with a DFlash drafter"),
        ({"plain_url": "{drafting}"}, "speculates, so it is no plain server"),
        ({"dflash_url": "{nobody}"}, "No server answers at 127.0.0.1:"),
        ({"dflash_url": "{drafting}", "plain_url": "{nobody}"}, "No server answers at"),
    ],
)
def test_what_cannot_be_added_is_one_sentence(
    drafting: ReplayedVllm, plain: ReplayedVllm, typed: dict[str, str], said: str
) -> None:
    known = {"drafting": drafting.url, "plain": plain.url, "nobody": url_of_nobody()}
    filled = Typed(**{key: value.format(**known) for key, value in typed.items()})
    with pytest.raises(DFlashAppError) as caught:
        new_row(filled, ask_servers(filled, own_keys=True))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_servers_of_several_models_offer_those_that_both_have(
    drafting: ReplayedVllm, plain: ReplayedVllm
) -> None:
    drafting.more_models = ("org/only-here", "org/both")
    plain.more_models = ("org/both",)
    typed = Typed(drafting.url, plain.url)
    asked = ask_servers(typed, own_keys=True)
    assert asked.models == ("org/replayed", "org/both")
    with pytest.raises(DFlashAppError, match=r"choose one of org/replayed, org/both\."):
        new_row(typed, asked)
    plain.model, plain.more_models = "org/another", ()
    with pytest.raises(DFlashAppError, match="There is no model that is served for this pair"):
        new_row(typed, ask_servers(typed, own_keys=True))


def test_a_pair_is_named_after_model_and_host(drafting: ReplayedVllm) -> None:
    typed = Typed(drafting.url)
    row = new_row(typed, ask_servers(typed, own_keys=True))
    assert (row.name, row.title, row.block_size) == ("replayed-at-127.0.0.1",) * 2 + (16,)


def test_two_keys_for_one_pair_are_refused_and_not_repeated(drafting: ReplayedVllm) -> None:
    one, two = (drafting.url.replace("//", f"//sk-{name}@") for name in ("first", "second"))
    for typed in (Typed(one, two), Typed(one, key="sk-second")):
        with pytest.raises(DFlashAppError, match="Different keys") as caught:
            ask_servers(typed, own_keys=True)
        assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("in_address", [True, False])
def test_without_a_keyring_a_key_is_refused_with_the_variable_and_nothing_is_saved(
    workspace: Workspace,
    drafting: ReplayedVllm,
    monkeypatch: pytest.MonkeyPatch,
    in_address: bool,
) -> None:
    monkeypatch.setattr("dflash_plugins.remote.keys.keyring_reason", lambda: "There is none.")
    url = drafting.url.replace("//", "//user:sk-secret@") if in_address else drafting.url
    typed = Typed(url, name="box", key="" if in_address else "sk-secret")
    with pytest.raises(DFlashAppError, match="DFLASH_APP_KEY_BOX") as caught:
        add_server(workspace, typed, ask_servers(typed, own_keys=True))
    assert "sk-secret" not in str(caught.value)
    assert "box" not in [pair.name for pair in workspace.pairs()]


def test_a_key_is_kept_in_the_keyring_and_goes_with_its_pair(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring: dict[str, str] = {}
    monkeypatch.setattr("dflash_plugins.remote.adding.keep_key", ring.__setitem__)
    monkeypatch.setattr("dflash_plugins.remote.adding.forget_key", ring.pop)
    with ReplayedVllm(key="sk-secret") as served:
        typed = Typed(served.url, name="box", key="sk-secret")
        add_server(workspace, typed, ask_servers(typed, own_keys=True))
    assert ring == {"box": "sk-secret"}
    assert "sk-secret" not in workspace.settings.user_registry.read_text()
    remove_server(workspace, "box")
    assert ring == {}


def test_only_servers_are_removed_here(workspace: Workspace) -> None:
    with pytest.raises(DFlashAppError, match="is on no server"):
        remove_server(workspace, "embedded")
