"""The report: what each line says, and its forms as text, Markdown, CSV and JSON."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dflash_plugins.benchmark.cells import methods
from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.render import to_csv, to_markdown, to_text, write_files
from dflash_plugins.benchmark.report import (
    Line,
    Report,
    build_report,
    report_json,
    say_settings,
)
from dflash_plugins.benchmark.results import BenchmarkResults, read_results, to_json
from pydantic import TypeAdapter

from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import RequestError
from tests.plugins.benchmark.measured import cell, drafted, results, row, rows, two_cells
from tests.plugins.benchmark.test_published import PAIR, PAPER, publish


def measured(**change: Any) -> BenchmarkResults:
    plain = rows([10, 10, 10, 10], score=1.0)
    fast = drafted([20, 40, 30, 50], score=1.0)
    fast[3] = replace(fast[3], score=0.0, output_digest="another text")
    return two_cells(plain, fast, **change)


def report(found: BenchmarkResults | None = None) -> Report:
    pair = publish(PAPER, {"acceptance_length": 6.54, "concurrency": 1})
    return build_report(found or measured(), [pair])


def said(found: Report) -> tuple[str, ...]:
    return tuple(map(str, found.notes))


def lines() -> tuple[Line, Line]:
    plain, fast = report().lines
    return plain, fast


def test_a_line_holds_drafting_against_plain_decoding_of_the_same_prompts() -> None:
    plain, fast = lines()
    assert (plain.speedup, plain.num_pairs, plain.num_identical) == (None, None, None)
    assert (fast.speedup, fast.num_pairs, fast.num_identical) == (3.5, 4, 3)
    assert fast.speedup_mean_tpot == pytest.approx(0.1 / ((1 / 20 + 1 / 40 + 1 / 30 + 1 / 50) / 4))
    assert fast.block_size == 16
    assert fast.runs_on == "torch, cuda:0, bfloat16"


def test_percentiles_are_interpolated_over_complete_prompts() -> None:
    fast = drafted([20, 40, 30, 50])
    fast.append(row(4, 1, finish_reason="failed"))
    line = build_report(two_cells(rows([10] * 4), fast), []).lines[1]
    assert line.tpot_p50_s == pytest.approx((1 / 40 + 1 / 30) / 2)
    assert line.tpot_p95_s == pytest.approx(1 / 30 + 0.85 * (1 / 20 - 1 / 30))
    assert line.num_failed == 1


def taken_back(path: Path) -> Report:
    return TypeAdapter(Report).validate_json(path.read_bytes())


def test_a_report_survives_json(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(report_json(report()))
    assert json.loads(path.read_text())["format"] == 1
    assert taken_back(path) == report()


def test_every_file_is_written_and_the_results_can_be_read_again(tmp_path: Path) -> None:
    found = measured()
    written = write_files(found, report(found), tmp_path / "new" / "folder")
    names = [path.name for path in written]
    assert names == ["results.json", "report.json", "report.csv", "report.md"]
    assert read_results(written[0]) == found
    assert taken_back(written[1]) == report(found)
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="name another folder"):
        write_files(found, report(found), tmp_path / "file")


def test_the_text_has_the_figures_their_settings_and_the_published_ones() -> None:
    text = to_text(report())
    assert "Benchmark 3: qwen3-8b" in text
    assert "EPYC, 16 cores, 128.0 GB, NVIDIA H200, Linux" in text
    assert "DFlash Studio 0.1.0, python 3.11.7, torch 2.13.0" in text
    assert "greedy, thinking off, at most 2,048 new tokens" in text
    measured_lines = [line for line in text.splitlines() if line.startswith("gsm8k")]
    plain, fast = (line.split() for line in measured_lines[:2])
    assert "3.50×" in fast
    assert "3.50×" not in plain
    assert fast[-7:-3] == ["75", "%", "of", "4"]
    assert fast[-3:] == ["3", "of", "4"]
    assert "(1) qwen3-8b, table 1 (Transformers, H200, thinking off" in text
    assert "Differs: Transformers there, torch here." in text


def test_columns_that_nothing_fills_are_left_out() -> None:
    plan = Plan(pair="qwen3-8b", datasets=("mbpp",), modes=("ar",))
    (ar,) = methods(plan)
    text = to_text(build_report(results([cell(ar, "mbpp", rows([10]))], plan), []))
    assert "decoding" in text
    for absent in ("speedup", "acceptance", "right", "same text", "at a time", "Published"):
        assert absent not in text


def test_concurrency_is_a_column_where_it_varies() -> None:
    plan = Plan(pair="qwen3-8b", datasets=("mbpp",), modes=("ar",), concurrency=(1, 8))
    (ar,) = methods(plan)
    cells = [cell(ar, "mbpp", rows([10]), concurrency=level) for level in (1, 8)]
    assert "at a time" in to_text(build_report(results(cells, plan), []))


def test_markdown_keeps_its_cells_whatever_a_text_holds() -> None:
    found = measured()
    evil = "a\\|b\n<script>alert(1)</script>\x1b![x](http://y)"
    cells = tuple(replace(each, label=evil) for each in found.cells)
    page = to_markdown(report(replace(found, cells=cells)))
    assert "<script>" not in page
    assert "\x1b" not in page
    assert r"a\\\|b &lt;script>alert(1)&lt;/script>!\[x\](http://y)" in page
    heads = [line for line in page.splitlines() if line.startswith("| gsm8k")]
    assert len({re.sub(r"\\.", "", line).count("|") for line in heads[:2]}) == 1


def test_csv_has_plain_numbers_and_no_formula() -> None:
    found = measured()
    cells = tuple(replace(each, label="=1+1") for each in found.cells)
    plain, fast = csv.DictReader(io.StringIO(to_csv(report(replace(found, cells=cells)))))
    assert (plain["speedup"], fast["speedup"]) == ("", "3.5")
    assert float(fast["speedup_first_quartile"]) == 2.0
    assert fast["label"] == "'=1+1"


def test_notes_say_what_a_reader_must_know() -> None:
    found = measured()
    short = replace(found.cells[1], num_prompts=9)
    shared = replace(short, figures=replace(short.figures, acceptance_shared=True))
    notes = said(report(replace(found, cells=(found.cells[0], shared))))
    assert "5 of 13 prompts have no answer yet." in notes
    assert "Acceptance is counted for the whole server: other traffic may be in it." in notes
    few = (
        "Few prompts: the figures are rough. Fewer than 8 were measured in: gsm8k AR (4), gsm8k "
        "DFlash (4)."
    )
    assert said(build_report(found, [PAIR])) == (
        few,
        "No published figure of this pair is known for these sets.",
    )
    other = replace(found, plan=replace(found.plan, thinking="on"))
    assert said(report(other)) == (
        few,
        "Nothing is published with these settings: the nearest is shown, with what differs.",
    )


def test_enough_prompts_have_no_remark_of_being_few() -> None:
    notes = said(report(two_cells(rows([10] * 8), drafted([20] * 8))))
    assert not any("Few prompts" in note for note in notes)


def test_it_says_how_it_is_measured_again_and_what_was_taken() -> None:
    found = replace(measured(), num_questions={"gsm8k": 2})
    found = replace(found, plan=replace(found.plan, num_prompts=128))
    told = report(found)
    command = "dflash-app benchmark --pair qwen3-8b --dataset gsm8k --prompts 128"
    assert told.command.startswith(command)
    assert json.loads(report_json(told))["command"] == told.command
    page = to_markdown(told)
    assert f"## The same again\n\n```sh\n{command}" in page
    assert "questions: 2 of gsm8k, which has no more" in page
    assert "Asked: 2 questions = 4 turns × 2 methods: 8 prompts" in page
    assert say_settings(Plan(), {"bundled": 28}).split(", ")[3] == "questions: all 28 of bundled"


def test_a_report_and_results_of_an_earlier_version_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    old = json.loads(report_json(report()))
    for name in ("command", "num_questions", "counts"):
        del old[name]
    path.write_text(json.dumps(old))
    assert taken_back(path).command == ""
    assert "same again" not in to_markdown(taken_back(path))
    old = json.loads(to_json(measured()))
    del old["num_questions"]
    path.write_text(json.dumps(old))
    assert read_results(path) == measured()


def test_the_terminal_uses_the_words_of_the_page() -> None:
    text = to_text(report())
    assert "each token, median (TPOT p50)" in text
    assert "speedup, middle half (quartiles)" in text


def test_replies_that_were_cut_are_told() -> None:
    plain, fast = rows([10, 10], score=0.0, finish_reason="length"), drafted([20, 40], score=1.0)
    notes = said(report(two_cells(plain, fast)))
    assert any(note.startswith("2 of 4 replies were cut at 2,048 new tokens") for note in notes)


def test_settings_say_how_tokens_are_drawn_and_how_the_pair_is_loaded() -> None:
    plan = Plan(
        temperature=0.6, top_p=0.9, seed=7, num_prompts=5, repetitions=2,
        options=LoadOptions("cuda:1", quantization="nf4"),
    )  # fmt: skip
    assert say_settings(plan) == (
        "temperature 0.6, top-p 0.9, top-k 0, seed 7, thinking as the template has it, at most "
        "2,048 new tokens, 5 questions of each set, asked 2 times, 1 round of warm-up, device "
        "cuda:1, quantization nf4"
    )
