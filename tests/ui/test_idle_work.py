"""What Gradio does beside a run: how often it looks, and whom it tells of progress."""

import gradio as gr

from dflash_app.ui.idle_work import slow_queue_looks
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from tests.ui.conftest import StageOpener
from tests.ui.stage import one_reply


def test_gradios_queue_is_kept_from_taking_the_lock_a_thousand_times_a_second(
    open_stage: StageOpener,
) -> None:
    queue = build_page(open_stage(one_reply), LiveRuns())._queue
    assert queue.sleep_when_free < 0.01 < 0.1 > queue.progress_update_sleep_when_free
    slow_queue_looks(queue)
    assert queue.sleep_when_free == 0.02
    assert queue.progress_update_sleep_when_free == 0.25


def test_only_a_chat_is_told_how_far_a_hidden_event_is(open_stage: StageOpener) -> None:
    """The page's own settings, as the browser reads them: null would mean all outputs."""
    blocks = build_page(open_stage(one_reply), LiveRuns())
    chats = {each["id"] for each in blocks.config["components"] if each["type"] == "chatbot"}
    hidden = [each for each in blocks.config["dependencies"] if each["show_progress"] == "hidden"]
    assert len(hidden) > 100 and chats
    for event in hidden:
        assert event["show_progress_on"] == [each for each in event["outputs"] if each in chats]
    assert any(event["show_progress_on"] for event in hidden)
    assert isinstance(blocks.blocks[chats.pop()], gr.Chatbot)
