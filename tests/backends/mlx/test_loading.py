"""Every way a folder becomes a model on MLX, and what is refused with which cure."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import torch
from mlx_lm.utils import load_model, quantize_model, save_model
from safetensors.torch import load_file, save_file

from dflash_app.backends.mlx.device import choose_device, say_device
from dflash_app.backends.mlx.lane import MlxLane
from dflash_app.backends.mlx.loading import choose_dtype, load_drafter, load_models, load_target
from dflash_app.backends.mlx.target import MlxTarget
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.backends.torch.selftest.decoding import run_lane
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import BackendUnavailable, LoadError, UnsupportedFormat
from tests.backends.mlx.oracle import GREEDY, OracleLane
from tests.backends.mlx.tiny_models import write_target
from tests.backends.torch.drafter_files import random_drafter

PROMPT = [5, 17, 3, 42, 8, 11, 29]
WIDE = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
"""Rows that fill a quantisation group."""
NUM_TOKENS = 60


@pytest.fixture
def drafter_dir(tmp_path: Path) -> Path:
    save_drafter(random_drafter(), tmp_path / "drafter")
    return tmp_path / "drafter"


@pytest.fixture(scope="module")
def wide_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    write_target("qwen3", folder, **WIDE)
    return folder


def convert(folder: Path, to: Path, bits: int, **options: Any) -> Path:
    """Write what `mlx_lm.convert` would: an mlx-community checkpoint."""
    model, config = load_model(folder)
    model, config = quantize_model(model, config, group_size=64, bits=bits, **options)
    to.mkdir(exist_ok=True)
    save_model(to, model)
    (to / "config.json").write_text(json.dumps(config))
    return to


def lossless_up_to_near_ties(target: MlxTarget) -> int:
    """Forces every accepted length; a token may differ where the target's own margin is noise.

    Returns:
        How many tokens were compared before the first near tie.
    """
    truth = run_lane(MlxLane(target, None, GREEDY), PROMPT, NUM_TOKENS, num_draft=0).token_ids
    lane = OracleLane(target, PROMPT, truth, [0, 3, 7, 1, 5, 2, 6, 4] * 3)
    found = run_lane(lane, PROMPT, NUM_TOKENS - 8, num_draft=7).token_ids
    for index, (one, other) in enumerate(zip(found, truth, strict=False)):
        if one != other:
            ids = mx.array([*PROMPT, *truth[:index]])
            logits = target.forward(ids, target.new_cache(), 1)[0][0].astype(mx.float32)
            assert abs(float(logits[one] - logits[other])) < 0.1, index
            return index
    return len(found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["qwen3", "qwen3_5", "gemma4_text"])
def test_each_precision_decodes_alike_up_to_near_ties(
    name: str, dtype: str, target_folder: Callable[[str], Path]
) -> None:
    models = load_models(target_folder(name), None, LoadOptions(dtype=dtype))
    assert models.dtype == dtype
    assert models.quantization is None
    assert bool(models.warnings) is (dtype != "float32")
    num_compared = lossless_up_to_near_ties(models.target)
    assert num_compared == NUM_TOKENS - 8 or dtype != "float32"


@pytest.mark.parametrize("name", ["gpt_oss", "gemma4_text"])
def test_a_target_that_one_thread_loaded_answers_on_another(
    name: str, target_folder: Callable[[str], Path]
) -> None:
    # Their rotations keep frequencies that are no parameters.
    with ThreadPoolExecutor(1) as pool:
        target = pool.submit(load_target, target_folder(name), mx.float32).result()
    logits, _ = target.forward(mx.array(PROMPT), target.new_cache(), 1)
    assert mx.isfinite(logits).all()


def test_a_recurrences_decay_stays_in_full_precision(
    target_folder: Callable[[str], Path],
) -> None:
    target = load_target(target_folder("qwen3_5"), mx.bfloat16)
    mixer = target._text.model.layers[0].linear_attn
    assert mixer.A_log.dtype == mx.float32
    assert mixer.conv1d.weight.dtype == mx.bfloat16


def test_experts_in_half_precision_on_the_cpu_are_refused_before_they_fail(
    target_folder: Callable[[str], Path],
) -> None:
    with pytest.raises(LoadError, match="choose float32"):
        load_models(target_folder("gpt_oss"), None, LoadOptions(device="cpu", dtype="bfloat16"))


@pytest.mark.parametrize("bits", [4, 8])
def test_an_mlx_community_checkpoint_stays_quantised_and_is_lossless_up_to_near_ties(
    bits: int, wide_dir: Path, tmp_path: Path
) -> None:
    models = load_models(convert(wide_dir, tmp_path, bits), None)
    assert models.quantization == f"{bits}bit"
    assert models.memory_bytes() < load_models(wide_dir, None).memory_bytes() / 2
    assert lossless_up_to_near_ties(models.target) > 8


def test_a_full_checkpoint_is_quantised_on_load_as_mlx_lm_would(
    wide_dir: Path, tmp_path: Path
) -> None:
    converted = load_target(convert(wide_dir, tmp_path, 4), mx.float32)
    target = load_target(wide_dir, mx.float32, "4bit")
    ids = mx.array(PROMPT)
    found, _ = target.forward(ids, target.new_cache(), 1)
    expected, _ = converted.forward(ids, converted.new_cache(), 1)
    assert mx.allclose(found, expected, atol=1e-5)
    assert target.quantization == "4bit"


def test_a_drafter_is_quantised_on_load_and_drafts_losslessly(
    wide_dir: Path, tmp_path: Path
) -> None:
    save_drafter(random_drafter(**WIDE), tmp_path)
    full = load_models(wide_dir, tmp_path)
    models = load_models(wide_dir, tmp_path, LoadOptions(drafter_quantization="4bit"))
    assert (models.drafter_quantization, models.quantization) == ("4bit", None)
    assert models.memory_bytes() < full.memory_bytes()
    truth = run_lane(full.open_lane(GREEDY, "ar"), PROMPT, 30, num_draft=0).token_ids
    assert run_lane(models.open_lane(GREEDY, "dflash"), PROMPT, 30, num_draft=7).token_ids == truth
    assert load_drafter(tmp_path, mx.float32, "8bit").fc.bits == 8


def test_wide_blocks_on_a_target_in_fewer_bits_are_doubted(wide_dir: Path, tmp_path: Path) -> None:
    save_drafter(random_drafter(**WIDE), tmp_path)
    said = load_models(wide_dir, tmp_path, LoadOptions(quantization="8bit")).warnings
    assert any("adaptive drafts measure that" in sentence for sentence in said)
    assert not load_models(wide_dir, tmp_path).warnings


def test_a_quantised_checkpoint_is_not_quantised_again(wide_dir: Path, tmp_path: Path) -> None:
    folder = convert(wide_dir, tmp_path, 8)
    with pytest.raises(UnsupportedFormat, match=r"stored as 8bit already.*leave the precision"):
        load_target(folder, mx.float32, "4bit")


def test_foreign_quantisation_is_refused_with_the_cure(wide_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(wide_dir, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedFormat, match=r"bitsandbytes.*mlx-community.*torch backend"):
        load_target(tmp_path, mx.float32)
    with pytest.raises(UnsupportedFormat, match=r"nf4: use 4bit or 8bit"):
        load_target(wide_dir, mx.float32, "nf4")


def test_eos_ids_come_from_every_config(
    target_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(target_folder("qwen3"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "eos_token_id": 3}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [4, 5]}))
    assert load_models(tmp_path, None, eos_ids=[9]).eos_ids == {3, 4, 5, 9}


def test_a_weight_that_is_no_number_is_named(
    target_folder: Callable[[str], Path], drafter_dir: Path, tmp_path: Path
) -> None:
    for folder in (tmp_path / "target", drafter_dir):
        if folder != drafter_dir:
            shutil.copytree(target_folder("qwen3"), folder)
        weights = load_file(folder / "model.safetensors")
        name = sorted(weights)[-1]
        weights[name].view(-1)[0] = float("nan")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"norm\.weight of the target.*no finite numbers"):
        load_target(tmp_path / "target", mx.float32)
    with pytest.raises(LoadError, match=r"norm\.weight of the drafter.*no finite numbers"):
        load_drafter(drafter_dir, mx.float32)


def test_damaged_and_incomplete_targets_are_refused_with_the_cure(
    target_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(target_folder("qwen3"), tmp_path, dirs_exist_ok=True)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoadError, match="download it again"):
        load_target(tmp_path, mx.float32)
    weights = load_file(target_folder("qwen3") / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"Missing 1 parameters: model\.norm\.weight"):
        load_target(tmp_path, mx.float32)
    file.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsupportedFormat, match="never opened"):
        load_target(tmp_path, mx.float32)


def test_a_models_own_code_is_never_run(
    target_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(target_folder("qwen3"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_file": "model.py"}))
    (tmp_path / "model.py").write_text("raise SystemExit('run')")
    with pytest.raises(LoadError, match="disabled"):
        load_target(tmp_path, mx.float32)


def test_a_drafter_of_another_target_is_refused(wide_dir: Path, drafter_dir: Path) -> None:
    with pytest.raises(LoadError, match=r"hidden size: 32 against 64"):
        load_models(wide_dir, drafter_dir)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "auto"}, "one device"),
        ({"max_memory_bytes": 10}, "one device"),
        ({"snapshot": True}, "torch backend"),
        ({"dtype": "int3"}, "float32, bfloat16, float16"),
    ],
)
def test_options_that_mlx_has_not_are_refused(
    options: dict[str, Any], said: str, target_folder: Callable[[str], Path]
) -> None:
    with pytest.raises(LoadError, match=said):
        load_models(target_folder("qwen3"), None, LoadOptions(**options))


def test_devices_are_named_as_mlx_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert say_device(choose_device("cpu")) == "cpu"
    assert choose_dtype(None, mx.Device(mx.cpu)) == mx.float32
    assert choose_dtype(None, mx.Device(mx.gpu)) == mx.bfloat16
    with pytest.raises(BackendUnavailable, match="use gpu or cpu"):
        choose_device("cuda:0")
    monkeypatch.setattr(mx, "is_available", lambda device: device == mx.cpu)
    assert say_device(choose_device(None)) == "cpu"
    with pytest.raises(BackendUnavailable, match=r"no GPU \(Metal\) here: choose cpu"):
        choose_device("gpu")


def test_speculators_drafter_with_a_draft_vocabulary_loads(tmp_path: Path) -> None:
    from tests.backends.torch.drafter_files import VOCAB, speculators_config, write_drafter

    drafter = random_drafter()
    torch.manual_seed(3)
    known = torch.randperm(VOCAB)[:40].sort().values
    state = {
        **drafter.state_dict(),
        "embed_tokens.weight": torch.randn(VOCAB, 32),
        "lm_head.weight": torch.randn(40, 32),
        "d2t": known - torch.arange(40),
        "t2d": torch.zeros(VOCAB, dtype=torch.bool),
    }
    folder = write_drafter(tmp_path / "speculators", speculators_config(draft_vocab_size=40), state)
    loaded = load_drafter(folder, mx.float32)
    hidden = mx.random.normal((3, 32))
    logits = loaded.logits(hidden, lambda states: states)
    assert logits.shape == (3, VOCAB)
    expected = hidden @ mx.array(state["lm_head.weight"].numpy()).T
    assert mx.allclose(logits[:, mx.array(known.numpy())], expected, atol=1e-5)
    assert mx.isinf(logits).sum().item() == 3 * (VOCAB - 40)
    rows = loaded.embed(mx.array([4]), lambda ids: ids)
    assert mx.allclose(rows[0], mx.array(state["embed_tokens.weight"][4].numpy()))
