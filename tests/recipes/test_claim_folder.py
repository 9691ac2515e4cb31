"""A folder's stages are taken up by the recipe that began them, and by no other."""

import sys
from dataclasses import replace

import pytest

from dflash_app.errors import TrainingError
from recipes.embedded_pair.__main__ import claim_folder, main, make_pair
from recipes.embedded_pair.config import SHORT

QUESTIONS = frozenset({"what is 1 + 1?", "what is 2 + 2?"})


def test_a_new_or_an_empty_folder_is_taken_and_later_gone_on_with(tmp_path):
    for out in (tmp_path / "deep" / "new", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        claim_folder(SHORT, QUESTIONS, out)
        (out / "tokenizer.json").touch()
        claim_folder(SHORT, QUESTIONS, out)
        assert (out / "recipe.json").is_file()


@pytest.mark.parametrize(
    ("recipe", "questions"),
    [
        (replace(SHORT, drafter_steps=SHORT.drafter_steps + 1), QUESTIONS),
        (replace(SHORT, target=replace(SHORT.target, matrix_lr=1e-3)), QUESTIONS),
        (SHORT, QUESTIONS | {"what is 3 + 3?"}),
    ],
)
def test_the_folder_of_another_recipe_or_other_questions_is_refused(tmp_path, recipe, questions):
    claim_folder(SHORT, QUESTIONS, tmp_path)
    before = (tmp_path / "recipe.json").read_bytes()
    with pytest.raises(TrainingError, match="delete the folder or choose another --out"):
        claim_folder(recipe, questions, tmp_path)
    assert (tmp_path / "recipe.json").read_bytes() == before


@pytest.mark.timeout(60)
def test_files_of_nobody_knows_what_recipe_are_refused_before_anything_is_made(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TrainingError, match="another recipe"):
        make_pair(SHORT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


@pytest.mark.timeout(60)
def test_the_command_says_so_in_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "recipe.json").write_bytes(b"\xff")
    monkeypatch.setattr(sys, "argv", ["embedded_pair", "--short", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^Error: .* choose another --out\.$"):
        main()
