"""Below the hub's list: what is on disk, the token for gated models, a newer registry."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.hub.disk import RepoUse, free_bytes
from dflash_app.hub.login import TOKENS_URL, has_token, log_in, log_out
from dflash_app.registry.update import Proposal
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import escape_html, format_bytes, format_count, format_when
from dflash_app.ui.hub_scroll import render_scroll
from dflash_app.ui.hub_texts import texts
from dflash_app.ui.hub_view import QUIET, Update
from dflash_app.ui.model_bar import refresh_model_bar
from dflash_app.ui.shell import Page

MAX_CHANGES = 200


@dataclass(frozen=True, slots=True)
class Care:
    """The sections' widgets and the page they are on; `proposal` is a registry that was read."""

    page: Page
    disk: gr.HTML
    disk_section: gr.Accordion
    token: gr.Textbox
    save_token: gr.Button
    forget_token: gr.Button
    token_notice: gr.HTML
    token_section: gr.Accordion
    source: gr.Textbox
    check: gr.Button
    take: gr.Button
    difference: gr.HTML
    proposal: gr.State

    def on_disk(self) -> Iterator[str]:
        """List the models in the cache."""
        if not self.page.local():
            yield render_notice(texts.say("strangers"), "warning")
            return
        yield render_notice(texts.say("disk_reading"))
        yield render_disk(self.page.workspace.hub.disk_use(), free_bytes())

    def on_token(self, token: str) -> Iterator[Update]:
        """Let the hub check a token; huggingface_hub keeps it, this app does not."""
        yield {self.token: "", self.token_notice: render_notice(texts.say("token_checking"))}
        yield self._say(lambda: log_in((token or "").strip()))

    def on_forget(self) -> Update:
        """Take the token out of the library's place."""
        return self._say(log_out)

    def on_token_shown(self) -> str:
        """Say whether a token is known."""
        return render_token(has_token())

    def on_check(self, source: str) -> Iterator[Update]:
        """Read a registry and show what it would change."""
        reading = render_notice(texts.say("registry_reading"))
        yield {self.difference: reading, self.proposal: None}
        try:
            self._check_local()
            proposal = self.page.workspace.hub.propose_registry((source or "").strip())
        except DFlashAppError as error:
            yield {self.difference: render_notice(str(error), "error")}
            return
        kept = None if proposal.empty else proposal
        yield {self.difference: render_difference(proposal), self.proposal: kept}

    def on_take(self, proposal: Proposal | None, *values: Any) -> Update:
        """Use the registry that was shown."""
        if proposal is None:
            return {self.difference: gr.skip()}
        workspace = self.page.workspace
        try:
            self._check_local()
            workspace.hub.take_registry(proposal)
        except DFlashAppError as error:
            return {self.difference: render_notice(str(error), "error"), self.proposal: None}
        said = texts.say("registry_taken", count=format_count(len(workspace.pairs())))
        return {
            self.difference: render_notice(said, "success"),
            self.proposal: None,
            self.source: "",
            **refresh_model_bar(self.page.bar, workspace, values),
        }

    def _say(self, act: Callable[[], None]) -> Update:
        try:
            self._check_local()
            act()
        except DFlashAppError as error:
            return {self.token_notice: render_notice(str(error), "error")}
        return {self.token_notice: render_token(has_token())}

    def _check_local(self) -> None:
        if not self.page.local():
            raise DFlashAppError(texts.say("strangers"))


def build_care(page: Page) -> Care:
    """Build the sections."""
    small: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 160}
    with gr.Column(elem_id="hub-care"):
        with gr.Accordion(texts.label("disk"), open=False, elem_id="hub-disk") as disk_section:
            disk = gr.HTML(elem_id="hub-disk-list")
        title = texts.label("token_section")
        with gr.Accordion(title, open=False, elem_id="hub-login") as token_section:
            token_notice = gr.HTML(elem_id="hub-token-notice")
            token = gr.Textbox(
                label=texts.label("token"), type="password", max_lines=1, placeholder="hf_…",
                elem_id="hub-token",
            )  # fmt: skip
            with gr.Row():
                save_token = gr.Button(texts.label("token_save"), elem_id="hub-token-save", **small)
                forget_token = gr.Button(
                    texts.label("token_forget"), elem_id="hub-token-forget", **small
                )
        with gr.Accordion(texts.label("registry"), open=False, elem_id="hub-registry"):
            source = gr.Textbox(
                label=texts.label("registry_source"), max_lines=1, elem_id="hub-source",
                placeholder=texts.label("registry_hint"),
            )  # fmt: skip
            with gr.Row():
                check = gr.Button(texts.label("registry_check"), elem_id="hub-check", **small)
                take = gr.Button(
                    texts.label("registry_take"), variant="primary", elem_id="hub-take", **small
                )
            difference = gr.HTML(elem_id="hub-difference")
    return Care(
        page, disk, disk_section, token, save_token, forget_token, token_notice, token_section,
        source, check, take, difference, gr.State(None),
    )  # fmt: skip


