"""The command that a race hands out asks for the same race again."""

import io
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dflash_app.cli import main
from dflash_app.engine.protocol import LoadOptions
from dflash_app.race import LaneSpec
from dflash_app.request import GenerationRequest, Message, SamplingParams
from dflash_app.settings import Settings
from plugins.compare.command import race_command
from tests.cli.conftest import play
from tests.fakes import ScriptedPair, script_of

__all__ = ["play"]

HOSTILE = "-x $(touch /tmp/owned) `id` \"q\" 'q' \\ ; rm -rf ~\n多少? 😀"
OPTIONS = LoadOptions(device="cpu", dtype="float32", num_threads=1)
REQUEST = GenerationRequest(
    (Message("system", "Be short; 'please'."), Message("user", HOSTILE)),
    max_new_tokens=77,
    stop=("a b", "--"),
    sampling=SamplingParams(0.7, 0.9, 40, 0.05, 1.1, seed=12345),
    thinking="off",
)


def lane(options: LoadOptions = OPTIONS, pair: str = "scripted", **changes: Any) -> LaneSpec:
    return LaneSpec(pair, options, replace(REQUEST, **changes))


@pytest.mark.parametrize(
    "specs",
    [
        [lane(mode="ar"), lane(mode="dflash")],
        [lane(block_size=4), lane(block_size=8, policy="adaptive"), lane(mode="ar")],
        [lane(mode="ar"), lane(replace(OPTIONS, dtype=None, quantization="nf4"))],
        [lane(replace(OPTIONS, dtype=None)), lane(replace(OPTIONS, dtype="bfloat16"))],
        [lane(mode="ar"), lane(), lane(pair="second")],
    ],
)
def test_the_command_asks_for_the_same_lanes(
    play: Callable[..., ScriptedPair], settings: Settings, specs: list[LaneSpec]
) -> None:
    registry = settings.user_registry
    first = registry.read_text()
    second = first.replace("name: scripted", "name: second").split("pairs:")[1]
    registry.write_text(first + second)
    pair = play(*[script_of((2,))] * len(specs))
    program, *arguments = shlex.split(race_command(specs, "script", HOSTILE))
    assert program == "dflash-app"
    assert main(arguments) == 0
    assert pair.requests[-len(specs) :] == [spec.request for spec in specs]
    asked = {replace(spec.options, drafter=True) for spec in specs}
    loaded = {replace(options, drafter=True) for options in pair.load_options}  # type: ignore[attr-defined]
    assert loaded == asked


def test_a_prompt_that_is_not_told_is_read_from_standard_input() -> None:
    command = race_command([lane(mode="ar"), lane()], None, None)
    assert command.endswith(" -- -")
    assert "owned" not in command
    assert not {"--system", "--stop"} & set(shlex.split(command))


def test_a_prompt_that_is_a_dash_is_no_order_to_read_another(
    play: Callable[..., ScriptedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _, command = race_command([lane(mode="ar"), lane()], None, "-").partition(" | ")
    typed = subprocess.run(before, shell=True, capture_output=True, check=True).stdout
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed)))
    pair = play(*[script_of((2,))] * 2)
    assert main(shlex.split(command)[1:]) == 0
    assert [each.messages[-1].content for each in pair.requests[-2:]] == ["-", "-"]


@pytest.mark.parametrize("temperature", [0.1 + 0.2, 1 / 3, 1e-07, 1, 2.0])
def test_no_digit_of_a_number_is_lost(temperature: float) -> None:
    asked = replace(REQUEST.sampling, temperature=temperature)
    words = shlex.split(race_command([lane(sampling=asked), lane(mode="ar")], None, "x"))
    assert float(words[words.index("--temperature") + 1]) == temperature


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    assert race_command([lane(mode="ar"), lane()], None, "a\ud800b").endswith("-- 'a?b'")
