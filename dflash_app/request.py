"""What a user asks for: messages, sampling and limits, checked once, here."""

from dataclasses import dataclass, field
from typing import Literal

from dflash_app.errors import RequestError

Role = Literal["system", "user", "assistant"]
Mode = Literal["ar", "dflash"]
Policy = Literal["fixed", "adaptive"]

MAX_PROMPT_CHARS = 400_000
"""Longest conversation taken, in characters; a longer one is refused before it is tokenized."""

MAX_BLOCK_SIZE = 64
"""Largest block, anchor included. Drafters were trained for 7 to 16: above is an experiment."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant"):
            raise RequestError(f"Unknown role {self.role!r}: use 'system', 'user' or 'assistant'.")
        if not isinstance(self.content, str):
            raise RequestError("A message's content must be text.")


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a token is drawn from the target's distribution.

    Attributes:
        temperature: in [0, 2]; 0 is greedy.
        top_p: nucleus mass in (0, 1]; 1 keeps all.
        top_k: candidates kept, in [0, 1_000_000]; 0 keeps all.
        min_p: least probability kept, as a part of the likeliest token's, in [0, 1); 0 keeps all.
        repetition_penalty: divides the positive logits of tokens that the prompt or the output
            already holds and multiplies the negative ones, in [0.01, 10]; 1 changes nothing.
        seed: random state of this request in [0, 2**63); None draws one.

    Raises:
        RequestError: a value is outside its range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, 0.0, 2.0)
        _check_number("top_p", self.top_p, 0.0, 1.0)
        if self.top_p == 0.0:
            raise RequestError("top_p must be above 0: use a value up to 1 (1 keeps every token).")
        _check_integer("top_k", self.top_k, 0, 1_000_000)
        _check_number("min_p", self.min_p, 0.0, 1.0)
        if self.min_p == 1.0:
            raise RequestError("min_p must be below 1: use a value from 0 (0 keeps every token).")
        # Never 0, and never so far from 1 that a float32 logit could become infinite.
        _check_number("repetition_penalty", self.repetition_penalty, 0.01, 10.0)
        if self.seed is not None:
            _check_integer("seed", self.seed, 0, 2**63 - 1)

    @property
    def greedy(self) -> bool:
        """True where the most likely token is always taken."""
        return self.temperature == 0.0

    @property
    def penalises(self) -> bool:
        """True where the repetition penalty changes anything."""
        return self.repetition_penalty != 1.0

    def penalised(self, logit: float) -> float:
        """What the repetition penalty makes of the logit of a token that came before."""
        penalty = self.repetition_penalty
        return logit * penalty if logit < 0 else logit / penalty


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One turn to generate.

    Attributes:
        messages: the conversation so far; the last message is the user's.
        max_new_tokens: limit of output tokens, in [1, 1_000_000].
        stop: texts that end the output and are not shown.
        sampling: see `SamplingParams`.
        mode: "dflash" drafts blocks, "ar" decodes token by token.
        block_size: anchor included, in [2, MAX_BLOCK_SIZE]; None takes the drafter's own.
        thinking: None leaves the template's default, "on" / "off" switch it, any other word is a
            level that the template understands ("low", "high").
        policy: "fixed" drafts the whole block in every step, as published figures do, and repeats
            itself; "adaptive" drafts what pays by times measured here, nothing where nothing does.
            With temperature and seed it is "fixed", and the run's first step notes so.
        task: what the prompt is one of, as a data set's name, for the run log; the engine does
            not look at it.

    Raises:
        RequestError: a value is missing or outside its range.
    """

    messages: tuple[Message, ...]
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    mode: Mode = "dflash"
    block_size: int | None = None
    thinking: str | None = None
    policy: Policy = "fixed"
    task: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("ar", "dflash"):
            raise RequestError(f"Unknown mode {self.mode!r}: use 'ar' or 'dflash'.")
        if self.policy not in ("fixed", "adaptive"):
            raise RequestError(f"Unknown policy {self.policy!r}: use 'fixed' or 'adaptive'.")
        _check_integer("max_new_tokens", self.max_new_tokens, 1, 1_000_000)
        if self.block_size is not None:
            _check_integer("block_size", self.block_size, 2, MAX_BLOCK_SIZE)
        if not self.messages or self.messages[-1].role != "user":
            raise RequestError("The conversation must end with a user message: type one.")
        if not self.messages[-1].content.strip():
            raise RequestError("The prompt is empty: type a question first.")
        _check_stop_texts(self.stop)
        num_chars = sum(len(message.content) for message in self.messages)
        if num_chars > MAX_PROMPT_CHARS:
            raise RequestError(
                f"The conversation has {num_chars:,} characters, more than {MAX_PROMPT_CHARS:,}: "
                "shorten it or start a new one."
            )


def _check_stop_texts(stop: object) -> None:
    # One text is a sequence of texts too, each a letter: it must not pass for a list.
    if not isinstance(stop, tuple | list) or not all(isinstance(text, str) for text in stop):
        raise RequestError("Stop texts must be a list of texts.")
    if not all(stop):
        raise RequestError("A stop text is empty: remove it or give it a character.")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    if not ok or not low <= float(value) <= high:  # type: ignore[arg-type]
        raise RequestError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}.")


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    ok = isinstance(value, int) and not isinstance(value, bool)
    if not ok or not low <= value <= high:  # type: ignore[operator]
        raise RequestError(f"{name} must be a whole number from {low} to {high}, not {value!r}.")


def check_drafting(block_size: int | None, max_block_size: int | None) -> None:
    """Refuse a DFlash request that the loaded drafter cannot serve.

    Args:
        block_size: asked for; None takes the drafter's own.
        max_block_size: the largest that the drafter takes; None where no drafter is loaded.

    Raises:
        RequestError: no drafter is loaded, or the block size is outside its range.
    """
    if max_block_size is None:
        raise RequestError(
            "DFlash needs a drafter and none is loaded: load a pair with one, or use mode 'ar'."
        )
    if block_size is not None and not 2 <= block_size <= max_block_size:
        raise RequestError(
            f"This drafter takes blocks of 2 to {max_block_size} tokens, not "
            f"{block_size}: choose one in that range."
        )
