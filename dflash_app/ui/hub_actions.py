"""What can be done with the pair that is looked at: download, use, check, delete."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError, ModelInUse
from dflash_app.hub.choices import keys_of, resolve
from dflash_app.hub.disk import Removal
from dflash_app.hub.hub import check_free
from dflash_app.ui.choice import NO_DRAFTER
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import format_bytes
from dflash_app.ui.hub_chosen import Chosen
from dflash_app.ui.hub_questions import Checks, render_checks, render_removal
from dflash_app.ui.hub_texts import say_files, texts
from dflash_app.ui.hub_view import QUIET, HubView, Update
from dflash_app.ui.model_bar import drafter_choices, offer_pair, pair_choices
from dflash_app.ui.shell import Page

_YIELD_S = 0.3


@dataclass(frozen=True, slots=True)
class Actions:
    """The buttons below the chosen pair; `hub_jobs.acts` and style.css say which are shown.

    Attributes:
        ask: the question before a deletion, or what a check found.
        plan: what would be deleted (`Removal`).
        checks: of the last check, for `discard`.
    """

    download: gr.Button
    resume: gr.Button
    pause: gr.Button
    cancel: gr.Button
    use: gr.Button
    verify: gr.Button
    delete: gr.Button
    confirm: gr.Button
    keep: gr.Button
    discard: gr.Button
    clear: gr.Button
    ask: gr.HTML
    plan: gr.State
    checks: gr.State

    @property
    def asking(self) -> list[Any]:
        return [self.ask, self.plan, self.checks]


def build_actions() -> Actions:
    """Build the buttons."""

    def button(name: str, variant: str = "secondary") -> gr.Button:
        options: dict[str, Any] = {"variant": variant, "size": "sm", "min_width": 104, "scale": 0}
        return gr.Button(texts.label(name), elem_id=f"hub-{name}", **options)

    with gr.Row(elem_id="hub-acts"):
        download = button("download", "primary")
        resume = button("resume", "primary")
        pause = button("pause")
        cancel = button("cancel")
        use = button("use", "primary")
        verify = button("verify")
        delete = button("delete")
        clear = button("clear")
    ask = gr.HTML(elem_id="hub-ask")
    with gr.Row(elem_id="hub-answers"):
        confirm = button("confirm", "stop")
        keep = button("keep")
        discard = button("discard", "stop")
    return Actions(
        download, resume, pause, cancel, use, verify, delete, confirm, keep, discard, clear,
        ask, gr.State(None), gr.State(None),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Acting:
    """What the buttons do."""

    view: HubView
    actions: Actions

    @property
    def page(self) -> Page:
        return self.view.page

    def on_download(self, chosen: Chosen | None, *wish: Any) -> Update:
        """Queue what is lacking, or go on with what was begun."""
        hub = self.page.workspace.hub

        def act(name: str, chosen: Chosen) -> str:
            hub.download(name, chosen.roles)
            return ""

        return self._do(chosen, wish, act)

    def on_pause(self, chosen: Chosen | None, *wish: Any) -> Update:
        """Stop the chosen pair's download and keep it in the list."""
        return self._do(chosen, wish, lambda name, _: self._halt(name, "pause"))

    def on_cancel(self, chosen: Chosen | None, *wish: Any) -> Update:
        """Stop the chosen pair's download for good; what is there stays."""
        return self._do(chosen, wish, lambda name, _: self._halt(name, "cancel"))

    def on_clear(self, chosen: Chosen | None, *wish: Any) -> Update:
        """Take the downloads that ended out of the list."""

        def act(*_: Any) -> str:
            jobs = self.page.workspace.hub.jobs
            for job in jobs.snapshot():
                if not job.live:
                    jobs.forget(job.id)
            return ""

        return self._do(chosen, wish, act)

    def on_use(self, chosen: Chosen | None, backend: str | None) -> Update:
        """Choose in the model bar, which every tab reads."""
        workspace, bar = self.page.workspace, self.page.bar
        pair = chosen.find(workspace.registry) if chosen else None
        if chosen is None or pair is None:
            return {self.view.notice: gr.skip()}
        row = resolve(workspace.registry, keys_of(pair)[0], None)
        update: Update = dict(
            zip(bar.follows_pair, offer_pair(workspace, chosen.pair, backend), strict=True)
        )
        if chosen.plain:
            drafters = drafter_choices(workspace, chosen.pair)
            update[bar.drafter] = gr.Dropdown(drafters, value=NO_DRAFTER)
        said = texts.say("chosen_above", title=pair.title)
        return update | {
            bar.pair: gr.Dropdown(pair_choices(workspace), value=row.name),
            self.view.notice: render_notice(said, "success"),
        }

    def on_verify(self, chosen: Chosen | None) -> Iterator[Update]:
        """Read every file and compare its hash; says how far it is."""
        ask, hub = self.actions.ask, self.page.workspace.hub
        checks: Checks = []
        if chosen is None or not self.page.local():
            yield {ask: _refuse_strangers() if chosen else gr.skip()}
            return
        yield {ask: render_notice(texts.say("reading_files")), self.actions.checks: None}
        told_s = time.monotonic()
        try:
            for check in hub.verify(chosen.pair, chosen.roles):
                checks.append(check)
                if time.monotonic() - told_s >= _YIELD_S:
                    told_s = time.monotonic()
                    read = texts.say("files_read", files=say_files(len(checks)))
                    yield {ask: render_notice(read)}
        except DFlashAppError as error:
            yield {ask: render_notice(str(error), "error")}
            return
        yield {ask: render_checks(checks), self.actions.checks: checks}

    def on_discard(self, chosen: Chosen | None, checks: Checks | None, *wish: Any) -> Update:
        """Delete the damaged files, so that a download brings them again."""
        hub = self.page.workspace.hub

        def act(name: str, _: Chosen) -> str:
            num_deleted = hub.discard_damaged(name, checks or [])
            self.view.fits.forget(name)
            return texts.say("files_deleted", files=say_files(num_deleted))

        return self._do(chosen, wish, act)

    def on_delete(self, chosen: Chosen | None) -> Update:
        """Say what would be deleted and freed, and ask."""
        ask, hub = self.actions.ask, self.page.workspace.hub
        if chosen is None or not self.page.local():
            return {ask: _refuse_strangers() if chosen else gr.skip()}
        try:
            removal = hub.plan_removal(chosen.pair, chosen.roles)
            check_free(removal)
        except DFlashAppError as error:
            return {ask: render_notice(str(error), "error")}
        return {ask: render_removal(removal), self.actions.plan: removal}

    def on_confirm(
        self, chosen: Chosen | None, plan: Removal | None, bar_pair: str | None, *wish: Any
    ) -> Update:
        """Delete what was shown."""

        def act(name: str, _: Chosen) -> str:
            if plan is None:
                return ""
            num_freed = self._remove(plan, bar_pair)
            self.view.fits.forget(name)
            return texts.say("freed", size=format_bytes(num_freed))

        return self._do(chosen, wish, act)

    def on_keep(self) -> Update:
        """Take the question back."""
        return {self.actions.ask: "", self.actions.plan: None, self.actions.checks: None}

    def _remove(self, plan: Removal, bar_pair: str | None) -> int:
        """Delete; a pair that is in memory but no longer chosen leaves it first."""
        workspace = self.page.workspace
        try:
            return workspace.hub.remove(plan)
        except ModelInUse:
            repos = {repo for repo, _ in plan.revisions} | set(plan.unfinished)
            still_chosen = any(
                ref is not None and ref.repo in repos
                for pair in workspace.pairs()
                if pair.name == bar_pair
                for ref in (pair.target, pair.drafter)
            )
            if still_chosen:
                raise
            with self.page.runs.turn.taken_now() as taken:
                if not taken:
                    raise
                workspace.unload()
                return workspace.hub.remove(plan)

    def _halt(self, name: str, how: str) -> str:
        jobs = self.page.workspace.hub.jobs
        for job in jobs.snapshot():
            if job.pair == name and job.state != "done":
                (jobs.pause if how == "pause" else jobs.cancel)(job.id)
                self.view.fits.forget(name)
                break
        return ""

    def _do(
        self, chosen: Chosen | None, wish: Sequence[Any], act: Callable[[str, Chosen], str]
    ) -> Update:
        """Act on the chosen pair where this page may, then draw what became of it."""
        view = self.view
        if chosen is None:
            return {view.notice: gr.skip()}
        if not self.page.local():
            return {view.notice: _refuse_strangers()}
        try:
            said = render_notice(act(chosen.pair, chosen), "success")
        except DFlashAppError as error:
            said = render_notice(str(error), "error")
        return {**view.draw(chosen, tuple(wish), said=said), **self.on_keep()}


