"""Questions and findings below the hub's buttons: a deletion before it is done, damaged files."""

from dflash_app.hub.disk import Removal
from dflash_app.hub.verify import FileCheck
from dflash_app.ui.components import Level, render_notice
from dflash_app.ui.format import escape_html, format_bytes, format_count

Checks = list[tuple[str, FileCheck]]
"""Repository id and file."""


def render_removal(removal: Removal) -> str:
    """What would be deleted, what stays and why, and what it frees."""
    lines = [
        f"<b>{escape_html(repo)}</b> at {escape_html(commit[:12])}"
        for repo, commit in removal.revisions
    ]
    lines += [f"<b>{escape_html(repo)}</b>: unfinished files" for repo in removal.unfinished]
    kept = "".join(f"<p>{escape_html(sentence)}</p>" for sentence in removal.kept)
    return (
        '<div class="hub-question asks-delete" role="alert">'
        f"<p>Delete this and free <b>{format_bytes(removal.freed_bytes)}</b>?</p>"
        f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>{kept}</div>"
    )


def render_checks(checks: Checks) -> str:
    """What a check found."""
    bad = [each for each in checks if each[1].verdict in ("damaged", "missing")]
    unknown = sum(check.verdict == "unknown" for _, check in checks)
    if not bad:
        rest = f" The cache keeps no checksum of {say_files(unknown)}." if unknown else ""
        level: Level = "warning" if unknown == len(checks) else "success"
        right = f"{say_files(len(checks) - unknown)} checked: every checksum is right."
        return render_notice(right + rest, level)
    lines = "".join(
        f"<li><b>{escape_html(repo)}</b> {escape_html(check.name)}: {check.verdict}</li>"
        for repo, check in bad
    )
    said = f"{say_files(len(bad))} cannot be used: delete and download the pair again."
    return (
        f'<div class="hub-question asks-discard" role="alert"><p>{said}</p><ul>{lines}</ul></div>'
    )


def say_files(count: int) -> str:
    """A number of files in words."""
    return f"{format_count(count)} file{'' if count == 1 else 's'}"
