"""Peak memory of a long prefill on a small hybrid, by the layers that are tapped.

`python -m benchmarks.prefill TAPS CHUNK TOKENS` is one measurement: a process of its own, whose
peak nothing else has raised before. It prints a line of JSON.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NUM_TOKENS = 4096
NUM_LAYERS = 16
HIDDEN_SIZE = 512
STATE_BYTES = NUM_TOKENS * HIDDEN_SIZE * 4
"""One layer's states over the prompt, float32."""

_STATUS = Path("/proc/self/status")
_ROOT = Path(__file__).parent.parent


def measure_prefill(
    num_taps: int, chunk: int = NUM_TOKENS, num_tokens: int = NUM_TOKENS
) -> dict[str, Any]:
    """Run one prefill in a process of its own.

    Args:
        num_taps: tapped layers, spread over the depth.
        chunk: tokens of a forward; the whole prompt at once, or as the engine does it.
        num_tokens: of the prompt.

    Returns:
        `taps`, `chunk`, and `peak_bytes` over what the process held before the prefill, None where
        the system does not tell (only Linux does).
    """
    # Every large block comes from the system and goes back to it: else the peak would count what
    # the allocator merely kept.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.prefill", *map(str, (num_taps, chunk, num_tokens))],
        cwd=_ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def main(argv: Sequence[str]) -> None:
    num_taps, chunk, num_tokens = (int(word) for word in argv)
    peak_bytes = _peak(num_taps, chunk, num_tokens)
    print(json.dumps({"taps": num_taps, "chunk": chunk, "peak_bytes": peak_bytes}))


def spread(num_taps: int) -> tuple[int, ...]:
    """That many layers of the model, evenly spread, the last one included."""
    return tuple((index + 1) * NUM_LAYERS // num_taps - 1 for index in range(num_taps))


def _peak(num_taps: int, chunk: int, num_tokens: int) -> int | None:
    if not _STATUS.exists():
        return None
    import torch
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    from dflash_app.backends.torch.target import TorchTarget

    torch.set_num_threads(1)
    config = Qwen3_5TextConfig(
        vocab_size=128, hidden_size=HIDDEN_SIZE, intermediate_size=HIDDEN_SIZE,
        num_hidden_layers=NUM_LAYERS, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=64,
        linear_value_head_dim=64,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = Qwen3_5ForCausalLM(config)
    target = TorchTarget(model.eval().requires_grad_(False))
    ids, taps = torch.arange(num_tokens) % config.vocab_size, spread(num_taps)
    with torch.inference_mode():
        target.forward(ids[:64], target.new_cache(), 1, taps)  # code and tables are there
        cache = target.new_cache()
        _forget_peak()
        before = _status("VmRSS")
        for start in range(0, num_tokens, chunk):
            target.forward(ids[start : start + chunk], cache, 1, taps)
            cache.crop(0)
    return _status("VmHWM") - before


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
