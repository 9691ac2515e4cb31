"""`runs` lists, shows and deletes what the run log holds."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dflash_app.cli import main
from dflash_app.events import DecodeEvent, PrefillDone, StepDone
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.settings import Settings
from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store

Capture = pytest.CaptureFixture[str]
METRICS = RunMetrics(num_output_tokens=3, decode_tok_s=123.4, mean_acceptance_length=2.5)


START = RunStart(
    source="cli",
    pair="tiny",
    backend="torch",
    device="cpu",
    dtype="float32",
    mode="dflash",
    messages=({"role": "user", "content": "first"},),
)


def add_run(settings: Settings, prompt: str, mode: str = "dflash", *, ended: bool = True) -> int:
    start = replace(START, mode=mode, messages=({"role": "user", "content": prompt},))
    with Store(settings.database) as store:
        run_id = store.start_run(start)
        if ended:
            store.finish_run(run_id, "stop", output="Nine.", token_ids=[1, 2, 3], metrics=METRICS)
    return run_id


def test_empty_log_says_how_to_fill_it(capsys: Capture) -> None:
    assert main(["runs"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "dflash-app generate" in captured.err


def test_list_shows_newest_first_with_figures(settings: Settings, capsys: Capture) -> None:
    add_run(settings, "first")
    add_run(settings, "second\nline \x1b[2J", mode="ar")
    assert main(["runs", "list"]) == 0
    header, newest, oldest = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "run", "started", "pair", "mode", "tokens", "tok/s", "accepted", "end", "prompt",
    ]  # fmt: skip
    assert newest.startswith("2 ")
    assert newest.endswith("second line [2J")
    assert " dflash  3       123    2.50      stop  first" in oldest


def test_list_filters_and_limits(settings: Settings, capsys: Capture) -> None:
    for prompt, mode in (("apple", "ar"), ("pear", "dflash"), ("apple pie", "dflash")):
        add_run(settings, prompt, mode)

    def prompts(*arguments: str) -> list[str]:
        assert main(["runs", "list", "--json", *arguments]) == 0
        runs = json.loads(capsys.readouterr().out)["runs"]
        return [run["start"]["messages"][0]["content"] for run in runs]

    assert prompts() == ["apple pie", "pear", "apple"]
    assert prompts("--mode", "ar") == ["apple"]
    assert prompts("--text", "PIE") == ["apple pie"]
    assert prompts("--limit", "1") == ["apple pie"]
    assert prompts("--pair", "other") == []


def test_json_of_the_group_itself_lists_too(settings: Settings, capsys: Capture) -> None:
    add_run(settings, "hello")
    assert main(["runs", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["metrics"]["decode_tok_s"] == 123.4
    assert run["start"]["started_at"].endswith("+00:00")


def test_show_prints_the_whole_output(settings: Settings, capsys: Capture) -> None:
    run_id = add_run(settings, "How many?")
    assert main(["runs", "show", str(run_id)]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\n\nNine.\n")
    assert "acceptance length  2.50" in out
    assert main(["runs", "show", str(run_id), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["token_ids"] == [1, 2, 3]


def test_show_tells_how_the_weights_were_stored_and_the_caches_went_back(
    settings: Settings, capsys: Capture
) -> None:
    start = RunStart(
        source="cli",
        pair="tiny",
        backend="torch",
        device="cuda:0+cpu",
        dtype="bfloat16",
        mode="dflash",
        messages=({"role": "user", "content": "hi"},),
        rollback_kind="replay",
        quantization="nf4",
        drafter_quantization="int8",
        path="dynamic cache: recurrent layers",
        drafter_path="dynamic cache: quantised weights",
        policy="fixed",
        block_size=32,
        trained_block_size=16,
    )
    metrics = RunMetrics(num_prompt_tokens=90, num_reused_tokens=64)
    with Store(settings.database) as store:
        run_id = store.start_run(start)
        store.finish_run(run_id, "stop", output="", token_ids=[], metrics=metrics)
    assert main(["runs", "show", str(run_id)]) == 0
    out = capsys.readouterr().out
    assert "torch, cuda:0+cpu, nf4 in bfloat16, drafter int8" in out
    assert "32 (experiment: trained for 16)" in out
    assert "replay" in out
    both = "dynamic cache: recurrent layers, drafter dynamic cache: quantised weights"
    assert both in out
    assert "fixed" in out
    assert "90, 64 of them reused" in out


def test_delete_removes_exactly_the_named_runs(settings: Settings, capsys: Capture) -> None:
    first, second, third = (add_run(settings, prompt) for prompt in "abc")
    assert main(["runs", "delete", str(first), str(third)]) == 0
    assert capsys.readouterr().err == "Deleted 2 runs.\n"
    with Store(settings.database) as store:
        assert [record.id for record in store.list_runs()] == [second]


def test_snapshot_copies_the_log_and_overwrites_nothing(
    settings: Settings, capsys: Capture, tmp_path: Path
) -> None:
    add_run(settings, "first")
    target = tmp_path / "copy.db"
    assert main(["runs", "snapshot", str(target)]) == 0
    assert f"datasette {target}" in capsys.readouterr().err
    with Store(target) as copy:
        assert copy.count_runs() == 1
    assert main(["runs", "snapshot", str(target)]) == 1
    assert "name a file that is not there yet" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["show", "delete"])
def test_unknown_number_is_one_sentence_and_deletes_nothing(
    settings: Settings, capsys: Capture, command: str
) -> None:
    run_id = add_run(settings, "kept")
    numbers = ["77"] if command == "show" else [str(run_id), "77"]
    assert main(["runs", command, *numbers]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: There is no run 77:")
    with Store(settings.database) as store:
        assert store.count_runs() == 1


def test_a_damaged_run_can_be_deleted(settings: Settings, capsys: Capture) -> None:
    run_id = add_run(settings, "kept")
    with closing(sqlite3.connect(settings.database)) as database:
        database.execute("UPDATE runs SET messages = 'not json'")
        database.commit()
    assert main(["runs", "delete", str(run_id)]) == 0
    assert capsys.readouterr().err == "Deleted 1 run.\n"


def test_running_run_is_not_deleted(settings: Settings, capsys: Capture) -> None:
    start = RunStart(
        source="chat",
        pair="tiny",
        backend="torch",
        device="cpu",
        dtype="float32",
        mode="ar",
        messages=({"role": "user", "content": "hi"},),
    )
    with Store(settings.database) as other_process:
        run_id = other_process.start_run(start)
        assert main(["runs", "delete", str(run_id)]) == 1
        assert "still going on" in capsys.readouterr().err
        assert other_process.count_runs() == 1


def test_unusable_log_is_one_sentence(settings: Settings, capsys: Capture) -> None:
    settings.database.write_text("no database " * 200)
    assert main(["runs"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert len(captured.err.splitlines()) == 1


def add_losing_run(settings: Settings) -> int:
    events: list[DecodeEvent] = [PrefillDone(4, 0, 1, 0.0, 0.5)]
    for step in range(1, 21):
        drafts = (2, 9, 9, 9)
        events.append(StepDone((2, 3), drafts, 1, None, 0.1, 0.1, 0.5 + 0.2 * step))
    with Store(settings.database) as store:
        run_id = store.start_run(START)
        metrics = summarize(events)
        store.finish_run(
            run_id, "stop", output="Nine.", token_ids=[], metrics=metrics, events=events
        )
    return run_id


def test_why_tells_the_runs_figures_and_what_limits_it(settings: Settings, capsys: Capture) -> None:
    run_id = add_losing_run(settings)
    assert main(["runs", "why", str(run_id)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("10 tok/s: a step commits 2.00 tokens and takes 200 ms (100 drafting")
    assert "1. Drafts are refused: of 4 a step the target takes 1.00." in told
    assert "The drafter itself takes 44% of the time, 100 ms a block." in told
    assert main(["runs", "why", str(run_id), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == run_id
    assert found["findings"][0]["key"] == "refused"
    assert found["findings"][0]["lost_s"] == pytest.approx(2.4)


def test_why_says_what_to_do_about_a_run_whose_steps_were_not_kept(
    settings: Settings, capsys: Capture
) -> None:
    assert main(["runs", "why", str(add_run(settings, "older"))]) == 1
    assert "run its prompt again" in capsys.readouterr().err
    assert main(["runs", "why", "77"]) == 1
    assert "There is no run 77" in capsys.readouterr().err
