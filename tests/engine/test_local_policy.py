"""Which policy a request gets from a loaded pair, and what its runs learn for the next ones."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dflash_app.engine.local import LocalPair
from dflash_app.engine.policy import SEEDED_NOTE
from dflash_app.engine.step_costs import NEEDED_STEPS
from dflash_app.engine.worker import Worker
from dflash_app.errors import RequestError
from dflash_app.events import StepDone
from dflash_app.request import GenerationRequest, Message, SamplingParams
from tests.engine.scripted import Costs, ScriptedModels, output
from tests.engine.tiny_tokenizers import chat_tokenizer

REQUEST = GenerationRequest((Message("user", "How many?"),), max_new_tokens=120, policy="adaptive")
FIXED = replace(REQUEST, policy="fixed")


@pytest.fixture
def models() -> ScriptedModels:
    """Drafts never help: a step takes 1 s, drafting another one."""
    return ScriptedModels(
        next_token=lambda prefix: 40 + len(prefix) % 50, costs=Costs(0.0, 1.0, 1.0)
    )


@pytest.fixture
def pair(models) -> Iterator[LocalPair]:
    pair = LocalPair(
        name="scripted", backend="none", tokenizer=chat_tokenizer(), models=models,
        worker=Worker("test-local-policy"), now=models.time,
    )  # fmt: skip
    yield pair
    pair.close()


def widths(events) -> list[int]:
    return [len(event.drafted_ids) for event in events if isinstance(event, StepDone)]


def notes(events) -> list[str]:
    return [event.note for event in events if isinstance(event, StepDone) and event.note]


def test_fixed_is_what_a_request_gets_that_asks_for_nothing(pair):
    assert GenerationRequest((Message("user", "x"),)).policy == "fixed"
    events = list(pair.stream(FIXED))
    assert set(widths(events)[:-3]) == {3}
    assert notes(events) == []


def test_adaptive_gives_the_same_tokens_falls_back_and_says_so(pair):
    fixed, adaptive = list(pair.stream(FIXED)), list(pair.stream(REQUEST))
    assert output(adaptive) == output(fixed)
    (note,) = notes(adaptive)
    assert note.startswith("AR fallback")
    assert adaptive[-1].elapsed_s < 0.8 * fixed[-1].elapsed_s


def test_a_later_run_does_not_measure_again_what_an_earlier_one_did(pair):
    # Of three plain steps the first follows a block and is not measured.
    measuring = [3, 3, 0, 0, 0] * (NEEDED_STEPS // 2)
    assert widths(list(pair.stream(REQUEST)))[: len(measuring)] == measuring
    assert widths(list(pair.stream(REQUEST)))[: len(measuring)] != measuring
    # Another block size drafts at another cost.
    assert widths(list(pair.stream(replace(REQUEST, block_size=6))))[:5] == [5, 5, 0, 0, 0]


def test_a_seeded_run_with_temperature_keeps_fixed_drafts_and_says_why(pair):
    sampled = SamplingParams(temperature=0.7, seed=1)
    events = list(pair.stream(replace(REQUEST, sampling=sampled)))
    assert set(widths(events)[:-3]) == {3}
    assert notes(events) == [SEEDED_NOTE]


@pytest.mark.parametrize("sampling", [SamplingParams(seed=1), SamplingParams(temperature=0.7)])
def test_a_run_without_seed_or_without_chance_adapts(pair, sampling):
    assert 0 in widths(list(pair.stream(replace(REQUEST, sampling=sampling))))


def test_plain_decoding_stays_plain_whatever_the_policy(pair):
    assert set(widths(list(pair.stream(replace(REQUEST, mode="ar"))))) == {0}


def test_an_unknown_policy_is_refused():
    with pytest.raises(RequestError, match="'fixed' or 'adaptive'"):
        replace(REQUEST, policy="clever")
