import pytest

from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone, TextDelta
from dflash_app.metrics import RunMetrics, summarize


def step(
    token_ids: tuple[int, ...], num_drafted: int, num_accepted: int, elapsed_s: float
) -> StepDone:
    return StepDone(token_ids, (0,) * num_drafted, num_accepted, None, 0.25, 0.5, elapsed_s)


PREFILL = PrefillDone(num_prompt_tokens=10, num_reused=4, token_id=1, queue_s=3.0, elapsed_s=2.0)
DFLASH: list[DecodeEvent] = [
    PREFILL,
    TextDelta("a"),
    step((2, 3, 4), num_drafted=3, num_accepted=2, elapsed_s=3.0),
    step((5,), num_drafted=3, num_accepted=0, elapsed_s=4.0),
    TextDelta("b"),
    step((6, 7), num_drafted=2, num_accepted=2, elapsed_s=6.0),
    Finished("stop", 6.5),
]
"""Three steps; the last commits 2 of its 3 tokens, because a stop token cut it."""


def test_a_drafted_run_by_hand() -> None:
    assert summarize(DFLASH, peak_memory_bytes=99) == RunMetrics(
        num_prompt_tokens=10,
        num_reused_tokens=4,
        num_output_tokens=7,
        num_steps=3,
        queue_s=3.0,
        ttft_s=2.0,
        decode_s=4.0,
        total_s=6.0,
        tpot_s=4.0 / 6,
        decode_tok_s=6 / 4.0,
        end_to_end_tok_s=7 / 6.0,
        mean_acceptance_length=1 + 4 / 3,
        acceptance_by_position=(2 / 3, 2 / 3, 0.0),
        acceptance_histogram=(1, 0, 2, 0),
        propose_s=0.75,
        verify_s=1.5,
        peak_memory_bytes=99,
    )


def test_acceptance_is_counted_before_the_cut_and_tokens_after_it() -> None:
    cut = [PREFILL, step((2,), num_drafted=3, num_accepted=3, elapsed_s=3.0)]
    found = summarize(cut)
    assert found.num_output_tokens == 2
    assert found.mean_acceptance_length == 4.0


def test_waiting_for_the_device_is_in_no_speed() -> None:
    waited = PrefillDone(10, 0, 1, queue_s=1000.0, elapsed_s=2.0)
    found = summarize([waited, step((2,), 0, 0, 3.0)])
    assert (found.queue_s, found.ttft_s, found.total_s) == (1000.0, 2.0, 3.0)
    assert (found.decode_tok_s, found.end_to_end_tok_s) == (1.0, 2 / 3)


def test_plain_decoding_has_no_acceptance() -> None:
    found = summarize([PREFILL, step((2,), 0, 0, 3.0), step((3,), 0, 0, 4.0)])
    assert found.mean_acceptance_length is None
    assert found.acceptance_by_position == ()
    assert found.acceptance_histogram == ()
    assert (found.num_steps, found.decode_tok_s, found.tpot_s) == (2, 1.0, 1.0)


def test_a_run_that_never_began_knows_nothing() -> None:
    assert summarize([]) == RunMetrics()


def test_a_run_cancelled_in_prefill_knows_only_its_time() -> None:
    assert summarize([Finished("cancelled", 1.5)]) == RunMetrics(total_s=1.5)


def test_one_token_has_a_first_token_time_but_no_decoding_speed() -> None:
    found = summarize([PREFILL, Finished("length", 2.0)])
    assert (found.num_output_tokens, found.ttft_s, found.end_to_end_tok_s) == (1, 2.0, 0.5)
    assert (found.decode_s, found.tpot_s, found.decode_tok_s) == (None, None, None)


def test_a_clock_that_did_not_move_gives_no_speed() -> None:
    found = summarize([PrefillDone(1, 0, 1, 0.0, 0.0), step((2,), 0, 0, 0.0)])
    assert (found.tpot_s, found.decode_tok_s, found.end_to_end_tok_s) == (None, None, None)


def test_unknown_is_none_and_never_zero() -> None:
    unknown = RunMetrics()
    names = (
        "num_prompt_tokens",
        "queue_s",
        "ttft_s",
        "decode_s",
        "total_s",
        "tpot_s",
        "decode_tok_s",
        "end_to_end_tok_s",
        "mean_acceptance_length",
        "peak_memory_bytes",
    )
    assert {name: getattr(unknown, name) for name in names} == dict.fromkeys(names)


@pytest.mark.parametrize("num_events", range(len(DFLASH) + 1))
def test_a_run_cut_anywhere_counts_what_came(num_events: int) -> None:
    events = DFLASH[:num_events]
    found = summarize(events)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert found.num_steps == len(steps)
    assert found.num_output_tokens == (num_events > 0) + sum(len(s.token_ids) for s in steps)
    assert sum(found.acceptance_histogram) == len(steps)
    assert (found.decode_tok_s is None) == (not steps)
