"""Models that are loaded on a worker thread of their own become a pair that is ready to run."""

from collections.abc import Callable
from typing import Any

from dflash_app.engine.local import LocalPair
from dflash_app.engine.protocol import LoadedModels, LoadedPair
from dflash_app.engine.racing import Entrant
from dflash_app.engine.worker import Worker
from dflash_app.errors import DFlashAppError, LoadError, RequestError

Load = Callable[[tuple[int, ...]], tuple[LoadedModels, tuple[str, ...]]]
"""Given the ids that end a turn: the models, and warnings, a sentence each."""


def open_pair(
    name: str,
    backend: str,
    tokenizer: Any,
    load: Load,
    refuse: Callable[[Exception, str], LoadError],
    *,
    host: LoadedPair | None = None,
) -> LocalPair:
    """Load on a worker thread, a new one or that of another pair, and give both to a pair.

    Args:
        name: of the pair.
        backend: its name.
        tokenizer: the target's.
        load: called on the worker.
        refuse: what to raise for an error that is not ours, given its class and first line.
        host: a pair of the same backend whose thread is shared, and ends with it.

    Raises:
        RequestError: the host has no thread to share.
        DFlashAppError: as `load` raises it, or what `refuse` makes of another error.
    """
    eos_ids = end_ids(tokenizer)
    if host is not None and not isinstance(host, Entrant):
        raise RequestError(f"{name!r} cannot be loaded beside {host.name!r}: load it alone.")
    worker = Worker(f"decode-{name}") if host is None else host.worker
    try:
        models, warnings = worker.call(lambda: load(eos_ids))
    except BaseException as error:
        if host is None:
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
        guest=host is not None,
        warnings=warnings,
    )


def end_ids(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end a turn by the tokenizer's own word."""
    eos_id = getattr(tokenizer, "eos_token_id", None)
    return () if eos_id is None else (int(eos_id),)
