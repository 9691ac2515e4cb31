"""Telling an error for want of memory from others, without importing a tensor library."""

from collections.abc import Iterator
from contextlib import contextmanager

from dflash_app.errors import LoadError

_SIGNS = (
    "out of memory",
    "can't allocate",
    "cannot allocate memory",
    "not enough memory",
    "insufficient memory",  # Metal's, and so is the next one
    "maximum allowed buffer size",
    "unable to allocate",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch, MLX or Python says that there was no memory.

    PyTorch (on a CPU) and MLX raise RuntimeError, a file that is mapped into memory OSError: so
    the words decide, not only the class.
    """
    words = str(error).lower()
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or any(sign in words for sign in _SIGNS)


@contextmanager
def refusing(said: str) -> Iterator[None]:
    """Say what does not fit, where something is loaded.

    Args:
        said: the sentence, with its cures.

    Raises:
        LoadError: instead of an error for want of memory.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise LoadError(said) from error
