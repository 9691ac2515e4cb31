"""A hub server, an empty cache, and pairs on it."""

import json
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.hub.server import HubServer

ROW = """
  - name: {name}
    title: {name}
    family: qwen3
    target: {{repo: org/{name}-T{target}}}
    drafter: {{repo: org/{name}-D{drafter}}}
    backends: [torch]
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's, in this process and in those it starts."""
    from huggingface_hub import constants

    folder = tmp_path / "cache"
    for name, place in (("HF_HUB_CACHE", folder), ("HF_TOKEN_PATH", tmp_path / "token")):
        monkeypatch.setenv(name, str(place))
        monkeypatch.setattr(constants, name, str(place))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "stored_tokens"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return folder


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that this process and those it starts take for the real one."""
    hub = HubServer()
    use_endpoint(hub.url, monkeypatch)
    yield hub
    hub.stop()


def use_endpoint(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, hf_api

    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setattr(hf_api.api, "endpoint", url)  # as `login` uses it
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def model_files(size: int = 2_000_000, seed: int = 0, **config: object) -> dict[str, bytes]:
    """A model's files, with weights of random bytes, and files that nobody needs."""
    weights = random.Random(seed).randbytes(size)
    return {
        "config.json": json.dumps({"model_type": "qwen3", "hidden_size": 64} | config).encode(),
        "generation_config.json": b"{}",
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b'{"a": 1}',
        "model.safetensors": weights,
        "README.md": b"---\nlicense: mit\n---\n",
        "pytorch_model.bin": b"never",
        "modeling_evil.py": b"never",
        "original/consolidated.safetensors": b"never",
    }


def add_pair(
    server: HubServer,
    settings: Settings,
    name: str = "p",
    size: int = 2_000_000,
    *,
    pinned: bool = True,
) -> tuple[str, str]:
    """Serve a pair and know it in the user's registry; the commits of target and drafter."""
    target = server.add(f"org/{name}-T", model_files(size, 1))
    drafter = server.add(f"org/{name}-D", model_files(size // 4, 2))
    marks = [f", revision: {commit}" if pinned else "" for commit in (target, drafter)]
    row = ROW.format(name=name, target=marks[0], drafter=marks[1])
    text = settings.user_registry.read_text() if settings.user_registry.exists() else "pairs:\n"
    settings.user_registry.write_text(text + row)
    return target, drafter


def names_here(cache: Path, repo: str) -> list[str]:
    """The files of a repository's snapshots, sorted."""
    folder = cache / f"models--{repo.replace('/', '--')}" / "snapshots"
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def environment() -> dict[str, str]:
    """For a process that this test starts: what the fixtures set, and one thread."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def workspace(server: HubServer, settings: Settings) -> Iterator[Workspace]:
    """A workspace that knows the pair `p`, which the hub has."""
    settings.home.mkdir(exist_ok=True)
    add_pair(server, settings)
    with closing(open_workspace(settings)) as opened:
        yield opened
