"""One app and one browser for all tests; a browser tab of its own for each."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.running_app import RunningApp, find_chromium, open_browser, open_page, start_app
from tests.e2e.tiny_pair import write_tiny_pair

expect.set_options(timeout=120_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        reason = "Chromium is not installed: run `apt-get install chromium` or set CHROMIUM."
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with open_browser(executable) as opened:
        yield opened


@pytest.fixture(scope="session")
def app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """The app on a home of its own, with the shipped pair where it is there, and the tiny one."""
    home = tmp_path_factory.mktemp("app-home")
    write_tiny_pair(home / "tiny", home / "model_registry.yaml")
    with start_app(home) as running:
        yield running
    assert "Traceback" not in running.printed()


OpenTab = Callable[..., Page]
"""Takes options of Playwright's `new_context`."""


@pytest.fixture
def open_browser_tab(app: RunningApp, browser: Browser) -> Iterator[OpenTab]:
    """Opens the page in a fresh browser tab; the console must stay free of errors."""
    contexts = []
    complaints: list[str] = []

    def open_one(**options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type == "error" else None,
        )
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith((app.url, "data:", "blob:"))
                else complaints.append(f"asked {asked.url}")
            ),
        )
        open_page(page, app)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(open_browser_tab: OpenTab) -> Page:
    return open_browser_tab()
