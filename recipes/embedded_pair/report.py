"""What the pair can do: held-out answers, acceptance and losslessness, by kind."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dflash_app.backends.torch.loading import load_models
from dflash_app.backends.torch.models import TorchModels
from dflash_app.drafters.tokenizer import load_tokenizer
from dflash_app.engine.prompt import encode_prompt
from dflash_app.request import Message
from dflash_app.training.evaluation import Decoded, decode_greedy, mean_acceptance_length
from recipes.embedded_pair.dialogue import Conversation, conversation, held_out_tasks
from recipes.embedded_pair.grading import is_right
from recipes.embedded_pair.task import Task

LONG_TOKENS = 1_500
"""A long conversation holds at least so many tokens before the question."""


@dataclass(frozen=True, slots=True)
class KindReport:
    """One kind's held-out figures.

    Attributes:
        num_tasks: questions asked.
        num_right: answered rightly.
        num_lossless: where DFlash put out exactly the tokens of plain decoding.
        mean_acceptance_length: over all steps, bonus token included; None without a step.
        num_output_tokens: of all replies.
    """

    num_tasks: int
    num_right: int
    num_lossless: int
    mean_acceptance_length: float | None
    num_output_tokens: int


def report(
    target_dir: Path,
    drafter_dir: Path,
    *,
    seed: int,
    num_per_kind: int,
    num_long_per_kind: int,
    max_new_tokens: int,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Ask every held-out question with DFlash and with plain decoding, and grade the replies.

    Args:
        target_dir: the target.
        drafter_dir: the drafter.
        seed: of the held-out set, as in training.
        num_per_kind: questions of each kind, as in training.
        num_long_per_kind: of these, asked again after a long conversation.
        max_new_tokens: limit of a reply.
        log: is told one line a kind.

    Returns:
        `kinds` (by name), `all`, `long` (the questions after a long conversation) and `failures`.
    """
    models = load_models(target_dir, drafter_dir)
    tokenizer = load_tokenizer(target_dir)
    kinds: dict[str, list[Task]] = {}
    for task in held_out_tasks(seed, num_per_kind):
        kinds.setdefault(task.kind, []).append(task)
    reports, everything, long = {}, [], []
    failures: list[dict[str, str]] = []
    rng = random.Random(seed)
    ask = partial(_ask, models, tokenizer, max_new_tokens)
    for kind, tasks in kinds.items():
        asked = [ask((), task) for task in tasks]
        reports[kind] = asdict(_summary(asked))
        everything += asked
        failures += [
            {"kind": kind, "prompt": a.task.prompt, "expected": a.task.answer, "reply": a.text}
            for a in asked
            if not a.right
        ]
        before = [_long_history(tokenizer, rng) for _ in range(num_long_per_kind)]
        long += [ask(history, task) for history, task in zip(before, tasks, strict=False)]
        log(f"{kind}: {reports[kind]}")
    return {
        "kinds": reports,
        "all": asdict(_summary(everything)),
        "long": asdict(_summary(long)),
        "failures": failures,
    }


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, its reply by DFlash, and whether plain decoding agrees."""

    task: Task
    text: str
    decoded: Decoded
    right: bool
    lossless: bool


def _ask(
    models: TorchModels,
    tokenizer: Any,
    max_new_tokens: int,
    history: Sequence[Message],
    task: Task,
) -> _Asked:
    prompt_ids = encode_prompt(tokenizer, [*history, Message("user", task.prompt)])
    decoded = decode_greedy(models, prompt_ids, max_new_tokens)
    plain = decode_greedy(models, prompt_ids, max_new_tokens, mode="ar")
    text = str(tokenizer.decode(decoded.token_ids, skip_special_tokens=True))
    same = decoded.token_ids == plain.token_ids
    return _Asked(task, text, decoded, is_right(task, text), same)


def _summary(asked: Sequence[_Asked]) -> KindReport:
    acceptance = mean_acceptance_length(a.decoded for a in asked)
    return KindReport(
        num_tasks=len(asked),
        num_right=sum(a.right for a in asked),
        num_lossless=sum(a.lossless for a in asked),
        mean_acceptance_length=None if acceptance is None else round(acceptance, 3),
        num_output_tokens=sum(len(a.decoded.token_ids) for a in asked),
    )


def _long_history(tokenizer: Any, rng: random.Random) -> list[Message]:
    """Turns as in training until they fill LONG_TOKENS."""
    history: list[Message] = []
    while len(tokenizer.encode("".join(m.content for m in history))) < LONG_TOKENS:
        history += messages_of(conversation(rng, 1), with_system=False)
    return history


def messages_of(source: Conversation, *, with_system: bool = True) -> list[Message]:
    """A conversation's messages, replies as taught."""
    messages = []
    if source.system is not None and with_system:
        messages.append(Message("system", source.system))
    for turn in source.turns:
        messages += [Message("user", turn.prompt), Message("assistant", turn.task.reply)]
    return messages
