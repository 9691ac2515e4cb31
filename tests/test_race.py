import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from dflash_app import session
from dflash_app.engine.local import LocalPair
from dflash_app.engine.protocol import LoadedPair
from dflash_app.engine.worker import Worker
from dflash_app.errors import GenerationFailed, StoreError
from dflash_app.events import Finished
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.race import RaceLane, choose_baseline, race, seconds_saved, speedup, verdict
from dflash_app.request import GenerationRequest, SamplingParams
from dflash_app.store.runs import Store
from tests.engine.scripted import ScriptedModels
from tests.engine.tiny_tokenizers import chat_tokenizer
from tests.fakes import ScriptedPair, ask, script_of

AR = script_of((2,), (3,), (4,))
DFLASH = script_of((2, 3), (4,), num_draft=3)
WARM = SamplingParams(temperature=0.7)


def lanes_of(pair: LoadedPair, *requests: GenerationRequest) -> list[RaceLane]:
    return [RaceLane(pair, request) for request in requests]


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(None) as opened:
        yield opened


def test_each_lane_is_recorded_and_all_share_one_group(store: Store) -> None:
    pair = ScriptedPair([AR, DFLASH])
    lanes: dict[int, list[object]] = {0: [], 1: []}
    for lane, event in race(lanes_of(pair, ask(mode="ar"), ask(mode="dflash")), store):
        lanes[lane].append(event)
    assert lanes == {0: AR, 1: DFLASH}
    dflash, ar = store.list_runs()
    assert (ar.start.mode, dflash.start.mode) == ("ar", "dflash")
    assert ar.start.group_id == dflash.start.group_id is not None
    assert ar.start.source == "race"
    assert (ar.metrics, dflash.metrics) == (summarize(AR), summarize(DFLASH))
    assert ar.token_ids == dflash.token_ids == (1, 2, 3, 4)


def test_two_races_are_two_groups(store: Store) -> None:
    for _ in range(2):
        list(race(lanes_of(ScriptedPair([AR]), ask(mode="ar")), store))
    first, second = (record.start.group_id for record in store.list_runs())
    assert first != second


def test_cancelling_a_race_keeps_the_lane_that_had_finished(store: Store) -> None:
    pair = ScriptedPair([script_of(*((n,) for n in range(2, 20))), DFLASH])
    events = race(lanes_of(pair, ask(mode="ar"), ask()), store)
    for _, event in events:
        if isinstance(event, Finished):
            break
    events.close()  # type: ignore[attr-defined]
    assert pair.was_closed_early
    dflash, ar = store.list_runs()
    assert (ar.finish_reason, dflash.finish_reason) == ("cancelled", "stop")
    assert 0 < len(ar.token_ids) < 19


def test_a_race_that_breaks_fails_every_lane_that_had_not_finished(store: Store) -> None:
    broken = [*AR[:3], GenerationFailed("Out of memory: shorten the prompt.")]
    with pytest.raises(GenerationFailed, match="Out of memory"):
        list(race(lanes_of(ScriptedPair([broken, DFLASH[:2]]), ask(mode="ar"), ask()), store))
    assert [record.finish_reason for record in store.list_runs()] == ["failed", "failed"]
    assert all(record.error == str(broken[-1]) for record in store.list_runs())


def test_a_lane_that_never_finishes_is_a_failure(store: Store) -> None:
    with pytest.raises(GenerationFailed, match="without a last event"):
        list(race(lanes_of(ScriptedPair([AR, DFLASH[:-1]]), ask(mode="ar"), ask()), store))
    dflash, ar = store.list_runs()
    assert (ar.finish_reason, dflash.finish_reason) == ("stop", "failed")


def test_a_store_that_fails_is_named_after_the_last_event(store: Store) -> None:
    store.close()
    seen = []
    with pytest.raises(StoreError, match="cannot be used"):
        for lane, event in race(lanes_of(ScriptedPair([AR, DFLASH]), ask(mode="ar"), ask()), store):
            seen.append((lane, event))
    assert len(seen) == len(AR) + len(DFLASH)


