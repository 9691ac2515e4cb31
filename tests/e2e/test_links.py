"""Links of the page in a real browser: below a reply, in History, in an address."""

import re

from playwright.sync_api import Page, expect

from tests.e2e.running_app import RunningApp, newest_run, open_tab, send
from tests.e2e.test_page import ENDED


def answered(page: Page, text: str) -> int:
    """Send a message; returns how many replies stand in the log once it is answered."""
    feet = page.locator("#chat-log .foot")
    before = feet.count()
    send(page, text)
    expect(feet).to_have_count(before + 1)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    expect(feet.last).to_contain_text("tok/s")
    return before + 1


def opened(page: Page, run_id: int) -> None:
    expect(page.locator("#microscope-run input")).to_have_value(re.compile(f"^#{run_id} "))
    expect(page.locator("#microscope-step")).to_contain_text("Block 1 of")


def test_a_question_in_the_middle_is_deleted_once_its_user_has_said_so(page: Page) -> None:
    for question in ("What is 2 + 3?", "What is 3 + 4?", "What is 4 + 5?"):
        answered(page, question)
    remove = page.locator("#chat-log .remove-turn")
    remove.nth(1).click()
    expect(remove.nth(1)).to_have_text("delete this question and its reply?")
    page.locator("#chat-log .user").first.click()
    expect(remove.nth(1)).to_have_text("delete")
    for _ in range(2):
        remove.nth(1).click()
    users = page.locator("#chat-log .user")
    expect(users).to_have_count(2)
    expect(users.nth(1)).to_contain_text("4 + 5")
    page.reload()
    expect(users).to_have_count(2)


def test_the_steps_of_a_reply_are_a_click_away_in_chat_in_history_and_by_address(
    page: Page, app: RunningApp
) -> None:
    answered(page, "What is 5 + 6?")
    first = newest_run(app)["id"]
    answered(page, "What is 6 + 7?")
    for _ in range(2):  # the same link leads there again
        page.locator("#chat-log .run-link").first.click()
        opened(page, first)
        open_tab(page, "Chat")
    open_tab(page, "History")
    page.locator(f"[data-run='{first + 1}']").click()
    page.locator("#history-detail .run-link").click()
    opened(page, first + 1)
    page.goto("about:blank")  # else only the end of the address would change
    page.goto(f"{app.url}#run-{first}")
    opened(page, first)
    assert "#run" not in page.url
