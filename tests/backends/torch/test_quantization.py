"""Fewer bits: what bitsandbytes stores is lossless, and quantised checkpoints load or say why not.

All on a CPU and for real: bitsandbytes has kernels for it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from dflash_app.backends.torch import quantization
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.loading import check_options, load_models
from dflash_app.backends.torch.selftest.oracle import OracleLane
from dflash_app.backends.torch.selftest.tiny_families import VOCAB_SIZE, build_model
from dflash_app.backends.torch.target import TorchTarget, load_target
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import BackendUnavailable, DFlashAppError, LoadError, UnsupportedFormat
from dflash_app.request import SamplingParams
from dflash_app.verdict import NEAR_TIE_LOGITS
from tests.backends.torch.stored import edit_config, rewrite_weights, write_fp8, write_mxfp4

CPU = torch.device("cpu")
GREEDY = SamplingParams()
BLOCK_SIZE = 8
PROMPT = Random(5).choices(range(VOCAB_SIZE), k=30)
SIZES: dict[str, dict[str, int]] = {
    "qwen3": {},
    "qwen3_5_text": {"linear_key_head_dim": 32, "linear_value_head_dim": 32},
    "gpt_oss": {"intermediate_size": 64},
}
"""Of the families here, wide enough for blocks of 64."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Full checkpoints by family."""
    root = tmp_path_factory.mktemp("plain")
    for name, sizes in SIZES.items():
        wide = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, **sizes}
        build_model(name, **wide).save_pretrained(root / name)
    return {name: root / name for name in SIZES}


@pytest.fixture(scope="module")
def check_lossless(run_lane: Callable[..., Any]) -> Callable[[TorchTarget], None]:
    """Compare DFlash with plain decoding for every accepted length, twice.

    In int8 a last bit may flip the rounding of an activation: there one near tie may, too.
    """

    def check(target: TorchTarget) -> None:
        accepted = Random(1).sample([*range(BLOCK_SIZE)] * 2, k=2 * BLOCK_SIZE)
        length = 1 + sum(accepted) + len(accepted)
        lane = TorchLane(target, None, GREEDY)
        truth: list[int] = run_lane(lane, PROMPT, length + BLOCK_SIZE, num_draft=0).token_ids
        assert len(set(truth)) > 12  # one token over and over would prove nothing
        forced = OracleLane(target, PROMPT, truth, accepted, corrected=True)
        decoded = run_lane(forced, PROMPT, length, num_draft=BLOCK_SIZE - 1)
        assert decoded.token_ids == truth[:length]
        whole = [step.num_accepted for step in decoded.steps][: len(accepted) - 2]
        if target.quantization != "int8":
            assert forced.divergences == []
            assert whole == accepted[: len(whole)]
        for each in forced.divergences:
            ids = torch.tensor([*PROMPT, *truth][: each.position])
            with torch.inference_mode():
                row = target.forward(ids, None, 1)[0][0]
            assert abs(row[each.expected] - row[each.found]) <= NEAR_TIE_LOGITS["int8"]
        assert len(forced.divergences) <= 1

    return check


