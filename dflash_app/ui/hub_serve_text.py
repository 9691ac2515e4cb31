"""The words of the serving panel, and a plan as it shows it."""

from pathlib import Path

from dflash_app.serving.plan import TITLES, ServePlan
from dflash_app.serving.process import Standing
from dflash_app.serving.render import reasons_of
from dflash_app.ui.components import Level, render_notice, render_notices
from dflash_app.ui.format import escape_html
from dflash_app.ui.hub_scroll import render_scroll
from dflash_app.ui.language import Texts

texts = Texts.load("serve", Path(__file__).with_name("texts") / "serve.yaml")


def render_plan(plan: ServePlan) -> str:
    """What has to be known before a plan's command is used, and the reasons to unfold."""
    needs = texts.say("needs", package=plan.needs.package, reason=plan.needs.reason)
    notes = [*plan.notes, *(texts.say("gated", repo=repo) for repo in plan.gated)]
    address = texts.say("address", url=plan.base_url, model=plan.model_name)
    warnings: list[tuple[str, Level]] = [(note, "info") for note in notes]
    lines = "".join(f'<p class="hub-quiet">{escape_html(line)}</p>' for line in (needs, address))
    return f'<div class="serve-plan">{render_notices(warnings)}{lines}{_reasons(plan)}</div>'


def _reasons(plan: ServePlan) -> str:
    rows = "".join(
        f"<tr><td><code>{escape_html(flag)}</code></td><td>{escape_html(reason)}</td></tr>"
        for flag, reason in reasons_of(plan)
    )
    head = f"<th>{texts.say('argument')}</th><th>{texts.say('reason')}</th>"
    table = f'<table class="hub-small"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    summary = texts.say("reasons")
    return f"<details><summary>{summary}</summary>{render_scroll(table, summary)}</details>"


def render_standing(standing: Standing, *, stopped: bool = False) -> str:
    """How the local server is, and what it printed last.

    Args:
        standing: of it.
        stopped: somebody pressed Stop.
    """
    plan = standing.plan
    if plan is None:
        return ""
    level: Level = "info"
    if standing.state == "ready":
        level = "success"
    elif standing.state == "ended" and not stopped:
        level = "error"
    key = "stopped" if stopped and standing.state == "ended" else standing.state
    said = texts.say(
        key, engine=TITLES[plan.engine], pair=plan.pair, url=plan.base_url, status=standing.status
    )
    lines = escape_html("\n".join(standing.log))
    label = escape_html(texts.say("log"))
    log = f'<pre tabindex="0" role="region" aria-label="{label}">{lines}</pre>' if lines else ""
    return f'<div class="serve-local">{render_notice(said, level)}{log}</div>'
