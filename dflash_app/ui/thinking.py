"""How a model can be told to think, read from its chat template before it is loaded."""

from collections.abc import Sequence
from typing import Any, Literal

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dflash_app.engine.prompt import thinking_options
from dflash_app.errors import RequestError

USUAL_LEVELS = ("low", "medium", "high")
"""Offered where a template has a variable for levels and the registry does not name them."""

_QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "tools": None}


def thinking_choices(template: str | None, levels: Sequence[str] = ()) -> list[str]:
    """What of "on", "off" and levels a template can carry out.

    Args:
        template: Jinja source; None where it is not known: then the registry's levels, on and off.
        levels: that the registry names for the target.
    """
    if template is None:
        return ["on", "off", *levels]
    return [each for each in ("on", "off", *(levels or USUAL_LEVELS)) if _carries(template, each)]


def default_thinking(template: str) -> Literal["on", "off"] | None:
    """What a template does where nobody tells it; None where that cannot be seen.

    Args:
        template: Jinja source.
    """
    if not all(_carries(template, each) for each in ("on", "off")):
        return None
    try:
        asked, on, off = (_render(template, each) for each in (None, "on", "off"))
    except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError):
        return None
    if on == off or asked not in (on, off):
        return None
    return "on" if asked == on else "off"


def _carries(template: str, thinking: str) -> bool:
    try:
        return bool(thinking_options(template, thinking))
    except RequestError:
        return False


def _render(template: str, thinking: str | None) -> str:
    """A short question as the template writes it; the sandbox is transformers' own."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda _: "2026-01-01"}
    options = thinking_options(template, thinking)
    return environment.from_string(template).render(
        **_QUESTION, add_generation_prompt=True, bos_token="", eos_token="", **options
    )


def _refuse(message: str) -> None:
    raise TemplateError(message)
