"""Run turns under a limit of the process's memory and print what became of them, as JSON.

A program of its own: the limit is of a whole process. Linux only.
"""

import gc
import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dflash_app.backends.torch.backend import TorchBackend
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.errors import DFlashAppError
from dflash_app.events import PrefillDone, StepDone
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.request import GenerationRequest, Message

TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}"
WORDS = [f"w{index}" for index in range(61)]
WIDE_LAYERS = {"intermediate_size": 1 << 16, "num_attention_heads": 4, "num_key_value_heads": 4}
"""A prompt's piece of 512 tokens needs 0.3 GB on the way."""
LARGE_WEIGHTS = {**WIDE_LAYERS, "intermediate_size": 1 << 18}
"""0.2 GB, in pieces that malloc keeps out of its heap."""
LARGE_CACHE = {
    "intermediate_size": 64,
    "num_hidden_layers": 16,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}
"""A token takes 131 KB: a cache of 1024 tokens is far more than a forward needs on the way, and
more than malloc keeps in its heap."""


def write_pair(folder: Path, **shape: int) -> Pair:
    """A random target without a drafter, and its tokenizer."""
    vocab = {word: index for index, word in enumerate(["<unk>", "<eos>", "<pad>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>", chat_template=TEMPLATE
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        **{
            "num_hidden_layers": 2,
            "head_dim": 128,
            "max_position_embeddings": 1 << 16,
            **shape,
        },
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return Pair(name=folder.name, title="Tiny", family="llama", target=ModelRef(path=str(folder)))


def turn(pair: LoadedPair, num_words: int, max_new_tokens: int) -> dict[str, Any]:
    """What a turn put out, what it said, and how it failed."""
    text = " ".join(WORDS[index % len(WORDS)] for index in range(num_words))
    request = GenerationRequest((Message("user", text),), max_new_tokens=max_new_tokens, mode="ar")
    tokens: list[int] = []
    notes: list[str] = []
    error = None
    try:
        for event in pair.stream(request):
            tokens += [event.token_id] if isinstance(event, PrefillDone) else []
            if isinstance(event, StepDone):
                tokens += event.token_ids
                notes += [event.note] if event.note else []
    except DFlashAppError as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"tokens": tokens, "notes": notes, "error": error}


def taken_bytes() -> int:
    """Address space of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def run(folder: Path, more_bytes: int, num_words: int, max_new_tokens: int, **shape: int) -> Any:
    """Turns of a pair: short, then long under the limit, short again, and long without it."""
    pair = TorchBackend().load(write_pair(folder, **shape), LoadOptions(device="cpu"))
    before = turn(pair, 5, 8)
    gc.collect()  # what the pair before has left would make room
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken_bytes() + more_bytes, hard))
    limited = turn(pair, num_words, max_new_tokens)
    after = turn(pair, 5, 8)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    free = turn(pair, num_words, max_new_tokens)
    pair.close()
    return {"before": before, "limited": limited, "after": after, "free": free}


def load_limited(folder: Path, more_bytes: int, **shape: int) -> list[str]:
    """What loading says under the limit, and without it."""
    row, said = write_pair(folder, **shape), []
    gc.collect()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    for limit in (taken_bytes() + more_bytes, hard):
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        try:
            TorchBackend().load(row, LoadOptions(device="cpu")).close()
            said.append("")
        except DFlashAppError as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


if __name__ == "__main__":
    root = Path(sys.argv[1])
    print(
        json.dumps(
            {
                # Its cache fits once and not twice, so that it cannot grow by a token either.
                "growth": run(root / "cache", 200_000_000, 1000, 60, **LARGE_CACHE),
                "prompt": run(root / "wide", 180_000_000, 600, 4, **WIDE_LAYERS),
                "load": [
                    load_limited(root / "large", more_bytes, **LARGE_WEIGHTS)
                    for more_bytes in (20_000_000, 100_000_000, 220_000_000)
                ],
            }
        )
    )
