"""What reading a server's replies costs: `python -m benchmarks.client_overhead`.

A dummy server in a process of its own streams vLLM's chunks at a set pace, a token each, and times
itself. The same replies are taken through `Workspace.run`, recorded as any run is, by one reader
and by 32 at once; the pace is the total of all readers. Overhead is 1 - tok/s here / the server's
own tok/s: of decoding, from first token to last, as the app shows it, and of a whole round, from
before the first request is made until the last run is recorded.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import httpx

from benchmarks.dummy_server import MODEL
from benchmarks.embedded import use_cores
from benchmarks.report import Check, environment, format_table, write_results
from dflash_app.errors import DFlashAppError, GenerationFailed
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.request import GenerationRequest, Message
from dflash_app.settings import load_settings
from dflash_app.workspace import Workspace, open_workspace

RESULTS = Path(__file__).parent / "results"
PAIR = "dummy"
LIMITS = {1: 0.03, 32: 0.10}
"""Most overhead, by number of readers."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians over the rounds of one number of readers.

    Attributes:
        readers: at once.
        paced: False where the server sent as fast as it could: then what is read is the most that
            can be.
        server_tok_s: of a round, all replies together, by the server's own clock.
        client_tok_s: the same by the readers'.
        decode_overhead: from first token to last.
        round_overhead: of a whole round, requests and recording included.
        ttft_s: at the readers.
    """

    readers: int
    paced: bool
    server_tok_s: float
    client_tok_s: float
    decode_overhead: float
    round_overhead: float
    ttft_s: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code is 1 where a limit is passed."""
    options = _parse(argv)
    num_cores = use_cores(options.cores)
    costs = [
        measure(
            readers,
            tok_s=tok_s,
            chunk=options.chunk,
            # A round takes as long whoever reads.
            num_tokens=max(options.chunk + 1, options.round_tokens // readers),
            rounds=options.rounds,
        )
        for tok_s in (options.tok_s, None)
        for readers in options.readers
    ]
    header = (
        "readers",
        "pace",
        "sent tok/s",
        "read tok/s",
        "overhead, %",
        "of a round, %",
        "TTFT, ms",
    )
    rows = [
        (
            cost.readers,
            "set" if cost.paced else "none",
            cost.server_tok_s,
            cost.client_tok_s,
            100 * cost.decode_overhead,
            100 * cost.round_overhead,
            1e3 * cost.ttft_s,
        )
        for cost in costs
    ]
    print(format_table(header, rows))
    checks = judge(costs)
    print("\n".join(str(check) for check in checks))
    if options.out is not None:
        names = ("tok_s", "chunk", "round_tokens", "rounds")
        results = {
            "settings": {name: getattr(options, name) for name in names} | {"cores": num_cores},
            **environment(),
            "costs": [asdict(cost) for cost in costs],
        }
        write_results(options.out, results, checks)
    return 0 if all(check.met for check in checks) else 1


def judge(costs: Sequence[Cost]) -> list[Check]:
    """Each overhead against its limit, where there is one for so many readers."""
    return [
        Check(f"overhead of {what}, {cost.readers} at once", value, "below", LIMITS[cost.readers])
        for cost in costs
        if cost.paced and cost.readers in LIMITS
        for what, value in (("decoding", cost.decode_overhead), ("a round", cost.round_overhead))
    ]


def measure(readers: int, *, tok_s: float | None, chunk: int, num_tokens: int, rounds: int) -> Cost:
    """What one number of readers costs.

    Args:
        readers: at once.
        tok_s: the server's pace, all replies together; None sets none.
        chunk: tokens in a chunk.
        num_tokens: of each reply.
        rounds: after one that warms up.
    """
    request = GenerationRequest((Message("user", "Talk."),), num_tokens)
    with (
        tempfile.TemporaryDirectory() as folder,
        _server(tok_s and tok_s / readers, chunk) as url,
        closing(_open(Path(folder), url)) as workspace,
        ThreadPoolExecutor(readers) as pool,
    ):
        loaded = workspace.loaded(PAIR)

        def read(_: int) -> RunMetrics:
            return summarize(workspace.run(loaded, request, source="benchmark"))

        found = []
        for _ in range(rounds + 1):
            began_s = time.perf_counter()
            runs = list(pool.map(read, range(readers)))
            round_s = time.perf_counter() - began_s
            timings = httpx.get(f"{url}/timings").json()[-readers:]
            found.append(_figures(runs, timings, round_s))
    return Cost(readers, tok_s is not None, *map(median, zip(*found[1:], strict=True)))


def _figures(
    runs: Sequence[RunMetrics], timings: Sequence[Mapping[str, float]], round_s: float
) -> tuple[float, float, float, float, float]:
    """Those of `Cost`, of one round."""
    if sum(run.num_output_tokens or 0 for run in runs) != sum(each["tokens"] for each in timings):
        raise GenerationFailed("Tokens were lost on the way: nothing can be said of the overhead.")
    num_tokens = sum(each["tokens"] for each in timings)
    sent_s = sum(each["last_s"] - each["first_s"] for each in timings)
    read_s = sum(run.decode_s or 0.0 for run in runs)
    span_s = max(each["last_s"] for each in timings) - min(each["received_s"] for each in timings)
    return (
        num_tokens / span_s,
        num_tokens / round_s,
        1 - sent_s / read_s,
        1 - span_s / round_s,
        median(run.ttft_s or 0.0 for run in runs),
    )


def _open(home: Path, url: str) -> Workspace:
    place = {"server": f"{url}/v1", "model": MODEL}
    models = {"target": place, "drafter": place}
    row = models | {"name": PAIR, "title": PAIR, "family": "unknown", "backends": ["remote"]}
    (home / "model_registry.yaml").write_text(json.dumps({"pairs": [row]}))
    return open_workspace(load_settings(home))


@contextmanager
def _server(tok_s: float | None, chunk: int) -> Iterator[str]:
    """A dummy server's address, until the block is left."""
    command = [sys.executable, "-m", "benchmarks.dummy_server", "--chunk", str(chunk)]
    command += [] if tok_s is None else ["--tok-s", str(tok_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client_overhead")
    parser.add_argument("--readers", type=int, nargs="+", default=list(LIMITS), help="at once")
    parser.add_argument("--tok-s", type=float, default=5000.0, help="of all replies together")
    parser.add_argument("--chunk", type=int, default=1, help="tokens in a chunk")
    parser.add_argument("--round-tokens", type=int, default=10_000, help="of all replies together")
    parser.add_argument("--rounds", type=int, default=5, help="after one that warms up")
    parser.add_argument("--cores", type=int, default=2, help="that all of it may use")
    parser.add_argument("--out", type=Path, help="file for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DFlashAppError as error:
        sys.exit(str(error))
