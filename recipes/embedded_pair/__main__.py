"""Make the embedded pair from nothing: `python -m recipes.embedded_pair`.

Stages write into one folder and are skipped where their result is there, so that a run that was cut
goes on where it stopped.
"""

import argparse
import hashlib
import itertools
import json
import random
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from dflash_app.errors import TrainingError
from dflash_app.request import Message
from dflash_app.settings import EMBEDDED_DIR
from dflash_app.training.config import TrainingConfig
from dflash_app.training.trainer import TrainingResult, train_drafter
from recipes.embedded_pair.card import model_card
from recipes.embedded_pair.config import FULL, SHORT, Recipe
from recipes.embedded_pair.dialogue import (
    conversation,
    conversations,
    held_out_tasks,
    normalise,
)
from recipes.embedded_pair.report import LONG_TOKENS, messages_of, report
from recipes.embedded_pair.target import train_target
from recipes.embedded_pair.target_model import export_target
from recipes.embedded_pair.tokenizer import (
    END_OF_TEXT_ID,
    TURN_END_ID,
    VOCAB_SIZE,
    save_tokenizer,
    train_tokenizer,
)


def main() -> None:
    """Read the command line and make the pair."""
    parser = argparse.ArgumentParser(prog="python -m recipes.embedded_pair", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded_pair"))
    parser.add_argument("--short", action="store_true", help="a tiny pair in minutes, as in CI")
    parser.add_argument("--install", action="store_true", help="copy it into dflash_app/embedded")
    parser.add_argument("--threads", type=int, default=None, help="compute threads")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        make_pair(SHORT if options.short else FULL, options.out)
    except TrainingError as error:
        sys.exit(f"Error: {error}")
    if options.install:
        install(options.out)


def make_pair(recipe: Recipe, out: Path) -> tuple[list[float], TrainingResult, dict[str, Any]]:
    """Run every stage that is not done yet.

    Returns:
        The target's losses of this call, the drafter's result, and the report.

    Raises:
        TrainingError: `out` holds the work of another recipe, or a config or checkpoint is wrong.
    """
    excluded = held_out_prompts(recipe)
    claim_folder(recipe, excluded, out)
    tokenizer = _tokenizer(recipe, excluded, out / "tokenizer.json")
    losses = _target(recipe, tokenizer, excluded, out)
    _write_conversations(recipe, excluded, out)
    result = train_drafter(drafter_training(recipe, out))
    figures = _report(recipe, out, result)
    return losses, result, figures


def held_out_prompts(recipe: Recipe) -> frozenset[str]:
    """The normalised questions that no training text may hold."""
    tasks = held_out_tasks(recipe.seed, recipe.num_held_out)
    return frozenset(normalise(task.prompt) for task in tasks)


def claim_folder(recipe: Recipe, excluded: frozenset[str], out: Path) -> None:
    """Write into `out/recipe.json` what its stages are made from, or check what is written there.

    Args:
        recipe: of the run.
        excluded: the held-out prompts, which change with the task code too.
        out: the run's folder, absent, empty or of the same recipe.

    Raises:
        TrainingError: it holds another recipe's work, or nobody knows whose.
    """
    content = "\n".join([repr(recipe), *sorted(excluded)])
    text = json.dumps({"sha256": hashlib.sha256(content.encode()).hexdigest()}) + "\n"
    path = out / "recipe.json"
    if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
        return
    if out.exists() and any(out.iterdir()):
        raise TrainingError(
            f"{out} holds files of another recipe: delete the folder or choose another --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def drafter_training(recipe: Recipe, out: Path) -> TrainingConfig:
    """The drafter's training as the general trainer takes it."""
    return TrainingConfig(
        target=out / "target",
        conversations=out / "conversations.jsonl",
        held_out=out / "held_out.jsonl",
        output=out / "drafter_run",
        drafter=recipe.drafter,
        max_new_tokens=recipe.max_new_tokens,
        sequence_length=recipe.target.shape.context_length,
        batch_sequences=recipe.drafter_batch,
        batch_tokens=recipe.drafter_batch_tokens,
        anchors_per_sequence=recipe.drafter_anchors,
        num_steps=recipe.drafter_steps,
        optimizer="muon",
        learning_rate=recipe.drafter_lr,
        dtype="auto",
        compiled=recipe.compiled,
        seed=recipe.seed,
        evaluate_every=max(1, recipe.drafter_steps // 4),
        num_evaluated=recipe.num_evaluated,
    )


def install(out: Path) -> None:
    """Copy the finished pair to where the app finds it."""
    for name, source in (("target", out / "target"), ("drafter", out / "drafter_run" / "drafter")):
        shutil.rmtree(EMBEDDED_DIR / name, ignore_errors=True)
        shutil.copytree(source, EMBEDDED_DIR / name)
    shutil.copy(out / "README.md", EMBEDDED_DIR / "README.md")
    shutil.copy(out / "report.json", EMBEDDED_DIR / "report.json")
    print(f"installed in {EMBEDDED_DIR}")


def _tokenizer(recipe: Recipe, excluded: frozenset[str], path: Path) -> Tokenizer:
    if not path.exists():
        tokenizer = train_tokenizer(recipe.seed + 6, excluded, recipe.num_tokenizer_conversations)
        tokenizer.save(str(path))
    return Tokenizer.from_file(str(path))


def _target(
    recipe: Recipe, tokenizer: Tokenizer, excluded: frozenset[str], out: Path
) -> list[float]:
    folder = out / "target"
    if (folder / "tokenizer_config.json").exists():
        return []
    model, losses = train_target(recipe.target, tokenizer, excluded, out, compiled=recipe.compiled)
    export_target(model, folder, TURN_END_ID, END_OF_TEXT_ID)
    save_tokenizer(tokenizer, folder, recipe.target.shape.context_length)
    return losses


def _write_conversations(recipe: Recipe, excluded: frozenset[str], out: Path) -> None:
    """Prompts for the drafter, and the held-out ones in a fixed mixed order."""
    short = itertools.islice(
        conversations(recipe.seed + 100, excluded=excluded), recipe.num_drafter_conversations
    )
    rng = random.Random(recipe.seed + 200)
    # A token is about two characters: every length from a short talk to nearly the whole context.
    context = recipe.target.shape.context_length
    long = (
        conversation(rng, 4, rng.randint(context // 2, 2 * context - 500), excluded)
        for _ in range(recipe.num_long_conversations)
    )
    picked = itertools.chain(short, long)
    _write_lines(out / "conversations.jsonl", (messages_of(each) for each in picked))
    tasks = held_out_tasks(recipe.seed, recipe.num_held_out)
    random.Random(recipe.seed).shuffle(tasks)
    _write_lines(out / "held_out.jsonl", ([Message("user", task.prompt)] for task in tasks))


def _write_lines(path: Path, conversations: Iterable[list[Message]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for messages in conversations:
            row = {"messages": [{"role": m.role, "content": m.content} for m in messages]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _report(recipe: Recipe, out: Path, result: TrainingResult) -> dict[str, Any]:
    """Grade the pair, write report.json and the model card."""
    figures = report(
        out / "target",
        result.folder,
        seed=recipe.seed,
        num_per_kind=recipe.num_held_out,
        num_long_per_kind=max(1, recipe.num_held_out // 12),
        max_new_tokens=recipe.max_new_tokens,
    )
    (out / "report.json").write_text(
        json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    training = json.loads((result.folder / "training.json").read_text(encoding="utf-8"))
    t = recipe.target
    num_long = t.num_steps // t.long_every
    short_tokens = (t.num_steps - num_long) * t.batch_rows * t.row_length
    facts = {
        "target_parameters": _num_parameters(out / "target"),
        "drafter_parameters": training["num_parameters"],
        "drafter_layers": recipe.drafter.num_layers,
        "block_size": recipe.drafter.block_size,
        "long_tokens": LONG_TOKENS,
        "seed": recipe.seed,
        "command": "python -m recipes.embedded_pair",
        "vocab_size": VOCAB_SIZE,
        "target_tokens": short_tokens + num_long * t.long_rows * t.shape.context_length,
        "target_steps": t.num_steps,
        "num_conversations": training["num_sequences"],
        "drafter_steps": recipe.drafter_steps,
        "context_length": t.shape.context_length,
    }
    (out / "README.md").write_text(model_card(figures, facts), encoding="utf-8")
    print(json.dumps(figures["all"]), json.dumps(figures["long"]))
    return figures


def _num_parameters(folder: Path) -> int:
    """Parameters of a bfloat16 checkpoint, tied weights once, from its header."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        return sum(weights.get_slice(n).get_shape()[0] * _rest(weights, n) for n in weights.keys())  # noqa: SIM118


def _rest(weights: Any, name: str) -> int:
    shape = weights.get_slice(name).get_shape()
    return int(shape[1]) if len(shape) == 2 else 1


if __name__ == "__main__":
    main()
