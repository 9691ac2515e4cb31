"""What a template can be told of thinking, and what it does untold."""

import pytest

from dflash_app.ui.thinking import default_thinking, thinking_choices

OFF_ON_ASK = "{{ messages[0].content }}{% if enable_thinking is false %}<think></think>{% endif %}"
ON_ON_ASK = "{% if enable_thinking is defined and enable_thinking %}<think>{% endif %}"
LEVELS = "{{ reasoning_effort or 'medium' }}"


@pytest.mark.parametrize(
    ("template", "levels", "choices"),
    [
        (OFF_ON_ASK, (), ["on", "off"]),
        (LEVELS, (), ["low", "medium", "high"]),
        (LEVELS, ("low", "xhigh"), ["low", "xhigh"]),
        ("{{ messages }}", (), []),
        ("", (), []),
        (None, ("low", "xhigh"), ["on", "off", "low", "xhigh"]),
    ],
)
def test_only_what_the_template_carries_out_is_offered(
    template: str | None, levels: tuple[str, ...], choices: list[str]
) -> None:
    assert thinking_choices(template, levels) == choices


@pytest.mark.parametrize(
    ("template", "default"),
    [
        (OFF_ON_ASK, "on"),
        (ON_ON_ASK, "off"),
        (LEVELS, None),
        ("{{ messages }}", None),
        ("{{ enable_thinking }}", None),
        ("{% if enable_thinking %}{{ raise_exception('no') }}{% endif %}", None),
        ("{% if enable_thinking %", None),
        ("{{ enable_thinking.__class__.__mro__ }}", None),
        ("{{ 1 / (0 if enable_thinking is defined else 1) }}", None),
    ],
)
def test_what_a_template_does_untold_is_seen_by_rendering_it(
    template: str, default: str | None
) -> None:
    assert default_thinking(template) == default
