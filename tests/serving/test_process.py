"""A server of this machine: a small real one, found on PATH by the engine's name."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dflash_app.errors import PlanError
from dflash_app.registry.pair import Pair
from dflash_app.serving.gpus import find_gpu
from dflash_app.serving.layout import Machines
from dflash_app.serving.plan import Engine, ServePlan
from dflash_app.serving.planner import Wishes, plan_pair
from dflash_app.serving.process import LocalServer, Standing, local_argv
from tests.serving.fake_engine import install_engine

WAIT_S = 20.0

APP = """
import sys, time
from pathlib import Path
from dflash_app.serving.gpus import find_gpu
from dflash_app.serving.layout import Machines
from dflash_app.serving.planner import Wishes, plan_pair
from dflash_app.serving.process import LocalServer
from dflash_app.workspace import open_workspace

pair = open_workspace().registry.get("qwen3-8b")
wishes = Wishes(port=int(sys.argv[2]))
server = LocalServer(Path(sys.argv[1]))
server.start(plan_pair(pair, "vllm", Machines(find_gpu("h100")), wishes, online=False))
time.sleep(60)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    server = LocalServer(tmp_path / "serving")
    yield server
    server.stop()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine called vllm on PATH; a file that says who its child is."""
    folder = tmp_path / "bin"
    install_engine(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_ENGINE_CHILD", str(tmp_path / "child"))
    return tmp_path / "child"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make(pair: Pair, engine: Engine = "vllm", nodes: int = 1, gpus: int = 1) -> ServePlan:
    machines = Machines(find_gpu("H200-141"), gpus, nodes)
    return plan_pair(pair, engine, machines, Wishes(port=free_port()), online=False)


def wait_for(server: LocalServer, is_so: Callable[[Standing], bool]) -> Standing:
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        standing = server.standing()
        if is_so(standing):
            return standing
        time.sleep(0.05)
    raise AssertionError(server.standing())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_it_starts_tells_its_log_and_stops_with_all_of_its_processes(
    server: LocalServer, engine: Path, pairs: dict[str, Pair]
) -> None:
    assert server.standing().state == "none"
    plan = make(pairs["qwen3-8b"])
    server.start(plan)
    standing = wait_for(server, lambda each: each.state == "ready")
    assert standing.plan is plan
    # No shell was between: the words arrive as they are.
    assert f"arguments: {list(plan.argv()[1:])}" in standing.log
    child = int(engine.read_text())
    assert is_alive(child)
    server.stop()
    wait_for(server, lambda each: each.state == "ended")
    assert not is_alive(child)


def test_there_is_one_at_a_time(server: LocalServer, engine: Path, pairs: dict[str, Pair]) -> None:
    server.start(make(pairs["qwen3-8b"]))
    with pytest.raises(PlanError, match="running already: stop it first"):
        server.start(make(pairs["qwen3-4b"]))


def test_an_engine_that_ends_leaves_its_last_words(
    server: LocalServer, engine: Path, pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE_FAILS", "1")
    server.start(make(pairs["qwen3-8b"]))
    standing = wait_for(server, lambda each: each.state == "ended")
    assert standing.status == 3
    assert standing.log[-1] == "out of memory, says the fake engine"
    monkeypatch.delenv("FAKE_ENGINE_FAILS")
    server.start(make(pairs["qwen3-8b"]))  # another one may be started then
    wait_for(server, lambda each: each.state == "ready")


def test_an_app_that_is_killed_takes_its_server_along(engine: Path, tmp_path: Path) -> None:
    ask = [sys.executable, "-c", APP, str(tmp_path), str(free_port())]
    app = subprocess.Popen(ask, cwd=Path(__file__).parents[2])
    until_s = time.monotonic() + WAIT_S
    while not (engine.exists() and engine.read_text()) and time.monotonic() < until_s:
        time.sleep(0.05)
    child = int(engine.read_text())
    app.send_signal(signal.SIGKILL)
    app.wait()
    while is_alive(child) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not is_alive(child)


def test_a_taken_port_and_an_absent_engine_are_refused(
    server: LocalServer, engine: Path, pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make(pairs["qwen3-8b"])
    with socket.socket() as other:
        other.bind(("127.0.0.1", plan.port))
        other.listen()
        with pytest.raises(PlanError, match=f"Port {plan.port} is taken"):
            server.start(plan)
    with pytest.raises(PlanError, match=r"SGLang is not installed: run `pip install 'sglang"):
        server.start(make(pairs["qwen3-8b"], "sglang"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PlanError, match=r"vLLM is not installed: run `pip install 'vllm>=0.32'`"):
        server.start(plan)
    assert server.standing().state == "none"


def test_a_plan_for_several_machines_is_not_started_here(
    server: LocalServer, engine: Path, pairs: dict[str, Pair]
) -> None:
    with pytest.raises(PlanError, match="for several machines"):
        server.start(make(pairs["kimi-k2.5"], nodes=2, gpus=8))


def test_a_module_is_run_by_the_python_beside_the_engines_script(
    engine: Path, pairs: dict[str, Pair]
) -> None:
    plan = plan_pair(pairs["embedded"], "vllm", Machines(find_gpu("cpu")), online=False)
    assert plan.argv()[0] == "python"
    with pytest.raises(PlanError, match="no python3 beside"):
        local_argv(plan)
    beside = engine.parent / "bin" / "python3"
    beside.symlink_to(sys.executable)
    assert local_argv(plan)[:2] == [str(beside), "-m"]
