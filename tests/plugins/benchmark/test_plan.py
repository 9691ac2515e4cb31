import json
from typing import Any

import pytest
from dflash_plugins.benchmark.cells import cells, methods
from dflash_plugins.benchmark.plan import Plan, check_pairs, read_plan

from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import RequestError, UnknownPair
from tests.plugins.benchmark.conftest import Bench

FULL = Plan(
    pair="served",
    datasets=("gsm8k", "mine.jsonl"),
    backend="torch",
    options=LoadOptions("cuda:0", "bfloat16", num_threads=2, quantization="nf4"),
    num_prompts=7,
    modes=("dflash",),
    block_sizes=(None, 8),
    policies=("fixed", "adaptive"),
    temperature=0.6,
    top_p=0.9,
    top_k=20,
    seed=3,
    thinking="off",
    max_new_tokens=64,
    repetitions=2,
    warm_up=0,
    concurrency=(1, 8),
    baseline="mtp",
    baseline_label="MTP",
    baseline_mode="ar",
)


@pytest.mark.parametrize("plan", [Plan(), FULL])
def test_a_plan_survives_json(plan: Plan) -> None:
    assert read_plan(json.loads(json.dumps(plan.as_dict()))) == plan


def test_a_plan_of_another_version_is_refused_with_its_place() -> None:
    with pytest.raises(RequestError, match=r"'heat'.*another version"):
        read_plan(Plan().as_dict() | {"heat": 1})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"num_prompts": 0}, "prompts must be a whole number at least 1, not 0"),
        ({"datasets": ("a\udcff.jsonl",)}, r"'a\?.jsonl' is not UTF-8"),
        ({"baseline": "b", "baseline_label": "M\udcff"}, "is not UTF-8"),
        ({"concurrency": (-1,)}, "concurrency must be a whole number from 1 to 1,024, not -1"),
        ({"concurrency": ()}, "at least one concurrency"),
        ({"concurrency": (8, 8)}, "concurrency is given twice"),
        ({"repetitions": 0}, "repetitions must be"),
        ({"repetitions": True}, "repetitions must be"),
        ({"warm_up": -1}, "warm-up must be"),
        ({"max_new_tokens": 0}, "max_new_tokens must be"),
        ({"block_sizes": (1,)}, "block size must be"),
        ({"modes": ("mtp",)}, "Unknown mode 'mtp': use ar or dflash"),
        ({"modes": ()}, "at least one mode"),
        ({"policies": ("wild",)}, "Unknown policy 'wild'"),
        ({"datasets": ()}, "at least one dataset"),
        ({"datasets": ("gsm8k", "gsm8k")}, "dataset is given twice"),
        ({"temperature": 3.0}, "temperature must be"),
        ({"seed": 2**63 - 1, "repetitions": 2}, "seed must be"),
        ({"baseline_label": "MTP"}, "label needs a baseline"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Plan(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"concurrency": (1, 8)}, "'embedded' decodes one request at a time"),
        ({"pair": "served", "block_sizes": (8,)}, "drafts as it was started"),
        ({"pair": "served", "policies": ("adaptive",)}, "drafts as it was started"),
        ({"pair": "plain"}, "'plain' has no drafter: ask for mode 'ar' only"),
        ({"baseline": "embedded"}, "is the pair itself"),
        ({"pair": "served", "baseline": "embedded"}, "baseline 'embedded' is not on a server"),
    ],
)
def test_what_the_pairs_cannot_do_is_refused_before_anything_is_loaded(
    bench: Bench, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        check_pairs(Plan(**wrong), bench.workspace.registry)
    assert not bench.here.options


def test_an_unknown_pair_is_refused(bench: Bench) -> None:
    with pytest.raises(UnknownPair, match="nobody"):
        check_pairs(Plan(pair="nobody"), bench.workspace.registry)


def test_a_grid_has_every_way_of_decoding_once() -> None:
    plan = Plan(block_sizes=(None, 8), policies=("fixed", "adaptive"), baseline="mtp")
    assert [(each.key, each.label) for each in methods(plan)] == [
        ("ar", "AR"),
        ("dflash", "DFlash"),
        ("dflash-adaptive", "DFlash adaptive"),
        ("dflash-b8", "DFlash block 8"),
        ("dflash-b8-adaptive", "DFlash block 8 adaptive"),
        ("baseline", "mtp"),
    ]


def test_cells_of_a_sweep_are_told_apart() -> None:
    plan = Plan(pair="served", datasets=("a", "b"), concurrency=(1, 8))
    keys = [cell.key for cell in cells(plan)]
    assert keys[:4] == ["a/ar/1", "a/dflash/1", "a/ar/8", "a/dflash/8"]
    assert len(set(keys)) == len(keys) == 8
