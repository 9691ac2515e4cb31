"""What may go wrong in a chat, in a real browser: nothing typed or written is lost by it."""

import re
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.conftest import OpenTab
from tests.e2e.running_app import RunningApp, choose, newest_run, open_page, send
from tests.e2e.test_chat import keep_reply
from tests.e2e.test_page import ENDED, ENDLESS, QUESTION, choose_tiny, set_limit

MIXED = "Say 👋 to مرحبا بالعالم (hello) 👩🏽‍🚀"
SOME_TEXT = re.compile(r"(.|\n){60}")
TOO_LONG = (
    "The conversation has 1,000,000 characters, more than 400,000: shorten it or start a new one."
)
HALF_A_CHARACTER = (
    "Character 6 of a message is half of a surrogate pair, which is no text: "
    "delete it and type it again."
)
PASTE = """(box, text) => {
    box.value = text;
    box.dispatchEvent(new Event("input", {bubbles: true}));
}"""
NUM_TOKENS = """() => {
    const name = [...document.querySelectorAll("#chat-cards dt")].find(
        (each) => each.innerText.trim() === "Tokens");
    return Number(name.parentElement.querySelector("dd").innerText.replaceAll(",", ""));
}"""


class Line:
    """A port that passes everything on to another one and back, until it is cut."""

    def __init__(self, port: int) -> None:
        self._to, self._ends = port, list[socket.socket]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._take_calls, daemon=True).start()

    def cut(self) -> None:
        """End all calls under way; who calls anew gets through."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):  # over already
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all calls and take no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _take_calls(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source:  # cut
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def ask_without_end(page: Page, text: str) -> None:
    """Hold the device with a reply that only Stop ends, and wait for its first words."""
    choose_tiny(page)
    set_limit(page, "chat", ENDLESS)
    send(page, text)
    expect(bubbles(page).last).to_contain_text(SOME_TEXT)
    expect(page.locator("#chat-status")).to_contain_text("Generating")


def bubbles(page: Page) -> Locator:
    return page.locator("#chat-log .bot")


def ended(page: Page, num_replies: int) -> None:
    """Wait until so many replies have ended, the last one by itself."""
    expect(page.locator("#chat-log .foot")).to_have_count(num_replies)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)


def stored(app: RunningApp, query: str, *values: Any) -> list[Any]:
    """Rows of the app's database, read from the file itself."""
    with closing(sqlite3.connect(f"file:{app.home / 'runs.db'}?mode=ro", uri=True)) as database:
        return database.execute(query, values).fetchall()


def test_what_no_model_can_take_is_refused_in_one_sentence_and_back_in_its_box(
    page: Page, app: RunningApp
) -> None:
    box = page.locator("#chat-prompt textarea")
    megabyte = "How many? " * 50_000 + "x" * 500_000
    refused = [
        ("half \ud83d of 😀 is none", HALF_A_CHARACTER, "half ? of 😀 is none"),
        (megabyte, TOO_LONG, megabyte),
    ]
    for text, sentence, back in refused:
        box.evaluate(PASTE, text)
        page.locator("#chat-send").click()
        expect(page.locator("#chat-notice")).to_have_text(sentence)
        expect(page.locator("#chat-send")).to_be_visible()
        assert box.input_value() == back
        expect(page.locator("#chat-log .user")).to_have_count(0)
    assert stored(app, "SELECT 1 FROM turns WHERE length(content) = 1000000") == []
    send(page, QUESTION)
    ended(page, 1)
    expect(page.locator("#chat-notice")).not_to_contain_text("characters")


def test_retry_answers_anew_with_the_system_prompt_as_it_is_now(
    page: Page, app: RunningApp
) -> None:
    send(page, QUESTION)
    ended(page, 1)
    first = newest_run(app)
    page.locator("#chat-settings button").first.click()
    page.locator("#chat-system textarea").fill("You are a zebra.")
    page.locator("#chat-retry").click()
    figures = page.locator(f'#chat-log a[href^="#run-"]:not([href="#run-{first["id"]}"])')
    expect(figures).to_have_count(1)
    ended(page, 1)
    expect(page.locator("#chat-log .user")).to_have_count(1)
    second = newest_run(app)
    assert second["prompt"] == first["prompt"] == QUESTION
    assert "zebra" not in first["messages"]
    assert '"You are a zebra."' in second["messages"]
    assert second["num_prompt_tokens"] > first["num_prompt_tokens"]
    turns = stored(app, "SELECT chat_id FROM turns WHERE run_id = ?", second["id"])
    assert stored(app, "SELECT role FROM turns WHERE chat_id = ? ORDER BY position", *turns[0]) == [
        ("user",),
        ("assistant",),
    ]


def test_stop_before_the_first_token_gives_the_message_back(
    open_browser_tab: OpenTab, app: RunningApp
) -> None:
    first, second = open_browser_tab(), open_browser_tab()
    ask_without_end(first, "Keep the device")
    send(second, "Never answered")
    expect(second.locator("#chat-status")).to_contain_text("Waiting for the device")
    box = second.locator("#chat-prompt textarea")
    box.fill("Typed meanwhile")
    second.locator("#chat-stop").click()
    expect(box).to_have_value("Never answered\nTyped meanwhile")
    expect(second.locator("#chat-log .user")).to_have_count(0)
    expect(second.locator("#chat-list label", has_text="Keep the device")).to_have_count(1)
    expect(second.locator("#chat-list label", has_text="Never answered")).to_have_count(0)
    assert stored(app, "SELECT 1 FROM turns WHERE content = 'Never answered'") == []
    assert stored(app, "SELECT 1 FROM runs WHERE prompt = 'Never answered'") == []
    expect(first.locator("#chat-status")).to_contain_text("Generating")
    first.locator("#chat-stop").click()
    expect(first.locator("#chat-status")).to_contain_text("Stopped")
    second.locator("#chat-send").click()
    ended(second, 1)


