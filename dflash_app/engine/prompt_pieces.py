"""A prompt that finds no memory is read again in smaller pieces: each needs less on the way."""

import traceback
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

from dflash_app.engine.out_of_memory import is_out_of_memory
from dflash_app.engine.speculative import PREFILL_CHUNK
from dflash_app.events import DecodeEvent, StepDone

SMALLEST_CHUNK = 32
"""Tokens; below it a piece needs hardly less."""
_SHRINK = 4


def in_pieces(
    attempt: Callable[[int], Generator[DecodeEvent, None, None]], free_unused: Callable[[], None]
) -> Generator[DecodeEvent, None, None]:
    """Events of the first attempt that finds memory for its prompt.

    Once it has put out an event an attempt is not repeated: its error is raised.

    Args:
        attempt: opens a lane, decodes with so many prompt tokens in one forward, and has closed
            the lane when it raises.
        free_unused: called before each further attempt.

    Yields:
        The attempt's events; the first step's note says it where pieces were smaller.

    Raises:
        RuntimeError, MemoryError: of the last attempt.
    """
    chunk = PREFILL_CHUNK
    while True:
        begun, note = False, _note(chunk)
        try:
            with closing(attempt(chunk)) as events:
                for event in events:
                    begun, said = True, event
                    if note is not None and isinstance(event, StepDone) and event.note is None:
                        said, note = replace(event, note=note), None
                    yield said
        except (RuntimeError, MemoryError) as error:
            if begun or chunk <= SMALLEST_CHUNK or not is_out_of_memory(error):
                raise
            # They hold the caches of the attempt.
            traceback.clear_frames(error.__traceback__)
        else:
            return
        free_unused()
        chunk //= _SHRINK


def _note(chunk: int) -> str | None:
    if chunk == PREFILL_CHUNK:
        return None
    return f"Memory is short: the prompt was read in pieces of {chunk} tokens."
