"""Serve the page: refuse a port in use at once, answer fast, load heavy parts afterwards."""

import errno
import ipaddress
import os
import socket
import threading
from typing import Any

from dflash_app.errors import DFlashAppError, ServeError
from dflash_app.settings import Settings
from dflash_app.ui.live import DeviceTurn, LiveRuns
from dflash_app.workspace import Workspace

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7860

_QUEUE_LOOK_S = 0.02
_PROGRESS_LOOK_S = 0.25


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
        host: address to listen on; None takes GRADIO_SERVER_NAME, else this machine only.
        port: None takes GRADIO_SERVER_PORT, else 7860.
        open_browser: show the page in the user's browser.
        block: False returns once the server answers.

    Returns:
        The page's address.

    Raises:
        ServeError: the port is in use, or the address is not this machine's.
    """
    host = host or os.environ.get("GRADIO_SERVER_NAME") or DEFAULT_HOST
    port = _env_port() if port is None else port
    check_port(host, port)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import: the page reports to nobody
    from dflash_app.ui.shell import build_page  # gradio takes seconds to import
    from dflash_app.ui.theme import build_theme, read_css

    runs = LiveRuns()
    blocks = build_page(workspace, runs, local_folders=takes_folders(workspace.settings, host))
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
            css=read_css(),
        )
    except OSError as error:
        raise ServeError(_in_use(port)) from error
    calm(blocks._queue)
    print(f"DFlash Studio is ready: {url}", flush=True)
    threading.Thread(target=_warm, args=(workspace, runs.turn), name="warm-up", daemon=True).start()
    if block:
        try:
            blocks.block_thread()
        finally:
            workspace.close()
    return str(url)


def takes_folders(settings: Settings, host: str) -> bool:
    """Whether the page may name folders of this machine: where the user says so, or is alone."""
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
    if not 1 <= port <= 65535:
        raise ServeError(f"{port} is no port: choose one from 1 to 65535 with --port.")
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


def calm(queue: Any) -> None:
    """Let Gradio's queue look for work 50 times a second instead of 1,000.

    Each look takes Python's lock from the decode thread, all the time a reply is written.
    """
    queue.sleep_when_free = _QUEUE_LOOK_S
    queue.progress_update_sleep_when_free = _PROGRESS_LOOK_S


def _warm(workspace: Workspace, turn: DeviceTurn) -> None:
    """Load the shipped pair once the server answers, so that the first message need not wait."""
    from dflash_app.ui.choice import Choice
    from dflash_app.ui.model_bar import first_ready

    name = first_ready(workspace)
    if name is None or workspace.registry.get(name).target.repo is not None:
        return
    with turn.taken(threading.Event()):
        try:
            workspace.loaded(name, Choice(name, "dflash", None, None, None).options())
        except DFlashAppError:
            return  # the first message meets the same error and shows it


def _in_use(port: int) -> str:
    return f"Port {port} is in use: stop the program that has it or choose another with --port."


def _not_ours(host: str) -> str:
    return f"{host!r} is no address of this machine: try 127.0.0.1."


def _env_port() -> int:
    text = os.environ.get("GRADIO_SERVER_PORT") or str(DEFAULT_PORT)
    if not text.isdecimal():
        raise ServeError(f"GRADIO_SERVER_PORT is {text!r}: set it to a number such as 7860.")
    return int(text)
