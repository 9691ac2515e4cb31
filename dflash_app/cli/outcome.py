"""What one run put out, gathered from its events."""

from dataclasses import dataclass, field
from typing import Any

from dflash_app.events import (
    DecodeEvent,
    Finished,
    FinishReason,
    TextDelta,
    notes_of,
    token_ids_of,
)
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.request import Mode, Policy


@dataclass(slots=True)
class Outcome:
    """The text, tokens and figures of one run, complete once `reason` is set."""

    mode: Mode
    policy: Policy = "fixed"
    reason: FinishReason | None = None
    token_ids: list[int] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)
    _events: list[DecodeEvent] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._text)

    @property
    def metrics(self) -> RunMetrics:
        """The figures so far."""
        return summarize(self._events)

    @property
    def notes(self) -> list[tuple[int, str]]:
        """What the engine told so far, each with the number of tokens that were out before."""
        return notes_of(self._events)

    def add(self, event: DecodeEvent) -> str | None:
        """Take an event.

        Returns:
            Text to show now, if the event brought any.
        """
        if isinstance(event, TextDelta):
            self._text.append(event.text)
            return event.text
        self._events.append(event)
        self.token_ids.extend(token_ids_of(event))
        if isinstance(event, Finished):
            self.reason = event.reason
        return None

    def summary(self) -> str:
        """What the engine told, a line each, and the figures in one."""
        metrics = self.metrics
        count = metrics.num_output_tokens
        parts = ["tokens not counted" if count is None else f"{count} tokens"]
        if metrics.decode_tok_s is not None:
            measured = " measured at the client" if metrics.at_client else ""
            parts.append(f"{metrics.decode_tok_s:.0f} tok/s{measured}")
        if metrics.ttft_s is not None:
            parts.append(f"first token after {metrics.ttft_s:.3f} s")
        if metrics.mean_acceptance_length is not None:
            said = f"acceptance length {metrics.mean_acceptance_length:.2f}"
            parts.append(f"{said}{say_source(metrics)}")
        if self.mode == "dflash" and not metrics.at_client:
            parts.append(f"{self.policy} drafts")
        if self.reason == "length":
            parts.append("cut at the length limit")
        told = [f"After {after} tokens: {text}" for after, text in self.notes]
        return "\n".join([*told, f"{self.mode}: {', '.join(parts)}"])

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints for this run."""
        return {
            "mode": self.mode,
            "drafts": self.policy if self.mode == "dflash" else None,
            "text": self.text,
            "token_ids": self.token_ids,
            "finish_reason": self.reason,
            "notes": [{"after_tokens": after, "text": text} for after, text in self.notes],
            "metrics": self.metrics,
        }


def say_source(metrics: RunMetrics) -> str:
    """Who counted the drafts where a server did, in brackets; "" for our own engine."""
    if metrics.acceptance_source is None:
        return ""
    shared = ", shared with other traffic" if metrics.acceptance_shared else ""
    return f" (from {metrics.acceptance_source}{shared})"
