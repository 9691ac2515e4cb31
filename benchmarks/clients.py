"""Many programs at once on one served page: who is answered, who refused, and what memory does.

Every client asks about a number of its own, which its answer names, so that a mix-up shows. Exit
code 1: a request was neither answered nor refused with its place, one got another's answer, or
memory grew.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
from gradio_client import Client
from gradio_client.exceptions import AppError

from benchmarks.report import Check, environment
from tests.e2e.running_app import start_app

QUESTION = "How many positive whole-number divisors does {number} have?"
MAX_NEW_TOKENS = 96
PATIENCE_S = 120.0
MAX_GROWTH_BYTES = 20e6
"""Over all rounds but the first, which fills caches."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one request came to.

    Attributes:
        number: that was asked about.
        text: of the answer; "" where it was refused.
        refusal: the sentence, None where it was answered.
        seconds: from asking to the end.
        tok_s: of decoding, the wait apart; None where unknown.
    """

    number: int
    text: str
    refusal: str | None
    seconds: float
    tok_s: float | None

    @property
    def mixed_up(self) -> bool:
        """Answered, and not about the number that was asked about."""
        named = re.search(r"\d+", self.text)
        return self.refusal is None and (named is None or int(named[0]) != self.number)

    @property
    def place(self) -> int | None:
        """Where in the queue a refused request would have been; None where that is not said."""
        named = re.search(r"number (\d+)", self.refusal or "")
        return int(named[1]) if named else None


def open_clients(url: str, num_clients: int) -> list[Client]:
    """Programs with a session each, patient where the machine has other things to do."""

    def open_one(_: int) -> Client:
        return Client(url, verbose=False, httpx_kwargs={"timeout": PATIENCE_S})

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(open_one, range(num_clients)))


def ask_at_once(clients: Sequence[Client], first_number: int) -> list[Reply]:
    """Every client asks at the same time, each about another number from `first_number` on."""

    def ask(index: int) -> Reply:
        number, began_s = first_number + index, time.perf_counter()
        try:
            said = clients[index].predict(
                message=QUESTION.format(number=number),
                max_new_tokens=MAX_NEW_TOKENS,
                api_name="/chat",
            )
        except AppError as refusal:
            return Reply(number, "", str(refusal), time.perf_counter() - began_s, None)
        tok_s = said["figures"]["decode_tok_s"]
        return Reply(number, said["text"], None, time.perf_counter() - began_s, tok_s)

    with ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(ask, range(len(clients))))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    options = _parse(argv)
    rounds: list[list[Reply]] = []
    resident: list[int] = []
    waiting = str(options.waiting)
    with (
        tempfile.TemporaryDirectory() as home,
        start_app(Path(home), DFLASH_APP_PUBLIC="1", DFLASH_APP_MAX_WAITING=waiting) as app,
    ):
        clients = open_clients(app.url, options.clients)
        for number in range(options.rounds):
            rounds.append(ask_at_once(clients, 100 + number * options.clients))
            resident.append(psutil.Process(app.pid).memory_info().rss)
            print(_say_round(number, rounds[-1], resident[-1]), flush=True)
    replies = [reply for each in rounds for reply in each]
    checks = [
        Check("requests refused without a place", _count_lost(replies), "at most", 0),
        Check("answers of another client", sum(each.mixed_up for each in replies), "at most", 0),
        Check("growth of memory, bytes", resident[-1] - resident[0], "at most", MAX_GROWTH_BYTES),
    ]
    print("\n".join(map(str, checks)))
    if options.out is not None:
        options.out.write_text(json.dumps(_results(options, rounds, resident), indent=1) + "\n")
    return 0 if all(check.met for check in checks) else 1


def _count_lost(replies: Sequence[Reply]) -> int:
    return sum(each.refusal is not None and each.place is None for each in replies)


def _say_round(number: int, replies: Sequence[Reply], resident: int) -> str:
    answered = [each.seconds for each in replies if each.refusal is None]
    refused = len(replies) - len(answered)
    times = f"median {median(answered):.2f} s, longest {max(answered):.2f} s" if answered else "-"
    return (
        f"round {number + 1}: {len(answered)} answered ({times}), {refused} refused, "
        f"{resident / 1e6:.0f} MB"
    )


def _results(
    options: argparse.Namespace, rounds: Sequence[Sequence[Reply]], resident: Sequence[int]
) -> dict[str, object]:
    answered = [each for replies in rounds for each in replies if each.refusal is None]
    speeds = [each.tok_s for each in answered if each.tok_s is not None]
    return {
        **environment(),
        "clients": options.clients,
        "rounds": options.rounds,
        "max_waiting": options.waiting,
        "answered": len(answered),
        "refused": sum(map(len, rounds)) - len(answered),
        "mixed_up": sum(each.mixed_up for each in answered),
        "median_seconds": median(each.seconds for each in answered),
        "longest_seconds": max(each.seconds for each in answered),
        "median_decode_tok_s": median(speeds),
        "resident_bytes": list(resident),
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--waiting", type=int, default=24, help="DFLASH_APP_MAX_WAITING")
    parser.add_argument("--out", type=Path, help="file for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
