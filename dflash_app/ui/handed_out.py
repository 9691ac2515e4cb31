"""Files and texts that a browser takes along: where they lie meanwhile, and the scripts for it."""

import shutil
import tempfile
import time
import weakref
from pathlib import Path

KEPT_S = 600.0
"""How long a browser may take to begin a download."""

SAVE_JS = """(file) => {
    if (file) {
        const link = document.createElement('a');
        link.href = file.url;
        link.download = file.orig_name;
        link.click();
    }
    return null;
}"""
"""Saves the file of an invisible gr.DownloadButton, which is its only input and output."""

COPY_JS = """
element.addEventListener('click', async (event) => {
    const button = event.target.closest('[data-copy]');
    if (!button) { return; }
    const text = element.querySelector(button.dataset.copy);
    const range = document.createRange();
    range.selectNodeContents(text);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    try {
        await navigator.clipboard.writeText(text.textContent);
    } catch {
        document.execCommand('copy');
    }
    button.said ??= button.textContent;
    button.textContent = button.dataset.copied ?? button.said;
    button.classList.add('done');
    clearTimeout(button.waiting);
    button.waiting = setTimeout(() => {
        button.textContent = button.said;
        button.classList.remove('done');
    }, 2000);
});
"""
"""For a gr.HTML's `js_on_load`: copies what a button's `data-copy` selects, and says its
`data-copied` for two seconds. The clipboard needs https or this machine; elsewhere the text is
selected and copied as such."""


class HandedOut:
    """Files for browsers, in a folder that only this user may read and that goes with the app."""

    def __init__(self, parent: str, prefix: str) -> None:
        """Keep them below a folder that Gradio serves files from, made when it is needed."""
        self._parent = Path(parent)
        self._prefix = prefix
        self._folder: Path | None = None

    def new_path(self, name: str) -> Path:
        """Where a file of that name may be written; older files go."""
        if self._folder is None:
            self._parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(dir=self._parent, prefix=self._prefix))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        for old in self._folder.iterdir():
            if time.time() - old.stat().st_mtime > KEPT_S:
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self._folder)) / name  # whose name nobody can guess
