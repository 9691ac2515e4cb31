"""What one lane leaves to the next: a chat's next turn reads only what is new in it."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from dflash_app.engine.prompt import common_length


class Context(Protocol):
    """What a drafter knows of the tokens before a block."""

    @property
    def length(self) -> int:
        """Tokens held."""

    def crop(self, length: int) -> None:
        """Keep the first tokens."""


class Savepoint(Protocol):
    """A cache at one length, to go back to later than its last forward."""

    length: int

    def restore(self, cache: Any, length: int) -> None:
        """Put a cache that holds `length` tokens back to what it was; the savepoint stays good."""


ContextT = TypeVar("ContextT", bound=Context)


class Prefix(Generic[ContextT]):
    """A text that was read: the target's cache, the drafter's context and the tokens in them.

    Args:
        cache: the target's, empty. Its `crop(-n)` forgets tokens of the last forward.
        context: the drafter's, empty.
        cut: takes -n tokens off a settled cache however many; False, and nothing is done, where
            the cache does not allow it.
        save: a savepoint of a cache that holds so many tokens.

    Attributes:
        cache: the target's.
        context: the drafter's. It may hold less than `cache`: a turn decoded without the drafter
            leaves no context, and none can be made afterwards.
        token_ids: what `cache` holds.
    """

    def __init__(
        self,
        cache: Any,
        context: ContextT,
        *,
        cut: Callable[[Any, int], bool],
        save: Callable[[Any, int], Savepoint],
    ) -> None:
        self.cache = cache
        self.context = context
        self.token_ids: list[int] = []
        self._cut, self._save = cut, save
        self._savepoint: Savepoint | None = None

    @property
    def length(self) -> int:
        """Tokens in the target's cache."""
        return len(self.token_ids)

    def crop(self, length: int) -> None:
        """Keep the first tokens; those that go are of the last forward.

        Args:
            length: how many stay.
        """
        # Called even where nothing goes: sliding layers drop what left their window here.
        self.cache.crop(length - self.length)
        self._forget(length)

    def set_savepoint(self) -> None:
        """Be able to go back to this length later; replaces the savepoint before."""
        self._savepoint = None
        self._savepoint = self._save(self.cache, self.length)

    def go_back(self, prompt_ids: Sequence[int], *, drafting: bool) -> None:
        """Keep what a prompt can reuse and forget the rest.

        That is the common prefix where the cache can be cut there, else the savepoint's length
        where that is not more, else nothing. The prompt's last token is never reused: its logits
        are needed.

        Args:
            prompt_ids: of the next turn.
            drafting: its drafter needs the context of all that is reused.
        """
        length = common_length(self.token_ids, prompt_ids[:-1])
        if drafting:
            length = min(length, self.context.length)
        if not self._cut(self.cache, length - self.length):
            saved = self._savepoint
            length = saved.length if saved is not None and saved.length <= length else 0
            if saved is not None and length:
                saved.restore(self.cache, self.length)
        self._forget(length)

    def _forget(self, length: int) -> None:
        del self.token_ids[length:]
        self.context.crop(length)
        if self._savepoint is not None and self._savepoint.length > length:
            self._savepoint = None


class PrefixSlot(Generic[ContextT]):
    """Room for what the last lane left: at most one prefix is kept, as each takes memory."""

    def __init__(self) -> None:
        self._kept: Prefix[ContextT] | None = None

    @property
    def length(self) -> int:
        """Tokens in what is kept."""
        return self._kept.length if self._kept is not None else 0

    def put(self, prefix: Prefix[ContextT]) -> None:
        """Keep a prefix; the one before is freed."""
        self._kept = prefix

    def take(
        self, prompt_ids: Sequence[int] = (), *, drafting: bool = False
    ) -> Prefix[ContextT] | None:
        """Empty the slot.

        Args:
            prompt_ids: what the next lane will read; nothing is reused without.
            drafting: see `Prefix.go_back`.

        Returns:
            The prefix, holding at least one token and only such that the prompt begins with; None
            where nothing can be reused, and what was kept is freed.
        """
        kept, self._kept = self._kept, None
        if kept is None:
            return None
        kept.go_back(prompt_ids, drafting=drafting)
        return kept if kept.length else None
