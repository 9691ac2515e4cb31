"""The cost of reading a server: measured on a few tokens here, judged by limits."""

import json
from pathlib import Path

import pytest

from benchmarks.client_overhead import LIMITS, Cost, judge, main


def cost(readers: int, overhead: float, *, paced: bool = True) -> Cost:
    return Cost(readers, paced, 5000.0, 5000.0 * (1 - overhead), overhead, overhead, 0.01)


def test_every_token_is_read_and_the_figures_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    few = ["--readers", "1", "3", "--round-tokens", "60", "--rounds", "1", "--tok-s", "600"]
    main([*few, "--out", str(out)])
    results = json.loads(out.read_text())
    assert [(each["readers"], each["paced"]) for each in results["costs"]] == [
        (1, True),
        (3, True),
        (1, False),
        (3, False),
    ]
    for each in results["costs"]:
        assert each["client_tok_s"] > 0
        assert each["server_tok_s"] > 0
        assert each["ttft_s"] > 0
    assert results["hardware"]
    assert "read tok/s" in capsys.readouterr().out


def test_a_paced_server_sends_no_faster_than_its_pace(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    main(
        [
            "--readers",
            "2",
            "--round-tokens",
            "40",
            "--rounds",
            "1",
            "--tok-s",
            "400",
            "--out",
            str(out),
        ]
    )
    paced = json.loads(out.read_text())["costs"][0]
    # The first token of each reply is not waited for.
    assert paced["server_tok_s"] < 400 * 20 / 19


@pytest.mark.parametrize("readers", sorted(LIMITS))
def test_overhead_is_judged_by_the_limit_for_so_many_readers(readers: int) -> None:
    limit = LIMITS[readers]
    assert all(check.met for check in judge([cost(readers, limit * 0.9)]))
    assert not any(check.met for check in judge([cost(readers, limit * 1.1)]))


def test_other_numbers_of_readers_and_unpaced_rounds_are_shown_and_not_judged() -> None:
    assert judge([cost(4, 0.9), cost(1, 0.9, paced=False)]) == []
