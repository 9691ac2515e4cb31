"""Messages -> prompt ids, with the model's own chat template and its thinking switches.

A message is text and stays text: what looks like a special token in it (`<|im_end|>`) is encoded
as ordinary characters, so it can neither end the turn nor open another role. transformers >= 5.23
does that itself (`sanitize_control_tokens`); tests/engine/test_prompt.py holds it to it.

A model without a template gets `PLAIN_TEMPLATE`. Its roles are ordinary words, which a message can
imitate: such a model was never taught to tell them apart.
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

PLAIN_TEMPLATE = """\
{%- if bos_token -%}{{ bos_token }}{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content | trim }}{{ '\\n\\n' }}
{%- elif message.role == 'user' -%}User: {{ message.content | trim }}{{ '\\n' }}
{%- else -%}Assistant: {{ message.content | trim }}{{ '\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}Assistant:{%- endif -%}
"""
"""For a model without a chat template: what the system says and an empty line, then the turns."""

PLAIN_STOP = "\nUser:"
"""Where a reply under `PLAIN_TEMPLATE` ends: the model goes on with a question of its own."""

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
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    thinking: str | None = None,
    *,
    open_turn: bool = True,
) -> list[int]:
    """Render a conversation and open the assistant's turn.

    Args:
        tokenizer: its default chat template is taken, or `PLAIN_TEMPLATE` where it has none.
        messages: the conversation; control characters are kept as they are.
        thinking: see `GenerationRequest`.
        open_turn: False leaves the assistant's turn closed.

    Returns:
        The prompt's token ids, at least one.

    Raises:
        RequestError: a template that refuses the conversation, thinking asked for in a way that
            the template lacks, or text that cannot be encoded (half a surrogate pair).
    """
    for message in messages:
        _check_encodable(message.content)
    own_template = _own_template(tokenizer)
    options: dict[str, Any] = {**thinking_options(own_template or PLAIN_TEMPLATE, thinking)}
    if own_template is None:
        options["chat_template"] = PLAIN_TEMPLATE
    conversation = [{"role": message.role, "content": message.content} for message in messages]
    try:
        token_ids = tokenizer.apply_chat_template(
            conversation,
            add_generation_prompt=open_turn,
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


def stable_length(
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    thinking: str | None,
    prompt_ids: Sequence[int],
) -> int:
    """How much of a prompt the next turn's prompt will begin with, whatever is answered.

    What opens the assistant's turn may not come back: templates write `<think>` into the last turn
    only.

    Args:
        tokenizer: the target's.
        messages: the conversation.
        thinking: see `GenerationRequest`.
        prompt_ids: `encode_prompt` of these.

    Returns:
        Tokens from the prompt's start; 0 where the template cannot tell, as some refuse to end
        with a user's turn.
    """
    try:
        closed = encode_prompt(tokenizer, messages, thinking, open_turn=False)
    except RequestError:
        return 0
    return common_length(prompt_ids, closed)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading tokens are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    return next((index for index, (left, right) in pairs if left != right), shorter)


def template_warning(tokenizer: ChatTokenizer) -> str | None:
    """What a user must know of the prompts of this model; None where its own template makes them.

    Args:
        tokenizer: the target's.
    """
    if _own_template(tokenizer) is not None:
        return None
    return (
        "This model has no chat template, so turns are written as plain 'User:' and 'Assistant:' "
        "lines and a reply ends at the next 'User:': choose an instruction-tuned model to chat."
    )


def stop_texts(tokenizer: ChatTokenizer) -> tuple[str, ...]:
    """Texts that end every reply of this model, beside its stop tokens."""
    return () if _own_template(tokenizer) is not None else (PLAIN_STOP,)


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


def _own_template(tokenizer: ChatTokenizer) -> str | None:
    """The default template's source; None where there is none, or an empty one."""
    try:
        return tokenizer.get_chat_template() or None
    except ValueError:
        return None


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
