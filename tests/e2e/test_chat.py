"""Conversations in a real browser: kept, found, mended, taken away; and what must not happen."""

import json
import os
import re
import signal
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect

from dflash_app.metrics import RunMetrics
from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store
from dflash_app.ui.tabs.chat import EXAMPLE_PROMPTS
from tests.e2e.conftest import OpenTab
from tests.e2e.running_app import (
    RunningApp,
    choose,
    free_port,
    newest_run,
    open_page,
    send,
    start_app,
)
from tests.e2e.test_page import ENDED, ENDLESS, choose_tiny, set_limit
from tests.e2e.tiny_pair import TITLE, write_tiny_pair

HOSTILE_REPLY = r"""![seen](http://evil.invalid/a.png) <img src="http://evil.invalid/b.png">

[link](http://evil.invalid/c) [script](javascript:window.pwned=1)
[x](http://evil.invalid "$$ " style="background:url(http://evil.invalid/d.png)" $$")
\(<img src=http://evil.invalid/e.png>\) %%%LATEX_BLOCK_0%%% \(x^2\)

```mermaid
graph TD; A["<img src='http://evil.invalid/f.png'>"] --> B
```

~~~mermaid
graph TD; A --> B
~~~

```python
print("<b>")
```
"""


def keep_reply(home: Path, prompt: str, reply: str) -> None:
    """Put a conversation into the app's store, as if a model had said this."""
    with Store(home / "runs.db") as store:
        chat_id = store.chats.create(None)
        asked_at = store.chats.begin_reply(chat_id, None, 0, prompt)
        assert asked_at is not None
        asked = ({"role": "user", "content": prompt},)
        start = RunStart("chat", "tiny", "torch", "cpu", "float32", "ar", asked)
        run_id = store.start_run(start)
        store.chats.link_run(chat_id, run_id, asked_at)
        store.finish_run(run_id, "stop", output=reply, token_ids=[], metrics=RunMetrics())


def answered(page: Page, text: str) -> None:
    send(page, text)
    expect(page.locator("#chat-log .user", has_text=text)).to_have_count(1)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    expect(page.locator("#chat-log .foot").last).to_contain_text("tok/s")


def test_a_reload_brings_the_conversation_back_and_an_edit_mends_it(page: Page) -> None:
    answered(page, "How many divisors does 12 have?")
    answered(page, "And 28?")
    page.reload()
    expect(page.locator("#chat-log .user")).to_have_count(2)
    expect(page.locator("#chat-log .foot")).to_have_count(2)
    page.locator("#chat-log button[aria-label=Edit]").nth(1).click()
    page.locator("#chat-log textarea").fill("And 30?")
    page.locator("#chat-log button[aria-label=Submit]").click()
    expect(page.locator("#chat-log .user", has_text="And 30?")).to_have_count(1)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    expect(page.locator("#chat-log .user")).to_have_count(2)
    page.locator("#chat-log button[aria-label=Undo]").click()
    expect(page.locator("#chat-prompt textarea")).to_have_value("And 30?")
    expect(page.locator("#chat-log .user")).to_have_count(1)


def test_conversations_are_found_renamed_downloaded_and_deleted(page: Page) -> None:
    answered(page, "A word on zebras")
    page.locator("#chat-clear").click()
    expect(page.locator("#chat-log .user")).to_have_count(0)
    answered(page, "A word on ostriches")
    search = page.locator("#chat-search textarea, #chat-search input")
    search.fill("zebras")
    expect(page.locator("#chat-list label")).to_have_count(1)
    page.locator("#chat-list label", has_text="zebras").click()
    expect(page.locator("#chat-log .user")).to_contain_text("zebras")
    title = page.locator("#chat-title textarea, #chat-title input")
    title.fill("Striped ones")
    title.press("Enter")
    expect(page.locator("#chat-list label", has_text="Striped ones")).to_have_count(1)
    with page.expect_download() as download:
        page.locator("#chat-markdown").click()
    assert download.value.suggested_filename == "Striped-ones.md"
    assert "A word on zebras" in download.value.path().read_text(encoding="utf-8")
    with page.expect_download() as download:
        page.locator("#chat-json").click()
    assert json.loads(download.value.path().read_text(encoding="utf-8"))["title"] == "Striped ones"
    before = page.locator("#chat-delete").bounding_box()
    page.locator("#chat-delete").click()
    expect(page.locator("#chat-question")).to_contain_text("Striped ones")
    assert page.locator("#chat-keep").bounding_box() == before  # a second click there keeps it
    page.locator("#chat-confirm").click()
    expect(page.locator("#chat-notice")).to_contain_text("is deleted")
    expect(page.locator("#chat-list label", has_text="Striped ones")).to_have_count(0)
    search.fill("")
    expect(page.locator("#chat-list label", has_text="ostriches")).to_have_count(1)


def test_an_example_is_answered_and_the_heading_tells_changed_settings(page: Page) -> None:
    page.locator("#chat-log").get_by_text(EXAMPLE_PROMPTS[0]).click()
    expect(page.locator("#chat-log .user")).to_contain_text(EXAMPLE_PROMPTS[0])
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    set_limit(page, "chat", 1_200)
    heading = page.locator("#chat-settings > button")
    expect(heading).to_contain_text("Sampling and limits: 1,200 tokens")
    answered(page, "And 28?")
    page.reload()
    expect(page.locator("#chat-log .user")).to_have_count(2)
    expect(heading).to_contain_text("Sampling and limits: 1,200 tokens")