def test_a_value_beyond_its_slider_is_brought_back_to_its_end(page: Page, app: RunningApp) -> None:
    page.locator("#chat-settings button").first.click()
    for name, typed, end in (("temperature", "99", "2"), ("top-p", "-7", "0.05")):
        number = page.locator(f"#chat-{name} input[type=number]")
        number.fill(typed)
        send(page, f"Not with {name} {typed}")
        expect(number).to_have_value(end)
        expect(page.locator("#chat-log .user", has_text=name)).to_have_count(1)
        expect(page.locator("#chat-status")).to_contain_text(ENDED)
    ended(page, 2)
    run = newest_run(app)
    assert run["prompt"] == "Not with top-p -7"
    assert (run["temperature"], run["top_p"]) == (2.0, 0.05)
    asked = "SELECT temperature FROM runs WHERE prompt = 'Not with temperature 99'"
    assert stored(app, asked) == [(2.0,)]


def test_a_pair_chosen_during_a_reply_answers_the_next_message(page: Page, app: RunningApp) -> None:
    ask_without_end(page, "Go on with your own pair")
    choose(page, "pair", "Embedded pair")
    expect(page.locator("#drafter input")).to_have_value(re.compile("embedded"))
    num_tokens = page.evaluate(NUM_TOKENS)
    page.wait_for_function(f"(num) => ({NUM_TOKENS})() > num", arg=num_tokens)
    page.locator("#chat-stop").click()
    expect(page.locator("#chat-log .foot")).to_contain_text("stopped")
    run = newest_run(app)
    assert (run["pair"], run["finish_reason"]) == ("tiny", "cancelled")
    page.locator("#chat-clear").click()
    expect(page.locator("#chat-log .user")).to_have_count(0)
    send(page, QUESTION)
    ended(page, 1)
    run = newest_run(app)
    assert (run["pair"], run["prompt"]) == ("embedded", QUESTION)


@pytest.fixture
def line(app: RunningApp) -> Iterator[Line]:
    with closing(Line(int(app.url.rsplit(":", 1)[1]))) as opened:
        yield opened


def test_a_line_that_is_cut_in_mid_stream_costs_no_word_that_came(
    app: RunningApp, browser: Browser, line: Line
) -> None:
    with closing(browser.new_context()) as context:  # whose console tells of the cut
        page = context.new_page()
        page.set_default_timeout(120_000)
        open_page(page, replace(app, url=f"http://127.0.0.1:{line.port}"))
        ask_without_end(page, "Talk through the tunnel")
        seen = bubbles(page).last.inner_text()[:200]
        with page.expect_event("load"):  # the page loads itself anew
            line.cut()
        expect(page.locator("#chat-log .foot")).to_contain_text("stopped")
        expect(page.locator("#chat-log .user")).to_have_text("Talk through the tunnel")
        assert bubbles(page).last.inner_text().startswith(seen)
        run = newest_run(app)
        assert (run["prompt"], run["finish_reason"]) == ("Talk through the tunnel", "cancelled")
        page.locator("#chat-clear").click()
        expect(page.locator("#chat-log .user")).to_have_count(0)
        set_limit(page, "chat", 64)  # the conversation's own came back with it
        send(page, QUESTION)
        ended(page, 1)


def test_both_ways_of_writing_and_emoji_survive_and_reasoning_is_folded(
    open_browser_tab: OpenTab, app: RunningApp
) -> None:
    reply = f"<think>\nA zebra greets مرحبا.\n</think>\n{MIXED}\n\nשלום 🦓 world"
    keep_reply(app.home, f"{MIXED} zebra", reply)
    page = open_browser_tab()
    listed = page.locator("#chat-list label", has_text=f"{MIXED} zebra")
    listed.click()
    expect(page.locator("#chat-log .user")).to_have_text(f"{MIXED} zebra")
    shown = [*page.locator("#chat-log .user p").all(), *bubbles(page).last.locator("p").all()]
    assert [each.inner_text() for each in shown[:3]] == [f"{MIXED} zebra", MIXED, "שלום 🦓 world"]
    for each in shown:
        assert each.evaluate("each => getComputedStyle(each).unicodeBidi") == "plaintext"
    thought = page.locator("#chat-log").get_by_text("A zebra greets")
    expect(thought).to_be_hidden()
    page.locator("#chat-log").get_by_text("Reasoning").click()
    expect(thought).to_be_visible()
    expect(thought).to_have_text("A zebra greets مرحبا.")
    page.locator("#chat-clear").click()
    expect(page.locator("#chat-log .user")).to_have_count(0)
    send(page, MIXED)
    ended(page, 1)
    expect(page.locator("#chat-log .user")).to_have_text(MIXED)
    assert newest_run(app)["prompt"] == MIXED
