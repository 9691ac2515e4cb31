"""Several processes on one machine, one for each GPU, as `torchrun` starts them.

    torchrun --nproc-per-node 4 -m dflash_app benchmark --pair qwen3-8b --dataset gsm8k

Each asks every n-th question on its own GPU, and all write into the one run log, over which they
also find each other: nothing else connects them.
"""

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from dflash_app.errors import GenerationFailed, RequestError
from dflash_app.store.benchmarks import Benchmarks
from dflash_app.store.fingerprint import hardware_fingerprint

from .plan import Plan
from .runner import Share

MAX_WAIT_S = 3600.0
"""For the first process, which may have a data set to download."""
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that were started with it.

    Attributes:
        rank: counts from 0; the first one begins the benchmark and prints.
        count: how many there are.
        launch: the same in all of them, and in no others that live.
    """

    rank: int
    count: int
    launch: str

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def share(self, plan: Plan, *, remote: bool) -> Share:
        """What this process asks, and on which device.

        Raises:
            RequestError: the pair is on a server, there are fewer GPUs than processes, or it is
                not told on what to decode where no GPU is seen.
        """
        if self.count == 1:
            return Share()
        if remote:
            raise RequestError(
                "A server is asked by one process: leave torchrun out and give --concurrency."
            )
        num_gpus, device = len(hardware_fingerprint()["gpus"]), plan.options.device
        if device is None and not num_gpus:
            raise RequestError(
                "No NVIDIA GPU is seen here: give --device cuda, for one to each process, or "
                "--device cpu."
            )
        if device in (None, "cuda"):
            if num_gpus and self.rank >= num_gpus:
                raise RequestError(
                    f"{self.count} processes were started for {num_gpus} GPUs: give torchrun "
                    f"--nproc-per-node {num_gpus}."
                )
            device = f"cuda:{self.rank}"
        return Share(self.rank, self.count, device)


def read_ranks(environ: Mapping[str, str] = os.environ) -> Ranks:
    """Where torchrun put this process; the only one where it was not started by torchrun.

    Raises:
        RequestError: the processes are spread over several machines.
    """
    told = [environ.get(name, "") for name in ("WORLD_SIZE", "RANK")]
    # Others set one of the two: torchrun sets both.
    count, rank = map(int, told) if all(map(str.isdecimal, told)) else (1, 0)
    if count == 1:
        return Ranks(0, 1, uuid.uuid4().hex)
    if environ.get("LOCAL_WORLD_SIZE", str(count)) != str(count):
        raise RequestError("A benchmark runs on one machine: give torchrun --nnodes 1.")
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
    parts = [environ.get(name, "") for name in names]
    # All are children of one agent, and no other living one has its number.
    return Ranks(rank, count, ":".join([*parts, str(os.getppid())]))


def wait_to_begin(benchmarks: Benchmarks, launch: str) -> int:
    """The benchmark that the first process has begun.

    Raises:
        GenerationFailed: it has not begun one for an hour.
    """
    end_s = time.monotonic() + MAX_WAIT_S
    while time.monotonic() < end_s:
        found = benchmarks.begun_by(launch)
        if found is not None:
            return found
        time.sleep(_POLL_S)
    raise GenerationFailed("The first process has begun no benchmark: start torchrun again.")


def wait_to_finish(benchmarks: Benchmarks, benchmark_id: int) -> None:
    """Wait until all processes are through; torchrun ends us where one of them fails."""
    while benchmarks.get(benchmark_id).finished_at is None:
        time.sleep(_POLL_S)
