"""The strip: what became of each drafted token, as inert HTML."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dflash_app.events import DecodeEvent, PrefillDone, StepDone, TokensArrived
from dflash_app.ui.format import escape_html, format_percent
from dflash_app.ui.language import Texts

_texts = Texts.load("strip", Path(__file__).with_name("texts") / "strip.yaml")

Fate = Literal["plain", "accepted", "bonus", "corrected", "rejected"]

LIVE_TOKENS = 96
"""Tokens shown while streaming: colouring more stalls the browser."""
KEPT_TOKENS = 600


@dataclass(frozen=True, slots=True)
class StripToken:
    """One token and its fate; `hint` is shown on hover, `opens_step` draws a gap before it.

    `note` is what the engine told when the token's step began; its label stands before the token.
    """

    token_id: int
    fate: Fate
    hint: str
    opens_step: bool
    note: str | None = None


class TokenStrip:
    """Collects the last tokens of a run."""

    def __init__(self) -> None:
        self._tokens: deque[StripToken] = deque(maxlen=KEPT_TOKENS)
        self._num_steps = 0
        self._served = False

    def add(self, event: DecodeEvent) -> None:
        """Take the tokens of an event; text and end carry none."""
        if isinstance(event, PrefillDone):
            self._tokens.append(StripToken(event.token_id, "plain", _texts.say("prefill"), True))
        elif isinstance(event, StepDone):
            self._num_steps += 1
            self._tokens.extend(_fates(event, self._num_steps))
        elif isinstance(event, TokensArrived):
            self._served = True

    def render(
        self, token_texts: Callable[[Sequence[int]], list[str]], *, live: bool = False
    ) -> str:
        """Draw the strip.

        Args:
            token_texts: turns ids into printable text, one by one.
            live: draw only the last `LIVE_TOKENS`.
        """
        if self._served:
            return _render_sentence(_texts.say("served"))
        tokens = list(self._tokens)
        hidden = len(tokens) == KEPT_TOKENS
        if live and len(tokens) > LIVE_TOKENS:
            tokens, hidden = tokens[-LIVE_TOKENS:], True
        if not tokens:
            return render_empty_strip()
        texts = token_texts([token.token_id for token in tokens])
        body = "".join(_draw(token, text) for token, text in zip(tokens, texts, strict=True))
        more = f'<span class="tok-more" title="{escape_html(_texts.say("more"))}">…</span>'
        return (
            f'<div class="strip"><div class="strip-legend">{_render_legend()}</div>'
            f'<div class="strip-body" role="img" tabindex="0" '
            f'aria-label="{escape_html(_texts.say("label"))}">'
            f"<div>{more if hidden else ''}{body}</div></div></div>"
        )


def render_empty_strip(text: str | None = None) -> str:
    """The strip before the first token.

    Args:
        text: what will come; None: the tokens of a reply.
    """
    return _render_sentence(_texts.say("empty") if text is None else text)


def _render_sentence(text: str) -> str:
    body = f'<div class="strip-body"><div>{escape_html(text)}</div></div>'
    return f'<div class="strip empty">{body}</div>'


def _render_legend() -> str:
    return "".join(
        f'<span class="tok {fate}" title="{escape_html(_texts.say(f"{fate}_hint"))}">'
        f"{escape_html(_texts.say(fate))}</span>"
        for fate in ("accepted", "bonus", "corrected", "rejected")
    )


def _fates(step: StepDone, number: int) -> list[StripToken]:
    num_kept = min(step.num_accepted, len(step.token_ids))
    fates: list[tuple[int, Fate]] = [(i, "accepted") for i in step.token_ids[:num_kept]]
    rejected = step.drafted_ids[step.num_accepted :]
    own: Fate = "corrected" if rejected else "bonus" if step.drafted_ids else "plain"
    fates += [(i, own) for i in step.token_ids[num_kept:]]
    # Only the first rejected draft was judged on its own; the ones behind it fell with it.
    fates += [(i, "rejected") for i in rejected[:1]]
    num_drafted = len(step.drafted_ids)
    name = _texts.say("step", number=number, accepted=step.num_accepted, drafted=num_drafted)
    if not step.drafted_ids:
        name = _texts.say("step_plain", number=number)
    tokens = []
    for position, (token_id, fate) in enumerate(fates):
        hint = f"{_texts.say(f'fate_{fate}')}, {name}" if fate != "plain" else name
        confidence = _confidence(step, position, fate)
        note = step.note if position == 0 else None
        tokens.append(StripToken(token_id, fate, hint + confidence, position == 0, note))
    return tokens


def _confidence(step: StepDone, position: int, fate: Fate) -> str:
    if step.confidences is None or fate not in ("accepted", "rejected"):
        return ""
    draft = position if fate == "accepted" else step.num_accepted
    if draft >= len(step.confidences):
        return ""
    return _texts.say("sure", percent=format_percent(step.confidences[draft]))


def _draw(token: StripToken, text: str) -> str:
    shown = escape_html(text.replace("\n", "⏎").replace("\t", "⇥")) or "∅"
    gap = " opens" if token.opens_step else ""
    hint = escape_html(token.hint)
    told = _draw_note(token.note)
    return f'{told}<span class="tok {token.fate}{gap}" title="{hint}">{shown}</span>'


def _draw_note(note: str | None) -> str:
    if note is None:
        return ""
    label = escape_html(note.partition(":")[0])
    return f'<span class="tok-event" title="{escape_html(note)}">{label}</span>'
