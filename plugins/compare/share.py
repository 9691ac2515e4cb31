"""What can be taken along from a race: its card as a picture and as JSON, and its command."""

import json
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from .outcome import RaceOutcome, as_json
from .picture import draw_card
from .words import texts

_KEPT_S = 600.0
"""How long a browser may take to begin a download."""

_SAVE_JS = """(file) => {
    if (file) {
        const link = document.createElement('a');
        link.href = file.url;
        link.download = file.orig_name;
        link.click();
    }
    return null;
}"""
_COPY_JS = """
element.addEventListener('click', async (event) => {
    const button = event.target.closest('[data-copy]');
    if (!button) { return; }
    const text = element.querySelector('code');
    const range = document.createRange();
    range.selectNodeContents(text);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    try {
        await navigator.clipboard.writeText(text.textContent);
    } catch {
        document.execCommand('copy');
    }
    button.classList.add('done');
    setTimeout(() => button.classList.remove('done'), 1500);
});
"""
"""The clipboard needs https or this machine; elsewhere the text is selected and copied as such."""


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
    """Files of cards, in a folder that only this user may read and that goes with the app."""

    def __init__(self, parent: str) -> None:
        """Keep them below a folder that Gradio serves files from."""
        Path(parent).mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=parent, prefix="races-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

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
        for old in self._folder.iterdir():
            if time.time() - old.stat().st_mtime > _KEPT_S:
                shutil.rmtree(old, ignore_errors=True)
        # Nobody can guess the folder's name.
        path = Path(tempfile.mkdtemp(dir=self._folder)) / f"dflash-race.{kind}"
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
    command = gr.HTML(elem_id="race-command", js_on_load=_COPY_JS)
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
        event.then(None, share.file, share.file, js=_SAVE_JS, **quiet)
