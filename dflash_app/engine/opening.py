"""Models that are loaded on a worker thread of their own become a pair that is ready to run."""

from collections.abc import Callable
from typing import Any

from dflash_app.engine.local import LocalPair
from dflash_app.engine.protocol import LoadedModels
from dflash_app.engine.worker import Worker
from dflash_app.errors import DFlashAppError, LoadError

Load = Callable[[tuple[int, ...]], tuple[LoadedModels, tuple[str, ...]]]
"""Given the ids that end a turn: the models, and warnings, a sentence each."""


def open_pair(
    name: str,
    backend: str,
    tokenizer: Any,
    load: Load,
    refuse: Callable[[Exception, str], LoadError],
) -> LocalPair:
    """Start a worker thread, load on it, and give both to a pair.

    Args:
        name: of the pair.
        backend: its name.
        tokenizer: the target's.
        load: called on the worker.
        refuse: what to raise for an error that is not ours, given its class and first line.

    Raises:
        DFlashAppError: as `load` raises it, or what `refuse` makes of another error.
    """
    eos_id = getattr(tokenizer, "eos_token_id", None)
    eos_ids = () if eos_id is None else (int(eos_id),)
    worker = Worker(f"decode-{name}")
    try:
        models, warnings = worker.call(lambda: load(eos_ids))
    except BaseException as error:
        worker.close()
        if isinstance(error, DFlashAppError) or not isinstance(error, Exception):
            raise
        summary = next(iter(str(error).splitlines()), "")[:200]
        raise refuse(error, f"{type(error).__name__}: {summary}") from error
    return LocalPair(
        name=name,
        backend=backend,
        tokenizer=tokenizer,
        models=models,
        worker=worker,
        warnings=warnings,
    )
