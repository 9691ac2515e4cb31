"""The options of what measures a pair, and of random weights in a published shape."""

import argparse
from pathlib import Path

LABEL = "cycle time, not quality: random weights, forced acceptance"
DTYPES = ("bfloat16", "float16", "float32")


def pair_parser(
    program: str, description: str | None, *, prompts: int, max_new_tokens: int
) -> argparse.ArgumentParser:
    """What `peers` and `cycle` are asked; the numbers are defaults."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--target", type=Path, help="measure this target, not the shipped one")
    parser.add_argument("--drafter", type=Path, help="and this drafter")
    parser.add_argument("--prompts", type=int, default=prompts, help="held-out prompts")
    parser.add_argument("--rounds", type=int, default=3, help="over these prompts")
    parser.add_argument(
        "--max-new-tokens", type=int, default=max_new_tokens, help="limit of a reply"
    )
    parser.add_argument("--threads", type=int, default=1, help="that everything computes with")
    parser.add_argument("--cores", type=int, default=2, help="that the process may use")
    parser.add_argument("--out", type=Path, help="file for the results")
    add_shape_options(parser)
    return parser


def add_shape_options(parser: argparse.ArgumentParser) -> None:
    """Add them; without `--shape` the embedded pair is measured, and the others say nothing."""
    group = parser.add_argument_group("random weights", LABEL)
    group.add_argument("--shape", help="of benchmarks/shapes.json, such as qwen3-8b or tiny")
    group.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    group.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="of the weights")
    group.add_argument("--accept", type=int, default=6, help="drafts that each block has accepted")
    group.add_argument(
        "--free", action="store_true", help="peers: accept what the weights say; compare all texts"
    )
    group.add_argument("--context", type=int, nargs="+", default=[1024, 8192], help="prompt tokens")
    group.add_argument("--steps", type=int, default=40, help="cycle: timed steps of each sort")
    group.add_argument("--tokens", type=int, default=96, help="peers: decoded by each loop")
    group.add_argument("--loop-rounds", type=int, default=3, help="peers: runs of each loop")
