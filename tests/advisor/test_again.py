from dataclasses import replace

import pytest

from dflash_app.advisor import again
from dflash_app.advisor.again import options_of, request_of, source_of
from dflash_app.advisor.case import beside_page
from dflash_app.advisor.finding import Change
from dflash_app.engine.protocol import LoadOptions
from dflash_app.request import Message, SamplingParams
from tests.advisor.cases import START

SAMPLED = replace(
    START,
    messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}),
    temperature=0.7,
    top_p=0.9,
    top_k=40,
    min_p=0.05,
    repetition_penalty=1.1,
    seed=3,
    stop=("END",),
    max_new_tokens=99,
    thinking="off",
)


@pytest.fixture(autouse=True)
def _no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "accelerators", list)


def test_a_run_is_asked_for_again_as_it_was() -> None:
    request = request_of(SAMPLED)
    assert request.messages == (Message("system", "Be brief."), Message("user", "Hi"))
    assert request.sampling == SamplingParams(0.7, 0.9, 40, 0.05, 1.1, 3)
    assert (request.stop, request.max_new_tokens, request.thinking) == (("END",), 99, "off")
    assert (request.mode, request.block_size, request.policy) == ("dflash", 8, "fixed")
    plain = replace(START, mode="ar", block_size=None, policy=None)
    assert request_of(plain).policy == "fixed"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Change("block_size", 4), {"block_size": 4}),
        (Change("policy", "adaptive"), {"policy": "adaptive"}),
        (Change("mode", "ar"), {"mode": "ar", "block_size": None}),
        (Change("thinking", "on"), {"thinking": "on"}),
        (Change("dtype", "bfloat16"), {}),
        (None, {}),
    ],
)
def test_one_thing_of_the_request_is_changed(
    change: Change | None, expected: dict[str, object]
) -> None:
    assert request_of(START, change) == replace(request_of(START), **expected)  # type: ignore[arg-type]


def test_adaptive_drafts_at_a_temperature_give_the_seed_up() -> None:
    assert request_of(SAMPLED, Change("policy", "adaptive")).sampling.seed is None
    assert request_of(SAMPLED, Change("temperature", 0.0)).sampling.greedy


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, LoadOptions(num_threads=1)),
        ({"device": "cuda:0", "dtype": "bfloat16"}, LoadOptions(device="cuda:0", num_threads=1)),
        ({"dtype": "bfloat16"}, LoadOptions(dtype="bfloat16", num_threads=1)),
        (
            {"device": "cuda:0+cuda:1", "dtype": "bfloat16"},
            LoadOptions(device="auto", num_threads=1),
        ),
        (
            {"quantization": "nf4", "dtype": "bfloat16", "drafter_quantization": "nf4"},
            LoadOptions(quantization="nf4", drafter_quantization="nf4", num_threads=1),
        ),
        ({"quantization": "fp8"}, LoadOptions(num_threads=1)),
    ],
)
def test_a_pair_is_loaded_again_as_it_was_loaded(
    asked: dict[str, object], expected: LoadOptions
) -> None:
    assert options_of(replace(START, **asked), 1) == expected  # type: ignore[arg-type]


def test_a_run_on_the_processor_stays_there_on_a_machine_with_an_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(again, "accelerators", lambda: ["NVIDIA H200"])
    assert options_of(START, 1) == LoadOptions(device="cpu", num_threads=1)


def test_one_thing_of_the_loading_is_changed() -> None:
    start = replace(START, dtype="bfloat16")
    assert options_of(start, 1, Change("dtype", "float32")).dtype == "float32"
    assert options_of(start, 1, Change("num_threads", 4)).num_threads == 4

    assert options_of(start, 1, Change("block_size", 4)) == options_of(start, 1)


def test_a_trial_with_other_threads_does_not_pass_for_a_run_of_the_page() -> None:
    for change in (None, Change("block_size", 4), Change("dtype", "float32")):
        assert beside_page(replace(START, source=source_of(change)))
    assert not beside_page(replace(START, source=source_of(Change("num_threads", 4))))
