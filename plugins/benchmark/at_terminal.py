"""What `dflash-app benchmark` does once its options are read."""

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile

from dflash_app.cli import terminal
from dflash_app.errors import GenerationFailed, RequestError, StoreError
from dflash_app.session import closable
from dflash_app.store.benchmark_records import BenchmarkRecord
from dflash_app.workspace import Workspace

from . import regression
from .cells import methods
from .counts import counts_of, say_counts
from .kept import create, resumable, sit_down
from .plan import Plan, read_plan
from .progress import Progress
from .ranks import Ranks, read_ranks, wait_to_begin, wait_to_finish
from .render import to_text, write_files
from .render_comparison import comparison_text, write_comparison
from .report import build_report
from .results import read_results, results, to_json

LINE_INTERVAL_S = 5.0
"""Between lines of progress where they are kept, as in a file."""


def start(
    workspace: Workspace, plan: Plan, files: Sequence[Path], out: Path | None, *, as_json: bool
) -> None:
    """Measure, and print the report.

    Args:
        workspace: the app.
        plan: what to measure.
        files: of one's own questions, which the plan names.
        out: folder for the report's files; None writes none.
        as_json: print the results as JSON.
    """
    ranks = read_ranks()
    _check_folder(out)
    found = create(workspace, plan, files) if ranks.first else None
    _work(workspace, ranks, found, out, as_json=as_json)


def resume(
    workspace: Workspace, benchmark_id: int | None, out: Path | None, *, as_json: bool
) -> None:
    """Go on with a benchmark, the latest unfinished one for None, and print the report."""
    _check_log(workspace)
    ranks = read_ranks()
    _check_folder(out)
    found = resumable(workspace.store, benchmark_id) if ranks.first else None
    _work(workspace, ranks, found, out, as_json=as_json)


def show(
    workspace: Workspace, benchmark_id: int | None, out: Path | None, *, as_json: bool
) -> None:
    """Print the report of a benchmark as it stands, the latest one for None."""
    _check_log(workspace)
    _check_folder(out)
    if benchmark_id is None:
        latest = workspace.store.benchmarks.latest(limit=1)
        if not latest:
            raise RequestError("There is no benchmark yet: `dflash-app benchmark` makes one.")
        benchmark_id = latest[0].id
    _report(workspace, benchmark_id, out, as_json=as_json)


def list_benchmarks(workspace: Workspace, *, as_json: bool) -> None:
    """Print the benchmarks of the run log, the newest first."""
    _check_log(workspace)
    found = workspace.store.benchmarks.latest()
    if as_json:
        terminal.print_json({"benchmarks": found})
    elif not found:
        terminal.note("No benchmark is recorded yet: `dflash-app benchmark` makes one.")
    else:
        header = (
            "benchmark",
            "created",
            "pair",
            "data sets",
            "methods",
            "answered",
            "asked",
            "state",
        )
        terminal.print_table(header, [_listed(record) for record in found])


def compare(before: Path, after: Path, out: Path | None, *, as_json: bool) -> regression.Comparison:
    """Print what changed between two results.

    Args:
        before: the older one's file.
        after: the newer one's.
        out: folder for comparison.md; None writes none.
        as_json: print the comparison as JSON.
    """
    _check_folder(out)
    names = str(before), str(after)
    found = regression.compare(read_results(before), read_results(after), names)
    if as_json:
        told = {"regressed": found.regressed, "judged": found.judged}
        terminal.print_json(told | asdict(found))
    else:
        print(comparison_text(found))
    if out is not None:
        terminal.note(f"Written: {write_comparison(found, out)}.")
    return found


