"""`dflash-app doctor`: what works on this machine, what does not, and the cure."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import dflash_app
from dflash_app.cli import terminal
from dflash_app.engine.protocol import Backend, SetupTeller
from dflash_app.errors import BackendUnavailable
from dflash_app.hub.free_memory import free_ram_bytes
from dflash_app.store.fingerprint import hardware_fingerprint, library_versions

if TYPE_CHECKING:
    from dflash_app.registry.pair import Pair
    from dflash_app.workspace import Workspace

GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        detail: what was found, or what is wrong with its cure.
        ok: False where something must be cured.
        optional: it does not work here, and need not.
    """

    name: str
    detail: str
    ok: bool = True
    optional: bool = False

    @property
    def mark(self) -> str:
        """In the table's first column."""
        return "WRONG" if not self.ok else "-" if self.optional else "ok"


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    families: Annotated[
        bool,
        typer.Option("--families", help="Prove every target family lossless; takes minutes."),
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="With --families: write the table to this file too, as Markdown."),
    ] = None,
) -> None:
    """Check this installation; status 1 if broken."""
    if families:
        from dflash_app.cli.families import check_families

        raise typer.Exit(0 if check_families(write, as_json=as_json) else 1)
    if write is not None:
        raise typer.BadParameter("--write needs --families.")
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        checks = [*_check_machine(), *_check_backends(workspace), *_check_parts(workspace)]
    ok = all(check.ok for check in checks)
    if as_json:
        terminal.print_json({"ok": ok, "checks": checks})
    else:
        header = ("", "what", "found")
        rows = [(check.mark, check.name, check.detail) for check in checks]
        terminal.print_table(header, rows)
    raise typer.Exit(0 if ok else 1)


def _check_machine() -> Iterator[Check]:
    versions, machine = library_versions(), hardware_fingerprint()
    python = versions.pop("python")
    yield Check("app", f"{dflash_app.__version__}, Python {python}")
    yield Check("libraries", ", ".join(f"{name} {each}" for name, each in versions.items()))
    ram_bytes = machine["ram_bytes"]
    memory = f", {ram_bytes / GIGABYTE:.1f} GB memory" if ram_bytes else ""
    yield Check("machine", f"{machine['cpu']}, {machine['cores']} cores{memory}, {machine['os']}")
    free = free_ram_bytes()
    if free is not None:
        yield Check("free memory", f"{free / GIGABYTE:.1f} GB")
    if not machine["gpus"]:
        yield Check("GPU", "no NVIDIA GPU seen")
    elif versions.get("torch", "").endswith("+cpu"):
        cure = "this torch is for CPUs only: install torch from https://pytorch.org/get-started"
        yield Check("GPU", f"{', '.join(machine['gpus'])}, but {cure}.", ok=False)
    else:
        yield Check("GPU", ", ".join(machine["gpus"]))


def _check_backends(workspace: "Workspace") -> Iterator[Check]:
    backends = workspace.backends().values()
    reasons = [(backend.name, backend.unavailable_reason()) for backend in backends]
    # One that works is enough: nobody can run them all.
    usable = any(reason is None for _, reason in reasons)
    for name, reason in reasons:
        found = reason or _describe(workspace.backends()[name])
        works = reason is None
        yield Check(f"backend {name}", found, ok=works or usable, optional=not works and usable)
    if not reasons:
        yield Check("backends", "none is registered: install the app again.", ok=False)


def _describe(backend: "Backend[Pair]") -> str:
    if not isinstance(backend, SetupTeller):
        return "available"
    try:
        return f"available: {backend.describe_setup()}"
    except BackendUnavailable as error:
        return str(error)


def _check_parts(workspace: "Workspace") -> Iterator[Check]:
    plugins = workspace.plugins
    yield Check("plugins", ", ".join(plugins.names) or "none")
    for problem in plugins.problems:
        yield Check(f"plugin {problem.name}", problem.reason, ok=False)
    yield Check("data folder", str(workspace.settings.home))
    if workspace.store_problem is not None:
        yield Check("run log", str(workspace.store_problem), ok=False)
    else:
        yield Check("run log", f"{workspace.store.count_runs()} runs")
    pairs = workspace.pairs()
    here = [pair for pair in pairs if not pair.remote]
    ready = sum(workspace.state(pair.name).status == "ready" for pair in here)
    known = f"{len(pairs)} known, {ready} ready here"
    yield Check("pairs", f"{known}, {len(pairs) - len(here)} on servers")
    for fault in workspace.registry.problems:
        yield Check("registry", str(fault), ok=False)
    embedded = workspace.state("embedded")
    yield Check("embedded pair", embedded.reason or "ready", ok=embedded.status == "ready")
