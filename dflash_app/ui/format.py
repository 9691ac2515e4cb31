"""Units end here: figures become text. What is unknown is shown as a dash, never as 0."""

import html
import re
from datetime import datetime

UNKNOWN = "–"

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def format_speed(tok_s: float | None) -> str:
    """Tokens a second, as "412 tok/s"."""
    if tok_s is None:
        return UNKNOWN
    return f"{tok_s:,.0f} tok/s" if tok_s >= 100 else f"{tok_s:.1f} tok/s"


def format_duration(seconds: float | None) -> str:
    """A duration in the unit that reads best: "3.1 ms", "84 ms", "2.41 s", "3 min 05 s"."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.2f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def format_bytes(num_bytes: int | None) -> str:
    """A size with decimal units, as "9.7 MB" or "16.4 GB"."""
    if num_bytes is None:
        return UNKNOWN
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:,.1f} {unit}"
    return f"{num_bytes} B"


def format_percent(fraction: float | None) -> str:
    """A fraction as "83 %"."""
    return UNKNOWN if fraction is None else f"{fraction * 100:.0f} %"


def format_ratio(ratio: float | None) -> str:
    """A speedup as "3.42×"."""
    return UNKNOWN if ratio is None else f"{ratio:.2f}×"


def format_decimal(value: float | None) -> str:
    """A mean with two digits, as "6.57"."""
    return UNKNOWN if value is None else f"{value:.2f}"


def format_count(count: int | None) -> str:
    """A whole number with thousands apart."""
    return UNKNOWN if count is None else f"{count:,}"


def format_when(when: datetime | None) -> str:
    """A time in the server's zone, as "2026-11-20 18:14:03"."""
    return UNKNOWN if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_excerpt(text: str | None, limit: int = 80) -> str:
    """The first `limit` characters on one line, with an ellipsis where more follows."""
    line = " ".join(_CONTROL.sub(" ", well_formed(text or "")).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def well_formed(text: str) -> str:
    """The text with each half of a surrogate pair as "?": no answer to a browser can carry one."""
    return text.encode("utf-8", "replace").decode("utf-8")


def escape_html(text: str) -> str:
    """Make text inert inside HTML, with control characters shown as a replacement mark.

    Gradio's HTML component evaluates its template, not its value, when the template is its default
    `${value}`: escaped values are safe there. In a `{{value}}` template a value `${...}` would run.
    """
    return html.escape(printable(text), quote=True)


def printable(text: str) -> str:
    """The text with control characters shown as a replacement mark."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", well_formed(text))
