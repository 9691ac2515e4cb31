"""The real page in a real browser: chat, race, run log, and what must not happen."""

import re
import time

from playwright.sync_api import Page, expect

from tests.e2e.conftest import OpenTab
from tests.e2e.running_app import RunningApp, choose, newest_run, open_page, open_tab, send
from tests.e2e.tiny_pair import TITLE

QUESTION = "How many positive whole-number divisors does 196 have?"
HOSTILE = "<img src=x onerror='window.pwned=9'> ${window.pwned=9} {{value}} <script>1</script>"
ENDLESS = 16_384
"""Tokens, the most that the page allows: no machine is through before Stop is pressed."""
ENDED = re.compile(r"(Finished|Ended at the length limit) after")


def choose_tiny(page: Page) -> None:
    """The pair that talks to its limit."""
    choose(page, "pair", TITLE)
    expect(page.locator("#drafter input")).not_to_have_value(re.compile("embedded"))
    expect(page.locator("#pair-facts")).to_contain_text("ready")


def set_limit(page: Page, place: str, max_new_tokens: int) -> None:
    page.locator(f"#{place}-settings button").first.click()
    number = page.locator(f"#{place}-max-tokens input[type=number]")
    number.fill(str(max_new_tokens))
    number.press("Tab")
    # The panel was opened a moment ago: only where its slider follows did the page take the value.
    expect(page.locator(f"#{place}-max-tokens input[type=range]")).to_have_value(
        str(max_new_tokens)
    )


def test_a_message_is_answered_with_live_figures(page: Page, app: RunningApp) -> None:
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    expect(page.locator("#chat-log .user")).to_contain_text("196")
    expect(page.locator("#chat-log .bot").last).not_to_have_text("…")
    expect(page.locator("#chat-cards")).to_contain_text("tok/s")
    assert page.locator("#chat-strip .tok").count() > 5
    expect(page.locator("#chat-prompt textarea")).to_have_value("")
    run = newest_run(app)
    assert (run["source"], run["mode"], run["prompt"]) == ("chat", "dflash", QUESTION)
    expect(page.locator("#chat-log .bot").last).to_contain_text("9")


def test_a_refused_message_takes_nothing_off_the_page(page: Page) -> None:
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    page.locator("#chat-send").click()
    expect(page.locator("#chat-notice")).to_contain_text("The prompt is empty")
    time.sleep(1)  # what would empty the page comes after the notice
    expect(page.locator("#chat-log .user")).to_have_count(1)
    expect(page.locator("#chat-log .bot").last).to_contain_text("9")
    expect(page.locator("#chat-cards")).to_contain_text("tok/s")


def test_stop_ends_the_reply_at_once_and_the_run_is_kept(page: Page, app: RunningApp) -> None:
    choose_tiny(page)
    choose(page, "drafter", "none")
    set_limit(page, "chat", ENDLESS)
    send(page, "Talk and talk")
    expect(page.locator("#chat-status")).to_contain_text("Generating")
    page.locator("#chat-stop").click()
    expect(page.locator("#chat-status")).to_contain_text("Stopped")
    expect(page.locator("#chat-send")).to_be_visible()
    run = newest_run(app)
    assert (run["finish_reason"], run["prompt"]) == ("cancelled", "Talk and talk")
    assert 0 < run["num_output_tokens"] < ENDLESS


def test_a_race_ends_with_a_speedup_and_identical(page: Page, app: RunningApp) -> None:
    open_tab(page, "Compare")
    expect(page.locator("#race-prompt textarea")).to_have_value(QUESTION)
    page.locator("#race-start").click()
    expect(page.locator("#race-outcome")).to_contain_text("✓ identical")
    expect(page.locator("#race-outcome .speedup")).to_contain_text("×")
    for lane in ("ar", "dflash"):
        expect(page.locator(f"#race-cards-{lane}")).to_contain_text("tok/s")
    texts = [page.locator(f"#race-text-{lane}").inner_text() for lane in ("ar", "dflash")]
    assert texts[0] == texts[1] != ""
    assert "9" in texts[0]


def test_history_shows_the_runs_and_deletes_one_after_asking(page: Page, app: RunningApp) -> None:
    send(page, "A question for the log")
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    run = newest_run(app)
    open_tab(page, "History")
    row = page.locator("#history-table tbody tr", has_text="A question for the log")
    expect(row.first).to_be_visible()
    expect(page.locator("#chart-speed .main-svg").first).to_be_visible()
    row.first.click()
    expect(page.locator("#history-detail")).to_contain_text(f"Run {run['id']}")
    expect(page.locator("#history-detail")).to_contain_text("A question for the log")
    page.locator("#history-delete").click()
    page.locator("#history-confirm").click()
    expect(page.locator("#history-question")).to_contain_text(f"Run {run['id']} is deleted")
    expect(row).to_have_count(0)


def test_one_click_downloads_what_the_table_shows(page: Page) -> None:
    for text in ("Apple question", "Pear question"):
        send(page, text)
        expect(page.locator("#chat-log .user", has_text=text)).to_have_count(1)
        expect(page.locator("#chat-status")).to_contain_text(ENDED)
        page.locator("#chat-clear").click()
        expect(page.locator("#chat-log .user")).to_have_count(0)
    open_tab(page, "History")
    table = page.locator("#history-table")
    expect(table).to_contain_text("Apple question")
    for text, other in (("Apple", "Pear"), ("Pear", "Apple")):
        wanted = page.locator("#history-text textarea, #history-text input")
        wanted.fill(f"{text} question")
        wanted.press("Enter")
        expect(table).not_to_contain_text(f"{other} question")
        expect(table).to_contain_text(f"{text} question")
        with page.expect_download() as download:
            page.locator("#history-export").click()
        assert download.value.suggested_filename == "runs.csv"
        rows = download.value.path().read_text(encoding="utf-8")
        assert f"{text} question" in rows
        assert f"{other} question" not in rows


