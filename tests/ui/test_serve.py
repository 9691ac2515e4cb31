"""A page that cannot be served says so in one sentence with the cure, before anything heavy."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dflash_app.errors import ServeError
from dflash_app.ui.serve import check_port, serve
from tests.ui.conftest import StageOpener
from tests.ui.stage import one_reply


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_port_in_use_is_named_with_the_cure(taken_port: int) -> None:
    with pytest.raises(ServeError, match=rf"Port {taken_port} is in use: ") as refused:
        check_port("127.0.0.1", taken_port)
    other = taken_port + 1
    assert f"GRADIO_SERVER_PORT={other} make run" in str(refused.value)
    assert f"dflash-app serve --port {other}" in str(refused.value)


def test_serve_refuses_it_too_and_leaves_the_workspace_open(
    taken_port: int, open_stage: StageOpener
) -> None:
    workspace = open_stage(one_reply)
    with pytest.raises(ServeError, match="is in use"):
        serve(workspace, "127.0.0.1", taken_port)
    assert workspace.store.count_runs() == 0


@pytest.mark.parametrize("port", [0, -1, 65536, 10**9])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ServeError, match="from 1 to 65535"):
        check_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.7", "not an address"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ServeError, match="no address of this machine"):
        check_port(host, 54321)


def test_the_environment_names_host_and_port(
    taken_port: int, open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(taken_port))
    with pytest.raises(ServeError, match=f"Port {taken_port} is in use"):
        serve(open_stage(one_reply))
    monkeypatch.setenv("GRADIO_SERVER_PORT", "many")
    with pytest.raises(ServeError, match="GRADIO_SERVER_PORT is 'many'"):
        serve(open_stage(one_reply))


def test_registering_the_page_imports_no_gradio() -> None:
    code = (
        "import sys, dflash_app.ui.builtin as b; b.register_tabs();"
        "import typer; b.register_commands(typer.Typer());"
        "import dflash_app.ui.serve;"
        "sys.exit('gradio' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
