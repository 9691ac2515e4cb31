"""A real vLLM, asked through the app, decodes as the local engine does."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from benchmarks.prompts import Prompt, held_out_prompts
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.events import DecodeEvent, TextDelta, token_ids_of
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.request import GenerationRequest, Message, Mode
from dflash_app.workspace import Workspace
from tests.served.conftest import PAIR

NUM_PROMPTS = 150
"""Held-out questions, a thousand steps of DFlash and some."""
NUM_PLAIN = 24
MAX_NEW_TOKENS = 400
LOCAL = LoadOptions(device="cpu", dtype="float32", num_threads=1)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one prompt."""

    token_ids: tuple[int, ...]
    text: str
    metrics: RunMetrics

    @property
    def num_accepted(self) -> int:
        histogram = self.metrics.acceptance_histogram
        return sum(accepted * steps for accepted, steps in enumerate(histogram))


def reply_of(events: Sequence[DecodeEvent]) -> Reply:
    return Reply(
        token_ids=tuple(token for event in events for token in token_ids_of(event)),
        text="".join(event.text for event in events if isinstance(event, TextDelta)),
        metrics=summarize(events),
    )


def ask_all(
    workspace: Workspace, loaded: LoadedPair, prompts: Sequence[Prompt], mode: Mode
) -> list[Reply]:
    requests = [
        GenerationRequest((Message("user", prompt.text),), MAX_NEW_TOKENS, mode=mode)
        for prompt in prompts
    ]
    return [reply_of(list(workspace.run(loaded, each, source="test"))) for each in requests]


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return held_out_prompts(NUM_PROMPTS)


@pytest.fixture(scope="module")
def served(workspace: Workspace, prompts: list[Prompt]) -> dict[Mode, list[Reply]]:
    loaded = workspace.loaded(PAIR)
    return {
        "dflash": ask_all(workspace, loaded, prompts, "dflash"),
        "ar": ask_all(workspace, loaded, prompts[:NUM_PLAIN], "ar"),
    }


@pytest.fixture(scope="module")
def local(
    workspace: Workspace, served: dict[Mode, list[Reply]], prompts: list[Prompt]
) -> list[Reply]:
    """After the servers': one pair is in memory at a time."""
    return ask_all(workspace, workspace.loaded("embedded", LOCAL), prompts, "dflash")


def test_greedy_replies_of_both_servers_are_the_local_engines_token_by_token(
    served: dict[Mode, list[Reply]], local: list[Reply]
) -> None:
    assert [reply.token_ids for reply in served["dflash"]] == [reply.token_ids for reply in local]
    assert [reply.token_ids for reply in served["ar"]] == [
        reply.token_ids for reply in local[:NUM_PLAIN]
    ]


def test_their_texts_are_the_same_too(served: dict[Mode, list[Reply]], local: list[Reply]) -> None:
    assert [reply.text for reply in served["dflash"]] == [reply.text for reply in local]


def test_prompt_and_output_tokens_are_counted_alike(
    served: dict[Mode, list[Reply]], local: list[Reply]
) -> None:
    def counts(reply: Reply) -> tuple[int | None, int | None]:
        return reply.metrics.num_prompt_tokens, reply.metrics.num_output_tokens

    assert [counts(reply) for reply in served["dflash"]] == [counts(reply) for reply in local]


def test_vllm_tells_the_acceptance_of_each_request_by_itself(
    served: dict[Mode, list[Reply]],
) -> None:
    for reply in served["dflash"]:
        metrics = reply.metrics
        assert metrics.acceptance_source == "vLLM, this request"
        assert not metrics.acceptance_shared
        assert sum(metrics.acceptance_histogram) == metrics.num_steps
    assert all(reply.metrics.mean_acceptance_length is None for reply in served["ar"])


def test_acceptance_agrees_with_the_local_engines_within_3_percent(
    served: dict[Mode, list[Reply]], local: list[Reply]
) -> None:
    """Not exactly: vLLM 0.32's CPU kernel gives all the drafter's layers the first one's k_norm."""
    theirs, ours = _mean_acceptance_length(served["dflash"]), _mean_acceptance_length(local)
    assert theirs == pytest.approx(ours, rel=0.03)


def _mean_acceptance_length(replies: Sequence[Reply]) -> float:
    steps = sum(reply.metrics.num_steps or 0 for reply in replies)
    assert steps >= 1000
    return 1 + sum(reply.num_accepted for reply in replies) / steps