def _logits(target: TorchTarget) -> torch.Tensor:
    with torch.inference_mode():
        return target.forward(torch.tensor(PROMPT, device=target.device), None, len(PROMPT))[0]


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_text"])
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_target_in_fewer_bits_is_lossless(
    plain: dict[str, Path],
    check_lossless: Callable[[TorchTarget], None],
    kind: Any,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = load_target(plain[name], CPU, torch.float32, quantization=kind)
    check_lossless(target)
    assert (target.quantization, target.dtype) == (kind, torch.float32)
    held = target.model.model.layers[3].mlp.up_proj
    assert type(held).__name__ == {"nf4": "Linear4bit", "int8": "Linear8bitLt"}[kind]
    assert held.weight.element_size() == 1
    assert type(target.head) is nn.Linear  # the drafter borrows it
    assert "cast" not in caplog.text  # bitsandbytes logs every one of them


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_gates_too_narrow_for_blocks_stay_whole(plain: dict[str, Path], kind: Any) -> None:
    target = load_target(plain["qwen3_5_text"], CPU, torch.float32, quantization=kind)
    gates = target.model.model.layers[0].linear_attn
    assert type(gates.in_proj_b) is type(gates.in_proj_a) is nn.Linear
    assert type(gates.out_proj) is not nn.Linear


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_fewer_bits_compute_in_half_precision(
    plain: dict[str, Path], kind: Any, dtype: torch.dtype
) -> None:
    target = load_target(plain["qwen3"], CPU, dtype, quantization=kind)
    full = load_target(plain["qwen3"], CPU, torch.float32)
    assert _logits(target).dtype == target.dtype == dtype
    near = torch.nn.functional.cosine_similarity(_logits(target).float(), _logits(full), dim=-1)
    assert near.min() > 0.8


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_quantised_drafter_is_lossless_and_drafts_nearly_the_same(
    plain: dict[str, Path],
    make_drafter: Callable[..., Any],
    run_lane: Callable[..., Any],
    tmp_path: Path,
    kind: Any,
) -> None:
    wide = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    save_drafter(make_drafter(VOCAB_SIZE, **wide), tmp_path / "drafter")
    options = LoadOptions(device="cpu", drafter_quantization=kind)
    models = load_models(plain["qwen3"], tmp_path / "drafter", options)
    whole = load_models(
        plain["qwen3"], tmp_path / "drafter", LoadOptions("cpu"), target=models.target
    )
    assert (models.quantization, models.drafter_quantization) == (None, kind)
    assert (models.path, whole.drafter_path) == ("static cache", "static cache")
    assert models.drafter_path == "dynamic cache: quantised weights"
    assert models.memory_bytes() < whole.memory_bytes()
    expected = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 24, num_draft=0).token_ids
    drafted = []
    for each in (models, whole):
        decoded = run_lane(each.open_lane(GREEDY, "dflash"), PROMPT, 24)
        assert decoded.token_ids == expected
        drafted.append([token for step in decoded.steps for token in step.drafted_ids])
    same = [one == other for one, other in zip(*drafted, strict=False)]
    assert sum(same) / len(same) > 0.6


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_checkpoint_saved_by_bitsandbytes_loads_as_it_was(
    plain: dict[str, Path], tmp_path: Path, kind: Any
) -> None:
    made = load_target(plain["qwen3"], CPU, torch.float32, quantization=kind)
    expected = _logits(made)
    made.model.save_pretrained(tmp_path)
    again = load_target(tmp_path, CPU, torch.float32)
    assert again.quantization == kind
    assert torch.equal(_logits(again), expected)


def test_an_int8_checkpoint_that_sets_outliers_apart_is_made_batch_invariant(
    plain: dict[str, Path], check_lossless: Callable[[TorchTarget], None], tmp_path: Path
) -> None:
    published: Any = AutoModelForCausalLM.from_pretrained(
        plain["qwen3"], quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map="cpu"
    )
    published.save_pretrained(tmp_path / "int8")
    assert published.model.layers[0].mlp.up_proj.state.threshold == 6.0
    target = load_target(tmp_path / "int8", CPU, torch.float32)
    assert target.model.model.layers[0].mlp.up_proj.state.threshold == 0.0
    check_lossless(target)


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [("qwen3", write_fp8, "fp8"), ("gpt_oss", write_mxfp4, "mxfp4")],
)
def test_a_packed_checkpoint_is_unpacked_to_the_numbers_that_it_stands_for(
    plain: dict[str, Path],
    check_lossless: Callable[[TorchTarget], None],
    tmp_path: Path,
    name: str,
    write: Callable[[Path, Path], dict[str, torch.Tensor]],
    says: str,
) -> None:
    stands_for = write(plain[name], tmp_path / "packed")
    target = load_target(tmp_path / "packed", CPU, torch.float32)
    state = target.model.state_dict()
    for key, expected in stands_for.items():
        assert torch.allclose(state[key], expected, rtol=1e-6)
    assert target.quantization == f"{says}, unpacked"
    assert f"packed ({says}) and are unpacked to float32" in target.warnings[0]
    check_lossless(target)
    half = load_target(tmp_path / "packed", CPU, torch.bfloat16)
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    assert _logits(half).isfinite().all()


