"""What the Hub tab shows: the list of pairs and the one that is looked at."""

from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.hub.hub import Standing
from dflash_app.registry.pair import Pair
from dflash_app.store.fingerprint import accelerators
from dflash_app.ui.components import render_notice
from dflash_app.ui.hub_chosen import Chosen, offer_drafters, offer_targets, rejoin
from dflash_app.ui.hub_detail import ask_changes, render_detail
from dflash_app.ui.hub_fit import Fits, render_fit
from dflash_app.ui.hub_jobs import IDLE_TICK_S, TICK_S, any_live, job_key, render_jobs
from dflash_app.ui.hub_table import (
    ALL,
    Row,
    Wish,
    choose_rows,
    render_table,
)
from dflash_app.ui.hub_texts import texts
from dflash_app.ui.shell import Page

Update = dict[Any, Any]

QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": 16,
}
"""Of every event here: several browser tabs may ask at once, and none waits for the other."""


@dataclass(frozen=True, slots=True)
class HubView:
    """The widgets and what they show.

    Attributes:
        fits: what is known of the pairs' fit.
        wish: the filters, in the order of `Wish`.
        chosen: the pair that is looked at, a `Chosen`; None before the first look.
        seen: states of the downloads when the list was drawn.
        changes: what another revision of a pair's models changes, drawn, by its name.
    """

    page: Page
    fits: Fits
    wish: list[Any]
    table: gr.HTML
    chosen: gr.State
    seen: gr.State
    timer: gr.Timer
    target: gr.Dropdown
    drafter: gr.Dropdown
    detail: gr.HTML
    jobs: gr.HTML
    fit: gr.HTML
    notice: gr.HTML
    changes: dict[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> list[Any]:
        """What changes with the chosen pair."""
        boxes = [self.chosen, self.target, self.drafter, self.detail, self.jobs, self.fit]
        return [*boxes, self.table, self.notice, self.seen, self.timer]

    def on_show(self, chosen: Chosen | None, *values: Any) -> Update:
        """Draw everything that needs no waiting.

        Args:
            chosen: None takes what the model bar says.
            values: of the filters, then of the model bar.
        """
        num_wish = len(self.wish)
        known = chosen if chosen and self._find(chosen) else self._of_bar(values[num_wish:])
        families = sorted({pair.family for pair in self.page.workspace.pairs()})
        return {
            **self.draw(known, values[:num_wish]),
            self.wish[1]: gr.Dropdown(
                [(texts.label("all"), ALL), *((each, each) for each in families)]
            ),
        }

    def on_follow(self, chosen: Chosen | None, *values: Any) -> Update:
        """Look at the pair that was chosen in the model bar."""
        said = self._of_bar(values[len(self.wish) :])
        if said is None or said == chosen:
            return {self.notice: gr.skip()}
        return self.draw(said, values[: len(self.wish)])

    def on_row(self, event: gr.EventData, *wish: Any) -> Update:
        """Look at the pair of the row that was clicked."""
        return self.draw(Chosen(str(event._data.get("value"))), wish)

    def on_target(self, chosen: Chosen | None, target: str, *wish: Any) -> Update:
        """Look at another target with the same drafter."""
        return self._rejoin(chosen, target, None, wish)

    def on_drafter(self, chosen: Chosen | None, drafter: str, *wish: Any) -> Update:
        """Look at the same target with another drafter, or none."""
        return self._rejoin(chosen, None, drafter, wish)

    def on_look(self) -> None:
        """Work out how every pair fits, without the network."""
        self.fits.look(self.page.workspace.pairs())

    def on_ask(self, chosen: Chosen | None) -> None:
        """Ask the hub how large the chosen pair is, and what its pinned revision changes."""
        pair = self._find(chosen) if chosen else None
        if pair is None or pair.remote:
            return
        if not self.page.local():
            self.fits.look([pair])
            return
        self.fits.ask(pair)
        drifts = self.page.workspace.hub.drifts(pair.name)
        self.changes[pair.name] = "".join(map(ask_changes, drifts))

    def on_told(self, chosen: Chosen | None, *wish: Any) -> Update:
        """Show what `on_look` and `on_ask` found, for the pair that is chosen by now."""
        return {
            self.table: self.draw_table(chosen, wish),
            self.fit: self._draw_fit(chosen),
        }

    def on_tick(self, chosen: Chosen | None, seen: Any, *wish: Any) -> Update:
        """Show how downloads go on; the whole list only where one began or ended."""
        jobs = self.page.workspace.hub.jobs.snapshot()
        key = job_key(jobs)
        if key == seen:
            shown = self._draw_jobs(chosen) if any_live(jobs) else gr.skip()
            return {self.jobs: shown}
        done = {
            job.pair for job in jobs if job.state == "done" and (job.id, "done") not in (seen or ())
        }
        for name in done:
            self.fits.forget(name)
        self.fits.look([pair for pair in self.page.workspace.pairs() if pair.name in done])
        update = self.draw(chosen, wish, said=gr.skip())
        update.pop(self.chosen, None)  # another row may have been clicked meanwhile
        return update

    def draw(self, chosen: Chosen | None, wish: tuple[Any, ...], *, said: Any = "") -> Update:
        """Everything about the chosen pair, and the list with its row marked."""
        jobs = self.page.workspace.hub.jobs.snapshot()
        pair = self._find(chosen) if chosen else None
        update: Update = {
            self.notice: said,
            self.table: self.draw_table(chosen, wish),
            self.seen: job_key(jobs),
            self.timer: gr.Timer(TICK_S if any_live(jobs) else IDLE_TICK_S, active=True),
        }
        if chosen is None or pair is None:
            gone = texts.say("gone")
            return update | ({self.notice: render_notice(gone, "warning")} if chosen else {})
        workspace = self.page.workspace
        standing = self._stand(chosen, pair)
        return update | {
            self.chosen: chosen,
            self.target: offer_targets(workspace.registry, chosen),
            self.drafter: offer_drafters(workspace.registry, chosen),
            self.detail: render_detail(
                standing,
                Row(standing, self.fits.get(pair)).status,
                workspace.hub.drifts(chosen.pair),
                accelerators(),
                local=self.page.local(),
            ),
            self.jobs: render_jobs(standing, jobs, local=self.page.local()),
            self.fit: self._draw_fit(chosen),
        }

    def draw_table(self, chosen: Chosen | None, wish: tuple[Any, ...]) -> str:
        """The rows that the filters leave."""
        workspace, gpus = self.page.workspace, accelerators()
        rows = [
            Row(
                workspace.hub.standing(pair, workspace.state(pair.name)),
                self.fits.get(pair),
                gpus,
            )
            for pair in workspace.pairs()
        ]
        words, *boxes = [str(value or "") for value in wish]
        return render_table(
            choose_rows(rows, Wish(words[:200], *boxes)), chosen.pair if chosen else None
        )

    def _draw_jobs(self, chosen: Chosen | None) -> str:
        hub = self.page.workspace.hub
        pair = self._find(chosen) if chosen else None
        standing = self._stand(chosen, pair) if chosen and pair else None
        return render_jobs(standing, hub.jobs.snapshot(), local=self.page.local())

    def _stand(self, chosen: Chosen, pair: Pair) -> Standing:
        """What of the chosen models is here; a target alone will do where no drafter is wanted."""
        workspace = self.page.workspace
        state = workspace.state(chosen.pair)
        if chosen.plain and state.target_dir is not None and state.status == "needs download":
            state = replace(state, status="ready", reason=None)
        return workspace.hub.standing(pair, state)

    def _draw_fit(self, chosen: Chosen | None) -> str:
        pair = self._find(chosen) if chosen else None
        if pair is None:
            return ""
        if pair.remote:
            return render_notice(texts.say("fit_on_server"))
        asking = self.page.local() and not self.fits.asked(pair)
        fit = render_fit(self.fits.get(pair), self.fits.reason(pair), asking=asking)
        return fit + self.changes.get(pair.name, "")

    def _rejoin(
        self, chosen: Chosen | None, target: str | None, drafter: str | None, wish: Any
    ) -> Update:
        if chosen is None:
            return {self.notice: gr.skip()}
        try:
            joined = rejoin(self.page.workspace.registry, chosen, target, drafter)
        except DFlashAppError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}
        return self.draw(joined, wish)

    def _find(self, chosen: Chosen) -> Pair | None:
        return chosen.find(self.page.workspace.registry)

    def _of_bar(self, values: tuple[Any, ...]) -> Chosen | None:
        """What the model bar says."""
        try:
            said = self.page.read(values)
        except DFlashAppError:
            return None
        return Chosen(said.pair, plain=said.mode == "ar")
