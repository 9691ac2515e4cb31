"""Tables as text: in columns, and as Markdown."""

from collections.abc import Sequence

from dflash_app.cli.terminal import printable

_ESCAPED = str.maketrans(
    {"&": "&amp;", "<": "&lt;", "\\": "\\\\", "|": "\\|", "[": "\\[", "]": "\\]", "`": "\\`"}
)
"""Of Markdown."""


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    table = [list(header), *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)
    return "\n".join(lines)


def pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cell(text: str) -> str:
    """Text that cannot end a table's cell, or become HTML, a link or an image."""
    return " ".join(printable(text).split()).translate(_ESCAPED)
