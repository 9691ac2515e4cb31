"""Gradio's traps in who listens to what, held off the whole page."""

from collections import Counter

from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from tests.ui.conftest import StageOpener
from tests.ui.stage import one_reply


def test_no_two_events_that_wait_for_their_turn_listen_to_the_same(
    open_stage: StageOpener,
) -> None:
    """In the browser they would fire each other without end: see `model_bar.FOLLOWING`."""
    blocks = build_page(open_stage(one_reply), LiveRuns())
    waiting = Counter(
        target
        for event in blocks.fns.values()
        if event.trigger_mode == "always_last"
        for target in event.targets
    )
    assert waiting
    assert [target for target, count in waiting.items() if count > 1] == []
