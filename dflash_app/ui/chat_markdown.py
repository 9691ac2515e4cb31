"""A message as the chat bubble shows it: Markdown that marks up text and does nothing else.

Gradio's bubble renders Markdown, lets most HTML through, loads the images it names and draws
```mermaid blocks, which may name images too. Nothing of that may come out of a message. What would
be a tag, an entity, an image or a diagram is broken by `JOINER`, a character without width that
the page takes out again where text is copied (`PAGE_SCRIPT`): what is shown, copied and edited is
what was written. Fenced code stays as written where it is sure to be code.
"""

import html
import re

from dflash_app.ui.format import printable

JOINER = "\u2060"
FOOT = "\u2063"
"""Begins the line below a reply that is ours and not part of it."""

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
"""What the bubble takes for formulas, wherever it stands and before it looks for anything else."""

PAGE_SCRIPT = """() => {
    const formula = /\\$\\$[^]+?\\$\\$|\\\\\\[[^]+?\\\\\\]|\\\\\\([^]+?\\\\\\)/g;
    const unescaped = (text) => text.replaceAll("&lt;", "<").replaceAll("&quot;", '"')
        .replaceAll("&amp;", "&");
    const clean = (text) => text.replace(/\\s*(<small[^>]*>)?\\u2063[^\\n]*/g, "")
        .replace(formula, unescaped).replaceAll("\\u2060", "");
    const board = navigator.clipboard;
    if (board && !board.cleans) {
        const write = board.writeText.bind(board);
        board.writeText = (text) => write(clean(text));
        board.cleans = true;
        document.addEventListener("copy", (event) => {
            const text = String(getSelection());
            if (event.clipboardData && /[\\u2060\\u2063]/.test(text)) {
                event.clipboardData.setData("text/plain", clean(text));
                event.preventDefault();
            }
        });
    }
    const log = document.querySelector("#chat-log");
    const marked = "[aria-label*='\\u2060'], [aria-label*='\\u2063']";
    const relabel = () => {
        for (const each of log.querySelectorAll(marked)) {
            each.setAttribute("aria-label", clean(each.getAttribute("aria-label")));
        }
    };
    const watched = {subtree: true, childList: true, attributeFilter: ["aria-label"]};
    new MutationObserver(relabel).observe(log, watched);
    relabel();
    if (innerWidth < 760) {
        document.querySelector("#chat-list-fold > button")?.click();
    }
}"""
"""What the tab runs once in the browser: copying gives what was written, without joiners and the
line below a reply, and a screen reader hears that, where Gradio labels a bubble with the markup of
its message; on a phone the list of conversations begins folded."""

_FENCED = r"^(?P<ticks>`{3,})[^`\n]*(?:\n|\Z)(?:[\s\S]*?^(?P=ticks)`* *$|[\s\S]*)"
_ACTIVE = r"<(?=[A-Za-z/!?])|&(?=#?\w+;)|!(?=\[)"
_OUTSIDE_FENCES = re.compile(f"(?P<fenced>{_FENCED})|{_ACTIVE}", re.MULTILINE)
_ANYWHERE = re.compile(_ACTIVE)
_FORMULAS = [
    re.compile(f"{re.escape(str(each['left']))}[\\s\\S]+?{re.escape(str(each['right']))}")
    for each in LATEX
]
_KEPT = re.compile("\ue000(\\d+)\ue001")
_OWN_MARKS = re.compile("%(?=%%LATEX_BLOCK_)|[\ue000\ue001]")
"""What Gradio writes in the place of a formula, and what we do: a message has neither."""
_MAY_BE_NO_FENCE = re.compile(r"~~~|`~|\$\$|\\[(\[]|^(?!```).*```", re.MULTILINE)
"""Where fences may begin or end otherwise than `_FENCED` sees it: then none is taken for one."""
_DOLLARS = r"(?<![\\$\w])\$(?P<inner>[^\s$`](?:[^$\n`]*[^\s$\\`])?)\$(?![$\w])"
_PROSE_DOLLARS = re.compile(f"{_FENCED}|`[^`\n]+`|{_DOLLARS}", re.MULTILINE)
_THOUGHT_END = re.compile(r"(?:\A|\n)[ \t]*</think>[ \t]*(?:\n|\Z)")
_DIAGRAM = re.compile(r"([`~]{3,}(?:[^\S\n]|\ufeff)*mermaid)")
_FENCE_LINE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$", re.MULTILINE)


def inert_markdown(text: str) -> str:
    """Make a message safe for the bubble; `written` is the way back.

    Args:
        text: as typed or generated.
    """
    text = printable(text).replace("\r\n", "\n").replace("\r", "\n")
    text = _OWN_MARKS.sub(rf"\g<0>{JOINER}", _DIAGRAM.sub(rf"\1{JOINER}", text))
    if not _MAY_BE_NO_FENCE.search(text):
        return _OUTSIDE_FENCES.sub(_break_up, text)
    formulas: list[str] = []
    for pattern in _FORMULAS:
        text = pattern.sub(lambda found: _set_apart(found[0], formulas), text)
    return _put_back(_ANYWHERE.sub(_break_up, text), formulas)


def dollars_as_formulas(text: str) -> str:
    r"""Write `$x^2$` as `\(x^2\)` by Pandoc's rule, so that `$5 and $6` stays what it is.

    Args:
        text: of a reply, not yet made inert.
    """

    def rewrite(found: re.Match[str]) -> str:
        inner = found["inner"]
        return found[0] if inner is None else rf"\({inner}\)"

    return _PROSE_DOLLARS.sub(rewrite, text)


def written(text: str) -> str:
    """What was typed, from what the bubble showed."""
    for pattern in _FORMULAS:
        text = pattern.sub(lambda found: html.unescape(found[0]), text)
    return text.replace(JOINER, "")


def close_fence(text: str) -> str:
    """The text with its last fence closed, where it was cut within code."""
    fence = ""
    for found in _FENCE_LINE.finditer(text):
        mark, rest = found[1], found[2]
        if not fence:
            fence = "" if mark[0] == "`" and "`" in rest else mark
        elif mark.startswith(fence) and not rest.strip():
            fence = ""
    return f"{text}\n{fence}" if fence else text


def split_thought(text: str) -> tuple[str | None, bool, str]:
    """Tell a reply's reasoning from its answer.

    Some templates open the reasoning themselves: then only its end is in the reply.

    Args:
        text: of the reply, whole or still growing.

    Returns:
        (reasoning or None, whether it goes on, answer).
    """
    before, opened, rest = text.partition("<think>")
    if opened and not before.strip():
        thought, closed, answer = rest.partition("</think>")
        return thought.strip(), not closed, answer.lstrip("\n")
    end = None if opened else _THOUGHT_END.search(text)
    if end is not None:
        return text[: end.start()].strip(), False, text[end.end() :].lstrip("\n")
    return None, False, text


def _break_up(found: re.Match[str]) -> str:
    return found[0] if found.groupdict().get("fenced") else found[0] + JOINER


def _set_apart(formula: str, formulas: list[str]) -> str:
    """Gradio puts a formula as HTML, unread, where it stood: maybe within an attribute."""
    escaped = formula.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    formulas.append(escaped)
    return f"\ue000{len(formulas) - 1}\ue001"


def _put_back(text: str, formulas: list[str]) -> str:
    while _KEPT.search(text):  # a formula may have others in it
        text = _KEPT.sub(lambda found: formulas[int(found[1])], text)
    return text
