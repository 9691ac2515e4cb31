"""Files to pairs: what is wrong is named with file and line, and never takes good rows away."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dflash_app.errors import RegistryError, UnknownPair
from dflash_app.registry.load import Registry, load_registry

GOOD = """\
pairs:
  - name: alpha
    title: Alpha
    family: qwen3
    target: {repo: org/Target}
    drafter: {repo: org/Alpha-DFlash, revision: 0123abc}
"""


def _write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    return _write(tmp_path / "bundled.yaml", GOOD)


def _refused(tmp_path: Path, text: str | bytes) -> str:
    """The message for a bundled file with this text."""
    with pytest.raises(RegistryError) as caught:
        load_registry([_write(tmp_path / "bad.yaml", text)])
    return str(caught.value)


BAD_ROWS = [
    pytest.param("    block_size: sixteen\n", 7, "block_size: input should be", id="wrong type"),
    pytest.param("    block_size: '16'\n", 7, "'16'", id="number in quotes"),
    pytest.param("    block_size: 1\n", 7, "block_size", id="out of range"),
    pytest.param("    colour: blue\n", 7, "colour is no known key", id="unknown key"),
    pytest.param("    thinking: off\n", 7, "thinking", id="off is a boolean in YAML"),
    pytest.param("    status: soon\n", 7, "'available', 'preview' or 'planned'", id="status"),
    pytest.param("    title: Again\n", 7, "'title' is here and on line 3", id="key twice"),
    pytest.param("    1: x\n", 7, "'1' is not text", id="key that is no text"),
    pytest.param("    notes: 2026-11-20\n", 7, "not allowed", id="a date"),
    pytest.param("    notes: !!int x\n", 7, "no valid value", id="value that its tag refuses"),
    pytest.param("    notes: &a x\n    licence: *a\n", 8, "aliases", id="alias"),
    pytest.param(f"    notes: {'[' * 30}{']' * 30}\n", 7, "nested deeper", id="deep nesting"),
    pytest.param("    notes: [1\n    title: x\n", 8, "not valid YAML", id="syntax"),
    pytest.param("    notes: a\x01b\n", 7, "not valid YAML", id="control character"),
    pytest.param(
        "    benchmarks:\n      - source: paper\n        results:\n          - {task: A}\n",
        10,
        "speedup",
        id="nested row without a figure",
    ),
]


@pytest.mark.parametrize(("extra", "line", "says"), BAD_ROWS)
def test_what_is_wrong_is_named_with_file_and_line(
    tmp_path: Path, extra: str, line: int, says: str
) -> None:
    message = _refused(tmp_path, GOOD + extra)
    assert message.startswith(f"{tmp_path / 'bad.yaml'}, line {line}: ")
    assert says in message


BAD_VALUES = [
    pytest.param("0123abc", "main", 6, "drafter.revision", id="branch as revision"),
    pytest.param("0123abc", "1234567", 6, "drafter.revision", id="revision that YAML reads as int"),
    pytest.param("repo: org/Target", "repo: ../etc", 5, "target.repo", id="repo that is a path"),
    pytest.param(
        "repo: org/Target", "repo: a/b; rm -rf", 5, "target.repo", id="repo with a command"
    ),
    pytest.param("repo: org/Target", "path: models/x", 5, "target.path", id="relative path"),
    pytest.param("repo: org/Target", "path: embedded:other", 5, "target.path", id="other embedded"),
    pytest.param("repo: org/Target", "path: /x, repo: a/b", 5, "exactly one", id="path and repo"),
    pytest.param("repo: org/Target", "licence: MIT", 5, "exactly one", id="neither path nor repo"),
    pytest.param(
        "{repo: org/Target}",
        "\n      licence: MIT",
        5,
        "target: give exactly one",
        id="block style",
    ),
    pytest.param("name: alpha", "name: Al pha", 2, "name", id="name"),
    pytest.param("    family: qwen3\n", "", 2, "family is missing", id="missing key"),
    pytest.param("- name: alpha\n    ", "- ", 2, "name is missing", id="missing name"),
]


@pytest.mark.parametrize(("old", "new", "line", "says"), BAD_VALUES)
def test_a_bad_value_is_named_with_its_own_line(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    message = _refused(tmp_path, GOOD.replace(old, new))
    assert f"bad.yaml, line {line}: " in message
    assert says in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("- alpha\n", 1, id="a list"),
        pytest.param("pairs: 3\n", 1, id="pairs is a number"),
        pytest.param("pairs: []\nmore: 1\n", 2, id="another key"),
        pytest.param("pairs: []\npairs: []\n", 2, id="pairs twice"),
        pytest.param("pairs:\n  - just text\n", 2, id="a row that is text"),
        pytest.param("pairs: []\n---\npairs: []\n", 2, id="two documents"),
        pytest.param(b"pairs: []\n# \xff\n", 2, id="not UTF-8"),
        pytest.param("#\n" * 500_001, 500_001, id="too large"),
        pytest.param("[" * 900_000, 1, id="nesting bomb"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, line: int
) -> None:
    assert f"bad.yaml, line {line}: " in _refused(tmp_path, text)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/name:os.mkdir", "!x"])
def test_a_tag_cannot_run_code(tmp_path: Path, tag: str) -> None:
    made = tmp_path / "made"
    for value in (f"{tag} [{made}]", f"{tag} {{a: {made}}}", f"{tag} {made}"):
        message = _refused(tmp_path, GOOD + f"    notes: {value}\n")
        assert "line 7" in message
        assert "not allowed" in message
    assert not made.exists()


def test_a_missing_bundled_file_is_an_error_and_a_missing_user_file_is_not(
    tmp_path: Path, bundled: Path
) -> None:
    absent = tmp_path / "absent.yaml"
    with pytest.raises(RegistryError, match=r"absent\.yaml cannot be read"):
        load_registry([absent])
    registry = load_registry([bundled, absent])
    assert ([pair.name for pair in registry.pairs], registry.problems) == (["alpha"], ())


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "pairs:\n"])
def test_a_users_file_may_be_empty(tmp_path: Path, bundled: Path, text: str) -> None:
    registry = load_registry([bundled, _write(tmp_path / "user.yaml", text)])
    assert (registry.user, registry.problems) == ((), ())


USER = """\
pairs:
  - name: mine
    title: Mine
    family: qwen3
    target: {path: /models/target}
  - name: broken
    title: Broken
    family: qwen3
    target: {repo: org/Target, revision: main}
  - name: alpha
    title: Taken
    family: qwen3
    target: {repo: org/Other}
  - name: last
    title: Last
    family: qwen3
    target: {repo: org/Target}
    drafter: {path: /models/drafter}
