"""Cards, notices and status lines say what is, and escape what they are given."""

from dflash_app.events import Finished
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.ui.components import (
    render_cards,
    render_notice,
    render_parts,
    render_status,
    run_cards,
    run_status,
)
from dflash_app.ui.run_view import RunView
from tests.fakes import script_of

METRICS = summarize(
    event for event in script_of((2, 3, 4), (5, 6, 7), num_draft=3) if not hasattr(event, "text")
)


def values(metrics: RunMetrics, ar_tok_s: float | None, mode: str = "dflash") -> dict[str, str]:
    return {card.label: card.value for card in run_cards(metrics, ar_tok_s, mode)}


def test_before_the_first_token_every_figure_is_unknown() -> None:
    assert set(values(RunMetrics(), None).values()) == {"–"}


def test_figures_of_a_run() -> None:
    assert values(METRICS, 4.0) == {
        "Speed": "12.0 tok/s",
        "Speedup": "3.00×",
        "Acceptance": "3.00",
        "First token": "500 ms",
        "Tokens": "7",
        "Steps": "2",
    }


def test_without_a_plain_run_to_compare_with_the_speedup_is_unknown() -> None:
    assert values(METRICS, None)["Speedup"] == "–"
    assert values(METRICS, 4.0, mode="ar")["Speedup"] == "–"


def test_notices_are_inert_and_none_is_drawn_for_no_text() -> None:
    assert "<b>" not in render_notice("<b>x</b>", "error")
    assert 'role="alert"' in render_notice("x", "error")
    assert render_notice("") == ""
    assert "<script>" not in render_status("<script>", busy=True)
    assert "<i>" not in render_cards(run_cards(METRICS, None, "dflash")).replace("<i>", "")


def test_parts_keep_their_order_and_ids() -> None:
    assert render_parts({"a": "<p>1</p>", "b": "2"}) == (
        '<div class="parts"><div id="a"><p>1</p></div><div id="b">2</div></div>'
    )


def test_only_a_busy_status_has_the_dot_that_the_buttons_follow() -> None:
    assert 'class="dot"' in render_status("Generating…", busy=True)
    assert "dot" not in render_status("Finished") + render_status("")


def test_the_status_follows_the_phases() -> None:
    assert "Waiting for the device" in run_status("waiting", None)
    assert "Loading" in run_status("loading", None)
    assert run_status("running", None) == "Generating…"
    assert run_status("running", None, stopped=True) == "Stopping…"
    assert run_status("ended", Finished("stop", 2.413)) == "Finished after 2.41 s."
    assert "length limit" in run_status("ended", Finished("length", 1.0))
    assert run_status("ended", None, stopped=True) == "Stopped."


def test_a_view_folds_events_into_text_tokens_and_figures() -> None:
    view = RunView()
    view.add(script_of((2, 3, 4), (5, 6, 7), num_draft=3))
    assert (view.text, view.token_ids) == ("bcdefgh", [1, 2, 3, 4, 5, 6, 7])
    assert view.metrics() == METRICS
    assert view.finished == Finished("stop", 1.0)
