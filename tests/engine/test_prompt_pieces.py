"""A prompt that finds no memory is read again in smaller pieces, and only then."""

from collections.abc import Generator

import pytest

from dflash_app.engine.local import LocalPair
from dflash_app.engine.out_of_memory import is_out_of_memory
from dflash_app.engine.prompt_pieces import in_pieces
from dflash_app.engine.worker import Worker
from dflash_app.errors import RequestError
from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone
from dflash_app.request import GenerationRequest, Message
from tests.engine.scripted import ScriptedModels
from tests.engine.tiny_tokenizers import chat_tokenizer

CPU_SAYS = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
EVENTS: list[DecodeEvent] = [
    PrefillDone(9, 0, 1, 0.0, 0.1),
    StepDone((2,), (), 0, None, 0.0, 0.1, 0.2),
    StepDone((3,), (), 0, None, 0.0, 0.1, 0.3, "plain decoding"),
    Finished("length", 0.4),
]


class Reader:
    """Attempts that find memory for pieces of so many tokens, and fail after so many events."""

    def __init__(self, room: int, after: int = 0, error: Exception | None = None) -> None:
        self.room, self.after = room, after
        self.error = error or RuntimeError(CPU_SAYS)
        self.chunks: list[int] = []
        self.freed = self.closed = 0

    def attempt(self, chunk: int) -> Generator[DecodeEvent, None, None]:
        self.chunks.append(chunk)
        try:
            for index, event in enumerate(EVENTS):
                if chunk > self.room and index == self.after:
                    raise self.error
                yield event
        finally:
            self.closed += 1

    def free(self) -> None:
        self.freed += 1


def test_with_memory_nothing_is_repeated_and_nothing_said() -> None:
    reader = Reader(room=512)
    assert list(in_pieces(reader.attempt, reader.free)) == EVENTS
    assert (reader.chunks, reader.freed) == ([512], 0)


@pytest.mark.parametrize(("room", "chunks"), [(128, [512, 128]), (40, [512, 128, 32])])
def test_pieces_shrink_until_they_fit_and_the_first_step_says_so(
    room: int, chunks: list[int]
) -> None:
    reader = Reader(room)
    events = list(in_pieces(reader.attempt, reader.free))
    assert reader.chunks == chunks
    assert (reader.freed, reader.closed) == (len(chunks) - 1, len(chunks))
    notes = [event.note for event in events if isinstance(event, StepDone)]
    assert f"pieces of {chunks[-1]} tokens" in str(notes[0])
    assert notes[1] == "plain decoding"
    assert len(events) == len(EVENTS)


def test_where_no_piece_fits_the_error_is_the_last_ones() -> None:
    reader = Reader(room=1)
    with pytest.raises(RuntimeError, match="can't allocate"):
        list(in_pieces(reader.attempt, reader.free))
    assert reader.chunks == [512, 128, 32]


def test_what_was_put_out_is_never_repeated() -> None:
    reader = Reader(room=1, after=2)
    seen: list[DecodeEvent] = []
    with pytest.raises(RuntimeError, match="can't allocate"):
        seen.extend(in_pieces(reader.attempt, reader.free))
    assert reader.chunks == [512]


def test_other_errors_are_not_repeated() -> None:
    reader = Reader(room=1, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(in_pieces(reader.attempt, reader.free))
    assert reader.chunks == [512]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError(CPU_SAYS), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory"), True),
        (RuntimeError("[metal::malloc] greater than the maximum allowed buffer size"), True),
        (RuntimeError("[metal::malloc] Unable to allocate 5 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("index out of range"), False),
        (ValueError("no"), False),
    ],
)
def test_errors_for_want_of_memory_are_told_by_class_or_words(
    error: Exception, expected: bool
) -> None:
    assert is_out_of_memory(error) is expected


class Full(ScriptedModels):
    """Models that have room for lanes of 100 tokens in all."""

    def no_room_reason(self, lengths: list[int], *, drafting: bool) -> str | None:
        return (
            None if sum(lengths) <= 100 else f"{sum(lengths)} tokens do not fit: lower the limit."
        )

    def free_unused(self) -> None:
        pass


def test_a_request_that_does_not_fit_is_refused_with_no_lane_opened() -> None:
    models = Full()
    worker = Worker("test")
    pair = LocalPair(
        name="x", backend="test", tokenizer=chat_tokenizer(), models=models, worker=worker
    )

    def ask(max_new_tokens: int) -> GenerationRequest:
        return GenerationRequest(
            (Message("user", "one two"),), max_new_tokens=max_new_tokens, mode="ar"
        )

    try:
        with pytest.raises(RequestError, match="do not fit: lower the limit"):
            pair.stream(ask(200))
        # Lanes of a race are open at once.
        assert pair.stream(ask(60)) is not None
        with pytest.raises(RequestError, match="do not fit"):
            pair.race([ask(60), ask(60)])
        assert models.lanes == []
    finally:
        pair.close()
