"""The options of everything that measures random weights in a published shape."""

import argparse

LABEL = "cycle time, not quality: random weights, forced acceptance"
DTYPES = ("bfloat16", "float16", "float32")


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
