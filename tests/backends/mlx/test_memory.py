"""What MLX holds after a run is what it held before."""

import gc
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from dflash_app.backends.mlx.loading import load_drafter, load_target
from dflash_app.backends.mlx.models import MlxModels
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.backends.torch.selftest.decoding import run_lane
from tests.backends.mlx.oracle import GREEDY
from tests.backends.torch.drafter_files import random_drafter

NUM_RUNS = 200


@pytest.mark.parametrize("name", ["qwen3", "gpt_oss", "qwen3_5"])
def test_200_generations_hold_no_more_than_the_first(
    name: str, target_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    save_drafter(random_drafter(), tmp_path)
    target = load_target(target_folder(name), mx.float32)
    models = MlxModels(target, load_drafter(tmp_path, mx.float32))
    prompt = [5, 17, 3, 42, 8]
    held = []
    for number in range(NUM_RUNS):
        lane = models.open_lane(GREEDY, "dflash" if number % 4 else "ar", None, prompt)
        run_lane(lane, prompt, 6, num_draft=7)
        lane.close()
        if number in (9, NUM_RUNS - 1):
            models.open_lane(GREEDY, "ar").close()  # frees what the last lane left for the next
            gc.collect()
            mx.synchronize()
            held.append(mx.get_active_memory())
    assert held[1] <= held[0]


def test_a_closed_pair_frees_its_weights(target_folder: Callable[[str], Path]) -> None:
    gc.collect()
    before = mx.get_active_memory()
    models = MlxModels(load_target(target_folder("qwen3"), mx.float32), None)
    assert mx.get_active_memory() >= before + models.memory_bytes() > before
    models.close()
    assert models.memory_bytes() == 0
    assert mx.get_active_memory() <= before


def test_tied_weights_count_once(target_folder: Callable[[str], Path]) -> None:
    tied = load_target(target_folder("gemma4_text"), mx.float32)
    assert "lm_head" not in tied.model
    file = target_folder("gemma4_text") / "model.safetensors"
    assert tied.memory_bytes() < file.stat().st_size
