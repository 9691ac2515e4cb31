"""vLLM: acceptance of a request where it was started to tell it, else from its counters.

Shapes: recorded from vLLM 0.32.0.
"""

import re
import time
from dataclasses import replace
from typing import Any, Literal

from dflash_app.events import ServerCounts
from dflash_app.request import GenerationRequest

from .capabilities import Engine
from .counting import by_position, histogram_of, number, numbers, seconds
from .dialect import (
    Description,
    Dialect,
    served,
    switches,
    totals,
)
from .faults import ServerError
from .reply import Reply

_COUNTER = re.compile(
    rb"vllm:spec_decode_num_(drafts|draft_tokens|accepted_tokens|accepted_tokens_per_pos)_total"
    rb'(?:\{(?:[^}]*?position="(\d{1,3})")?[^}]*\})? (\d+(?:\.\d+)?(?:e\+?\d+)?)'
)
_MAX_LINE_BYTES = 4096
LOOK_AGAIN_S = 20.0
"""vLLM takes longer to start, so that one which has a drafter now is noticed."""
Counters = dict[tuple[str, int | None], int]
"""Totals since the server started, by name and, of those per position, draft position."""


class Vllm(Dialect):
    """What vLLM adds."""

    engine: Engine = "vllm"
    counted: Literal["request", "server"] | None = "server"
    tells_token_ids = True

    # Whether the last chunk tells acceptance: known after the first reply.
    _per_request: bool | None = None
    # When its metrics were read, by `time.monotonic`.
    _looked_s = 0.0

    def describe(self, cards: list[dict[str, Any]]) -> Description:
        """Version and contexts; drafts where its metrics are open to us."""
        version = self.server.ask("/version", at_root=True).object().get("version")
        counters = self._look()
        places = [place for _, place in counters or () if place is not None]
        return Description(
            version=version if isinstance(version, str) else None,
            models=tuple(served(card) for card in cards),
            drafts=self.drafts,
            num_drafts=max(places) + 1 if places else None,
        )

    def fields(self, request: GenerationRequest, *, drafting: bool) -> dict[str, Any]:
        """All of sampling, as what is left out comes from the model's own defaults."""
        sampling = request.sampling
        return {
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "return_token_ids": True,
            "top_k": sampling.top_k or -1,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            **switches(request),
        }

    def before(self) -> Counters | None:
        """The counters, unless replies tell acceptance themselves, or there lately were none."""
        if self.drafts:
            return None if self._per_request else self._look()
        old = time.monotonic() - self._looked_s > LOOK_AGAIN_S
        return self._look() if self.drafts is False and old else None

    def counts(self, reply: Reply, before: Counters | None) -> ServerCounts | None:
        """Acceptance of this request, or what the counters grew by."""
        own = (reply.extra.get("metrics") or {}).get("speculative_decoding")
        if own:
            self._per_request = True
            return _of_request(reply, own)
        self._per_request = False
        after = self._look() if self.drafts else None
        grown = _growth(before, after) if before and after else None
        if not grown:
            return _totals(self.title, reply) if reply.usage else None
        places = sorted(place for _, place in grown if place is not None)
        return replace(
            _totals("vLLM /metrics", reply),
            shared=True,
            num_steps=grown["drafts", None],
            num_drafted=grown["draft_tokens", None],
            num_accepted=grown["accepted_tokens", None],
            accepted_by_position=tuple(grown["accepted_tokens_per_pos", k] for k in places),
        )

    def _look(self) -> Counters | None:
        """The counters as they are now, from which follows whether it drafts."""
        counters, known = self._counters()
        if known:
            self.drafts, self._looked_s = counters is not None, time.monotonic()
        return counters

    def _counters(self) -> tuple[Counters | None, bool]:
        """(the counters, or None where there are none; whether the metrics could be read)."""
        try:
            answer = self.server.ask("/metrics", at_root=True)
        except ServerError:  # a run is worth more than its acceptance
            return None, False
        if answer.status != 200 or b"vllm:" not in answer.body:
            return None, False
        found: Counters = {}
        for line in answer.body.splitlines():
            told = _COUNTER.fullmatch(line) if len(line) <= _MAX_LINE_BYTES else None
            total = number(float(told[3])) if told else None
            if told and total is not None:
                at = told[1].decode(), int(told[2]) if told[2] else None
                found[at] = found.get(at, 0) + total
        wanted = {("drafts", None), ("draft_tokens", None), ("accepted_tokens", None)}
        return (found if wanted <= found.keys() else None), True


def _of_request(reply: Reply, own: dict[str, Any]) -> ServerCounts:
    histogram = histogram_of(own.get("acceptance_histogram"))
    drafted = numbers(own.get("per_step_drafted"))
    return replace(
        _totals("vLLM, this request", reply),
        num_steps=number(own.get("num_spec_steps")),
        num_drafted=number(own.get("num_draft_tokens")),
        num_accepted=number(own.get("num_accepted_draft_tokens")),
        accepted_by_position=by_position(histogram),
        drafted_by_position=_by_drafts(drafted, len(histogram)) if drafted and histogram else (),
        histogram=histogram,
    )


def _totals(source: str, reply: Reply) -> ServerCounts:
    """As of every server, and its own time where it was started to tell it."""
    metrics = reply.extra.get("metrics") or {}
    return replace(totals(source, reply), decode_s=seconds(metrics.get("generation_time_ms")))


def _by_drafts(drafted: tuple[int, ...], size: int) -> tuple[int, ...]:
    """For each draft position below `size` - 1, the steps that drafted it."""
    steps = [0] * size
    for count in drafted:
        steps[min(count, size - 1)] += 1
    return by_position(tuple(steps))


def _growth(before: Counters, after: Counters) -> Counters | None:
    """What was counted between; None where a restart set the counters back, or none drafted."""
    grown = {at: total - before.get(at, 0) for at, total in after.items()}
    if min(grown.values()) < 0 or not grown["drafts", None]:
        return None
    return grown