def _refuse_strangers() -> str:
    return render_notice(texts.say("strangers"), "warning")


def connect_actions(actions: Actions, view: HubView) -> list[Any]:
    """Let the buttons act; returns the events after which the fit is another."""
    acting = Acting(view, actions)
    chosen = [view.chosen, *view.wish]
    shown = [*view.shown, *actions.asking]
    quick = [
        (actions.download, acting.on_download),
        (actions.resume, acting.on_download),
        (actions.pause, acting.on_pause),
        (actions.cancel, acting.on_cancel),
        (actions.clear, acting.on_clear),
    ]
    events = [button.click(act, chosen, shown, **QUIET) for button, act in quick]
    bar = view.page.bar
    actions.use.click(
        acting.on_use, [view.chosen, bar.backend], [bar.pair, *bar.follows_pair, view.notice],
        **QUIET,
    )  # fmt: skip
    actions.verify.click(acting.on_verify, view.chosen, actions.asking, **QUIET)
    actions.delete.click(acting.on_delete, view.chosen, actions.asking, **QUIET)
    actions.keep.click(acting.on_keep, None, actions.asking, **QUIET)
    asked = [view.chosen, actions.plan, bar.pair, *view.wish]
    events.append(actions.confirm.click(acting.on_confirm, asked, shown, **QUIET))
    checked = [view.chosen, actions.checks, *view.wish]
    events.append(actions.discard.click(acting.on_discard, checked, shown, **QUIET))
    return events
