"""One start of the real app: type into its page, and decode each reply again without it."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, ViewportSize, expect

from benchmarks.prompts import Prompt
from benchmarks.replay import ALL, CHAT, DONE, REPLAYED
from dflash_app.store.records import RunFilter, RunRecord
from dflash_app.store.runs import Store
from tests.e2e.running_app import ROOT, RunningApp, choose, open_page, send, start_app

ENDED = re.compile(r"(Finished|Ended at the length limit) after")
REPLY_TIMEOUT_MS = 120_000
VIEWPORT: ViewportSize = {"width": 1280, "height": 860}
NO_DRAFTER = "none (plain AR)"
TYPED_MODES = ("dflash", "ar")
REST_MS = 400
"""After a reply: what the page still draws then must not be taken from the replay."""
NUM_WARM_UP = 1
"""Prompts sent in every mode before those that count."""


@dataclass(frozen=True, slots=True)
class Script:
    """What is typed into the page in one round.

    Attributes:
        name: of the figures.
        pair: title in the dropdown; None leaves the pair that the page starts with.
        prompts: sent one by one, each in a new conversation, with the drafter and without.
        max_new_tokens: limit of a reply.
    """

    name: str
    pair: str | None
    prompts: Sequence[Prompt]
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class TypedRun:
    """One reply on the page beside the same one without it; speeds are those of decoding.

    Attributes:
        script: name of the script it belongs to.
        mode: "ar" or "dflash".
        page_s: seconds of decoding with the page.
        page_tok_s: with the page.
        alone_tok_s: without it, in a process of its own.
    """

    script: str
    mode: str
    page_s: float
    page_tok_s: float
    alone_tok_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """One start of the app.

    Attributes:
        start_s: from `python app.py` to the first answer of the server.
        resident_bytes: of the app and its children, after the first script.
        runs: in the order they were typed.
    """

    start_s: float
    resident_bytes: int
    runs: list[TypedRun]


def play_round(home: Path, browser: Browser, scripts: Sequence[Script], num_threads: int) -> Round:
    """Start the app, type the scripts, and decode each reply again without the page, in turn.

    Args:
        home: of the app, with an empty run log.
        browser: a headless one.
        scripts: in order, on a pair each.
        num_threads: that the page decodes with, for the replay.

    Raises:
        RuntimeError: the app or the replay ended early, or they put out different tokens.
    """
    began_s = time.monotonic()
    with start_app(home) as app:
        start_s = time.monotonic() - began_s
        page = browser.new_page(viewport=VIEWPORT)
        page.set_default_timeout(REPLY_TIMEOUT_MS)
        open_page(page, app)
        resident_bytes = 0
        with _replaying(home, num_threads) as replay:
            for script in scripts:
                _type_script(page, script, replay)
                resident_bytes = resident_bytes or _resident_bytes(app)
        page.close()
    return Round(start_s, resident_bytes, _read_runs(home, scripts))


@contextmanager
def _replaying(home: Path, num_threads: int) -> Iterator[Callable[[], None]]:
    """A process that decodes without the page what was typed since it was last called."""
    command = [sys.executable, "-m", "benchmarks.replay", str(home), "--threads", str(num_threads)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, bufsize=1
    ) as process:
        asks, answers = process.stdin, process.stdout
        assert asks is not None and answers is not None

        def replay() -> None:
            asks.write("\n")
            if answers.readline().strip() != DONE:
                raise RuntimeError("The replay ended early.")

        yield replay
        asks.close()


def _type_script(page: Page, script: Script, replay: Callable[[], None]) -> None:
    """Choose pair and limit, then send every prompt in both modes, after one that warms up.

    Each is replayed before the next is sent, so that the machine's own ups and downs meet both.
    """
    drafter = page.locator("#drafter input")
    if script.pair is not None:
        choose(page, "pair", script.pair)
        expect(page.locator("#pair-facts")).to_contain_text("ready")
        expect(drafter).not_to_have_value(NO_DRAFTER)
    set_limit(page, script.max_new_tokens)
    for mode in TYPED_MODES:
        if mode == "ar":
            choose(page, "drafter", NO_DRAFTER)
            expect(drafter).to_have_value(NO_DRAFTER)
        for prompt in (*script.prompts[:NUM_WARM_UP], *script.prompts):
            _ask(page, prompt.text)
            page.wait_for_timeout(REST_MS)
            replay()


def _ask(page: Page, text: str) -> None:
    """One message in a new conversation, and its whole reply."""
    page.locator("#chat-clear").click()
    expect(page.locator("#chat-status")).to_have_text("")
    send(page, text)
    expect(page.locator("#chat-status")).to_contain_text(ENDED, timeout=REPLY_TIMEOUT_MS)
    expect(page.locator("#chat-send")).to_be_visible()


def set_limit(page: Page, max_new_tokens: int) -> None:
    """Type the limit of a reply into the chat's settings."""
    number = page.locator("#chat-max-tokens input[type=number]")
    if not number.is_visible():
        page.locator("#chat-settings button").first.click()
    number.fill(str(max_new_tokens))
    number.press("Tab")


def _resident_bytes(app: RunningApp) -> int:
    process = psutil.Process(app.pid)
    family = [process, *process.children(recursive=True)]
    return sum(each.memory_info().rss for each in family)


def _read_runs(home: Path, scripts: Sequence[Script]) -> list[TypedRun]:
    """The page's runs beside their replays; those that only warmed up are left out."""
    with Store(home / "runs.db") as store:
        by_page, alone = (
            store.list_runs(RunFilter(source=source), limit=ALL)[::-1]
            for source in (CHAT, REPLAYED)
        )
    typed = [
        (script.name, mode, number >= 0)
        for script in scripts
        for mode in TYPED_MODES
        for number in range(-len(script.prompts[:NUM_WARM_UP]), len(script.prompts))
    ]
    runs = []
    for (name, mode, counts), paged, replayed in zip(typed, by_page, alone, strict=True):
        _check_same(mode, paged, replayed)
        page_tok_s, alone_tok_s = paged.metrics.decode_tok_s, replayed.metrics.decode_tok_s
        if counts and page_tok_s and alone_tok_s and paged.metrics.decode_s:
            runs.append(TypedRun(name, mode, paged.metrics.decode_s, page_tok_s, alone_tok_s))
    return runs


def _check_same(mode: str, paged: RunRecord, replayed: RunRecord) -> None:
    modes = {mode, paged.start.mode, replayed.start.mode}
    if len(modes) > 1 or paged.token_ids != replayed.token_ids:
        raise RuntimeError(f"Run {paged.id} of the page and its replay {replayed.id} differ.")
