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
from dflash_app.ui.hub_scroll import render_scroll
from dflash_app.ui.hub_texts import say_state, texts

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
        f'<h2>{escape_html(pair.title)} <span class="badge {status.replace(" ", "-")}">'
        f"{escape_html(say_state(status))}</span></h2>",
        _facts(standing, local=local),
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
        return render_notice(texts.say("not_comparable", reason=error), "warning")


def render_changes(repo: str, changes: Sequence[Change]) -> str:
    """What the registry's revision of a config says otherwise than the one here."""
    if not changes:
        return render_notice(texts.say("same_config", repo=repo))
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape_html(text)}</td>" for text in each) + "</tr>"
        for each in ((change.key, change.cached, change.pinned) for change in changes)
    )
    columns = ("change_key", "change_here", "change_pinned")
    head = "".join(f"<th>{escape_html(texts.say(column))}</th>" for column in columns)
    caption = f"{repo}, config.json"
    table = (
        f'<table class="hub-small"><caption>{escape_html(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )
    return render_scroll(table, caption)


def _facts(standing: Standing, *, local: bool) -> str:
    pair = standing.pair
    drafter = texts.say("no_drafter_there" if pair.remote else "no_drafter_published")
    if pair.drafter is not None:
        drafter = _model(pair.drafter, local=local)
    facts = [("target", _model(pair.target, local=local)), ("drafter", drafter)]
    facts.append(("family", escape_html(pair.family)))
    facts.append(("block_size", str(pair.block_size or UNKNOWN)))
    backends = ", ".join(pair.backends) or texts.say("any_backend_long")
    facts.append(("runs_on", escape_html(backends)))
    if pair.thinking:
        facts.append(("trained_with", escape_html(texts.say("thinking", thinking=pair.thinking))))
    if standing.here_bytes and not (standing.job and standing.job.live):  # it would not keep up
        facts.append(("on_disk", format_bytes(standing.here_bytes)))
    if pair.notes:
        facts.append(("note", escape_html(pair.notes)))
    rows = "".join(f"<div><dt>{texts.say(name)}</dt><dd>{text}</dd></div>" for name, text in facts)
    return f"<dl>{rows}</dl>"


def _model(ref: ModelRef, *, local: bool) -> str:
    if ref.server is not None:
        model, server = escape_html(str(ref.model)), escape_html(ref.server)
        return f"<b>{model}</b> · {server if local else texts.say('a_server')}"
    if ref.repo is None:
        embedded = ref.source.startswith("embedded:")
        return texts.say("shipped" if embedded else "folder")
    facts = [f"<b>{escape_html(ref.repo)}</b>"]
    if ref.size_bytes:
        facts.append(format_bytes(ref.size_bytes))
    told = ref.licence and texts.say("licence", licence=ref.licence)
    facts.append(escape_html(told or texts.say("licence_unknown")))
    if ref.gated:
        facts.append(texts.say("gated"))
    commit = ref.revision and texts.say("revision", commit=ref.revision[:12])
    facts.append(escape_html(commit or texts.say("newest_revision")))
    return " · ".join(facts)


def _published(published: Sequence[Published], gpus: Sequence[str]) -> str:
    if not published:
        return f'<p class="hub-quiet">{texts.say("none_published")}</p>'
    rows = "".join(_result(each, gpus) for each in published[:MAX_PUBLISHED])
    columns = ("task", "speedup", "acceptance", "measured_on", "source")
    head = "".join(f"<th>{texts.say(column)}</th>" for column in columns)
    table = f'<table class="hub-small"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    summary = texts.say("published", count=len(published))
    return f"<details><summary>{summary}</summary>{render_scroll(table, summary)}</details>"


def _result(told: Published, gpus: Sequence[str]) -> str:
    task, setup = told.task, told.setup or texts.say("not_told")
    if (told.concurrency or 1) > 1:
        task = texts.say("requests", task=task, count=told.concurrency)
    if is_for(told.setup, gpus):
        setup = texts.say("this_gpu_setup", setup=setup)
    cells = (
        task,
        format_ratio(told.speedup),
        format_decimal(told.acceptance_length),
        setup,
        told.source,
    )
    return "<tr>" + "".join(f"<td>{escape_html(cell)}</td>" for cell in cells) + "</tr>"
