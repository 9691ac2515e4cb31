"""The pair that ships: small, right about 196, lossless, and readable by z-lab's own code."""

import dflash.model
import pytest
import torch
from dflash.model import DFlashDraftModel, dflash_generate
from transformers import AutoConfig, AutoModelForCausalLM

from dflash_app.backends.torch.loading import load_models
from dflash_app.drafters.tokenizer import load_tokenizer
from dflash_app.engine.prompt import encode_prompt
from dflash_app.request import Message
from dflash_app.settings import EMBEDDED_DIR
from dflash_app.training.evaluation import decode_greedy, mean_acceptance_length
from recipes.embedded_pair.config import FULL
from recipes.embedded_pair.dialogue import held_out_tasks
from recipes.embedded_pair.grading import is_right

DEMONSTRATION = "How many positive whole-number divisors does 196 have?"
TARGET, DRAFTER = EMBEDDED_DIR / "target", EMBEDDED_DIR / "drafter"


@pytest.fixture(scope="module")
def models():
    return load_models(TARGET, DRAFTER)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TARGET)


@pytest.fixture(scope="module")
def sample():
    """Three held-out questions of each kind."""
    counts: dict[str, int] = {}
    picked = []
    for task in held_out_tasks(FULL.seed, FULL.num_held_out):
        counts[task.kind] = counts.get(task.kind, 0) + 1
        if counts[task.kind] <= 3:
            picked.append(task)
    return picked


def prompt_ids(tokenizer, text):
    return encode_prompt(tokenizer, [Message("user", text)])


def test_each_weight_file_is_below_10_mb_and_a_card_lies_beside():
    files = list(EMBEDDED_DIR.rglob("*.safetensors"))
    assert len(files) == 2
    assert all(file.stat().st_size < 10_000_000 for file in files)
    assert "acceptance length" in (EMBEDDED_DIR / "README.md").read_text(encoding="utf-8")


def test_it_holds_at_least_2048_positions(models):
    assert models.context_length >= 2048


def test_it_counts_the_divisors_of_196(models, tokenizer):
    decoded = decode_greedy(models, prompt_ids(tokenizer, DEMONSTRATION), 300)
    text = tokenizer.decode(decoded.token_ids, skip_special_tokens=True)
    assert "2^2 × 7^2" in text
    assert text.rstrip().endswith("196 has **9** divisors.")


def test_dflash_gives_plain_decodings_tokens_and_most_answers_are_right(models, tokenizer, sample):
    right, decoded = 0, []
    for task in sample:
        ids = prompt_ids(tokenizer, task.prompt)
        fast = decode_greedy(models, ids, 300)
        assert fast.token_ids == decode_greedy(models, ids, 300, mode="ar").token_ids, task.prompt
        right += is_right(task, tokenizer.decode(fast.token_ids, skip_special_tokens=True))
        decoded.append(fast)
    assert right >= 0.75 * len(sample)
    acceptance = mean_acceptance_length(decoded)
    assert acceptance is not None
    assert acceptance > 5.0


def test_z_labs_own_code_loads_it_and_gives_the_same_tokens(models, tokenizer, sample, monkeypatch):
    # The reference times with CUDA events; on a CPU there are none.
    monkeypatch.setattr(dflash.model, "_cuda_time", lambda: 0.0)
    target = AutoModelForCausalLM.from_pretrained(TARGET, dtype=torch.float32).eval()
    drafter = DFlashDraftModel.from_pretrained(
        DRAFTER, config=AutoConfig.from_pretrained(DRAFTER), dtype=torch.float32
    ).eval()
    for text in [DEMONSTRATION, *(task.prompt for task in sample[::5])]:
        ids = prompt_ids(tokenizer, text)
        theirs = dflash_generate(
            drafter,
            target=target,
            input_ids=torch.tensor([ids]),
            max_new_tokens=300,
            stop_token_ids=sorted(models.eos_ids),
            temperature=0.0,
        )
        ours = decode_greedy(models, ids, 300)
        assert theirs[0, len(ids) :].tolist() == list(ours.token_ids), text
