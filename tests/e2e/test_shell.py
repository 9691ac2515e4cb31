"""The page around its tabs, in a real browser: language, keys, phone, accessibility, bad names."""

import json
import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import OpenTab
from tests.e2e.running_app import RunningApp, choose, open_tab, send, start_app
from tests.e2e.test_page import ENDED, ENDLESS, QUESTION, choose_tiny, set_limit
from tests.e2e.tiny_pair import write_tiny_pair

HOSTILE = "<img src=x onerror=window.pwned=1> ${window.pwned=2} {{value}} <b>"
FOLDER = "<img src=x onerror=window.pwned=3>${window.pwned=4}"
"""A folder's name: no slash is possible in it."""
HOSTILE_ROW = """
  - name: hostile
    title: {words}
    family: qwen3
    target: {{path: {target}, licence: {words}}}
    drafter: {{path: {drafter}, licence: {words}}}
    notes: {words}
    sources: [{words}]
    benchmarks:
      - source: {words}
        setup: {words}
        results: [{{task: {words}, speedup: 2.5}}]
"""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

OVERFLOWS = """() => {
    const width = document.documentElement.clientWidth;
    const clipped = (element) => {
        for (let above = element.parentElement; above; above = above.parentElement) {
            if (getComputedStyle(above).overflowX !== 'visible'
                && above.getBoundingClientRect().right <= width + 1) { return true; }
        }
        return false;
    };
    return [...document.querySelectorAll('body *')]
        .filter((each) => each.checkVisibility() && each.getBoundingClientRect().width
            && each.getBoundingClientRect().right > width + 1 && !clipped(each))
        .map((each) => `${each.tagName} ${each.id} ${each.className}`);
}"""

ARABIC = "كم قاسما للعدد"
STANDS_AT = """(box) => {
    const range = document.createRange();
    range.selectNodeContents(box);
    const [text] = range.getClientRects(), around = box.getBoundingClientRect();
    return text.left - around.left > around.right - text.right ? 'right' : 'left';
}"""
"""At which side of its box the first line begins."""

WATCH_SHIFTS = """() => {
    window.shifts = [];
    new PerformanceObserver((list) => {
        for (const each of list.getEntries()) {
            window.shifts.push([each.value, each.sources.map((source) => source.node?.id
                || source.node?.className || source.node?.parentElement?.className || '')]);
        }
    }).observe({ type: 'layout-shift' });
}"""


@pytest.fixture(scope="module")
def app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """The app with the shipped pair, one that talks without end, and one of hostile names."""
    home = tmp_path_factory.mktemp("shell-home")
    write_tiny_pair(home / "tiny", home / "model_registry.yaml")
    (home / FOLDER).symlink_to(home / "tiny", target_is_directory=True)
    with (home / "model_registry.yaml").open("a") as registry:
        registry.write(
            HOSTILE_ROW.format(
                words=json.dumps(HOSTILE),
                target=json.dumps(str(home / FOLDER / "target")),
                drafter=json.dumps(str(home / FOLDER / "drafter")),
            )
        )
    with start_app(home) as running:
        yield running
    assert "Traceback" not in running.printed()


def each_tab(page: Page) -> Iterator[str]:
    """Open every tab in turn; yields their titles."""
    titles = page.locator("#tabs > .tab-wrapper [role=tab]").all_inner_texts()
    assert len(titles) >= 4
    for title in titles:
        page.get_by_role("tab", name=title, exact=True).click()
        page.wait_for_timeout(1000)  # what the tab loads when it is shown
        yield title


def reply(page: Page) -> None:
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)


def race(page: Page, prompt: str) -> None:
    open_tab(page, "Compare")
    page.locator("#race-prompt textarea").fill(prompt)
    page.locator("#race-start").click()
    expect(page.locator("#race-outcome .verdict")).to_have_count(1)


