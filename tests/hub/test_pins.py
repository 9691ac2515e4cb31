"""Commits that branches were resolved to: recorded, used, and never in the way."""

from pathlib import Path

import pytest

from dflash_app.errors import RegistryError
from dflash_app.hub.known_pairs import PINS, load_known_pairs
from dflash_app.hub.pins import read_pins, write_pin

COMMIT, OTHER = "a" * 40, "b" * 40
ROWS = f"""pairs:
  - name: p
    title: P
    family: qwen3
    target: {{repo: org/t}}
    drafter: {{repo: org/d, revision: {OTHER}}}
"""


def test_a_pin_is_added_to_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / PINS
    assert read_pins(path) == {}
    write_pin(path, "org/t", COMMIT)
    write_pin(path, "org/d", OTHER)
    assert read_pins(path) == {"org/t": COMMIT, "org/d": OTHER}
    assert [each.name for each in path.parent.iterdir()] == [PINS]


def test_rows_without_a_revision_get_the_recorded_one_and_others_keep_theirs(
    tmp_path: Path,
) -> None:
    (tmp_path / "r.yaml").write_text(ROWS)
    for repo in ("org/t", "org/d"):
        write_pin(tmp_path / PINS, repo, COMMIT)
    (pair,) = load_known_pairs(tmp_path, tmp_path / "r.yaml", []).pairs
    assert pair.target.revision == COMMIT
    assert pair.drafter is not None
    assert pair.drafter.revision == OTHER


@pytest.mark.parametrize("text", ["", "[]", '{"org/t": "main"}', "[" * 100_000])
def test_a_damaged_file_is_a_problem_that_names_it_and_the_pairs_stay(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "r.yaml").write_text(ROWS)
    (tmp_path / PINS).write_text(text)
    registry = load_known_pairs(tmp_path, tmp_path / "r.yaml", [])
    assert [pair.target.revision for pair in registry.pairs] == [None]
    (problem,) = registry.problems
    assert str(tmp_path / PINS) in str(problem)
    with pytest.raises(RegistryError):
        write_pin(tmp_path / PINS, "org/t", COMMIT)
    assert (tmp_path / PINS).read_text() == text


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot be"):
        write_pin(tmp_path / "file" / PINS, "org/t", COMMIT)
