"""`inspect` says what a folder holds, what it fits, and why it does not fit another."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from dflash_app.cli import main
from dflash_app.settings import EMBEDDED_DIR

TARGET, DRAFTER = str(EMBEDDED_DIR / "target"), str(EMBEDDED_DIR / "drafter")


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def other_target(tmp_path: Path) -> str:
    """The shipped target under a config of another width."""
    folder = tmp_path / "other"
    shutil.copytree(TARGET, folder)
    change(folder, hidden_size=512)
    return str(folder)


def test_a_drafter_is_told_with_the_targets_that_are_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["inspect", DRAFTER]) == 0
    out = capsys.readouterr().out
    taps = "1, 2, 3, 4, 5, so of a target of at least 6"
    for words in (
        "z-lab, DFlash",
        "16 (anchor included)",
        "2 full bidirectional",
        taps,
        "bfloat16",
    ):
        assert words in out
    assert "embedded:target  yes" in out


def test_a_pairs_name_stands_for_its_drafter_and_as_a_target_for_its_target(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["inspect", "embedded", "--target", "embedded", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"]["kind"] == "drafter"
    assert said["model"]["target_layer_ids"] == [1, 2, 3, 4, 5]
    assert said["targets"] == [
        {"target": "embedded:target", "fits": True, "reasons": [], "warnings": []}
    ]


def test_why_a_drafter_does_not_fit_is_said_and_the_status_is_1(
    other_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", DRAFTER, "--target", other_target]) == 1
    assert "no    The drafter does not belong to this target (hidden size: 256 against 512)" in (
        capsys.readouterr().out
    )


def test_a_target_is_told_with_its_family_and_rollback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", TARGET]) == 0
    out = capsys.readouterr().out
    assert "qwen3, supported" in out
    assert "crop" in out
    assert main(["inspect", TARGET, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["rollback"] == "crop"
    assert main(["inspect", TARGET, "--target", TARGET]) == 1


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Domino", {"dflash_config": {"projector_type": "domino"}}),
        ("DSpark", {"architectures": ["DSparkDraftModel"]}),
        ("EAGLE", {"architectures": ["LlamaForCausalLMEagle3"]}),
        ("MiMo", {"architectures": ["MiMoV2DFlash"]}),
        ("Laguna", {"architectures": ["DFlashLagunaForCausalLM"]}),
    ],
)
def test_a_refused_format_is_named_with_status_1(
    name: str, values: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(DRAFTER, tmp_path / "drafter")
    change(tmp_path / "drafter", **values)
    assert main(["inspect", str(tmp_path / "drafter")]) == 1
    captured = capsys.readouterr()
    assert f"in the {name}" in captured.err
    assert captured.out == ""


def test_pickles_and_unknown_families_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(TARGET, tmp_path / "target")
    change(tmp_path / "target", model_type="mamba")
    assert main(["inspect", str(tmp_path / "target")]) == 1
    assert "family 'mamba' are not supported yet" in capsys.readouterr().err
    (tmp_path / "target" / "model.safetensors").rename(tmp_path / "target" / "model.bin")
    assert main(["inspect", str(tmp_path / "target")]) == 1
    assert "can run code" in capsys.readouterr().err


def test_a_repository_is_looked_up_on_disk_also_under_the_commit_that_a_row_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repo = "z-lab/Qwen3-8B-DFlash-b16"
    assert main(["inspect", repo]) == 1
    assert f"{repo} is not on this machine: run `hf download {repo}`." in capsys.readouterr().err
    pinned = "9b41424b7109f9c5413454f481b09a82b85333f4"
    shutil.copytree(DRAFTER, tmp_path / f"models--{repo.replace('/', '--')}/snapshots/{pinned}")
    assert main(["inspect", repo]) == 0
    assert pinned in capsys.readouterr().out
