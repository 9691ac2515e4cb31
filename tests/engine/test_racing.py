"""Lanes of pairs that share a thread: one job, one clock at a time, nobody's models elsewhere."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from dflash_app.engine.local import LocalPair
from dflash_app.engine.protocol import LoadedPair
from dflash_app.engine.racing import race_lanes
from dflash_app.engine.worker import Worker
from dflash_app.errors import GenerationFailed, RequestError
from dflash_app.events import DecodeEvent, Finished, StepDone
from tests.engine.scripted import Costs, FakeTime, ScriptedModels, output
from tests.engine.tiny_tokenizers import chat_tokenizer
from tests.fakes import ScriptedPair, ScriptedServerPair, ask, script_of, server_script_of

TOKENIZER = chat_tokenizer()
REQUEST = ask("How many?", max_new_tokens=24)
TIME = FakeTime()


def open_one(name: str, worker: Worker, *, step_s: float, guest: bool = False) -> LocalPair:
    models = ScriptedModels(
        next_token=lambda prefix: 40 + len(prefix) % 50,
        accepts=(2, 0, 3),
        time=TIME,
        costs=Costs(0.0, 0.0, step_s),
    )
    return LocalPair(
        name=name,
        backend="none",
        tokenizer=TOKENIZER,
        models=models,
        worker=worker,
        guest=guest,
        now=TIME,
    )


@pytest.fixture
def host() -> Iterator[LocalPair]:
    with closing(open_one("host", Worker("test-racing"), step_s=0.5)) as pair:
        yield pair


@pytest.fixture
def guest(host: LocalPair) -> Iterator[LocalPair]:
    with closing(open_one("guest", host.worker, step_s=0.25, guest=True)) as pair:
        yield pair


def events_of(found: list[tuple[int, DecodeEvent]], lane: int) -> list[DecodeEvent]:
    return [event for index, event in found if index == lane]


def last_s(events: list[DecodeEvent]) -> float:
    last = events[-1]
    assert isinstance(last, Finished)
    return last.elapsed_s


def test_lanes_of_two_pairs_take_turns_and_each_clock_counts_its_own_work(host, guest):
    plain = replace(REQUEST, mode="ar")
    lanes: list[tuple[LoadedPair, object]] = [(host, plain), (guest, REQUEST), (guest, plain)]
    found = list(race_lanes(lanes))
    assert last_s(events_of(found, 0)) == pytest.approx(23 * 0.5)
    assert last_s(events_of(found, 2)) == pytest.approx(23 * 0.25)
    assert output(events_of(found, 0)) == output(events_of(found, 1)) == output(events_of(found, 2))
    before_the_first_end = [index for index, event in found if isinstance(event, StepDone)][:12]
    assert set(before_the_first_end) == {0, 1, 2}


def test_a_race_of_two_pairs_is_one_job_of_their_thread(host, guest):
    seen: set[str] = set()

    def note() -> None:
        seen.add(threading.current_thread().name)

    host._models.on_verify = guest._models.on_verify = note
    list(race_lanes([(host, REQUEST), (guest, REQUEST)]))
    assert seen == {"test-racing"}


def test_pairs_of_two_threads_are_refused_before_anything_is_decoded(host):
    with closing(open_one("other", Worker("test-other"), step_s=0.5)) as other:
        for stranger in (other, ScriptedPair([script_of((2,))], name="other")):
            with pytest.raises(RequestError, match="host, other"):
                race_lanes([(host, REQUEST), (stranger, REQUEST)])
        assert other._models.lanes == []


def test_a_guest_leaves_and_its_host_goes_on(host, guest):
    guest.close()
    assert guest._models.closed == 1
    assert list(host.stream(REQUEST))


def test_a_guest_whose_host_went_first_still_frees_its_models(host, guest):
    host.close()
    guest.close()
    assert (host._models.closed, guest._models.closed) == (1, 1)
    with pytest.raises(GenerationFailed, match="load it again"):
        next(race_lanes([(host, REQUEST), (guest, REQUEST)]))


def test_a_pair_with_a_thread_of_its_own_kind_races_by_itself():
    pair = ScriptedPair([script_of((2,)), script_of((3,))])
    found = list(race_lanes([(pair, REQUEST), (pair, REQUEST)]))
    assert {index for index, _ in found} == {0, 1}


def test_lanes_on_servers_run_one_after_the_other_behind_those_of_this_machine(host, guest):
    one = ScriptedServerPair([server_script_of((1,), (2,))], name="one")
    two = ScriptedServerPair([server_script_of((1, 2))], name="two")
    lanes: list[tuple[LoadedPair, object]] = [(one, REQUEST), (host, REQUEST), (two, REQUEST)]
    found = list(race_lanes([*lanes, (guest, REQUEST)]))
    order = [index for index, _ in found]
    here = len(order) - order[::-1].index(1), len(order) - order[::-1].index(3)
    assert set(order[: max(here)]) == {1, 3}
    assert order[max(here) :] == [0] * len(one.scripts[0]) + [2] * len(two.scripts[0])
    assert events_of(found, 2) == two.scripts[0]


def test_leaving_a_race_of_servers_leaves_the_one_that_runs(host):
    server = ScriptedServerPair([server_script_of((1,), (2,))] * 2)
    with closing(race_lanes([(host, REQUEST), (server, REQUEST), (server, REQUEST)])) as events:
        for index, _ in events:
            if index == 1:
                break
    assert server.was_closed_early
    assert list(host.stream(REQUEST))
