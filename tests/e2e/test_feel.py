"""The benchmark of what a user waits for sees a stall and a stop, on pages where they are known."""

from playwright.sync_api import Browser

from benchmarks.feel import CLICK_STOP, WATCH_STALLS, Feel, longest_stall_s

BUSY = """() => new Promise((resolve) => setTimeout(() => {
    const began = performance.now();
    while (performance.now() - began < 300) { }
    setTimeout(resolve, 50);
}, 0))"""
STOPS_LATE = """() => {
    document.body.innerHTML = '<p id="chat-status"></p><button id="chat-stop">Stop</button>';
    document.querySelector('#chat-stop').addEventListener('click', () => setTimeout(() => {
        document.querySelector('#chat-status').textContent = 'Stopped after 1 s.';
    }, 400));
}"""


def test_the_longest_stall_is_the_one_that_a_script_makes(browser: Browser) -> None:
    page = browser.new_page()
    page.goto("about:blank")
    page.evaluate(WATCH_STALLS)
    page.evaluate(BUSY)
    page.wait_for_function("window.stalls.length > 0")
    assert longest_stall_s(page) >= 0.3
    page.close()


def test_a_stop_lasts_until_the_page_says_so(browser: Browser) -> None:
    page = browser.new_page()
    page.goto("about:blank")
    page.evaluate(STOPS_LATE)
    assert page.evaluate(CLICK_STOP) >= 400
    page.close()


def test_a_target_is_missed_where_a_figure_is_over_it() -> None:
    good = Feel(start_s=9, first_paint_s=1, usable_s=2, longest_stall_s=0.1, stop_s=0.2)
    assert all(check.met for check in good.checks())
    slow = Feel(start_s=9, first_paint_s=1, usable_s=2, longest_stall_s=0.25, stop_s=0.2)
    assert [check.name for check in slow.checks() if not check.met] == ["longest stall, s"]
