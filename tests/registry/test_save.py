"""Rows come and go; comments, other rows and a file with an error stay as they are."""

from pathlib import Path

import pytest

from dflash_app.errors import RegistryError
from dflash_app.registry.load import load_registry
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.registry.save import append_pair, remove_pair

TWO = """\
# mine, do not touch
pairs:
  # the first
  - name: alpha   # a name
    title: "Alpha: one"
    family: qwen3
    target: {repo: org/T}

  # the second
  - name: beta
    title: Beta
    family: qwen3
    target: {repo: org/T}
    thinking: "off"
# the end
"""


def _pair(name: str = "mine", **changes: object) -> Pair:
    row: dict[str, object] = {
        "name": name,
        "title": "Ünï: “#1” - [x]",
        "family": "unknown",
        "target": ModelRef(repo="org/T", revision="0123456"),
        "drafter": ModelRef(path="/models/it's: mine"),
        "thinking": "off",
        "block_size": 8,
    }
    return Pair.model_validate(row | changes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "model_registry.yaml"


def _write(file: Path, text: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_first_pair_makes_the_file_and_reads_back_as_it_was(file: Path) -> None:
    append_pair(file, _pair())
    assert load_registry([file]).pairs == (_pair(),)
    append_pair(file, _pair("second"))
    assert load_registry([file]).pairs == (_pair(), _pair("second"))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_comments_and_other_rows_stay_letter_by_letter(file: Path) -> None:
    _write(file, TWO)
    append_pair(file, _pair())
    assert file.read_text(encoding="utf-8").startswith(TWO)
    assert load_registry([file]).get("mine") == _pair()
    remove_pair(file, "mine")
    assert file.read_text(encoding="utf-8") == TWO


def test_a_removed_row_takes_its_lines_and_no_comment_of_the_next(file: Path) -> None:
    _write(file, TWO)
    remove_pair(file, "alpha")
    left = file.read_text(encoding="utf-8")
    assert left == (
        "# mine, do not touch\npairs:\n  # the first\n\n  # the second\n" + TWO.split("second\n")[1]
    )
    remove_pair(file, "beta")
    assert load_registry([file]).pairs == ()
    append_pair(file, _pair())
    assert load_registry([file]).pairs == (_pair(),)
    assert "# the end" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "pairs:\n",
        "pairs: []\n",
        "pairs: [{name: alpha, title: A, family: x, target: {repo: org/T}}]",
        "pairs:\n- name: alpha\n  title: A\n  family: x\n  target: {repo: org/T}",
        "pairs:\n  -\n     name: alpha\n     title: A\n     family: x\n     target: {repo: o/T}\n",
        "pairs:\n  - {name: alpha, title: A, family: x, target: {repo: org/T}}\n",
        "---\npairs:\n  - name: alpha\n    title: A\n    family: x\n    target: {repo: o/T}\n...\n",
    ],
)
def test_every_way_to_write_the_list_takes_a_row_and_gives_it_back(file: Path, text: str) -> None:
    before = load_registry([_write(file, text)]).pairs
    append_pair(file, _pair())
    assert load_registry([file]).pairs == (*before, _pair())
    for pair in before:
        remove_pair(file, pair.name)
    assert load_registry([file]).pairs == (_pair(),)


@pytest.mark.parametrize("text", ["pairs: [", "pairs:\n  - name: x\n", "other: 1\n", "pairs: \x01"])
def test_a_file_with_an_error_is_never_overwritten(file: Path, text: str) -> None:
    _write(file, text)
    for change in (lambda: append_pair(file, _pair()), lambda: remove_pair(file, "x")):
        with pytest.raises(RegistryError, match=r"Nothing was saved: .*line \d"):
            change()
    assert file.read_text() == text


def test_a_name_that_is_not_there_is_said(file: Path) -> None:
    with pytest.raises(RegistryError, match="has no pair 'x'"):
        remove_pair(_write(file, TWO), "x")


def test_a_file_that_would_grow_too_large_to_read_is_left(file: Path) -> None:
    _write(file, TWO + "#" * (999_900 - len(TWO)) + "\n")
    with pytest.raises(RegistryError, match="would grow beyond"):
        append_pair(file, _pair())
    assert len(load_registry([file]).pairs) == 2


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(RegistryError, match=r"cannot be written \(.*\): free space"):
        append_pair(tmp_path / "home" / "model_registry.yaml", _pair())


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text(TWO)
    file.parent.mkdir()
    file.symlink_to(real)
    append_pair(file, _pair())
    assert file.is_symlink()
    assert len(load_registry([real]).pairs) == 3


def test_a_server_reads_back_as_it_was_and_survives_other_rows(file: Path) -> None:
    ref = ModelRef(server="http://gpu-box:8000/v1", model="org/T: the best")
    served = _pair("served", target=ref, drafter=ref, backends=("remote",))
    append_pair(file, served)
    append_pair(file, _pair())
    assert load_registry([file]).pairs == (served, _pair())
    remove_pair(file, "mine")
    assert load_registry([file]).get("served") == served
