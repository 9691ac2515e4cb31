"""Cards, notices and status lines say what is, and escape what they are given."""

from dataclasses import replace

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
from tests.fakes import ScriptedServerPair, ask, script_of, server_script_of
from tests.ui.stage import COUNTS

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


def test_loading_tells_its_seconds_once_it_lasts_over_one() -> None:
    assert run_status("loading", None, loading_s=0.9).endswith("…")
    assert run_status("loading", None, loading_s=3.7).endswith("… 3 s")
    assert run_status("waiting", None, loading_s=3.7).endswith("it.")


def test_a_view_folds_events_into_text_tokens_and_figures() -> None:
    view = RunView()
    view.add(script_of((2, 3, 4), (5, 6, 7), num_draft=3))
    assert (view.text, view.token_ids) == ("bcdefgh", [1, 2, 3, 4, 5, 6, 7])
    assert view.metrics() == METRICS
    assert view.finished == Finished("stop", 1.0)


SERVED = summarize(server_script_of((1,), (2, 3, 4), counts=COUNTS))


def test_a_servers_speed_is_said_to_be_measured_at_the_client_and_its_counts_by_whom() -> None:
    cards = {card.label: card for card in run_cards(SERVED, 6.0, "dflash")}
    assert list(cards)[:3] == ["Client speed", "Speedup", "Acceptance"]
    assert cards["Client speed"].value == "12.0 tok/s"
    assert cards["Speedup"].value == "2.00×"
    assert "on its server, both measured at the client" in cards["Speedup"].hint
    assert "counted by the server (vLLM, this request)" in cards["Acceptance"].hint
    assert (cards["Tokens"].value, cards["Steps"].value) == ("4", "2")


def test_a_count_of_the_whole_server_is_marked() -> None:
    shared = replace(SERVED, acceptance_source="vLLM /metrics", acceptance_shared=True)
    cards = {card.label: card for card in run_cards(shared, None, "dflash")}
    assert cards["Acceptance*"].value == "3.00"
    assert "other traffic may be in it" in cards["Acceptance*"].hint


def test_what_a_server_does_not_tell_is_unknown() -> None:
    silent = summarize(server_script_of((1,), (2,)))
    assert values(silent, None)["Steps"] == "–"
    assert values(silent, None)["Acceptance"] == "–"


def test_who_measured_a_servers_run_is_said_and_the_server_stays_unnamed() -> None:
    view = RunView()
    view.know(ScriptedServerPair([]), ask())
    assert (view.policy, view.where) == (None, "vLLM 0.32.0")
    view.add(server_script_of((1,), (2, 3, 4), counts=COUNTS))
    assert view.token_ids == [1, 2, 3, 4]
    said = view.circumstances()
    assert "Ran on vLLM 0.32.0." in said
    assert "8 of 12 prompt tokens were reused." in said
    assert "Times were measured at the client, network included." in said
    assert "counted by the server (vLLM, this request)" in said
    assert "gpu-box" not in said
    assert "does not tell which of its tokens were drafted" in view.render_strip()
