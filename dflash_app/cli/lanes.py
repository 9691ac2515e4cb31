"""The lanes of `generate --compare`: "ar", "dflash", "dflash,block=8,drafts=adaptive"."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from dflash_app.engine.protocol import LoadOptions, Quantization
from dflash_app.errors import RequestError
from dflash_app.race import LaneSpec
from dflash_app.request import GenerationRequest, Mode, Policy

KEYS = ("pair", "precision", "block", "drafts")
"""What may follow a lane's mode, each as key=value; the command's options stand for the rest."""
MAX_LANES = 3
DTYPES = ("float32", "bfloat16", "float16")


def read_lanes(
    lanes: Sequence[str], pair: str, options: LoadOptions, request: GenerationRequest
) -> list[LaneSpec]:
    """The lanes that were asked for, or plain decoding against DFlash.

    Args:
        lanes: of the command line, in the order of the race.
        pair: of lanes that name no other; another one has the same target and its own drafter.
        options: how to load what a lane says nothing of.
        request: what a lane says nothing of.

    Raises:
        RequestError: a lane cannot be read, or there are not two or three.
    """
    if not lanes:
        return [_lane(mode, {}, pair, options, request) for mode in ("ar", "dflash")]
    if not 2 <= len(lanes) <= MAX_LANES:
        raise RequestError(f"A race has 2 or {MAX_LANES} lanes: give --lane as often.")
    return [_lane(*_parse(lane), pair, options, request) for lane in lanes]


def _parse(lane: str) -> tuple[Any, dict[str, str]]:
    mode, *settings = lane.split(",")
    found = dict(each.partition("=")[::2] for each in settings)
    if mode not in get_args(Mode) or not set(found) <= set(KEYS) or not all(found.values()):
        raise RequestError(
            f"{lane[:80]!r} is no lane: give ar or dflash, then ,{'=..., '.join(KEYS)}=... where "
            "it differs."
        )
    return mode, found


def _lane(
    mode: Mode, found: dict[str, str], pair: str, options: LoadOptions, request: GenerationRequest
) -> LaneSpec:
    changes: dict[str, Any] = {"mode": mode}
    if mode == "ar":
        changes["block_size"] = None
    elif "block" in found:
        changes["block_size"] = _whole(found["block"])
    if "drafts" in found:
        changes["policy"] = _one_of("drafts", found["drafts"], get_args(Policy))
    if "precision" in found:
        options = _in_precision(options, found["precision"])
    return LaneSpec(found.get("pair", pair), options, replace(request, **changes))


def _in_precision(options: LoadOptions, name: str) -> LoadOptions:
    """The options in a dtype, or with weights stored in fewer bits."""
    if name in get_args(Quantization):
        return replace(options, quantization=name)  # type: ignore[arg-type]
    _one_of("precision", name, (*DTYPES, *get_args(Quantization)))
    return replace(options, dtype=name, quantization=None)


def _one_of(key: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise RequestError(f"{key}={value[:40]} is unknown: use {', '.join(known)}.")
    return value


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 4:
        raise RequestError(f"block={text[:40]} is no block size: use a whole number.")
    return int(text)
