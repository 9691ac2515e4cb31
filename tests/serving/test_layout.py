"""How pairs are spread over GPUs, by arithmetic that can be done by hand."""

import pytest

from dflash_app.errors import PlanError
from dflash_app.serving.gpus import CPU, GPUS, Gpu
from dflash_app.serving.layout import Layout, Machines, Wanted, divides, find_layout
from dflash_app.serving.shapes import Shape

GB = 1_000_000_000
GPU = Gpu("test", 100 * GB, "hopper")


def shape(weights_gb: float, **known: object) -> Shape:
    usual = {"num_heads": 32, "num_kv_heads": 8, "token_size": 50_000, "context_length": 100_000}
    return Shape(int(weights_gb * GB), "its files here", **usual | known)  # type: ignore[arg-type]


def spread(
    target: Shape,
    gpus: int = 1,
    nodes: int = 1,
    *,
    drafter: Shape | None = None,
    pipeline: bool = False,
    context: int | None = None,
) -> Layout:
    wanted = Wanted(target, drafter, usable=0.9, pipeline=pipeline, context_length=context)
    return find_layout(wanted, Machines(GPU, gpus, nodes))


def test_what_is_left_beside_the_weights_holds_the_cache() -> None:
    layout = spread(shape(47))
    # 100 GB x 0.9 - 3 GB to work with - 47 GB of weights, at 2 bytes a number
    assert layout.cache_bytes == 40 * GB
    assert layout.room_tokens == 400_000
    assert layout.context_length == 32_768


def test_heads_share_the_cache_until_there_are_fewer_of_them_than_gpus() -> None:
    alone, four = spread(shape(40)), spread(shape(40), 4)
    assert four.tensor == 4
    assert four.weights_bytes == 10 * GB
    assert four.room_tokens == (90 - 3 - 10) * GB // (50_000 * 2 // 4)
    latent = spread(shape(40, num_kv_heads=1), 4)
    assert latent.room_tokens == (90 - 3 - 10) * GB // (50_000 * 2)
    assert alone.room_tokens is not None
    assert latent.room_tokens > alone.room_tokens


def test_a_drafter_takes_its_own_weights_and_cache() -> None:
    drafter = shape(4, token_size=10_000)
    layout = spread(shape(40), drafter=drafter)
    assert layout.weights_bytes == 44 * GB
    assert layout.room_tokens == (90 - 3 - 44) * GB // (60_000 * 2)


@pytest.mark.parametrize(
    ("known", "tensor", "fits"),
    [
        ({}, 8, True),
        ({}, 6, False),
        ({"num_heads": 24, "num_kv_heads": 4}, 6, False),
        ({"num_heads": 24, "num_kv_heads": 4}, 8, True),
        ({"num_heads": 48, "num_kv_heads": 8}, 16, True),
        ({"linear_heads": (16, 48)}, 32, False),
        ({"num_heads": None}, 4, True),
        ({"num_heads": None}, 6, False),
    ],
)
def test_heads_decide_how_many_gpus_can_share_a_layer(
    known: dict[str, object], tensor: int, fits: bool
) -> None:
    assert divides(shape(1, **known), tensor) is fits


def test_gpus_that_the_heads_cannot_use_stay_free() -> None:
    assert spread(shape(40), 7).tensor == 4
    odd = shape(1, num_heads=10, num_kv_heads=10)
    assert spread(shape(40, num_heads=20, num_kv_heads=20), 8, drafter=odd).tensor == 5


def test_layers_go_to_several_gpus_where_the_engine_allows_it() -> None:
    layout = spread(shape(40), 6, pipeline=True)
    assert (layout.tensor, layout.pipeline) == (2, 3)


def test_each_node_holds_a_part_of_the_layers_where_the_engine_allows_it() -> None:
    assert (spread(shape(40), 8, 2, pipeline=True).tensor) == 8
    assert (spread(shape(40), 8, 2, pipeline=True).pipeline) == 2
    whole = spread(shape(40), 8, 2)
    assert (whole.tensor, whole.pipeline) == (16, 1)


def test_a_request_is_as_long_as_fits_where_nobody_says_how_long() -> None:
    layout = spread(shape(86))
    assert layout.room_tokens == 10_000
    assert layout.context_length == 9 * 1024
    assert spread(shape(1, context_length=2048)).context_length == 2048


def test_what_does_not_fit_is_refused_with_the_number_that_does() -> None:
    with pytest.raises(PlanError, match=r"300 GB of weights .* on 1 x test: it takes 4 such GPUs"):
        spread(shape(300))
    with pytest.raises(PlanError, match=r"16 such GPUs \(--gpus 8 --nodes 2\)"):
        spread(shape(900, num_heads=64), 8)
    with pytest.raises(PlanError, match="nor on any number up to 64"):
        spread(shape(10_000), 8)


def test_a_context_that_is_asked_for_has_to_fit() -> None:
    with pytest.raises(PlanError, match="a request of 50,000 tokens do not fit on 1 x test"):
        spread(shape(83), context=50_000)
    assert spread(shape(83), context=40_000).context_length == 40_000


def test_the_fewest_gpus_are_told_beside_those_that_are_used() -> None:
    layout = spread(shape(150), 8)
    assert (layout.num_gpus, layout.fewest_gpus) == (8, 2)


def test_where_a_tokens_size_is_unknown_only_the_weights_are_compared() -> None:
    layout = spread(shape(80, token_size=None))
    assert layout.room_tokens is None
    with pytest.raises(PlanError):
        spread(shape(90, token_size=None))


def test_a_processor_computes_in_float32_and_lends_the_cache_a_gigabyte() -> None:
    target = shape(1, token_size=1000)
    layout = find_layout(Wanted(target, None, 0.9, False), Machines(CPU))
    assert layout.weights_bytes == 2 * GB
    assert layout.room_tokens == GB // 4000
    with pytest.raises(PlanError, match="take a machine with more memory"):
        find_layout(Wanted(shape(5), None, 0.9, False), Machines(CPU))


def test_every_known_gpu_holds_what_its_name_says() -> None:
    for name, gpu in GPUS.items():
        if not gpu.is_cpu:
            assert gpu.memory_bytes == int(name.rpartition("-")[2]) * GB
