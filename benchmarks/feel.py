"""What a user of the page waits for: `python -m benchmarks.feel`, in half a minute."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from benchmarks.browsing import ENDED, REPLY_TIMEOUT_MS, VIEWPORT, set_limit
from benchmarks.pairs import add_pair, copy_endless, folders
from benchmarks.report import Check
from tests.e2e.running_app import choose, find_chromium, open_browser, open_page, send, start_app

REPLY_TOKENS = 1500
STOPPED_TOKENS = 16_384
"""Limit of the reply that is stopped: it must not end by itself."""
QUESTION = "How many positive whole-number divisors does 196 have?"
MAX_FIRST_PAINT_S = 3.0
MAX_STALL_S = 0.2
MAX_STOP_S = 0.3
MAX_START_S = 15.0

WATCH_STALLS = """() => {
    window.stalls = [];
    new PerformanceObserver((list) => {
        window.stalls.push(...list.getEntries().map((each) => each.duration));
    }).observe({ type: 'longtask' });
}"""
"""A long task keeps the browser's main thread for 50 ms or more."""

CLICK_STOP = """() => new Promise((resolve) => {
    const told = () => document.querySelector('#chat-status').innerText.includes('Stopped');
    const began = performance.now();
    const watch = new MutationObserver(() => {
        if (told()) { watch.disconnect(); resolve(performance.now() - began); }
    });
    watch.observe(document.body, { childList: true, subtree: true, characterData: true });
    document.querySelector('#chat-stop').click();
})"""


@dataclass(frozen=True, slots=True)
class Feel:
    """One start of the app, and what a user waits for.

    Attributes:
        start_s: from `python app.py` to the first answer of the server.
        first_paint_s: from then on, from the request to the browser's first contentful paint.
        usable_s: from the request until the message box is there.
        longest_stall_s: of the browser's main thread, while a coloured reply is written.
        stop_s: from the click on Stop until the page says that the run has stopped.
    """

    start_s: float
    first_paint_s: float
    usable_s: float
    longest_stall_s: float
    stop_s: float

    def checks(self) -> list[Check]:
        """The targets of the interface."""
        limits = (MAX_START_S, MAX_FIRST_PAINT_S, None, MAX_STALL_S, MAX_STOP_S)
        return [
            Check(f"{name.removesuffix('_s').replace('_', ' ')}, s", value, "below", limit)
            for (name, value), limit in zip(asdict(self).items(), limits, strict=True)
            if limit is not None
        ]


def measure_feel(target: Path, drafter: Path, browser: Browser) -> Feel:
    """Start the app on an empty home and use it.

    Args:
        target: folder of the target; it is copied so that its replies do not end.
        drafter: folder of the drafter.
        browser: a headless one.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        add_pair(home, "endless", copy_endless(target, Path(folder) / "target"), drafter)
        began_s = time.monotonic()
        with start_app(home) as app:
            start_s = time.monotonic() - began_s
            page = browser.new_page(viewport=VIEWPORT)
            page.set_default_timeout(REPLY_TIMEOUT_MS)
            open_page(page, app)
            usable_s = float(page.evaluate("performance.now()")) / 1000
            first_paint_s = _first_paint_s(page)
            choose(page, "pair", "endless")
            expect(page.locator("#pair-facts")).to_contain_text(folder)
            return Feel(start_s, first_paint_s, usable_s, _stall_s(page), _stop_s(page))


def longest_stall_s(page: Page) -> float:
    """The longest task since `WATCH_STALLS` ran, in seconds; 0 where none took 50 ms."""
    return max(page.evaluate("window.stalls"), default=0) / 1000


def _first_paint_s(page: Page) -> float:
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    return float(page.evaluate(paint)) / 1000


def _stall_s(page: Page) -> float:
    set_limit(page, 64)
    send(page, QUESTION)  # the first reply also loads the pair
    expect(page.locator("#chat-status")).to_contain_text(ENDED, timeout=REPLY_TIMEOUT_MS)
    set_limit(page, REPLY_TOKENS)
    expect(page.locator("#chat-colour input")).to_be_checked()
    page.evaluate(WATCH_STALLS)
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text("Generating")
    expect(page.locator("#chat-status")).to_contain_text(ENDED, timeout=REPLY_TIMEOUT_MS)
    page.wait_for_timeout(1000)  # what the end of the reply draws
    return longest_stall_s(page)


def _stop_s(page: Page) -> float:
    page.locator("#chat-clear").click()
    expect(page.locator("#chat-log .user")).to_have_count(0)
    set_limit(page, STOPPED_TOKENS)
    send(page, QUESTION)
    expect(page.locator("#chat-log .bot").last).to_contain_text("196")
    return float(page.evaluate(CLICK_STOP)) / 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Measure once and print; exit code 1: a target is missed."""
    argparse.ArgumentParser(prog="python -m benchmarks.feel", description=__doc__).parse_args(argv)
    executable = find_chromium()
    if executable is None:
        sys.exit("Chromium is not installed: run `apt-get install chromium` or set CHROMIUM.")
    with open_browser(executable) as browser:
        feel = measure_feel(*folders(None, None), browser)
    print("\n".join(f"{name}: {value:.3f}" for name, value in asdict(feel).items()))
    checks = feel.checks()
    print("\n".join(str(check) for check in checks))
    return 0 if all(check.met for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
