"""From folders to models: what loads, and what is refused in one sentence with the cure."""

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dflash_app.backends.torch import decode_path, loading
from dflash_app.backends.torch.checkpoint import load_drafter, save_drafter
from dflash_app.backends.torch.fast import FastTarget
from dflash_app.backends.torch.fast.products import choose_kernels
from dflash_app.backends.torch.loading import choose_device, choose_dtype, load_models
from dflash_app.backends.torch.selftest.tiny_families import UNLISTED, build_model
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import BackendUnavailable, LoadError, UnsupportedFormat
from dflash_app.request import SamplingParams

CPU = LoadOptions(device="cpu")


@pytest.fixture
def folders(
    make_target: Callable[..., Any], make_drafter: Callable[..., Any], tmp_path: Path
) -> tuple[Path, Path]:
    """A target and a drafter on disk."""
    make_target("qwen3", 96, eos_token_id=7).model.save_pretrained(tmp_path / "target")
    save_drafter(make_drafter(96), tmp_path / "drafter")
    return tmp_path / "target", tmp_path / "drafter"


def _edit(path: Path, **changes: Any) -> None:
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_pair_loads_in_the_asked_precision_and_generates(folders: tuple[Path, Path]) -> None:
    for dtype in ("float32", "bfloat16", "float16"):
        models = load_models(*folders, LoadOptions(device="cpu", dtype=dtype))
        assert (models.device, models.dtype) == ("cpu", dtype)
        assert (models.block_size, models.context_length) == (16, 512)
        lane = models.open_lane(SamplingParams(), "dflash")
        lane.extend([1, 2, 3])
        lane.first_token()
        assert len(lane.verify(lane.propose(15)).drafted_ids) == 15


