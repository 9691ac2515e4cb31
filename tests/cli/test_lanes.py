"""Lanes of `generate --compare`: what is raced, what is told of each, what is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dflash_app.cli import main
from dflash_app.events import Finished
from dflash_app.settings import Settings
from dflash_app.store.runs import Store
from tests.fakes import ScriptedPair, script_of

Play = Callable[..., ScriptedPair]
Capture = pytest.CaptureFixture[str]

AR = script_of((2,), (3,), (4,))
DFLASH = script_of((2, 3, 4), num_draft=3)
SHORT = script_of((2, 3), (4,), num_draft=2)


def compare(*lanes: str, more: tuple[str, ...] = ()) -> int:
    named = [word for lane in lanes for word in ("--lane", lane)]
    return main(["generate", "--pair", "scripted", *more, *named, "Hello"])


def printed(capsys: Capture) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_three_lanes_race_under_one_group_and_each_is_held_against_plain_decoding(
    play: Play, capsys: Capture, settings: Settings
) -> None:
    pair = play(DFLASH, AR, SHORT)
    lanes = ("dflash", "ar", "dflash,block=3,drafts=adaptive")
    assert compare(*lanes, more=("--json", "--max-new-tokens", "9")) == 0
    asked = [(each.mode, each.block_size, each.policy) for each in pair.requests[-3:]]
    assert asked == [
        ("dflash", None, "fixed"),
        ("ar", None, "fixed"),
        ("dflash", 3, "adaptive"),
    ]
    assert all(each.max_new_tokens == 9 for each in pair.requests)
    answer = printed(capsys)
    first, plain, third = answer["runs"]
    assert answer["baseline"] == 1
    assert "speedup" not in plain
    assert (first["speedup"], third["speedup"]) == (pytest.approx(3.0), pytest.approx(1.5))
    assert first["seconds_saved"] == pytest.approx(0.5)
    assert first["verdict"]["identical"] is third["verdict"]["identical"] is True
    assert answer["speedup"] == first["speedup"]
    assert (plain["block_size"], third["block_size"]) == (None, 3)
    with Store(settings.database) as store:
        runs = store.list_runs()
    assert len({run.start.group_id for run in runs}) == 1
    assert len(runs) == 3


def test_a_lane_in_another_precision_is_loaded_beside(play: Play, capsys: Capture) -> None:
    pair = play(AR, DFLASH)
    lanes = ("ar,precision=bfloat16", "dflash,precision=nf4")
    assert compare(*lanes, more=("--dtype", "float32", "--threads", "1")) == 0
    first, second = pair.load_options  # type: ignore[attr-defined]
    assert (first.dtype, first.quantization, first.drafter) == ("bfloat16", None, False)
    assert (second.dtype, second.quantization, second.drafter) == ("float32", "nf4", True)
    assert first.num_threads == second.num_threads == 1


def test_lanes_of_one_mode_are_told_apart_by_their_number(play: Play, capsys: Capture) -> None:
    pair = play(DFLASH, [*SHORT[:-2], Finished("length", 1.0)])
    pair.logits = {3: 1.0, 4: 2.0}
    assert compare("dflash", "dflash,block=3") == 0
    captured = capsys.readouterr()
    assert "DFlash (lane 1) wrote instead:\nbcde" in captured.out
    assert "DFlash (lane 2) decodes" in captured.err


@pytest.mark.parametrize(
    ("lanes", "words"),
    [
        (("ar",), "A race has 2 or 3 lanes"),
        (("ar",) * 4, "A race has 2 or 3 lanes"),
        (("ar", "fast"), "'fast' is no lane"),
        (("ar", "dflash,width=3"), "is no lane"),
        (("ar", "dflash,block"), "is no lane"),
        (("ar", "dflash,block=many"), "block=many is no block size"),
        (("ar", "dflash,block=1"), "block_size must be a whole number from 2"),
        (("ar", "dflash,drafts=wild"), "use fixed, adaptive"),
        (("ar", "dflash,precision=half"), "precision=half is unknown"),
        (("ar", "dflash,pair=nobody"), "nobody"),
    ],
)
def test_a_lane_that_cannot_race_is_one_sentence(
    play: Play, capsys: Capture, lanes: tuple[str, ...], words: str
) -> None:
    pair = play(AR, DFLASH)
    assert compare(*lanes) == 1
    captured = capsys.readouterr()
    assert words in captured.err
    assert len(captured.err.splitlines()) == 1
    assert pair.requests == []
