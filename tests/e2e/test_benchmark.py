"""The Benchmark tab in a real browser: measure, follow, stop, go on, take along, compare."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from dflash_app.ui.serve import MAX_UPLOAD_BYTES
from tests.e2e.conftest import OpenTab
from tests.e2e.running_app import RunningApp, choose, open_tab
from tests.e2e.test_shell import OVERFLOWS, PHONE, serious
from tests.e2e.tiny_pair import TITLE

MANY = 300
"""New tokens of a reply that is stopped before its end; the tiny pair never ends by itself."""


def open_bench(page: Page) -> None:
    open_tab(page, "Benchmark")
    expect(page.locator("#bench-earlier")).to_contain_text(re.compile("No benchmark yet|Answered"))


def ask(page: Page, num_prompts: int, max_new_tokens: int) -> None:
    """Fill the form; the settings are left open."""
    page.locator("#bench-prompts input").fill(str(num_prompts))
    settings = page.locator("#bench-settings > button").first
    if settings.get_attribute("aria-expanded") != "true":
        page.locator("#bench-settings").get_by_text("Settings and own questions").click()
    page.locator("#bench-max-new-tokens input").fill(str(max_new_tokens))


def newest(page: Page) -> int:
    """Number of the benchmark at the top of the list."""
    row = page.locator("#bench-earlier tr[data-benchmark]").first
    return int(row.get_attribute("data-benchmark") or 0)


def row_of(page: Page, number: int) -> str:
    return f"#bench-earlier tr[data-benchmark='{number}']"


@contextmanager
def deleted_after(page: Page) -> Iterator[None]:
    """The app of these tests is everyone's: what was measured goes again."""
    yield
    while page.locator("#bench-earlier [data-act=delete]").count():
        number = newest(page)
        page.locator(f"{row_of(page, number)} [data-act=delete]").click()
        expect(page.locator("#bench-question")).to_contain_text(f"Delete benchmark {number}")
        page.locator("#bench-confirm").click()
        expect(page.locator("#bench-question")).to_contain_text(f"{number} is deleted")
        expect(page.locator(row_of(page, number))).to_have_count(0)
    expect(page.locator("#bench-report h2")).to_have_count(0)


def test_the_bundled_set_is_measured_drawn_taken_along_and_compared(
    page: Page, app: RunningApp, tmp_path: Path
) -> None:
    open_bench(page)
    ask(page, 2, 48)
    with deleted_after(page):
        for _ in range(2):
            page.locator("#bench-start").click()
            expect(page.locator("#bench-live [role=progressbar]")).to_be_visible()
            expect(page.locator("#bench-stop")).to_be_visible()
            expect(page.locator("#bench-status")).to_contain_text("is finished: 4 of 4 prompts")
            expect(page.locator("#bench-start")).to_be_visible()
        report = page.locator("#bench-report")
        expect(report.locator("h2")).to_contain_text(f"Benchmark {newest(page)}: embedded")
        expect(report).to_contain_text("Same text as AR")
        expect(report.locator(".card").last).to_contain_text("2 of 2")
        expect(page.locator("#bench-charts .js-plotly-plot:visible")).to_have_count(5)
        expect(page.locator("#chart-bench-speedups")).to_contain_text("Speedup by data set")

        with page.expect_download() as waiting:
            page.locator("#bench-json").click()
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        found = json.loads(path.read_text())
        assert [cell["figures"]["num_answered"] for cell in found["cells"]] == [2, 2]
        command = page.locator("#bench-command code")
        expect(command).to_contain_text("dflash-app benchmark --pair embedded --dataset bundled")

        page.locator("#bench-compare").get_by_text("Compare two benchmarks").click()
        page.locator("#bench-upload input[type=file]").set_input_files(path)
        expect(page.locator("#bench-upload")).to_contain_text(path.stem)
        choose(page, "bench-before", f"{newest(page) - 1}: embedded")
        choose(page, "bench-after", path.name)
        page.locator("#bench-compare-start").click()
        compared = page.locator("#bench-compared")
        expect(compared).to_contain_text(f"against {path.name}")
        expect(compared).to_contain_text("2 prompts in both, 0 with another output.")
        expect(compared).to_contain_text("too few")


