"""Record what full blocks would have had accepted: `python -m benchmarks.acceptances`.

Each reply is decoded plainly, and a block is drafted at every one of its tokens. Greedy decoding
commits the same tokens whatever is drafted, so any draft length policy can be replayed over this
exactly: a step of `w` drafts at token `t` has min(w, accepted[t]) accepted. The tests of the engine
do so (`tests/engine/replay.py`). The drafter's confidence is recorded too, as a block's average.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks.prompts import Prompt, held_out_prompts
from benchmarks.strange_prompts import strange_prompts
from dflash_app.backends.torch.loading import load_models
from dflash_app.drafters.tokenizer import load_tokenizer
from dflash_app.engine.prompt import encode_prompt
from dflash_app.engine.protocol import LoadedModels, LoadOptions
from dflash_app.request import Message, SamplingParams
from dflash_app.settings import EMBEDDED_DIR

OUT = Path(__file__).parent.parent / "tests" / "engine" / "acceptances.json"
RUNNING_ON = "running on"
"""Replies that were not ended at their stop token: good drafts first, then text that the drafter
never saw."""
NUM_PROMPTS = 288
NUM_RUNNING_ON = 12
MAX_NEW_TOKENS = 400
MAX_RUNNING_ON_TOKENS = 256


class Block(NamedTuple):
    """What a full block would have come to at a token of a reply.

    Attributes:
        num_accepted: in [0, block size - 1], and no more than what is left of the reply.
        confidence: the drafter's probability of its drafts, on average.
    """

    num_accepted: int
    confidence: float


def blocks_of(
    models: Any, prompt_ids: Sequence[int], max_new_tokens: int, *, stop: bool
) -> list[Block]:
    """A full block after each token of a greedy reply, but the last.

    Args:
        models: of the torch backend, with a drafter.
        prompt_ids: what is answered.
        max_new_tokens: limit of the reply.
        stop: end it at a stop token.
    """
    lane = models.open_lane(SamplingParams(), "dflash", None)
    lane.extend(prompt_ids)
    reply, drafts = [lane.first_token()], []
    while len(reply) < max_new_tokens and not (stop and reply[-1] in models.eos_ids):
        draft = lane.propose(models.block_size - 1)
        drafts.append((draft.token_ids.tolist(), mean(draft.confidences.tolist())))
        length = lane.length
        reply.append(lane.verify(lane.propose(0)).bonus_id)
        lane.rewind(length + 1)
    lane.close()
    return [
        Block(_num_alike(drafted, reply[index + 1 :]), confidence)
        for index, (drafted, confidence) in enumerate(drafts)
    ]


def main() -> None:
    """Record the embedded pair on the benchmark's prompts, noise and other languages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptances", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    options = LoadOptions(device="cpu", dtype="float32", num_threads=1)
    models = load_models(EMBEDDED_DIR / "target", EMBEDDED_DIR / "drafter", options)
    tokenizer = load_tokenizer(EMBEDDED_DIR / "target")
    own = [*held_out_prompts(NUM_PROMPTS), *strange_prompts()]
    running_on = [*held_out_prompts(NUM_RUNNING_ON)[1:], *strange_prompts()[::3]]
    replies: dict[str, list[dict[str, str]]] = defaultdict(list)
    for prompt in own:
        reply = _recorded(models, tokenizer, prompt, MAX_NEW_TOKENS, stop=True)
        replies[prompt.kind].append(reply)
    for prompt in running_on:
        reply = _recorded(models, tokenizer, prompt, MAX_RUNNING_ON_TOKENS, stop=False)
        replies[RUNNING_ON].append(reply)
    recorded = {
        "made_by": "python -m benchmarks.acceptances",
        "num_drafts": (models.block_size or 1) - 1,
        "replies": replies,
    }
    out.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


def _recorded(
    models: LoadedModels, tokenizer: Any, prompt: Prompt, max_new_tokens: int, *, stop: bool
) -> dict[str, str]:
    """One hexadecimal digit a token: drafts accepted, and fifteenths of confidence."""
    prompt_ids = encode_prompt(tokenizer, (Message("user", prompt.text),))
    blocks = blocks_of(models, prompt_ids, max_new_tokens, stop=stop)
    return {
        "accepted": "".join(f"{block.num_accepted:x}" for block in blocks),
        "confidence": "".join(f"{round(15 * block.confidence):x}" for block in blocks),
    }


def _num_alike(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    return next((index for index, (left, right) in pairs if left != right), shorter)


if __name__ == "__main__":
    main()
