"""What the page costs the engine: the real app, driven in headless Chromium, against no page."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.browsing import Round, Script, TypedRun, play_round
from benchmarks.feel import Feel, measure_feel
from benchmarks.pairs import add_pair, copy_endless
from benchmarks.prompts import talkative_prompts
from dflash_app.ui.choice import page_threads
from tests.e2e.running_app import find_chromium, open_browser

LONG_TOKENS = 256
"""Limit of the long replies: the embedded pair's own are over before the page has looked twice."""
SHIPPED_LIMIT = 512
"""Limit of the pair's own replies: the page's default."""


def measure_page(
    target: Path, drafter: Path, *, shipped: bool, num_rounds: int, num_prompts: int
) -> tuple[dict[str, Any], dict[str, Any], Feel]:
    """Type the same prompts into several starts of the app, each decoded again without it in turn.

    Twice each: as the pair replies by itself, and with its stop token silenced so that the replies
    last for seconds.

    Args:
        target: folder of the target.
        drafter: folder of the drafter.
        shipped: these are the pair that the page starts with.
        num_rounds: starts of the app.
        num_prompts: own replies in each round and mode; of long ones, a third as many.

    Returns:
        (page, start, feel): figures of the replies and of the starts, and of one more start what a
        user waits for.
    """
    executable = find_chromium()
    if executable is None:
        sys.exit("Chromium is not installed: `apt-get install chromium`, or give --skip-page.")
    prompts = talkative_prompts(num_prompts)
    own = Script("own", None if shipped else "own", prompts, SHIPPED_LIMIT)
    long = Script("long", "endless", prompts[: -(-num_prompts // 3)], LONG_TOKENS)
    rounds = []
    with tempfile.TemporaryDirectory() as folder, open_browser(executable) as browser:
        endless = copy_endless(target, Path(folder) / "target")
        for number in range(num_rounds):
            print(f"page: start {number + 1} of {num_rounds}", flush=True)
            home = Path(folder) / f"home-{number}"
            home.mkdir()
            if not shipped:
                add_pair(home, "own", target, drafter)
            add_pair(home, "endless", endless, drafter)
            rounds.append(play_round(home, browser, (own, long), page_threads()))
        feel = measure_feel(target, drafter, browser)
        chromium = browser.version
    return _page_figures(rounds, num_prompts, chromium), _start_figures(rounds), feel


def _page_figures(rounds: Sequence[Round], num_prompts: int, chromium: str) -> dict[str, Any]:
    runs = [run for each in rounds for run in each.runs]
    replies = {
        name: {
            mode: _compare_runs([run for run in runs if (run.script, run.mode) == (name, mode)])
            for mode in ("ar", "dflash")
        }
        for name in ("own", "long")
    }
    return {
        "threads": page_threads(),
        "chromium": chromium,
        "num_prompts": num_prompts,
        "long_reply_tokens": LONG_TOKENS,
        "replies": replies,
    }


def _compare_runs(runs: Sequence[TypedRun]) -> dict[str, float | int]:
    """Medians with and without the page, and of what each reply keeps of its own pair."""
    return {
        "kept": median(run.page_tok_s / run.alone_tok_s for run in runs),
        "page_tok_s": median(run.page_tok_s for run in runs),
        "alone_tok_s": median(run.alone_tok_s for run in runs),
        "median_decode_s": median(run.page_s for run in runs),
        "num_runs": len(runs),
    }


def _start_figures(rounds: Sequence[Round]) -> dict[str, Any]:
    return {
        "seconds": [each.start_s for each in rounds],
        "resident_bytes": [each.resident_bytes for each in rounds],
    }