def test_a_reload_brings_pair_drafter_and_preset_back_and_the_next_message_goes_to_them(
    page: Page, app: RunningApp
) -> None:
    choose_tiny(page)
    choose(page, "drafter", "none")
    set_limit(page, "chat", 32)
    choose(page, "chat-preset", "balanced")
    expect(page.locator("#chat-temperature input[type=number]")).to_have_value("0.7")
    answered(page, "Who are you?")
    page.reload()
    expect(page.locator("#chat-log .user")).to_contain_text("Who are you?")
    expect(page.locator("#pair input")).to_have_value(TITLE)
    expect(page.locator("#drafter input")).to_have_value(re.compile("none"))
    expect(page.locator("#pair-facts")).not_to_contain_text("ships with the app")
    page.locator("#chat-settings button").first.click()
    expect(page.locator("#chat-preset input")).to_have_value("balanced")
    expect(page.locator("#chat-temperature input[type=number]")).to_have_value("0.7")
    answered(page, "And now?")
    run = newest_run(app)
    assert (run["prompt"], run["pair"], run["mode"]) == ("And now?", "tiny", "ar")
    page.locator("#chat-clear").click()
    choose(page, "pair", "Embedded pair")
    page.locator("#chat-list label", has_text="Who are you?").first.click()
    expect(page.locator("#pair input")).to_have_value(TITLE)


def test_what_is_chosen_while_a_conversation_is_on_its_way_stays_chosen(page: Page) -> None:
    choose_tiny(page)
    set_limit(page, "chat", 32)
    answered(page, "Come back late")

    held: list[Route] = []
    page.route("**/queue/join*", lambda route: held.append(route) if holding else route.continue_())
    holding = True
    page.reload(wait_until="domcontentloaded")
    choose(page, "pair", "Qwen3 8B")
    holding = False
    assert held
    for route in held:
        route.continue_()
    expect(page.locator("#chat-log .user")).to_contain_text("Come back late")
    expect(page.locator("#pair-facts")).to_contain_text("needs download")
    page.wait_for_timeout(1_000)
    expect(page.locator("#pair input")).to_have_value(re.compile("Qwen3 8B"))


def test_nothing_in_a_reply_loads_runs_or_draws(open_browser_tab: OpenTab, app: RunningApp) -> None:
    keep_reply(app.home, "Say <b>something</b> hostile مرحبا", HOSTILE_REPLY)
    page = open_browser_tab()
    page.locator("#chat-list label", has_text="hostile").click()
    reply = page.locator("#chat-log .bot").last
    expect(reply.locator(".katex").first).to_be_visible()
    expect(reply.locator("code", has_text='print("<')).to_have_count(1)
    links = reply.locator("a")
    expect(links.first).to_have_attribute("rel", "noopener noreferrer")
    expect(links.first).to_have_attribute("target", "_blank")
    assert reply.locator("img, .mermaid svg, [style*=background], [href^=javascript]").count() == 0
    assert page.evaluate("window.pwned") is None
    asked = page.locator("#chat-log .user p").first
    assert asked.evaluate("each => getComputedStyle(each).unicodeBidi") == "plaintext"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#chat-log button[aria-label='Copy message']").last.click()
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.length)")
    assert page.evaluate("navigator.clipboard.readText()") == HOSTILE_REPLY.rstrip()
    spoken = page.locator("#chat-log [data-testid=bot]").last  # what a screen reader calls it
    expect(spoken).to_have_attribute("aria-label", f"bot's message: {HOSTILE_REPLY.rstrip()}")
    expect(reply.locator(".foot")).to_contain_text("tiny")


def test_a_reply_that_a_crash_cut_is_there_after_a_restart_and_marked(
    browser: Browser, tmp_path: Path
) -> None:
    write_tiny_pair(tmp_path / "tiny", tmp_path / "model_registry.yaml")
    port = str(free_port())  # a browser keeps what it stores by address
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(120_000)
    with start_app(tmp_path, GRADIO_SERVER_PORT=port) as app:
        open_page(page, app)
        choose_tiny(page)
        choose(page, "drafter", "none")
        set_limit(page, "chat", ENDLESS)
        send(page, "Talk until you fall")
        expect(page.locator("#chat-status")).to_contain_text("Generating")
        expect(page.locator("#chat-log .bot").last).to_contain_text(re.compile(r"word(.|\n)*word"))
        page.wait_for_timeout(1_500)  # what came is saved once a second
        os.kill(app.pid, signal.SIGKILL)
    with start_app(tmp_path, GRADIO_SERVER_PORT=port) as app:
        open_page(page, app)
        expect(page.locator("#chat-log .user")).to_contain_text("Talk until you fall")
        expect(page.locator("#chat-log .foot")).to_contain_text("cut by a crash")
        expect(page.locator("#chat-log .bot").last).to_contain_text("word")
        # Were an image to come out of a message all the same, the browser would not fetch it.
        loads = """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (event) => done(event.blockedURI));
            new Image().src = "http://evil.invalid/z.png";
        })"""
        assert "evil.invalid" in page.evaluate(loads)
    context.close()
