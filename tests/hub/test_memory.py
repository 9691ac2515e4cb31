"""The sum of a pair: what it is made of, and the longest context that fits."""

from dataclasses import replace
from pathlib import Path

import pytest

from dflash_app import settings
from dflash_app.errors import LoadError
from dflash_app.hub.fast_copies import FastPath
from dflash_app.hub.headers import stored_tensors
from dflash_app.hub.memory import MemoryNeed, Storing, estimate
from dflash_app.hub.model_config import goes_fast
from dflash_app.hub.model_files import read_json
from dflash_app.hub.step_memory import GRAPH_WORKSPACE_BYTES

TARGET, DRAFTER = settings.EMBEDDED_DIR / "target", settings.EMBEDDED_DIR / "drafter"
PLAIN = Storing("bfloat16")


def need_of(storing: Storing = PLAIN, *, drafter: Path | None = DRAFTER) -> MemoryNeed:
    return estimate(
        stored_tensors(TARGET),
        read_json(TARGET / "config.json"),
        None if drafter is None else stored_tensors(drafter),
        storing,
    )


STORINGS = {
    "plain": PLAIN,
    "nf4": Storing("bfloat16", quantization="nf4", drafter_quantization="nf4"),
    "fast": Storing("float32", fast_target=FastPath(half=True), fast_drafter=FastPath(half=True)),
    "snapshot": Storing("bfloat16", snapshot=True),
}


@pytest.mark.parametrize("storing", STORINGS.values(), ids=STORINGS)
@pytest.mark.parametrize("drafter", [DRAFTER, None], ids=["pair", "target"])
def test_the_longest_context_fits_and_one_more_token_does_not(
    storing: Storing, drafter: Path | None
) -> None:
    need = replace(need_of(storing, drafter=drafter), max_context_length=100_000)
    for length in (1, 255, 256, 257, 3000, 99_999):
        free = need.bytes_at(length)
        longest = need.longest_context(free)
        assert longest >= length
        assert need.bytes_at(longest) <= free
        assert need.bytes_at(longest + 1) > free
    assert need.longest_context(1 << 50) == 100_000
    assert need.longest_context(need.weight_bytes) == 0


@pytest.mark.parametrize("storing", STORINGS.values(), ids=STORINGS)
def test_more_tokens_never_need_less(storing: Storing) -> None:
    need = need_of(storing)
    sizes = [need.bytes_at(length) for length in range(0, 3000, 7)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("storing", STORINGS.values(), ids=STORINGS)
def test_the_parts_that_are_shown_add_up(storing: Storing) -> None:
    need = need_of(storing)
    parts = need.breakdown(400)
    assert sum(num_bytes for _, num_bytes in parts) == need.bytes_at(400)
    names = [name for name, _ in parts]
    assert names[:2] == ["target weights", "drafter weights"]
    assert "target cache at 400 tokens" in names
    assert ("copies for speed" in names) == (storing.fast_target is not None)
    assert sum(num_bytes for _, num_bytes in need.breakdown()) == need.total_bytes


def test_a_target_alone_needs_no_drafter_and_its_context_is_not_asked_for_more() -> None:
    alone = need_of(drafter=None)
    assert (alone.drafter_bytes, alone.context_bytes(300), alone.block_size) == (0, 0, 1)
    most = read_json(TARGET / "config.json")["max_position_embeddings"]
    assert alone.context_length == alone.max_context_length == most


def test_fewer_bits_need_less_and_snapshots_hold_the_cache_twice() -> None:
    assert need_of(STORINGS["nf4"]).weight_bytes < 0.5 * need_of().weight_bytes
    assert need_of(STORINGS["snapshot"]).cache_bytes(300) == 2 * need_of().cache_bytes(300)


def test_a_checkpoint_in_float32_keeps_its_weights_beside_a_packed_copy() -> None:
    both = FastPath(half=True, packed=True)
    halved = need_of(Storing("float32", fast_target=both), drafter=None)
    packed = need_of(Storing("float32", fast_target=FastPath(packed=True)), drafter=None)
    whole = need_of(Storing("float32"), drafter=None)
    assert halved.weight_bytes < whole.weight_bytes < packed.weight_bytes < 2.1 * whole.weight_bytes


def test_graphs_are_told_in_the_reserve_and_nowhere_else() -> None:
    fast = replace(PLAIN, fast_target=FastPath(), fast_drafter=FastPath())
    graphs = FastPath(graphs=True)
    plain, one = need_of(fast), need_of(replace(fast, fast_target=graphs))
    both = need_of(replace(fast, fast_target=graphs, fast_drafter=graphs))
    assert plain.graphs_bytes == 0
    assert GRAPH_WORKSPACE_BYTES < one.graphs_bytes < both.graphs_bytes < 1 << 30
    for length in (1, 300):
        assert both.held_bytes(length) == plain.held_bytes(length)
        assert both.bytes_at(length) == plain.bytes_at(length) + both.graphs_bytes
    alone = need_of(replace(fast, fast_target=graphs, fast_drafter=graphs), drafter=None)
    assert alone.graphs_bytes < one.graphs_bytes


def test_lanes_of_the_target_alone_keep_no_context_and_verify_no_block() -> None:
    need = need_of(STORINGS["fast"])
    alone = need.alone()
    assert alone.weight_bytes == need.weight_bytes
    assert alone.context_bytes(300) == 0
    assert alone.bytes_at(300) < need.bytes_at(300) - need.context_bytes(300)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_key_value_heads", 0),
        ("num_key_value_heads", "many"),
        ("head_dim", [8]),
        ("layer_types", 3),
        ("max_position_embeddings", "long"),
        ("num_kv_shared_layers", "x"),
        ("intermediate_size", {"a": 1}),
        ("num_experts_per_tok", {"a": 1}),
        ("full_attention_interval", 0),
        ("text_config", {"num_hidden_layers": 0}),
        ("kv_lora_rank", 8),
    ],
)
def test_odd_values_are_refused_in_a_sentence(name: str, value: object) -> None:
    config = {**read_json(TARGET / "config.json"), name: value}
    if name in ("num_kv_shared_layers", "full_attention_interval", "kv_lora_rank"):
        config.pop("layer_types", None)
    with pytest.raises(LoadError, match=r"config\.json has (a value|no whole number)"):
        estimate(stored_tensors(TARGET), config, None, STORINGS["fast"])


@pytest.mark.parametrize("value", ["linear", [1]])
@pytest.mark.parametrize("name", ["rope_parameters", "quantization_config"])
def test_odd_values_do_not_break_the_question_for_the_path(name: str, value: object) -> None:
    with pytest.raises(LoadError, match="a value that cannot be used"):
        goes_fast({**read_json(TARGET / "config.json"), name: value})


def test_a_tied_target_without_its_embedding_is_still_told() -> None:
    tensors = stored_tensors(TARGET)
    lacking = {name: each for name, each in tensors.items() if "embed" not in name}
    config = {**read_json(TARGET / "config.json"), "tie_word_embeddings": True}
    told = estimate(lacking, config, None, STORINGS["fast"]).target_bytes
    assert 0 < told < estimate(tensors, config, None, STORINGS["fast"]).target_bytes
