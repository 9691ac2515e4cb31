"""Two benchmarks held against each other: earlier ones, or results that are brought along."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from dflash_app.errors import DFlashAppError, RequestError
from dflash_app.store.benchmark_records import BenchmarkRecord
from dflash_app.ui.components import render_notice
from dflash_app.ui.handed_out import SAVE_JS, HandedOut
from dflash_app.ui.shell import Page

from .compared import render_comparison
from .jsonl import MAX_FILE_BYTES
from .listing import say_choice
from .opened import QUIET, Update
from .public import without_places
from .regression import Comparison, compare
from .render_comparison import comparison_markdown
from .results import BenchmarkResults, read_results, results
from .words import texts

MAX_BROUGHT = 4
_BROUGHT = "file "
"""Before the number of results that were brought along, where a choice is one of them."""

Brought = tuple[tuple[str, BenchmarkResults], ...]


@dataclass(frozen=True, slots=True)
class Comparing:
    """The widgets.

    Attributes:
        brought: results that were brought along, with the names of their files.
        last: the comparison that is shown.
        saved: the file that the browser is to save; invisible.
    """

    page: Page
    before: gr.Dropdown
    after: gr.Dropdown
    upload: gr.File
    start: gr.Button
    markdown: gr.Button
    outcome: gr.HTML
    brought: gr.State
    last: gr.State
    saved: gr.DownloadButton
    files: HandedOut

    def offer(self, records: Sequence[BenchmarkRecord], brought: Brought) -> Update:
        """Both boxes, with what there is to choose."""
        found = [(name, f"{_BROUGHT}{index}") for index, (name, _) in enumerate(brought)]
        found += [(say_choice(each), str(each.id)) for each in records if each.num_answered]
        return dict.fromkeys([self.before, self.after], gr.update(choices=found))

    def on_upload(self, paths: Sequence[str] | None, request: gr.Request) -> Update:
        """Read the files, so that they can be chosen."""
        try:
            brought = tuple((Path(each).name, _read(Path(each))) for each in paths or ())
            if len(brought) > MAX_BROUGHT:
                raise RequestError(f"{len(brought)} files are too many: bring {MAX_BROUGHT}.")
        except DFlashAppError as error:
            return {self.outcome: render_notice(str(error), "error"), self.brought: ()}
        records = self.page.workspace.store.benchmarks.latest(owner=self.page.owner(request))
        return {self.brought: brought, self.outcome: "", **self.offer(records, brought)}

    def on_compare(
        self, before: str | None, after: str | None, brought: Brought, request: gr.Request
    ) -> Iterator[Update]:
        """Compare, which takes some seconds where many questions are drawn."""
        busy = gr.Button(interactive=False)
        yield {self.outcome: render_notice(texts.say("comparing")), self.start: busy}
        try:
            sides = [self._find(each, brought, request) for each in (before, after)]
            (first, older), (second, newer) = sides
            if before == after:
                raise RequestError("Both are the same benchmark: choose two.")
            found = compare(older, newer, (first, second))
        except DFlashAppError as error:
            told = render_notice(self.page.told(error), "error")
            yield {self.outcome: told, self.last: None, **self._idle(None)}
            return
        yield {self.outcome: render_comparison(found), self.last: found, **self._idle(found)}

    def on_markdown(self, last: Comparison | None) -> str | None:
        """The comparison to be read."""
        if last is None:
            return None
        path = self.files.new_path("comparison.md")
        path.write_text(comparison_markdown(last), encoding="utf-8")
        return str(path)

    def _idle(self, last: Comparison | None) -> Update:
        shown = gr.Button(visible=last is not None)
        return {self.start: gr.Button(interactive=True), self.markdown: shown}

    def _find(
        self, chosen: str | None, brought: Brought, request: gr.Request
    ) -> tuple[str, BenchmarkResults]:
        """The results behind a choice, and what they are called."""
        number = str(chosen or "").removeprefix(_BROUGHT)
        if not number.isdecimal() or len(number) > 9:
            raise RequestError("Choose two benchmarks, the older one first.")
        if str(chosen).startswith(_BROUGHT):
            if int(number) >= len(brought):
                raise RequestError("That file is not here any more: bring it again.")
            return brought[int(number)]
        store = self.page.workspace.store
        record = store.benchmarks.get(int(number), self.page.owner(request))
        found = results(store, record.id)
        if self.page.public:
            found = without_places(found)
        return texts.say("named", number=record.id), found


def build_comparing(page: Page) -> Comparing:
    """Make the section; strangers bring no files."""
    with gr.Accordion(texts.label("compare_title"), open=False, elem_id="bench-compare"):
        with gr.Row(elem_classes="bench-row"):
            before, after = (
                gr.Dropdown(
                    [], label=texts.label(f"{side}_label"), min_width=220, interactive=True,
                    allow_custom_value=True, elem_id=f"bench-{side}",
                )
                for side in ("before", "after")
            )  # fmt: skip
        upload = gr.File(
            file_count="multiple", file_types=[".json"], height=150, visible=not page.public,
            label=texts.label("upload_results"), elem_id="bench-upload",
        )  # fmt: skip
        with gr.Row(elem_classes="bench-acts"):
            start = gr.Button(
                texts.label("compare"), size="sm", scale=0, elem_id="bench-compare-start"
            )
            markdown = gr.Button(
                texts.label("file_md"), size="sm", scale=0, visible=False,
                elem_id="bench-compare-md",
            )  # fmt: skip
        outcome = gr.HTML(elem_id="bench-compared")
    saved = gr.DownloadButton(visible="hidden", elem_id="bench-compared-file")
    return Comparing(
        page, before, after, upload, start, markdown, outcome, gr.State(()), gr.State(None), saved,
        HandedOut(saved.GRADIO_CACHE, "comparisons-"),
    )  # fmt: skip


def connect_comparing(comparing: Comparing) -> None:
    """Connect the files that are brought, and the buttons."""
    both = [comparing.before, comparing.after]
    if not comparing.page.public:
        comparing.upload.change(
            comparing.on_upload, comparing.upload, [comparing.outcome, comparing.brought, *both],
            **QUIET,
        )  # fmt: skip
    drawn = [comparing.outcome, comparing.last, comparing.start, comparing.markdown]
    comparing.start.click(comparing.on_compare, [*both, comparing.brought], drawn, **QUIET)
    written = comparing.markdown.click(
        comparing.on_markdown, comparing.last, comparing.saved, **QUIET
    )
    written.then(None, comparing.saved, comparing.saved, js=SAVE_JS, **QUIET)


def _read(path: Path) -> BenchmarkResults:
    """Results of a file of moderate size.

    Raises:
        RequestError: it is too large, or holds no results; names the file, not where it lies.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise RequestError(f"{path.name} is larger than {MAX_FILE_BYTES / 1e6:.0f} MB.")
    try:
        return read_results(path)
    except RequestError as error:
        raise RequestError(str(error).replace(str(path), path.name)) from error