def connect_care(care: Care) -> Any:
    """Let the sections work; returns the event after which the list is another."""
    care.disk_section.expand(care.on_disk, None, care.disk, **QUIET)
    care.token_section.expand(care.on_token_shown, None, care.token_notice, **QUIET)
    told = [care.token, care.token_notice]
    gr.on([care.save_token.click, care.token.submit], care.on_token, care.token, told, **QUIET)
    care.forget_token.click(care.on_forget, None, care.token_notice, **QUIET)
    shown = [care.difference, care.proposal]
    gr.on([care.check.click, care.source.submit], care.on_check, care.source, shown, **QUIET)
    bar = care.page.bar
    return care.take.click(
        care.on_take,
        [care.proposal, *bar.inputs],
        [*shown, care.source, bar.pair, *bar.follows_pair],
        **QUIET,
    )


def render_disk(repos: Sequence[RepoUse], num_free_bytes: int) -> str:
    """Every model repository in the cache, with its revisions."""
    total = sum(use.size_bytes for use in repos)
    said = texts.say(
        "disk_use",
        count=format_count(len(repos)),
        total=format_bytes(total),
        free=format_bytes(num_free_bytes),
    )
    rows = "".join(map(_repo_row, repos))
    columns = ("column_model", "column_size", "column_revisions")
    head = "".join(f"<th>{texts.say(column)}</th>" for column in columns)
    table = f'<table class="hub-small"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    shown = render_scroll(table, texts.say("disk")) if repos else ""
    return f'<p class="hub-quiet">{said}</p>{shown}'


def _repo_row(use: RepoUse) -> str:
    revisions = []
    for each in use.revisions:
        refs = f" ({', '.join(each.refs)})" if each.refs else ""
        size, when = format_bytes(each.size_bytes), format_when(each.modified)
        revisions.append(f"{each.commit[:12]}{refs}, {size}, {when}")
    if use.unfinished_bytes:
        revisions.append(texts.say("unfinished", size=format_bytes(use.unfinished_bytes)))
    drawn = "<br>".join(map(escape_html, revisions))
    size = format_bytes(use.size_bytes)
    return f"<tr><td>{escape_html(use.repo)}</td><td>{size}</td><td>{drawn}</td></tr>"


def render_token(known: bool) -> str:
    """Whether a token is known, and where to get one."""
    state = texts.say("token_known" if known else "token_unknown")
    link = (
        f'<a href="{escape_html(TOKENS_URL)}" target="_blank" rel="noopener noreferrer">'
        f"{texts.say('token_link')}</a>"
    )
    return f'<p class="hub-quiet">{state} {texts.say("token_hint")} {link}</p>'


def render_difference(proposal: Proposal) -> str:
    """What an update of the registry changes, a row each."""
    if proposal.empty:
        return render_notice(texts.say("registry_same"))
    lines = [("line_new", name, "") for name in proposal.added]
    lines += [("line_removed", name, "") for name in proposal.removed]
    lines += [
        ("line_changed", change.name, f"{key}: {old} → {new}")
        for change in proposal.changed
        for key, old, new in change.keys
    ]
    lines += [("line_left_out", name, texts.say("line_own")) for name in proposal.left_out]
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{escape_html(text)}</td>" for text in (texts.say(kind), *told))
        + "</tr>"
        for kind, *told in lines[:MAX_CHANGES]
    )
    more = len(lines) - MAX_CHANGES
    rest = texts.say("more", count=format_count(more)) if more > 0 else ""
    table = f'<table class="hub-small"><tbody>{rows}</tbody></table>'
    shown = render_scroll(table, texts.say("registry_check"), "asks-take")
    return f'{shown}<p class="hub-quiet">{rest}</p>'
