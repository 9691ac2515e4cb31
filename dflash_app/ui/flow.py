"""One generator of updates, played by three Gradio events: begin, live, end.

At every yield Gradio builds anew each output that the yield leaves out, hops threads for each that
it names, and tells the browser of all, and the decode thread waits for Python's lock meanwhile
(ADR 8 has figures). So the event that repeats ten times a second has the few outputs that change,
and the many belong to the events before and after it.
"""

import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import gradio as gr

Update = dict[Any, Any]
"""New values by component."""

MAX_WAITING = 32
"""Browser tabs whose runs may wait for the device at once; Gradio's own default is one."""
ABANDONED_S = 5.0
"""A flow that nobody has asked for so long has lost its browser tab: `looks` beats faster."""


class Flow:
    """The updates of one run, on their way to a browser tab."""

    def __init__(self, updates: Iterator[Update]) -> None:
        self._updates = updates
        self._kept: Update = {}
        self._asked_s = time.monotonic()
        self._begun = False
        self._over = False

    @property
    def busy(self) -> bool:
        """False where nobody is left to take the updates."""
        return time.monotonic() - self._asked_s < ABANDONED_S

    def begin(self) -> Update:
        """The first update."""
        return next(self._updates, {})

    def live(self, outputs: Sequence[Any]) -> Generator[Update, None, None]:
        """The updates that change all of `outputs` and nothing else; others wait for the end.

        Closing this iterator closes the run. Only the first call gets any.
        """
        if self._begun:
            return
        self._begun = True
        try:
            for update in self._updates:
                self._asked_s = time.monotonic()
                if update.keys() == set(outputs):
                    yield update
                else:
                    self._kept |= update
        finally:
            self._over = True
            self.close()

    def end(self) -> Update | None:
        """What the live updates left over; None while they go on."""
        return self._kept if self._over else None

    def close(self) -> None:
        """Stop the run."""
        if close := getattr(self._updates, "close", None):
            close()


def connect_flow(
    triggers: Sequence[Any],
    updates: Callable[..., Iterator[Update]],
    state: gr.State,
    *,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    live: Sequence[Any],
    box: Any = None,
) -> None:
    """Play a generator where a trigger fires; while its flow lasts, the triggers do nothing.

    Args:
        triggers: events such as `button.click`.
        updates: called as Gradio calls it, with `inputs` (the last of them as `*values`) and
            perhaps the request. Its first update may name any of `outputs`, as may the ones at the
            end; between them, those that name exactly the `live` ones are shown at once.
        state: an empty state, shared by all flows of which one browser tab may have one at a time.
        inputs: of the first event.
        outputs: all that the updates name.
        live: those of them that change while the run goes on.
        box: one of them that the user may write into meanwhile: what the end gives back to it
            stands before that.
    """
    typed_into = [box] if box is not None else []

    @functools.wraps(updates)
    def begin(*values: Any) -> Update:
        current: Flow | None = values[-1]
        if current is not None:
            if current.busy:
                return {state: gr.skip()}
            current.close()
        flow = Flow(updates(*values[:-1]))
        return {**flow.begin(), state: flow}

    def show_live(flow: Flow | None) -> Iterator[Update]:
        shown = False
        if flow is not None:
            with closing(flow.live(live)) as run:
                for update in run:
                    shown = True
                    yield update
        if not shown:
            # Gradio empties every output of a generator that yields nothing.
            yield {output: gr.skip() for output in live}

    def end(flow: Flow | None, *typed: str) -> Update:
        kept = flow.end() if flow is not None else None
        if kept is None:
            return {state: gr.skip()}
        if box in kept and any(typed):
            kept |= {box: "\n".join(filter(None, [kept[box], *typed]))}
        return {**kept, state: None}

    event: dict[str, Any] = {
        "show_progress": "hidden",
        "concurrency_limit": MAX_WAITING,
        "api_visibility": "private",
    }
    gr.on(triggers, begin, inputs=[*inputs, state], outputs=[*outputs, state], **event).then(
        show_live, inputs=state, outputs=list(live), **event
    ).then(end, inputs=[state, *typed_into], outputs=[*outputs, state], **event)