def _work(
    workspace: Workspace,
    ranks: Ranks,
    benchmark_id: int | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Ask this process's share; the first one reports once all are through."""
    benchmarks = workspace.store.benchmarks
    if benchmark_id is None:
        benchmark_id = wait_to_begin(benchmarks, ranks.launch)
    record = benchmarks.get(benchmark_id)
    plan = read_plan(record.plan)
    share = ranks.share(plan, remote=workspace.registry.get(plan.pair).remote)
    sitting = sit_down(workspace, benchmark_id, share, launch=ranks.launch)
    teller, progress = _Teller(benchmark_id, ranks), sitting.beginning
    teller.say(f"Benchmark {benchmark_id}: {say_counts(counts_of(record, plan))}.")
    try:
        with closing(closable(sitting.run())) as events:
            for progress in events:
                teller.tell(progress)
    except (KeyboardInterrupt, StoreError) as error:
        if isinstance(error, KeyboardInterrupt) or progress.num_done:
            teller.say(f"Go on with `dflash-app benchmark --resume {benchmark_id}`.")
        raise
    if ranks.first:
        wait_to_finish(benchmarks, benchmark_id)
        _report(workspace, benchmark_id, out, as_json=as_json)
        _say_failures(progress)


def _say_failures(progress: Progress) -> None:
    """How prompts that failed are asked again.

    Raises:
        GenerationFailed: nothing was answered at all.
    """
    again = f"`dflash-app benchmark --resume {progress.benchmark_id}` asks them again."
    if not progress.num_done:
        raise GenerationFailed(f"No prompt was answered, as was said above; {again}")
    if progress.num_failed:
        terminal.note(f"{progress.num_failed} prompts failed: {again}")


class _Teller:
    """Tells how far the benchmark is, on stderr: one line that changes, or one now and then."""

    def __init__(self, benchmark_id: int, ranks: Ranks) -> None:
        self._name = f"Benchmark {benchmark_id}"
        if ranks.count > 1:
            self._name += f", share {ranks.rank + 1} of {ranks.count}"
        self._shown = ranks.first
        self._changes = sys.stderr.isatty()
        self._told_s = -LINE_INTERVAL_S

    def tell(self, progress: Progress) -> None:
        """Tell of a prompt that has ended; of one that failed in any case."""
        if progress.error is not None:
            place = f"{progress.cell.key}, question {progress.question_id}" if progress.cell else ""
            self.say(f"{self._name}: {place} failed: {progress.error}")
        now_s = time.monotonic()
        if self._changes or progress.finished or now_s - self._told_s >= LINE_INTERVAL_S:
            self._told_s = now_s
            self._line(f"{self._name}: {_far(progress)}", last=progress.finished)

    def say(self, text: str) -> None:
        """Say something on a line of its own."""
        self._line(text, last=True)

    def _line(self, text: str, *, last: bool) -> None:
        if not self._shown:
            return
        if self._changes:
            sys.stderr.write(f"\r\x1b[K{terminal.printable(text)}" + ("\n" if last else ""))
            sys.stderr.flush()
        else:
            terminal.note(text)


def _far(progress: Progress) -> str:
    parts = [f"{progress.num_done} of {progress.num_prompts} prompts"]
    if progress.num_failed:
        parts.append(f"{progress.num_failed} failed")
    if progress.left_s and not progress.finished:
        parts.append(f"{_duration(progress.left_s)} left")
    if progress.cell is not None and not progress.finished:
        speed = "" if progress.decode_tok_s is None else f" {progress.decode_tok_s:.0f} tok/s"
        parts.append(f"{progress.cell.dataset} {progress.cell.method.label}{speed}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _check_log(workspace: Workspace) -> None:
    """Refuse where the run log cannot be read: one in memory has no benchmark."""
    if workspace.store_problem is not None:
        raise workspace.store_problem


def _check_folder(out: Path | None) -> None:
    """Refuse what cannot become a folder with files before anything is measured."""
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file: name a folder for the results.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise RequestError(
            f"{out} cannot be written ({error.strerror}): name another folder."
        ) from error


def _listed(record: BenchmarkRecord) -> tuple[str, ...]:
    plan = read_plan(record.plan)
    counts = counts_of(record, plan)
    state = "going on" if record.running else "finished" if record.finished_at else "unfinished"
    return (
        str(record.id),
        record.created_at.astimezone().strftime("%Y-%m-%d %H:%M"),
        plan.pair,
        ", ".join(plan.datasets),
        ", ".join(method.label for method in methods(plan)),
        f"{record.num_answered} of {counts.num_prompts}",
        say_counts(counts),
        state,
    )


def _report(workspace: Workspace, benchmark_id: int, out: Path | None, *, as_json: bool) -> None:
    found = results(workspace.store, benchmark_id)
    report = build_report(found, workspace.pairs())
    print(to_json(found) if as_json else to_text(report))
    if out is not None:
        written = write_files(found, report, out)
        terminal.note(f"Written to {out}: {', '.join(path.name for path in written)}.")
    elif not as_json:
        terminal.note(
            f"Keep this report: `dflash-app benchmark --show {benchmark_id} --out FOLDER`, or the "
            "Benchmark tab."
        )
