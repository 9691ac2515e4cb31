"""`dflash-app runs`: read and tidy the run log."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dflash_app.cli import terminal
from dflash_app.cli.outcome import say_source
from dflash_app.errors import StoreCorrupt, StoreError
from dflash_app.metrics import RunMetrics
from dflash_app.store.records import RunFilter, RunRecord

if TYPE_CHECKING:
    from dflash_app.store.runs import Store
    from dflash_app.workspace import Workspace

runs_app = typer.Typer(help="List, show, copy and delete recorded runs.", rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
RunId = Annotated[int, typer.Argument(help="A run's number, as `runs list` shows it.")]
PROMPT_WIDTH = 44


@runs_app.callback(invoke_without_command=True)
def _runs(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        list_runs(as_json=as_json)


@runs_app.command("ls", hidden=True)
@runs_app.command("list")
def list_runs(
    pair: Annotated[str | None, typer.Option(help="Only this pair.")] = None,
    mode: Annotated[str | None, typer.Option(help="Only this mode: ar or dflash.")] = None,
    text: Annotated[str | None, typer.Option(help="Only runs that contain this text.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most runs to list.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    with closing(_open()) as workspace:
        found = _store(workspace).list_runs(RunFilter(pair=pair, mode=mode, text=text), limit=limit)
    if as_json:
        terminal.print_json({"runs": found})
    elif not found:
        terminal.note("No runs are recorded yet: `dflash-app generate PROMPT` makes one.")
    else:
        header = ("run", "started", "pair", "mode", "tokens", "tok/s", "accepted", "end", "prompt")
        terminal.print_table(header, [_row(record) for record in found])


@runs_app.command("show")
def show_run(run_id: RunId, as_json: AsJson = False) -> None:
    """Show one run: what was asked, what came, and its figures."""
    with closing(_open()) as workspace:
        record = _store(workspace).get_run(run_id)
    if record is None:
        raise _unknown(run_id)
    if as_json:
        terminal.print_json(record)
        return
    terminal.print_table(("run", str(record.id)), _details(record))
    print(f"\n{terminal.printable(record.output)}")


@runs_app.command("why")
def explain_run(run_id: RunId, as_json: AsJson = False) -> None:
    """Say why a run was not faster: what limits it by its own figures, and what to try."""
    # The store that it reads costs a quarter of a second, which --help need not pay.
    from dflash_app.advisor.diagnose import diagnose
    from dflash_app.advisor.say import english, say_advice, say_cost, say_finding, say_headline

    with closing(_open()) as workspace:
        found = diagnose(_store(workspace), workspace.registry, run_id)
    headline = say_headline(found)
    if as_json:
        findings = [
            asdict(each) | {"told": say_finding(each), "advice": say_advice(each)}
            for each in found.findings
        ]
        terminal.print_json({"run": run_id, "headline": headline, "findings": findings})
        return
    print(terminal.printable("\n".join(headline)))
    for number, finding in enumerate(found.findings, start=1):
        told = f"{number}. {say_finding(finding)} {say_cost(finding, found)}"
        advice = say_advice(finding)
        print(terminal.printable(f"\n{told}" + (f"\n   Try: {advice}" if advice else "")))
    if not found.findings:
        print(f"\n{english('nothing')}")


@runs_app.command("delete")
def delete_runs(
    run_ids: Annotated[list[int], typer.Argument(help="Numbers of runs to delete.")],
    as_json: AsJson = False,
) -> None:
    """Delete runs that have ended."""
    with closing(_open()) as workspace:
        store = _store(workspace)
        for run_id in run_ids:
            try:
                record = store.get_run(run_id)
            except StoreCorrupt:
                continue  # a damaged run has nothing to show, but can be deleted
            if record is None:
                raise _unknown(run_id)
            if record.finish_reason is None:
                raise StoreError(f"Run {run_id} is still going on: stop it first.")
        num_deleted = store.delete_runs(run_ids)
    if as_json:
        terminal.print_json({"deleted": num_deleted})
    else:
        terminal.note(f"Deleted {num_deleted} run{'' if num_deleted == 1 else 's'}.")


@runs_app.command("snapshot")
def write_snapshot(
    path: Annotated[Path, typer.Argument(help="A file that is not there yet.")],
    as_json: AsJson = False,
) -> None:
    """Copy the whole run log, also while the app writes to it."""
    from dflash_app.store import snapshot

    with closing(_open()) as workspace:
        _store(workspace)  # refuses where the log is in memory only
        num_bytes = snapshot.write_snapshot(workspace.settings.database, path)
    if as_json:
        terminal.print_json({"path": str(path), "size_bytes": num_bytes})
    else:
        terminal.note(f"The run log is copied to {path}: `datasette {path}` opens it.")


def _open() -> "Workspace":
    from dflash_app.workspace import open_workspace  # costs a second, which --help need not pay

    return open_workspace()


def _store(workspace: "Workspace") -> "Store":
    if workspace.store_problem is not None:
        raise workspace.store_problem
    return workspace.store


def _unknown(run_id: int) -> StoreError:
    return StoreError(f"There is no run {run_id}: `dflash-app runs list` shows their numbers.")


def _row(record: RunRecord) -> tuple[str, ...]:
    start, metrics = record.start, record.metrics
    return (
        str(record.id),
        start.started_at.astimezone().strftime("%Y-%m-%d %H:%M"),
        start.pair,
        start.mode,
        _count(metrics.num_output_tokens),
        _figure(metrics.decode_tok_s, 0),
        _figure(metrics.mean_acceptance_length, 2),
        record.finish_reason or "running",
        terminal.one_line(start.prompt, PROMPT_WIDTH),
    )


def _details(record: RunRecord) -> list[tuple[str, str]]:
    start, metrics = record.start, record.metrics
    return [
        ("started", start.started_at.astimezone().isoformat(sep=" ", timespec="seconds")),
        ("pair", start.pair),
        ("mode", start.mode),
        ("block size", start.block or "-"),
        ("drafts", start.policy or "-"),
        ("where", start.place),
        ("path", start.paths or "-"),
        ("rollback", start.rollback_kind or "-"),
        ("end", record.error or record.finish_reason or "running"),
        ("prompt tokens", _tokens_read(metrics)),
        ("output tokens", _count(metrics.num_output_tokens)),
        ("tok/s (decode)", _figure(metrics.decode_tok_s, 1) + _at_client(metrics)),
        ("first token, s", _figure(metrics.ttft_s, 3)),
        ("acceptance length", _figure(metrics.mean_acceptance_length, 2) + say_source(metrics)),
        ("prompt", terminal.one_line(start.prompt, 200)),
    ]


def _tokens_read(metrics: RunMetrics) -> str:
    if metrics.num_prompt_tokens is None:
        return "-"
    reused = metrics.num_reused_tokens
    return f"{metrics.num_prompt_tokens}" + (f", {reused} of them reused" if reused else "")


def _at_client(metrics: RunMetrics) -> str:
    return ", measured at the client" if metrics.at_client else ""


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
