"""Token ids -> printable text, piece by piece: never half a character, never a stop text."""

from collections.abc import Sequence
from typing import Any, Protocol

_UNKNOWN = "\ufffd"
"""What a decoder prints for bytes that are no character, or not yet."""

_CONTEXT = 16
"""Tokens decoded again with each new piece; decoders need a neighbour, not the whole output."""

_MOST_MISSING = 3
"""A character of four bytes lacks its last after three; each may be a token of its own."""

_PATIENCE = 32
"""Unknown characters in a row that are no character in the making: such a run is printed."""


class TextDecoder(Protocol):
    """The one thing that is asked of a tokenizer here."""

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> Any:
        """The text of the tokens."""


class Detokenizer:
    """The text of one run, fed as its tokens come; linear in the length of the output.

    A character may be spread over several tokens, and a decoder prints what is not complete yet
    as U+FFFD. So such a tail is held back until a later token completes it or shows that it was
    meant. Only a window of tokens is decoded again. Its ends are complete characters where there
    are any: decoders of the byte-fallback kind spoil a whole run of bytes for one that is amiss.
    """

    def __init__(self, tokenizer: TextDecoder, stop: Sequence[str] = ()) -> None:
        """Begin a text.

        Args:
            tokenizer: special tokens are skipped as it knows them.
            stop: texts that end the output and are never shown, not even in part.
        """
        self._tokenizer = tokenizer
        self._stops = _StopTexts(stop)
        self._window: list[int] = []
        self._num_clean = 0  # tokens of the window up to an earlier complete character
        self._num_shown = 0  # characters of the window's text that were given out

    @property
    def stopped(self) -> bool:
        """True once a stop text was completed; what is fed later is not looked at."""
        return self._stops.found

    def feed(self, token_ids: Sequence[int]) -> str:
        """Take the next tokens.

        Returns:
            Text that is now certain; empty where a character or a stop text may be in the making.
        """
        if self.stopped or not token_ids:
            return ""
        self._window.extend(token_ids)
        text = self._decode(self._window)
        certain = text.rstrip(_UNKNOWN)
        end, clean = self._find_clean_end(text)
        if not end and len(text) - len(certain) > _PATIENCE:
            certain = text[:-_MOST_MISSING]
        fresh = max(certain, clean, key=len)[self._num_shown :]
        self._num_shown += len(fresh)
        if end:
            self._move_window(end, clean)
        elif len(self._window) > 4 * _CONTEXT:
            # Nothing complete for so long: any place will do, as both decodings that are compared
            # then begin with the same broken character.
            self._window = self._window[-_CONTEXT:]
            num_held = len(text) - len(certain)
            self._num_shown = max(0, len(self._decode(self._window)) - num_held)
            self._num_clean = 0
        return self._stops.feed(fresh)

    def take(self, token_ids: Sequence[int]) -> tuple[str, int]:
        """Take the next tokens, no further than the one that completes a stop text.

        Returns:
            (text, num_taken): the text as `feed` gives it, and the number of tokens taken. It does
            not depend on how many tokens came at once, so AR and DFlash stop at the same token.
        """
        if self._stops.empty:
            return self.feed(token_ids), len(token_ids)
        text = ""
        for index, token_id in enumerate(token_ids):
            text += self.feed((token_id,))
            if self.stopped:
                return text, index + 1
        return text, len(token_ids)

    def finish(self, *, cut: bool = False) -> str:
        """End the text.

        Args:
            cut: the output was cut at a limit: an incomplete last character is dropped. Otherwise
                it is printed as the tokenizer prints it, U+FFFD.

        Returns:
            What was held back, up to a stop text if that completes one.
        """
        if self.stopped:
            return ""
        text = self._decode(self._window)
        fresh = (text.rstrip(_UNKNOWN) if cut else text)[self._num_shown :]
        self._window.clear()
        self._num_clean = self._num_shown = 0
        text = self._stops.feed(fresh)
        return text if self.stopped else text + self._stops.flush()

    def _decode(self, token_ids: list[int]) -> str:
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))

    def _find_clean_end(self, text: str) -> tuple[int, str]:
        """The longest beginning of the window that ends with a complete character, and its text.

        Args:
            text: of the whole window.
        """
        num_tokens = len(self._window)
        for end in range(num_tokens, max(0, num_tokens - _MOST_MISSING - 1), -1):
            part = text if end == num_tokens else self._decode(self._window[:end])
            if part and not part.endswith(_UNKNOWN):
                return end, part
        return 0, ""

    def _move_window(self, end: int, clean: str) -> None:
        """Forget the tokens before the last clean end but one; the rest is context.

        Args:
            end: tokens of the window up to a complete character.
            clean: their text.
        """
        start = self._num_clean
        if len(self._window) > _CONTEXT and 0 < start < end:
            kept = self._decode(self._window[start:end])
            # Tokens without text, special ones, are no context, but must not pile up either.
            if not kept and len(self._window) <= 4 * _CONTEXT:
                return
            self._num_shown -= len(clean) - len(kept)
            self._window = self._window[start:]
            end -= start
        self._num_clean = end


class _StopTexts:
    """Finds the stop text that is completed first, in one pass (Knuth-Morris-Pratt).

    Where two are completed by the same character, the longer one wins, so that no part of either
    is shown. The result does not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = False
        self.empty = not stops
        self._stops = tuple(dict.fromkeys(stops))
        self._borders = tuple(_borders(stop) for stop in self._stops)
        self._matched = [0] * len(self._stops)
        self._held = ""

    def feed(self, text: str) -> str:
        """Text that cannot become a stop text any more; all of it before one that is complete."""
        if self.empty:
            return text
        pending = self._held + text
        for end in range(len(self._held), len(pending)):
            length = self._advance(pending[end])
            if length:
                self.found, self._held = True, ""
                return pending[: end + 1 - length]
        num_held = max(self._matched)
        self._held = pending[len(pending) - num_held :]
        return pending[: len(pending) - num_held]

    def flush(self) -> str:
        """What was held back and came to nothing."""
        held, self._held = self._held, ""
        return held

    def _advance(self, char: str) -> int:
        """Take one character; the length of the longest stop text that it completes, or 0."""
        length = 0
        for index, stop in enumerate(self._stops):
            matched, borders = self._matched[index], self._borders[index]
            while matched and stop[matched] != char:
                matched = borders[matched - 1]
            matched += stop[matched] == char
            if matched == len(stop):
                length = max(length, matched)
                matched = 0
            self._matched[index] = matched
        return length


def _borders(text: str) -> tuple[int, ...]:
    """For each prefix of `text`, the length of its longest proper prefix that also ends it."""
    borders = [0] * len(text)
    length = 0
    for index in range(1, len(text)):
        while length and text[index] != text[length]:
            length = borders[length - 1]
        length += text[index] == text[length]
        borders[index] = length
    return tuple(borders)