def test_speedup_is_the_ratio_of_decode_speeds() -> None:
    assert speedup(RunMetrics(decode_tok_s=20.0), RunMetrics(decode_tok_s=50.0)) == 2.5


@pytest.mark.parametrize(("baseline", "other"), [(None, 50.0), (20.0, None), (0.0, 50.0)])
def test_an_unknown_speed_gives_an_unknown_speedup(
    baseline: float | None, other: float | None
) -> None:
    assert speedup(RunMetrics(decode_tok_s=baseline), RunMetrics(decode_tok_s=other)) is None


def test_plain_decoding_is_what_the_others_are_held_against_wherever_it_stands() -> None:
    pair = ScriptedPair([])
    assert choose_baseline(lanes_of(pair, ask(), ask(mode="ar"), ask(mode="ar"))) == 1
    assert choose_baseline(lanes_of(pair, ask(block_size=4), ask())) == 0


def test_seconds_saved_are_those_of_the_same_tokens_at_the_baselines_speed() -> None:
    ar, dflash = summarize(AR), summarize(DFLASH)
    assert (ar.decode_s, dflash.decode_s) == (0.75, 0.5)
    assert seconds_saved(ar, dflash) == pytest.approx(0.25)
    assert seconds_saved(dflash, ar) == pytest.approx(-0.25)
    longer = summarize(script_of((2, 3), (4, 5), (6, 7), num_draft=3))
    assert seconds_saved(ar, longer) == pytest.approx(6 * 0.25 - 0.75)
    assert seconds_saved(ar, RunMetrics()) is None
    assert seconds_saved(RunMetrics(), dflash) is None


def test_equal_outputs_are_identical_and_the_target_is_not_asked() -> None:
    pair = ScriptedPair([])
    found = verdict(pair, ask(), [1, 2, 3], [1, 2, 3])
    assert found.identical
    assert (found.position, found.num_compared) == (None, 3)
    assert found.explanation == "Identical: 3 tokens."
    assert pair.logit_calls == []


@pytest.mark.parametrize(
    ("precision", "logit", "near_tie", "words"),
    [
        ("float32", 5.5, False, "please report it"),
        ("bfloat16", 5.5, False, "compare in float32, and please report it"),
        ("float32", 5.0005, True, "near tie"),
        ("bfloat16", 5.0625, True, "rounding noise of bfloat16"),
        ("bfloat16", 5.25, False, "more than rounding in bfloat16"),
        ("unknown", 5.0005, False, "more than rounding"),
        ("int8 in float32", 5.25, True, "rounding noise of int8 in float32"),
        ("int8 in bfloat16", 5.5, False, "more than rounding in int8 in bfloat16"),
        ("nf4 in float32", 5.25, False, "more than rounding in nf4 in float32"),
        ("nf4 in bfloat16", 5.0625, True, "rounding noise of nf4 in bfloat16"),
    ],
)
def test_a_difference_is_judged_by_the_target_s_own_margin(
    precision: str, logit: float, near_tie: bool, words: str
) -> None:
    quantization, _, dtype = precision.rpartition(" in ")
    pair = ScriptedPair(
        [], dtype=dtype, quantization=quantization or None, logits={2: logit, 9: 5.0}
    )
    found = verdict(pair, ask(), [1, 7, 2, 4], [1, 7, 9])
    assert not found.identical
    assert (found.position, found.token_a, found.token_b) == (2, 2, 9)
    assert (found.text_a, found.text_b) == ("c", "j")
    assert (found.logit_a, found.logit_b) == (logit, 5.0)
    assert found.margin == pytest.approx(logit - 5.0)
    assert found.near_tie is near_tie
    assert words in found.explanation
    assert "from token 3 on: 'c' against 'j'" in found.explanation
    assert pair.logit_calls == [((1, 7), (2, 9))]


