"""Questions and findings below the hub's buttons: a deletion before it is done, damaged files."""

from dflash_app.hub.disk import Removal
from dflash_app.hub.verify import FileCheck
from dflash_app.ui.components import Level, render_notice
from dflash_app.ui.format import escape_html, format_bytes
from dflash_app.ui.hub_texts import say_files, texts

Checks = list[tuple[str, FileCheck]]
"""Repository id and file."""


def render_removal(removal: Removal) -> str:
    """What would be deleted, what stays and why, and what it frees."""
    lines = [
        texts.say("at_commit_html", repo=escape_html(repo), commit=escape_html(commit[:12]))
        for repo, commit in removal.revisions
    ]
    lines += [texts.say("unfinished_html", repo=escape_html(repo)) for repo in removal.unfinished]
    kept = "".join(f"<p>{escape_html(sentence)}</p>" for sentence in removal.kept)
    return (
        '<div class="hub-question asks-delete" role="alert">'
        f"<p>{texts.say('ask_delete_html', size=format_bytes(removal.freed_bytes))}</p>"
        f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>{kept}</div>"
    )


def render_checks(checks: Checks) -> str:
    """What a check found."""
    bad = [each for each in checks if each[1].verdict in ("damaged", "missing")]
    unknown = sum(check.verdict == "unknown" for _, check in checks)
    if not bad:
        rest = " " + texts.say("files_unknown", files=say_files(unknown)) if unknown else ""
        level: Level = "warning" if unknown == len(checks) else "success"
        right = texts.say("files_right", files=say_files(len(checks) - unknown))
        return render_notice(right + rest, level)
    lines = "".join(
        f"<li><b>{escape_html(repo)}</b> {escape_html(check.name)}: "
        f"{texts.say(f'file_{check.verdict}')}</li>"
        for repo, check in bad
    )
    said = texts.say("files_bad", files=say_files(len(bad)))
    return (
        f'<div class="hub-question asks-discard" role="alert"><p>{said}</p><ul>{lines}</ul></div>'
    )
