"""Stands in for Hugging Face's package on ZeroGPU: forks, pickles, and says what went through.

Like the real one (0.51): a decorated generator runs in a process forked for it, on a thread of a
pool; arguments, yields and nothing else cross, pickled; of an error only its class crosses; a stop
is noticed between two yields; the process is used again where the call before ended well. Each
call leaves a line in the file that SPACES_LOG names.
"""

import json
import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FORK = multiprocessing.get_context("fork")

LOG = Path(os.environ["SPACES_LOG"])
SLOW = LOG.with_name("slow")
"""While this file is there, calls rest after each yield."""


class GpuError(Exception):
    """As the real one's: `message` holds HTML."""

    def __init__(self, name):
        super().__init__(name)
        self.message = f'<a href="https://example.org">{name}</a>'


def gradio_auto_wrap(task):
    return task


def GPU(*, duration, size=None):
    def decorate(task):
        idle = []

        def call(*args):
            note = {"caller": os.getpid(), "announced_s": duration(*args), "size": size}
            worker = idle.pop() if idle else Worker(task)
            try:
                yield from worker.results(args, note)
            finally:
                if worker.ended_well:
                    idle.append(worker)

        return call

    return decorate


class Worker:
    def __init__(self, task):
        self.to_child, self.from_parent = FORK.Pipe()
        self.stop = FORK.Event()
        self.ended_well = False
        child = FORK.Process(target=self.serve, args=(task,), daemon=True)
        child.start()

    def results(self, args, note):
        self.ended_well = False
        self.stop.clear()
        self.to_child.send_bytes(pickle.dumps((args, note)))
        try:
            while (result := pickle.loads(self.to_child.recv_bytes()))[0] == "item":
                yield result[1]
        except GeneratorExit:
            self.stop.set()
            while pickle.loads(self.to_child.recv_bytes())[0] == "item":
                pass
            self.ended_well = True
            raise
        if result[0] == "error":
            raise GpuError(result[1])
        self.ended_well = True

    def serve(self, task):
        while True:
            args, note = pickle.loads(self.from_parent.recv_bytes())
            with ThreadPoolExecutor(1) as executor:
                last = executor.submit(self.iterate, task, args, note).result()
            note["threads"] = sorted(thread.name for thread in threading.enumerate())
            with LOG.open("a") as log:
                log.write(json.dumps({**note, "process": os.getpid()}) + "\n")
            self.from_parent.send_bytes(pickle.dumps(last))

    def iterate(self, task, args, note):
        items, note["yields"] = task(*args), 0
        try:
            for item in items:
                if self.stop.is_set():
                    items.close()
                    break
                self.from_parent.send_bytes(pickle.dumps(("item", item)))
                note["yields"] += 1
                if SLOW.exists():
                    time.sleep(0.05)
        except Exception as error:  # noqa: BLE001 the border: only the class crosses
            return "error", type(error).__name__
        return "end", None
