"""One run as the page sees it while it grows: text, figures, strip, notes."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean

from dflash_app.engine.protocol import LoadedPair, on_server
from dflash_app.events import (
    DecodeEvent,
    Finished,
    StepDone,
    TextDelta,
    notes_of,
    token_ids_of,
)
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.request import GenerationRequest, Policy
from dflash_app.session import experiments, where
from dflash_app.ui.components import render_events
from dflash_app.ui.format import format_count
from dflash_app.ui.language import Texts
from dflash_app.ui.strip import TokenStrip, render_empty_strip

_texts = Texts.load("run", Path(__file__).with_name("texts") / "run.yaml")


class RunView:
    """Collects the events of one run.

    Attributes:
        events: all but text, in their order.
        strip: the fate of the last tokens.
        policy: how long drafts are, None in AR and on a server; known once the pair is loaded.
        drafting: drafts were asked for, known likewise.
        where: device, precision and path, known once the pair is loaded.
        warnings: what the user should know of the loaded pair and of what is asked of it.
        token_texts: turns ids into printable text, known once the pair is loaded.
        ar_tok_s: the speed to compare with, None = unknown.
        stopped: the user ended the run.
        run_id: in the store, known once the run has begun; None where it could not be recorded.
    """

    def __init__(self, *, colour: bool = True) -> None:
        """Nothing has come yet.

        Args:
            colour: collect the fates of tokens for the strip.
        """
        self.events: list[DecodeEvent] = []
        self.strip = TokenStrip() if colour else None
        self.policy: Policy | None = None
        self.drafting = False
        self.where = ""
        self.warnings: tuple[str, ...] = ()
        self.token_texts: Callable[[Sequence[int]], list[str]] | None = None
        self.ar_tok_s: float | None = None
        self.stopped = False
        self.run_id: int | None = None
        self._parts: list[str] = []

    def know(self, loaded: LoadedPair, request: GenerationRequest) -> None:
        """Take what is known once the pair is loaded."""
        self.token_texts = loaded.token_texts
        # Who uses a page may be a stranger: where the server stands is the registry's business.
        self.where = loaded.path if on_server(loaded) else where(loaded, request)
        self.drafting = request.mode != "ar"
        self.policy = request.policy if self.drafting and not on_server(loaded) else None
        self.warnings = (*loaded.warnings, *experiments(loaded, request))

    def hints(self) -> str:
        """What to tell beside the figures of a run that has ended; "" where there is nothing."""
        return " ".join(self.warnings)

    def add(self, events: Iterable[DecodeEvent]) -> None:
        """Take the next events."""
        for event in events:
            if isinstance(event, TextDelta):
                self._parts.append(event.text)
                continue
            self.events.append(event)
            if self.strip is not None:
                self.strip.add(event)

    @property
    def text(self) -> str:
        """The output so far."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    @property
    def token_ids(self) -> list[int]:
        """Every output token so far."""
        return [token_id for event in self.events for token_id in token_ids_of(event)]

    @property
    def finished(self) -> Finished | None:
        """The last event of a run that has ended well."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, Finished) else None

    def metrics(self) -> RunMetrics:
        """The figures so far."""
        return summarize(self.events)

    def circumstances(self) -> str:
        """Where and with which drafts it was decoded, and what was not read again."""
        return "".join(self.sentences())

    def sentences(self) -> list[str]:
        """The same, each sentence apart with a space before it."""
        said = [_texts.say("ran_on", where=self.where)] if self.where else []
        widths = [len(event.drafted_ids) for event in self.events if isinstance(event, StepDone)]
        if self.policy is not None and widths:
            mean = f"{fmean(widths):.1f}".removesuffix(".0")
            said.append(_texts.say("draft_length", policy=_texts.say(self.policy), mean=mean))
        metrics = self.metrics()
        if metrics.num_reused_tokens:
            reused = format_count(metrics.num_reused_tokens)
            total = format_count(metrics.num_prompt_tokens)
            said.append(_texts.say("reused", reused=reused, total=total))
        return said + say_of_server(metrics, drafting=self.drafting)

    def render_notes(self) -> str:
        """What the engine told while it decoded, as AR fallback and why."""
        return render_events(notes_of(self.events))

    def render_strip(self) -> str:
        """The strip; short while the run goes on, "" where tokens are not coloured."""
        if self.strip is None:
            return ""
        if self.token_texts is None:
            return render_empty_strip()
        return self.strip.render(self.token_texts, live=self.finished is None)


def say_of_server(metrics: RunMetrics, *, drafting: bool) -> list[str]:
    """Who measured a server's run, a sentence each; empty for one of our own engine.

    Args:
        metrics: of the run.
        drafting: drafts were asked for.
    """
    if not metrics.at_client:
        return []
    said = [_texts.say("at_client")]
    if metrics.acceptance_source is not None:
        key = "counted_shared" if metrics.acceptance_shared else "counted"
        said.append(_texts.say(key, source=metrics.acceptance_source))
    elif drafting:
        said.append(_texts.say("uncounted"))
    return said
