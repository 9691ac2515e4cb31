"""The benchmark of draft length policies, and the recording that the engine's tests replay."""

from contextlib import closing
from statistics import mean

import pytest

from benchmarks.acceptances import blocks_of
from benchmarks.policy import Round, figures_of, judge, measure
from benchmarks.prompts import DEMONSTRATION, Prompt
from dflash_app.backends.torch.loading import load_models
from dflash_app.drafters.tokenizer import load_tokenizer
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.prompt import encode_prompt
from dflash_app.engine.protocol import LoadOptions
from dflash_app.engine.speculative import decode
from dflash_app.events import StepDone
from dflash_app.request import Message, SamplingParams
from dflash_app.settings import EMBEDDED_DIR, load_settings
from dflash_app.workspace import open_workspace
from tests.e2e.tiny_pair import write_tiny_pair

OPTIONS = LoadOptions(device="cpu", dtype="float32", num_threads=1)


@pytest.mark.parametrize("num_drafts", [3, 15])
def test_a_real_run_accepts_what_was_recorded_at_its_tokens(num_drafts):
    models = load_models(EMBEDDED_DIR / "target", EMBEDDED_DIR / "drafter", OPTIONS)
    tokenizer = load_tokenizer(EMBEDDED_DIR / "target")
    prompt_ids = encode_prompt(tokenizer, (Message("user", DEMONSTRATION),))
    recorded = blocks_of(models, prompt_ids, 80, stop=True)
    assert len({block.num_accepted for block in recorded}) > 3
    with closing(models.open_lane(SamplingParams(), "dflash", None)) as lane:
        events = decode(
            lane, prompt_ids, policy=FixedDrafts(num_drafts), max_new_tokens=80,
            eos_ids=models.eos_ids, context_length=models.context_length, clock=lambda: 0.0,
            cancelled=lambda: False,
        )  # fmt: skip
        steps = [event for event in events if isinstance(event, StepDone)]
    token = 0
    for step in steps[:-1]:
        assert step.num_accepted == min(num_drafts, recorded[token].num_accepted)
        if num_drafts == 15:
            assert mean(step.confidences) == pytest.approx(recorded[token].confidence, abs=1e-3)
        token += len(step.token_ids)


def test_every_prompt_is_decoded_in_each_way_and_all_give_the_same_tokens(tmp_path):
    write_tiny_pair(tmp_path / "pair", tmp_path / "model_registry.yaml")
    prompts = [Prompt("a", "word word"), Prompt("b", "strong word")]
    with closing(open_workspace(load_settings(tmp_path))) as workspace:
        loaded = workspace.loaded("tiny", OPTIONS)
        rounds = measure(loaded, prompts, repeats=2, max_new_tokens=24)
    assert {kind: len(group) for kind, group in rounds.items()} == {"a": 2, "b": 2}
    for each in (*rounds["a"], *rounds["b"]):
        assert each.identical
        assert set(each.seconds) == {"ar", "fixed", "adaptive"}


def test_a_kind_is_judged_by_the_better_of_fixed_and_ar_and_can_miss():
    def kind(ar: float, fixed: float, adaptive: float) -> dict[str, float | int]:
        return figures_of([Round({"ar": ar, "fixed": fixed, "adaptive": adaptive}, 0, True)])

    good = {"easy": kind(4.0, 1.0, 1.02), "hard": kind(1.0, 2.0, 1.04)}
    assert [check.met for check in judge(good)] == [True, True, True]
    slow = good | {"easy": kind(4.0, 1.0, 1.1)}
    assert [check.met for check in judge(slow)] == [False, True, True]
    assert [check.met for check in judge({"hard": kind(1.0, 2.0, 2.1)})] == [False, True, False]
