"""`dflash-app benchmark` from its options to what it prints."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dflash_app.cli import main
from dflash_app.errors import PromptTooLong
from dflash_app.settings import Settings
from tests.cli.conftest import play
from tests.fakes import ScriptedPair, script_of

__all__ = ["play"]

Play = Callable[..., ScriptedPair]
Capture = pytest.CaptureFixture[str]

PAIR = ["--pair", "scripted", "--warm-up", "0"]


def measure(*arguments: str) -> int:
    return main(["benchmark", *PAIR, *arguments])


def test_the_bundled_set_is_asked_and_reported(play: Play, capsys: Capture, tmp_path: Path) -> None:
    play(script_of((2, 3), num_draft=3))
    assert measure("--prompts", "2", "--out", str(tmp_path / "new" / "folder")) == 0
    out, err = capsys.readouterr()
    assert "bundled   DFlash" in out
    assert "Benchmark 1: 0 of" in err
    written = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert written == ["report.csv", "report.json", "report.md", "results.json"]


def test_every_option_reaches_the_plan(play: Play, capsys: Capture, questions: Path) -> None:
    play(script_of((2, 3), num_draft=3))
    options = (
        "--prompts 1 --mode dflash --block-size 4,3 --drafts fixed,adaptive --temperature 0.5 "
        "--top-p 0.9 --top-k 7 --seed 3 --thinking off --max-new-tokens 9 --repetitions 2 "
        "--device cpu --dtype float32 --quantization nf4 --drafter-quantization int8 --threads 1"
    )
    jsonl = ("--jsonl", str(questions), "--dataset", "bundled", "--json")
    assert measure(*options.split(), *jsonl) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan == {
        "pair": "scripted",
        "datasets": ["bundled", "mine.jsonl"],
        "backend": None,
        "options": {
            "device": "cpu",
            "dtype": "float32",
            "drafter": True,
            "num_threads": 1,
            "quantization": "nf4",
            "drafter_quantization": "int8",
            "max_memory_bytes": None,
            "snapshot": False,
        },
        "num_prompts": 1,
        "modes": ["dflash"],
        "block_sizes": [4, 3],
        "policies": ["fixed", "adaptive"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "seed": 3,
        "thinking": "off",
        "max_new_tokens": 9,
        "repetitions": 2,
        "warm_up": 0,
        "concurrency": [1],
        "baseline": None,
        "baseline_label": None,
        "baseline_mode": "dflash",
    }


def test_ctrl_c_says_how_to_go_on_and_resume_does(
    play: Play, capsys: Capture, questions: Path
) -> None:
    play([*script_of((2,))[:2], KeyboardInterrupt()])
    assert measure("--jsonl", str(questions)) == 130
    assert "Go on with `dflash-app benchmark --resume 1`." in capsys.readouterr().err
    assert main(["benchmark", "--ls", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["benchmarks"]
    assert (listed["finished_at"], listed["running"], listed["num_answered"]) == (None, False, 0)
    play(script_of((2, 3), num_draft=3))
    assert main(["benchmark", "--resume"]) == 0
    out, err = capsys.readouterr()
    assert "8 of 8 prompts" in err
    assert err.startswith("Benchmark 1: 3 questions = 4 turns × 2 methods.\n")
    assert err.splitlines()[-1] == (
        "Keep this report: `dflash-app benchmark --show 1 --out FOLDER`, or the Benchmark tab."
    )
    assert main(["benchmark", "--show", "1"]) == 0
    assert capsys.readouterr().out == out
    assert main(["benchmark", "--ls"]) == 0
    told = "AR, DFlash  8 of 8    3 questions = 4 turns × 2 methods  finished"
    assert told in capsys.readouterr().out
    assert main(["benchmark", "--resume"]) == 1
    assert "No benchmark was left unfinished" in capsys.readouterr().err


def test_a_failed_prompt_is_told_at_once(play: Play, capsys: Capture, questions: Path) -> None:
    play([])
    assert measure("--jsonl", str(questions)) == 1
    err = capsys.readouterr().err
    assert "mine.jsonl/ar/1, question a failed: Decoding ended without a last event" in err
    assert "failed 3 times in a row" in err


def test_a_result_that_became_worse_ends_with_a_status_of_its_own(
    play: Play, capsys: Capture, questions: Path, tmp_path: Path
) -> None:
    play(script_of((2, 3), num_draft=3))
    assert measure("--jsonl", str(questions), "--out", str(tmp_path)) == 0
    capsys.readouterr()
    good, bad = tmp_path / "results.json", tmp_path / "worse.json"
    assert main(["benchmark", "--compare", str(good), str(good)]) == 4  # three are too few
    assert "NOT JUDGED" in capsys.readouterr().out
    found = json.loads(good.read_text())
    found["cells"][0]["figures"]["num_failed"] = 1
    bad.write_text(json.dumps(found))
    assert main(["benchmark", "--compare", str(good), str(bad)]) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "gsm9k"], "Unknown dataset 'gsm9k': use bundled, gsm8k, math500"),
        (["--prompts", "0"], "prompts must be a whole number at least 1"),
        (["--concurrency", "-4"], "concurrency must be a whole number from 1"),
        (["--concurrency", "1,8"], "decodes one request at a time"),
        (["--concurrency", "many"], "--concurrency 'many' is no number"),
        (["--mode", "mtp"], "Unknown mode 'mtp'"),
        (["--pair", "nobody"], "nobody"),
        (["--jsonl", "/nowhere/x.jsonl"], "is no file"),
        (["--dataset", "x.jsonl"], "name it with --jsonl"),
        (["gsm8k"], "'gsm8k' is not understood here: name data sets with --dataset"),
        (["--resume", "x"], "Give the number of one benchmark"),
        (["--resume", "7"], "no benchmark 7"),
        (["--show"], "There is no benchmark yet"),
        (["--show", "--ls"], "Give one of --resume"),
        (["--compare", "a.json"], "Give two files"),
        (["--compare", "a.json", "b.json"], "cannot be read"),
        (["--baseline-label", "MTP"], "label needs a baseline"),
        (["--out", "/dev/null"], "/dev/null is a file"),
        (["--out", "/proc/new"], "/proc/new cannot be written"),
        (["--show", "--out", "/dev/null"], "/dev/null is a file"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    play: Play, capsys: Capture, arguments: list[str], said: str
) -> None:
    play(script_of((2,)))
    assert measure(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("Error: ")
    assert said in line


def test_a_broken_line_is_named(play: Play, capsys: Capture, tmp_path: Path) -> None:
    play(script_of((2,)))
    path = tmp_path / "broken.jsonl"
    path.write_text('{"prompt": "Well?"}\n{"prompt": \n')
    assert measure("--jsonl", str(path)) == 1
    assert "broken.jsonl, line 2: " in capsys.readouterr().err


def test_results_that_are_as_good_end_with_no_error(
    play: Play, capsys: Capture, tmp_path: Path
) -> None:
    play(script_of((2, 3), num_draft=3))
    assert measure("--prompts", "9", "--out", str(tmp_path)) == 0
    good = str(tmp_path / "results.json")
    capsys.readouterr()
    assert main(["benchmark", "--compare", good, good]) == 0
    assert capsys.readouterr().out.endswith("No regression.\n")


def test_a_file_is_not_taken_for_a_set_of_its_name(
    play: Play, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(script_of((2,)))
    monkeypatch.chdir(tmp_path)
    Path("bundled").write_text('{"prompt": "Well?"}\n')
    assert measure("--jsonl", "bundled") == 1
    assert "'bundled' does not end in .jsonl: rename the file." in capsys.readouterr().err


def test_where_nothing_was_answered_the_status_says_so(
    play: Play, capsys: Capture, questions: Path
) -> None:
    play([PromptTooLong("Too long: shorten it.")])
    assert measure("--jsonl", str(questions)) == 1
    out, err = capsys.readouterr()
    assert "8 of 8 prompts have no answer yet." in out
    assert "No prompt was answered" in err
    assert "--resume 1` asks them again." in err


@pytest.mark.parametrize("asked", ["--ls", "--show", "--resume"])
def test_a_run_log_that_cannot_be_opened_is_not_taken_for_an_empty_one(
    play: Play, capsys: Capture, settings: Settings, asked: str
) -> None:
    play(script_of((2,)))
    settings.database.write_text("no database at all, but a text of some length")
    assert main(["benchmark", asked]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(settings.database) in line
