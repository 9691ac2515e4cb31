"""Tokens as text by a model folder's tokenizer.json alone: no weights, no transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dflash_app.drafters.vocabulary import FILE_NAME
from dflash_app.errors import LoadError


class TokenTexts:
    """Turns the ids of a target's tokens into text."""

    def __init__(self, folder: Path) -> None:
        """Read the folder's tokenizer.json.

        Args:
            folder: the target's.

        Raises:
            LoadError: it has none, or a damaged one.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise LoadError(f"{folder} has no {FILE_NAME}: its tokens are known by number only.")
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing more special
            raise LoadError(f"{path} cannot be read: download the target again.") from error

    def __call__(self, token_ids: Sequence[int]) -> list[str]:
        """Each token on its own: special tokens by name, parts of a character as U+FFFD."""
        texts = []
        for token_id in token_ids:
            text = self.decode([token_id])
            spelling = self._tokenizer.id_to_token(max(token_id, 0)) or ""
            # SentencePiece decoders take the space before the first word away.
            lost = spelling.startswith("\u2581") and not text.startswith(" ")
            texts.append(f" {text}" if lost else text)
        return texts

    def decode(self, token_ids: Sequence[int]) -> str:
        """The tokens as one text; ids that no token has are left out."""
        known = [token_id for token_id in token_ids if token_id >= 0]
        return str(self._tokenizer.decode(known, skip_special_tokens=False))
