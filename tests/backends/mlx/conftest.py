"""Tiny random models, made here: real code paths in milliseconds."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

# The dev extra brings MLX to Linux and to Macs with Apple Silicon; nothing else can run these.
collect_ignore_glob = [] if find_spec("mlx") and find_spec("mlx_lm") else ["test_*.py"]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def target_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny target by its family's name, written once."""
    from tests.backends.mlx.tiny_models import write_target

    written: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in written:
            written[name] = tmp_path_factory.mktemp("target")
            write_target(name, written[name])
        return written[name]

    return folder
