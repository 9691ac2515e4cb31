"""Take the pictures of docs/screenshots: `python -m tests.e2e.screenshots`, in two minutes.

Chinese needs a font that has it, such as Debian's fonts-wqy-microhei.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.e2e.running_app import (
    ROOT,
    RunningApp,
    find_chromium,
    open_browser,
    open_page,
    open_tab,
    send,
    start_app,
)
from tests.e2e.served_hub import start_hub_app

FOLDER = ROOT / "docs" / "screenshots"
QUESTION = "How many positive whole-number divisors does 196 have?"


def main() -> None:
    """Start the app on an empty home and photograph every tab, light, dark and on a phone."""
    executable = find_chromium()
    if executable is None:
        sys.exit("Chromium is not installed: run `apt-get install chromium` or set CHROMIUM.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        start_app(Path(home)) as app,
        open_browser(executable) as browser,
    ):
        _photograph(app, browser, "")
        _photograph(app, browser, "-dark", dark=True)
        _photograph(app, browser, "-phone", width=390, height=844)
        _photograph_in_chinese(app, browser)
    with (
        tempfile.TemporaryDirectory() as home,
        start_hub_app(Path(home)) as (app, _),
        open_browser(executable) as browser,
    ):
        _photograph_hub(app, browser, "")
        _photograph_hub(app, browser, "-dark", dark=True)
        _photograph_hub(app, browser, "-phone", width=390, height=844)


def _photograph_hub(
    app: RunningApp,
    browser: Browser,
    suffix: str,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
) -> None:
    """A pair on its way from a hub on this machine; what is there stays for the next picture."""
    page = _open(app, browser, width, height, dark)
    open_tab(page, "Hub")
    page.locator("#hub-list tr[data-pair='served']").click()
    expect(page.locator("#hub-fit")).to_contain_text("on the hub", timeout=60_000)
    page.locator("#hub-download:visible, #hub-resume:visible").click()
    expect(page.locator("#hub-jobs")).to_contain_text("MB/s", timeout=60_000)
    page.locator("#hub-advice > button").first.click()
    expect(page.locator("#hub-advice-told")).to_contain_text("free", timeout=60_000)
    _take(page, f"hub{suffix}", whole=True)
    page.locator("#hub-cancel").click()
    expect(page.locator("#hub-jobs")).to_contain_text("Cancelled")
    page.context.close()


def _photograph(
    app: RunningApp,
    browser: Browser,
    suffix: str,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
) -> None:
    page = _open(app, browser, width, height, dark)
    open_tab(page, "Compare")
    page.locator("#race-start").click()
    expect(page.locator("#race-outcome")).to_contain_text("identical", timeout=120_000)
    _take(page, f"compare{suffix}")
    open_tab(page, "Chat")
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text("after", timeout=120_000)
    _take(page, f"chat{suffix}")
    open_tab(page, "History")
    expect(page.locator("#chart-positions .main-svg").first).to_be_visible(timeout=60_000)
    page.locator("#history-table tbody tr").first.click()
    expect(page.locator("#history-detail")).to_contain_text("output")
    _take(page, f"history{suffix}", whole=True)
    page.get_by_role("tab", name="Microscope").click()
    expect(page.locator("#microscope-step .scope-block")).to_be_visible(timeout=60_000)
    _take(page, f"microscope{suffix}", whole=True)
    page.context.close()


def _photograph_in_chinese(app: RunningApp, browser: Browser) -> None:
    page = _open(app, browser, 1280, 900, dark=False, locale="zh-CN")
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text("用时", timeout=120_000)
    _take(page, "chat-zh")
    page.context.close()


def _open(
    app: RunningApp, browser: Browser, width: int, height: int, dark: bool, locale: str = "en-US"
) -> Page:
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        locale=locale,
    )
    page = context.new_page()
    open_page(page, app)
    return page


def _take(page: Page, name: str, *, whole: bool = False) -> None:
    page.wait_for_timeout(700)  # charts and scrolling settle
    page.screenshot(path=FOLDER / f"{name}.png", full_page=whole)
    print(f"docs/screenshots/{name}.png")


if __name__ == "__main__":
    main()
