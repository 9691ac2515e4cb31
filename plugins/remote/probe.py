"""Finding out what stands behind an address: the engine first, then what it tells of itself."""

from typing import Any

from .capabilities import Capabilities, Engine
from .client import ASK_S, CONNECT_RETRIES, Answer, Server
from .dialect import Dialect
from .faults import unreadable
from .keys import ANY_SERVER
from .llama_cpp import LlamaCpp
from .sglang import Sglang
from .vllm import Vllm

DIALECTS: dict[Engine, type[Dialect]] = {
    kind.engine: kind for kind in (Vllm, Sglang, LlamaCpp, Dialect)
}

_OWNERS: dict[str, Engine] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp"}
"""What the engines write as the owner of their models."""

_MARKS: tuple[tuple[str, str, Engine], ...] = (
    ("/server_info", "speculative_algorithm", "sglang"),
    ("/get_server_info", "speculative_algorithm", "sglang"),
    ("/props", "default_generation_settings", "llama.cpp"),
)
"""Where the owner tells nothing: a route, and what only that engine answers there."""


_MAX_VERSION_CHARS = 60


def probe(
    url: str,
    key: str | None = None,
    *,
    variable: str = ANY_SERVER,
    timeout_s: float = ASK_S,
) -> Capabilities:
    """Ask a server what it is and what it serves; a few small requests, each tried once.

    Args:
        url: its base address without credentials, with `/v1` or without.
        key: see `keys`.
        variable: where the key is set, for what errors say.
        timeout_s: of each request: to connect, and of silence.

    Returns:
        What it tells; `url` is the address to save.

    Raises:
        ServerError: nothing answers there, it is no OpenAI-compatible server, it refuses the key,
            or it redirects.
        RequestError: the key cannot be sent.
    """
    server, _, capabilities = reach(url, key, variable=variable, timeout_s=timeout_s, retries=0)
    server.close()
    return capabilities


def reach(
    url: str,
    key: str | None,
    *,
    variable: str = ANY_SERVER,
    timeout_s: float = ASK_S,
    retries: int = CONNECT_RETRIES,
) -> tuple[Server, Dialect, Capabilities]:
    """A server that answers, how to talk to it, and what it tells: see `probe`."""
    server = Server(url, key, variable=variable, ask_s=timeout_s, retries=retries)
    try:
        cards = _find_models(server)
        engine = _find_engine(server, cards)
        dialect = DIALECTS[engine](server)
        try:
            told = dialect.describe(cards)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise unreadable(server.host, "a description that cannot be read") from error
        health = server.ask("/health", at_root=True).status
        known = health == 200 or health >= 500
        capabilities = Capabilities(
            url=server.url,
            host=server.host,
            engine=engine,
            version=_short(told.version),
            healthy=health == 200 if known else None,
            models=told.models,
            drafts=told.drafts,
            num_drafts=told.num_drafts,
            can_switch_drafts=told.can_switch_drafts,
            counted=dialect.counted,
            tells_token_ids=dialect.tells_token_ids,
        )
    except BaseException:
        server.close()
        raise
    return server, dialect, capabilities


def _short(version: str | None) -> str | None:
    """As the run log may hold it."""
    kept = "".join(filter(str.isprintable, version or ""))
    return kept[:_MAX_VERSION_CHARS] or None


def _find_models(server: Server) -> list[dict[str, Any]]:
    """The list of models; the server's address becomes the one where that list is."""
    answer = server.ask("/models")
    cards = _cards(answer)
    # Not every server says by a 404 that its list is elsewhere.
    if cards is None and answer.status in (200, 404) and not server.url.endswith("/v1"):
        server.url = f"{server.root}/v1"
        answer = server.ask("/models")
        cards = _cards(answer)
    if cards is not None:
        return cards
    raise answer.fault or unreadable(server.host, "no list of models")


def _cards(answer: Answer) -> list[dict[str, Any]] | None:
    cards = answer.object().get("data")
    good = isinstance(cards, list) and all(
        isinstance(card, dict) and isinstance(card.get("id"), str) for card in cards
    )
    return cards if good else None


def _find_engine(server: Server, cards: list[dict[str, Any]]) -> Engine:
    for card in cards:
        if engine := _OWNERS.get(str(card.get("owned_by"))):
            return engine
    for path, mark, engine in _MARKS:
        if mark in server.ask(path, at_root=True).object():
            return engine
    return "unknown"
