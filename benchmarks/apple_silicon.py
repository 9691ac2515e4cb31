"""Writes docs/apple-silicon.md by the app's own estimate: `python -m benchmarks.apple_silicon`.

The pairs are those whose published shapes are in `shapes.json`; no weight is made or read.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.shapes import FILE
from dflash_app.backends.torch.dflash2 import new_drafter
from dflash_app.drafters.config import DFlashConfig
from dflash_app.engine.protocol import Quantization
from dflash_app.hub.memory import MemoryNeed, Storing, estimate
from dflash_app.hub.weights import Headers

PAGE = Path(__file__).parents[1] / "docs" / "apple-silicon.md"
MACS_GB = (8, 16, 24, 32, 36, 48, 64, 96, 128)
STORED: tuple[Quantization | None, ...] = (None, "8bit", "4bit")
GIB = 1 << 30

TEXT = """\
# Apple Silicon

Written by `python -m benchmarks.apple_silicon --write`; a test holds this page to the code.

## Install

macOS 14 or newer, Python 3.11 or newer. MLX comes along on Apple Silicon:

```bash
pip install -c constraints.txt -e .
dflash-app doctor                       # backend mlx: its version, device and memory
dflash-app generate "What is 12 + 30?"  # the shipped pair, on MLX
dflash-app serve
```

MLX is the default there; PyTorch stays one choice away: **Backend** above the tabs, or
`--backend torch`. Elsewhere MLX is an extra (`pip install '.[mlx]'`); on Linux it runs on the CPU.

Targets are taken as published on Hugging Face (bfloat16) or as converted by mlx-community (4 or 8
bits). A full target can be stored in fewer bits as it is loaded: **Precision** 4-bit or 8-bit, or
`--quantization 4bit`, and `--drafter-quantization 8bit` for its drafter: the run then says what
that did to the acceptance length.

## Which pairs fit

GB (10^9 bytes) for target, drafter, their caches at {context:,} tokens and a step's own needs, in
bfloat16 or with both stored in fewer bits, and the smallest Mac that holds that. Metal lends a
process about two thirds of the memory up to 32 GB and three quarters above, as published logs of
other programs show; `dflash-app doctor` shows what yours says, the app keeps to it (wired limit),
refuses a pair that does not fit before it reads it, and says which length does.

{table}

The app adds up the same for any pair whose files are there, before it reads a weight.

## What was not measured

**Nothing on this page was timed on a Mac.** The backend was built and tested on Linux, on MLX's CPU
device: every target family against mlx-lm's own greedy output with every accepted length, drafters
against PyTorch's and z-lab's. There the same code runs but for Metal's kernels. So neither speed
nor speedup on Apple Silicon is known, nor the memory that Metal itself takes, nor how the estimate
above compares with a Mac's own figures, nor whether the wired limit changes anything. z-lab advises
blocks of at most 5 on quantised targets there; adaptive drafts measure the cost of a block on your
machine instead. Please report `dflash-app doctor` and a race.

## What PyTorch has and MLX has not

Families: {missing}. Snapshots, the device `auto`, nf4 and int8. A target with experts
needs float32 on MLX's CPU device. Each is refused in a sentence that names the cure.
"""


class Shape(NamedTuple):
    """A pair as its files would tell it.

    Attributes:
        name: of the pair in the registry.
        target: headers of the target's files.
        config: its config.json.
        drafter: headers of the drafter's.
        block_size: anchor included.
    """

    name: str
    target: Headers
    config: dict[str, Any]
    drafter: Headers
    block_size: int


class Tensor(NamedTuple):
    """A header."""

    dtype: str
    shape: tuple[int, ...]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.apple_silicon", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"to docs/{PAGE.name}")
    page = build_page()
    if parser.parse_args(argv).write:
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page)


def build_page() -> str:
    """The whole page in Markdown."""
    from dflash_app.backends.mlx.families import ROLLBACK_KINDS as ON_MLX
    from dflash_app.backends.torch.families import ROLLBACK_KINDS as ON_TORCH

    rows, context = [], 0
    for shape in read_shapes():
        needs = [_need(shape, quantization) for quantization in STORED]
        context = needs[0].context_length
        rows.append(" | ".join((shape.name, *(_cell(need) for need in needs))))
    header = " | ".join(("pair", "bfloat16", *(str(each) for each in STORED[1:])))
    rule = " | ".join(["---"] * (1 + len(STORED)))
    table = "\n".join(f"| {row} |" for row in (header, rule, *rows))
    missing = ", ".join(sorted(set(ON_TORCH) - set(ON_MLX)))
    return TEXT.format(table=table, context=context, missing=missing)


def read_shapes() -> list[Shape]:
    """The published shapes, as headers."""
    shapes = json.loads(FILE.read_text(encoding="utf-8"))
    return [_as_files(name, each) for name, each in shapes.items() if not name.startswith("tiny")]


def lent_bytes(memory_gb: int) -> int:
    """What Metal lends of a Mac's memory, by what programs have published of it."""
    return int(memory_gb * GIB * (2 / 3 if memory_gb <= 32 else 3 / 4))


def _as_files(name: str, shape: dict[str, Any]) -> Shape:
    configs: Any = AutoConfig
    models: Any = AutoModelForCausalLM
    config = configs.for_model(**shape["target"], bos_token_id=None, eos_token_id=None)
    drafter = DFlashConfig.from_dict(shape["drafter"])
    with torch.device("meta"):
        target = models.from_config(config, dtype=torch.bfloat16)
        drafting = new_drafter(drafter, "sdpa")
    tied = target.lm_head.weight is target.get_input_embeddings().weight
    headers = _headers(target)
    if tied:
        headers.pop("lm_head.weight", None)
    return Shape(name, headers, config.to_dict(), _headers(drafting), drafter.block_size)


def _headers(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: Tensor("BF16", tuple(each.shape)) for name, each in model.named_parameters()}


def _need(shape: Shape, quantization: Quantization | None) -> MemoryNeed:
    storing = Storing(quantization=quantization, drafter_quantization=quantization)
    return estimate(shape.target, shape.config, shape.drafter, storing, block_size=shape.block_size)


def _cell(need: MemoryNeed) -> str:
    macs = [memory for memory in MACS_GB if need.total_bytes <= lent_bytes(memory)]
    where = f"{macs[0]} GB Mac" if macs else f"more than {MACS_GB[-1]} GB"
    return f"{need.total_bytes / 1e9:.1f} ({where})"


if __name__ == "__main__":
    main()
