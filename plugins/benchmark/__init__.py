"""The benchmark suite: data sets, ways of decoding and their report, on every backend."""

import typer

from dflash_app.hookspecs import Dataset, Tab, hookimpl


@hookimpl
def register_tabs() -> list[Tab]:
    """Benchmark stands behind the tabs of single runs."""
    return [Tab("Benchmark", 35, f"{__name__}.tab:build", {"zh": "基准测试"})]


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Add `dflash-app benchmark`."""
    from .command import benchmark

    app.command()(benchmark)


@hookimpl
def register_datasets() -> list[Dataset]:
    """The five sets of DFlash's published tables, and one that needs no network."""
    sets, grades = f"{__name__}.hub_sets", f"{__name__}.scoring"
    return [
        Dataset(
            "bundled",
            "28 prompts for the embedded pair, which it was not trained on; MIT",
            f"{__name__}.jsonl:load_bundled",
        ),
        Dataset(
            "gsm8k",
            "1,319 school problems, graded by their number; openai/gsm8k, test; MIT",
            f"{sets}:load_gsm8k",
            f"{grades}:is_number",
        ),
        Dataset(
            "math500",
            "500 contest problems, graded by their box; HuggingFaceH4/MATH-500, test; MIT",
            f"{sets}:load_math500",
            f"{grades}:is_maths",
        ),
        Dataset(
            "humaneval",
            "164 functions to complete, ungraded; openai/openai_humaneval, test; MIT",
            f"{sets}:load_humaneval",
        ),
        Dataset(
            "mbpp",
            "257 Python tasks, ungraded; google-research-datasets/mbpp, sanitized test; CC-BY-4.0",
            f"{sets}:load_mbpp",
        ),
        Dataset(
            "mt-bench",
            "80 conversations of two turns, ungraded; HuggingFaceH4/mt_bench_prompts; Apache-2.0",
            f"{sets}:load_mt_bench",
        ),
    ]
