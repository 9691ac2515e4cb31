"""A row is frozen, hashable, and gives its published figures flat."""

import pytest
from pydantic import ValidationError

from dflash_app.errors import RequestError
from dflash_app.registry.pair import Benchmark, ModelRef, Pair, Result, Sampling
from dflash_app.request import SamplingParams

PAIR = Pair(
    name="p",
    title="P",
    family="qwen3",
    target=ModelRef(repo="org/T", revision="a" * 40),
    benchmarks=(
        Benchmark(
            source="paper",
            setup="one GPU",
            results=(Result(task="A", speedup=2.0, acceptance_length=3.5, concurrency=1),),
        ),
        Benchmark(source="card", results=(Result(task="B", acceptance_length=4, block_size=8),)),
    ),
)


def test_published_rows_carry_their_tables_source_and_setup() -> None:
    first, second = PAIR.published
    assert first == ("A", 2.0, 3.5, 1, None, "one GPU", "paper")
    assert second == ("B", None, 4, None, 8, None, "card")


def test_a_pair_cannot_be_changed_and_can_be_a_key() -> None:
    with pytest.raises(ValidationError):
        PAIR.title = "Q"
    assert {PAIR: 1}[PAIR.model_copy()] == 1


def test_a_source_is_the_repository_or_the_path() -> None:
    assert PAIR.target.source == "org/T"
    assert ModelRef(path="embedded:drafter").source == "embedded:drafter"


def test_a_path_has_no_revision() -> None:
    with pytest.raises(ValidationError, match="no 'revision'"):
        ModelRef(path="/models/x", revision="a" * 40)


@pytest.mark.parametrize(
    "repo", ["name", "a/b/c", "a/..", "a/b--c", "-a/b", "a/b ", "a/b\n", "a/" + "b" * 95]
)
def test_only_hub_ids_are_repositories(repo: str) -> None:
    with pytest.raises(ValidationError, match="repository id"):
        ModelRef(repo=repo)


def test_recommended_sampling_fits_a_request() -> None:
    sampling = Sampling(temperature=0.6, top_p=0.95, top_k=20)
    assert SamplingParams(**sampling.model_dump()).top_k == 20
    full = Sampling(temperature=1.0, min_p=0.05, repetition_penalty=1.1)
    assert SamplingParams(**full.model_dump()).repetition_penalty == 1.1


@pytest.mark.parametrize(
    "values",
    [{"temperature": 2.1}, {"min_p": 1.0}, {"min_p": -0.1}, {"repetition_penalty": 0.0},
     {"repetition_penalty": 10.5}, {"top_p": 0.0}, {"top_k": -1}],
)  # fmt: skip
def test_sampling_has_the_limits_of_a_request(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Sampling(**{"temperature": 1.0, **values})
    with pytest.raises(RequestError):
        SamplingParams(**values)
