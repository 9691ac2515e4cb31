"""`generate` streams, prints one JSON object, races fairly, and records every way out."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from dflash_app.cli import main
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import GenerationFailed, PromptTooLong
from dflash_app.events import PrefillDone, StepDone, TextDelta
from dflash_app.request import SamplingParams
from dflash_app.settings import Settings
from dflash_app.store.records import RunRecord
from dflash_app.store.runs import Store
from tests.cli.conftest import write_scripted_pair
from tests.fakes import ScriptedPair, script_of

Play = Callable[..., ScriptedPair]
Capture = pytest.CaptureFixture[str]

AR = script_of((2,), (3,), (4,))
DFLASH = script_of((2, 3, 4), num_draft=3)


def generate(*arguments: str, prompt: str = "Hello") -> int:
    return main(["generate", "--pair", "scripted", *arguments, prompt])


def recorded(settings: Settings) -> list[RunRecord]:
    with Store(settings.database) as store:
        return store.list_runs()


def json_of(capsys: Capture) -> dict[str, Any]:
    captured = capsys.readouterr()
    assert captured.err == ""
    printed: dict[str, Any] = json.loads(captured.out)  # fails on anything beside one object
    return printed


def error_of(capsys: Capture) -> str:
    """The one line on stderr; nothing may be on stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_text_goes_to_stdout_and_figures_to_stderr(play: Play, capsys: Capture) -> None:
    play(DFLASH)
    assert generate() == 0
    captured = capsys.readouterr()
    assert captured.out == "bcde\n"
    assert captured.err == (
        "dflash: 4 tokens, 12 tok/s, first token after 0.500 s, acceptance length 3.00, "
        "fixed drafts\n"
        "Ran on cpu, float32, static cache.\n"
    )


def test_json_prints_one_object_with_one_run(
    play: Play, capsys: Capture, settings: Settings
) -> None:
    play(DFLASH)
    assert generate("--json") == 0
    printed = json_of(capsys)
    (run,) = printed["runs"]
    assert (run["mode"], run["text"], run["token_ids"]) == ("dflash", "bcde", [1, 2, 3, 4])
    assert run["metrics"]["num_output_tokens"] == 4
    assert run["metrics"]["mean_acceptance_length"] == 3.0
    assert run["metrics"]["peak_memory_bytes"] is None
    assert "verdict" not in printed
    (record,) = recorded(settings)
    assert (record.start.source, record.finish_reason, record.output) == ("cli", "stop", "bcde")


@pytest.mark.parametrize("compare", [False, True])
def test_adaptive_drafts_reach_the_engine_and_what_it_tells_reaches_the_terminal(
    play: Play, capsys: Capture, compare: bool
) -> None:
    told = [*DFLASH[:2], replace(cast(StepDone, DFLASH[2]), note="AR fallback: why"), *DFLASH[3:]]
    pair = play(AR, told) if compare else play(told)
    assert generate("--drafts", "adaptive", *(["--compare"] if compare else [])) == 0
    assert {request.policy for request in pair.requests} == {"adaptive"}
    lines = capsys.readouterr().err.splitlines()
    at = lines.index("After 1 tokens: AR fallback: why")
    assert "adaptive drafts" in lines[at + 1]


def test_json_names_the_drafts_and_holds_what_was_told(play: Play, capsys: Capture) -> None:
    play([*DFLASH[:2], replace(cast(StepDone, DFLASH[2]), note="AR fallback: why"), *DFLASH[3:]])
    assert generate("--json", "--drafts", "adaptive") == 0
    (run,) = json_of(capsys)["runs"]
    assert run["drafts"] == "adaptive"
    assert run["notes"] == [{"after_tokens": 1, "text": "AR fallback: why"}]


def test_compare_tells_speedup_and_that_outputs_are_identical(play: Play, capsys: Capture) -> None:
    play(AR, DFLASH)
    assert generate("--compare", "--json") == 0
    printed = json_of(capsys)
    assert [run["mode"] for run in printed["runs"]] == ["ar", "dflash"]
    assert [run["text"] for run in printed["runs"]] == ["bcde", "bcde"]
    assert printed["speedup"] == pytest.approx(3.0)
    assert printed["runs"][1]["end_to_end_speedup"] == pytest.approx(1.25 / 0.75)
    assert printed["verdict"]["identical"] is True


def test_compare_warms_both_modes_up_alike_and_records_the_race_only(
    play: Play, capsys: Capture, settings: Settings
) -> None:
    pair = play(AR, DFLASH)
    assert generate("--compare", "--json", "--max-new-tokens", "300") == 0
    asked = [(request.mode, request.max_new_tokens) for request in pair.requests]
    assert asked == [("ar", 32), ("dflash", 32), ("ar", 300), ("dflash", 300)]
    dflash, ar = recorded(settings)
    assert (ar.start.mode, dflash.start.mode) == ("ar", "dflash")
    assert ar.start.group_id == dflash.start.group_id is not None


