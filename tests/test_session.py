import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import pytest

import dflash_app.session
from dflash_app import __version__
from dflash_app.errors import GenerationFailed, PromptTooLong, StoreLocked
from dflash_app.events import Finished, TextDelta
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.request import SamplingParams
from dflash_app.session import drafter_effect, experiments, run, where
from dflash_app.store.records import RunRecord
from dflash_app.store.runs import Store
from tests.fakes import ScriptedPair, ScriptedServerPair, ask, script_of, server_script_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "runs.db", busy_timeout_s=0.05) as opened:
        yield opened


def only(store: Store) -> RunRecord:
    (record,) = store.list_runs()
    return record


def test_a_finished_run_is_recorded_with_its_text_tokens_and_figures(store: Store) -> None:
    script = script_of((2, 3), (4,), num_draft=3, reason="length")
    events = list(run(ScriptedPair([script]), store, ask(), source="chat"))
    assert events == script
    record = only(store)
    assert (record.finish_reason, record.output, record.error) == ("length", "bcde", None)
    assert record.token_ids == (1, 2, 3, 4)
    assert record.metrics == summarize(script)
    assert record.metrics.decode_tok_s == 3 / 0.5


def test_the_steps_of_a_run_are_kept_whichever_way_it_ends(store: Store) -> None:
    script = script_of((2, 3), (4,), num_draft=3, reason="length")
    steps = [event for event in script if not isinstance(event, TextDelta)]
    list(run(ScriptedPair([script]), store, ask(), source="chat"))
    assert store.run_events(only(store).id) == steps
    cut = ScriptedPair([[*script[:4], GenerationFailed("It broke.")]])
    with pytest.raises(GenerationFailed):
        list(run(cut, store, ask(), source="chat"))
    assert store.run_events(store.list_runs(limit=1)[0].id) == steps[:2]


def test_a_run_has_an_owner_and_tells_its_id_before_anything_is_decoded(store: Store) -> None:
    told: list[tuple[int, str | None]] = []

    def began(run_id: int) -> None:
        record = store.get_run(run_id, "visitor-1")
        told.append((run_id, record and record.finish_reason))

    pair = ScriptedPair([script_of()])
    list(run(pair, store, ask(), source="chat", owner="visitor-1", began=began))
    assert told == [(only(store).id, None)]


def test_a_run_is_recorded_with_the_task_of_its_prompt(store: Store) -> None:
    list(run(ScriptedPair([script_of()]), store, ask(task="GSM8K"), source="benchmark"))
    assert only(store).start.task == "GSM8K"


def test_the_record_says_what_was_asked_and_of_whom(store: Store) -> None:
    request = ask("hi", stop=("END",), max_new_tokens=9, thinking="off")
    revisions = {"target_revision": "t1", "drafter_revision": "d1"}
    list(run(ScriptedPair([script_of()]), store, request, source="cli", group_id="g", **revisions))
    start = only(store).start
    assert (start.source, start.group_id, start.pair) == ("cli", "g", "scripted")
    assert (start.target_revision, start.drafter_revision) == ("t1", "d1")
    assert (start.backend, start.device, start.dtype) == ("script", "cpu", "float32")
    assert (start.mode, start.block_size, start.max_new_tokens) == ("dflash", 4, 9)
    assert (start.stop, start.thinking, start.prompt) == (("END",), "off", "hi")
    assert start.app_version == __version__
    assert "torch" in start.library_versions


def test_the_record_keeps_how_tokens_were_chosen(store: Store) -> None:
    sampling = SamplingParams(0.5, top_p=0.9, top_k=7, min_p=0.05, repetition_penalty=1.1, seed=3)
    list(run(ScriptedPair([script_of()]), store, ask(sampling=sampling), source="cli"))
    start = only(store).start
    kept = {each.name: getattr(start, each.name) for each in fields(SamplingParams)}
    assert SamplingParams(**kept) == sampling


