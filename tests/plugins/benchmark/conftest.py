"""A workspace whose pairs play scripts, and plans that are quick to run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.errors import LoadError
from dflash_app.events import DecodeEvent
from dflash_app.registry.pair import Pair
from dflash_app.request import GenerationRequest
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.fakes import ScriptedPair, script_of

SERVERS = """
pairs:
  - name: served
    title: A server
    family: unknown
    target: {server: "http://127.0.0.1:9/v1", model: plain}
    drafter: {server: "http://127.0.0.1:9/v1", model: drafting}
    backends: [remote]
  - name: mtp
    title: Another server
    family: unknown
    target: {server: "http://127.0.0.1:9/v1", model: mtp}
    drafter: {server: "http://127.0.0.1:9/v1", model: mtp}
    backends: [remote]
  - name: plain
    title: One without drafts
    family: unknown
    target: {server: "http://127.0.0.1:9/v1", model: plain}
    backends: [remote]
"""

Answering = Callable[[GenerationRequest], Sequence[DecodeEvent | BaseException]]


def answer(request: GenerationRequest) -> Sequence[DecodeEvent | BaseException]:
    """Three tokens, of which DFlash drafts two in one step."""
    if request.mode == "ar":
        return script_of((2,), (3,))
    return script_of((2, 3), num_draft=3)


@dataclass
class AnsweringPair(ScriptedPair):
    """Plays what a test answers to each request; any number of threads may ask it at once.

    Attributes:
        num_raced: requests that came as a race, which reuses nothing of an earlier prompt.
    """

    answering: Answering = answer
    num_raced: int = 0

    def stream(self, request: GenerationRequest) -> Iterator[DecodeEvent]:
        self.requests.append(request)
        for event in self.answering(request):
            if isinstance(event, BaseException):
                raise event
            yield event

    def race(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, DecodeEvent]]:
        (request,) = requests
        self.num_raced += 1
        for event in self.stream(request):
            yield 0, event


@dataclass
class AnsweringBackend:
    """Loads pairs that answer alike, under the name of a real backend.

    Attributes:
        pairs: all that were loaded, by name.
        options: of every load.
        failing: no pair can be loaded.
    """

    name: str
    answering: Answering = answer
    failing: bool = False
    pairs: dict[str, AnsweringPair] = field(default_factory=dict)
    options: list[LoadOptions] = field(default_factory=list)

    def unavailable_reason(self) -> str | None:
        return None

    def load(self, pair: Pair, options: LoadOptions) -> LoadedPair:
        self.options.append(options)
        if self.failing:
            raise LoadError(f"{pair.name} is corrupt: download it again.")
        loaded = AnsweringPair((), name=pair.name, backend=self.name, answering=self._answer)
        self.pairs[pair.name] = loaded
        return loaded

    def _answer(self, request: GenerationRequest) -> Sequence[DecodeEvent | BaseException]:
        return self.answering(request)  # what a test sets later counts too

    @property
    def requests(self) -> list[GenerationRequest]:
        """What all its pairs were asked, warm-ups too."""
        return [request for pair in self.pairs.values() for request in pair.requests]


@dataclass
class Bench:
    """The workspace, and what answers in it."""

    workspace: Workspace
    here: AnsweringBackend
    there: AnsweringBackend


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    """The embedded pair and three servers, all scripted."""
    settings.user_registry.write_text(SERVERS)
    here, there = AnsweringBackend("torch"), AnsweringBackend("remote")
    opened = open_workspace(settings)
    with closing(replace(opened, _backends={"torch": here, "remote": there})) as workspace:
        yield Bench(workspace, here, there)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Three questions; the second has two turns, the third an answer."""
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"id": "a", "prompt": "First?"}\n'
        '{"id": "b", "turns": ["Second?", "And then?"]}\n'
        '{"id": "c", "prompt": "Third?", "answer": "bcd"}\n'
    )
    return path