@pytest.mark.parametrize(
    ("logit", "near_tie", "words"),
    [
        (5.0625, True, "rounding noise of bfloat16"),
        (5.5, False, "in float32 and one in bfloat16: other weights"),
    ],
)
def test_lanes_of_two_precisions_are_judged_by_the_coarser_one(
    logit: float, near_tie: bool, words: str
) -> None:
    pair = ScriptedPair([], logits={2: logit, 9: 5.0})
    found = verdict(pair, ask(), [2], [9], other=ScriptedPair([], dtype="bfloat16"))
    assert found.near_tie is near_tie
    assert words in found.explanation
    assert pair.logit_calls == [((), (2, 9))]


def test_sampled_outputs_that_differ_are_no_fault() -> None:
    pair = ScriptedPair([])
    found = verdict(pair, ask(sampling=WARM), [1, 2], [1, 3])
    assert not found.identical
    assert (found.position, found.near_tie, found.margin) == (1, None, None)
    assert "only their distribution is the same" in found.explanation
    assert pair.logit_calls == []


def test_sampled_outputs_that_agree_are_not_called_a_promise() -> None:
    found = verdict(ScriptedPair([]), ask(sampling=WARM), [1, 2], [1, 2])
    assert found.identical
    assert "sampling does not promise" in found.explanation


def test_after_a_cancel_only_the_common_prefix_is_compared() -> None:
    found = verdict(ScriptedPair([]), ask(), [1, 2, 3], [1, 2], cancelled=True)
    assert found.identical
    assert "first 2 tokens are identical; a lane was cancelled" in found.explanation


def test_after_a_cancel_a_difference_in_the_prefix_still_counts() -> None:
    pair = ScriptedPair([], logits={2: 1.0, 3: 0.0})
    found = verdict(pair, ask(), [1, 2, 3], [1, 3], cancelled=True)
    assert (found.identical, found.position) == (False, 1)


def test_a_lane_cancelled_before_its_first_token_leaves_nothing_to_compare() -> None:
    found = verdict(ScriptedPair([]), ask(), [], [1, 2], cancelled=True)
    assert (found.identical, found.num_compared) == (False, 0)
    assert "Nothing to compare" in found.explanation


@pytest.mark.parametrize("stop", [(), ("END",)])
def test_an_output_that_goes_on_is_not_identical(stop: tuple[str, ...]) -> None:
    found = verdict(ScriptedPair([]), ask(stop=stop), [1, 2], [1, 2, 3])
    assert (found.identical, found.position) == (False, 2)
    assert (found.token_a, found.token_b, found.text_b) == (None, 3, "d")
    assert "one output goes on" in found.explanation


def test_the_real_engine_races_into_the_store_and_is_judged_identical(store: Store) -> None:
    with closing(engine_pair()) as pair:
        requests = [ask("How many?", mode="ar"), ask("How many?")]
        list(race(lanes_of(pair, *requests), store))
        dflash, ar = store.list_runs()
        assert ar.output == dflash.output != ""
        assert ar.metrics.mean_acceptance_length is None
        assert dflash.metrics.mean_acceptance_length is not None
        assert verdict(pair, requests[0], ar.token_ids, dflash.token_ids).identical


def test_leaving_a_race_of_the_real_engine_frees_its_worker(store: Store) -> None:
    with closing(engine_pair()) as pair:
        events = race(lanes_of(pair, ask("How many?", mode="ar"), ask("How many?")), store)
        next(events)
        stop = threading.Thread(target=events.close)  # type: ignore[attr-defined]
        stop.start()
        assert list(session.run(pair, store, ask("How many?"), source="chat"))
        stop.join()
        reasons = [record.finish_reason for record in store.list_runs()]
        assert reasons == ["length", "cancelled", "cancelled"]


def engine_pair() -> LocalPair:
    """A real LocalPair on a scripted target that counts upwards and never stops."""
    models = ScriptedModels(
        next_token=lambda prefix: 40 + len(prefix) % 50, accepts=(2, 0, 3), eos_ids=frozenset()
    )
    worker = Worker("test-race")
    return LocalPair(
        name="scripted",
        backend="none",
        tokenizer=chat_tokenizer(),
        models=models,
        worker=worker,
        now=models.time,
    )
