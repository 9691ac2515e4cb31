from collections.abc import Iterator
from pathlib import Path

import pytest

from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "home" / "runs.db"


@pytest.fixture
def store(database: Path) -> Iterator[Store]:
    with Store(database) as opened:
        yield opened


@pytest.fixture
def start() -> RunStart:
    return RunStart(
        source="chat",
        pair="embedded",
        backend="torch",
        device="cpu",
        dtype="float32",
        mode="dflash",
        messages=({"role": "user", "content": "How many divisors has 196?"},),
        target_revision="abc",
        rollback_kind="replay",
        quantization="nf4",
        drafter_quantization="int8",
        path="dynamic cache: recurrent layers",
        drafter_path="static cache",
        policy="adaptive",
        block_size=32,
        trained_block_size=16,
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        seed=2**63 - 1,
        stop=("END",),
        owner="visitor-1",
        task="GSM8K",
    )
