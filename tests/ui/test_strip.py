"""Every token shows its fate; nothing in it is markup; a long run does not grow the page."""

from collections.abc import Sequence

from dflash_app.events import Finished, PrefillDone, StepDone, TokensArrived
from dflash_app.ui.strip import KEPT_TOKENS, LIVE_TOKENS, TokenStrip

STEP = StepDone((7, 8, 20), (7, 8, 9, 10), 2, (0.9, 0.8, 0.25, 0.1), 0.1, 0.1, 1.0)


def words(token_ids: Sequence[int]) -> list[str]:
    return [f"w{token_id}" for token_id in token_ids]


def drawn(strip: TokenStrip, **options: bool) -> str:
    return strip.render(words, **options).split('aria-label="Fate of each token">')[1]


def fates(html: str) -> list[str]:
    return [part.split('"')[0] for part in html.split('<span class="tok ')[1:]]


def test_accepted_corrected_and_first_rejected_draft_are_told_apart() -> None:
    strip = TokenStrip()
    for event in (PrefillDone(4, 0, 3, 0.0, 0.5), STEP, Finished("stop", 1.0)):
        strip.add(event)
    html = drawn(strip)
    assert fates(html) == ["plain opens", "accepted opens", "accepted", "corrected", "rejected"]
    assert [f"w{i}<" in html for i in (3, 7, 8, 20, 9, 10)] == [True] * 5 + [False]
    assert "step 1: 2 of 4 drafts accepted, drafter 90 % sure" in html
    assert 'title="corrected, step 1: 2 of 4 drafts accepted">w20<' in html
    assert "rejected, step 1: 2 of 4 drafts accepted, drafter 25 % sure" in html


def test_the_targets_own_token_is_a_bonus_only_where_every_draft_stood() -> None:
    strip = TokenStrip()
    strip.add(StepDone((7, 8, 20), (7, 8), 2, (0.9, 0.8), 0.1, 0.1, 1.0))
    html = drawn(strip)
    assert fates(html) == ["accepted opens", "accepted", "bonus"]
    assert 'title="bonus, step 1: 2 of 2 drafts accepted">w20<' in html


def test_the_legend_names_every_fate_and_says_what_it_means() -> None:
    strip = TokenStrip()
    strip.add(STEP)
    legend, _ = strip.render(words).split('<div class="strip-body"')
    assert fates(legend) == ["accepted", "bonus", "corrected", "rejected"]
    assert 'title="the target&#x27;s own token in the place of the rejected draft"' in legend


def test_plain_decoding_has_no_fate() -> None:
    strip = TokenStrip()
    strip.add(StepDone((5,), (), 0, None, 0.0, 0.1, 1.0))
    assert '"tok plain opens" title="step 1: no draft"' in drawn(strip)


def test_a_step_cut_at_the_end_shows_only_what_was_committed() -> None:
    strip = TokenStrip()
    strip.add(StepDone((7,), (7, 8, 9, 10), 4, None, 0.1, 0.1, 1.0))
    html = drawn(strip)
    assert html.count('"tok ') == 1
    assert "accepted" in html


def test_hostile_tokens_are_text() -> None:
    strip = TokenStrip()
    strip.add(STEP)
    html = strip.render(lambda ids: ["<img src=x onerror=alert(1)>"] * len(ids))
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html


def test_white_space_is_visible_and_an_empty_token_too() -> None:
    strip = TokenStrip()
    strip.add(STEP)
    html = strip.render(lambda ids: ["\n", "\t", "", "x"])
    assert all(mark in html for mark in ("⏎", "⇥", "∅"))


def test_what_the_engine_told_stands_before_the_step_where_it_began() -> None:
    strip = TokenStrip()
    told = "AR fallback: <b>why</b>"
    strip.add(StepDone((2, 3), (2,), 1, None, 0.1, 0.1, 0.2))
    strip.add(StepDone((4,), (), 0, None, 0.1, 0.1, 0.4, note=told))
    html = strip.render(lambda ids: [f"t{each}" for each in ids])
    assert html.count("tok-event") == 1
    before, after = html.split('<span class="tok-event"')
    assert ">t3<" in before
    assert ">t4<" in after
    assert 'title="AR fallback: &lt;b&gt;why&lt;/b&gt;">AR fallback</span>' in after


def test_a_long_run_draws_its_last_tokens_only() -> None:
    strip = TokenStrip()
    for _ in range(2 * KEPT_TOKENS):
        strip.add(StepDone((5,), (), 0, None, 0.0, 0.1, 1.0))
    assert drawn(strip, live=True).count('"tok ') == LIVE_TOKENS
    assert drawn(strip).count('"tok ') == KEPT_TOKENS
    assert "tok-more" in drawn(strip)


def test_before_the_first_token_the_strip_says_what_it_will_show() -> None:
    assert "every token" in TokenStrip().render(words)


def test_tokens_of_a_server_have_no_known_fate_and_the_strip_says_so() -> None:
    strip = TokenStrip()
    strip.add(TokensArrived(2, (7, 8), 0.5))
    for live in (True, False):
        html = strip.render(words, live=live)
        assert "A server does not tell which of its tokens were drafted" in html
        assert "w7" not in html
