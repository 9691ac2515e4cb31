"""The benchmark on a tiny pair: it counts right, compares what it says, and can miss a target."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import embedded
from benchmarks.engine import compare, summarize_comparisons
from benchmarks.pairs import add_pair, copy_endless, open_pair
from benchmarks.prompts import DEMONSTRATION, Prompt, held_out_prompts, talkative_prompts
from benchmarks.replay import replay
from benchmarks.report import Check
from dflash_app.request import GenerationRequest, Message
from dflash_app.settings import load_settings
from dflash_app.store.records import RunFilter
from dflash_app.workspace import Workspace, open_workspace
from recipes.embedded_pair.dialogue import KINDS
from tests.e2e.tiny_pair import write_tiny_pair

PROMPTS = [Prompt("a", "word word"), Prompt("b", "word"), Prompt("b", "strong word")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An app's home whose registry names a tiny random pair, "tiny"."""
    home = tmp_path_factory.mktemp("home")
    write_tiny_pair(home / "pair", home / "model_registry.yaml")
    return home


def test_prompts_are_held_out_of_every_kind_and_always_the_same():
    prompts = held_out_prompts(24)
    assert prompts[0].text == DEMONSTRATION
    assert {prompt.kind for prompt in prompts[1:13]} == set(KINDS)
    assert len({prompt.text for prompt in prompts}) == 25
    assert prompts == held_out_prompts(24)


def test_talkative_prompts_are_of_several_kinds():
    prompts = talkative_prompts(12)
    assert len(prompts) == 12
    assert len({prompt.kind for prompt in prompts}) >= 6


def test_each_prompt_is_compared_in_both_modes_in_each_round(home):
    with open_pair(home, "tiny", num_threads=1) as loaded:
        comparisons = compare(loaded, PROMPTS, repeats=2, max_new_tokens=24)
    assert [each.kind for each in comparisons] == ["a", "b", "b"] * 2
    for each in comparisons:
        assert each.identical
        assert each.ar.num_output_tokens == each.dflash.num_output_tokens == 24
        assert each.ar.mean_acceptance_length is None
        assert each.speedup == each.dflash.decode_tok_s / each.ar.decode_tok_s
    figures = summarize_comparisons(comparisons)
    speedups = sorted(each.speedup for each in comparisons)
    assert speedups[2] <= figures["median_speedup"] <= speedups[3]
    assert figures["num_runs"] == 12
    assert list(figures["kinds"]) == ["a", "b"]
    steps = [each.dflash.num_steps for each in comparisons]
    lengths = [each.dflash.mean_acceptance_length for each in comparisons]
    pooled = sum(n * length for n, length in zip(steps, lengths, strict=True)) / sum(steps)
    assert figures["mean_acceptance_length"] == pytest.approx(pooled)


def test_each_line_makes_the_replay_decode_what_the_chat_has_run_since(home, capsys):
    asked = [("dflash", "word word"), ("ar", "word"), ("dflash", "strong word")]

    def chat(*runs: tuple[str, str]) -> str:
        with _workspace(home) as workspace:
            loaded = workspace.loaded("tiny")
            for mode, text in runs:
                request = GenerationRequest((Message("user", text),), 9, mode=mode)
                list(workspace.run(loaded, request, source="chat"))
        return "\n"

    replay(home, 1, (chat(*runs) for runs in (asked[:2], asked[2:], [])))
    assert capsys.readouterr().out.split() == ["replayed"] * 3
    with _workspace(home) as workspace:
        chats, again = (
            workspace.store.list_runs(RunFilter(source=source))[::-1]
            for source in ("chat", "benchmark")
        )
    assert [(run.start.mode, run.start.prompt) for run in again] == asked
    assert [run.token_ids for run in again] == [run.token_ids for run in chats]
    assert all(len(run.token_ids) == 9 for run in again)


def test_a_silenced_stop_token_ends_no_reply(home, tmp_path):
    target, drafter = home / "pair" / "target", home / "pair" / "drafter"
    for name, folder in (
        ("own", target),
        ("endless", copy_endless(target, tmp_path / "endless", silent="<mask>")),
    ):
        add_pair(tmp_path, name, folder, drafter)
    with _workspace(tmp_path) as workspace:
        own, endless = (workspace.loaded(name)._models.eos_ids for name in ("own", "endless"))
    assert (own, endless) == ({2}, {3})


@pytest.mark.parametrize(
    ("check", "met"),
    [
        (Check("ratio", 2.5, "at least", 2.5), True),
        (Check("ratio", 2.49, "at least", 2.5), False),
        (Check("seconds", 19.9, "below", 20), True),
        (Check("seconds", 20.0, "below", 20), False),
        (Check("ratio", None, "at least", 2.5), False),
    ],
)
def test_a_check_tells_met_from_missed(check, met):
    assert check.met is met
    assert ("MISSED" in str(check)) is not met


def test_a_missed_target_is_the_exit_code_and_is_written(home, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(embedded, "use_cores", lambda wanted: 1)
    monkeypatch.setattr(embedded, "MIN_SPEEDUP", 1000.0)
    out = tmp_path / "results.json"
    folder = home / "pair"
    code = embedded.main(
        ["--target", f"{folder}/target", "--drafter", f"{folder}/drafter", "--skip-page",
         "--prompts", "1", "--repeats", "1", "--max-new-tokens", "8", "--out", str(out)]
    )  # fmt: skip
    assert code == 1
    assert "MISSED DFlash over AR" in capsys.readouterr().out
    results = json.loads(out.read_text())
    assert [check["met"] for check in results["checks"]] == [False, True]
    assert results["engine"]["num_runs"] == 4
    assert results["hardware"]["cores"] >= 1


def _workspace(home: Path) -> closing[Workspace]:
    return closing(open_workspace(load_settings(home)))
