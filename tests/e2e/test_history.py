"""The run log in a real browser: sort, page, compare, export, delete; charts in both looks."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from dflash_app.metrics import RunMetrics
from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store
from tests.e2e.running_app import RunningApp, open_page, open_tab

NUM_RUNS = 60
OTHER = "Another question"
TEXT_BOX = "#history-text textarea, #history-text input"
CONTRAST = """([text, behind]) => {
    const light = (element, property) => {
        while (/, 0\\)|none/.test(getComputedStyle(element)[property])) {
            element = element.parentElement;
        }
        const [r, g, b] = getComputedStyle(element)[property].match(/[\\d.]+/g).map((part) => {
            const value = part / 255;
            return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const both = [light(document.querySelector(text), 'fill'),
                  light(document.querySelector(behind), 'backgroundColor')];
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}"""
"""Contrast of a chart's text, as WCAG 2 defines it."""


@pytest.fixture
def seeded(app: RunningApp) -> Iterator[str]:
    """Runs in the app's log that no other test makes; returns what their prompts have in common."""
    marker = "Counted question"
    with Store(app.home / "runs.db") as store:
        run_ids = []
        for number in range(NUM_RUNS):
            start = RunStart(
                source="chat", pair="embedded", backend="torch", device="cpu", dtype="float32",
                mode="dflash" if number % 2 else "ar",
                messages=({"role": "user", "content": f"{marker} {number} <img src=x>"},),
            )  # fmt: skip
            run_ids.append(store.start_run(start))
            metrics = RunMetrics(
                num_prompt_tokens=9, num_output_tokens=3, decode_tok_s=5.0 + number
            )
            output = "a b c" if number else "a b d"
            store.finish_run(
                run_ids[-1], "stop", output=output, token_ids=(1, 2, 3 if number else 4),
                metrics=metrics,
            )  # fmt: skip
        other = replace(start, messages=({"role": "user", "content": OTHER},))
        run_ids.append(store.start_run(other))
        store.finish_run(run_ids[-1], "stop", output="", token_ids=(), metrics=RunMetrics())
        yield marker
        store.delete_runs(run_ids)


def look_for(page: Page, text: str) -> None:
    open_tab(page, "History")
    table = page.locator("#history-table")
    expect(table).to_contain_text(OTHER)
    page.locator(TEXT_BOX).press_sequentially(text)  # no Enter
    expect(table).not_to_contain_text(OTHER)
    expect(table).to_contain_text(f"of {NUM_RUNS} runs")


def test_runs_are_sorted_compared_exported_and_deleted(page: Page, seeded: str) -> None:
    look_for(page, seeded)
    table = page.locator("#history-table")
    rows = table.locator("tbody tr")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text(f"{seeded} 59 <img src=x>")
    table.get_by_role("button", name="tok/s").click()
    table.get_by_role("button", name="tok/s").click()
    expect(rows.first).to_contain_text(f"{seeded} 0 ")
    rows.nth(0).get_by_role("checkbox").check()
    expect(page.locator("#history-told")).to_contain_text("Ticked: 1")
    table.get_by_role("button", name="Next page").click()
    expect(table).to_contain_text("51 to 60 of 60 runs")
    for row in (7, 8, 9):  # faster than the server answers
        rows.nth(row).get_by_role("checkbox").check()
    for row in (7, 8):
        rows.nth(row).get_by_role("checkbox").uncheck()
    expect(page.locator("#history-told")).to_contain_text("Ticked: 2")

    page.locator("#history-compare").click()
    compared = page.locator("#history-comparison")
    expect(compared).to_contain_text("12.80×")  # 64 tok/s to 5
    expect(compared).to_contain_text("The first 2 tokens are identical; token 3")
    with page.expect_download() as download:
        page.locator("#history-export-json").click()
    assert download.value.suggested_filename == "runs.json"
    found = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert [run["metrics"]["decode_tok_s"] for run in found] == [64.0, 5.0]

    page.locator("#history-delete-matching").dblclick()
    question = page.locator("#history-question")
    expect(question).to_contain_text(f"Delete all {NUM_RUNS} ended runs")
    expect(question).to_contain_text(f"text contains '{seeded}'")
    asked = page.locator("#history-delete-matching").bounding_box()
    confirm = page.locator("#history-confirm").bounding_box()
    assert asked is not None
    assert confirm is not None
    assert confirm["x"] > asked["x"] + asked["width"] or confirm["y"] > asked["y"] + asked["height"]
    page.locator("#history-confirm").click()
    expect(page.locator("#history-question")).to_contain_text(f"Deleted runs: {NUM_RUNS}.")
    expect(page.locator("#history-notice")).to_contain_text(re.compile("No run (matches|yet)"))
    expect(rows).to_have_count(0)


def test_the_keyboard_opens_a_run_and_all_fits_a_phone(page: Page, seeded: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    look_for(page, seeded)
    opener = page.get_by_role("button", name=f"{seeded} 59")
    opener.focus()
    opener.press("Enter")
    expect(page.locator("#history-detail")).to_contain_text("a b c")
    expect(page.locator("#history-table tr[aria-current]")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_snapshot_is_downloaded_whole_and_the_path_is_copied(page: Page, app: RunningApp) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=app.url)
    open_tab(page, "History")
    page.locator("#history-database-box").get_by_text("The database").click()
    expect(page.locator("#history-path")).to_have_text(str(app.home / "runs.db"))
    page.locator("#history-database").get_by_role("button", name="Copy").last.click()
    expect(page.locator("#history-database button.done")).to_have_count(1)
    assert page.evaluate("navigator.clipboard.readText()").startswith("datasette ")
    with page.expect_download() as download:
        page.locator("#history-snapshot").click()
    assert re.fullmatch(r"runs-\d{8}-\d{6}\.db", download.value.suggested_filename)
    path = download.value.path()
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("look", ["light", "dark"])
def test_charts_are_readable_in_both_looks(
    page: Page, app: RunningApp, seeded: str, look: str
) -> None:
    page.emulate_media(color_scheme="dark" if look == "dark" else "light")
    open_page(page, app)
    look_for(page, seeded)
    chart = page.locator("#chart-context")
    expect(chart.locator(".main-svg").first).to_be_visible()
    for text in (".gtitle", ".xtick text", ".legendtext"):
        parts = [f"#chart-context {text}", "#chart-context"]
        assert page.evaluate(CONTRAST, parts) >= 4.5
    expect(page.locator("#chart-published")).to_contain_text("published figures")
