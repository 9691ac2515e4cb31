"""No English is written in the page's code: its words stand in the catalogue, in every language."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("dflash_app/ui", "plugins")
KNOWS_PAGE = re.compile(
    r"^\s*(from|import) (gradio|plotly|dflash_app\.ui(?!\.format)|\S*\bwords\b)", re.MULTILINE
)
"""What a plugin's file imports that speaks to readers; the others speak to the terminal or raise
errors, which are English everywhere."""
NO_PAGE = frozenset({"dflash_app/ui/serve.py", "dflash_app/ui/api.py"})
"""Files that speak to the terminal and to programs, in English."""

SHOWN_KEYWORDS = {"label", "info", "placeholder", "title", "hint"}
SHOWN_FIRST = {
    "gr.Accordion", "gr.Button", "gr.DownloadButton", "gr.Markdown", "gr.Tab", "gr.UploadButton",
    "gr.Error", "gr.Info", "gr.Warning",
    "Card", "render_notice", "render_status", "escape_html",
}  # fmt: skip
"""What shows its first argument."""
CHOOSERS = {"gr.CheckboxGroup", "gr.Dropdown", "gr.Radio"}
NAMES = re.compile(
    r"DFlash( Studio)?|PyTorch|MLX|Apple GPU|\bAR\b|CPU|GPU|tok/s|hf_|config\.json|does not fit"
    r"|https?://\S+"
)
"""The same in every language, and the one state of a pair that is three words."""

_WORD = re.compile(r"[A-Za-z]{2,}")
_SENTENCE = re.compile(r"(?:^|\s)[A-Za-z][a-z']+,? [a-z']+,? [A-Za-z]")
_MARKUP = re.compile(r"<[^<>]*>|^[^<>]*>|<[^<>]*$|&[#\w]+;|%\{[^}]*\}")
"""Tags, whole or begun in another literal, entities, and what plotly fills in."""


def sources() -> list[Path]:
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if name_of(path) not in NO_PAGE and on_page(path))


def on_page(path: Path) -> bool:
    plugin = path.is_relative_to(ROOT / "plugins")
    return not plugin or bool(KNOWS_PAGE.search(path.read_text(encoding="utf-8")))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def english_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines and texts that a reader of another language could not read."""
    apart = {id(node) for each in ast.walk(tree) for node in not_shown(each)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from ((text.lineno, said) for text in shown(node) if (said := words(text)))
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in apart:
            text = written(node)
            if ("<" in text and words(node)) or _SENTENCE.search(words(node)):
                yield node.lineno, text


def shown(call: ast.Call) -> Iterator[ast.expr]:
    """Literals that this call puts before the reader."""
    name = ast.unparse(call.func)
    yield from (each.value for each in call.keywords if each.arg in SHOWN_KEYWORDS)
    if name in SHOWN_FIRST and call.args:
        yield call.args[0]
    if name in CHOOSERS:
        offered = [*call.args[:1], *(each.value for each in call.keywords if each.arg == "choices")]
        for choices in offered:
            for choice in getattr(choices, "elts", ()):
                yield choice.elts[0] if isinstance(choice, ast.Tuple) else choice


def words(text: ast.expr) -> str:
    """The words of a literal that are neither markup nor a name; "" where there are none."""
    said = NAMES.sub(" ", _MARKUP.sub(" ", written(text))).strip()
    return said if _WORD.search(said) else ""


def written(node: ast.expr) -> str:
    """What a literal says, a zero where a value is filled in."""
    if isinstance(node, ast.JoinedStr):
        parts = (getattr(part, "value", None) for part in node.values)
        return "".join(part if isinstance(part, str) else "0" for part in parts)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def not_shown(node: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, scripts, errors (they are English everywhere), the terminal, parts of texts."""
    if isinstance(node, ast.Expr):
        yield node.value
    elif isinstance(node, ast.Assign) and re.search("PROMPTS?$", target_of(node)):
        # What is asked of a model is in the language that it was taught.
        yield from getattr(node.value, "elts", [node.value])
    elif isinstance(node, ast.Constant) and re.search(r"=>|\(\?[:P]", str(node.value)):
        yield node  # a script or a pattern
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if re.search(
            r"(Error|NotReady|Option|Argument|^print|re\.compile|^_whole|^_number)$", name
        ):
            yield from ast.walk(node)
    elif isinstance(node, ast.Raise):
        yield from ast.walk(node)
    elif isinstance(node, ast.JoinedStr):
        yield from node.values
    elif isinstance(node, ast.FunctionDef) and any(
        "command" in ast.dump(decorator) for decorator in node.decorator_list
    ):
        yield from ast.walk(node)


def target_of(assignment: ast.Assign) -> str:
    return ast.unparse(assignment.targets[0])


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_the_words_of_the_page_stand_in_the_catalogue(path: Path) -> None:
    assert list(english_of(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "gr.Button('Send')",
        "gr.Textbox(label='Message')",
        "gr.Textbox(placeholder=f'Message to {name}')",
        "gr.Dropdown([('All pairs', 'all')])",
        "render_notice('There is nothing to retry.')",
        "html = f'<p class=\"quiet\">Asking {name}</p>'",
        "return_value = 'It is not known'",
    ],
)
def test_english_in_code_is_found(code: str) -> None:
    assert list(english_of(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "gr.Button(texts.label('send'))",
        "gr.HTML(f'<p class=\"quiet one\">{texts.say(\"asking\")}</p>', elem_id='hub-list')",
        "raise RequestError('It is no block size: choose one.')",
        '"""What this module does for all."""',
        "gr.Dropdown([('PyTorch', 'torch')])",
        "EXAMPLE_PROMPTS = ('How many divisors has it?', 'Sort the numbers now.')",
    ],
)
def test_what_no_reader_sees_may_be_english(code: str) -> None:
    assert list(english_of(ast.parse(code))) == []
