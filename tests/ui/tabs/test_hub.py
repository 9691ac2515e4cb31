"""The Hub tab's events, without a browser, against a hub on this machine."""

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dflash_app.hub.disk import repo_folder
from dflash_app.hub.fit import SHORT_NAMES
from dflash_app.settings import Settings, find_bundled
from dflash_app.ui.hub_chosen import Chosen
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.pair_facts import auto_dtype
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace, open_workspace
from tests.hub.conftest import add_pair, cache, model_files, server
from tests.hub.server import TOKEN, Fault, HubServer
from tests.ui.stage import bar, find_handler, texts

__all__ = ["cache", "server"]

WISH = ["", "all", "all", "all", "ready"]
BAR = bar("embedded", "embedded")


class Hub:
    """The tab of one workspace, driven as a browser tab would."""

    def __init__(self, workspace: Workspace, *, local: bool = True) -> None:
        self.workspace = workspace
        self.blocks = build_page(workspace, LiveRuns(), local_folders=local)
        self.shown: dict[str, Any] = {}
        self.chosen: Chosen | None = None
        self.states: dict[Any, Any] = {}

    def do(self, name: str, *values: Any) -> dict[str, Any]:
        """Fire an event; what it changed, by elem_id."""
        update = find_handler(self.blocks, name)(*values)
        for each in update if isinstance(update, Generator) else (update or {},):
            self._keep(each)
        return self.shown

    def _keep(self, update: dict[Any, Any]) -> None:
        for widget, value in update.items():
            if isinstance(value, Chosen):
                self.chosen = value
            elif isinstance(widget, gr.State):
                self.states[type(value).__name__] = value
        self.shown |= {
            key: value
            for key, value in texts(update).items()
            if key != "state" and value != gr.skip()
        }

    def show(self) -> str:
        return str(self.do("HubView.on_show", self.chosen, *WISH, *BAR)["hub-list"])

    def look_at(self, name: str) -> dict[str, Any]:
        return self.do("HubView.on_row", gr.EventData(None, {"value": name}), *WISH)

    def act(self, name: str) -> dict[str, Any]:
        return self.do(f"Acting.{name}", self.chosen, *WISH)

    def wait(self, text: str) -> None:
        """Tick, as the page's timer does, until the downloads say something."""
        deadline = time.monotonic() + 60
        while text not in self.shown["hub-jobs"] + self.shown["hub-list"]:
            assert time.monotonic() < deadline, self.shown["hub-jobs"]
            time.sleep(0.05)
            self.do("HubView.on_tick", self.chosen, self.states.get("tuple"), *WISH)


@pytest.fixture
def workspace(settings: Settings, server: HubServer) -> Iterator[Workspace]:
    add_pair(server, settings, "p")
    add_pair(server, settings, "q", pinned=False)
    opened = open_workspace(settings)
    yield opened
    opened.close()


@pytest.fixture
def hub(workspace: Workspace) -> Hub:
    return Hub(workspace)


def test_every_pair_is_listed_without_a_question_to_the_hub(hub: Hub, server: HubServer) -> None:
    html = hub.show()
    assert html.count("data-pair=") == len(hub.workspace.pairs()) >= 31
    assert 'data-pair="embedded" aria-selected="true"' in html
    assert hub.chosen == Chosen("embedded")
    hub.do("HubView.on_look")
    html = hub.do("HubView.on_told", hub.chosen, *WISH)["hub-list"]
    assert f"fits in {SHORT_NAMES[auto_dtype()]}" in html
    assert server.requests == []


def test_a_pair_is_fetched_paused_resumed_checked_and_deleted(hub: Hub, server: HubServer) -> None:
    server.pause_s = 0.1
    hub.show()
    shown = hub.look_at("p")
    assert "can-download" in shown["hub-jobs"]
    hub.do("HubView.on_ask", hub.chosen)
    fit = hub.do("HubView.on_told", hub.chosen, *WISH)["hub-fit"]
    assert "org/p-T is damaged on the hub, its model.safetensors is no safetensors file" in fit
    hub.act("on_download")
    hub.wait(" MB/s")
    hub.act("on_pause")
    hub.wait("Paused; what is there is kept.")
    server.pause_s = 0
    hub.act("on_download")
    hub.wait("can-verify")
    (*_, said) = find_handler(hub.blocks, "Acting.on_verify")(hub.chosen)
    assert "every checksum is right" in texts(said)["hub-ask"]
    assert "free <b>2.5 MB</b>?" in hub.do("Acting.on_delete", hub.chosen)["hub-ask"]
    plan = hub.states["Removal"]
    shown = hub.do("Acting.on_confirm", hub.chosen, plan, "embedded", *WISH)
    assert "2.5 MB are free again." in shown["hub-notice"]
    assert "can-download" in shown["hub-jobs"]
    assert hub.workspace.hub.disk_use() == ()
    hub.do("Acting.on_delete", hub.chosen)
    assert "Nothing of it is on this machine." in hub.shown["hub-ask"]