def test_loading_is_silent_and_leaves_transformers_logging_as_it_was(
    folders: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    load_models(*folders, CPU)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_sharded_weights_load_like_one_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    whole = load_models(*folders, CPU)
    model = load_models(*folders, CPU, fast=False).target.model
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    sharded = load_models(tmp_path / "shards", folders[1], CPU)
    # Products of one row differ in the last bit where weights lie at other addresses.
    expected = pytest.approx(whole.next_logits([1, 2, 3], [0, 5]), abs=1e-5)
    assert sharded.next_logits([1, 2, 3], [0, 5]) == expected


def test_eos_ids_come_from_both_configs_and_the_caller(folders: tuple[Path, Path]) -> None:
    (folders[0] / "generation_config.json").write_text('{"eos_token_id": [8, 9]}')
    assert load_models(*folders, CPU, eos_ids=[11]).eos_ids == {7, 8, 9, 11}


def test_the_drafter_can_be_left_out_or_changed_under_the_same_target(
    folders: tuple[Path, Path],
) -> None:
    alone = load_models(*folders, LoadOptions(device="cpu", drafter=False))
    assert alone.block_size is None
    both = load_models(*folders, CPU, target=alone.target)
    assert both.block_size == 16
    assert both.target is alone.target


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_dense_pair_decodes_on_the_fast_path_unless_kept_from_it(
    folders: tuple[Path, Path], dtype: str
) -> None:
    options = LoadOptions(device="cpu", dtype=dtype)
    models = load_models(*folders, options)
    assert isinstance(models.target, FastTarget)
    assert (models.path, models.drafter_path) == ("static cache", "static cache")
    kept = load_models(*folders, options, fast=False)
    assert not isinstance(kept.target, FastTarget)
    assert (kept.path, kept.drafter_path) == ("dynamic cache", "dynamic cache")
    assert (models.warnings, models.eos_ids) == (kept.warnings, kept.eos_ids)
    alone = load_models(*folders, replace(options, drafter=False), target=kept.target)
    assert (alone.target, alone.drafter_path) == (kept.target, None)


def test_what_is_kept_from_the_fast_path_says_why(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    by_snapshots = load_models(*folders, LoadOptions(device="cpu", snapshot=True))
    assert by_snapshots.path == "dynamic cache: snapshots"
    assert by_snapshots.drafter_path == "static cache"
    on_disk = load_models(*folders, LoadOptions(device="auto", max_memory_bytes=1))
    assert on_disk.path == "dynamic cache: weights in several places"
    for name, reason in {
        "qwen3_next": "recurrent layers",
        "qwen3_moe": "mixture of experts",
        "gemma4_text": "sliding window",
        "deepseek_v3": "mixture of experts",
    }.items():
        build_model(name, whole=True).save_pretrained(tmp_path / name)
        assert load_models(tmp_path / name, None, CPU).path == f"dynamic cache: {reason}"


def test_weights_that_find_no_room_to_be_laid_out_are_refused(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(decode_path, "FastTarget", full)
    with pytest.raises(LoadError, match=r"do not fit into the memory of cpu .*choose nf4"):
        load_models(*folders, CPU)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("fast", [False, True])
def test_memory_is_what_the_weights_take_up(
    folders: tuple[Path, Path], make_drafter: Callable[..., Any], rounded: bool, fast: bool
) -> None:
    """Kernels may hold a copy of each linear weight, or half of it in its place."""
    if rounded:
        for folder in folders:
            state = load_file(folder / "model.safetensors")
            halved = {name: each.bfloat16() for name, each in state.items()}
            save_file(halved, folder / "model.safetensors", {"format": "pt"})
    models = load_models(*folders, CPU, fast=fast)
    plain = load_models(*folders, CPU, fast=False).memory_bytes()
    modules = [load_models(*folders, CPU, fast=False).target.model, make_drafter(96)]
    assert plain == sum(each.nbytes for module in modules for each in module.parameters())
    if not fast:
        assert models.memory_bytes() == plain
    elif rounded and choose_kernels(torch.ones(1), 0).half:
        assert 0.5 * plain < models.memory_bytes() < 0.7 * plain
    else:
        assert plain < models.memory_bytes() < 2.2 * plain


@pytest.fixture
def threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_kept")
def test_num_threads_is_set_on_the_loading_thread(folders: tuple[Path, Path]) -> None:
    load_models(*folders, LoadOptions(device="cpu", num_threads=2))
    assert torch.get_num_threads() == 2
    load_models(*folders, LoadOptions(device="cpu", num_threads=1))
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("model", "damage"),
    [("target", "cut"), ("target", "noise"), ("drafter", "cut"), ("drafter", "noise")],
)
def test_damaged_weights_are_named_with_the_cure(
    folders: tuple[Path, Path], model: str, damage: str
) -> None:
    file = folders[model == "drafter"] / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff" * 64)
    with pytest.raises(LoadError, match="download it again") as caught:
        load_models(*folders, CPU)
    assert str(file.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{not json", "[]", "\x00", None])
@pytest.mark.parametrize("model", [0, 1])
def test_unreadable_configs_are_named(
    folders: tuple[Path, Path], content: str | None, model: int
) -> None:
    path = folders[model] / "config.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(LoadError, match=r"config\.json .*download the model again"):
        load_models(*folders, CPU)


def test_a_tensor_the_target_lacks_is_named_instead_of_made_up(folders: tuple[Path, Path]) -> None:
    file = folders[0] / "model.safetensors"
    state = load_file(file)
    del state["model.layers.2.mlp.up_proj.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"incomplete.*layers\.2\.mlp\.up_proj\.weight"):
        load_models(*folders, CPU)


def test_a_target_tensor_of_a_wrong_shape_is_refused(folders: tuple[Path, Path]) -> None:
    _edit(folders[0] / "config.json", intermediate_size=40)
    with pytest.raises(LoadError, match="target"):
        load_models(*folders, CPU)


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_extra_and_misshapen_drafter_tensors_are_named_with_their_file(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    cases: list[tuple[Callable[[dict[str, Any]], object], str]] = [
        (lambda s: s.pop("layers.1.self_attn.q_norm.weight"), "layers.1.self_attn.q_norm.weight"),
        (lambda s: s.update({"layers.9.extra": torch.ones(2)}), "layers.9.extra"),
        (lambda s: s.update({"norm.weight": torch.ones(31)}), "norm.weight"),
        (lambda s: s.update({"fc.weight": s["fc.weight"].to(torch.int8)}), "stored as int8"),
    ]
    for index, (change, named) in enumerate(cases):
        folder = tmp_path / str(index)
        shutil.copytree(folders[1], folder)
        _rewrite(folder, change)
        with pytest.raises(LoadError) as caught:
            load_drafter(folder, torch.device("cpu"), torch.float32)
        assert named in str(caught.value)
        assert str(folder) in str(caught.value)


def test_only_safetensors_are_opened(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(UnsupportedFormat, match="safetensors"):
            load_models(*folders, CPU)
        (folder / "pytorch_model.bin").rename(folder / "model.safetensors")


def test_an_index_cannot_lead_out_of_its_folder(folders: tuple[Path, Path]) -> None:
    index = {"weight_map": {"fc.weight": "../target/model.safetensors"}}
    (folders[1] / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(LoadError, match="is missing"):
        load_models(*folders, CPU)


def test_remote_code_in_a_config_is_never_run(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        (folder / "evil.py").write_text("raise SystemExit('remote code ran')")
        _edit(
            folder / "config.json",
            auto_map={"AutoModelForCausalLM": "evil.Model", "AutoModel": "evil.M"},
        )
    assert load_models(*folders, CPU).block_size == 16


@pytest.mark.parametrize("family", ["mixtral", None])
def test_other_target_families_are_refused_by_name(
    folders: tuple[Path, Path], family: str | None
) -> None:
    _edit(folders[0] / "config.json", model_type=family)
    with pytest.raises(UnsupportedFormat, match=f"family {family!r}"):
        load_models(*folders, CPU)


def test_a_family_that_nobody_looked_at_loads_with_snapshots_when_asked(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    build_model(UNLISTED).save_pretrained(tmp_path / "unlisted")
    with pytest.raises(UnsupportedFormat, match=f"family '{UNLISTED}'"):
        load_models(tmp_path / "unlisted", None, CPU)
    models = load_models(tmp_path / "unlisted", None, LoadOptions(device="cpu", snapshot=True))
    assert models.rollback_kind == "snapshot"
    assert any("second forward" in warning for warning in models.warnings)
    assert load_models(*folders, CPU).rollback_kind == "crop"


def test_a_plain_model_is_no_drafter(folders: tuple[Path, Path]) -> None:
    with pytest.raises(UnsupportedFormat, match="DFlash drafter"):
        load_models(folders[0], folders[0], CPU)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": 64}, "hidden size: 64 against 32"),
        ({"vocab_size": 97}, "vocabulary: 97 against 96"),
        (
            {"dflash_config": {"mask_token_id": 9, "target_layer_ids": [0, 4]}},
            "deepest tapped layer: 4 against 4 layers",
        ),
    ],
)
def test_a_drafter_of_another_target_is_refused_with_both_figures(
    folders: tuple[Path, Path],
    make_drafter: Callable[..., Any],
    tmp_path: Path,
    change: dict[str, Any],
    named: str,
) -> None:
    save_drafter(make_drafter(**{"vocab_size": 96, **change}), tmp_path / "other")
    with pytest.raises(LoadError, match=named):
        load_models(folders[0], tmp_path / "other", CPU)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dflash_config": {"target_layer_ids": [0]}}, "mask_token_id"),
        ({"dflash_config": {"mask_token_id": 3}}, "target_layer_ids"),
        (
            {"dflash_config": {"mask_token_id": 96, "target_layer_ids": [0]}},
            "outside the voc",
        ),
        ({"dflash_config": {"mask_token_id": 3, "target_layer_ids": ["a"]}}, "layer numbers"),
        ({"dflash_config": {"mask_token_id": "x", "target_layer_ids": [0]}}, "wrong type"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "dynamic",
        ),
    ],
)
def test_wrong_drafter_configs_say_what_is_wrong(
    folders: tuple[Path, Path], change: dict[str, Any], named: str
) -> None:
    _edit(folders[1] / "config.json", **change)
    with pytest.raises(LoadError, match=named):
        load_models(*folders, CPU)


def test_devices_and_precisions_that_are_not_here_are_refused() -> None:
    for name in ("cuda:99", "tpu", "meta", "no such device"):
        with pytest.raises(BackendUnavailable):
            choose_device(name)
    with pytest.raises(LoadError, match="float32, bfloat16, float16"):
        choose_dtype("int3", torch.device("cpu"))
    assert choose_dtype(None, torch.device("cpu")) == torch.float32
    assert choose_dtype(None, torch.device("cuda")) == torch.bfloat16


@pytest.mark.parametrize(("fast", "chosen"), [(True, torch.bfloat16), (False, torch.float32)])
def test_nf4_computes_in_what_the_cpu_multiplies_fast_unless_named(
    monkeypatch: pytest.MonkeyPatch, fast: bool, chosen: torch.dtype
) -> None:
    monkeypatch.setattr(loading, "multiplies_bfloat16", lambda: fast)
    cpu = torch.device("cpu")
    assert choose_dtype(None, cpu, "nf4") == chosen
    assert choose_dtype("float32", cpu, "nf4") == torch.float32
    assert choose_dtype(None, cpu, "int8") == torch.float32


def test_a_header_that_claims_more_than_the_file_holds_is_damage(
    folders: tuple[Path, Path],
) -> None:
    (folders[1] / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(LoadError, match="is damaged; download it again"):
        load_models(*folders, CPU)
