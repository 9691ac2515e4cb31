"""The form that adds a server: asked first, then saved and chosen in the model bar."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.ui.components import render_notice
from dflash_app.ui.model_bar import offer_pair, pair_choices
from dflash_app.ui.shell import Page

from .adding import Asked, Typed, add_server, ask_servers
from .keys import keyring_reason
from .render import render_capabilities
from .words import texts

Update = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class ServerForm:
    """The form's widgets and the page they are on."""

    page: Page
    dflash_url: gr.Textbox
    plain_url: gr.Textbox
    model: gr.Dropdown
    name: gr.Textbox
    key: gr.Textbox
    result: gr.HTML

    @property
    def inputs(self) -> list[Any]:
        """In the order of `Typed`."""
        return [self.dflash_url, self.plain_url, self.model, self.name, self.key]

    @property
    def outputs(self) -> list[Any]:
        bar = self.page.bar
        return [self.result, *self.inputs, bar.pair, *bar.follows_pair]

    def on_check(self, *values: str | None) -> Iterator[Update]:
        """Show what the servers are, and offer their models."""
        yield {self.result: render_notice(texts.say("asking"))}
        typed = _read(values)
        try:
            asked = self._ask(typed)
        except DFlashAppError as error:
            yield {self.result: render_notice(str(error), "error")}
            return
        models = asked.models
        model = typed.model if typed.model in models else next(iter(models), None)
        yield {self.result: render_asked(asked), self.model: gr.Dropdown(models, value=model)}

    def on_add(self, *values: str | None) -> Iterator[Update]:
        """Save the server, unless something forbids it, and choose it in the model bar."""
        yield {self.result: render_notice(texts.say("asking"))}
        yield self._add(_read(values))

    def _add(self, typed: Typed) -> Update:
        workspace, bar = self.page.workspace, self.page.bar
        try:
            asked = self._ask(typed)
            name = add_server(workspace, typed, asked).name
        except DFlashAppError as error:
            return {self.result: render_notice(str(error), "error")}
        said = texts.say("saved", name=name)
        if asked.key is not None:
            said += " " + texts.say("key_kept")
        return {
            **dict.fromkeys(self.inputs, ""),
            self.model: gr.Dropdown([], value=None),
            self.result: render_notice(said, "success"),
            bar.pair: gr.Dropdown(pair_choices(workspace), value=name),
            **dict(zip(bar.follows_pair, offer_pair(workspace, name), strict=True)),
        }

    def _ask(self, typed: Typed) -> Asked:
        """Ask the servers; from this machine only, or strangers could look around its network."""
        if not self.page.local():
            raise DFlashAppError(texts.say("not_local"))
        return ask_servers(typed, own_keys=False)


def build_form(page: Page) -> Any:
    """Build the form; returns the event after which there is another server."""
    box: dict[str, Any] = {"lines": 1, "max_lines": 1}
    address = "http://gpu-box:8000/v1"
    info = "key_info" if keyring_reason() is None else "key_info_none"
    with gr.Accordion(texts.label("section"), open=True, elem_id="servers-form"):
        gr.HTML(f'<p class="servers-intro">{texts.label("hint")}</p>')
        with gr.Row():
            dflash_url = gr.Textbox(
                label=texts.label("dflash_url"), placeholder=address, min_width=240,
                elem_id="server-dflash", **box,
            )  # fmt: skip
            plain_url = gr.Textbox(
                label=texts.label("plain_url"), placeholder="http://gpu-box:8001/v1", min_width=240,
                elem_id="server-plain", **box,
            )  # fmt: skip
            key = gr.Textbox(
                label=texts.label("key"), type="password", placeholder=texts.label(info),
                min_width=240, elem_id="server-key", **box,
            )  # fmt: skip
        with gr.Row():
            model = gr.Dropdown(
                [], label=texts.label("served_model"), allow_custom_value=True, interactive=True,
                min_width=240, elem_id="server-model",
            )  # fmt: skip
            name = gr.Textbox(
                label=texts.label("name"), placeholder=texts.label("name_hint"), min_width=240,
                elem_id="server-name", **box,
            )  # fmt: skip
        with gr.Row():
            button: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 130}
            check = gr.Button(texts.label("check"), elem_id="server-check", **button)
            add = gr.Button(texts.label("add"), variant="primary", elem_id="server-add", **button)
        result = gr.HTML(elem_id="server-result")
    form = ServerForm(page, dflash_url, plain_url, model, name, key, result)
    event: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    check.click(form.on_check, form.inputs, [result, model], **event)
    return gr.on(
        [add.click, name.submit], form.on_add, inputs=form.inputs, outputs=form.outputs, **event
    )


def render_asked(asked: Asked) -> str:
    """What each server told, side by side."""
    told = (("asked_dflash", asked.dflash), ("asked_plain", asked.plain))
    drawn = "".join(
        render_capabilities(server, texts.say(title)) for title, server in told if server
    )
    return f'<div class="servers">{drawn}</div>'


def _read(values: tuple[str | None, ...]) -> Typed:
    return Typed(*((value or "").strip() for value in values))
