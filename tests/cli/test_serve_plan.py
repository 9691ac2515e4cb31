"""`dflash-app serve-plan`: text and JSON on stdout, refusals in one sentence."""

import json
import shlex

import pytest

from dflash_app.cli import main
from dflash_app.serving.gpus import gpus_here

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    import huggingface_hub.constants

    empty = str(tmp_path_factory.mktemp("empty-cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", empty)


def ask(command: str, capsys: Capture) -> tuple[int, str, str]:
    status = main(["serve-plan", *shlex.split(command)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_it_prints_a_command_with_its_reasons(capsys: Capture) -> None:
    status, printed, noted = ask("qwen3-8b --gpu h200 --gpus 2 --offline", capsys)
    assert (status, noted) == (0, "")
    assert printed.startswith("# qwen3-8b on vLLM, with DFlash, on 2 x H200-141.\n")
    assert "\n  --tensor-parallel-size 2 \\\n" in printed
    assert "\n# --tensor-parallel-size: " in printed


def test_without_a_kind_of_gpu_the_plan_says_what_it_is_for(capsys: Capture) -> None:
    seen = gpus_here()
    _, printed, _ = ask("embedded --json", capsys)
    (plan,) = json.loads(printed)["plans"]
    assert plan["notes"][0].startswith("No kind" if seen else "No NVIDIA GPU is seen")
    assert ("VLLM_CPU_KVCACHE_SPACE" in plan["environment"]) is (not seen)
    _, printed, _ = ask("qwen3-8b --offline --json --gpu h100", capsys)
    assert "No " not in json.loads(printed)["plans"][0]["notes"][0]


def test_the_twin_comes_second_on_the_next_port(capsys: Capture) -> None:
    _, printed, _ = ask("qwen3-8b --offline --ar --port 9000", capsys)
    first, second = printed.split("\n# qwen3-8b on vLLM, without a drafter")
    assert "--port 9000" in first
    assert "--port 9001" in second
    assert "speculative" not in second


def test_json_holds_every_form(capsys: Capture) -> None:
    _, printed, _ = ask("kimi-k2.5 --gpus 8 --nodes 2 --offline --json --ar", capsys)
    plan, twin = json.loads(printed)["plans"]
    assert [argv[0] for argv in plan["argv"]] == ["vllm", "vllm"]
    assert "--headless" in plan["argv"][1]
    assert {form: len(texts) for form, texts in plan["forms"].items()} == {
        "command": 2,
        "docker": 2,
        "compose": 2,
    }
    assert plan["layout"]["tensor"] == 16
    assert plan["reasons"]["--headless"]
    assert (plan["drafting"], twin["drafting"]) == (True, False)
    assert plan["base_url"] == "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("nothing", "nothing"),
        ("deepseek-v4-pro --offline", "is planned"),
        ("kimi-k2.5 --gpus 4 --offline", "it takes 16 such GPUs (--gpus 8 --nodes 2)"),
        ("qwen3-8b --gpu TPU --offline", "'TPU' is not known"),
        ("qwen3-8b --gpus 0 --offline", "Give 1 to 16 GPUs"),
        ("qwen3.5-397b-a17b --block-size 8 --offline", "--drafter-weights-gb"),
        ("embedded --engine sglang --gpu cpu", "choose a GPU"),
    ],
)
def test_refusals_are_one_sentence_on_stderr_with_status_1(
    command: str, sentence: str, capsys: Capture
) -> None:
    status, printed, noted = ask(command, capsys)
    assert (status, printed) == (1, "")
    assert noted.startswith("Error: ")
    assert noted.count("\n") == 1
    assert sentence in noted


@pytest.mark.parametrize("wrong", ["--engine tgi", "--form kubernetes"])
def test_an_engine_or_form_that_there_is_not_is_wrong_usage(wrong: str, capsys: Capture) -> None:
    status, printed, noted = ask(f"qwen3-8b --offline {wrong}", capsys)
    assert (status, printed) == (2, "")
    assert "choose" in noted


def test_what_nobody_knows_the_user_may_say(capsys: Capture) -> None:
    command = (
        "qwen3.5-397b-a17b --block-size 8 --drafter-weights-gb 3 --gpus 8 --gpu h200 --offline"
    )
    status, printed, _ = ask(command, capsys)
    assert status == 0
    assert '"num_speculative_tokens": 7' in printed
    _, printed, _ = ask("qwen3-8b --gpu MI300X --gpu-memory-gb 192 --offline", capsys)
    assert "on 1 x MI300X" in printed
