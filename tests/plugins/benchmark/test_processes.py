"""Real processes with the embedded pair: one that is killed, and two that share the work."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dflash_app.cli import main
from dflash_app.settings import Settings

ROOT = Path(__file__).parents[3]
NUM_QUESTIONS = 6
NUM_PROMPTS = 2 * (NUM_QUESTIONS + 1)
"""In two modes; the first question has two turns."""

pytestmark = pytest.mark.slow


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    path = tmp_path / "tiny.jsonl"
    lines = [{"turns": ["How many divisors has 196?", "And 144?"]}]
    lines += [{"turns": [f"What is {number} plus 12?"]} for number in range(1, NUM_QUESTIONS)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return ["benchmark", "--jsonl", str(path), "--threads", "1", "--json"]


@contextmanager
def reading(settings: Settings) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{settings.database}?mode=ro", uri=True)) as connection:
        yield connection


def wait_until_in_the_midst(settings: Settings) -> None:
    """Until three runs have ended and another one goes on."""
    end_s = time.monotonic() + 120
    while time.monotonic() < end_s:
        time.sleep(0.002)
        if not settings.database.exists():
            continue
        try:
            with reading(settings) as db:
                done, going_on = db.execute(
                    "SELECT count(finish_reason), count(*) - count(finish_reason) FROM runs"
                ).fetchone()
        except sqlite3.OperationalError:  # the table is not there yet
            continue
        if done >= 3 and going_on:
            return
    raise AssertionError("the benchmark has not begun")


def test_a_benchmark_that_is_killed_loses_and_doubles_nothing(
    arguments: list[str], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "dflash_app", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        wait_until_in_the_midst(settings)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    with reading(settings) as db:
        kept = set(db.execute("SELECT id, output FROM runs WHERE finish_reason IS NOT NULL"))
    assert 3 <= len(kept) < NUM_PROMPTS
    assert main(["benchmark", "--resume", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["finished_at"] is not None
    answered = [row["run_id"] for cell in found["cells"] for row in cell["rows"]]
    assert len(answered) == len(set(answered)) == NUM_PROMPTS
    with reading(settings) as db:
        ended = list(db.execute("SELECT id, output, finish_reason FROM runs"))
    complete = {(number, text) for number, text, end in ended if end in ("stop", "length")}
    assert kept <= complete
    assert {number for number, _ in complete} == set(answered)
    assert len(ended) <= NUM_PROMPTS + 1, "more than the killed run was repeated"
    assert all(end == "interrupted" for number, _, end in ended if number not in answered)
    plain, drafted = ([row["output_digest"] for row in cell["rows"]] for cell in found["cells"])
    assert plain == drafted


def test_two_processes_share_the_questions_and_report_once(
    arguments: list[str], settings: Settings
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*torchrun, "dflash_app", *arguments, "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["finished_at"] is not None
    for cell in found["cells"]:
        assert cell["figures"]["num_answered"] == NUM_QUESTIONS + 1
        assert cell["figures"]["num_shares"] == 2
    with reading(settings) as db:
        shares = db.execute(
            "SELECT share, count(DISTINCT lease), min(question_id), max(question_id), count(*) "
            "FROM benchmark_runs JOIN runs ON runs.id = run_id GROUP BY share ORDER BY share"
        ).fetchall()
        assert shares == [(0, 1, "1", "5", 8), (1, 1, "2", "6", 6)]
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (NUM_PROMPTS,)
        assert db.execute("SELECT count(DISTINCT lease) FROM runs").fetchone() == (2,)