def test_compare_shows_both_texts_where_they_differ(play: Play, capsys: Capture) -> None:
    pair = play(AR, script_of((2, 3, 5), num_draft=3))
    pair.logits = {4: 1.0, 5: 3.5}
    assert generate("--compare") == 0
    captured = capsys.readouterr()
    assert captured.out == "bcdf\n\nPlain decoding wrote instead:\nbcde\n"
    fast = "DFlash decodes 3.0 times as fast (1.7 with the prompt), in one run. "
    assert f"{fast}The outputs differ from token 4" in captured.err
    assert "Ran on cpu, float32, static cache." in captured.err


def test_ar_leaves_the_drafter_on_disk(play: Play, capsys: Capture) -> None:
    pair = play(AR)
    assert generate("--mode", "ar", "--threads", "1", "--dtype", "float32") == 0
    (options,) = pair.load_options  # type: ignore[attr-defined]
    assert (options.drafter, options.num_threads, options.dtype) == (False, 1, "float32")
    assert pair.requests[0].mode == "ar"


def test_every_way_of_loading_reaches_the_backend(play: Play, capsys: Capture) -> None:
    pair = play(DFLASH)
    where = "--device auto --max-memory-gb 1.5 --dtype float16 --snapshot"
    stored = "--quantization nf4 --drafter-quantization int8"
    assert generate(*where.split(), *stored.split()) == 0
    (options,) = pair.load_options  # type: ignore[attr-defined]
    assert options == LoadOptions(
        device="auto",
        dtype="float16",
        quantization="nf4",
        drafter_quantization="int8",
        max_memory_bytes=1_500_000_000,
        snapshot=True,
    )


def test_what_is_not_plain_is_said_before_the_answer_and_stands_in_the_json(
    play: Play, capsys: Capture, settings: Settings
) -> None:
    pair = play(DFLASH)
    pair.warnings = ("Layers are on disk.",)
    pair.quantization, pair.rollback_kind = "int8", "snapshot"
    assert generate("--block-size", "32") == 0
    notes = capsys.readouterr().err.splitlines()[:2]
    assert notes[0] == "Note: Layers are on disk."
    assert notes[1].startswith("Note: Block size 32 is an experiment, as this drafter was trained")
    assert generate("--block-size", "32", "--json") == 0
    printed = json_of(capsys)
    assert [f"Note: {warning}" for warning in printed["warnings"]] == notes
    assert (printed["quantization"], printed["rollback_kind"]) == ("int8", "snapshot")
    assert (printed["drafter_quantization"], printed["trained_block_size"]) == (None, 4)
    assert recorded(settings)[0].start.block == "32 (experiment: trained for 4)"


def test_every_option_reaches_the_request(play: Play, capsys: Capture) -> None:
    pair = play(DFLASH)
    options = "--temperature 0.5 --top-p 0.9 --top-k 7 --seed 3 --stop END --stop X --thinking off"
    more = "--system Rules --block-size 8 --max-new-tokens 9"
    cuts = "--min-p 0.05 --repetition-penalty 1.1 --task GSM8K"
    assert generate(*options.split(), *cuts.split(), *more.split()) == 0
    (request,) = pair.requests
    assert request.sampling == SamplingParams(
        temperature=0.5, top_p=0.9, top_k=7, min_p=0.05, repetition_penalty=1.1, seed=3
    )
    assert (request.stop, request.thinking, request.block_size) == (("END", "X"), "off", 8)
    assert [message.content for message in request.messages] == ["Rules", "Hello"]
    assert (request.max_new_tokens, request.task) == (9, "GSM8K")


def test_prompt_is_read_from_standard_input(
    play: Play, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = play(DFLASH, DFLASH)
    text = "Grüße\n" * 1000
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert generate(prompt="-") == 0
    assert pair.requests[0].messages[-1].content == text
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
    capsys.readouterr()
    assert generate(prompt="-") == 1
    assert "not UTF-8" in error_of(capsys)


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["--pair", "scripte"], "did you mean scripted?"),
        (["--pair", "qwen3-8b"], "dflash-app hub pull qwen3-8b"),
        (["--temperature", "9"], "temperature must be a number from 0 to 2"),
        (["--top-p", "0"], "top_p must be above 0"),
        (["--min-p", "1"], "min_p must be below 1"),
        (["--repetition-penalty", "0"], "repetition_penalty must be a number from 0.01 to 10"),
        (["--max-new-tokens", "0"], "max_new_tokens must be a whole number from 1"),
        (["--block-size", "1"], "block_size must be a whole number from 2"),
        (["--backend", "abacus"], "use script"),
        (["--stop", ""], "A stop text is empty"),
    ],
)
def test_refusals_are_one_sentence_with_the_cure(
    play: Play, capsys: Capture, arguments: list[str], cure: str
) -> None:
    play(DFLASH)
    assert generate(*arguments) == 1
    assert cure in error_of(capsys)


