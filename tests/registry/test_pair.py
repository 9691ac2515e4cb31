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


def test_only_a_repository_has_a_revision() -> None:
    for place in ({"path": "/models/x"}, {"server": "http://box/v1", "model": "x"}):
        with pytest.raises(ValidationError, match="only a 'repo' has a 'revision'"):
            ModelRef(**place, revision="a" * 40)


SERVER = ModelRef(server="http://gpu-box:8000/v1", model="Qwen/Qwen3-8B")


def test_a_model_on_a_server_is_its_name_and_the_address() -> None:
    assert SERVER.source == "Qwen/Qwen3-8B at http://gpu-box:8000/v1"
    assert ModelRef(server="https://box/v1/", model="x").server == "https://box/v1"
    with pytest.raises(ValidationError, match="needs 'model'"):
        ModelRef(server="http://box/v1")
    with pytest.raises(ValidationError, match="only a 'server' has a 'model'"):
        ModelRef(repo="org/T", model="x")
    with pytest.raises(ValidationError, match="exactly one of"):
        ModelRef(repo="org/T", server="http://box/v1", model="x")


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("ftp://box/v1", "by http or https"),
        ("file:///etc/passwd", "by http or https"),
        ("box:8000/v1", "by http or https"),
        ("http://", "by http or https"),
        ("http:///v1", "by http or https"),
        ("http://box\\@evil/v1", "by http or https"),
        ("http://box:none/v1", "http://gpu-box:8000/v1"),
        ("http://[::1/v1", "http://gpu-box:8000/v1"),
        ("http://me:secret@box/v1", "keys belong in"),
        ("http://me@box/v1", "keys belong in"),
        ("http://box/v1?key=secret", "remove what follows"),
        ("http://box/v1#x", "remove what follows"),
        ("http://box/v1\n", "all ASCII"),
        ("http://bo x/v1", "all ASCII"),
        ("http://b\u00f6x/v1", "all ASCII"),
        ("http://box/" + "x" * 500, "at most 500 characters"),
    ],
)
def test_only_addresses_without_secrets_are_servers(server: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as refused:
        ModelRef(server=server, model="x")
    assert "secret" not in str(refused.value.errors(include_url=False, include_input=False))


def test_a_pair_on_servers_is_remote_and_says_so_in_its_backends() -> None:
    row = {"name": "s", "title": "S", "family": "unknown", "target": SERVER}
    pair = Pair(**row, drafter=SERVER, backends=("remote",))
    assert pair.remote
    assert not PAIR.remote
    assert Pair(**row, backends=("remote",)).drafter is None
    for backends in ((), ("torch",), ("remote", "torch")):
        with pytest.raises(ValidationError, match=r"backends: \[remote\]"):
            Pair(**row, backends=backends)
    with pytest.raises(ValidationError, match=r"no other pair has it"):
        PAIR.model_validate({**row, "target": PAIR.target, "backends": ("remote",)})


def test_target_and_drafter_are_both_on_servers_or_neither() -> None:
    row = {"name": "s", "title": "S", "family": "unknown", "backends": ("remote",)}
    with pytest.raises(ValidationError, match="both a 'server', or neither"):
        Pair(**row, target=SERVER, drafter=ModelRef(repo="org/D"))


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
