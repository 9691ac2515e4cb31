"""A streamed chat, chunk by chunk: what the protocol says in events of ours.

A chunk is parsed once and looked at as it is: at thousands a second nothing else is affordable.
"""

from collections.abc import Sequence
from typing import Any

from dflash_app.events import DecodeEvent, FinishReason, TextDelta, TokensArrived

from .counting import number

_ENDS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "content_filter": "stop",
    "length": "length",
}
_LARGEST_ID = 2**31
THOUGHT_BEGINS, THOUGHT_ENDS = "<think>\n", "\n</think>\n\n"
"""Around what a server sends apart as reasoning: the page folds away what stands between."""


class Reply:
    """What has come of one reply.

    Attributes:
        reason: why it ended, as the server calls it; None until it has.
        num_tokens: output tokens counted so far; None where the server does not count.
        usage: the last count of tokens by the server.
        extra: the last of each of the fields in which engines tell more of the run.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.num_tokens: int | None = None
        self.usage: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}
        self._thinks = False

    def take(self, chunk: dict[str, Any], elapsed_s: float) -> Sequence[DecodeEvent]:
        """The events of a chunk: tokens and text, or nothing.

        Args:
            chunk: as the server sent it.
            elapsed_s: when it came.

        Raises:
            TypeError, AttributeError, KeyError, IndexError, ValueError: it is of another shape.
        """
        usage = chunk.get("usage")
        if usage:
            self.usage = usage
        for name in ("metrics", "timings", "sglext"):
            if chunk.get(name):
                self.extra[name] = chunk[name]
        choices = chunk.get("choices")
        if not choices:
            return ()
        choice = choices[0]
        delta = choice.get("delta") or {}
        if choice.get("finish_reason"):
            self.reason = str(choice["finish_reason"])
        text = self._text(delta.get("reasoning_content") or delta.get("reasoning"), delta)
        ids = tuple(choice.get("token_ids") or ())
        count = self._count(ids, usage, chunk.get("timings"))
        if not text and not count:
            return ()
        arrived = TokensArrived(count, ids, elapsed_s)
        return (arrived, TextDelta(text)) if text else (arrived,)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended in our words; None where it did not, or by the server's own doing."""
        return None if self.reason is None else _ENDS.get(self.reason)

    def _text(self, thought: str | None, delta: dict[str, Any]) -> str:
        text = delta.get("content") or ""
        if thought:
            # A delta with both closes its thought at once.
            text = thought + (THOUGHT_ENDS + text if text else "")
            opens, self._thinks = not self._thinks, text == thought
            text = THOUGHT_BEGINS + text if opens else text
        elif text and self._thinks:
            self._thinks = False
            text = THOUGHT_ENDS + text
        return text if text.isascii() else _whole(text)

    def _count(self, ids: Sequence[int], usage: Any, timings: Any) -> int | None:
        """Tokens of this chunk by whatever tells: their ids, or a running total."""
        if ids:
            if {*map(type, ids)} != {int} or not 0 <= min(ids) <= max(ids) < _LARGEST_ID:
                raise ValueError("no token ids")
            self.num_tokens = (self.num_tokens or 0) + len(ids)
            return len(ids)
        total = number((usage or {}).get("completion_tokens"))
        if total is None:
            total = number((timings or {}).get("predicted_n"))
        if total is None:
            return None if self.num_tokens is None else 0
        before, self.num_tokens = self.num_tokens or 0, total
        return max(0, total - before)


def _whole(text: str) -> str:
    """The text with half surrogate pairs, which no file can hold, as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
