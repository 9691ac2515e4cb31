"""The hub's list: filtered, ordered, and inert whatever a registry says."""

import json
from dataclasses import replace
from typing import Any

import pytest

from dflash_app.hub.fit import Fit, PairFit
from dflash_app.hub.hub import Standing
from dflash_app.hub.job_store import Job
from dflash_app.registry.pair import Pair
from dflash_app.ui.hub_table import Row, Wish, choose_rows, render_table


def pair(name: str, **more: Any) -> Pair:
    row = {
        "name": name,
        "title": name.title(),
        "family": "qwen3",
        "target": {"repo": f"org/{name}"},
    }
    return Pair.model_validate_json(json.dumps(row | more))


def stand(row: Pair, status: Any = "not downloaded", size: int | None = None) -> Standing:
    return Standing(row, status, None, 0, size, None)


def fit_of(name: str, longest_context: int, *, room: int = 10) -> PairFit:
    fits = (Fit("bf16", "cpu", 10, 5, longest_context, None),)
    return PairFit(name, "hub", None, 5, room, fits)


def published(speedup: float, setup: str) -> dict[str, Any]:
    results = [{"task": "GSM8K", "speedup": speedup}]
    return {"benchmarks": [{"source": "a paper", "setup": setup, "results": results}]}


ROWS = [
    Row(stand(pair("planned-one", status="planned"), "planned"), None),
    Row(stand(pair("large", **published(2, "H200")), size=9), fit_of("large", 0)),
    Row(stand(pair("small", family="llama", **published(5, "H200")), size=3), fit_of("small", 8)),
    Row(stand(pair("here"), "ready", 5), None),
    Row(stand(pair("begun"), "partial"), None),
]


def names(**wish: str) -> list[str]:
    return [row.pair.name for row in choose_rows(ROWS, Wish(**wish))]


def test_what_is_ready_comes_first_and_what_is_planned_last() -> None:
    assert names() == ["here", "begun", "large", "small", "planned-one"]


@pytest.mark.parametrize(
    ("wish", "left"),
    [
        ({"text": "ORG/la"}, ["large"]),
        ({"text": "llama small"}, ["small"]),
        ({"text": "[("}, []),
        ({"family": "llama"}, ["small"]),
        ({"status": "does not fit"}, ["large"]),
        ({"status": "not downloaded"}, ["small"]),
        ({"fits": "fits", "text": "a"}, ["small"]),
        ({"order": "name", "status": "all"}, ["begun", "here", "large", "planned-one", "small"]),
        ({"order": "size"}, ["small", "here", "large", "planned-one", "begun"]),
        ({"order": "speedup"}, ["small", "large", "planned-one", "here", "begun"]),
    ],
)
def test_filters_and_orders(wish: dict[str, str], left: list[str]) -> None:
    assert names(**wish) == left


def test_a_pair_that_is_being_fetched_says_so_and_a_full_disk_does_not_fit() -> None:
    row = ROWS[2]
    job = Job(1, "small", (), "queued")
    assert replace(row, standing=replace(row.standing, job=job)).status == "downloading"
    assert replace(row, fit=fit_of("small", 8, room=4)).status == "does not fit"


def test_a_speedup_says_its_source_and_whether_it_is_for_this_hardware() -> None:
    html = render_table([ROWS[2]], None)
    assert "up to 5.00×<small>other hardware</small>" in html
    assert 'title="GSM8K: H200 (a paper)"' in html
    html = render_table([replace(ROWS[2], gpus=["NVIDIA H200"])], None)
    assert "<small>this GPU</small>" in html


def test_the_chosen_row_is_marked_and_every_text_is_inert() -> None:
    hostile = pair(
        "x",
        title="<img src=x onerror=alert(1)>",
        family='"><script>1</script>',
        target={"repo": "org/x", "licence": "<b onclick=1>", "gated": True},
        backends=["torch", "vllm"],
        **published(2, '"><i>'),
    )
    html = render_table([Row(stand(hostile), None), ROWS[3]], "here")
    for tag in ("<img", "<script", "<b onclick", "<i>"):
        assert tag not in html
    assert 'data-pair="here" aria-selected="true"' in html
    assert html.count('aria-selected="true"') == 1
    assert 'torch <span title="vllm">+1</span>' in html
    assert "No pair matches" in render_table([], None)


def test_a_pair_on_a_server_stands_with_the_ready_ones_and_fits_nowhere_here() -> None:
    server = {"server": "http://gpu-box/v1", "model": "<b>x</b>"}
    served = pair("served", target=server, backends=["remote"])
    rows = [*ROWS, Row(stand(served, "on server"), None)]
    assert [row.pair.name for row in choose_rows(rows, Wish())][:2] == ["here", "served"]
    left = choose_rows(rows, Wish(status="on server"))
    assert [row.pair.name for row in left] == ["served"]
    assert "served" not in [row.pair.name for row in choose_rows(rows, Wish(fits="fits"))]
    html = render_table(left, None)
    assert "on a server" in html
    assert ">remote<" in html
    assert choose_rows(rows, Wish(text="gpu-box"))[0].pair == served
