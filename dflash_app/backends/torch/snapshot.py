"""A cache of any kind that goes back: a copy of it returns and the kept tokens are read again."""

from copy import deepcopy
from typing import Any

from torch import Tensor
from transformers import DynamicCache


class SnapshotCache(DynamicCache):
    """Right for every cache, and slow: each block costs a copy, each rejection a second forward.

    Args:
        model: from transformers; reads the kept tokens again.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(config=model.config)
        self._model = model
        self._before: list[Any] | None = None
        self._token_ids: Tensor | None = None

    def begin(self, token_ids: Tensor) -> None:
        """Copy what is held, before a forward.

        Args:
            token_ids: [T] int64, what the forward reads.
        """
        self._before, self._token_ids = None, token_ids
        if token_ids.shape[0] > 1:  # of a single token nothing can be rejected
            self._before = deepcopy(self.layers)

    def crop(self, tokens_to_remove: int) -> None:
        """Forget tokens of the last forward; see `rollback.RewindableCache`.

        Raises:
            ValueError: they are not all of the last forward, or nothing of it would stay.
        """
        before, token_ids = self._before, self._token_ids
        self._before = self._token_ids = None
        if tokens_to_remove == 0:
            return
        if before is None or token_ids is None or token_ids.shape[0] + tokens_to_remove < 1:
            raise ValueError(
                "a snapshot goes back within the last forward only, "
                f"not by {-tokens_to_remove} tokens"
            )
        self.layers = before
        self._model(
            input_ids=token_ids[None, :tokens_to_remove],
            past_key_values=self,
            use_cache=True,
            logits_to_keep=1,
        )
