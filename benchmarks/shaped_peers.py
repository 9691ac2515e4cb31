"""Other people's loops on random weights in a published shape: cycle time, not quality.

A loop's time is that of a long reply less that of a reply of one token: the prefill is apart.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from statistics import median
from typing import Any

import torch

from benchmarks.bandwidth import wait
from benchmarks.forced import forced_acceptance, forced_logits
from benchmarks.peer_loops import GENERATE, PROMPT_LOOKUP, ZLAB_DFLASH, Loop, peer_loops
from benchmarks.report import Check, device_names, environment, format_table, write_results
from benchmarks.shape_options import LABEL
from benchmarks.shapes import another, build_pair, our_models, random_ids
from dflash_app.backends.torch.loading import DTYPES, choose_device
from dflash_app.backends.torch.models import TorchModels
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.speculative import decode
from dflash_app.events import PrefillDone, StepDone
from dflash_app.request import Mode, SamplingParams

OUR_DFLASH, OUR_AR = "ours, DFlash", "ours, AR"
BARS = ((OUR_DFLASH, ZLAB_DFLASH, 3.0), (OUR_AR, GENERATE, 3.0))
"""Least ratios of tok/s on an H200 in bfloat16, Qwen3-8B's shape."""
NEAR_TIE_LOGITS = {"float32": 1e-3, "bfloat16": 0.125, "float16": 2e-2}
"""`dflash_app.race` judges by the same; it needs the store, which a bare GPU machine has not."""


def run(options: argparse.Namespace) -> int:
    """`python -m benchmarks.peers --shape`: measure, print, write; 1 where a bar is missed."""
    results = measure(options)
    checks = judge(results)
    print_results(results, checks)
    if options.out is not None:
        write_results(options.out, {**environment(), **results}, checks)
    return 0 if all(check.met for check in checks) else 1


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every loop's decoding tok/s after the first context length, and where their texts part."""
    device = choose_device(options.device)
    pair = build_pair(options.shape, device, DTYPES[options.dtype])
    theirs = another(pair)
    loops, missing = peer_loops(theirs.model, theirs.drafter, ())
    prompt_ids = random_ids(pair.model.config.vocab_size, options.context[0])
    with ExitStack() as forcing:
        if not options.free:
            loops.pop(PROMPT_LOOKUP, None)  # what it finds in noise says nothing
            forcing.enter_context(forced_acceptance(options.accept))
            forcing.enter_context(forced_logits(theirs.model, options.accept))
        models = our_models(pair)
        loops |= {OUR_DFLASH: _our_loop(models, "dflash"), OUR_AR: _our_loop(models, "ar")}
        tok_s, replies = _decode_all(loops, prompt_ids, options, device)
    # With forced acceptance only plain decoding still says what the weights say.
    compared = [name for name in loops if options.free or name.endswith("AR")]
    expected = replies[GENERATE]
    return {
        "label": LABEL if not options.free else "random weights, whatever they accept",
        "shape": options.shape,
        "accept": None if options.free else options.accept,
        "device": device_names(device),
        "dtype": options.dtype,
        "context": options.context[0],
        "num_tokens": options.tokens,
        "num_runs_each": options.loop_rounds,
        "missing": missing,
        "loops": _figures(tok_s),
        "differences": {
            name: _difference(theirs.model, prompt_ids, expected, replies[name])
            for name in compared
        },
    }


def judge(results: Mapping[str, Any]) -> list[Check]:
    """Our texts are `generate`'s; the ratios where they are Qwen3-8B's in bfloat16.

    z-lab's loop parts from it on recurrent layers, whose states it does not take back.
    """
    differences = results["differences"]
    parted = [differences[ours] for ours in (OUR_DFLASH, OUR_AR) if differences.get(ours)]
    margins = [each["margin"] for each in parted]
    checks = [
        Check(
            "largest margin where our texts part from generate's, logits",
            max(margins, default=0.0),
            "at most",
            NEAR_TIE_LOGITS[results["dtype"]],
        )
    ]
    if (results["shape"], results["dtype"]) != ("qwen3-8b", "bfloat16") or not results["accept"]:
        return checks
    loops = results["loops"]
    for ours, theirs, least in BARS:
        ratio = loops.get(theirs, {}).get(f"{ours} over it")
        checks.append(Check(f"{ours} over {theirs}", ratio, "at least", least))
    return checks


