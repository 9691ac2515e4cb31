import pytest

from dflash_app.advisor import setup
from dflash_app.advisor.finding import Change
from dflash_app.store.records import RunRecord
from tests.advisor.cases import PAIR, case, record, repeated, steps

SLOW = steps(repeated([3], 40), propose_s=0.01, verify_s=0.03)
PLAIN = steps(repeated([-1], 40), verify_s=0.01)
AR = {"mode": "ar", "block_size": None, "trained_block_size": None, "policy": None}


def quick(**asked: object) -> list[RunRecord]:
    """Another run of 10 ms a step."""
    return [record(steps(repeated([3], 40)), run_id=5, **asked)]


def test_a_plain_run_is_told_what_the_drafter_reached() -> None:
    found = setup.plain_mode(case(PLAIN, others=quick(), **AR))
    assert found is not None
    assert (found.key, found.change) == ("plain_mode_log", Change("mode", "dflash"))
    assert found.figures["speed"] == pytest.approx(400)
    assert found.gain == pytest.approx(4)
    assert found.lost_s == pytest.approx(0.4 * 0.75)


def test_a_plain_run_is_told_of_a_drafter_that_was_never_tried() -> None:
    found = setup.plain_mode(case(PLAIN, **AR))
    assert found is not None
    assert (found.key, found.gain) == ("plain_mode", None)


@pytest.mark.parametrize(
    "asked",
    [
        {"events": SLOW},  # it drafted
        {"events": PLAIN, "pair": None, **AR},
        {"events": PLAIN, "pair": PAIR.model_copy(update={"drafter": None}), **AR},
        {"events": steps(repeated([-1], 40), verify_s=0.002), "others": quick(), **AR},  # faster
    ],
)
def test_a_plain_run_that_no_drafter_could_speed_up_is_left_alone(
    asked: dict[str, object],
) -> None:
    assert setup.plain_mode(case(**asked)) is None  # type: ignore[arg-type]


def test_a_speedup_that_nobody_can_tell_asks_for_a_plain_run() -> None:
    found = setup.plain_unknown(case(SLOW, plain_s=None))
    assert found is not None
    assert found.change == Change("mode", "ar")
    assert setup.plain_unknown(case(SLOW)) is None
    assert setup.plain_unknown(case(PLAIN, plain_s=None, **AR)) is None


def test_a_slow_path_is_told_and_weighed_by_runs_on_the_fast_one() -> None:
    path = "dynamic cache: recurrent layers"
    found = setup.slow_path(case(SLOW, path=path))
    assert found is not None
    assert (found.key, found.lost_s) == ("slow_path", None)
    assert found.figures["path"] == f"{path}, drafter static cache"
    weighed = setup.slow_path(case(SLOW, path=path, others=quick()))
    assert weighed is not None
    assert weighed.key == "slow_path_log"
    assert weighed.lost_s == pytest.approx(1.6 * 0.75)
    assert (weighed.figures["step_ms"], weighed.figures["other_ms"]) == (
        pytest.approx(40),
        pytest.approx(10),
    )
    assert setup.slow_path(case(SLOW)) is None
    assert setup.slow_path(case(SLOW, path=None)) is None
    assert setup.slow_path(case(steps(repeated([3], 40)), path=path, others=quick())) is None


def test_weights_in_fewer_bits_are_weighed_by_runs_with_whole_ones() -> None:
    nf4 = {"quantization": "nf4", "path": "dynamic cache: quantised weights"}
    found = setup.packed_weights(case(SLOW, others=quick(), **nf4))
    assert found is not None
    assert (found.key, found.gain) == ("packed_log", pytest.approx(4))
    assert found.change == Change("quantization", None)
    unknown = setup.packed_weights(case(SLOW, **nf4))
    assert unknown is not None
    assert (unknown.key, unknown.lost_s) == ("packed", None)
    assert setup.slow_path(case(SLOW, **nf4)) is None  # told once
    assert setup.packed_weights(case(SLOW, others=quick())) is None
    elsewhere = quick(device="cuda:0")
    assert setup.packed_weights(case(SLOW, quantization="nf4", others=elsewhere)) is None


def test_half_precision_on_a_processor_is_weighed_or_told_as_emulated() -> None:
    found = setup.half_precision(case(SLOW, dtype="bfloat16", others=quick()))
    assert found is not None
    assert (found.key, found.change) == ("half_log", Change("dtype", "float32"))
    told = setup.half_precision(case(SLOW, dtype="bfloat16", bfloat16_units=False))
    assert told is not None
    assert told.key == "half_emulated"
    assert setup.half_precision(case(SLOW, dtype="bfloat16", bfloat16_units=True)) is None
    assert setup.half_precision(case(SLOW, dtype="bfloat16")) is None
    assert setup.half_precision(case(SLOW)) is None
    on_gpu = case(SLOW, dtype="bfloat16", device="cuda:0", others=quick(), bfloat16_units=False)
    assert setup.half_precision(on_gpu) is None


def test_threads_are_told_where_the_command_line_is_faster() -> None:
    found = setup.threads(case(SLOW, others=quick(source="cli")))
    assert found is not None
    assert (found.figures["threads"], found.figures["cores"]) == (3, 4)
    assert found.change == Change("num_threads", 4)
    assert setup.threads(case(SLOW, others=quick())) is None
    assert setup.threads(case(SLOW, others=quick(source="api"))) is None
    assert setup.threads(case(SLOW, source="cli", others=quick(source="cli"))) is None
    assert setup.threads(case(SLOW, device="cuda:0", others=quick(source="cli"))) is None
    slower = [record(SLOW, run_id=5, source="cli")]
    assert setup.threads(case(SLOW, others=slower)) is None


def test_a_machine_that_was_busy_is_told_by_runs_like_this_one() -> None:
    found = setup.busy_machine(case(SLOW, others=quick()))
    assert found is not None
    assert found.figures == {
        "step_ms": pytest.approx(40),
        "other_ms": pytest.approx(10),
        "runs": 1,
    }
    assert found.lost_s == pytest.approx(1.6 * 0.75)
    assert setup.busy_machine(case(SLOW)) is None
    assert setup.busy_machine(case(steps(repeated([3], 40)), others=quick())) is None
    assert setup.busy_machine(case(SLOW, others=quick(dtype="bfloat16"))) is None
    assert setup.busy_machine(case(SLOW, others=quick(block_size=4))) is None
    longer = [record(steps(repeated([3], 40), prompt=900), run_id=5)]
    assert setup.busy_machine(case(SLOW, others=longer)) is None


def test_snapshots_are_told_with_the_blocks_that_paid_for_them() -> None:
    found = setup.snapshots(case(SLOW, rollback_kind="snapshot"))
    assert found is not None
    assert found.figures == {"rejected": 40, "steps": 40}
    assert setup.snapshots(case(SLOW)) is None
    whole = steps(repeated([7], 40))
    assert setup.snapshots(case(whole, rollback_kind="snapshot")) is None
