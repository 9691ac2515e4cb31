"""Messages -> prompt ids, with the model's own chat template and its thinking switches.

A message is text and stays text: what looks like a special token in it (`<|im_end|>`) is encoded
as ordinary characters, so it can neither end the turn nor open another role. transformers >= 5.23
does that itself (`sanitize_control_tokens`); tests/engine/test_prompt.py holds it to it.
"""

import re
from collections.abc import Sequence
from typing import Any, Protocol

from dflash_app.errors import RequestError
from dflash_app.request import Message

_SWITCHES = ("enable_thinking", "thinking")
"""Template variables that turn thinking on and off."""

_LEVELS = ("reasoning_effort", "reasoning_strength", "reasoning_level", "thinking_level")
"""Template variables that take a word for how much to think."""

_CODE = re.compile(r"\{[{%](.*?)[%}]\}", re.DOTALL)
_LITERAL = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_NAME = re.compile(r"(?<![.\w])[A-Za-z_]\w*")


class ChatTokenizer(Protocol):
    """What is asked of a tokenizer here; transformers' and mlx-lm's have it."""

    def get_chat_template(self) -> str:
        """The source of the default template; ValueError where there is none."""

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render and encode a conversation."""


def encode_prompt(
    tokenizer: ChatTokenizer, messages: Sequence[Message], thinking: str | None = None
) -> list[int]:
    """Render a conversation and open the assistant's turn.

    Args:
        tokenizer: has a chat template.
        messages: the conversation; control characters are kept as they are.
        thinking: see `GenerationRequest`.

    Returns:
        The prompt's token ids, at least one.

    Raises:
        RequestError: no template, a template that refuses the conversation, thinking asked for in
            a way that the template lacks, or text that cannot be encoded (half a surrogate pair).
    """
    for message in messages:
        _check_encodable(message.content)
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise RequestError(
            "This model has no chat template: choose an instruction-tuned one."
        ) from error
    options = thinking_options(template, thinking)
    conversation = [{"role": message.role, "content": message.content} for message in messages]
    try:
        token_ids = tokenizer.apply_chat_template(
            conversation,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,
            **options,
        )
    except Exception as error:
        # jinja2 is the template's business: known by name, as this layer imports no such library.
        if isinstance(error, ValueError) or type(error).__module__.startswith("jinja2"):
            raise RequestError(
                f"The model's chat template refuses this conversation ({error}): "
                "change the system message or start a new conversation."
            ) from error
        raise
    if not token_ids:
        raise RequestError("The model's chat template renders nothing: choose another model.")
    return [int(token_id) for token_id in token_ids]


def thinking_options(template: str, thinking: str | None) -> dict[str, bool | str]:
    """The template variables that carry out `thinking`.

    "off" is granted to a template without any switch: such a model is prompted as it is. All else
    that a template cannot carry out is refused, rather than dropped without a word.

    Args:
        template: Jinja source.
        thinking: None, "on", "off", or a level.

    Raises:
        RequestError: the template has no variable for it; the message says what it has.
    """
    if thinking is None:
        return {}
    names = _variables(template)
    switches = [name for name in _SWITCHES if name in names]
    levels = [name for name in _LEVELS if name in names]
    if thinking not in ("on", "off"):
        if levels:
            return dict.fromkeys(levels, thinking)
        cure = "choose 'on' or 'off'" if switches else "leave thinking at its default"
        raise RequestError(f"This model has no thinking levels such as {thinking!r}: {cure}.")
    if switches:
        return dict.fromkeys(switches, thinking == "on")
    if levels:
        raise RequestError(
            f"This model's thinking cannot be switched {thinking}: "
            "choose a level ('low', 'medium', 'high') or leave it at its default."
        )
    if thinking == "on":
        raise RequestError("This model has no thinking mode: leave thinking at its default.")
    return {}


def _variables(template: str) -> set[str]:
    """Names in the template's code, attributes and string literals apart."""
    code = " ".join(_CODE.findall(template))
    return set(_NAME.findall(_LITERAL.sub("''", code)))


def _check_encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"Character {error.start + 1} of a message is half of a surrogate pair, which is no "
            "text: delete it and type it again."
        ) from error
