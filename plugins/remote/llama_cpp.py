"""llama.cpp: drafts of a request in its `timings`.

Shapes: from its public source (tools/server/server-task.cpp, server-schema.cpp,
server-context.cpp), not from a running server.
"""

from dataclasses import replace
from typing import Any, Literal

from dflash_app.errors import RequestError
from dflash_app.events import ServerCounts
from dflash_app.request import GenerationRequest

from .capabilities import Engine
from .counting import number, seconds
from .dialect import Description, Dialect, served, switches, totals
from .reply import Reply

_LARGEST_SEED = 2**32 - 2
"""The next one means a random seed to it."""

_NOTHING_MORE = {
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "typical_p": 1.0,
    "top_n_sigma": -1.0,
    "xtc_probability": 0.0,
    "dry_multiplier": 0.0,
    "dynatemp_range": 0.0,
    "mirostat": 0,
}
"""Samplers that it has beyond ours, off: its command line or the model's file may set them."""

_WHOLE_CONTEXT = 1_000_000
"""Tokens that the repetition penalty looks back over; its own default is 64."""


class LlamaCpp(Dialect):
    """What llama.cpp adds."""

    engine: Engine = "llama.cpp"
    counted: Literal["request", "server"] | None = "request"

    def describe(self, cards: list[dict[str, Any]]) -> Description:
        """Build, context of a slot, and speculation, out of `/props`."""
        told = self.server.ask("/props", at_root=True).object()
        settings = told.get("default_generation_settings") or {}
        params = settings.get("params") or {}
        version = told.get("build_info")
        most = number(params.get("speculative.n_max"))
        return Description(
            version=version if isinstance(version, str) else None,
            models=tuple(served(card, settings.get("n_ctx")) for card in cards),
            drafts=self._drafts(params),
            num_drafts=most or None,
            # Versions that show this setting take it with a request; the later ones do neither.
            can_switch_drafts=most is not None,
        )

    def fields(self, request: GenerationRequest, *, drafting: bool) -> dict[str, Any]:
        """All of sampling, under its own names."""
        sampling = request.sampling
        if sampling.seed is not None and sampling.seed > _LARGEST_SEED:
            raise RequestError(f"llama.cpp takes seeds up to {_LARGEST_SEED}: choose another.")
        penalty: dict[str, Any] = {"repeat_penalty": sampling.repetition_penalty}
        if sampling.penalises:
            penalty["repeat_last_n"] = _WHOLE_CONTEXT
        return {
            "stream_options": {"include_usage": True},
            "timings_per_token": True,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            **_NOTHING_MORE,
            **penalty,
            **({} if drafting else {"speculative.n_max": 0}),
            **switches(request),
        }

    def counts(self, reply: Reply, before: Any) -> ServerCounts | None:
        """Drafts of this request; it tells no steps, but they follow from its totals."""
        timings = reply.extra.get("timings") or {}
        if not timings:
            return super().counts(reply, before)
        told = totals(self.title, reply)
        output = told.num_output_tokens or number(timings.get("predicted_n"))
        drafted = number(timings.get("draft_n")) or 0
        accepted = number(timings.get("draft_n_accepted")) or 0
        # A step puts out its accepted drafts and one token more; the prompt's gives the first.
        steps = output - 1 - accepted if output and drafted else None
        cached = number(timings.get("cache_n"))
        return replace(
            told,
            num_reused=told.num_reused if cached is None else cached,
            num_output_tokens=output,
            num_steps=steps if steps and steps > 0 else None,
            num_drafted=drafted,
            num_accepted=accepted,
            decode_s=seconds(timings.get("predicted_ms")),
        )

    def _drafts(self, params: dict[str, Any]) -> bool | None:
        """Whether it speculates: by its default settings, or by its first slot."""
        types = params.get("speculative.types")
        if isinstance(types, str) and types:
            return types != "none"
        slots = self.server.ask("/slots", at_root=True).json()
        if isinstance(slots, list) and slots and isinstance(slots[0], dict):
            told = slots[0].get("speculative")
            return told if isinstance(told, bool) else None
        return None
