"""On ZeroGPU a run crosses the border of a process and comes out the same; the store stays here."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from benchmarks.clients import open_clients
from dflash_app.backends.torch.backend import TorchBackend
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.engine.racing import Entrant
from dflash_app.errors import GenerationFailed, LoadError, PairNotReady, PromptTooLong
from dflash_app.events import StepDone, TextDelta
from dflash_app.registry.load import load_registry
from dflash_app.registry.pair import Pair
from dflash_app.settings import find_bundled
from dflash_app.spaces.gpu_time import LONGEST_S, estimate_gpu_s
from dflash_app.spaces.zero_gpu import ZeroGpuBackend, in_batches
from tests.e2e.running_app import RunningApp, newest_run, start_app
from tests.fakes import ask

QUESTION = "How many positive whole-number divisors does 196 have?"
STAND_IN = Path(__file__).parent / "stand_in"


@dataclass
class ZeroGpuPage:
    """A page whose GPU is a forked process.

    Attributes:
        log: a line of JSON for each call that ended.
    """

    app: RunningApp
    client: Client
    log: Path

    def calls(self) -> list[dict[str, Any]]:
        written = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in written.splitlines()]


@pytest.fixture(scope="module")
def embedded() -> Pair:
    return load_registry([find_bundled("model_registry.yaml")]).get("embedded")


@pytest.fixture(scope="module")
def text(embedded: Pair) -> Iterator[str]:
    """What the pair answers where there is no border."""
    loaded = TorchBackend().load(embedded, LoadOptions(num_threads=1))
    yield text_of(loaded, max_new_tokens=96)
    loaded.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZeroGpuPage]:
    home = tmp_path_factory.mktemp("zero-gpu")
    variables = {
        "SPACES_ZERO_GPU": "true",
        "SPACES_LOG": str(home / "calls"),
        "PYTHONPATH": str(STAND_IN),
        "SPACE_ID": "ann/studio",
        "OMP_NUM_THREADS": "1",
    }
    with start_app(home, **variables) as app:
        yield ZeroGpuPage(app, open_clients(app.url, 1)[0], home / "calls")
    assert "Traceback" not in app.printed()


@pytest.fixture
def beside_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_DEACTIVATE_ASYNC_LOAD", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "")  # the backend sets them for its process: forget them after


def text_of(loaded: LoadedPair, **limits: Any) -> str:
    events = loaded.stream(ask(QUESTION, **limits))
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.slow
def test_a_chat_runs_in_a_forked_process_and_is_stored_in_this_one(
    page: ZeroGpuPage, text: str
) -> None:
    answers = list(page.client.submit(message=QUESTION, max_new_tokens=96, api_name="/chat"))
    assert answers[-1]["text"] == text
    run = newest_run(page.app)
    assert (run["output"], run["num_output_tokens"]) == (text, 96)
    call = page.calls()[-1]
    assert call["caller"] == page.app.pid != call["process"]
    assert call["yields"] < run["num_steps"]
    assert call["announced_s"] == estimate_gpu_s([ask(QUESTION, max_new_tokens=96)], num_bytes=0)


@pytest.mark.slow
def test_a_race_runs_in_one_call_and_is_judged(page: ZeroGpuPage) -> None:
    before = len(page.calls())
    found = page.client.predict(message=QUESTION, max_new_tokens=48, api_name="/compare")
    assert found["verdict"]["identical"]
    assert found["ar"]["figures"]["num_steps"] == 47 > found["dflash"]["figures"]["num_steps"]
    assert len(page.calls()) - before == 2  # the warm-up of the lanes, and the race


@pytest.mark.slow
def test_no_thread_outlives_its_call(page: ZeroGpuPage) -> None:
    page.client.predict(message=QUESTION, max_new_tokens=8, api_name="/chat")
    for call in page.calls():
        assert not [name for name in call["threads"] if "decode" in name], call


@pytest.mark.slow
def test_stop_ends_the_call_between_two_yields(page: ZeroGpuPage) -> None:
    before, slow = len(page.calls()), page.log.with_name("slow")
    slow.touch()
    job = page.client.submit(message=QUESTION, mode="ar", api_name="/chat")
    while not any(answer["state"] == "running" for answer in job.outputs()):
        assert not job.done()
        time.sleep(0.01)
    job.cancel()
    while len(page.calls()) == before:
        time.sleep(0.01)
    while (run := newest_run(page.app))["finish_reason"] is None:
        time.sleep(0.01)
    slow.unlink()
    assert run["finish_reason"] == "cancelled"
    assert 0 < page.calls()[-1]["yields"] < 20
    again = page.client.predict(message=QUESTION, max_new_tokens=8, api_name="/chat")
    assert again["state"] == "ended"


@pytest.mark.slow
def test_what_is_refused_costs_no_call(page: ZeroGpuPage) -> None:
    before = len(page.calls())
    with pytest.raises(AppError, match="and the model holds"):
        page.client.predict(message="word " * 3000, api_name="/chat")
    assert len(page.calls()) == before


@pytest.mark.slow
def test_the_real_decorator_changes_nothing_outside_zero_gpu(
    embedded: Pair, text: str, beside_no_gpu: None
) -> None:
    loaded = ZeroGpuBackend().load(embedded, LoadOptions())
    assert text_of(loaded, max_new_tokens=96) == text
    assert loaded.next_logits(ask(QUESTION), (), (1, 2)) != (0.0, 0.0)
    lanes = {lane for lane, _ in loaded.race([ask(mode="ar"), ask(mode="dflash")])}
    assert lanes == {0, 1}


def no_gpu(calls: list[Any], broken: Exception | None = None) -> Any:
    """A decorator that runs the call where it is, or fails as ZeroGPU does."""

    def gpu(*, duration: Any, size: Any) -> Any:
        def decorate(task: Any) -> Any:
            def call(*args: Any) -> Iterator[Any]:
                calls.append(duration(*args))
                if broken is not None:
                    raise broken
                yield from task(*args)

            return call

        return decorate

    return gpu


def test_models_are_placed_once_on_the_main_thread_and_never_later(
    embedded: Pair, beside_no_gpu: None
) -> None:
    calls: list[Any] = []
    backend = ZeroGpuBackend(no_gpu(calls))
    refused: list[Exception] = []

    def load_later() -> None:
        try:
            backend.load(embedded, LoadOptions())
        except PairNotReady as error:
            refused.append(error)

    later = threading.Thread(target=load_later)
    later.start()
    later.join()
    assert "was not placed on the GPU when this Space started" in str(refused[0])
    placed = backend.load(embedded, LoadOptions())
    placed.close()
    assert backend.load(embedded, LoadOptions(num_threads=3)) is placed
    assert placed.memory_bytes() > 10e6
    with pytest.raises(LoadError, match="leave device and precision on auto"):
        backend.load(embedded, LoadOptions(dtype="bfloat16"))
    assert calls == []


def test_a_pair_says_what_it_is_without_a_gpu_and_shares_no_thread(
    embedded: Pair, beside_no_gpu: None
) -> None:
    placed = ZeroGpuBackend(no_gpu([])).load(embedded, LoadOptions())
    assert (placed.name, placed.backend, placed.device) == ("embedded", "torch", "cpu")
    assert placed.block_size == 16
    assert placed.token_texts([65]) != []
    assert not isinstance(placed, Entrant)
    with pytest.raises(PromptTooLong, match="and the model holds"):
        placed.stream(ask("word " * 3000))
    assert not [each for each in threading.enumerate() if each.name == "refuse-embedded"]


def test_errors_inside_keep_their_words_and_those_of_zero_gpu_lose_their_links(
    embedded: Pair, beside_no_gpu: None
) -> None:
    class Quota(Exception):
        message = 'You have exceeded your quota. <a href="x">Subscribe</a>.'

    placed = ZeroGpuBackend(no_gpu([], Quota())).load(embedded, LoadOptions())
    with pytest.raises(GenerationFailed) as failed:
        list(placed.stream(ask()))
    assert str(failed.value) == (
        "ZeroGPU gave no result: You have exceeded your quota. Subscribe: try again later."
    )
    whole = ZeroGpuBackend(no_gpu([])).load(embedded, LoadOptions())
    with pytest.raises(PromptTooLong, match="and the model holds"):
        whole.next_logits(ask(), list(range(3000)), (1, 2))


def test_what_crosses_is_sent_in_batches_the_first_at_once() -> None:
    steps = [StepDone((1,), (), 0, None, 0.0, 0.0, 0.0)] * 5
    assert [len(batch) for batch in in_batches(steps, interval_s=60)] == [1, 4]
    assert [len(batch) for batch in in_batches(steps, interval_s=0)] == [1] * 5
    assert list(in_batches([], interval_s=0)) == []


def test_the_announced_time_grows_with_the_request_and_is_bounded() -> None:
    short, long = ask(max_new_tokens=16), ask(max_new_tokens=1024)
    assert 10 <= estimate_gpu_s([short], 0) < estimate_gpu_s([long], 0)
    assert estimate_gpu_s([short], 0) < estimate_gpu_s([short, short], 16_000_000_000)
    assert estimate_gpu_s([long] * 3, 200_000_000_000) == LONGEST_S


def test_spaces_is_imported_on_zero_gpu_only() -> None:
    code = (
        "import sys; from dflash_app.workspace import open_workspace; open_workspace().close();"
        "sys.exit('spaces' in sys.modules or 'torch' in sys.modules or 'gradio' in sys.modules)"
    )
    environment = {name: each for name, each in os.environ.items() if "SPACE" not in name}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0
