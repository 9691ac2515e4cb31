import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from dflash_app import session
from dflash_app.engine.local import LocalPair
from dflash_app.engine.protocol import LoadedPair
from dflash_app.engine.worker import Worker
from dflash_app.errors import GenerationFailed, StoreError
from dflash_app.events import Finished, ServerCounts, TextDelta
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.race import (
    RaceLane,
    choose_baseline,
    end_to_end_speedup,
    race,
    say_ratio,
    seconds_saved,
    speedup,
)
from dflash_app.request import GenerationRequest
from dflash_app.store.runs import Store
from dflash_app.verdict import verdict
from tests.engine.scripted import ScriptedModels
from tests.engine.tiny_tokenizers import chat_tokenizer
from tests.fakes import ScriptedPair, ScriptedServerPair, ask, script_of, server_script_of

AR = script_of((2,), (3,), (4,))
DFLASH = script_of((2, 3), (4,), num_draft=3)


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


def test_with_the_prompt_it_is_the_ratio_of_what_the_user_waits_for_a_token() -> None:
    ar, dflash = RunMetrics(end_to_end_tok_s=20.0), RunMetrics(end_to_end_tok_s=30.0)
    assert end_to_end_speedup(ar, dflash) == 1.5
    assert end_to_end_speedup(RunMetrics(), dflash) is end_to_end_speedup(ar, RunMetrics()) is None


@pytest.mark.parametrize(
    ("ratio", "shorter_s", "said"),
    [(3.468, 1.0, "3.47"), (3.468, 0.9, "3.5"), (12.34, 0.9, "12"), (0.873, 0.9, "0.87")],
)
def test_a_ratio_has_as_many_digits_as_the_shorter_run_can_carry(
    ratio: float, shorter_s: float, said: str
) -> None:
    assert say_ratio(ratio, RunMetrics(total_s=4.0), RunMetrics(total_s=shorter_s)) == said


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
    late = replace(dflash, ttft_s=0.6)
    assert seconds_saved(ar, late) == pytest.approx(0.15)  # the prompt's time counts too
    assert seconds_saved(ar, RunMetrics()) is None
    assert seconds_saved(RunMetrics(), dflash) is None


def test_lanes_on_servers_are_recorded_with_what_the_servers_count(store: Store) -> None:
    counts = ServerCounts("vLLM, this request", num_output_tokens=5, num_steps=2, num_accepted=2)
    scripts = [server_script_of((1,), (2,)), server_script_of((1, 2), counts=counts)]
    pair = ScriptedServerPair(scripts)
    list(race(lanes_of(pair, ask(mode="ar"), ask()), store))
    dflash, ar = store.list_runs()
    assert (ar.token_ids, ar.output, ar.metrics.num_output_tokens) == ((1, 2), "bc", 2)
    assert (ar.start.device, ar.start.path) == ("gpu-box:8000", "vLLM 0.32.0")
    assert dflash.metrics == summarize(scripts[1])
    assert (dflash.metrics.at_client, dflash.metrics.mean_acceptance_length) == (True, 2.0)
    assert store.run_events(dflash.id) == [
        event for event in scripts[1] if not isinstance(event, TextDelta)
    ]


def test_tokens_that_arrive_together_are_saved_seconds_too() -> None:
    ar = summarize(server_script_of((1,), (2,), (3,), (4,)))
    dflash = summarize(server_script_of((1, 2), (3, 4)))
    assert (ar.tpot_s, dflash.tpot_s, dflash.decode_s) == (0.25, 0.125, 0.25)
    assert seconds_saved(ar, dflash) == 0.25


def test_the_real_engine_races_into_the_store_and_is_judged_identical(store: Store) -> None:
    with closing(engine_pair()) as pair:
        requests = [ask("How many?", mode="ar"), ask("How many?")]
        list(race(lanes_of(pair, *requests), store))
        dflash, ar = store.list_runs()
        assert ar.output == dflash.output != ""
        assert ar.metrics.mean_acceptance_length is None
        assert dflash.metrics.mean_acceptance_length is not None
        ids, texts = (ar.token_ids, dflash.token_ids), (ar.output, dflash.output)
        assert verdict(pair, requests[0], *ids, texts=texts).identical


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
