"""Units end in format.py, the unknown is never 0, and no text from outside stays markup."""

from datetime import UTC, datetime

import pytest

from dflash_app.ui import format as fmt


def test_the_unknown_is_a_dash_everywhere() -> None:
    for form in (
        fmt.format_speed, fmt.format_duration, fmt.format_bytes, fmt.format_percent,
        fmt.format_ratio, fmt.format_decimal, fmt.format_count, fmt.format_when,
    ):  # fmt: skip
        assert form(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0031, "3.1 ms"), (0.0996, "100 ms"), (0.9996, "1.00 s"), (2.413, "2.41 s"),
     (185.4, "3 min 05 s")],
)  # fmt: skip
def test_a_duration_takes_the_unit_that_reads_best(seconds: float, text: str) -> None:
    assert fmt.format_duration(seconds) == text


def test_speeds_sizes_and_shares() -> None:
    assert fmt.format_speed(1985.4) == "1,985 tok/s"
    assert fmt.format_speed(9.64) == "9.6 tok/s"
    assert fmt.format_bytes(9_720_000) == "9.7 MB"
    assert fmt.format_bytes(18_500_000_000) == "18.5 GB"
    assert fmt.format_bytes(12) == "12 B"
    assert fmt.format_percent(0.834) == "83 %"
    assert fmt.format_ratio(3.417) == "3.42×"


def test_a_time_is_shown_to_the_second() -> None:
    shown = fmt.format_when(datetime(2026, 11, 20, 18, 14, 3, tzinfo=UTC))
    assert len(shown) == 19
    assert shown.endswith(":14:03")


def test_an_excerpt_is_one_line_of_bounded_length() -> None:
    assert fmt.format_excerpt("two\nlines\x00 here") == "two lines here"
    assert len(fmt.format_excerpt("x" * 1_000_000, 80)) == 80


def test_half_a_surrogate_pair_is_never_sent_to_a_browser() -> None:
    for form in (fmt.escape_html, fmt.format_excerpt, fmt.well_formed):
        assert form("half \ud800.") == "half ?."


def test_html_is_escaped_with_quotes_and_control_characters_are_marked() -> None:
    assert fmt.escape_html("<img src=x onerror='a'>\"&\x1b") == (
        "&lt;img src=x onerror=&#x27;a&#x27;&gt;&quot;&amp;\ufffd"
    )
