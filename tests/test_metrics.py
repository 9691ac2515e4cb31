import pytest

from dflash_app.events import (
    DecodeEvent,
    Finished,
    PrefillDone,
    ServerCounts,
    StepDone,
    TextDelta,
    TokensArrived,
    token_ids_of,
)
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
    assert (found.num_steps or 0) == len(steps)
    output = (num_events > 0) + sum(len(s.token_ids) for s in steps)
    assert (found.num_output_tokens or 0) == output
    assert sum(found.acceptance_histogram) == len(steps)
    assert (found.decode_tok_s is None) == (not steps)


COUNTS = ServerCounts(
    source="vLLM, this request",
    num_prompt_tokens=20,
    num_reused=16,
    num_output_tokens=8,
    num_steps=3,
    num_drafted=9,
    num_accepted=4,
    accepted_by_position=(2, 1, 1),
    histogram=(1, 1, 0, 1),
    decode_s=1.9,
)
SERVER: list[DecodeEvent] = [
    TokensArrived(2, (1, 2), 0.5),
    TextDelta("ab"),
    TokensArrived(1, (3,), 1.0),
    TokensArrived(4, (4, 5, 6, 7), 2.5),
    TextDelta("c"),
    COUNTS,
    Finished("stop", 2.6),
]
"""The server counts the stop token, which it does not send."""


def test_a_run_on_a_server_takes_times_here_and_counts_from_the_server() -> None:
    assert summarize(SERVER) == RunMetrics(
        num_prompt_tokens=20,
        num_reused_tokens=16,
        num_output_tokens=8,
        num_steps=3,
        ttft_s=0.5,
        decode_s=2.0,
        total_s=2.5,
        tpot_s=2.0 / 6,
        decode_tok_s=6 / 2.0,
        end_to_end_tok_s=8 / 2.5,
        mean_acceptance_length=1 + 4 / 3,
        acceptance_by_position=(2 / 3, 1 / 3, 1 / 3),
        acceptance_histogram=(1, 1, 0, 1),
        at_client=True,
        acceptance_source="vLLM, this request",
    )


def test_a_server_that_tells_nothing_still_has_times_and_a_speed() -> None:
    found = summarize([event for event in SERVER if not isinstance(event, ServerCounts)])
    assert (found.num_output_tokens, found.decode_tok_s) == (7, 5 / 2.0)
    assert (found.num_steps, found.mean_acceptance_length, found.propose_s) == (None, None, None)
    assert (found.at_client, found.acceptance_source) == (True, None)


def test_tokens_that_nobody_counts_are_unknown_and_have_no_speed() -> None:
    uncounted: list[DecodeEvent] = [TokensArrived(None, (), 0.5), TokensArrived(None, (), 1.0)]
    found = summarize(uncounted)
    assert (found.ttft_s, found.decode_s, found.total_s) == (0.5, 0.5, 1.0)
    assert (found.num_output_tokens, found.decode_tok_s, found.end_to_end_tok_s) == (None,) * 3
    counted = summarize([*uncounted, ServerCounts("x", num_output_tokens=11)])
    assert (counted.num_output_tokens, counted.decode_tok_s) == (11, 20.0)


def test_token_ids_count_where_the_server_gives_no_number() -> None:
    found = summarize([TokensArrived(None, (1, 2), 0.5), TokensArrived(None, (3,), 1.0)])
    assert (found.num_output_tokens, found.decode_tok_s) == (3, 2.0)


def test_shared_counters_of_a_server_are_marked_as_such() -> None:
    shared = ServerCounts("vLLM /metrics", shared=True, num_steps=4, num_accepted=2)
    found = summarize([*SERVER[:4], shared])
    assert (found.mean_acceptance_length, found.acceptance_shared) == (1.5, True)
    assert found.acceptance_source == "vLLM /metrics"


def test_positions_that_were_drafted_less_often_are_held_against_their_own_count() -> None:
    counts = ServerCounts(
        "SGLang",
        num_steps=4,
        num_accepted=3,
        accepted_by_position=(2, 1),
        drafted_by_position=(4, 2),
    )
    assert summarize([counts]).acceptance_by_position == (0.5, 0.5)


@pytest.mark.parametrize(
    "counts",
    [
        ServerCounts("x"),
        ServerCounts("x", num_steps=5),
        ServerCounts("x", num_steps=0, num_accepted=0),
        ServerCounts("x", num_steps=5, num_drafted=0, num_accepted=0),
    ],
)
def test_a_server_that_drafted_nothing_or_does_not_tell_has_no_acceptance(
    counts: ServerCounts,
) -> None:
    found = summarize([*SERVER[:4], counts])
    assert (found.mean_acceptance_length, found.acceptance_source) == (None, None)


@pytest.mark.parametrize("num_events", range(1, len(SERVER)))
def test_a_run_on_a_server_cut_anywhere_counts_what_came(num_events: int) -> None:
    events = SERVER[:num_events]
    found = summarize(events)
    assert found.num_output_tokens == (
        8 if COUNTS in events else sum(len(token_ids_of(event)) for event in events)
    )
    assert found.at_client


def test_a_servers_first_tokens_that_were_held_up_make_no_run_fast() -> None:
    late = [TokensArrived(1, (), 0.2), TokensArrived(39, (), 0.2001)]
    told = summarize([*late, ServerCounts("vLLM", num_output_tokens=40, decode_s=0.036)])
    assert (told.decode_s, told.decode_tok_s, told.tpot_s) == (None, None, None)
    assert (told.ttft_s, told.total_s) == (0.2, 0.2001)
    even = [TokensArrived(1, (), 0.2), TokensArrived(39, (), 0.24)]
    kept = summarize([*even, ServerCounts("vLLM", num_output_tokens=40, decode_s=0.036)])
    assert kept.decode_tok_s == pytest.approx(39 / 0.04)
