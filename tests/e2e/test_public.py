"""Two visitors of one public page: each sees, and finds again, only what is their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dflash_app.store.runs import Store
from tests.e2e.running_app import RunningApp, newest_run, open_page, open_tab, send, start_app

SECRET = "How many positive whole-number divisors does 196 have?"
OTHER = "What is 12 + 30?"


@pytest.fixture(scope="module")
def public_app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with start_app(tmp_path_factory.mktemp("public"), DFLASH_APP_PUBLIC="1") as running:
        yield running
    assert "Traceback" not in running.printed()


def visit(browser: Browser, app: RunningApp) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
    page.set_default_timeout(120_000)
    open_page(page, app)
    return page


def test_a_visitor_finds_their_chat_again_and_nobody_else_does(
    browser: Browser, public_app: RunningApp
) -> None:
    ann, bob = visit(browser, public_app), visit(browser, public_app)
    send(ann, SECRET)
    expect(ann.locator("#chat-log")).to_contain_text("divisors")
    expect(ann.locator("#chat-status")).to_contain_text("Finished")
    assert newest_run(public_app)["owner"].startswith("visitor-")
    ann.reload()
    expect(ann.locator("#chat-log")).to_contain_text(SECRET)
    send(bob, OTHER)
    expect(bob.locator("#chat-status")).to_contain_text("Finished")
    for page, own, other in ((ann, SECRET, OTHER), (bob, OTHER, SECRET)):
        open_tab(page, "History")
        expect(page.get_by_text(own).last).to_be_visible()
        assert other not in page.locator("body").inner_text()
    for page in (ann, bob):
        page.context.close()


def test_a_visitor_is_offered_nothing_that_would_touch_the_machine(
    browser: Browser, public_app: RunningApp
) -> None:
    page = visit(browser, public_app)
    for hidden in ("#add-pair", "#precision", "#device", "#hub-care"):
        expect(page.locator(hidden)).to_be_hidden()
    open_tab(page, "Hub")
    expect(page.locator("#hub-list")).to_contain_text("Embedded pair")
    for hidden in ("#hub-download", "#hub-delete", "#hub-verify", "#hub-care"):
        expect(page.locator(hidden)).to_be_hidden()
    assert str(public_app.home) not in page.content()
    page.context.close()


def test_a_space_that_is_stopped_leaves_all_of_its_log_in_the_bucket(
    browser: Browser, tmp_path: Path
) -> None:
    home, bucket = tmp_path / "home", tmp_path / "bucket"
    home.mkdir()
    bucket.mkdir()
    with start_app(home, DFLASH_APP_PUBLIC="1", DFLASH_APP_BUCKET=str(bucket)) as app:
        page = visit(browser, app)
        send(page, SECRET)
        expect(page.locator("#chat-status")).to_contain_text("Finished")
        page.context.close()
        assert not (bucket / "runs.db").exists()  # it was not yet time for a copy
    with Store(bucket / "runs.db") as copy:
        (run,) = copy.list_runs()
    assert (run.start.prompt, run.finish_reason) == (SECRET, "stop")
