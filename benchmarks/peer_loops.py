"""Other people's decode loops on the same weights: z-lab's reference, and transformers' own."""

import importlib
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from transformers import Qwen3Config

from benchmarks.native_dflash import STATEFUL, as_assistant, why_not_native
from dflash_app.backends.torch.dflash import DFlashDrafter

ZLAB_DFLASH, ZLAB_AR = "z-lab, DFlash", "z-lab, AR"
NATIVE_DFLASH, PROMPT_LOOKUP = "transformers, DFlash", "transformers, prompt lookup"
GENERATE = "transformers, AR"
LOOKUP_TOKENS = 10
"""Of `prompt_lookup_num_tokens`: the number in transformers' documentation."""

Loop: TypeAlias = Callable[[list[int], int], list[int]]
"""(prompt ids, most new tokens) -> output ids, greedy."""


def peer_loops(
    model: Any, drafter: DFlashDrafter, stop_ids: Iterable[int]
) -> tuple[dict[str, Loop], dict[str, str]]:
    """Every loop that can run the pair.

    Args:
        model: the target, from transformers, in eval mode, on its device.
        drafter: read by our code; its weights are shared.
        stop_ids: tokens that end a reply; none: replies have the full length.

    Returns:
        (loops, reasons): by name, and why those that are missing are missing.
    """
    stop = sorted(stop_ids)
    loops, missing = {GENERATE: _generate(model, stop)}, {}
    if model._is_stateful:
        missing[PROMPT_LOOKUP] = STATEFUL
    else:
        loops[PROMPT_LOOKUP] = _generate(model, stop, prompt_lookup_num_tokens=LOOKUP_TOKENS)
    reason = why_not_native(model, drafter)
    if reason is None:
        loops[NATIVE_DFLASH] = _native_loop(model, drafter, stop)
    else:
        missing[NATIVE_DFLASH] = reason
    try:
        reference: Any = importlib.import_module("dflash.model")
    except ImportError:
        reason = "not installed: run `pip install --no-deps dflash==0.1.0`"
        return loops, missing | dict.fromkeys((ZLAB_DFLASH, ZLAB_AR), reason)
    return loops | _zlab_loops(reference, model, drafter, stop), missing


def _zlab_loops(
    reference: Any, model: Any, drafter: DFlashDrafter, stop: list[int]
) -> dict[str, Loop]:
    device, written = drafter.norm.weight.device, drafter.config.to_dict()
    if device.type != "cuda":
        reference._cuda_time = time.perf_counter  # it times with CUDA only
    configs: Any = Qwen3Config
    with torch.device("meta"):
        theirs = reference.DFlashDraftModel(configs(**written, attn_implementation="sdpa"))
    theirs.load_state_dict(drafter.state_dict(), assign=True)
    theirs.rotary_emb = type(theirs.rotary_emb)(theirs.config).to(device)
    theirs = theirs.eval()

    def run(prompt_ids: list[int], max_new_tokens: int, block_size: int | None) -> list[int]:
        ids = torch.tensor([prompt_ids], device=device)
        output = reference.dflash_generate(
            theirs, model, ids, max_new_tokens, stop or None, block_size=block_size
        )
        return list(output[0, len(prompt_ids) :].tolist())

    return {
        ZLAB_DFLASH: lambda prompt_ids, count: run(prompt_ids, count, None),
        ZLAB_AR: lambda prompt_ids, count: run(prompt_ids, count, 1),
    }


def _native_loop(model: Any, drafter: DFlashDrafter, stop: list[int]) -> Loop:
    return _generate(model, stop, assistant_model=as_assistant(drafter), speculation_type="dflash")


def _generate(model: Any, stop: list[int], **ways: Any) -> Loop:
    def run(prompt_ids: list[int], max_new_tokens: int) -> list[int]:
        ids = torch.tensor([prompt_ids], device=model.device)
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=stop or None,
            pad_token_id=stop[0] if stop else 0,
            **ways,
        )
        return list(output[0, len(prompt_ids) :].tolist())

    return run
