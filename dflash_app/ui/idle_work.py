"""What Gradio does beside a run, on the server and in the browser: it takes the run's cores."""

from typing import Any

import gradio as gr

_QUEUE_LOOK_S = 0.02
_PROGRESS_LOOK_S = 0.25


def slow_queue_looks(queue: Any) -> None:
    """Let Gradio's queue look for work 50 times a second instead of 1,000.

    Each look takes Python's lock from the decode thread, all the time a reply is written.
    """
    queue.sleep_when_free = _QUEUE_LOOK_S
    queue.progress_update_sleep_when_free = _PROGRESS_LOOK_S


def leave_out_statuses(blocks: gr.Blocks) -> None:
    """Tell no component of the progress of hidden events, but the chat that such an event writes.

    With each message of any event Gradio's page copies the properties of every component that was
    ever told a progress, shown or hidden, and asks for 60 frames a second while one is pending
    (`update_loading_stati_state`, Gradio 6.31). A chat shuts its buttons by it while it is written.

    Args:
        blocks: the whole page, its events connected.
    """
    for event in blocks.fns.values():
        if event.show_progress == "hidden":
            written = event.outputs
            event.show_progress_on = [each for each in written if isinstance(each, gr.Chatbot)]