"""


@pytest.fixture
def mixed(tmp_path: Path, bundled: Path) -> Registry:
    return load_registry([bundled, _write(tmp_path / "user.yaml", USER)])


def test_bad_rows_of_the_user_leave_the_good_ones_and_stay_apart(mixed: Registry) -> None:
    assert [pair.name for pair in mixed.bundled] == ["alpha"]
    assert [pair.name for pair in mixed.user] == ["mine", "last"]
    assert [pair.name for pair in mixed.pairs] == ["alpha", "mine", "last"]
    assert mixed.get("alpha").title == "Alpha"


def test_bad_rows_of_the_user_are_named(tmp_path: Path, mixed: Registry) -> None:
    broken, taken = (str(problem) for problem in mixed.problems)
    user = tmp_path / "user.yaml"
    assert broken.startswith(f"{user}, line 9: pair 'broken', target.revision: ")
    assert taken.startswith(f"{user}, line 10: ")
    assert f"{tmp_path / 'bundled.yaml'}, line 2" in taken


def test_a_users_file_that_is_no_yaml_leaves_the_bundled_rows(
    tmp_path: Path, bundled: Path
) -> None:
    registry = load_registry([bundled, _write(tmp_path / "user.yaml", "pairs: [\n")])
    assert [pair.name for pair in registry.pairs] == ["alpha"]
    assert "user.yaml, line 2: not valid YAML" in str(registry.problems[0])


def test_a_duplicate_in_the_bundled_file_names_both_lines(tmp_path: Path) -> None:
    message = _refused(tmp_path, GOOD + GOOD.removeprefix("pairs:\n"))
    assert "bad.yaml, line 7: the name 'alpha' is already taken in " in message
    assert "bad.yaml, line 2:" in message


def test_an_unknown_name_brings_close_ones(mixed: Registry) -> None:
    assert mixed.get("last").name == "last"
    with pytest.raises(UnknownPair, match="did you mean alpha"):
        mixed.get("ALPA")
    with pytest.raises(UnknownPair, match="dflash-app pairs"):
        mixed.get("x" * 100_000)


def test_a_composed_pair_is_found_by_name_and_is_no_row(mixed: Registry) -> None:
    pair = mixed.get("alpha").model_copy(update={"name": "alpha--other"})
    known = replace(mixed, composed=(pair,))
    assert known.get("alpha--other") is pair
    assert known.pairs == mixed.pairs


def test_loading_imports_neither_the_hub_library_nor_torch() -> None:
    code = (
        "import sys, dflash_app.registry.load, dflash_app.hub.cache; "
        "print({'huggingface_hub', 'torch', 'transformers', 'gradio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_borrowed_drafter_names_the_target_that_the_app_knows_it_for(
    bundled: Path, tmp_path: Path
) -> None:
    own = _write(
        tmp_path / "own.yaml",
        "pairs:\n"
        "  - {name: sibling, title: S, family: qwen3, target: {repo: org/Other},"
        " drafter: {repo: org/Alpha-DFlash}}\n"
        "  - {name: same, title: S, family: qwen3, target: {repo: org/Target},"
        " drafter: {repo: org/Alpha-DFlash}}\n"
        "  - {name: new, title: S, family: qwen3, target: {repo: org/Other},"
        " drafter: {repo: org/New}}\n"
        "  - {name: said, title: S, family: qwen3, target: {repo: org/Other},"
        " drafter: {repo: org/New}, trained_for: org/Third}\n",
    )
    registry = load_registry([bundled, own])
    assert registry.problems == ()
    known = {p.name: registry.with_trained_for(p).trained_for for p in registry.pairs}
    assert known == {
        "alpha": None, "sibling": "org/Target", "same": None, "new": None, "said": "org/Third",
    }  # fmt: skip
