import json
from pathlib import Path
from typing import Any

import pytest

from dflash_app.hub.target_files import read_chat_template, read_sampling
from dflash_app.registry.pair import Sampling


def write(folder: Path, name: str, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_template_is_found_in_its_own_file_or_in_the_tokenizers(tmp_path: Path) -> None:
    assert read_chat_template(tmp_path) is None
    write(tmp_path, "tokenizer_config.json", {"chat_template": "old"})
    assert read_chat_template(tmp_path) == "old"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    write(tmp_path, "tokenizer_config.json", {"chat_template": named})
    assert read_chat_template(tmp_path) == "d"
    write(tmp_path, "chat_template.jinja", "new")
    assert read_chat_template(tmp_path) == "new"


def test_the_targets_own_sampling_is_read(tmp_path: Path) -> None:
    config = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
    expected = Sampling(temperature=0.6, top_p=0.95, top_k=20)
    assert read_sampling(write(tmp_path, "generation_config.json", config)) == expected


@pytest.mark.parametrize(
    "content",
    [
        {}, {"do_sample": False, "temperature": 0.6}, {"do_sample": True, "temperature": 9},
        {"do_sample": True, "top_k": "many"}, "[1]", "{", "null", {"chat_template": ["d", None]},
    ],
)  # fmt: skip
def test_a_file_that_says_nothing_possible_recommends_nothing(tmp_path: Path, content: Any) -> None:
    assert read_sampling(write(tmp_path, "generation_config.json", content)) is None
    write(tmp_path, "tokenizer_config.json", content)
    assert read_chat_template(tmp_path) is None
