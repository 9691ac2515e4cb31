"""A pair in full, as the hub shows the chosen one."""

from collections.abc import Sequence

from dflash_app.errors import HubError
from dflash_app.hub.drift import Change, Drift, config_changes
from dflash_app.hub.hub import Standing
from dflash_app.hub.published import is_for
from dflash_app.registry.pair import ModelRef, Published
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import (
    UNKNOWN,
    escape_html,
    format_bytes,
    format_decimal,
    format_ratio,
)

MAX_PUBLISHED = 40


def render_detail(
    standing: Standing,
    status: str,
    drifts: Sequence[Drift],
    gpus: Sequence[str],
    *,
    local: bool,
) -> str:
    """The facts of a pair, what warns of it, and its published speedups.

    Args:
        standing: what of it is here.
        status: as the list says it.
        drifts: its models that are here at another revision only.
        gpus: models of this machine's GPUs.
        local: False on a page that strangers reach: it says nothing about commands and folders.
    """
    pair = standing.pair
    parts = [
        f'<h3>{escape_html(pair.title)} <span class="badge {status.replace(" ", "-")}">'
        f"{escape_html(status)}</span></h3>",
        _facts(standing),
    ]
    if standing.reason and local and standing.status not in ("not downloaded", "partial"):
        parts.append(render_notice(standing.reason, "warning"))
    parts += [render_notice(drift.warning, "warning") for drift in drifts]
    parts.append(_published(pair.published, gpus))
    return f'<div class="hub-detail">{"".join(parts)}</div>'


def ask_changes(drift: Drift) -> str:
    """What the registry's revision changes in a model's config; asks the hub for it."""
    try:
        return render_changes(drift.repo, config_changes(drift))
    except HubError as error:
        return render_notice(f"Its config cannot be compared: {error}", "warning")


def render_changes(repo: str, changes: Sequence[Change]) -> str:
    """What the registry's revision of a config says otherwise than the one here."""
    if not changes:
        return render_notice(f"{repo}: both revisions have the same config.json.")
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape_html(text)}</td>" for text in each) + "</tr>"
        for each in ((change.key, change.cached, change.pinned) for change in changes)
    )
    return (
        f'<div class="hub-scroll"><table class="hub-small"><caption>{escape_html(repo)}, '
        "config.json</caption><thead><tr><th>key</th><th>here</th><th>registry's revision</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _facts(standing: Standing) -> str:
    pair = standing.pair
    facts = [("Target", _model(pair.target))]
    facts.append(("Drafter", _model(pair.drafter) if pair.drafter else "none is published"))
    facts.append(("Family", escape_html(pair.family)))
    facts.append(("Block size", str(pair.block_size or UNKNOWN)))
    facts.append(("Runs on", escape_html(", ".join(pair.backends) or "any backend")))
    if pair.thinking:
        facts.append(("Trained with", f"thinking {escape_html(pair.thinking)}"))
    if standing.here_bytes and not (standing.job and standing.job.live):  # it would not keep up
        facts.append(("On disk", format_bytes(standing.here_bytes)))
    if pair.notes:
        facts.append(("Note", escape_html(pair.notes)))
    rows = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in facts)
    return f"<dl>{rows}</dl>"


def _model(ref: ModelRef) -> str:
    if ref.repo is None:
        embedded = ref.source.startswith("embedded:")
        return "ships with the app" if embedded else "a folder of this machine"
    facts = [f"<b>{escape_html(ref.repo)}</b>"]
    if ref.size_bytes:
        facts.append(format_bytes(ref.size_bytes))
    facts.append(escape_html(f"licence {ref.licence}" if ref.licence else "licence unknown"))
    if ref.gated:
        facts.append("gated")
    facts.append(f"revision {ref.revision[:12]}" if ref.revision else "newest revision")
    return " · ".join(facts)


def _published(published: Sequence[Published], gpus: Sequence[str]) -> str:
    if not published:
        return '<p class="hub-quiet">No speedup is published for this pair.</p>'
    rows = "".join(_result(each, gpus) for each in published[:MAX_PUBLISHED])
    head = "".join(
        f"<th>{title}</th>" for title in ("Task", "Speedup", "Acceptance", "Measured on", "Source")
    )
    return (
        f"<details><summary>Published speedups ({len(published)})</summary>"
        f'<div class="hub-scroll"><table class="hub-small"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _result(told: Published, gpus: Sequence[str]) -> str:
    parallel = f", {told.concurrency} requests" if (told.concurrency or 1) > 1 else ""
    where = "this GPU: " if is_for(told.setup, gpus) else ""
    cells = (
        told.task + parallel,
        format_ratio(told.speedup),
        format_decimal(told.acceptance_length),
        where + (told.setup or "not told"),
        told.source,
    )
    return "<tr>" + "".join(f"<td>{escape_html(cell)}</td>" for cell in cells) + "</tr>"
