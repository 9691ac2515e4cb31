"""A new user with an empty cache, in the browser: a pair is found, fetched, used and deleted."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.conftest import OpenTab
from tests.e2e.running_app import RunningApp, choose, newest_run, open_page, open_tab, send
from tests.e2e.served_hub import start_hub_app
from tests.e2e.test_page import ENDED, QUESTION
from tests.hub.server import TOKEN, HubServer

PROGRESS = re.compile(r"\d+ % · [\d.]+ [kM]B of 12\.7 MB · [\d.]+ [kM]B/s")


@pytest.fixture(scope="module")
def served(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningApp, HubServer]]:
    """The app on an empty cache, and the hub that it asks."""
    with start_hub_app(tmp_path_factory.mktemp("hub-home")) as running:
        yield running
    assert "Traceback" not in running[0].printed()


@pytest.fixture(scope="module")
def app(served: tuple[RunningApp, HubServer]) -> RunningApp:
    return served[0]


@pytest.fixture
def hub(served: tuple[RunningApp, HubServer]) -> HubServer:
    return served[1]


def look_at(page: Page, pair: str) -> None:
    """Open the hub and click a pair's row."""
    open_tab(page, "Hub")
    row(page, pair).click()
    expect(row(page, pair)).to_have_attribute("aria-selected", "true")


def row(page: Page, pair: str) -> Locator:
    return page.locator(f"#hub-list tr[data-pair='{pair}']")


def cached(app: RunningApp) -> list[Path]:
    folder = app.home / "huggingface" / "hub"
    return [path for path in folder.glob("models--*/blobs/*") if path.stat().st_size]


def test_a_new_user_finds_downloads_cancels_resumes_uses_and_deletes_a_pair(
    page: Page, app: RunningApp, hub: HubServer, open_browser_tab: OpenTab, browser: Browser
) -> None:
    open_tab(page, "Hub")
    expect(row(page, "served")).to_contain_text("not downloaded")
    page.locator("#hub-text input, #hub-text textarea").fill("puzzle")
    expect(page.locator("#hub-list tr[data-pair]")).to_have_count(1)
    look_at(page, "served")
    fit = page.locator("#hub-fit")
    expect(fit).to_contain_text("Sizes are read from the headers of the files on the hub.")
    expect(fit).to_contain_text("Fits in fp32 on cpu, up to 2,048 tokens")
    fit.locator("summary").click()
    expect(fit).to_contain_text("target weights")
    expect(page.locator("#hub-use")).to_be_hidden()

    hub.pause_s = 1.0  # of 200 parts: it lasts until the tests let it go
    page.locator("#hub-download").click()
    jobs = page.locator("#hub-jobs")
    expect(jobs).to_contain_text(PROGRESS)
    expect(row(page, "served")).to_contain_text("downloading")
    other = open_browser_tab()
    look_at(other, "served")
    expect(other.locator("#hub-jobs")).to_contain_text(PROGRESS)
    reloaded = browser.new_page()  # unwatched: Gradio complains of the streams that a reload ends
    open_page(reloaded, app)
    reloaded.reload(wait_until="domcontentloaded")
    look_at(reloaded, "served")
    expect(reloaded.locator("#hub-jobs")).to_contain_text(PROGRESS)
    reloaded.close()
    page.locator("#hub-pause").click()
    expect(jobs).to_contain_text("Paused; what is there is kept.")
    expect(other.locator("#hub-jobs")).to_contain_text("Paused")
    page.locator("#hub-resume").click()
    expect(jobs).to_contain_text(PROGRESS)
    page.locator("#hub-cancel").click()
    expect(jobs).to_contain_text("Cancelled; what is there is kept")
    assert cached(app)

    asked_before = len(hub.requests)
    hub.pause_s = 0.0
    page.locator("#hub-resume").click()
    expect(row(page, "served").locator(".badge")).to_have_text("ready")
    assert any(asked.range for asked in hub.requests[asked_before:]), "it began at the start again"
    expect(row(other, "served").locator(".badge")).to_have_text("ready")
    page.locator("#hub-verify").click()
    expect(page.locator("#hub-ask")).to_contain_text("every checksum is right")

    page.locator("#hub-use").click()
    expect(page.locator("#pair input")).to_have_value("Number puzzles")
    open_tab(page, "Chat")
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    run = newest_run(app)
    assert (run["pair"], run["mode"], run["finish_reason"]) == ("served", "dflash", "stop")

    open_tab(page, "Hub")
    page.locator("#hub-delete").click()
    question = page.locator("#hub-ask")
    expect(question).to_contain_text(re.compile(r"Delete this and free 12\.\d MB\?"))
    page.locator("#hub-keep").click()
    expect(page.locator("#hub-confirm")).to_be_hidden()
    page.locator("#hub-delete").click()
    page.locator("#hub-confirm").click()
    notice = page.locator("#hub-notice")
    expect(notice).to_contain_text("is in memory as part of pair 'served': choose another pair")
    choose(page, "pair", "Embedded pair")
    look_at(page, "served")
    page.locator("#hub-delete").click()
    page.locator("#hub-confirm").click()
    expect(notice).to_contain_text("MB are free again.")
    expect(row(page, "served").locator(".badge")).to_have_text("not downloaded")
    assert cached(app) == []


def test_a_gated_pair_asks_for_a_token_that_stays_in_the_librarys_place(
    page: Page, app: RunningApp, hub: HubServer
) -> None:
    hub.pause_s = 0
    look_at(page, "gated")
    page.locator("#hub-download").click()
    jobs = page.locator("#hub-jobs")
    expect(jobs).to_contain_text("is gated and it needs a token")
    link = jobs.get_by_role("link", name="Read and accept the licence")
    expect(link).to_have_attribute("href", re.compile("studio/gated-"))
    page.locator("#hub-login > button").first.click()
    box = page.locator("#hub-token input")
    expect(box).to_have_attribute("type", "password")
    box.fill("hf with space")
    page.locator("#hub-token-save").click()
    expect(page.locator("#hub-token-notice")).to_contain_text("A token has no spaces")
    box.fill(TOKEN)
    page.locator("#hub-token-save").click()
    expect(page.locator("#hub-token-notice")).to_contain_text("A token is known.")
    expect(box).to_have_value("")
    page.locator("#hub-resume").click()
    expect(row(page, "gated").locator(".badge")).to_have_text("ready")
    holders = [
        path.relative_to(app.home).parts[0]
        for path in app.home.rglob("*")
        if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]
    assert set(holders) == {"huggingface"}


def test_the_hub_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    look_at(page, "served")
    expect(page.locator("#hub-fit")).to_contain_text("Fits in")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
