"""Serve the page: refuse a port in use at once, answer fast, load heavy parts afterwards."""

import errno
import gc
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dflash_app.errors import DFlashAppError, ServeError
from dflash_app.settings import Settings
from dflash_app.spaces.copies import Copies
from dflash_app.spaces.retention import Retention
from dflash_app.ui.live import DeviceTurn, LiveRuns
from dflash_app.ui.public_page import (
    app_arguments,
    check_mcp,
    default_host,
    hiding_css,
    line_of,
    prepare,
)
from dflash_app.workspace import Workspace

DEFAULT_PORT = 7860
LAST_PORT = 65535

_NOTHING_FROM_OUTSIDE = (
    '<meta http-equiv="Content-Security-Policy" content="img-src \'self\' data: blob:; '
    "media-src 'self' data: blob:; frame-src 'self'; object-src 'none'\">"
    '<meta http-equiv="x-dns-prefetch-control" content="off">'
)
"""What a reply names is not fetched, should it ever become more than text (chat_markdown)."""

MAX_UPLOAD_BYTES = 64_000_000
"""Of a file that a browser sends: none that the page reads may be larger."""


def serve(
    workspace: Workspace,
    host: str | None = None,
    port: int | None = None,
    *,
    open_browser: bool = False,
    block: bool = True,
) -> str:
    """Serve the page until the program is interrupted.

    Args:
        workspace: what the page shows; closed at the end where `block` is True.
        host: address to listen on; None takes GRADIO_SERVER_NAME, else every one on a Space, else
            this machine only.
        port: None takes GRADIO_SERVER_PORT, else 7860.
        open_browser: show the page in the user's browser.
        block: False returns once the server answers.

    Returns:
        The page's address.

    Raises:
        ServeError: the port is in use, or the address is not this machine's, or what
            DFLASH_APP_MCP asks for is not installed.
        DFlashAppError: a pair of DFLASH_APP_PAIRS cannot be brought or placed.
    """
    settings = workspace.settings
    host = host or os.environ.get("GRADIO_SERVER_NAME") or default_host()
    port = _env_port() if port is None else port
    check_port(host, port)
    check_mcp(settings)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import: the page reports to nobody
    from dflash_app.ui.idle_work import slow_queue_looks
    from dflash_app.ui.language import translations
    from dflash_app.ui.shell import build_page  # gradio takes seconds to import
    from dflash_app.ui.theme import build_theme, read_css, read_js

    prepare(workspace)
    runs = LiveRuns(line_of(settings))
    own = takes_folders(settings, host)
    blocks = build_page(workspace, runs, local_folders=own)
    try:
        _, url, _ = blocks.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            run_history=False,
            footer_links=[],
            theme=build_theme(),
            css=read_css() + hiding_css(settings),
            head=_NOTHING_FROM_OUTSIDE,
            js=read_js(),
            i18n=translations(),
            mcp_server=settings.mcp,
            max_file_size=MAX_UPLOAD_BYTES,
            app_kwargs=app_arguments(settings, own=own, shared=lambda: bool(blocks.share)),
        )
    except OSError as error:
        raise ServeError(_in_use(port)) from error
    slow_queue_looks(blocks._queue)
    print(f"DFlash Studio is ready: {url}", flush=True)
    keepers: list[Copies | Retention] = []
    if settings.keep_days is not None:
        keepers.append(Retention(workspace.store, settings.keep_days))
    if settings.bucket is not None:
        keepers.append(Copies(settings.database, settings.bucket))
    for keeper in keepers:
        keeper.start()
    threading.Thread(target=_warm, args=(workspace, runs.turn), name="warm-up", daemon=True).start()
    if block:
        try:
            with _ended_by_sigterm():
                blocks.block_thread()
        finally:
            workspace.close()
            for keeper in keepers:
                keeper.close()
    return str(url)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, by which a Space and a service are stopped, leave this block.

    Raises:
        SystemExit: on the signal, with the status that a shell reports for it.
    """

    def leave(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def takes_folders(settings: Settings, host: str) -> bool:
    """Whether the page may name folders of this machine: where the user says so, or is alone."""
    if settings.public is not None:
        return False
    if settings.local_folders is not None:
        return settings.local_folders
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_port(host: str, port: int) -> None:
    """Refuse what cannot be served before anything heavy is imported.

    Raises:
        ServeError: the port is in use or out of range, or the address is not this machine's.
    """
    if not 1 <= port <= LAST_PORT:
        raise ServeError(
            f"{port} is no port: choose one from 1 to {LAST_PORT} with --port, or with "
            "GRADIO_SERVER_PORT."
        )
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bare, port))
        except PermissionError as error:
            raise ServeError(f"Port {port} needs more rights: choose one above 1023.") from error
        except socket.gaierror as error:
            raise ServeError(_not_ours(host)) from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ServeError(_not_ours(host)) from error
            raise ServeError(_in_use(port)) from error


def _warm(workspace: Workspace, turn: DeviceTurn) -> None:
    """Load the shipped pair once the server answers, so that the first message need not wait."""
    from dflash_app.ui.choice import Choice
    from dflash_app.ui.model_bar import first_ready

    name = first_ready(workspace)
    if name is not None and workspace.registry.get(name).target.path is not None:
        with turn.taken(threading.Event()), suppress(DFlashAppError):
            # The first message meets the same error and shows it.
            workspace.loaded(name, Choice(name, "dflash", None, None, None).options())
    # What is here now stays to the end. Walking through it, as Python's collector does now and
    # then, stopped decoding and page for 0.2 s (docs/log.md).
    gc.collect()
    gc.freeze()


def _in_use(port: int) -> str:
    other = port + 1 if port < LAST_PORT else port - 1
    return (
        f"Port {port} is in use: stop the program that has it, or take another by "
        f"`GRADIO_SERVER_PORT={other} make run` or `dflash-app serve --port {other}`."
    )


def _not_ours(host: str) -> str:
    return f"{host!r} is no address of this machine: try 127.0.0.1."


def _env_port() -> int:
    text = os.environ.get("GRADIO_SERVER_PORT") or str(DEFAULT_PORT)
    if not text.isdecimal():
        raise ServeError(f"GRADIO_SERVER_PORT is {text!r}: set it to a number such as 7860.")
    return int(text)
