"""SGLang: acceptance of a request in its extension `sglext`.

Shapes: from its public source (entrypoints/openai/protocol.py, serving_chat.py, utils.py;
entrypoints/http_server.py), not from a running server.
"""

from dataclasses import replace
from typing import Any, Literal

from dflash_app.events import ServerCounts
from dflash_app.request import GenerationRequest

from .capabilities import Engine
from .counting import by_position, histogram_of, number
from .dialect import (
    Description,
    Dialect,
    served,
    switches,
    totals,
)
from .reply import Reply


class Sglang(Dialect):
    """What SGLang adds."""

    engine: Engine = "sglang"
    counted: Literal["request", "server"] | None = "request"

    def describe(self, cards: list[dict[str, Any]]) -> Description:
        """Version, context and speculation out of the arguments that it was started with."""
        told = self._info()
        version, algorithm = told.get("version"), told.get("speculative_algorithm")
        drafts = bool(algorithm) if "speculative_algorithm" in told else None
        # It counts the anchor: its draft tokens are a block.
        block = number(told.get("speculative_num_draft_tokens")) if drafts else None
        context = told.get("context_length")
        return Description(
            version=version if isinstance(version, str) else None,
            models=tuple(served(card, context) for card in cards),
            drafts=drafts,
            num_drafts=block - 1 if block else None,
        )

    def fields(self, request: GenerationRequest, *, drafting: bool) -> dict[str, Any]:
        """All of sampling, as what is left out comes from the model's own defaults."""
        sampling = request.sampling
        return {
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "return_spec_tokens_details": True,
            "top_k": sampling.top_k or -1,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            **switches(request),
        }

    def counts(self, reply: Reply, before: Any) -> ServerCounts | None:
        """Acceptance of this request where the version tells it."""
        own = (reply.extra.get("sglext") or {}).get("spec_tokens_details")
        if not own:
            return super().counts(reply, before)
        histogram = histogram_of(own.get("spec_correct_drafts_histogram"))
        return replace(
            totals(self.title, reply),
            num_steps=number(own.get("spec_verify_ct")),
            num_drafted=number(own.get("spec_num_proposed_drafts")),
            num_accepted=number(own.get("spec_num_correct_drafts")),
            accepted_by_position=by_position(histogram),
            histogram=histogram,
        )

    def _info(self) -> dict[str, Any]:
        """Of `/server_info`, which older versions call `/get_server_info`."""
        for path in ("/server_info", "/get_server_info"):
            told = self.server.ask(path, at_root=True).object()
            if told:
                return told
        return {}