def test_scales_that_nobody_reads_are_a_refusal_and_not_noise(
    plain: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("packed", "whole"):
        write_fp8(plain["qwen3"], tmp_path / name)

    def rename(state: dict[str, torch.Tensor]) -> None:
        key = "model.layers.1.mlp.up_proj.weight_scale_inv"
        state["model.layers.1.mlp.up_proj.own_scale"] = state.pop(key)

    rewrite_weights(tmp_path / "packed", rename)

    def add_a_layer_of_another_head(state: dict[str, torch.Tensor]) -> None:
        state["mtp.layers.0.up_proj.weight_scale_inv"] = torch.ones(2, 2)

    rewrite_weights(tmp_path / "whole", add_a_layer_of_another_head)
    load_target(tmp_path / "whole", CPU, torch.float32)
    with pytest.raises(UnsupportedFormat, match=r"own_scale is not read.*choose the full"):
        load_target(tmp_path / "packed", CPU, torch.float32)


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ({"quant_method": "awq"}, BackendUnavailable, "awq.* `pip install gptqmodel`"),
        ({"quant_method": "gptq"}, BackendUnavailable, "`pip install optimum gptqmodel`"),
        (
            {"quant_method": "compressed-tensors"},
            BackendUnavailable,
            "`pip install compressed-tensors`",
        ),
        ({"quant_method": "aqlm"}, UnsupportedFormat, "by 'aqlm', which is not supported"),
        ({"bits": 4}, UnsupportedFormat, "by 'unknown', which is not supported"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_method_that_cannot_run_here_is_one_sentence_before_any_weight_is_read(
    plain: dict[str, Path],
    tmp_path: Path,
    config: dict[str, Any],
    error: type[DFlashAppError],
    says: str,
    nested: bool,
) -> None:
    folder = tmp_path / "packed"
    shutil.copytree(plain["qwen3"], folder)
    named = {"quantization_config": config}
    edit_config(folder, **({"text_config": named} if nested else named))
    with pytest.raises(error, match=says) as caught:
        check_options(folder, LoadOptions(device="cpu"))
    assert "\n" not in str(caught.value)
    (folder / "model.safetensors").write_bytes(b"not read")
    with pytest.raises(error, match=says):
        load_target(folder, CPU, torch.float32)


def test_what_comes_quantised_is_not_quantised_again(
    plain: dict[str, Path], tmp_path: Path
) -> None:
    write_fp8(plain["qwen3"], tmp_path / "packed")
    with pytest.raises(LoadError, match=r"comes quantised \(fp8\).*nf4: leave the precision"):
        load_target(tmp_path / "packed", CPU, torch.float32, quantization="nf4")


def test_what_belongs_to_mlx_is_refused_with_its_name(
    plain: dict[str, Path], tmp_path: Path
) -> None:
    for options in (
        LoadOptions(device="cpu", quantization="4bit"),
        LoadOptions(device="cpu", drafter_quantization="8bit"),
    ):
        with pytest.raises(UnsupportedFormat, match="use nf4 or int8, or the mlx backend"):
            check_options(plain["qwen3"], options)
    shutil.copytree(plain["qwen3"], tmp_path / "mlx")
    edit_config(tmp_path / "mlx", quantization={"group_size": 64, "bits": 4})
    with pytest.raises(UnsupportedFormat, match=r"by mlx-lm.*use the mlx backend"):
        check_options(tmp_path / "mlx", LoadOptions(device="cpu"))


def test_without_bitsandbytes_the_sentence_says_how_to_get_it(
    plain: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    for options in (
        LoadOptions(device="cpu", quantization="nf4"),
        LoadOptions(device="cpu", drafter_quantization="int8"),
    ):
        with pytest.raises(BackendUnavailable, match=r"pip install 'dflash-studio\[cuda\]'"):
            check_options(plain["qwen3"], options)


def test_a_load_says_what_is_not_exact_and_what_saves_nothing(plain: dict[str, Path]) -> None:
    def warned(name: str, dtype: torch.dtype, **options: Any) -> str:
        return " ".join(load_target(plain[name], CPU, dtype, **options).warnings)

    assert warned("qwen3", torch.float32) == ""
    assert warned("qwen3", torch.float32, quantization="nf4") == ""
    assert "In bfloat16, DFlash and plain" in warned("qwen3", torch.bfloat16)
    assert "In int8 with float32" in warned("qwen3", torch.float32, quantization="int8")
    assert "it saves little memory" in warned("gpt_oss", torch.float32, quantization="int8")
    assert "second forward" in warned("qwen3", torch.float32, snapshot=True)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("name", ["deepseek_v3", "glm_moe_dsa"])
def test_latent_attention_is_lossless_and_int8_leaves_what_it_cannot_read(
    check_lossless: Callable[[TorchTarget], None], tmp_path: Path, name: str, kind: Any
) -> None:
    wide = {"hidden_size": 64, "intermediate_size": 128, "q_lora_rank": 64, "kv_lora_rank": 64}
    build_model(name, every_expert=True, **wide).save_pretrained(tmp_path)
    target = load_target(tmp_path, CPU, torch.float32, quantization=kind)
    attention = target.model.model.layers[0].self_attn
    assert (type(attention.kv_b_proj) is nn.Linear) == (kind == "int8")
    assert type(attention.q_b_proj) is not nn.Linear
    check_lossless(target)
