"""`doctor` says what works, what does not, and ends with a status that scripts can use."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dflash_app.backends.mlx.backend import MlxBackend
from dflash_app.backends.torch.families import ROLLBACK_KINDS
from dflash_app.cli import doctor as doctor_module
from dflash_app.cli import main
from dflash_app.settings import Settings

Capture = pytest.CaptureFixture[str]


def examine(capsys: Capture) -> tuple[int, dict[str, dict[str, Any]]]:
    status = main(["doctor", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] is (status == 0)
    return status, {check["name"]: check for check in printed["checks"]}


def test_sound_installation_passes(settings: Settings, capsys: Capture) -> None:
    status, checks = examine(capsys)
    assert {name: check["detail"] for name, check in checks.items() if not check["ok"]} == {}
    assert status == 0
    assert "Python 3." in checks["app"]["detail"]
    assert "torch 2." in checks["libraries"]["detail"]
    assert checks["backend torch"]["detail"] == "available"
    assert checks["backend mlx"]["detail"].startswith("available: MLX 0.")
    assert checks["free memory"]["detail"].endswith(" GB")
    assert checks["data folder"]["detail"] == str(settings.home)
    assert checks["run log"]["detail"] == "0 runs"
    assert checks["embedded pair"]["detail"] == "ready"


def test_table_marks_what_is_wrong(settings: Settings, capsys: Capture) -> None:
    (settings.user_plugins / "broken").mkdir(parents=True)
    (settings.user_plugins / "broken" / "__init__.py").write_text("import no_such_thing")
    assert main(["doctor"]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
    assert any("dflash_plugins.broken" in line and "no_such_thing" in line for line in wrong)


def test_what_is_optional_and_not_here_is_no_ok_and_servers_are_not_ready_here(
    settings: Settings, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MlxBackend, "unavailable_reason", lambda self: "MLX is not installed.")
    settings.user_registry.write_text(
        "pairs:\n"
        "  - {name: box, title: Box, family: qwen3, backends: [remote], drafter: null,\n"
        "     target: {server: 'http://gpu-box:8000/v1', model: m}}\n"
    )
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if " backend mlx " in line] == ["-"]
    assert any(line.endswith(" known, 1 ready here, 1 on servers") for line in lines)


def test_bad_registry_row_and_unusable_run_log_are_found(
    settings: Settings, capsys: Capture
) -> None:
    settings.user_registry.write_text("pairs:\n  - name: mine\n")
    settings.database.write_text("no database " * 200)
    status, checks = examine(capsys)
    assert status == 1
    assert not checks["registry"]["ok"]
    assert "line 2" in checks["registry"]["detail"]
    assert not checks["run log"]["ok"]


def test_missing_embedded_pair_is_wrong(
    settings: Settings, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dflash_app.settings.EMBEDDED_DIR", settings.home / "nothing")
    status, checks = examine(capsys)
    assert status == 1
    assert "python -m recipes.embedded_pair --install" in checks["embedded pair"]["detail"]


def test_torch_for_cpus_beside_a_gpu_is_wrong(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = doctor_module.hardware_fingerprint() | {"gpus": ["NVIDIA H200"]}
    versions = doctor_module.library_versions() | {"torch": "2.13.0+cpu"}
    monkeypatch.setattr(doctor_module, "hardware_fingerprint", lambda: machine)
    monkeypatch.setattr(doctor_module, "library_versions", lambda: dict(versions))
    status, checks = examine(capsys)
    assert status == 1
    assert "CPUs only" in checks["GPU"]["detail"]


@pytest.fixture
def check_only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """All families take minutes: tests/backends/torch/test_families.py has them."""

    def choose(*names: str) -> None:
        monkeypatch.setattr("dflash_app.backends.torch.selftest.check.ALL_FAMILIES", names)

    return choose


def test_families_are_checked_live_and_named_with_their_pairs(
    check_only: Callable[..., None], capsys: Capture, tmp_path: Path
) -> None:
    check_only("llama")
    page = tmp_path / "families.md"
    assert main(["doctor", "--families", "--write", str(page)]) == 0
    printed = capsys.readouterr()
    assert "llama: as it must be, " in printed.err
    header, row = printed.out.splitlines()
    assert header.split()[-5:] == ["path", "float32", "bfloat16", "float16", "pairs"]
    found = ["llama", "LlamaForCausalLM", "crop", "static cache", *["yes"] * 3, "llama-3.1-8b"]
    assert re.split(r"\s{2,}", row) == found
    assert f"| {' | '.join(found)} |\n" in page.read_text(encoding="utf-8")


def test_a_family_that_is_not_lossless_fails_and_says_where(
    check_only: Callable[..., None], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_only("qwen3_next")
    # transformers' own crop leaves the rejected tokens in a recurrent state.
    monkeypatch.setitem(ROLLBACK_KINDS, "qwen3_next", "crop")
    assert main(["doctor", "--families", "--json"]) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    (family,) = report["families"]
    assert (report["ok"], family["ok"]) == (False, False)
    assert [each["lossless"] for each in family["precisions"].values()] == [False] * 3
    assert "qwen3_next: WRONG" in printed.err
    assert "qwen3_next: float32, after a prompt of 5 tokens, output token" in printed.err


def test_a_page_that_cannot_be_written_is_one_sentence(
    check_only: Callable[..., None], capsys: Capture, tmp_path: Path
) -> None:
    check_only()
    assert main(["doctor", "--families", "--write", str(tmp_path)]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"Error: {tmp_path} cannot be written (")


def test_write_without_families_is_wrong_usage(capsys: Capture, tmp_path: Path) -> None:
    assert main(["doctor", "--write", str(tmp_path / "families.md")]) == 2
    assert "--write needs --families" in capsys.readouterr().err
