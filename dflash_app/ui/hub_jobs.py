"""Downloads on the page: the chosen pair's progress, the queue, and which buttons make sense."""

from collections.abc import Sequence

from dflash_app.hub.hub import Standing
from dflash_app.hub.job_store import Job
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import escape_html, format_bytes
from dflash_app.ui.hub_texts import texts

TICK_S = 0.5
"""Between two looks while a download goes on: two a second."""
IDLE_TICK_S = 3.0
"""Another browser tab may have started one."""

_RESUMABLE = ("paused", "failed", "cancelled", "interrupted")
_TO_FETCH = ("not downloaded", "partial", "gated")


def job_key(jobs: Sequence[Job]) -> tuple[tuple[int, str], ...]:
    """Changes when the list of pairs has to be drawn again, not at every progress."""
    return tuple((job.id, job.state) for job in jobs)


def any_live(jobs: Sequence[Job]) -> bool:
    """Whether a download goes on or waits."""
    return any(job.live for job in jobs)


def render_jobs(standing: Standing | None, jobs: Sequence[Job], *, local: bool) -> str:
    """The chosen pair's download, then the others; its classes show the buttons (style.css).

    Args:
        standing: of the chosen pair.
        jobs: all, the newest first.
        local: False on a page that strangers reach: no button is shown.
    """
    if not local:
        return '<div class="hub-jobs"></div>'
    own = next((job for job in jobs if standing and job.pair == standing.pair.name), None)
    flags = " ".join(["local", *acts(standing, own)])
    if any(not job.live for job in jobs):
        flags += " can-clear"
    shown: set[str] = {own.pair} if own else set()
    others = []
    for job in jobs:  # an older job of the same pair says nothing new
        if job.state != "done" and job.pair not in shown:
            others.append(job)
            shown.add(job.pair)
    others_title = texts.say("other_downloads")
    queue = "".join(f"<li>{_line(job)}</li>" for job in others)
    return (
        f'<div class="hub-jobs {flags}">{_own(own)}'
        f"{f'<h3>{others_title}</h3><ul>{queue}</ul>' if queue else ''}</div>"
    )


def acts(standing: Standing | None, job: Job | None) -> list[str]:
    """What can be done with the chosen pair now, as classes."""
    if standing is None:
        return []
    live = job is not None and job.live
    found = []
    if not live and standing.status in _TO_FETCH:
        begun = job is not None and job.state in _RESUMABLE
        found.append("can-resume" if begun else "can-download")
    if live:
        found.append("can-pause")
    if live or (job is not None and job.state == "paused"):
        found.append("can-cancel")
    if not live and standing.here_bytes:
        found.append("can-delete")
    if standing.status in ("ready", "on server"):
        found.append("can-use")
        if standing.here_bytes and not live:
            found.append("can-verify")
    return found


def _own(job: Job | None) -> str:
    """The chosen pair's download, drawn at full width."""
    if job is None or job.state == "done":
        return '<div class="hub-job"></div>'
    text = _said(job)
    link = ""
    if job.licence_url:
        url = escape_html(job.licence_url)
        anchor = f'<a href="{url}" target="_blank" rel="noopener noreferrer">'
        link = f"<p>{texts.say('licence_link_html', link=anchor, end='</a>')}</p>"
    if job.state == "failed":
        return f'<div class="hub-job">{render_notice(text, "error")}{link}</div>'
    return f'<div class="hub-job">{_bar(job)}<p>{escape_html(text)}</p>{link}</div>'


def _bar(job: Job) -> str:
    share = _percent(job)
    return (
        f'<div class="hub-bar {job.state}" role="progressbar" '
        f'aria-label="{texts.say("progress_label")}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share}"><i style="width: {share}%"></i></div>'
    )


def _said(job: Job) -> str:
    if job.state == "failed":
        return job.message or texts.say("job_failed")
    done = texts.say("of", done=format_bytes(job.done_bytes), total=format_bytes(job.total_bytes))
    if job.state != "active":
        said = texts.say(f"job_{job.state}")
        return f"{said} {done}." if job.total_bytes and job.done_bytes else said
    if job.message:
        return job.message
    if not job.total_bytes:
        return texts.say("asking_files")
    parts = [f"{_percent(job)} %", done]
    if job.rate_bytes_s:
        parts.append(f"{format_bytes(round(job.rate_bytes_s))}/s")
    if job.left_s:
        parts.append(texts.say("left", time=_left(job.left_s)))
    return " · ".join(parts)


def _line(job: Job) -> str:
    share = f" {_percent(job)} %" if job.total_bytes else ""
    said = f": {job.message}" if job.state == "failed" and job.message else ""
    state = texts.say(f"state_{job.state}")
    return f"<b>{escape_html(job.pair)}</b> {escape_html(state + share + said)}"


def _percent(job: Job) -> int:
    return min(100, 100 * job.done_bytes // job.total_bytes) if job.total_bytes else 0


def _left(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
