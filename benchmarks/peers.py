"""The same pair and prompts in other people's loops: `python -m benchmarks.peers`.

z-lab's `dflash_generate` (dflash 0.1.0, the reference) and transformers' own `generate`, greedy, in
one process with our engine. A reply is timed around the whole call, prefill included, because
that is what every one of them offers.
"""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.embedded import use_cores
from benchmarks.engine import decode, middle
from benchmarks.pairs import add_pair, folders, open_pair
from benchmarks.prompts import Prompt, held_out_prompts
from benchmarks.report import environment, format_table, write_results
from dflash_app.engine.prompt import encode_prompt
from dflash_app.engine.protocol import LoadedPair
from dflash_app.errors import DFlashAppError
from dflash_app.request import Message

NUM_WARM_UP = 2
OURS = ("ours, DFlash", "ours, AR")

Decode = Callable[[Prompt], list[int]]
"""Answers a prompt with its output tokens."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every contender on every prompt, in an order that rotates, and print the ratios."""
    options = _parse(argv)
    threads = use_cores(options.cores)
    target, drafter = folders(options.target, options.drafter)
    prompts = held_out_prompts(options.prompts)
    with tempfile.TemporaryDirectory() as folder:
        add_pair(Path(folder), "measured", target, drafter)
        with open_pair(Path(folder), "measured", threads) as loaded:
            contenders = {
                **_our_loops(loaded, options.max_new_tokens),
                **_peer_loops(target, drafter, threads, options.max_new_tokens),
            }
            speeds, num_different = _measure(contenders, prompts, options.repeats)
    table = _ratios(speeds)
    header = ("loop", "tok/s", "DFlash of ours over it", "AR of ours over it")
    print(format_table(header, [(name, *row.values()) for name, row in table.items()]))
    print(f"runs of each: {len(speeds[OURS[0]])}; replies that differ: {num_different}")
    if options.out is not None:
        figures = {"loops": table, "num_different_outputs": num_different, "threads": threads}
        counts = {"num_prompts": len(prompts), "num_runs_each": len(speeds[OURS[0]])}
        write_results(options.out, {**environment(), **counts, **figures}, [])


def _our_loops(loaded: LoadedPair, max_new_tokens: int) -> dict[str, Decode]:
    return {
        OURS[0]: lambda prompt: decode(loaded, prompt, "dflash", max_new_tokens)[1],
        OURS[1]: lambda prompt: decode(loaded, prompt, "ar", max_new_tokens)[1],
    }


def _peer_loops(
    target_dir: Path, drafter_dir: Path, threads: int, max_new_tokens: int
) -> dict[str, Decode]:
    """z-lab's loop with and without drafter, and transformers' greedy search."""
    import torch
    import transformers

    try:
        reference: Any = importlib.import_module("dflash.model")
    except ImportError:
        sys.exit("z-lab's dflash is not installed: run `pip install --no-deps dflash==0.1.0`.")
    reference._cuda_time = time.perf_counter  # it times with CUDA; on a CPU there is none
    library: Any = transformers
    torch.set_num_threads(threads)  # this thread's: our engine has set its own
    tokenizer = library.AutoTokenizer.from_pretrained(target_dir)
    target = library.AutoModelForCausalLM.from_pretrained(target_dir, dtype=torch.float32).eval()
    drafter = reference.DFlashDraftModel.from_pretrained(
        drafter_dir, config=library.AutoConfig.from_pretrained(drafter_dir), dtype=torch.float32
    ).eval()
    stop_ids = target.generation_config.eos_token_id
    stop_ids = [stop_ids] if isinstance(stop_ids, int) else list(stop_ids)

    def encode(prompt: Prompt) -> torch.Tensor:
        return torch.tensor([encode_prompt(tokenizer, [Message("user", prompt.text)])])

    def run_reference(prompt: Prompt, block_size: int | None) -> list[int]:
        ids = encode(prompt)
        output = reference.dflash_generate(
            drafter, target, ids, max_new_tokens, stop_ids, block_size=block_size
        )
        return list(output[0, ids.shape[1] :].tolist())

    def run_transformers(prompt: Prompt) -> list[int]:
        ids = encode(prompt)
        mask = torch.ones_like(ids)
        output = target.generate(
            ids, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False
        )
        return list(output[0, ids.shape[1] :].tolist())

    return {
        "z-lab, DFlash": lambda prompt: run_reference(prompt, None),
        "z-lab, AR": lambda prompt: run_reference(prompt, 1),
        "transformers, AR": run_transformers,
    }


def _measure(
    contenders: dict[str, Decode], prompts: Sequence[Prompt], repeats: int
) -> tuple[dict[str, list[float]], int]:
    """End-to-end tok/s of every run, by contender, and how many replies differ from ours."""
    for prompt in prompts[:NUM_WARM_UP]:
        for answer in contenders.values():
            answer(prompt)
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    num_different = 0
    names = list(contenders)
    for number in range(repeats):
        for position, prompt in enumerate(prompts):
            first = (number + position) % len(names)
            replies = {}
            for name in names[first:] + names[:first]:
                began_s = time.perf_counter()
                replies[name] = contenders[name](prompt)
                speeds[name].append(len(replies[name]) / (time.perf_counter() - began_s))
            num_different += sum(reply != replies[OURS[1]] for reply in replies.values())
    return speeds, num_different


def _ratios(speeds: dict[str, list[float]]) -> dict[str, dict[str, float | None]]:
    """Median tok/s of each, and the medians of our paired ratios to it."""
    table = {}
    for name, theirs in speeds.items():
        row = {"median_tok_s": middle(theirs)}
        for ours in OURS:
            pairs = zip(speeds[ours], theirs, strict=True)
            row[f"{ours} over it"] = middle(mine / other for mine, other in pairs)
        table[name] = row
    return table


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument(
        "--target", type=Path, help="measure this target instead of the shipped one"
    )
    parser.add_argument("--drafter", type=Path, help="and this drafter")
    parser.add_argument("--prompts", type=int, default=24, help="held-out prompts")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over them")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="limit of a reply")
    parser.add_argument("--cores", type=int, default=2, help="and threads, that all may use")
    parser.add_argument("--out", type=Path, help="file for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        main()
    except DFlashAppError as error:
        sys.exit(str(error))