def test_damaged_files_are_found_and_deleted_for_a_new_download(hub: Hub) -> None:
    hub.show()
    hub.look_at("p")
    hub.act("on_download")
    hub.wait("can-verify")
    (folder,) = repo_folder("org/p-D").glob("snapshots/*")
    (folder / "model.safetensors").resolve().write_bytes(b"damaged")
    (*_, said) = find_handler(hub.blocks, "Acting.on_verify")(hub.chosen)
    hub._keep(said)
    assert "1 file cannot be used" in hub.shown["hub-ask"]
    assert "org/p-D</b> model.safetensors: damaged" in hub.shown["hub-ask"]
    shown = hub.do("Acting.on_discard", hub.chosen, hub.states["list"], *WISH)
    assert "1 file deleted: download the pair again." in shown["hub-notice"]
    assert "can-download" in shown["hub-jobs"]


def test_a_download_that_fails_says_why_in_one_sentence(hub: Hub, server: HubServer) -> None:
    server.repos["org/q-T"].gated = True
    hub.show()
    hub.look_at("q")
    hub.act("on_download")
    hub.wait("is gated and it needs a token")
    assert f'href="{server.url}/org/q-T"' in hub.shown["hub-jobs"]
    assert "can-resume" in hub.shown["hub-jobs"]
    hub.act("on_clear")
    assert hub.workspace.hub.jobs.snapshot() == ()


def test_a_quiet_tick_changes_nothing(hub: Hub) -> None:
    hub.show()
    tick = find_handler(hub.blocks, "HubView.on_tick")
    assert texts(tick(hub.chosen, hub.states["tuple"], *WISH)) == {"hub-jobs": gr.skip()}


def test_strangers_see_the_list_and_can_change_nothing(
    workspace: Workspace, server: HubServer, settings: Settings
) -> None:
    hub = Hub(workspace, local=False)
    hub.show()
    shown = hub.look_at("p")
    assert shown["hub-jobs"] == '<div class="hub-jobs"></div>'
    hub.do("HubView.on_ask", hub.chosen)
    for name in ("on_download", "on_pause", "on_cancel", "on_clear"):
        assert "open to other machines" in hub.act(name)["hub-notice"]
    assert "open to other machines" in hub.do("Acting.on_delete", hub.chosen)["hub-ask"]
    (said,) = find_handler(hub.blocks, "Acting.on_verify")(hub.chosen)
    assert "open to other machines" in texts(said)["hub-ask"]
    hub.do("Acting.on_confirm", hub.chosen, None, "embedded", *WISH)
    assert "open to other machines" in hub.shown["hub-notice"]
    assert "open to other machines" in hub.do("Care.on_token", TOKEN)["hub-token-notice"]
    hub.do("Acting.on_discard", hub.chosen, [], *WISH)
    assert "open to other machines" in hub.shown["hub-notice"]
    assert "open to other machines" in hub.do("Care.on_forget")["hub-token-notice"]
    source = str(settings.user_registry)
    newer = workspace.hub.propose_registry(str(find_bundled("model_registry.yaml")))
    hub.do("Care.on_take", newer, *BAR)
    assert "open to other machines" in hub.shown["hub-difference"]
    assert "open to other machines" in hub.do("Care.on_check", source)["hub-difference"]
    (said,) = find_handler(hub.blocks, "Care.on_disk")()
    assert "open to other machines" in said
    assert server.requests == []
    assert workspace.hub.jobs.snapshot() == ()


def test_a_pair_that_nobody_knows_is_one_sentence(hub: Hub) -> None:
    hub.show()
    for name in ("../../etc", "<img src=x>", "None"):
        assert "no longer known" in hub.look_at(name)["hub-notice"]
    assert hub.chosen == Chosen("embedded")


def test_using_a_pair_chooses_it_in_the_model_bar_and_back(hub: Hub) -> None:
    hub.show()
    hub.look_at("p")
    shown = hub.do("Acting.on_use", hub.chosen, "torch")
    assert (shown["pair"].value, shown["drafter"].value) == ("p", "p")
    assert "is chosen above" in shown["hub-notice"]
    hub.do("HubView.on_drafter", hub.chosen, "none", *WISH)
    assert hub.chosen == Chosen("p", plain=True)
    shown = hub.do("Acting.on_use", hub.chosen, "torch")
    assert (shown["pair"].value, shown["drafter"].value) == ("p", "none")
    hub.do("HubView.on_follow", hub.chosen, *WISH, *bar("q", "q"))
    assert hub.chosen == Chosen("q")
    hub.do("HubView.on_follow", hub.chosen, *WISH, *bar("q", "none"))
    assert hub.chosen == Chosen("q", plain=True)


