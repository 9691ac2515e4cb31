import pytest
from dflash_plugins.benchmark.figures import Percentiles, at, fold, hold_against

from dflash_app.metrics import RunMetrics
from dflash_app.store.benchmark_records import Answer, Asked
from dflash_app.store.records import RunEnd, RunRecord, RunStart

START = RunStart("benchmark", "embedded", "torch", "cpu", "float32", "ar", messages=())


def answer(
    question: str = "a",
    *,
    began_at: float = 0.0,
    share: int = 0,
    reason: RunEnd = "stop",
    output: str = "text",
    score: float | None = None,
    **metrics: object,
) -> Answer:
    usual = {"num_output_tokens": 10, "queue_s": 0.0, "total_s": 1.0}
    record = RunRecord(
        id=1,
        start=START,
        finish_reason=reason,
        finished_at=None,
        output=output,
        token_ids=(),
        metrics=RunMetrics(**(usual | metrics)),  # type: ignore[arg-type]
        error=None,
    )
    return Answer(Asked("set/ar/1", question, 0, 0), share, began_at, score, record)


def test_throughput_counts_the_time_in_which_any_request_was_under_way() -> None:
    overlapping = [
        answer("a", began_at=100.0, total_s=2.0),
        answer("b", began_at=101.0, total_s=2.0),
        answer("c", began_at=110.0, total_s=1.0, queue_s=0.5),
    ]
    figures = fold(overlapping)
    assert figures.wall_s == pytest.approx(4.0)
    assert figures.end_to_end_tok_s == pytest.approx(30 / 4)


def test_a_request_within_another_adds_no_time() -> None:
    figures = fold([answer("a", total_s=4.0), answer("b", began_at=1.0, total_s=1.0)])
    assert figures.wall_s == pytest.approx(4.0)


def test_processes_side_by_side_add_up_however_their_times_lie() -> None:
    figures = fold([answer("a", total_s=1.0), answer("b", began_at=50.0, share=1, total_s=2.0)])
    assert figures.end_to_end_tok_s == pytest.approx(10 / 1 + 10 / 2)
    assert (figures.wall_s, figures.num_shares) == (2.0, 2)


def test_decode_speed_and_acceptance_are_weighted_by_what_was_decoded() -> None:
    figures = fold(
        [
            answer(
                "a",
                decode_s=1.0,
                decode_tok_s=100.0,
                num_steps=10,
                mean_acceptance_length=3.0,
                acceptance_histogram=(1, 0, 9),
            ),
            answer(
                "b",
                decode_s=3.0,
                decode_tok_s=20.0,
                num_steps=30,
                mean_acceptance_length=1.0,
                acceptance_histogram=(30,),
            ),
        ]
    )
    assert figures.decode_tok_s == pytest.approx((100 + 60) / 4)
    assert figures.mean_acceptance_length == pytest.approx((30 + 30) / 40)
    assert figures.acceptance_histogram == (31, 0, 9)


def test_only_complete_answers_count_and_failed_ones_are_told() -> None:
    figures = fold(
        [
            answer("a", score=1.0),
            answer("b", score=0.0, reason="length"),
            answer("c", reason="failed", total_s=None, num_output_tokens=None),
            answer("d", reason="cancelled", total_s=9.0),
        ]
    )
    assert (figures.num_answered, figures.num_failed, figures.num_scored) == (2, 1, 2)
    assert (figures.score, figures.num_output_tokens) == (0.5, 20)


def test_what_a_server_does_not_tell_stays_unknown() -> None:
    figures = fold([answer("a"), answer("b", num_output_tokens=None)])
    assert figures.num_output_tokens is None
    assert figures.end_to_end_tok_s is None
    assert figures.mean_acceptance_length is None
    nothing = fold([])
    assert (nothing.wall_s, nothing.end_to_end_tok_s, nothing.ttft_s) == (None, None, None)


def test_percentiles_are_interpolated() -> None:
    values = [4.0, 1.0, 3.0, 2.0]
    assert [at(values, part) for part in (0, 0.5, 0.9, 1)] == [1.0, 2.5, pytest.approx(3.7), 4.0]
    figures = fold([answer(str(number), ttft_s=number / 10) for number in range(1, 4)])
    assert figures.ttft_s == Percentiles(
        pytest.approx(0.2), pytest.approx(0.28), pytest.approx(0.298)
    )


def test_a_cell_is_held_against_plain_decoding_prompt_by_prompt() -> None:
    plain = [
        answer("a", decode_tok_s=100.0, output="same", score=1.0),
        answer("b", decode_tok_s=50.0, output="one", score=0.0),
        answer("c", decode_tok_s=10.0, reason="failed"),
    ]
    drafted = [
        answer("b", decode_tok_s=200.0, output="other", score=1.0, total_s=0.5),
        answer("a", decode_tok_s=200.0, output="same", score=1.0, total_s=0.5),
        answer("c", decode_tok_s=90.0),
    ]
    against = hold_against(drafted, fold(drafted), plain, fold(plain))
    assert (against.num_pairs, against.num_identical) == (2, 1)
    assert against.decode_speedup == pytest.approx(3.0)
    assert against.decode_speedup_quartiles == (pytest.approx(2.5), pytest.approx(3.5))
    assert against.score_difference == pytest.approx(0.5)


def test_scores_are_held_against_each_other_over_the_same_prompts() -> None:
    plain = [answer("a", score=1.0), answer("b", reason="failed")]
    drafted = [answer("a", score=1.0), answer("b", score=0.0)]
    against = hold_against(drafted, fold(drafted), plain, fold(plain))
    assert against.score_difference == 0.0
