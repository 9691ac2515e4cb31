"""A turn that is closed, stopped or unloaded reaches its server at once; many stream at once."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dflash_app.engine.stopping import stopped_by
from dflash_app.errors import GenerationFailed, RequestError
from dflash_app.events import Finished
from tests.plugins.remote.asking_servers import (
    end_of,
    served,
    text_of,
    turn,
)
from tests.plugins.remote.scripted_server import (
    Canned,
    as_vllm,
    events,
    says,
    shape,
    stream,
)

DETAILED = stream(shape("vllm_chat_detailed.sse"))
FOREVER = stream(*[events(says("a "), done=False)] * 2000, gap_s=0.005)
SILENT = stream(events(says("a "), done=False), ending="silent")


def test_closing_a_turn_reaches_the_server_at_once() -> None:
    with as_vllm(FOREVER) as server, served(server) as loaded:
        running = loaded.stream(turn())
        came = [next(running) for _ in range(6)]
        running.close()
        assert server.gone.wait(5)
        assert server.num_sent < 200
        assert text_of(came) == "a a a "
        assert list(running) == []


def test_a_reader_that_waits_for_a_silent_server_wakes_when_the_turn_is_closed() -> None:
    with as_vllm(SILENT) as server, served(server) as loaded:
        running = loaded.stream(turn())
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(list, running)
            while server.num_sent < 1 or not server.chats():
                time.sleep(0.01)
            time.sleep(0.05)
            running.close()
            assert text_of(reading.result(timeout=5)) == "a "
        assert server.gone.wait(5)


def test_a_stop_ends_a_turn_as_cancelled_though_the_server_says_nothing() -> None:
    with as_vllm(SILENT) as server, served(server) as loaded:
        stop = threading.Event()
        with stopped_by(stop):
            running = loaded.stream(turn())
            came = [next(running), next(running)]
            threading.Timer(0.05, stop.set).start()
            came += running
        assert server.gone.wait(5)
    assert end_of(came).reason == "cancelled"
    assert text_of(came) == "a "


def test_a_stop_between_the_lanes_of_a_race_sends_nothing_more() -> None:
    with as_vllm(SILENT) as server, served(server) as loaded:
        stop = threading.Event()
        with stopped_by(stop):
            running = loaded.race([turn(), turn()])
            came = [next(running), next(running)]
            stop.set()
            came += running
        assert len(server.chats()) == 1
    ends = [(lane, event.reason) for lane, event in came if isinstance(event, Finished)]
    assert ends == [(0, "cancelled"), (1, "cancelled")]


def test_a_race_is_refused_before_any_lane_is_sent() -> None:
    with as_vllm(DETAILED) as server, served(server) as loaded:
        with pytest.raises(RequestError, match="cannot decode plainly"):
            loaded.race([turn(), turn(mode="ar")])
        assert server.chats() == []


def test_a_turn_that_nobody_holds_any_more_is_cut() -> None:
    with as_vllm(FOREVER) as server, served(server) as loaded:
        running = loaded.stream(turn())
        next(running)
        del running
        gc.collect()
        assert server.gone.wait(5)


def test_a_turn_that_was_never_begun_sends_nothing() -> None:
    with as_vllm(DETAILED) as server, served(server) as loaded:
        loaded.stream(turn()).close()
        assert server.chats() == []


def test_unloading_ends_what_runs_with_an_error_and_refuses_more() -> None:
    with as_vllm(SILENT) as server, served(server) as loaded:
        running = loaded.stream(turn())
        next(running)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(list, running)
            time.sleep(0.05)
            loaded.close()
            with pytest.raises(GenerationFailed, match="unloaded while it was working"):
                reading.result(timeout=5)
        with pytest.raises(GenerationFailed, match="no longer loaded"):
            loaded.stream(turn())
        assert server.gone.wait(5)


def test_turns_stream_at_once_and_do_not_mix() -> None:
    def echo(body: Any) -> Canned:
        words = body["messages"][0]["content"].split()
        chunks = [events(says(f"{word} "), done=False) for word in words]
        return stream(*chunks, events(says(end="stop")), gap_s=0.002)

    with as_vllm(echo) as server, served(server) as loaded:
        prompts = [" ".join(f"{n}-{k}" for k in range(20)) for n in range(32)]
        with ThreadPoolExecutor(32) as pool:
            texts = list(pool.map(lambda text: text_of(loaded.stream(turn(text))), prompts))
    assert [text.strip() for text in texts] == prompts
