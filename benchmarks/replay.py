"""Decode again, without any page, what a page has run: `python -m benchmarks.replay HOME`.

A process of its own, so that nothing of the page, the browser or its driver shares it. For every
line on its standard input it decodes what the chat has run since, with the page's number of
threads, records that as "benchmark" through the same session, and says so with a line.
"""

import argparse
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from dflash_app.engine.protocol import LoadOptions
from dflash_app.request import GenerationRequest, Message, Mode
from dflash_app.settings import load_settings
from dflash_app.store.records import RunFilter, RunRecord
from dflash_app.workspace import Workspace, open_workspace

CHAT, REPLAYED = "chat", "benchmark"
ALL = 1_000_000
DONE = "replayed"
"""The line that answers each line."""


def replay(home: Path, num_threads: int, lines: Iterable[str]) -> None:
    """Decode the chat's runs again, in their order.

    Args:
        home: the app's folder.
        num_threads: compute threads.
        lines: each asks for the runs that came since the one before.
    """
    options = LoadOptions(device="cpu", dtype="float32", num_threads=num_threads)
    with closing(open_workspace(load_settings(home))) as workspace:
        last_id = 0
        for _ in lines:
            newest_first = workspace.store.list_runs(RunFilter(source=CHAT), limit=ALL)
            for record in reversed(newest_first):
                if record.id > last_id:
                    _decode(workspace, record, options)
            last_id = max([last_id, *(record.id for record in newest_first)])
            print(DONE, flush=True)


def _decode(workspace: Workspace, record: RunRecord, options: LoadOptions) -> None:
    loaded = workspace.loaded(record.start.pair, options)
    for _ in workspace.run(loaded, _request_of(record), source=REPLAYED):
        pass


def _request_of(record: RunRecord) -> GenerationRequest:
    """The request that made a run, greedy as all of the benchmark's are."""
    start = record.start
    mode: Mode = "dflash" if start.mode == "dflash" else "ar"
    messages = tuple(
        Message(each["role"], each["content"])  # type: ignore[arg-type]
        for each in start.messages
    )
    return GenerationRequest(messages, start.max_new_tokens, mode=mode)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    replay(arguments.home, arguments.threads, sys.stdin)
