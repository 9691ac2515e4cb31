"""One run as the page sees it while it grows: text, figures, strip, notes."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from dflash_app.engine.protocol import LoadedPair
from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone, TextDelta, notes_of
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.request import GenerationRequest, Policy
from dflash_app.session import experiments, where
from dflash_app.ui.components import render_events
from dflash_app.ui.strip import TokenStrip, render_empty_strip

LOW_ACCEPTANCE = 1.5
MIN_STEPS_TO_JUDGE = 16


class RunView:
    """Collects the events of one run.

    Attributes:
        events: all but text, in their order.
        strip: the fate of the last tokens.
        policy: how long drafts are, None in AR; known once the pair is loaded.
        where: device, precision and path, known once the pair is loaded.
        warnings: what the user should know of the loaded pair and of what is asked of it.
        token_texts: turns ids into printable text, known once the pair is loaded.
        ar_tok_s: the speed to compare with, None = unknown.
    """

    def __init__(self) -> None:
        self.events: list[DecodeEvent] = []
        self.strip = TokenStrip()
        self.policy: Policy | None = None
        self.where = ""
        self.warnings: tuple[str, ...] = ()
        self.token_texts: Callable[[Sequence[int]], list[str]] | None = None
        self.ar_tok_s: float | None = None
        self._parts: list[str] = []

    def know(self, loaded: LoadedPair, request: GenerationRequest) -> None:
        """Take what is known once the pair is loaded."""
        self.token_texts = loaded.token_texts
        self.where = where(loaded, request)
        self.policy = None if request.mode == "ar" else request.policy
        self.warnings = (*loaded.warnings, *experiments(loaded, request))

    def hints(self) -> str:
        """What to tell beside the figures of a run that has ended; "" where there is nothing."""
        return " ".join(filter(None, [*self.warnings, advise(self.metrics())]))

    def add(self, events: Iterable[DecodeEvent]) -> None:
        """Take the next events."""
        for event in events:
            if isinstance(event, TextDelta):
                self._parts.append(event.text)
                continue
            self.events.append(event)
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
        ids: list[int] = []
        for event in self.events:
            if isinstance(event, PrefillDone):
                ids.append(event.token_id)
            elif isinstance(event, StepDone):
                ids.extend(event.token_ids)
        return ids

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
        said = f" Ran on {self.where}." if self.where else ""
        widths = [len(event.drafted_ids) for event in self.events if isinstance(event, StepDone)]
        if self.policy is not None and widths:
            said += f" Draft length: {self.policy}, {fmean(widths):.1f} tokens a step."
        first = self.events[0] if self.events else None
        if isinstance(first, PrefillDone) and first.num_reused:
            num_reused, num_tokens = first.num_reused, first.num_prompt_tokens
            said += f" {num_reused:,} of {num_tokens:,} prompt tokens were reused."
        return said

    def render_notes(self) -> str:
        """What the engine told while it decoded, as AR fallback and why."""
        return render_events(notes_of(self.events))

    def render_strip(self) -> str:
        """The strip; short while the run goes on."""
        if self.token_texts is None:
            return render_empty_strip()
        return self.strip.render(self.token_texts, live=self.finished is None)


def advise(metrics: RunMetrics) -> str:
    """Tell the user where the drafter hardly helps, which nothing else would show; else ""."""
    length = metrics.mean_acceptance_length
    if length is None or length >= LOW_ACCEPTANCE or metrics.num_steps < MIN_STEPS_TO_JUDGE:
        return ""
    return (
        f"The drafter hardly helps here (acceptance length {length:.2f}): a language, a thinking "
        "mode or a kind of text that it was not trained on is the usual cause."
    )