def test_empty_prompt_is_refused_before_anything_is_loaded(play: Play, capsys: Capture) -> None:
    pair = play(DFLASH)
    assert generate(prompt=" \n ") == 1
    assert error_of(capsys) == "Error: The prompt is empty: type a question first."
    assert pair.load_options == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [["--mode", "warp"], ["--dtype", "float8"], ["--nonsense"]])
def test_wrong_usage_ends_with_status_2(play: Play, capsys: Capture, arguments: list[str]) -> None:
    play(DFLASH)
    assert generate(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Error: " in captured.err


@pytest.mark.parametrize("compare", [False, True])
@pytest.mark.parametrize(
    "failure",
    [
        GenerationFailed("The device ran out of memory: close something."),
        PromptTooLong("too long: cut it"),
    ],
)
def test_failure_while_decoding_is_one_sentence_and_recorded(
    play: Play, capsys: Capture, settings: Settings, failure: Exception, compare: bool
) -> None:
    play([*DFLASH[:2], failure]) if not compare else play(AR, [*DFLASH[:2], failure])
    assert generate("--json", *(["--compare"] if compare else [])) == 1
    assert error_of(capsys) == f"Error: {failure}"
    assert {record.finish_reason for record in recorded(settings)} <= {"failed"}
    assert bool(recorded(settings)) is not compare  # a race fails in its warm-up: nothing to record


def test_interrupt_cancels_and_is_recorded_with_what_had_come(
    play: Play, capsys: Capture, settings: Settings
) -> None:
    pair = play([PrefillDone(4, 0, 1, 0.0, 0.5), TextDelta("b"), KeyboardInterrupt()])
    assert generate() == 130
    assert capsys.readouterr().err == "Cancelled.\n"
    (record,) = recorded(settings)
    assert (record.finish_reason, record.output, record.token_ids) == ("cancelled", "b", (1,))
    assert pair.closed


def test_unusable_run_log_costs_a_warning_and_not_the_answer(
    play: Play, capsys: Capture, settings: Settings
) -> None:
    play(DFLASH)
    settings.database.write_text("this is no database, it only looks like one" * 100)
    assert generate() == 0
    captured = capsys.readouterr()
    assert captured.out == "bcde\n"
    assert captured.err.startswith("Not recorded: ")


def test_control_characters_reach_a_pipe_but_not_a_terminal(
    play: Play, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = [PrefillDone(4, 0, 1, 0.0, 0.5), TextDelta("a\x1b]0;owned\x07\tb\n"), *DFLASH[2:]]
    play(evil)
    assert generate() == 0
    assert "\x1b]0;owned\x07" in capsys.readouterr().out
    play(evil)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert generate() == 0
    assert "a]0;owned\tb\n" in capsys.readouterr().out


SLOW_PLUGIN = """
import time
from dflash_app.hookspecs import hookimpl
from tests.fakes import ScriptedPair, script_of

class SlowPair(ScriptedPair):
    def stream(self, request):
        for event in super().stream(request):
            yield event
            time.sleep(0.02)

class ScriptBackend:
    name = "script"
    def unavailable_reason(self): return None
    def load(self, pair, options): return SlowPair([script_of(*[(2,)] * 3000)], name="scripted")

@hookimpl
def register_backends(): return [ScriptBackend()]
"""


def start_slow(settings: Settings, root: Path) -> subprocess.Popen[str]:
    """`dflash-app generate` in a process of its own, after its first character came."""
    write_scripted_pair(settings, SLOW_PLUGIN)
    process = subprocess.Popen(
        [sys.executable, "-m", "dflash_app", "generate", "--pair", "scripted", "Hello"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == "b"
    return process


def test_ctrl_c_ends_a_real_process_without_a_traceback(settings: Settings, root: Path) -> None:
    with start_slow(settings, root) as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "Cancelled.\n")
    (record,) = recorded(settings)
    assert record.finish_reason == "cancelled"


def test_closed_pipe_ends_a_real_process_quietly(settings: Settings, root: Path) -> None:
    with start_slow(settings, root) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=120)
    assert (process.returncode, err) == (1, "")
    (record,) = recorded(settings)
    assert record.finish_reason == "cancelled"


@pytest.mark.slow
def test_embedded_pair_counts_the_divisors_of_196(capsys: Capture) -> None:
    """The issue's own acceptance command."""
    prompt = "How many positive whole-number divisors does 196 have?"
    assert (
        main(["generate", "--pair", "embedded", "--compare", "--json", "--threads", "1", prompt])
        == 0
    )
    printed = json_of(capsys)
    texts = [run["text"] for run in printed["runs"]]
    assert texts[0] == texts[1]
    assert re.search(r"\b9\b", texts[0])  # 196 alone must not do
    assert printed["verdict"]["identical"] is True
    assert printed["speedup"] > 1
