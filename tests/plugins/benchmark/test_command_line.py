"""A plan as a command: the command line makes the same plan of it."""

import shlex

import pytest
import typer
from dflash_plugins.benchmark import at_terminal
from dflash_plugins.benchmark.command import benchmark
from dflash_plugins.benchmark.command_line import command_of
from dflash_plugins.benchmark.plan import Plan
from typer.testing import CliRunner

from dflash_app.engine.protocol import LoadOptions

PLANS = [
    Plan(),
    Plan(pair="served", datasets=("gsm8k", "bundled"), concurrency=(1, 8), baseline="mtp"),
    Plan(
        datasets=("bundled", "my questions; rm -rf ~.jsonl"), modes=("dflash",), num_prompts=3,
        block_sizes=(4, 8), policies=("fixed", "adaptive"), temperature=0.7, top_p=0.95, top_k=20,
        seed=5, thinking="high", max_new_tokens=100, repetitions=3, warm_up=0, backend="torch",
        options=LoadOptions("cpu", "float32", num_threads=2, quantization="nf4"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("plan", PLANS)
def test_the_command_line_reads_the_same_plan(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Plan] = []
    monkeypatch.setattr(at_terminal, "start", lambda workspace, plan, *_, **__: read.append(plan))
    program, command, *options = shlex.split(command_of(plan, None))
    assert (program, command) == ("dflash-app", "benchmark")
    app = typer.Typer()
    app.command()(benchmark)
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert read == [plan]


def test_the_drafters_own_block_size_stands_as_its_number_beside_others() -> None:
    from dflash_app.registry.pair import ModelRef, Pair

    pair = Pair.model_validate(
        {
            "name": "a", "title": "A", "family": "qwen3", "block_size": 16,
            "target": {"repo": "a/b"}, "drafter": {"repo": "a/c"},
        }
    )  # fmt: skip
    assert isinstance(pair.target, ModelRef)
    assert "--block-size 16,8" in command_of(Plan(pair="a", block_sizes=(None, 8)), pair)
    assert "--block-size" not in command_of(Plan(pair="a"), pair)
