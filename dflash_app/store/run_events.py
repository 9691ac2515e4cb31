"""A run's events as one compressed value: what the microscope and the advisor read later.

Prefill, steps and end are kept, of a server what arrived and what it counted; the text is not, as
the run's row has it.
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from dflash_app.errors import StoreCorrupt
from dflash_app.events import (
    DecodeEvent,
    Finished,
    PrefillDone,
    ServerCounts,
    StepDone,
    TokensArrived,
)

FORMAT = 1
MAX_BYTES = 1 << 28
"""Most bytes that a value may unpack to: a damaged one must not fill the memory."""

_LEVEL = 3
"""zlib's: a third of the time of the default for a tenth more bytes."""
_CONFIDENCE_UNITS = 1000


def encode_events(events: Iterable[DecodeEvent]) -> bytes | None:
    """Pack the events of one run, times to the microsecond and confidences to a thousandth.

    Args:
        events: in the order they came, complete or cut anywhere.

    Returns:
        The value to store; None where nothing but text came.
    """
    packed: dict[str, Any] = {"format": FORMAT, "prefill": None, "steps": [], "end": None}
    clock_us = 0
    for event in events:
        if isinstance(event, PrefillDone):
            clock_us = _us(event.elapsed_s)
            counts = (event.num_prompt_tokens, event.num_reused, event.token_id)
            packed["prefill"] = [*counts, _us(event.queue_s), clock_us]
        elif isinstance(event, StepDone):
            packed["steps"].append(_pack_step(event, clock_us))
            clock_us = _us(event.elapsed_s)
        elif isinstance(event, TokensArrived):
            row = [event.num_tokens, event.token_ids, _us(event.elapsed_s) - clock_us]
            packed.setdefault("arrivals", []).append(row)
            clock_us = _us(event.elapsed_s)
        elif isinstance(event, ServerCounts):
            packed["counts"] = asdict(event)
        elif isinstance(event, Finished):
            packed["end"] = [event.reason, _us(event.elapsed_s)]
    if not any(value for key, value in packed.items() if key != "format"):
        return None
    return zlib.compress(json.dumps(packed, separators=(",", ":")).encode(), _LEVEL)


def decode_events(value: bytes) -> list[DecodeEvent]:
    """Unpack what `encode_events` made.

    Raises:
        StoreCorrupt: it is damaged, or of a format that this version does not know.
    """
    try:
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(value, MAX_BYTES)
        if not unpacking.eof:
            raise StoreCorrupt("they are cut off")
        packed = json.loads(text)
        if packed["format"] != FORMAT:
            told = f"they have format {packed['format']}, and this version reads {FORMAT}"
            raise StoreCorrupt(told)
        return list(_unpack(packed))
    except (zlib.error, ValueError, TypeError, LookupError, AttributeError) as error:
        raise StoreCorrupt(f"they cannot be unpacked ({type(error).__name__})") from error


def _pack_step(step: StepDone, clock_us: int) -> list[Any]:
    """A row in an order that packs well: drafts stand beside the tokens that repeat them.

    The end of the step is kept as what it took beyond drafting and verifying, a small number.
    """
    propose_us, verify_us = _us(step.propose_s), _us(step.verify_s)
    rest_us = _us(step.elapsed_s) - clock_us - propose_us - verify_us
    row: list[Any] = [step.token_ids, step.drafted_ids, step.num_accepted]
    row += [propose_us, verify_us, rest_us]
    if step.confidences is not None or step.note is not None:
        sure = step.confidences
        row.append(None if sure is None else [round(each * _CONFIDENCE_UNITS) for each in sure])
        row.append(step.note)
    return row


def _unpack(packed: dict[str, Any]) -> Iterator[DecodeEvent]:
    clock_us = 0
    if packed["prefill"] is not None:
        num_prompt, num_reused, token_id, queue_us, clock_us = packed["prefill"]
        yield PrefillDone(num_prompt, num_reused, token_id, queue_us / 1e6, clock_us / 1e6)
    for row in packed["steps"]:
        token_ids, drafted_ids, num_accepted, propose_us, verify_us, rest_us, *told = row
        clock_us += propose_us + verify_us + rest_us
        sure, note = told or (None, None)
        yield StepDone(
            token_ids=tuple(token_ids),
            drafted_ids=tuple(drafted_ids),
            num_accepted=num_accepted,
            confidences=None if sure is None else tuple(each / _CONFIDENCE_UNITS for each in sure),
            propose_s=propose_us / 1e6,
            verify_s=verify_us / 1e6,
            elapsed_s=clock_us / 1e6,
            note=note,
        )
    for num_tokens, token_ids, took_us in packed.get("arrivals", ()):
        clock_us += took_us
        yield TokensArrived(num_tokens, tuple(token_ids), clock_us / 1e6)
    if "counts" in packed:
        yield _unpack_counts(packed["counts"])
    if packed["end"] is not None:
        reason, end_us = packed["end"]
        yield Finished(reason, end_us / 1e6)


def _unpack_counts(counts: dict[str, Any]) -> ServerCounts:
    several = ("accepted_by_position", "drafted_by_position", "histogram")
    return ServerCounts(**counts | {name: tuple(counts[name]) for name in several})


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