def open_newest_run(page: Page) -> None:
    open_tab(page, "History")
    page.locator("#history-table tbody tr").first.click()
    expect(page.locator("#history-detail h3").first).to_be_visible()


def serious(page: Page) -> list[tuple[str, str]]:
    """What axe-core calls serious or critical: its rule, and where."""
    return [
        (each["id"], node["html"][:200])
        for each in Axe().run(page).response["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def test_a_chinese_browser_reads_chinese_on_every_tab(open_browser_tab: OpenTab) -> None:
    page = open_browser_tab(locale="zh-CN")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.locator("#tab-chat-button")).to_have_text("对话")
    expect(page.locator("#chat-send")).to_have_text("发送")
    expect(page.locator("#pair")).to_contain_text("模型对")
    expect(page.locator("#masthead")).to_contain_text("投机解码")
    expect(page.locator("#pair-facts")).to_contain_text("就绪")
    expect(page.locator("#drafter input")).to_have_value("内置草稿模型")
    expect(page.locator("#chat-prompt textarea")).to_have_attribute(
        "placeholder", re.compile("消息")
    )
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text("用时")
    for title in each_tab(page):
        told = page.locator("body").inner_text()
        assert "__i18n__" not in told, title
        assert re.findall(r"\b(?:bar|hub|chat|shell|add_pair|tabs|compare)\.[a-z_]{3,}", told) == []
    page.locator("#tab-hub-button").click()
    choose(page, "hub-status", "未下载")
    expect(page.locator("#hub-list")).to_contain_text("Qwen3 8B")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_tab(open_browser_tab: OpenTab, scheme: str) -> None:
    page = open_browser_tab(color_scheme=scheme)
    reply(page)
    race(page, QUESTION)
    open_newest_run(page)
    for title in each_tab(page):
        for _ in range(30):  # what still fades in is no fault
            if not (found := serious(page)):
                break
            page.wait_for_timeout(500)
        assert found == [], title


def test_a_phone_shows_every_tab_without_sideways_scrolling(open_browser_tab: OpenTab) -> None:
    page = open_browser_tab(**PHONE)
    reply(page)
    for title in each_tab(page):
        assert page.evaluate(OVERFLOWS) == [], title
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, title


def test_on_a_phone_the_bar_folds_and_its_boxes_can_be_had(open_browser_tab: OpenTab) -> None:
    page = open_browser_tab(**PHONE)
    expect(page.locator("#precision")).to_be_hidden()
    page.locator("#bar-more").tap()
    expect(page.locator("#bar-more")).to_have_attribute("aria-expanded", "true")
    choose(page, "precision", "bfloat16")
    expect(page.locator("#pair-facts")).to_contain_text("in bfloat16")
    page.locator("#bar-more").tap()
    expect(page.locator("#precision")).to_be_hidden()
    box = page.locator("#chat-send").bounding_box()
    assert box
    assert box["x"] + box["width"] <= 390
    assert min(box["width"], box["height"]) >= 40  # for a thumb


def test_escape_stops_a_slash_goes_to_the_message_and_a_chord_begins_a_chat(page: Page) -> None:
    choose_tiny(page)
    choose(page, "drafter", "none")
    set_limit(page, "chat", ENDLESS)
    send(page, "Talk and talk")
    expect(page.locator("#chat-status")).to_contain_text("Generating")
    page.keyboard.press("Escape")
    expect(page.locator("#chat-status")).to_contain_text("Stopped")
    page.locator("#tab-hub-button").click()
    page.keyboard.press("Control+Shift+O")
    expect(page.locator("#chat-log .user")).to_have_count(0)
    prompt = page.locator("#chat-prompt textarea")
    expect(prompt).to_be_focused()
    page.locator("#tab-chat-button").focus()
    page.keyboard.press("/")
    expect(prompt).to_be_focused()
    expect(prompt).to_have_value("")
    page.keyboard.type("a/b")
    expect(prompt).to_have_value("a/b")


def test_the_focus_can_be_seen_goes_in_order_and_leaves_no_list_open(page: Page) -> None:
    page.locator(".keys summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".keys dl")).to_contain_text("Stop what is running")
    page.keyboard.press("Escape")
    expect(page.locator(".keys dl")).to_be_hidden()
    for label in ("Pair", "Drafter", "Block size"):
        page.keyboard.press("Tab")
        box = page.get_by_role("combobox", name=label, exact=True)
        expect(box).to_be_focused()
        assert box.evaluate("(each) => getComputedStyle(each).outlineStyle") == "solid"
        expect(page.get_by_role("listbox")).to_have_count(1)
    page.locator("#tab-chat-button").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-compare-button")).to_be_focused()
    expect(page.locator("#tab-compare")).to_be_visible()


def test_nothing_jumps_while_a_reply_is_written(page: Page) -> None:
    reply(page)  # the first one also loads the pair
    choose(page, "drafter", "none")
    page.wait_for_timeout(1000)
    page.evaluate(WATCH_SHIFTS)
    reply(page)
    page.wait_for_timeout(500)
    shifts = page.evaluate("window.shifts")
    assert sum(value for value, _ in shifts) < 0.1, shifts  # what Web Vitals call good


def test_what_is_written_from_right_to_left_stands_at_the_right(page: Page) -> None:
    race(page, ARABIC)
    asked = page.locator("#race-prompt textarea")
    assert asked.evaluate("each => getComputedStyle(each).unicodeBidi") == "plaintext"
    put_out = page.locator("#race-lanes .lane-text > div").first
    assert put_out.evaluate("each => getComputedStyle(each).unicodeBidi") == "plaintext"
    open_newest_run(page)
    recorded = page.locator("#history-detail pre", has_text=ARABIC)
    assert recorded.evaluate(STANDS_AT) == "right"
    assert page.locator("#history-detail pre").last.evaluate(STANDS_AT) == "left"
    page.locator("#history-detail .run-link").click()
    follows = page.locator(".scope-reply > div")
    assert follows.evaluate("each => getComputedStyle(each).unicodeBidi") == "plaintext"


def test_a_warning_beside_a_drafted_reply_moves_neither_log_nor_box(page: Page) -> None:
    reply(page)
    boxes = [page.locator(f"#chat-{name}") for name in ("log", "prompt", "retry")]
    before = [box.bounding_box() for box in boxes]
    page.evaluate(WATCH_SHIFTS)
    send(page, "这个数有几个因数？")
    expect(page.locator("#chat-log .user")).to_have_count(2)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    expect(page.locator("#chat-notice")).to_contain_text("another script")
    page.wait_for_timeout(500)
    assert [box.bounding_box() for box in boxes] == before
    shifts = page.evaluate("window.shifts")
    assert sum(value for value, _ in shifts) < 0.1, shifts


def test_names_and_files_and_registry_text_are_inert(page: Page) -> None:
    choose(page, "pair", "<img src=x")
    expect(page.locator("#pair-facts")).to_contain_text("<img src=x")
    page.locator("#add-pair > button").first.click()
    page.locator("#add-target textarea, #add-target input").fill(HOSTILE)
    page.locator("#add-check").click()
    expect(page.locator("#add-result .notice")).to_be_visible()
    page.locator("#tab-hub-button").click()
    page.locator("#hub-list tr[data-pair=hostile]").click()
    expect(page.locator("#hub-detail h2")).to_contain_text("${window.pwned=2}")
    page.locator("#hub-detail summary").click()
    expect(page.locator("#hub-detail table")).to_contain_text("{{value}}")
    page.locator("#hub-use").click()
    expect(page.locator("#hub-notice")).to_contain_text("<img src=x")
    page.locator("#tab-chat-button").click()
    reply(page)
    page.locator("#tab-history-button").click()
    page.wait_for_timeout(1000)
    assert page.evaluate("window.pwned") is None
    assert page.locator("img[src='x'], [onerror], [onload]").count() == 0
