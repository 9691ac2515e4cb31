"""A real vLLM on loopback, in a process group of its own, with its log kept."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from dflash_app.settings import EMBEDDED_DIR

MODEL = "embedded"
"""The name that both servers serve the pair's target by."""
KEY = "sk-served"
"""What both ask for."""
NUM_DRAFTS = 15
"""Of the embedded drafter: its block without the anchor."""
MAX_START_S = 240.0
MAX_END_S = 20.0
LOG_TAIL_LINES = 30
HEALTH_INTERVAL_S = 0.5

ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_PROXY": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""One thread, and 1 GiB of keys and values; without it vLLM wants most of the machine's memory."""

DFLASH = {
    "method": "dflash",
    "model": str(EMBEDDED_DIR / "drafter"),
    "num_speculative_tokens": NUM_DRAFTS,
}


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers.

    Attributes:
        root: its address, below which engines have their own routes.
        log: what it prints.
    """

    root: str
    log: Path

    @property
    def url(self) -> str:
        """The base address of its OpenAI routes."""
        return f"{self.root}/v1"

    def metric(self, name: str) -> float:
        """The value of a Prometheus metric, summed over its labels."""
        lines = httpx.get(f"{self.root}/metrics").raise_for_status().text.splitlines()
        values = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name}{{")]
        assert values, f"{name} is not told"
        return sum(float(value) for value in values)


@contextmanager
def start_both(python: Path, folder: Path) -> Iterator[tuple[Served, Served]]:
    """The embedded pair served twice, with DFlash and plainly; both start at once.

    Args:
        python: of vLLM's venv.
        folder: for the logs.

    Yields:
        (dflash, plain).
    """
    speculating = ["--speculative-config", json.dumps(DFLASH)]
    counting = ["--per-request-spec-decode-metrics", "detailed"]
    with ExitStack() as stack:
        starting = [
            stack.enter_context(_process(python, folder / f"{name}.log", core, options))
            for name, core, options in (
                ("dflash", 0, [*speculating, *counting]),
                ("plain", 1, []),
            )
        ]
        dflash, plain = (_wait(process, served) for process, served in starting)
        yield dflash, plain


@contextmanager
def _process(
    python: Path, log: Path, core: int, options: Sequence[str]
) -> Iterator[tuple[subprocess.Popen[bytes], Served]]:
    port = _free_port()
    command = [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--model", str(EMBEDDED_DIR / "target"), "--served-model-name", MODEL),
        *("--api-key", KEY),
        *("--dtype", "float32", "--enforce-eager"),
        *("--max-model-len", "1024", "--max-num-seqs", "8"),
        *("--enable-per-request-metrics", "--enable-prompt-tokens-details"),
        *options,
    ]
    cores = sorted(os.sched_getaffinity(0))
    bound = {"VLLM_CPU_OMP_THREADS_BIND": str(cores[core % len(cores)])}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env=os.environ | ENVIRONMENT | bound,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, Served(f"http://127.0.0.1:{port}", log)
    finally:
        _end(process)


def _wait(process: subprocess.Popen[bytes], served: Served) -> Served:
    deadline_s = time.monotonic() + MAX_START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            if httpx.get(f"{served.root}/health").status_code == httpx.codes.OK:
                return served
        except httpx.TransportError:
            pass
        time.sleep(HEALTH_INTERVAL_S)
    code = process.poll()
    what = f"took more than {MAX_START_S:.0f} s" if code is None else f"ended with code {code}"
    tail = served.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    raise RuntimeError("\n".join([f"vLLM {what} while it started; {served.log} ends with", *tail]))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: vLLM's engine and worker are processes of their own."""
    for sign, patience_s in ((signal.SIGTERM, MAX_END_S), (signal.SIGKILL, MAX_END_S)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    process.wait(MAX_END_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
