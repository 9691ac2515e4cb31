"""The hub's recommendation: a pair for this machine and a use, and why."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from dflash_app.hub.fit import PairFit
from dflash_app.hub.hub import Standing
from dflash_app.hub.published import USES
from dflash_app.hub.recommend import Advice, Suggestion, fits_of, recommend
from dflash_app.registry.load import Registry
from dflash_app.store.fingerprint import accelerators
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import escape_html
from dflash_app.ui.hub_table import CHOOSE_JS
from dflash_app.ui.hub_texts import texts
from dflash_app.ui.hub_view import QUIET, HubView

MAX_OTHERS = 2


@dataclass(frozen=True, slots=True)
class Advising:
    """The section's widgets and whose pairs it ranks.

    Attributes:
        known: how the pairs fit, by name, once the hub was asked.
    """

    view: HubView
    use: gr.Radio
    told: gr.HTML
    section: gr.Accordion
    known: dict[str, PairFit | str] = field(default_factory=dict)

    def on_use(self, use: str) -> str:
        """Rank the pairs for a use, by what is known so far."""
        workspace = self.view.page.workspace
        wanted = next((each for each in USES if each == use), USES[0])
        standings = self._standings()
        fits = self.known or fits_of(standings, self.view.fits.devices(), online=False)
        asking = self.view.page.local() and not self.known
        advice = recommend(standings, fits, wanted, accelerators())
        return render_advice(advice, workspace.registry, asking=asking)

    def on_ask(self) -> None:
        """Ask the hub how large every pair is: it may take half a minute."""
        if self.view.page.local():
            self.known.update(fits_of(self._standings(), self.view.fits.devices()))

    def _standings(self) -> list[Standing]:
        workspace = self.view.page.workspace
        return [
            workspace.hub.standing(pair, workspace.state(pair.name)) for pair in workspace.pairs()
        ]


def build_advice(view: HubView) -> Advising:
    """Build the section."""
    uses = [(texts.label(f"use_{use.replace(' ', '_')}"), use) for use in USES]
    with gr.Accordion(texts.label("advice"), open=False, elem_id="hub-advice") as section:
        use = gr.Radio(
            uses, value=USES[0], label=texts.label("advice_for"), elem_id="hub-advice-use"
        )
        told = gr.HTML(elem_id="hub-advice-told", js_on_load=CHOOSE_JS)
    return Advising(view, use, told, section)


def connect_advice(advising: Advising) -> Any:
    """Let the section answer; returns its event that chooses a pair."""
    shown: dict[str, Any] = {"inputs": advising.use, "outputs": advising.told, **QUIET}
    advising.use.input(advising.on_use, **shown)
    opened = advising.section.expand(advising.on_use, **shown)
    opened.then(advising.on_ask, None, None, **QUIET).then(advising.on_use, **shown)
    return advising.told.select


def render_advice(advice: Advice, registry: Registry, *, asking: bool = False) -> str:
    """The first of the ranking, then the next ones; `asking` says that more may come."""
    if not advice.ranked:
        return render_notice(texts.say("advice_none"), "warning")
    titles = {pair.name: pair.title for pair in registry.pairs}
    first, *others = advice.ranked[: MAX_OTHERS + 1]
    drawn = "".join(_draw(each, titles, "") for each in others)
    rest = f"<h3>{texts.say('advice_next')}</h3>{drawn}" if drawn else ""
    if asking:
        rest += f'<p class="hub-quiet">{texts.say("asking_sizes")}</p>'
    return f'<div class="hub-advice">{_draw(first, titles, "first")}{rest}</div>'


def _draw(each: Suggestion, titles: dict[str, str], mark: str) -> str:
    return (
        f'<div class="hub-suggestion {mark}" data-pair="{escape_html(each.pair)}">'
        f'<button type="button">{escape_html(titles.get(each.pair, each.pair))}</button>'
        f"<p>{escape_html(each.reason)}</p></div>"
    )
