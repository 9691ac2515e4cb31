"""Targets that differ in their quantisation alone, or share a drafter, are of one line."""

import pytest

from dflash_app.hub.lines import compose, find_lines, key_of, quantization_by_name
from dflash_app.registry.custom import new_pair, read_server
from dflash_app.registry.pair import ModelRef, Pair


def row(name: str, target: str, drafter: str | None = None, **said: object) -> Pair:
    refs = {"target": ModelRef(repo=target), "drafter": ModelRef(repo=drafter) if drafter else None}
    return Pair.model_validate({"name": name, "title": name, "family": "qwen3"} | refs | said)


@pytest.mark.parametrize(
    ("repo", "said"),
    [
        ("Qwen/Qwen3-8B", None),
        ("Qwen/Qwen3-8B-AWQ", "AWQ"),
        ("Qwen/Qwen3-8B-FP8", "FP8"),
        ("Qwen/Qwen3.5-27B-GPTQ-Int4", "Int4"),
        ("mlx-community/Qwen3-8B-MLX-4bit", "4bit"),
        ("mlx-community/Qwen3-8B-4bit-DWQ", "4bit"),
        ("unsloth/Qwen3-8B-unsloth-bnb-4bit", "4bit"),
        ("org/Model-w4a16", "w4a16"),
        ("openai/gpt-oss-20b", None),
        ("z-lab/Qwen3-8B-DFlash-b16", None),
    ],
)
def test_the_end_of_a_name_tells_the_quantisation(repo: str, said: str | None) -> None:
    assert quantization_by_name(ModelRef(repo=repo)) == said


def test_a_line_is_a_name_without_its_quantisation() -> None:
    rows = [row("a", "Qwen/M-8B", "d/1"), row("b", "x/M-8B-AWQ", "d/2"), row("c", "Qwen/M-80B")]
    lines = find_lines(rows)
    assert [each.name for each in lines["Qwen/M-8B"]] == ["a", "b"]
    assert lines["x/M-8B-AWQ"] == lines["Qwen/M-8B"]
    assert [each.name for each in lines["Qwen/M-80B"]] == ["c"]


def test_a_shared_drafter_and_trained_for_join_lines_that_were_apart() -> None:
    rows = [
        row("a", "o/A", "d/a"),
        row("b", "o/B", "d/b"),
        row("c", "o/C", "d/c", trained_for="o/A"),
        row("d", "o/D", "d/b"),
    ]
    lines = find_lines(rows)
    assert [each.name for each in lines["o/A"]] == ["a", "c"]
    assert [each.name for each in lines["o/B"]] == ["b", "d"]
    joined = find_lines([*rows, row("e", "o/C", "d/b")])
    assert [each.name for each in joined["o/D"]] == ["a", "b", "c", "d", "e"]


def test_a_composed_pair_is_a_row_that_takes_from_each_what_belongs_to_its_model() -> None:
    target = row("t", "o/T-4bit", "d/1", backends=("mlx", "torch"), block_size=4, family="llama")
    drafter = row("d", "o/T", "d/2", backends=("torch", "vllm"), block_size=16, thinking="off")
    pair = compose(target, drafter)
    assert Pair.model_validate(pair.model_dump()) == pair
    assert (pair.target, pair.drafter) == (target.target, drafter.drafter)
    assert (pair.family, pair.block_size, pair.thinking) == ("llama", 16, "off")
    assert pair.trained_for == "o/T"
    assert pair.backends == ("torch",)
    assert pair.benchmarks == ()


def test_its_name_depends_on_the_two_places_alone_and_is_always_allowed() -> None:
    target, drafter = row("t", f"o/{'T' * 90}", "d/1"), row("d", "o/T", f"d/{'_' * 90}")
    name = compose(target, drafter).name
    pinned = target.model_copy(
        update={"target": target.target.model_copy(update={"revision": "0" * 40}), "name": "u"}
    )
    assert compose(pinned, drafter).name == name
    assert key_of(pinned.target) != key_of(target.target)
    assert compose(row("t", f"p/{'T' * 90}", "d/1"), drafter).name != name
    with pytest.raises(ValueError, match="has no drafter"):
        compose(target, row("n", "o/N"))


def test_servers_share_no_drafter_with_anybody() -> None:
    ref = read_server("http://gpu-box/v1", "o/A")
    other = read_server("http://gpu-box:8001/v1", "o/A")
    served = new_pair("served", ref, other).model_copy(update={"trained_for": "o/A"})
    rows = [row("a", "o/A", "d/a"), served, new_pair("plain", other, None)]
    lines = find_lines(rows)
    assert [each.name for each in lines["o/A"]] == ["a"]
    assert [each.name for each in lines[ref.source]] == ["served"]
    assert [each.name for each in lines[other.source]] == ["plain"]
