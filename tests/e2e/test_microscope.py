"""The Microscope in a real browser: step through a reply, and try a suggestion."""

import re
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.e2e.running_app import (
    RunningApp,
    choose,
    newest_run,
    open_page,
    open_tab,
    send,
    start_app,
)

QUESTION = "How many positive whole-number divisors does 196 have? <img src=x>"
ENDED = re.compile(r"(Finished|Ended at the length limit) after")


def ask_and_look(page: Page) -> None:
    """Send a message and put its run under the microscope."""
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    open_tab(page, "Microscope")
    expect(page.locator("#microscope-step")).to_contain_text("1 of ")


def test_a_reply_is_stepped_through_block_by_block(page: Page, app: RunningApp) -> None:
    ask_and_look(page)
    step = page.locator("#microscope-step")
    expect(page.locator("#microscope-run input")).to_have_value(
        re.compile(f"^#{newest_run(app)['id']} ")
    )
    expect(step).to_contain_text("Block 1 of")
    assert step.locator("li").count() == 16  # fifteen drafts and the target's own token
    assert step.locator("li.accepted .scope-sure").count() == step.locator("li.accepted").count()
    page.locator("#microscope-next").click()
    expect(step).to_contain_text("Block 2 of")
    page.locator("#microscope-summary").click()
    page.keyboard.press("ArrowRight")
    expect(step).to_contain_text("Block 3 of")
    page.keyboard.press("ArrowLeft")
    expect(step).to_contain_text("Block 2 of")
    page.locator("#microscope-block input[type=number]").fill("4")
    page.locator("#microscope-block input[type=number]").press("Tab")
    expect(step).to_contain_text("Block 4 of")
    expect(step.locator("mark")).not_to_be_empty()
    expect(page.locator("#microscope-why")).to_contain_text("a step commits")
    expect(page.locator("#microscope-time")).to_contain_text("verifying")
    expect(page.locator("[id^=chart-scope] .main-svg").first).to_be_visible()
    expect(page.locator("#microscope-summary")).to_contain_text("<img src=x>")


def test_a_suggestion_is_tried_and_the_difference_reported(
    browser: Browser, tmp_path: Path
) -> None:
    # A log of its own: in one without drafted runs a plain one is always told of the drafter.
    with start_app(tmp_path) as app, browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(120_000)
        open_page(page, app)
        choose(page, "drafter", "none")
        ask_and_look(page)
        expect(page.locator("#microscope-summary")).to_contain_text("This run decoded plainly")
        page.get_by_role("button", name="Try it: mode dflash").click()
        tried = page.locator("#microscope-tried")
        expect(tried).to_contain_text("as fast as before")
        expect(tried).to_contain_text("The output is identical, token by token")
        run = newest_run(app)
        assert run["source"] == "microscope"
        assert run["id"] >= 3