def test_the_record_says_how_weights_were_stored_and_caches_went_back(store: Store) -> None:
    pair = ScriptedPair([script_of()], quantization="nf4", drafter_quantization="int8")
    pair.rollback_kind, pair.dtype = "replay", "bfloat16"
    list(run(pair, store, ask(block_size=32), source="cli"))
    list(run(pair, store, ask(mode="ar", block_size=32), source="cli"))
    plain, start = (record.start for record in store.list_runs())
    assert (start.rollback_kind, plain.rollback_kind) == ("replay", "replay")
    assert start.precision == "nf4 in bfloat16, drafter int8"
    assert plain.precision == "nf4 in bfloat16"
    assert (start.block_size, start.trained_block_size) == (32, 4)
    assert start.block == "32 (experiment: trained for 4)"
    assert (plain.trained_block_size, plain.block) == (None, None)


def test_a_drafter_in_fewer_bits_is_compared_with_runs_of_the_whole_one(store: Store) -> None:
    whole = ScriptedPair([script_of((2, 3, 4), (5,), num_draft=3)])
    packed = ScriptedPair([], drafter_quantization="4bit")
    assert drafter_effect(store, whole, "hi", 2.0) is None
    assert drafter_effect(store, packed, "hi", None) is None
    assert "run the pair with the whole drafter too" in str(
        drafter_effect(store, packed, "hi", 2.5)
    )
    for pair in (whole, packed, replace(whole, quantization="8bit")):
        list(run(replace(pair, scripts=whole.scripts), store, ask("another"), source="cli"))
    said = str(drafter_effect(store, packed, "hi", 2.5))
    assert "in 4bit the acceptance length was 2.50, and 2.00 with the whole one" in said
    assert "1 of other prompts" in said
    list(run(ScriptedPair([script_of((2,), num_draft=3)]), store, ask("hi"), source="cli"))
    said = str(drafter_effect(store, packed, "hi", 2.5))
    assert "and 1.00 with the whole one (runs in the log: 1 of this prompt)" in said


def test_the_record_says_on_which_path_and_by_which_policy_it_was_decoded(store: Store) -> None:
    pair = ScriptedPair([script_of()], path="dynamic cache: recurrent layers")
    list(run(pair, store, ask(policy="adaptive"), source="cli"))
    list(run(pair, store, ask(mode="ar", policy="adaptive"), source="cli"))
    plain, start = (record.start for record in store.list_runs())
    assert start.paths == "dynamic cache: recurrent layers, drafter static cache"
    assert plain.paths == "dynamic cache: recurrent layers"
    assert (start.policy, plain.policy) == ("adaptive", None)
    assert where(pair, ask(mode="ar")) == "cpu, float32, dynamic cache: recurrent layers"
    assert where(ScriptedPair([]), ask()) == "cpu, float32, static cache"


@pytest.mark.parametrize(
    ("size", "mode", "told"), [(5, "dflash", 1), (4, "dflash", 0), (5, "ar", 0)]
)
def test_only_a_block_above_the_trained_one_is_an_experiment(
    size: int, mode: str, told: int
) -> None:
    sentences = experiments(ScriptedPair([]), ask(mode=mode, block_size=size))
    assert len(sentences) == told
    assert experiments(ScriptedPair([], block_size=None), ask(mode=mode, block_size=size)) == ()


def test_plain_decoding_records_neither_block_size_nor_drafter(store: Store) -> None:
    pair = ScriptedPair([script_of()])
    list(run(pair, store, ask(mode="ar", block_size=8), source="cli", drafter_revision="d1"))
    start = only(store).start
    assert (start.mode, start.block_size, start.drafter_revision) == ("ar", None, None)


def test_the_run_is_stored_by_the_time_its_last_event_is_seen(store: Store) -> None:
    for event in run(ScriptedPair([script_of((2,))]), store, ask(), source="chat"):
        reason = only(store).finish_reason
        assert reason == ("stop" if isinstance(event, Finished) else None)


def test_closing_the_stream_cancels_the_engine_and_records_what_came(store: Store) -> None:
    pair = ScriptedPair([script_of((2,), (3,))])
    events = run(pair, store, ask(), source="chat")
    while not isinstance(next(events), TextDelta):
        pass
    events.close()  # type: ignore[attr-defined]
    assert pair.was_closed_early
    record = only(store)
    assert (record.finish_reason, record.output, record.token_ids) == ("cancelled", "b", (1,))
    assert record.metrics.ttft_s == 0.5
    assert record.metrics.decode_tok_s is None


