"""Servers added on the page chat, race and stand in the History; what is wrong is one sentence."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import OpenTab
from tests.e2e.running_app import RunningApp, choose, newest_run, open_tab, send
from tests.plugins.remote.replayed_vllm import REPLY, ReplayedVllm

ENDED = "Finished after"
NUM_WORDS = len(REPLY.split())


@pytest.fixture
def drafting() -> Iterator[ReplayedVllm]:
    with ReplayedVllm(step_s=0.06) as served:
        yield served


@pytest.fixture
def plain() -> Iterator[ReplayedVllm]:
    with ReplayedVllm(drafts=False, step_s=0.06) as served:
        yield served


def fill(page: Page, **texts: str) -> None:
    for box, text in texts.items():
        page.locator(f"#server-{box} input, #server-{box} textarea").fill(text)


def remove(page: Page, name: str) -> None:
    """The app of these tests is everyone's: what was added goes again."""
    open_tab(page, "Servers")
    page.locator(f"[data-server='{name}'] [data-act=remove]").click()
    expect(page.locator("#servers-question")).to_contain_text(f"Remove {name}")
    page.locator("#servers-confirm").click()
    expect(page.locator("#servers-notice")).to_contain_text(f"{name} is removed")
    expect(page.locator(f"[data-server='{name}']")).to_have_count(0)


def test_a_server_is_added_chosen_chats_races_and_stands_in_the_history(
    page: Page, app: RunningApp, drafting: ReplayedVllm, plain: ReplayedVllm
) -> None:
    open_tab(page, "Servers")
    fill(page, dflash=drafting.url, plain=plain.url, name="gpu-box")
    page.locator("#server-check").click()
    expect(page.locator("#server-result")).to_contain_text("vLLM 0.32.0")
    expect(page.locator("#server-model input")).to_have_value("org/replayed")
    page.locator("#server-add").click()
    expect(page.locator("#server-result")).to_contain_text("gpu-box is saved")
    expect(page.locator("[data-server='gpu-box'] .badge")).to_have_text("answers")
    expect(page.locator("#pair input")).to_have_value("gpu-box")
    choose(page, "pair", "Embedded pair")
    choose(page, "pair", "gpu-box")

    open_tab(page, "Chat")
    send(page, "How much is 204 / 12?")
    expect(page.locator("#chat-cards")).to_contain_text("tok/s")  # while it still streams
    expect(page.locator("#chat-stop")).to_be_visible()
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    expect(page.locator("#chat-log")).to_contain_text("two hundred and four.")
    expect(page.locator("#chat-status")).to_contain_text("measured at the client")
    run = newest_run(app)
    assert (run["pair"], run["mode"], run["num_output_tokens"]) == ("gpu-box", "dflash", NUM_WORDS)
    assert run["acceptance_source"] == "vLLM, this request"

    open_tab(page, "Compare")
    page.locator("#race-start").click()
    expect(page.locator("#race-outcome")).to_contain_text("✓ identical")
    assert drafting.asked[-1]["messages"] == plain.asked[-1]["messages"]

    open_tab(page, "History")
    rows = page.locator("#history-table tbody tr", has_text="gpu-box")
    expect(rows).to_have_count(3)
    rows.first.click()
    expect(page.locator("#history-detail")).to_contain_text("vLLM 0.32.0")
    remove(page, "gpu-box")


def test_a_wrong_address_and_a_server_that_goes_down_are_one_sentence(
    page: Page, drafting: ReplayedVllm
) -> None:
    open_tab(page, "Servers")
    notice = page.locator("#server-result .notice.error")
    for address, said in (
        ("ftp://gpu-box", "by http or https"),
        (drafting.url.replace("/v1", "/v2"), "has nothing at this address"),
        ("http://127.0.0.1:9/v1", "No server answers at 127.0.0.1:9"),
    ):
        fill(page, dflash=address)
        page.locator("#server-add").click()
        expect(notice).to_contain_text(said)
        expect(notice).to_have_count(1)
    fill(page, dflash=drafting.url, name="goes-down")
    page.locator("#server-add").click()
    expect(page.locator("#server-result")).to_contain_text("goes-down is saved")
    drafting.close()
    page.locator("#servers-again").click()
    expect(page.locator("[data-server='goes-down'] .badge")).to_have_text("no answer")
    open_tab(page, "Chat")
    send(page, "Hello")
    expect(page.locator("#chat-status, #chat-notice").first).to_contain_text("No server answers")
    remove(page, "goes-down")


def test_the_tab_fits_a_phone_and_speaks_chinese(
    open_browser_tab: OpenTab, drafting: ReplayedVllm
) -> None:
    page = open_browser_tab(viewport={"width": 390, "height": 844}, locale="zh-CN")
    page.locator("#tab-servers-button").click()
    fill(page, dflash=drafting.url)
    page.locator("#server-check").click()
    expect(page.locator("#server-result")).to_contain_text("使用投机解码，每步 15 个草稿")
    expect(page.locator("#server-add")).to_have_text("添加")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
