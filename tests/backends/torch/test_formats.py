"""What each format is told by, and what is refused in one sentence: by name, or with the cure."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dflash_app.backends.torch.checkpoint import load_drafter, save_drafter
from dflash_app.drafters.config import DFlashConfig
from dflash_app.drafters.fits import check_fits
from dflash_app.drafters.formats.recognise import check_format
from dflash_app.errors import LoadError, UnsupportedFormat

CPU = torch.device("cpu")
PLAIN = ["fc.weight", "hidden_norm.weight"]


@pytest.mark.parametrize(
    ("name", "config", "tensors"),
    [
        ("z-lab", {"architectures": ["DFlashDraftModel"]}, PLAIN),
        ("z-lab", {"architectures": ["DFlash2DraftModel"]}, PLAIN),
        ("z-lab", {"dflash_config": {"projector_type": "dflash2", "causal": False}}, PLAIN),
        ("z-lab", {"dflash_config": {"attention_mode": "gqa"}, "auto_map": {}}, PLAIN),
        ("speculators", {"speculators_model_type": "dflash", "projector_type": "dflash"}, PLAIN),
        ("speculators", {"speculators_model_type": "dflash2", "shift_label": False}, PLAIN),
        ("muse_glimmer_assistant", {"model_type": "muse_glimmer_assistant"}, ["encoder.fc.weight"]),
        (
            "DeepSpec",
            {"architectures": ["Qwen3DSparkModel"], "markov_rank": 0},
            [*PLAIN, "lm_head.weight"],
        ),
    ],
)
def test_every_supported_format_is_told_by_its_own_marks(
    name: str, config: dict[str, Any], tensors: list[str]
) -> None:
    assert check_format({"model_type": "qwen3", **config}, tensors).name == name


@pytest.mark.parametrize(
    ("name", "config", "tensors"),
    [
        ("Domino", {"dflash_config": {"projector_type": "domino"}}, []),
        ("Domino", {"speculators_model_type": "dflash", "projector_type": "domino"}, []),
        ("Domino", {}, ["prefix_gru.weight_ih_l0"]),
        ("DSpark", {"architectures": ["DSparkDraftModel"]}, []),
        ("DSpark", {"architectures": ["Qwen3DSparkModel"], "markov_rank": 256}, []),
        ("DSpark", {"architectures": ["Qwen3DSparkModel"], "enable_confidence_head": True}, []),
        ("DSpark", {"architectures": ["Gemma4DSparkModel"], "markov_rank": 0}, []),
        ("DSpark", {"speculators_model_type": "dspark"}, []),
        ("DSpark", {}, ["markov_head.weight"]),
        ("EAGLE", {"speculators_model_type": "eagle3"}, []),
        ("speculators mtp", {"speculators_model_type": "mtp"}, []),
        ("EAGLE", {"architectures": ["LlamaForCausalLMEagle3"]}, []),
        ("EAGLE", {}, ["midlayer.input_layernorm.weight"]),
        ("MiMo", {"architectures": ["MiMoV2DFlash"]}, []),
        ("MiMo", {}, ["layers.0.self_attn.attention_sink_bias"]),
        ("Laguna", {"architectures": ["DFlashLagunaForCausalLM"], "model_type": "laguna"}, []),
        ("LiLiCorr", {"architectures": ["LiLiCorrDraftModel"]}, []),
    ],
)
def test_other_drafter_formats_are_refused_by_name(
    name: str, config: dict[str, Any], tensors: list[str]
) -> None:
    with pytest.raises(UnsupportedFormat, match=f"in the {name}") as caught:
        check_format({"model_type": "qwen3", **config}, [*tensors, *PLAIN])
    assert "choose a z-lab DFlash drafter" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "config"),
    [
        ("attention sinks", {"dflash_config": {"attention_sink_bias": True}}),
        ("mla attention", {"dflash_config": {"attention_mode": "mla"}}),
        ("gqa and kda attention", {"dflash_config": {"attention_modes": ["gqa", "kda"]}}),
        ("a cascade projector", {"dflash_config": {"projector_type": "cascade"}}),
        ("shift_label", {"dflash_config": {"shift_label": True}}),
        ("quantised weights", {"quantization_config": {"quant_method": "fp8"}}),
    ],
)
def test_parts_that_would_draft_nonsense_are_refused_by_name(
    part: str, config: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedFormat, match=part):
        check_format({"model_type": "qwen3", **config}, PLAIN)


@pytest.fixture
def folder(make_drafter: Callable[..., Any], tmp_path: Path) -> Path:
    """A sound z-lab drafter on disk."""
    save_drafter(make_drafter(96), tmp_path / "drafter")
    return tmp_path / "drafter"


def _damage(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_that_is_no_number_is_named_with_its_file(
    folder: Path, value: float, dtype: torch.dtype
) -> None:
    def spoil(state: dict[str, torch.Tensor]) -> None:
        weight = state["layers.1.mlp.up_proj.weight"].to(dtype)
        weight[3, 5] = value
        state["layers.1.mlp.up_proj.weight"] = weight

    _damage(folder, spoil)
    with pytest.raises(LoadError, match=r"layers\.1\.mlp\.up_proj\.weight.*NaN.*another revision"):
        load_drafter(folder, CPU, torch.float32)


def test_a_pickle_is_never_opened_whatever_it_is_called(folder: Path, tmp_path: Path) -> None:
    opened = tmp_path / "opened"

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (opened,))

    bomb = pickle.dumps({"fc.weight": Bomb()})
    (folder / "model.safetensors").write_bytes(bomb)
    with pytest.raises(LoadError, match="is damaged; download it again"):
        load_drafter(folder, CPU, torch.float32)
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt"):
        (folder / name).write_bytes(bomb)
    with pytest.raises(UnsupportedFormat, match=r"no \.safetensors file"):
        load_drafter(folder, CPU, torch.float32)
    assert not opened.exists()


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
def test_a_truncated_file_is_named(folder: Path, kept: float) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    size = int(len(content) * kept) if isinstance(kept, float) else kept
    file.write_bytes(content[:size])
    with pytest.raises(LoadError, match="is damaged; download it again") as caught:
        load_drafter(folder, CPU, torch.float32)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("fc.weight"), "no fc.weight"),
        (lambda s: s.pop("norm.weight"), r"no tensor norm\.weight \(1 are missing\)"),
        (lambda s: s.update({"norm.weight": torch.ones(31)}), r"norm\.weight.*\[31\].*\[32\]"),
        (lambda s: s.update({"layers.7.x": torch.ones(2)}), r"layers\.7\.x"),
        (lambda s: s.update({"fc.weight": s["fc.weight"].to(torch.float8_e4m3fn)}), "float8"),
        (
            lambda s: s.update({"d2t": torch.zeros(40, dtype=torch.int64)}),
            r"d2t.*no lm_head\.weight",
        ),
        (
            lambda s: s.update({"lm_head.weight": torch.ones(40, 32)}),
            r"lm_head\.weight.*\[40, 32\].*\[96, 32\]",
        ),
        (
            lambda s: s.update(
                {"lm_head.weight": torch.ones(40, 32), "d2t": torch.full((40,), 57)}
            ),
            r"d2t points at tokens outside its vocabulary of 96",
        ),
    ],
)
def test_tensors_that_do_not_make_the_drafter_are_named(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], named: str
) -> None:
    _damage(folder, change)
    with pytest.raises(LoadError, match=named) as caught:
        load_drafter(folder, CPU, torch.float32)
    assert "\n" not in str(caught.value)


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["DFlash2DraftModel"]}, "conv_kernel_size"),
        ({"architectures": ["SomethingElse"], "hidden_size": 64}, "shape"),
        ({"dflash_config": {"use_swa": True}}, "use_swa without"),
        (
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "rotates a part of each head",
        ),
        ({"transformer_layer_config": []}, "transformer_layer_config"),
        (
            {"transformer_layer_config": {"model_type": "mamba"}},
            "layers of the type 'mamba'",
        ),
        (
            {
                "transformer_layer_config": {"hidden_size": 32},
                "aux_hidden_state_layer_ids": [1],
                "target_hidden_size": 128,
            },
            "states of 128 numbers",
        ),
        ({"transformer_layer_config": {"hidden_size": 32}}, "aux_hidden_state_layer_ids"),
        (
            {"transformer_layer_config": {}, "aux_hidden_state_layer_ids": [0, 2]},
            "something else than layer numbers",
        ),
        ({"model_type": "muse_glimmer_assistant", "hidden_size": "x"}, "not a valid config"),
    ],
)
def test_configs_that_make_no_drafter_say_what_is_wrong(
    folder: Path, change: dict[str, Any], named: str
) -> None:
    _edit(folder, mask_token_id=9, target_layer_ids=[0], **change)
    with pytest.raises(LoadError, match=named):
        load_drafter(folder, CPU, torch.float32)


def test_files_are_told_apart_by_where_each_tensor_lies(folder: Path, tmp_path: Path) -> None:
    whole = load_drafter(folder, CPU, torch.float32)
    parts = tmp_path / "parts"
    shutil.copytree(folder, parts)
    state = load_file(parts / "model.safetensors")
    (parts / "model.safetensors").unlink()
    names = sorted(state)
    save_file({name: state[name] for name in names[:9]}, parts / "a.safetensors")
    save_file({name: state[name] for name in names[9:]}, parts / "b.safetensors")
    again = load_drafter(parts, CPU, torch.float32)
    assert again.config == whole.config
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_a_config_without_vocabulary_is_checked_against_the_targets(
    make_drafter: Callable[..., Any],
) -> None:
    raw = make_drafter(96).config.to_dict()
    del raw["vocab_size"]
    config = DFlashConfig.from_dict(raw)
    assert config.vocab_size is None
    assert DFlashConfig.from_dict(config.to_dict()) == config
    check_fits(config, hidden_size=32, vocab_size=200, num_layers=4)
    with pytest.raises(LoadError, match="mask token: 95 against a vocabulary of 95"):
        check_fits(config, hidden_size=32, vocab_size=95, num_layers=4)