def test_a_run_that_nobody_read_a_word_of_leaves_no_record(store: Store) -> None:
    run(ScriptedPair([script_of()]), store, ask(), source="chat").close()  # type: ignore[attr-defined]
    assert store.list_runs() == []


def test_leaving_at_the_last_event_records_how_it_ended(store: Store) -> None:
    for event in run(ScriptedPair([script_of()]), store, ask(), source="chat"):
        if isinstance(event, Finished):
            break
    assert only(store).finish_reason == "stop"


@pytest.mark.parametrize(
    "error", [GenerationFailed("It broke: try again."), PromptTooLong("Too long: shorten it.")]
)
def test_a_failure_is_recorded_with_its_message_and_raised(store: Store, error: Exception) -> None:
    with pytest.raises(type(error)):
        list(run(ScriptedPair([[*script_of((2,))[:2], error]]), store, ask(), source="chat"))
    record = only(store)
    assert (record.finish_reason, record.error, record.output) == ("failed", str(error), "b")


def test_control_c_counts_as_cancelled(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(run(ScriptedPair([[KeyboardInterrupt()]]), store, ask(), source="cli"))
    assert only(store).finish_reason == "cancelled"
    assert only(store).metrics == RunMetrics()


def test_a_stream_that_just_ends_is_a_failure(store: Store) -> None:
    with pytest.raises(GenerationFailed, match="without a last event"):
        list(run(ScriptedPair([script_of()[:-1]]), store, ask(), source="chat"))
    assert only(store).finish_reason == "failed"


def test_a_sampled_run_records_the_seed_that_was_drawn_for_it(store: Store) -> None:
    pair = ScriptedPair([script_of()])
    warm = SamplingParams(temperature=0.8)
    for _ in range(2):
        list(run(pair, store, ask(sampling=warm), source="chat"))
    seeds = [record.start.seed for record in store.list_runs()]
    assert None not in seeds
    assert seeds[0] != seeds[1]
    assert seeds == [request.sampling.seed for request in reversed(pair.requests)]


def test_adaptive_drafts_get_no_seed_as_none_would_repeat_them(store: Store) -> None:
    sampled = SamplingParams(temperature=0.8)
    pair = ScriptedPair([script_of((2,))])
    list(run(pair, store, ask(sampling=sampled, policy="adaptive"), source="chat"))
    list(run(pair, store, ask(sampling=sampled, policy="adaptive", mode="ar"), source="chat"))
    assert [request.sampling.seed is None for request in pair.requests] == [True, False]
    served = ScriptedServerPair([server_script_of((1,), (2,))])
    list(run(served, store, ask(sampling=sampled, policy="adaptive"), source="chat"))
    assert store.list_runs()[0].start.seed is not None  # a server knows no such policy


def test_a_given_seed_is_kept_and_greedy_needs_none(store: Store) -> None:
    pair = ScriptedPair([script_of()])
    list(run(pair, store, ask(sampling=SamplingParams(temperature=0.8, seed=5)), source="chat"))
    list(run(pair, store, ask(), source="chat"))
    assert [record.start.seed for record in store.list_runs()] == [None, 5]


def test_text_is_saved_while_the_run_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dflash_app.session, "PROGRESS_INTERVAL_S", 0.0)
    events = run(ScriptedPair([script_of((2,), (3,))]), store, ask(), source="chat")
    texts = []
    for event in events:
        if isinstance(event, TextDelta):
            texts.append(only(store).output)
    assert texts == ["b", "bc", "bcd"]


def test_text_is_saved_at_most_once_an_interval(store: Store) -> None:
    for event in run(ScriptedPair([script_of((2,))]), store, ask(), source="chat"):
        if isinstance(event, TextDelta):
            assert only(store).output == ""


