"""A table that may be wider than its place: it scrolls, by keyboard too."""

from dflash_app.ui.format import escape_html


def render_scroll(table: str, label: str, mark: str = "") -> str:
    """Frame a table.

    Args:
        table: HTML.
        label: what is in it, for who cannot see it.
        mark: a further class.
    """
    return (
        f'<div class="hub-scroll {mark}" tabindex="0" role="region" '
        f'aria-label="{escape_html(label)}">{table}</div>'
    )
