from pathlib import Path

import pytest

from dflash_app.drafters.token_texts import TokenTexts
from dflash_app.drafters.tokenizer import load_tokenizer
from dflash_app.errors import LoadError
from dflash_app.settings import EMBEDDED_DIR

TARGET = EMBEDDED_DIR / "target"


def test_tokens_read_as_the_targets_own_tokenizer_reads_them() -> None:
    texts, own = TokenTexts(TARGET), load_tokenizer(TARGET)
    ids = [int(token_id) for token_id in own.encode("Nine divisors: 1, 2, 4, 7 — 九")]
    assert texts(ids) == [own.decode([token_id], skip_special_tokens=False) for token_id in ids]
    assert texts.decode(ids) == own.decode(ids, skip_special_tokens=False)
    assert texts.decode(ids).endswith("九")


def test_special_tokens_are_named_and_unknown_ids_are_empty() -> None:
    texts = TokenTexts(TARGET)
    assert texts([2, 10**7, -1]) == ["<|im_end|>", "", ""]
    assert texts([]) == []


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_folder_without_a_readable_tokenizer_is_refused(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(LoadError, match=r"tokenizer\.json"):
        TokenTexts(tmp_path)