@pytest.fixture
def other_program(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as connection:
        yield connection


def test_a_locked_store_takes_no_word_from_the_user_and_is_named_at_the_end(
    store: Store, other_program: sqlite3.Connection
) -> None:
    other_program.execute("BEGIN EXCLUSIVE")
    seen = []
    with pytest.raises(StoreLocked, match="close it"):
        for event in run(ScriptedPair([script_of((2, 3))]), store, ask(), source="chat"):
            seen.append(event)
    assert seen == script_of((2, 3))


def test_a_store_that_is_free_again_at_the_end_gets_the_whole_run(
    store: Store, other_program: sqlite3.Connection
) -> None:
    other_program.execute("BEGIN EXCLUSIVE")
    events = run(ScriptedPair([script_of((2,))]), store, ask(), source="chat")
    next(events)
    other_program.rollback()
    list(events)
    assert (only(store).finish_reason, only(store).output) == ("stop", "bc")


def test_a_lock_in_the_middle_is_asked_once_and_not_for_every_word(
    store: Store, other_program: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dflash_app.session, "PROGRESS_INTERVAL_S", 0.0)
    asked = []
    save_progress = store.save_progress
    monkeypatch.setattr(store, "save_progress", lambda *a: (asked.append(a), save_progress(*a)))
    events = run(ScriptedPair([script_of((2,), (3,), (4,))]), store, ask(), source="chat")
    next(events)
    other_program.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreLocked):
        list(events)
    assert len(asked) == 1


def test_a_cancelled_run_that_cannot_be_recorded_is_logged(
    store: Store, other_program: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    events = run(ScriptedPair([script_of((2,))]), store, ask(), source="chat")
    next(events)
    other_program.execute("BEGIN EXCLUSIVE")
    with caplog.at_level(logging.WARNING):
        events.close()  # type: ignore[attr-defined]
    assert "A run is not recorded" in caplog.text


def test_a_failure_is_not_hidden_by_a_locked_store(
    store: Store, other_program: sqlite3.Connection
) -> None:
    other_program.execute("BEGIN EXCLUSIVE")
    with pytest.raises(GenerationFailed, match="It broke"):
        list(run(ScriptedPair([[GenerationFailed("It broke.")]]), store, ask(), source="chat"))


def test_the_record_says_how_the_run_was_decoded_in_the_end(store: Store) -> None:
    for mode, drafter_path in (("dflash", "static cache"), ("ar", None)):
        pair = ScriptedPair([script_of((2,))], path="CUDA graphs", drafter_path="CUDA graphs")
        events = run(pair, store, ask(mode=mode), source="cli")
        next(events)
        pair.path = "static cache: no memory for CUDA graphs"
        pair.drafter_path = "static cache"
        list(events)
        start = store.list_runs()[0].start
        assert start.path == "static cache: no memory for CUDA graphs"
        assert start.drafter_path == drafter_path


def test_what_recording_steps_took_is_told_beside_the_path() -> None:
    pair = ScriptedPair([], path="CUDA graphs", drafter_path="CUDA graphs", startup_s=0.83)
    assert where(pair, ask()) == "cpu, float32, CUDA graphs, 0.8 s to start up"


def test_a_visitor_is_not_told_where_a_server_stands(store: Store) -> None:
    for owner in (None, "visitor-1"):
        pair = ScriptedServerPair([server_script_of((1,), (2,))])
        list(run(pair, store, ask(policy="adaptive"), source="chat", owner=owner))
    visited, own = store.list_runs()
    assert (own.start.device, visited.start.device) == ("gpu-box:8000", "server")
    assert (own.start.place, own.start.policy) == ("remote, gpu-box:8000", None)
    assert "gpu-box" not in str(visited)


def test_a_run_on_a_server_says_engine_and_address() -> None:
    assert where(ScriptedServerPair([]), ask()) == "vLLM 0.32.0, gpu-box:8000"


def test_the_tokens_of_a_server_are_saved_while_they_arrive(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dflash_app.session, "PROGRESS_INTERVAL_S", 0.0)
    script = server_script_of((1,), (2, 3))
    with closing(run(ScriptedServerPair([script]), store, ask(), source="chat")) as events:
        for event in events:
            if isinstance(event, TextDelta) and event.text == "cd":
                break
        assert (only(store).output, only(store).token_ids) == ("bcd", (1, 2, 3))
    record = only(store)
    assert (record.finish_reason, record.metrics.num_output_tokens) == ("cancelled", 3)
