"""The model card of the embedded pair, written from the report alone."""

from typing import Any

_CARD = """---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# The embedded pair of DFlash Studio

A Qwen3-architecture target ({target_parameters:,} parameters) and a DFlash drafter for it
({drafter_parameters:,} parameters, {drafter_layers} layers, block size {block_size}), both trained
by us from nothing, so that the app works offline on a laptop CPU. `target/` loads with
transformers, `drafter/` with DFlash Studio and with z-lab's `dflash`.

## What it is for

To show DFlash at work. The target answers twelve kinds of simple questions; everything else it is
taught to decline. It is no assistant: it knows a few dozen facts, and it makes mistakes.

**What its speed means.** A step of so small a model is bound by the cost of launching operations,
not by reading its weights. Its tok/s and its speedup show this engine on your machine; what a real
pair gains depends on its acceptance and on memory bandwidth.

## Held-out results

Other numbers and other wordings than in training (the prompt about the divisors of 196 among
them), greedy, float32, block size {block_size}, decoded by the engine of the app with DFlash and
plainly. Acceptance length = 1 + accepted drafts / steps.

| kind | questions | right | acceptance length | same tokens as plain decoding |
|---|---:|---:|---:|---:|
{rows}

After a conversation of more than {long_tokens:,} tokens: {long}.

Code answers are executed; numbers and facts are the last bold text; small talk and refusals must
match to the letter. Seed {seed}; command: `{command}`.

## How it was made

`make embedded-pair` (recipes/embedded_pair): a seeded generator writes conversations; a byte-level
BPE tokenizer of {vocab_size} tokens with single digits; the target is trained on
{target_tokens:,} tokens ({target_steps:,} steps, bfloat16 with float32 masters, Muon and AdamW);
it then answers {num_conversations:,} training prompts greedily, and the drafter learns random
blocks of these replies ({drafter_steps:,} steps; see drafter/training.json). Held-out questions
are excluded from all training text, and no whole factorisation in it passes through a held-out
number; a single division of another number may end at one (392 ÷ 2 = 196).
Context {context_length:,} positions.

Measured on two CPU cores. Trained on synthetic text only; it holds no personal data.
"""


def model_card(report: dict[str, Any], facts: dict[str, Any]) -> str:
    """Fill the card.

    Args:
        report: from `report.report`.
        facts: the remaining fields, by the names in the card.
    """
    rows = [_row(kind, figures) for kind, figures in report["kinds"].items()]
    rows.append(_row("**all**", report["all"]))
    long = report["long"]
    long_text = (
        f"{long['num_right']} of {long['num_tasks']} right, acceptance length "
        f"{long['mean_acceptance_length']:.2f}, {long['num_lossless']} with the same tokens"
    )
    return _CARD.format(rows="\n".join(rows), long=long_text, **facts)


def _row(kind: str, figures: dict[str, Any]) -> str:
    share = figures["num_right"] / figures["num_tasks"]
    acceptance = figures["mean_acceptance_length"]
    shown = "–" if acceptance is None else f"{acceptance:.2f}"
    return (
        f"| {kind} | {figures['num_tasks']} | {share:.0%} | {shown} | "
        f"{figures['num_lossless']} of {figures['num_tasks']} |"
    )