def test_it_goes_on_for_a_page_that_is_loaded_anew_is_stopped_there_and_resumed(
    open_browser_tab: OpenTab,
) -> None:
    left, page = open_browser_tab(), open_browser_tab()
    choose(left, "pair", TITLE)
    open_bench(left)
    ask(left, 2, MANY)
    with deleted_after(page):
        left.locator("#bench-start").click()
        expect(left.locator("#bench-status")).to_contain_text(re.compile(r"\d of 4 prompts"))
        open_bench(page)
        expect(page.locator("#bench-stop")).to_be_visible()
        number = newest(page)
        expect(page.locator(f"{row_of(page, number)} .badge")).to_have_text("going on")
        page.locator("#bench-stop").click()
        expect(page.locator("#bench-status")).to_contain_text(re.compile(r"Stopped at \d of 4"))
        expect(left.locator("#bench-status")).to_contain_text("Stopped")
        expect(page.locator(f"{row_of(page, number)} .badge")).to_have_text("unfinished")
        page.locator(f"{row_of(page, number)} [data-act=resume]").click()
        expect(page.locator("#bench-status")).to_contain_text("is finished: 4 of 4 prompts")
        expect(page.locator(f"{row_of(page, number)} .badge")).to_have_text("finished")
        expect(page.locator("#bench-report h2")).to_contain_text(f"Benchmark {number}: tiny")


def test_a_wrong_line_of_own_questions_is_named_at_once(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "One?"}\n{"prompt": 2}\n')
    open_bench(page)
    ask(page, 2, 16)
    upload = page.locator("#bench-files input[type=file]")
    upload.set_input_files(path)
    notice = page.locator("#bench-notice")
    expect(notice).to_contain_text('mine.jsonl, line 2: "prompt" must be text.')
    page.locator("#bench-start").click()
    expect(notice.locator(".error")).to_contain_text("line 2")
    page.locator("#bench-modes").get_by_label("DFlash").uncheck()
    page.locator("#bench-modes").get_by_label("Plain decoding (AR)").uncheck()
    page.locator("#bench-start").click()
    expect(notice).to_contain_text("Give at least one mode.")
    choose(page, "pair", TITLE)
    expect(notice).not_to_contain_text("Give at least one mode.")


def test_a_file_that_is_larger_than_any_the_page_reads_is_not_taken(app: RunningApp) -> None:
    def upload(num_bytes: int) -> int:
        files = {"files": ("mine.jsonl", bytes(num_bytes))}
        return httpx.post(f"{app.url}/gradio_api/upload", files=files, timeout=60).status_code

    assert (upload(100), upload(MAX_UPLOAD_BYTES + 1)) == (200, 413)


@pytest.mark.parametrize("options", [PHONE, {"color_scheme": "dark", "locale": "zh-CN"}])
def test_it_reads_well_on_a_phone_and_in_the_dark_in_chinese(
    open_browser_tab: OpenTab, options: dict[str, object]
) -> None:
    page = open_browser_tab(**options)
    phone = "is_mobile" in options
    page.locator("#tab-benchmark-button").click()
    start, finished = ("Start", "is finished") if phone else ("开始", "已完成")
    expect(page.locator("#bench-start")).to_have_text(start)
    page.locator("#bench-prompts input").fill("1")
    page.locator("#bench-start").click()
    expect(page.locator("#bench-status")).to_contain_text(finished)
    expect(page.locator("#bench-report .card")).to_have_count(6)
    expect(page.locator("#bench-charts .js-plotly-plot:visible")).to_have_count(5)
    assert page.evaluate(OVERFLOWS) == []
    for _ in range(30):  # what still fades in is no fault
        if not (found := serious(page)):
            break
        page.wait_for_timeout(500)
    assert found == []
    if not phone:
        expect(page.locator("#bench-report")).to_contain_text("接受长度")
        assert "benchmark." not in page.locator("body").inner_text()
    page.locator("#bench-earlier [data-act=delete]").first.click()
    page.locator("#bench-confirm").click()
    expect(page.locator("#bench-earlier tr[data-benchmark]")).to_have_count(0)
