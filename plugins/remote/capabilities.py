"""What a server says of itself, as far as it says it."""

from dataclasses import dataclass
from typing import Literal

from dflash_app.errors import RequestError

Engine = Literal["vllm", "sglang", "llama.cpp", "unknown"]

TITLES: dict[Engine, str] = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "llama.cpp": "llama.cpp",
    "unknown": "OpenAI-compatible server",
}
"""How people write the engines."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server offers; its context in tokens, None where that is not told."""

    name: str
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was found out about a server; None means that it does not tell.

    Attributes:
        url: its base address, to which `/chat/completions` belongs.
        host: "gpu-box:8000".
        engine: "unknown" is asked for nothing that OpenAI's protocol lacks.
        version: of the engine.
        healthy: what `/health` says.
        models: that it serves.
        drafts: whether it decodes speculatively.
        num_drafts: tokens that it drafts in a step.
        can_switch_drafts: whether one request can be decoded without drafts.
        counted: whose acceptance it tells: that of each request, or of all that it serves.
        tells_token_ids: whether it sends the tokens beside their text.
    """

    url: str
    host: str
    engine: Engine
    version: str | None
    healthy: bool | None
    models: tuple[ServedModel, ...]
    drafts: bool | None = None
    num_drafts: int | None = None
    can_switch_drafts: bool = False
    counted: Literal["request", "server"] | None = None
    tells_token_ids: bool = False

    @property
    def label(self) -> str:
        """Engine and version, as "vLLM 0.32.0"."""
        return " ".join(filter(None, [TITLES[self.engine], self.version]))

    def model(self, name: str) -> ServedModel:
        """The model of that name.

        Raises:
            RequestError: it is not served; the message lists what is.
        """
        for model in self.models:
            if model.name == name:
                return model
        raise RequestError(say_missing(self.host, name, [model.name for model in self.models]))


_MOST_NAMED, _MOST_SHOWN = 12, 200
"""Names in a sentence, and characters of each."""


def say_missing(host: str, name: str, served: list[str]) -> str:
    """The sentence that a server lacks a model, with those that it has."""
    if not served:
        return f"{host} serves no model: start it with {name!r}."
    more = f" and {len(served) - _MOST_NAMED} more" if len(served) > _MOST_NAMED else ""
    named = ", ".join(repr(each[:_MOST_SHOWN]) for each in served[:_MOST_NAMED])
    return f"{host} serves no model {name!r}: choose one of those it has: {named}{more}."
