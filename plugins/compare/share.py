"""What can be taken along from a race: its card as a picture and as JSON, and its command."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.ui.handed_out import COPY_JS, SAVE_JS, HandedOut

from .outcome import RaceOutcome, as_json
from .picture import draw_card
from .words import texts


@dataclass(frozen=True, slots=True)
class Share:
    """The row below an outcome; style.css shows it where there is one.

    Attributes:
        last: the tab's last `RaceOutcome`.
        with_prompt: whether cards show the prompt and words of the outputs.
        png: asks for the picture.
        json: asks for the file.
        file: what the browser is to save; invisible.
        command: what runs the race again, and a button that copies it.
    """

    last: gr.State
    with_prompt: gr.Checkbox
    png: gr.Button
    json: gr.Button
    file: gr.DownloadButton
    command: gr.HTML


class Cards:
    """Writes the cards of a race where browsers may fetch them."""

    def __init__(self, parent: str) -> None:
        """Keep them below a folder that Gradio serves files from."""
        self._files = HandedOut(parent, "races-")

    def on_png(self, outcome: RaceOutcome | None, with_prompt: bool) -> str | None:
        """The card as a picture; nothing before a race has ended."""
        return self._write(outcome, "png", lambda last: draw_card(last, with_prompt=with_prompt))

    def on_json(self, outcome: RaceOutcome | None, with_prompt: bool) -> str | None:
        """The card as JSON."""

        def dump(last: RaceOutcome) -> bytes:
            card = as_json(last, with_prompt=with_prompt)
            return json.dumps(card, indent=2, ensure_ascii=True).encode()

        return self._write(outcome, "json", dump)

    def _write(
        self, outcome: RaceOutcome | None, kind: str, make: Callable[[RaceOutcome], bytes]
    ) -> str | None:
        if outcome is None:
            return None
        path = self._files.new_path(f"dflash-race.{kind}")
        path.write_bytes(make(outcome))
        return str(path)


def build_share() -> Share:
    """Make the row."""
    with gr.Row(elem_id="race-share"):
        with_prompt = gr.Checkbox(
            True, label=texts.label("with_prompt"), container=False, min_width=220,
            elem_id="race-with-prompt",
        )  # fmt: skip
        png = gr.Button(texts.label("card_png"), size="sm", min_width=110, elem_id="race-png")
        as_file = gr.Button(texts.label("card_json"), size="sm", min_width=110, elem_id="race-json")
        file = gr.DownloadButton(visible="hidden", elem_id="race-file")
    command = gr.HTML(elem_id="race-command", js_on_load=COPY_JS)
    return Share(gr.State(None), with_prompt, png, as_file, file, command)


def connect_share(share: Share) -> None:
    """Connect the buttons; what was written is saved by the browser at once."""
    cards = Cards(share.file.GRADIO_CACHE)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    asked = [share.last, share.with_prompt]
    for event in (
        share.png.click(cards.on_png, asked, share.file, **quiet),
        share.json.click(cards.on_json, asked, share.file, **quiet),
    ):
        event.then(None, share.file, share.file, js=SAVE_JS, **quiet)
