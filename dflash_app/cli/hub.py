"""`dflash-app hub`: what can be downloaded, what is here, downloads, checks and deletion."""

import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dflash_app.cli import hub_text, terminal

if TYPE_CHECKING:
    from dflash_app.hub.hub import Role
    from dflash_app.hub.job_store import Job
    from dflash_app.workspace import Workspace

hub_app = typer.Typer(
    help="Download pairs and look after what is on disk.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

LINE_PERIOD_S = 5.0
"""Between two lines of progress where there is no terminal to draw on."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="The pair's name.")]
Only = Annotated[str | None, typer.Option(metavar="target|drafter", help="This model alone.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@hub_app.command("list", hidden=True)
@hub_app.command("ls")
def list_pairs(as_json: AsJson = False) -> None:
    """List the pairs with status, sizes, licence and published speedup."""
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        hub = workspace.hub
        found = [hub.standing(pair, workspace.state(pair.name)) for pair in workspace.pairs()]
        if as_json:
            terminal.print_json({"pairs": [hub_text.as_json(each) for each in found]})
            return
        terminal.print_table(hub_text.HEADER, [hub_text.row(each) for each in found])
        for use in hub.disk_use():
            unfinished = hub_text.size(use.unfinished_bytes) if use.unfinished_bytes else "-"
            terminal.note(
                f"{use.repo}: {hub_text.size(use.size_bytes)}, unfinished {unfinished}, "
                f"{hub_text.count(len(use.revisions), 'revision')}"
            )
        for problem in workspace.registry.problems:
            terminal.note(f"Left out: {problem}")


@hub_app.command("show")
def show(name: Name, as_json: AsJson = False) -> None:
    """Show one pair: sizes, revisions, licence, published numbers, what is here."""
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        pair = workspace.registry.get(name)
        standing = workspace.hub.standing(pair, workspace.state(name))
        drifts = workspace.hub.drifts(name)
        if as_json:
            terminal.print_json(hub_text.as_json(standing) | {"drifts": drifts})
            return
        for line in hub_text.describe(standing):
            print(terminal.printable(line))
        for drift in drifts:
            _show_drift(drift)


@hub_app.command("pull")
def pull(name: Name, only: Only = None) -> None:
    """Download a pair, or go on with a download; Ctrl-C stops it and keeps what is there."""
    from dflash_app.errors import HubError
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        for drift in workspace.hub.drifts(name):
            terminal.note(f"Note: {drift.warning}")
        jobs = workspace.hub.jobs
        job = workspace.hub.download(name, _roles(only))
        try:
            job = _follow(workspace, job)
        except KeyboardInterrupt:
            jobs.pause(job.id)
            terminal.note(
                f"\nStopped; what is there is kept: `dflash-app hub pull {name}` goes on."
            )
            raise
        if jobs.problem:
            terminal.note(f"Note: {jobs.problem}")
        if job.state != "done":
            raise HubError(job.message or f"The download of {name!r} was stopped ({job.state}).")
        here = workspace.hub.standing(workspace.registry.get(name)).here_bytes
        terminal.note(f"Pair {name!r} is here: {hub_text.size(here)}.")


@hub_app.command("rm")
def remove(
    name: Name,
    only: Only = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="Delete a model that another pair uses, too.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Delete a pair's files, all revisions; says first what that frees."""
    from dflash_app.hub.hub import check_free
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        removal = workspace.hub.plan_removal(name, _roles(only), shared=shared)
        check_free(removal)
        for repo, commit in removal.revisions:
            terminal.note(f"{repo} at {commit[:12]}")
        for repo in removal.unfinished:
            terminal.note(f"{repo}: unfinished downloads")
        for sentence in removal.kept:
            terminal.note(sentence)
        if not yes:
            typer.confirm(
                f"Delete this and free {hub_text.size(removal.freed_bytes)}?", abort=True, err=True
            )
        terminal.note(f"Freed {hub_text.size(workspace.hub.remove(removal))}.")


@hub_app.command("verify")
def verify(
    name: Name,
    discard: Annotated[
        bool, typer.Option("--discard", help="Delete damaged files, for a new download.")
    ] = False,
) -> None:
    """Read a pair's files and compare their checksums; status 1 if one is damaged."""
    from dflash_app.workspace import open_workspace

    checks = []
    with closing(open_workspace()) as workspace:
        for repo, check in workspace.hub.verify(name):
            print(terminal.printable(f"{check.verdict:8} {repo} {check.name}"), flush=True)
            checks.append((repo, check))
        bad = sum(check.verdict in ("damaged", "missing") for _, check in checks)
        if not bad:
            return
        said, first = hub_text.count(bad, "file"), f"run `dflash-app hub verify {name} --discard`, "
        if discard:
            workspace.hub.discard_damaged(name, checks)
            first = ""
    terminal.note(
        f"{said} cannot be used{', deleted' if discard else ''}: {first}"
        f"run `dflash-app hub pull {name}`."
    )
    raise typer.Exit(1)


@hub_app.command("fit")
def fit(
    name: Name,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of prompt and answer to tell the need for.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody: what is here, and the registry.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the arithmetic.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say in which precision a pair fits this machine; status 1 if in none."""
    from dflash_app.backends.torch.devices import free_by_device
    from dflash_app.hub.fit import Device, fit_pair
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        pair = workspace.registry.get(name)
        devices = [Device(*each) for each in free_by_device().items()]
        found = fit_pair(pair, devices, online=not offline, context_length=context)
    if as_json:
        terminal.print_json(hub_text.fit_as_json(found))
    else:
        terminal.print_table(hub_text.FIT_HEADER, [hub_text.fit_row(each) for each in found.fits])
        for line in hub_text.describe_fit(found, explain=explain):
            terminal.note(line)
    if not found.disk_fits or not any(each.fits for each in found.fits):
        raise typer.Exit(1)


@hub_app.command("recommend")
def recommend(
    use: Annotated[
        str, typer.Option(metavar="chat|code|maths|long-context", help="What it is for.")
    ] = "chat",
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody: what is here, and the registry.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say which pair to take on this machine and why, and why not the others."""
    from dflash_app.backends.torch.devices import free_by_device
    from dflash_app.hub.fit import Device
    from dflash_app.hub.published import USES
    from dflash_app.workspace import open_workspace

    wanted = next((each for each in USES if each == use.replace("-", " ")), None)
    if wanted is None:
        raise typer.BadParameter("choose chat, code, maths or long-context", param_hint="--use")
    with closing(open_workspace()) as workspace:
        devices = [Device(*each) for each in free_by_device().items()]
        advice = workspace.recommend(wanted, devices, online=not offline)
    if as_json:
        terminal.print_json(hub_text.advice_as_json(advice))
        return
    for place, each in enumerate(advice.ranked, 1):
        print(terminal.printable(f"{place}. {each.pair}: {each.reason}"))
    for other in advice.left_out:
        terminal.note(f"Not {other.pair}: {other.reason}")


@hub_app.command("update-registry")
def update_registry(
    source: Annotated[str, typer.Argument(metavar="FILE_OR_URL", help="A newer registry.")],
    yes: Yes = False,
) -> None:
    """Take a newer list of pairs, after showing what it changes; your own pairs stay."""
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        proposal = workspace.hub.propose_registry(source)
        for line in hub_text.difference(proposal):
            print(terminal.printable(line))
        if proposal.empty:
            terminal.note("It says the same as the one in use.")
            return
        if not yes:
            typer.confirm("Use it from now on?", abort=True, err=True)
        workspace.hub.take_registry(proposal)
        terminal.note(f"{hub_text.count(len(workspace.pairs()), 'pair')} are known now.")


@hub_app.command("login")
def log_in() -> None:
    """Give the token that gated models need; the Hugging Face library keeps it."""
    from dflash_app.hub.login import log_in

    log_in(typer.prompt("Token", hide_input=True, err=True))
    terminal.note("The hub accepts the token.")


def _follow(workspace: "Workspace", job: "Job") -> "Job":
    """Show a job's progress until it ends."""
    draws = sys.stderr.isatty()
    said, last = "", float("-inf")
    for job in workspace.hub.jobs.watch(job.id):  # noqa: B020, PLR1704 - the same job, later
        line = hub_text.progress(job)
        now = time.monotonic()
        if draws:
            sys.stderr.write(f"\r\x1b[K{terminal.printable(line)}")
            sys.stderr.flush()
        elif line != said and (now - last >= LINE_PERIOD_S or not job.rate_bytes_s):
            terminal.note(line)
            said, last = line, now if job.rate_bytes_s else last
    if draws:
        sys.stderr.write("\n")
    return job


def _show_drift(drift: Any) -> None:
    """Warn, and say what the pinned config changes where the hub tells."""
    from dflash_app.errors import HubError
    from dflash_app.hub.drift import config_changes

    terminal.note(f"Warning: {drift.warning}")
    try:
        changes = config_changes(drift)
    except HubError as error:
        terminal.note(f"Its config cannot be compared: {error}")
        return
    rows = [(change.key, change.cached, change.pinned) for change in changes]
    if rows:
        terminal.print_table(("config.json", "here", "registry's revision"), rows)
    else:
        terminal.note("Both revisions have the same config.json.")


def _roles(only: str | None) -> "tuple[Role, ...]":
    from dflash_app.hub.hub import ROLES

    roles = tuple(role for role in ROLES if only in (None, role))
    if not roles:
        raise typer.BadParameter("choose target or drafter", param_hint="--only")
    return roles
