"""The real app in its own process, and the real browser: what the tests and the screenshots use."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 240.0
"""Generous: a loaded machine is no failure here; benchmarks/ measures the start."""

ANSWERS_TIMEOUT_S = 120.0

BROWSER_ARGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True, slots=True)
class RunningApp:
    """A served page.

    Attributes:
        url: where it is.
        home: its data folder.
        log: what it printed.
        pid: of its process.
    """

    url: str
    home: Path
    log: Path
    pid: int

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def start_app(home: Path, **variables: str) -> Iterator[RunningApp]:
    """Run `python app.py` until the block is left, on a free port where no variable names one.

    Args:
        home: its data folder.
        variables: of its environment, besides the usual ones.
    """
    port = int(variables.get("GRADIO_SERVER_PORT") or free_port())
    environment = os.environ | {
        "DFLASH_APP_HOME": str(home),
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        **variables,
    }
    log_file = home / "app.log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    app = RunningApp(f"http://127.0.0.1:{port}", home, log_file, process.pid)
    try:
        _wait_until_served(app, process)
        yield app
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_chromium() -> str | None:
    """Chromium or a relative of it on this machine."""
    named = os.environ.get("CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome"]
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def open_browser(executable: str) -> Iterator[Browser]:
    """A headless browser until the block is left."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=BROWSER_ARGS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(page: Page, app: RunningApp) -> None:
    """Load the page and wait until it can be used and has the answers that it asks for at once.

    A page that is left before that complains of the lost answers in its console.
    """
    answered: list[str] = []

    def note(request: Request) -> None:
        if "/queue/data" in request.url:
            answered.append(request.url)

    # Gradio's browser side either reads its stream of answers to the end or breaks it off there.
    page.on("requestfinished", note)
    page.on("requestfailed", note)
    page.goto(app.url, wait_until="domcontentloaded")
    expect(page.locator("#chat-send")).to_be_visible()
    deadline = time.monotonic() + ANSWERS_TIMEOUT_S
    while not answered:
        assert time.monotonic() < deadline, "the page got no answers to what it asks for at once"
        page.wait_for_timeout(20)
    page.remove_listener("requestfinished", note)
    page.remove_listener("requestfailed", note)


def open_tab(page: Page, title: str) -> None:
    page.get_by_role("tab", name=title, exact=True).click()


def choose(page: Page, elem_id: str, label: str) -> None:
    """Choose an option of a dropdown by what it says."""
    page.locator(f"#{elem_id} input").click()
    page.get_by_role("option", name=label).first.click()


def send(page: Page, text: str) -> None:
    """Type a message and press Enter."""
    prompt = page.locator("#chat-prompt textarea")
    prompt.fill(text)
    prompt.press("Enter")


def newest_run(app: RunningApp) -> dict[str, Any]:
    """The newest row of the run log, read from the file itself."""
    with closing(sqlite3.connect(f"file:{app.home / 'runs.db'}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return dict(database.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 1").fetchone())


def _wait_until_served(app: RunningApp, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the app ended: {app.printed()}")
        try:
            with urllib.request.urlopen(app.url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the app does not answer: {app.printed()}")
