"""The recommendation follows from what fits and what is published, and says both."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dflash_app.cli import main
from dflash_app.cli.hub_text import advice_as_json
from dflash_app.hub.fit import Device, Fit, PairFit
from dflash_app.hub.hub import Standing, Status
from dflash_app.hub.published import USES
from dflash_app.hub.recommend import NO_ANSWER, NOT_ASKED, Advice, fits_of, recommend
from dflash_app.registry.pair import Pair
from dflash_app.settings import EMBEDDED_DIR, Settings
from dflash_app.workspace import open_workspace
from tests.hub.conftest import use_endpoint
from tests.hub.server import HubServer
from tests.hub.test_served_pairs import files_of

H200 = "NVIDIA H200"


def pair(name: str, speedup: float | None = None, setup: str = "H200", **said: object) -> Pair:
    """A pair with a speedup for code."""
    row = {"task": "HumanEval", "speedup": speedup}
    tables = [{"source": "a paper", "setup": setup, "results": (row,)}] if speedup else []
    refs = {"target": {"repo": f"o/{name}"}, "drafter": {"repo": f"o/{name}-d"}}
    return Pair.model_validate(
        {"name": name, "title": name, "family": "qwen3", "benchmarks": tuple(tables)} | refs | said
    )


EMBEDDED = pair("embedded", target={"path": "embedded:target"})


def stands(row: Pair, status: Status = "not downloaded", reason: str | None = None) -> Standing:
    return Standing(row, status, reason, 0, None, None)


def fit(
    name: str,
    *,
    device: str = "cuda:0",
    needed_gb: float = 10,
    free_gb: float = 20,
    context: int = 1000,
    disk_free_gb: float = 100,
) -> PairFit:
    """Fits of a pair that needs so much in bf16, and half and a quarter of it below."""
    sizes = {"bf16": 1.0, "int8": 0.5, "nf4": 0.25, "MLX 4-bit": 0.25}
    fits = tuple(
        Fit(
            precision=precision,
            device=device,
            free_bytes=int(free_gb * 1e9),
            needed_bytes=int(needed_gb * share * 1e9),
            longest_context=context if needed_gb * share <= free_gb else 0,
            need=None,
        )
        for precision, share in sizes.items()
    )
    return PairFit(name, "hub", None, 10**9, int(disk_free_gb * 1e9), fits)


def order(advice: Advice) -> list[str]:
    return [each.pair for each in advice.ranked]


def test_the_fastest_published_pair_that_an_accelerator_holds_comes_first() -> None:
    rows = [EMBEDDED, pair("slow", 2.0), pair("silent"), pair("fast", 5.0), pair("on-cpu", 9.0)]
    fits: dict[str, PairFit | str] = {row.name: fit(row.name) for row in rows}
    fits |= {name: fit(name, device="cpu") for name in ("embedded", "on-cpu")}
    advice = recommend([stands(row) for row in rows], fits, "code", [H200])
    assert order(advice) == ["fast", "slow", "embedded", "silent", "on-cpu"]
    assert advice.left_out == ()
    first, second, _, silent, on_cpu = advice.ranked
    assert first.reason == (
        "It needs 10.0 GB of the 20.0 GB free on cuda:0 in bf16, with room for 1,000 tokens, and "
        "its published speedup for code is the highest of the pairs that fit. Published: speedup "
        "5x on HumanEval (a paper; H200; this hardware)."
    )
    assert "highest" not in second.reason
    assert silent.reason.endswith("nothing is published for code.")
    assert "for which nothing is published. Elsewhere: speedup 9x" in on_cpu.reason


def test_without_published_figures_that_fit_the_embedded_pair_is_recommended_and_why_is_said() -> (
    None
):
    rows = [pair("huge", 5.0), EMBEDDED, pair("silent"), pair("on-cpu", 3.0), pair("unknown", 2.0)]
    fits: dict[str, PairFit | str] = {
        "huge": fit("huge", needed_gb=500),
        "embedded": fit("embedded", device="cpu"),
        "silent": fit("silent"),
        "on-cpu": fit("on-cpu", device="cpu"),
        "unknown": NO_ANSWER,
    }
    advice = recommend([stands(row) for row in rows], fits, "code", [])
    assert order(advice) == ["embedded", "silent", "on-cpu"]
    assert advice.ranked[0].reason.endswith(
        "It is recommended because no pair with published figures for code fits a graphics "
        "processor of this machine (1 does not fit, 1 size not known, 1 fit only the processor's "
        "memory, 1 fit without a published figure)."
    )
    assert [(each.pair, each.cause) for each in advice.left_out] == [
        ("huge", "does not fit"),
        ("unknown", "size not known"),
    ]
    assert advice.left_out[0].reason == "It needs 125.0 GB in nf4, and cuda:0 has 20.0 GB free."


def test_what_cannot_be_used_is_left_out_with_its_own_reason() -> None:
    causes: tuple[Status, ...] = ("planned", "not supported", "gated")
    standings = [stands(pair(f"p{i}", 9.0), each, f"{each}!") for i, each in enumerate(causes)]
    standings += [stands(pair("disk", 9.0)), stands(pair("unseen", 9.0))]
    fits: dict[str, PairFit | str] = {"disk": fit("disk", disk_free_gb=0.5)}
    advice = recommend(standings, fits, "code")
    assert advice.ranked == ()
    told = [(each.cause, each.reason) for each in advice.left_out]
    assert told[:3] == [(each, f"{each}!") for each in causes]
    assert told[3][1].startswith("Its download of 1.0 GB does not fit the disk")
    assert told[4][0] == "size not known"


def test_a_size_by_its_name_is_marked() -> None:
    rows = [pair("small", 5.0), pair("huge", 5.0)]
    known = {"small": fit("small"), "huge": fit("huge", needed_gb=500)}
    fits: dict[str, PairFit | str] = {
        name: replace(each, fits=tuple(replace(fit, by_name=True) for fit in each.fits))
        for name, each in known.items()
    }
    advice = recommend([stands(row) for row in rows], fits, "code", [H200])
    assert "needs 10.0 GB, by its name and without caches, of the 20.0" in advice.ranked[0].reason
    assert "needs 125.0 GB, by its name and without caches, in nf4" in advice.left_out[0].reason
    (told,) = json.loads(json.dumps(advice_as_json(advice)["ranked"]))
    assert (told["by_name"], told["published"]["results"][0]["speedup"]) == (True, 5.0)


def test_a_precision_below_that_of_the_figures_is_said() -> None:
    row = pair("tight", 5.0)
    fits: dict[str, PairFit | str] = {"tight": fit("tight", needed_gb=30)}
    suggestion = recommend([stands(row)], fits, "code", [H200]).ranked[0]
    assert suggestion.fit.precision == "int8"
    assert "Published, not said to be of int8: speedup 5x" in suggestion.reason


def test_apples_devices_take_mlx_for_four_bits_where_the_pair_runs_on_it() -> None:
    fits: dict[str, PairFit | str] = {"p": fit("p", device="mps", needed_gb=60)}
    row = pair("p", 5.0, setup="MLX, M5 Max, 4-bit target", backends=("mlx",))
    suggestion = recommend([stands(row)], fits, "code", ["Apple M5 Max"]).ranked[0]
    assert suggestion.fit.precision == "MLX 4-bit"
    assert "not said to be" not in suggestion.reason
    on_torch = recommend([stands(pair("p", 5.0, backends=("torch",)))], fits, "code")
    assert [each.cause for each in on_torch.left_out] == ["does not fit"]


def test_for_long_context_the_room_counts_before_the_speed() -> None:
    rows = [pair("fast", 5.0), pair("roomy", 2.0)]
    fits: dict[str, PairFit | str] = {
        "fast": fit("fast"),
        "roomy": fit("roomy", context=100_000),
    }
    advice = recommend([stands(row) for row in rows], fits, "long context", [H200])
    assert order(advice) == ["roomy", "fast"]
    assert "100,000 tokens, the longest context" in advice.ranked[0].reason
    assert "Published, for short prompts: speedup 2x" in advice.ranked[0].reason


def test_the_fits_are_read_from_the_hub_and_it_is_asked_once_where_it_is_silent(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [pair(name, target={"repo": f"o/{name}"}, drafter={"repo": "o/d"}) for name in "abc"]
    for name in "abc":
        server.add(f"o/{name}", files_of(EMBEDDED_DIR / "target"))
    server.add("o/d", files_of(EMBEDDED_DIR / "drafter"))
    standings = [*map(stands, rows), stands(pair("planned"), "planned")]
    devices = [Device("cuda:0", 10**9)]
    found = fits_of(standings, devices)
    assert list(found) == ["a", "b", "c"]
    assert all(isinstance(each, PairFit) and each.source == "hub" for each in found.values())
    requests = len(server.requests)
    assert fits_of(standings, devices, online=False) == dict.fromkeys("abc", NOT_ASKED)
    assert len(server.requests) == requests
    use_endpoint("http://127.0.0.1:1", monkeypatch)
    assert fits_of(standings, devices) == dict.fromkeys("abc", NO_ANSWER)


def test_the_command_recommends_the_embedded_pair_where_nothing_else_is_known(
    settings: Settings, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub", "recommend", "--use", "long-context", "--offline"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("1. embedded: It ships with the app and needs ")
    assert "Not deepseek-v4-pro: Pair 'deepseek-v4-pro' is planned" in told.err
    assert main(["hub", "recommend", "--offline", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["use"], answer["ranked"][0]["pair"]) == ("chat", "embedded")
    assert main(["hub", "recommend", "--use", "poetry"]) == 2


@pytest.mark.parametrize("use", USES)
def test_every_known_pair_is_ranked_or_left_out_with_a_reason(
    settings: Settings, cache: Path, use: str
) -> None:
    workspace = open_workspace(settings)
    advice = workspace.recommend(use, [Device("cuda:0", 10**11)], online=False)  # type: ignore[arg-type]
    names = [each.pair for each in (*advice.ranked, *advice.left_out)]
    assert sorted(names) == sorted(row.name for row in workspace.pairs())
    assert all(each.reason.endswith(".") for each in (*advice.ranked, *advice.left_out))
    workspace.close()
