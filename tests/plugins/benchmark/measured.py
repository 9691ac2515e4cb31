"""Results of a benchmark with figures of a test's choice, in the runner's own types."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

from dflash_plugins.benchmark.cells import Method, methods
from dflash_plugins.benchmark.figures import AgainstPlain, Figures, percentiles
from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.results import (
    FORMAT,
    BenchmarkResults,
    CellResult,
    PromptRow,
    Where,
)

H200 = {
    "cpu": "EPYC", "cores": 16, "ram_bytes": 128_000_000_000, "os": "Linux",
    "gpus": ["NVIDIA H200"],
}  # fmt: skip
HERE = Where("torch", "cuda:0", "bfloat16", "static cache", "a" * 40, None, None)


def row(index: int, speed: float, **change: Any) -> PromptRow:
    """A prompt of 100 output tokens: `speed` tokens a second, a tenth of a second to the first."""
    plain = PromptRow(
        question_id=str(index),
        repetition=0,
        turn=0,
        run_id=index,
        finish_reason="stop",
        error=None,
        num_prompt_tokens=20 + index,
        num_output_tokens=100,
        num_steps=99,
        queue_s=0.0,
        ttft_s=0.1,
        total_s=0.1 + 99 / speed,
        tpot_s=1 / speed,
        decode_tok_s=speed,
        mean_acceptance_length=None,
        score=None,
        output_digest=f"text {index}",
    )
    return replace(plain, **change)


def rows(speeds: Sequence[float], **change: Any) -> list[PromptRow]:
    return [row(index, speed, **change) for index, speed in enumerate(speeds)]


def drafted(speeds: Sequence[float], length: float = 5.0, **change: Any) -> list[PromptRow]:
    """Rows that drafted, 20 steps each."""
    return rows(speeds, **{"num_steps": 20, "mean_acceptance_length": length} | change)


def cell(
    method: Method,
    dataset: str,
    answered: Sequence[PromptRow],
    plain: Sequence[PromptRow] | None = None,
    concurrency: int = 1,
    where: Where = HERE,
) -> CellResult:
    """A cell of these rows; `plain` are those of plain decoding, for all other methods."""
    against = None
    if plain is not None:
        pairs = list(zip(answered, plain, strict=False))
        ratios = [one.decode_tok_s / other.decode_tok_s for one, other in pairs]
        against = AgainstPlain(
            num_pairs=len(pairs),
            decode_speedup=median(ratios) if ratios else None,
            decode_speedup_quartiles=(min(ratios), max(ratios)) if ratios else None,
            end_to_end_speedup=_throughput(answered) / _throughput(plain) if ratios else None,
            num_identical=sum(one.output_digest == other.output_digest for one, other in pairs),
            score_difference=None,
        )
    drafts = method.mode == "dflash"
    return CellResult(
        dataset=dataset,
        method=method.key,
        label=method.label,
        concurrency=concurrency,
        num_prompts=len(answered),
        figures=_figures(answered, concurrency),
        against_plain=against,
        where=(replace(where, block_size=method.block_size or 16) if drafts else where,),
        rows=tuple(answered),
    )


def results(cells: Sequence[CellResult], plan: Plan, **change: Any) -> BenchmarkResults:
    found = BenchmarkResults(
        format=FORMAT,
        benchmark_id=3,
        created_at=datetime(2026, 11, 21, 12, 30, tzinfo=UTC),
        finished_at=datetime(2026, 11, 21, 12, 40, tzinfo=UTC),
        plan=plan,
        question_digests={name: f"digest of {name}" for name in plan.datasets},
        hardware=H200,
        library_versions={"python": "3.11.7", "torch": "2.13.0"},
        app_version="0.1.0",
        cells=tuple(cells),
    )
    return replace(found, **change)


def two_cells(
    plain: Sequence[PromptRow],
    fast: Sequence[PromptRow],
    *,
    plan: Plan | None = None,
    dataset: str = "gsm8k",
    **change: Any,
) -> BenchmarkResults:
    """Plain decoding and DFlash on one data set."""
    plan = plan or Plan(pair="qwen3-8b", datasets=(dataset,), thinking="off")
    ar, dflash = methods(plan)
    cells = [cell(ar, dataset, plain), cell(dflash, dataset, fast, plain)]
    return results(cells, plan, **change)


def _figures(answered: Sequence[PromptRow], concurrency: int) -> Figures:
    lengths = [row.mean_acceptance_length for row in answered if row.mean_acceptance_length]
    scores = [row.score for row in answered if row.score is not None]
    length = sum(lengths) / len(lengths) if lengths else None
    return Figures(
        num_answered=sum(row.finish_reason == "stop" for row in answered),
        num_failed=sum(row.finish_reason == "failed" for row in answered),
        num_output_tokens=sum(row.num_output_tokens or 0 for row in answered),
        wall_s=sum(row.total_s or 0 for row in answered),
        end_to_end_tok_s=_throughput(answered) * concurrency if answered else None,
        decode_tok_s=answered[0].decode_tok_s if answered else None,
        ttft_s=percentiles([row.ttft_s for row in answered if row.ttft_s is not None]),
        tpot_s=percentiles([row.tpot_s for row in answered if row.tpot_s is not None]),
        mean_acceptance_length=length,
        acceptance_histogram=(1, 2, 3, 4) if length else (),
        acceptance_source=None,
        acceptance_shared=False,
        score=sum(scores) / len(scores) if scores else None,
        num_scored=len(scores),
        num_shares=1,
    )


def _throughput(answered: Sequence[PromptRow]) -> float:
    tokens = sum(row.num_output_tokens or 0 for row in answered)
    return tokens / sum(row.total_s or 0 for row in answered)
