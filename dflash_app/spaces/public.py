"""A page for strangers: which pairs it offers, and how much of them a visitor may ask for."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dflash_app.errors import RegistryError, RequestError
from dflash_app.hub.cache import pair_state
from dflash_app.hub.choices import with_composed
from dflash_app.hub.known_pairs import load_known_pairs
from dflash_app.registry.load import Registry
from dflash_app.request import GenerationRequest
from dflash_app.settings import PublicLimits, Settings

_PATH = re.compile(r"(?<![\w:/.])(?:/[^\s/'\"`,;:()]+){2,}/?")
"""An absolute path of two names or more; no part of an address."""
_SERVER = re.compile(
    r"https?://(?!(?:\w+\.)?(?:huggingface\.co|hf\.co)\b)[^\s'\"`,;()]+|"
    r"(?:https?://)?(?!\d{1,2}:\d{2}\b)(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):\d{2,5}\b(?:/[\w.%~/-]*)?"
)
"""An address, or host and port alone; neither a time of day ("23:05") nor the hub's own pages."""


def check_limits(requests: Sequence[GenerationRequest], limits: PublicLimits | None) -> None:
    """Refuse what is too much for one visitor; None allows all.

    Raises:
        RequestError: naming the limit.
    """
    if limits is None:
        return
    for request in requests:
        num_chars = sum(len(message.content) for message in request.messages)
        if num_chars > limits.max_prompt_chars:
            raise RequestError(
                f"The conversation has {num_chars:,} characters and this public page takes "
                f"{limits.max_prompt_chars:,}: shorten it or start a new one."
            )
        if request.max_new_tokens > limits.max_new_tokens:
            raise RequestError(
                f"max_new_tokens is {request.max_new_tokens:,} and this public page gives "
                f"{limits.max_new_tokens:,}: ask for no more than that."
            )


def hide_paths(text: str) -> str:
    """A sentence for strangers: where this machine keeps its files is not theirs to know.

    Neither is at which host and port a server stands.
    """
    return _PATH.sub("…", _SERVER.sub("…", text))


def load_offered_pairs(settings: Settings, bundled: Path, others: Sequence[Path]) -> Registry:
    """The registry in use, with the pairs that the page offers.

    Those of DFLASH_APP_PAIRS, else all; a public page, where nobody can download, offers those
    that are on this machine. It offers a server only where DFLASH_APP_PAIRS names its pair.

    Args:
        settings: says which.
        bundled: the app's own registry file.
        others: the user's and the plugins' files.

    Raises:
        RegistryError: as `load_known_pairs` and `offer_only`.
    """
    registry = load_known_pairs(settings.home, bundled, others)
    if settings.pairs is not None:
        return offer_only(registry, settings.pairs)
    if settings.public is None:
        return registry
    here = [
        pair.name
        for pair in registry.pairs
        if not pair.remote and pair_state(pair).status == "ready"
    ]
    return offer_only(registry, here)


def offer_only(registry: Registry, names: Sequence[str]) -> Registry:
    """The registry with the named pairs, in its own order, and what is composed of them.

    Raises:
        RegistryError: a name that it does not know.
    """
    known = [pair.name for pair in registry.pairs]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RegistryError(
            f"DFLASH_APP_PAIRS names {unknown[0][:80]!r}, which no registry knows: `dflash-app "
            "pairs` lists the names."
        )
    bundled = tuple(pair for pair in registry.bundled if pair.name in names)
    user = tuple(pair for pair in registry.user if pair.name in names)
    return with_composed(replace(registry, bundled=bundled, user=user, composed=()))