def print_results(results: Mapping[str, Any], checks: Sequence[Check]) -> None:
    """The loops below each other."""
    print(f"{results['shape']}, {results['dtype']}, {results['device']}: {results['label']}")
    print(f"{results['num_tokens']} tokens after {results['context']}, prefill apart")
    header = ("loop", "tok/s", "our DFlash over it", "our AR over it")
    print(format_table(header, [(name, *row.values()) for name, row in results["loops"].items()]))
    for name, reason in results["missing"].items():
        print(f"{name}: {reason}")
    for name, parted in results["differences"].items():
        if parted is not None:
            print(f"{name} parts at token {parted['position']}, margin {parted['margin']:.3g}")
    print("\n".join(str(check) for check in checks))


def _our_loop(models: TorchModels, mode: Mode) -> Loop:
    num_draft = (models.block_size or 1) - 1 if mode == "dflash" else 0

    def run(prompt_ids: list[int], max_new_tokens: int) -> list[int]:
        token_ids: list[int] = []
        with closing(models.open_lane(SamplingParams(), mode)) as lane:
            for event in decode(
                lane,
                prompt_ids,
                policy=FixedDrafts(num_draft),
                max_new_tokens=max_new_tokens,
                eos_ids=frozenset(),
                context_length=models.context_length,
                clock=time.perf_counter,
                cancelled=lambda: False,
            ):
                if isinstance(event, PrefillDone):
                    token_ids.append(event.token_id)
                elif isinstance(event, StepDone):
                    token_ids += event.token_ids
        return token_ids

    return run


def _decode_all(
    loops: Mapping[str, Loop],
    prompt_ids: list[int],
    options: argparse.Namespace,
    device: torch.device,
) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """tok/s of every run, by loop, in an order that rotates; and the last replies."""
    names, replies = list(loops), {}
    tok_s: dict[str, list[float]] = defaultdict(list)

    def seconds(name: str, count: int) -> float:
        wait(device)
        began_s = time.perf_counter()
        replies[name] = loops[name](prompt_ids, count)
        wait(device)
        return time.perf_counter() - began_s

    for name in names:
        seconds(name, options.tokens)
    for number in range(options.loop_rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            prefill_s = seconds(name, 1)
            decode_s = seconds(name, options.tokens) - prefill_s
            tok_s[name].append((options.tokens - 1) / max(decode_s, 1e-9))
    return tok_s, replies


def _figures(tok_s: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    table = {}
    for name in sorted(tok_s):
        row = {"median_tok_s": median(tok_s[name])}
        for ours in (OUR_DFLASH, OUR_AR):
            pairs = zip(tok_s[ours], tok_s[name], strict=True)
            row[f"{ours} over it"] = median(mine / other for mine, other in pairs)
        table[name] = row
    return table


@torch.inference_mode()
def _difference(
    model: Any, prompt_ids: list[int], expected: list[int], found: list[int]
) -> dict[str, float] | None:
    """Where a text parts from `generate`'s, and how far apart the two tokens' logits are there."""
    position = next(
        (i for i, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1]), None
    )
    if position is None:
        return None
    ids = torch.tensor([prompt_ids + expected[:position]], device=model.device)
    logits = model(input_ids=ids, logits_to_keep=1).logits[0, -1].float()
    margin = (logits[expected[position]] - logits[found[position]]).abs()
    return {"position": position, "margin": float(margin)}