def test_markup_in_prompt_and_reply_is_inert_everywhere(page: Page) -> None:
    choose_tiny(page)
    send(page, HOSTILE)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    expect(page.locator("#chat-log .user")).to_contain_text("img src=x onerror")
    open_tab(page, "Compare")
    page.locator("#race-prompt textarea").fill(HOSTILE)
    page.locator("#race-start").click()
    expect(page.locator("#race-outcome")).to_contain_text("identical")
    open_tab(page, "History")
    row = page.locator("#history-table tbody tr", has_text="<img src=x")
    row.first.click()
    expect(page.locator("#history-detail")).to_contain_text("<img src=x")
    assert page.evaluate("window.pwned") is None
    assert page.locator("img[src='x'], [onerror], [onload], #chat-log b").count() == 0


def test_an_empty_prompt_is_refused_kindly(page: Page) -> None:
    page.locator("#chat-send").click()
    expect(page.locator("#chat-notice")).to_contain_text("The prompt is empty")
    expect(page.locator("#chat-send")).to_be_visible()


def test_a_pair_that_is_not_here_is_listed_and_explained(page: Page) -> None:
    choose(page, "pair", "Qwen3 8B")
    expect(page.locator("#pair-facts")).to_contain_text("needs download")
    send(page, "Keep this text")
    command = page.locator("code", has_text="dflash-app hub pull qwen3-8b")
    expect(page.locator("#chat-notice").locator(command)).to_be_visible()
    expect(page.locator("#chat-prompt textarea")).to_have_value("Keep this text")
    page.locator("#pair-facts .open-hub").click()
    expect(page.locator("#hub-detail h2")).to_contain_text("Qwen3 8B")
    expect(page.locator("#hub-download")).to_be_visible()


def test_a_second_browser_tab_waits_for_the_device(open_browser_tab: OpenTab) -> None:
    first, second = open_browser_tab(), open_browser_tab()
    choose_tiny(first)
    choose(first, "drafter", "none")
    set_limit(first, "chat", ENDLESS)
    send(first, "Hold the device")
    expect(first.locator("#chat-status")).to_contain_text("Generating")
    send(second, "Wait your turn")
    expect(second.locator("#chat-status")).to_contain_text("Waiting for the device")
    first.locator("#chat-stop").click()
    expect(second.locator("#chat-status")).to_contain_text(ENDED)


def test_a_closed_browser_tab_stops_its_run(open_browser_tab: OpenTab, app: RunningApp) -> None:
    page = open_browser_tab()
    choose_tiny(page)
    choose(page, "drafter", "none")
    set_limit(page, "chat", ENDLESS)
    send(page, "Nobody reads this")
    expect(page.locator("#chat-status")).to_contain_text("Generating")
    page.close()
    deadline = time.monotonic() + 60
    while newest_run(app)["finish_reason"] is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert newest_run(app)["finish_reason"] == "cancelled"


def test_clear_empties_the_conversation_and_the_next_message_starts_anew(
    page: Page, app: RunningApp
) -> None:
    send(page, "First")
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    page.locator("#chat-clear").click()
    expect(page.locator("#chat-log .user")).to_have_count(0)
    send(page, "Second")
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    assert '"First"' not in newest_run(app)["messages"]


def test_a_message_typed_during_a_reply_stays_in_its_box_until_the_reply_has_ended(
    page: Page,
) -> None:
    choose_tiny(page)
    choose(page, "drafter", "none")
    set_limit(page, "chat", ENDLESS)
    send(page, "First")
    expect(page.locator("#chat-status")).to_contain_text("Generating")
    expect(page.locator("#chat-send")).to_be_hidden()
    send(page, "Second")
    page.wait_for_timeout(1_000)  # the app has answered: with nothing
    expect(page.locator("#chat-status")).to_contain_text("Generating")
    page.locator("#chat-stop").click()
    expect(page.locator("#chat-status")).to_contain_text("Stopped")
    expect(page.locator("#chat-stop")).to_be_hidden()
    expect(page.locator("#chat-prompt textarea")).to_have_value("Second")
    expect(page.locator("#chat-log .user")).to_have_count(1)
    page.locator("#chat-send").click()
    expect(page.locator("#chat-log .user")).to_have_count(2)
    page.locator("#chat-stop").click()
    expect(page.locator("#chat-status")).to_contain_text("Stopped")


def test_what_is_cleared_during_a_run_stays_cleared(page: Page) -> None:
    choose_tiny(page)
    choose(page, "drafter", "none")
    set_limit(page, "chat", ENDLESS)
    send(page, "Forget this")
    expect(page.locator("#chat-status")).to_contain_text("Generating")
    page.locator("#chat-log button[aria-label=Clear]").dispatch_event("click")
    expect(page.locator("#chat-send")).to_be_visible()
    expect(page.locator("#chat-log .user")).to_have_count(0)
    expect(page.locator("#chat-status")).to_have_text("")


def test_controls_have_names_and_the_page_fits_a_phone(page: Page, app: RunningApp) -> None:
    for label in ("Pair", "Drafter", "Block size", "Precision", "Message"):
        expect(page.get_by_label(label, exact=True).first).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    open_page(page, app)
    for tab in ("Chat", "Compare", "History"):
        open_tab(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
