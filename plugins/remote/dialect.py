"""What engines add to OpenAI's protocol: asked of the engine that was found, and of no other."""

from dataclasses import dataclass
from typing import Any, Literal

from dflash_app.errors import RequestError
from dflash_app.events import ServerCounts
from dflash_app.request import GenerationRequest

from .capabilities import TITLES, Engine, ServedModel
from .client import Server
from .counting import number
from .reply import Reply


@dataclass(frozen=True, slots=True)
class Description:
    """What an engine's own routes tell; see `Capabilities`."""

    version: str | None = None
    models: tuple[ServedModel, ...] = ()
    drafts: bool | None = None
    num_drafts: int | None = None
    can_switch_drafts: bool = False


class Dialect:
    """OpenAI's protocol and no more; the engines' own are its subclasses.

    Attributes:
        engine: which it is for.
        counted: see `Capabilities`.
        tells_token_ids: see `Capabilities`.
        drafts: whether it drafts, as the newest look says: it may have been started anew since it
            was reached; None where that cannot be seen.
    """

    engine: Engine = "unknown"
    counted: Literal["request", "server"] | None = None
    tells_token_ids = False
    drafts: bool | None = None

    def __init__(self, server: Server) -> None:
        """Speak it with one server."""
        self.server = server

    @property
    def title(self) -> str:
        """The engine's name for people."""
        return TITLES[self.engine]

    def describe(self, cards: list[dict[str, Any]]) -> Description:
        """Ask the engine about itself.

        Args:
            cards: the entries of its list of models.
        """
        return Description(models=tuple(served(card) for card in cards))

    def fields(self, request: GenerationRequest, *, drafting: bool) -> dict[str, Any]:
        """What a chat asks beyond what every server takes.

        Args:
            request: the turn.
            drafting: False switches drafts off where that is possible.

        Raises:
            RequestError: the server is not known to take what is asked.
        """
        sampling = request.sampling
        for name, asked in (
            ("top_k", sampling.top_k != 0),
            ("min_p", sampling.min_p != 0),
            ("repetition_penalty", sampling.penalises),
            ("a thinking switch", request.thinking is not None),
        ):
            if asked:
                raise RequestError(
                    f"{self.server.host} is of an unknown kind, which may not take {name}: leave "
                    "that at its default."
                )
        return {"stream_options": {"include_usage": True}}

    def before(self) -> Any:
        """What must be known before a request to tell it from others; not part of its time."""
        return None

    def counts(self, reply: Reply, before: Any) -> ServerCounts | None:
        """What the server says of a run that is through; None where it says nothing.

        Args:
            reply: all of it.
            before: from `before`.
        """
        if not reply.usage:
            return None
        return totals(self.title, reply)


def totals(source: str, reply: Reply) -> ServerCounts:
    """What every server may tell: tokens of prompt and output, and those reused."""
    usage = reply.usage
    details = usage.get("prompt_tokens_details") or {}
    return ServerCounts(
        source=source,
        num_prompt_tokens=number(usage.get("prompt_tokens")),
        num_reused=number(details.get("cached_tokens")),
        num_output_tokens=number(usage.get("completion_tokens")),
    )


def switches(request: GenerationRequest) -> dict[str, Any]:
    """How thinking is told to engines that hand variables to the chat template."""
    thinking = request.thinking
    if thinking is None:
        return {}
    if thinking in ("on", "off"):
        names = ("enable_thinking", "thinking")
        return {"chat_template_kwargs": dict.fromkeys(names, thinking == "on")}
    level = {"reasoning_effort": thinking}
    return {**level, "chat_template_kwargs": level}


def served(card: dict[str, Any], context_length: Any = None) -> ServedModel:
    """A model out of a server's list."""
    told = number(card.get("max_model_len"))
    return ServedModel(str(card["id"]), told or number(context_length))
