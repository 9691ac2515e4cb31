"""The app with an empty cache, and a hub on this machine that serves pairs to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dflash_app.settings import EMBEDDED_DIR
from tests.e2e.running_app import RunningApp, start_app
from tests.e2e.tiny_pair import write_tiny_pair
from tests.hub.server import HubServer

ROWS = """pairs:
  - name: served
    title: Number puzzles
    family: qwen3
    target: {{repo: studio/puzzle-target, revision: {0}, licence: MIT, size_bytes: 9_728_000}}
    drafter: {{repo: studio/puzzle-drafter, revision: {1}, licence: MIT, size_bytes: 2_820_000}}
    block_size: 16
    backends: [torch, mlx]
    benchmarks:
      - source: recipes/embedded_pair
        setup: PyTorch, 2 CPU cores, temperature 0
        results: [{{task: divisors, speedup: 3.9, acceptance_length: 8.9}}]
  - name: gated
    title: A gated pair
    family: qwen3
    target: {{repo: studio/gated-target, gated: true, licence: custom}}
    drafter: {{repo: studio/gated-drafter}}
    block_size: 8
    backends: [torch]
"""


@contextmanager
def start_hub_app(home: Path) -> Iterator[tuple[RunningApp, HubServer]]:
    """Run hub and app until the block is left; the hub sends slowly, at about 1.3 MB a second."""
    hub = HubServer()
    hub.pause_s = 0.05
    write_tiny_pair(home / "tiny", home / "unused.yaml")
    commits = [
        hub.add(f"studio/{name}-{role}", files_of(folder / role), gated=name == "gated")
        for name, folder in (("puzzle", EMBEDDED_DIR), ("gated", home / "tiny"))
        for role in ("target", "drafter")
    ]
    (home / "model_registry.yaml").write_text(ROWS.format(*commits))
    places = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_CACHE": str(home / "huggingface" / "hub"),
        "HF_TOKEN_PATH": str(home / "huggingface" / "token"),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    try:
        with start_app(home, **places) as app:
            yield app, hub
    finally:
        hub.stop()


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of a folder's files, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
