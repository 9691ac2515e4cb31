"""The static fast path: dense Qwen3 and Llama targets, and the first generation's drafters.

Plain functions on fused weights, keys and values in buffers that are written in place. What it does
not cover runs through transformers and `DFlashDrafter`; `why_not` and `why_not_drafter` say why.
"""

from dflash_app.backends.torch.fast.drafter import FastDrafter, why_not_drafter
from dflash_app.backends.torch.fast.target import FastTarget, why_not

__all__ = ["FastDrafter", "FastTarget", "why_not", "why_not_drafter"]
