"""The five sets of the hub, read by the real `datasets` library from files in their own schemas."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pytest
from dflash_plugins.benchmark import hub_sets
from dflash_plugins.benchmark.hub_sets import HubSet

from dflash_app.errors import HubError, HubOffline, PluginError
from dflash_app.hookspecs import Question
from tests.hub.conftest import use_endpoint
from tests.hub.server import HubServer

Rows = list[dict[str, Any]]
BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache on a machine without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    return tmp_path / "hub"


def put(cache: Path, source: HubSet, name: str, rows: Rows) -> None:
    """Lay a file where a download of the pinned revision would have laid it."""
    folder = f"datasets--{source.repo.replace('/', '--')}"
    path = cache / folder / "snapshots" / source.revision / name
    path.parent.mkdir(parents=True)
    if source.builder == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_gsm8k_asks_for_a_box_and_keeps_the_number_after_the_hashes(cache: Path) -> None:
    rows = [
        {"question": "How many?", "answer": "2 * 9 = <<2*9=18>>18\n#### 18"},
        {"question": "And {now}?", "answer": "#### 1,080"},
    ]
    put(cache, hub_sets.GSM8K, "main/test-00000-of-00001.parquet", rows)
    assert list(hub_sets.load_gsm8k()) == [
        Question("0", ("How many?" + BOXED,), answer="18"),
        Question("1", ("And {now}?" + BOXED,), answer="1,080"),
    ]


def test_math500_is_known_by_its_unique_id(cache: Path) -> None:
    row = {
        "problem": "Compute $\\frac12+1$.", "solution": "It is $\\boxed{\\frac{3}{2}}$.",
        "answer": "\\frac{3}{2}", "subject": "Algebra", "level": 2,
        "unique_id": "test/algebra/1.json",
    }  # fmt: skip
    put(cache, hub_sets.MATH500, "test.jsonl", [row])
    assert list(hub_sets.load_math500()) == [
        Question("test/algebra/1.json", ("Compute $\\frac12+1$." + BOXED,), answer="\\frac{3}{2}")
    ]


def test_humaneval_stands_in_a_fence_and_has_no_answer(cache: Path) -> None:
    row = {
        "task_id": "HumanEval/0", "prompt": "def f(x):\n    '''{x}'''\n", "test": "assert f(1)",
        "canonical_solution": "    return x\n", "entry_point": "f",
    }  # fmt: skip
    put(cache, hub_sets.HUMANEVAL, "openai_humaneval/test-00000-of-00001.parquet", [row])
    (question,) = hub_sets.load_humaneval()
    assert question == Question(
        "HumanEval/0",
        (
            "Write a solution to the following problem and make sure that it passes the tests:\n"
            "```python\ndef f(x):\n    '''{x}'''\n\n```",
        ),
    )


def test_mbpp_is_asked_as_it_is(cache: Path) -> None:
    row = {
        "source_file": "a.ipynb", "task_id": 11, "prompt": "Write a python function to remove.",
        "code": "def remove(): ...", "test_imports": [], "test_list": ["assert remove()"],
    }  # fmt: skip
    put(cache, hub_sets.MBPP, "sanitized/test-00000-of-00001.parquet", [row])
    assert list(hub_sets.load_mbpp()) == [Question("11", ("Write a python function to remove.",))]


def test_mt_bench_keeps_both_turns(cache: Path) -> None:
    row = {
        "category": "writing", "prompt": ["Compose a post.", "Rewrite it."], "reference": [],
        "prompt_id": 43871019,
    }  # fmt: skip
    put(cache, hub_sets.MT_BENCH, "data/train-00000-of-00001-e8a2a0c8a5b0c1f0.parquet", [row])
    assert list(hub_sets.load_mt_bench()) == [
        Question("43871019", ("Compose a post.", "Rewrite it."))
    ]


@pytest.mark.parametrize(
    "load", [hub_sets.load_gsm8k, hub_sets.load_math500, hub_sets.load_mt_bench]
)
def test_offline_and_not_in_the_cache_is_one_sentence(load: Callable[[], Any]) -> None:
    with pytest.raises(HubOffline, match=r"^\S+ cannot be fetched, HF_HUB_OFFLINE is set: unset"):
        list(load())


def test_a_hub_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubOffline, match=r"openai/gsm8k cannot be fetched, the hub does not ans"):
        list(hub_sets.load_gsm8k())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub on this machine."""
    server = HubServer()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    use_endpoint(server.url, monkeypatch)
    yield server
    server.stop()


def test_what_is_not_in_the_cache_is_downloaded_once_at_its_revision(
    hub: HubServer, tmp_path: Path
) -> None:
    path = tmp_path / "test.parquet"
    datasets.Dataset.from_list([{"task_id": 7, "prompt": "Write."}]).to_parquet(path)
    files = {"sanitized/test-0.parquet": path.read_bytes(), "full/test-0.parquet": b"other"}
    source = replace(hub_sets.MBPP, revision=hub.add(hub_sets.MBPP.repo, files))
    hub.add(source.repo, {"sanitized/test-0.parquet": b"a later commit"})
    assert list(hub_sets.load_hub_set(source)) == [Question("7", ("Write.",))]
    assert hub.asked("full/test-0.parquet") == []
    num_requests = len(hub.requests)
    assert len(list(hub_sets.load_hub_set(source))) == 1
    assert len(hub.requests) == num_requests


def test_a_set_that_is_gone_is_named(hub: HubServer) -> None:
    with pytest.raises(HubError, match="google-research-datasets/mbpp is not on the hub"):
        list(hub_sets.load_mbpp())


def test_another_revision_in_the_cache_is_not_taken(cache: Path) -> None:
    other = HubSet("openai/gsm8k", "0" * 40, "main/test-*.parquet", "parquet", lambda *_: 1 / 0)
    put(cache, other, "main/test-00000-of-00001.parquet", [{"question": "?", "answer": "#### 1"}])
    with pytest.raises(HubOffline):
        list(hub_sets.load_gsm8k())


def test_without_the_library_the_sentence_has_the_pip_command(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, hub_sets.MBPP, "sanitized/test-0.parquet", [{"task_id": 1, "prompt": "Write."}])
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PluginError, match=r"run `pip install 'dflash-studio\[benchmark\]'`"):
        list(hub_sets.load_mbpp())


def test_a_file_of_another_schema_is_named(cache: Path) -> None:
    put(cache, hub_sets.GSM8K, "main/test-0.parquet", [{"query": "?", "answer": "#### 1"}])
    with pytest.raises(HubError, match=r"files of openai/gsm8k are not what they were \(KeyError"):
        list(hub_sets.load_gsm8k())


def test_a_damaged_file_is_named(cache: Path) -> None:
    put(cache, hub_sets.MATH500, "test.jsonl", [{"problem": "?"}])
    next(cache.rglob("test.jsonl")).write_text('{"problem": ')
    with pytest.raises(HubError, match="files of HuggingFaceH4/MATH-500 are not what they were"):
        list(hub_sets.load_math500())