def test_only_the_target_is_fetched_where_no_drafter_is_chosen(hub: Hub) -> None:
    hub.show()
    hub.look_at("p")
    hub.do("HubView.on_drafter", hub.chosen, "none", *WISH)
    hub.act("on_download")
    hub.wait("can-use")
    (use,) = hub.workspace.hub.disk_use()
    assert use.repo == "org/p-T"
    (*_, said) = find_handler(hub.blocks, "Acting.on_verify")(hub.chosen)
    assert "every checksum is right" in texts(said)["hub-ask"]


def test_a_quantised_target_takes_the_drafter_of_its_line(
    settings: Settings, server: HubServer
) -> None:
    add_pair(server, settings, "p")
    with settings.user_registry.open("a") as file:
        file.write("\n  - {name: p4, title: P4, family: qwen3, target: {repo: org/p-T-4bit}}\n")
    workspace = open_workspace(settings)
    try:
        hub = Hub(workspace)
        hub.show()
        shown = hub.look_at("p")
        targets = {value: label for label, value in shown["hub-target"].choices}
        (quantised,) = [value for value, label in targets.items() if "4bit" in label]
        shown = hub.do("HubView.on_target", hub.chosen, quantised, *WISH)
        assert "org/p-T-4bit" in shown["hub-detail"]
        assert "org/p-D" in shown["hub-detail"]
        used = hub.do("Acting.on_use", hub.chosen, "torch")
        assert used["pair"].value == "p4"
        assert hub.chosen is not None
        assert used["drafter"].value == hub.chosen.pair
        hub.do("HubView.on_target", hub.chosen, "no/such", *WISH)
        assert "No pair has the target" in hub.shown["hub-notice"]
    finally:
        workspace.close()


def test_another_revision_here_is_warned_of_with_what_changed(
    hub: Hub, server: HubServer, settings: Settings
) -> None:
    hub.show()
    hub.look_at("p")
    hub.act("on_download")
    hub.wait("can-verify")
    old = server.repos["org/p-T"].main
    new = server.add("org/p-T", model_files(2_000_000, 1, rope_theta=5.0))
    settings.user_registry.write_text(settings.user_registry.read_text().replace(old, new))
    hub.workspace._reload_registry()
    assert f"is here at {old[:12]}" in hub.look_at("p")["hub-detail"]
    hub.do("HubView.on_ask", hub.chosen)
    assert "rope_theta" in hub.do("HubView.on_told", hub.chosen, *WISH)["hub-fit"]
    server.faults = [Fault("GET", "config.json", 500, times=9)]
    hub.do("HubView.on_ask", hub.chosen)
    assert "cannot be compared" in hub.do("HubView.on_told", hub.chosen, *WISH)["hub-fit"]


def test_a_registry_is_shown_before_it_is_taken(hub: Hub, tmp_path: Path) -> None:
    hub.show()
    text = find_bundled("model_registry.yaml").read_text(encoding="utf-8")
    row = "\n  - {name: brand-new, title: '<b>N', family: qwen3, target: {repo: org/n}}\n"
    file = tmp_path / "newer.yaml"
    file.write_text(text + row)
    html = hub.do("Care.on_check", str(file))["hub-difference"]
    assert "<td>new</td><td>brand-new</td>" in html
    assert "brand-new" not in hub.show()
    shown = hub.do("Care.on_take", hub.states["Proposal"], *BAR)
    assert "pairs are known now" in shown["hub-difference"]
    assert "brand-new" in [value for _, value in shown["pair"]["choices"]]
    assert "&lt;b&gt;N" in hub.show()
    assert "It says the same" in hub.do("Care.on_check", str(file))["hub-difference"]
    file.write_text(text + row.replace("title", "titel"))
    assert "line " in hub.do("Care.on_check", str(file))["hub-difference"]


def test_a_token_is_checked_kept_by_the_library_and_cleared_from_its_box(
    hub: Hub, server: HubServer
) -> None:
    shown = hub.do("Care.on_token", "hf with space")
    assert "A token has no spaces" in shown["hub-token-notice"]
    assert server.requests == []
    shown = hub.do("Care.on_token", f" {TOKEN} ")
    assert "A token is known." in shown["hub-token-notice"]
    assert shown["hub-token"] == ""
    assert "No token is known." in hub.do("Care.on_forget")["hub-token-notice"]


def test_the_disk_list_names_every_model_and_revision(hub: Hub) -> None:
    hub.show()
    hub.look_at("p")
    hub.act("on_download")
    hub.wait("can-verify")
    _, html = find_handler(hub.blocks, "Care.on_disk")()
    assert "2 models take 2.5 MB" in html
    assert "<td>org/p-T</td>" in html


def test_the_recommendation_names_a_pair_and_why_and_asks_the_hub_for_more(hub: Hub) -> None:
    advise = find_handler(hub.blocks, "Advising.on_use")
    html = advise("code")
    assert 'class="hub-suggestion first" data-pair="' in html
    assert "Asking the hub" in html
    find_handler(hub.blocks, "Advising.on_ask")()
    html = advise("nonsense")
    assert 'class="hub-suggestion first" data-pair="' in html
    assert "Asking the hub" not in html
