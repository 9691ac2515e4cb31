from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dflash_app.advisor.diagnose import bfloat16_units, diagnose, judge
from dflash_app.advisor.finding import Change
from dflash_app.advisor.say import say_headline
from dflash_app.errors import StoreError
from dflash_app.events import DecodeEvent, Finished, ServerCounts, TokensArrived
from dflash_app.metrics import summarize
from dflash_app.registry.load import Registry, load_registry
from dflash_app.store.runs import Store
from tests.advisor.cases import START, case, repeated, steps

DFLASH = steps(repeated([3], 20))
PLAIN = {"mode": "ar", "block_size": None, "policy": None, "drafter_path": None}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "runs.db") as opened:
        yield opened


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    drafter = tmp_path / "drafter"
    drafter.mkdir()
    (drafter / "config.json").write_text('{"max_position_embeddings": 60}')
    (drafter / "model.safetensors").write_bytes(b"")
    path = tmp_path / "pairs.yaml"
    path.write_text(
        "pairs:\n  - name: tiny\n    title: Tiny\n    family: qwen3\n"
        f'    target: {{path: "{tmp_path / "target"}"}}\n    drafter: {{path: "{drafter}"}}\n'
    )
    return load_registry([path])


def add(store: Store, events: Sequence[DecodeEvent], **asked: Any) -> int:
    run_id = store.start_run(replace(START, **asked))
    store.finish_run(
        run_id, "stop", output="Nine.", token_ids=[], metrics=summarize(events), events=events
    )
    return run_id


def plain_steps(seconds: float) -> list[DecodeEvent]:
    return steps(repeated([-1], 20), verify_s=seconds)


def test_a_run_is_told_with_its_speedup_and_its_ceilings(store: Store, registry: Registry) -> None:
    plain = add(store, plain_steps(0.005), **PLAIN)
    found = diagnose(store, registry, add(store, DFLASH))
    figures = {each.key: each.figures for each in found.headline}
    assert figures["speed"]["speed"] == pytest.approx(400)
    assert figures["speedup_of_runs"]["speedup"] == pytest.approx(2)
    assert figures["speedup_of_runs"]["run"] == plain
    assert figures["ceiling"]["ratio"] == pytest.approx(2)
    assert figures["ceiling"]["perfect"] == pytest.approx(4)
    assert figures["ceiling"]["length"] == pytest.approx(4)


def test_findings_stand_by_what_they_cost_and_unknown_ones_last(
    store: Store, registry: Registry
) -> None:
    add(store, plain_steps(0.005), **PLAIN, path="dynamic cache: recurrent layers")
    found = diagnose(store, registry, add(store, DFLASH, path="dynamic cache: recurrent layers"))
    lost = [each.lost_s for each in found.findings]
    known = [seconds for seconds in lost if seconds is not None]
    assert known == sorted(known, reverse=True)
    assert len(known) >= 2
    assert lost[-1] is None
    assert found.findings[-1].key == "slow_path"


def test_a_plain_step_is_that_of_the_same_race_else_of_the_same_moment(
    store: Store, registry: Registry
) -> None:
    def plain_run(seconds: float, minutes: int, **asked: Any) -> int:
        began = START.started_at + timedelta(minutes=minutes)
        return add(store, plain_steps(seconds), **PLAIN, started_at=began, **asked)

    def told(minutes: int, **asked: Any) -> tuple[float, int | None]:
        began = START.started_at + timedelta(minutes=minutes)
        run_id = add(store, DFLASH, started_at=began, **asked)
        plain = diagnose(store, registry, run_id).case.plain
        assert plain is not None
        return plain.step_s, plain.run_id

    raced = plain_run(0.002, 0, group_id="g", source="race")
    early = plain_run(0.004, 20)
    busy = plain_run(0.040, 500)
    assert told(501, group_id="g", source="race") == (pytest.approx(0.002), raced)
    assert told(15) == (pytest.approx(0.003), early), "the mean of the two of its half hour"
    assert told(499) == (pytest.approx(0.040), busy)
    assert told(200) == (pytest.approx(0.004), early), "the nearest alone where none is near"


@pytest.mark.parametrize(
    "asked",
    [
        {"dtype": "bfloat16"},
        {"source": "cli"},
        {"source": "microscope-threads"},
        {"path": "CUDA graphs"},
        {"hardware": {"cpu": "another", "cores": 4, "gpus": []}},
        {"owner": "somebody else"},
        {"pair": "another"},
    ],
)
def test_plain_runs_that_are_not_alike_are_not_compared_with(
    store: Store, registry: Registry, asked: dict[str, object]
) -> None:
    add(store, plain_steps(0.005), **{**PLAIN, **asked})
    assert diagnose(store, registry, add(store, DFLASH)).case.plain is None


def test_a_trial_with_other_threads_stands_in_no_group_and_is_not_told_of_the_pages_threads(
    store: Store, registry: Registry
) -> None:
    quick = add(store, steps(repeated([3], 40), verify_s=0.002), source="microscope-threads")
    assert diagnose(store, registry, add(store, DFLASH)).case.others == []
    beside_cli = add(store, DFLASH, source="cli")
    assert [run.id for run in diagnose(store, registry, beside_cli).case.others] == [quick + 1]
    slow = add(store, steps(repeated([3], 40), verify_s=0.08), source="microscope-threads")
    found = diagnose(store, registry, slow)
    assert beside_cli in [run.id for run in found.case.others]
    assert "threads" not in [each.key for each in found.findings]


def test_a_run_with_plain_steps_of_its_own_is_judged_by_them(
    store: Store, registry: Registry
) -> None:
    add(store, plain_steps(0.005), **PLAIN)
    own = add(store, steps([*repeated([-1, 3], 20)]), policy="adaptive")
    plain = diagnose(store, registry, own).case.plain
    assert plain is not None
    assert (plain.step_s, plain.run_id) == (pytest.approx(0.008), None)


def test_an_owner_sees_what_only_that_owner_ran(store: Store, registry: Registry) -> None:
    mine = add(store, plain_steps(0.005), **PLAIN, owner="me")
    add(store, plain_steps(0.001), **PLAIN)
    plain = diagnose(store, registry, add(store, DFLASH, owner="me")).case.plain
    assert plain is not None
    assert plain.run_id == mine


def test_what_the_drafters_config_allows_is_read_where_it_is_here(
    store: Store, registry: Registry
) -> None:
    known = diagnose(store, registry, add(store, DFLASH)).case
    assert known.drafter_positions == 60
    gone = diagnose(store, registry, add(store, DFLASH, pair="gone")).case
    assert (gone.pair, gone.drafter_positions) == (None, None)


def test_a_run_without_steps_is_refused_with_the_cure(store: Store, registry: Registry) -> None:
    with pytest.raises(StoreError, match="There is no run 9"):
        diagnose(store, registry, 9)
    run_id = store.start_run(START)
    with pytest.raises(StoreError, match="run its prompt again"):
        diagnose(store, registry, run_id)


def test_a_run_that_ended_before_its_first_step_has_nothing_to_explain(
    store: Store, registry: Registry
) -> None:
    found = diagnose(store, registry, add(store, steps([])))
    assert [each.key for each in found.headline] == ["no_steps"]
    assert [each for each in found.findings if each.lost_s] == [
        each for each in found.findings if each.key == "prefill"
    ]


def test_few_steps_are_called_too_few() -> None:
    assert judge(case(steps([3] * 3))).headline[-1].key == "short"
    assert judge(case(steps([3] * 9))).headline[-1].key == "ceiling"


def test_a_run_that_nothing_limits_has_no_findings() -> None:
    whole = steps(repeated([7], 30), propose_s=0.0002, verify_s=0.0041, ttft_s=0.001)
    assert judge(case(whole)).findings == ()


def test_the_hint_is_the_change_that_gains_most() -> None:
    losing = judge(case(steps(repeated([0], 20), propose_s=0.01, verify_s=0.03)))
    hint = losing.hint()
    assert hint is not None
    assert hint.gain == max(each.gain for each in losing.findings if each.gain)
    assert judge(case(steps(repeated([6, 7], 30)))).hint() is None


def test_where_drafts_hardly_help_the_hint_says_so_without_a_cure() -> None:
    hint = judge(case(steps(repeated([0], 20)), plain_s=None)).hint()
    assert hint is not None
    assert hint.key == "refused"
    assert judge(case(steps(repeated([0], 10)), plain_s=None)).hint() is None


def test_nobody_is_hinted_to_another_mode_than_was_chosen() -> None:
    found = judge(case(plain_steps(0.01), **PLAIN))
    assert found.findings[0].change == Change("mode", "dflash")
    assert found.hint() is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model name : one\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("flags\t\t: fpu avx2\n", False),
        ("Features\t: fp asimd bf16\n", True),
        ("model name : one\n", None),
    ],
)
def test_a_processor_says_whether_it_multiplies_in_bfloat16(
    tmp_path: Path, text: str, told: bool | None
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert bfloat16_units(path) is told
    assert bfloat16_units(tmp_path / "absent") is None


SERVED = {"backend": "remote", "device": "gpu-box:8000", "dtype": "server", "path": "vLLM 0.32.0",
          "policy": None, "block_size": None, "trained_block_size": None}  # fmt: skip


def served(chunk: int, accepted: int | None = None, **counted: Any) -> list[DecodeEvent]:
    """Twenty arrivals of `chunk` tokens, 0.1 s apart, after half a second; seven drafts a step."""
    events: list[DecodeEvent] = [
        TokensArrived(chunk, (9,) * chunk, 0.5 + 0.1 * index) for index in range(21)
    ]
    if accepted is not None:
        by_position = (accepted, *(0,) * 6)
        events.append(
            ServerCounts(
                "vLLM, this request",
                num_prompt_tokens=20,
                num_steps=20,
                num_drafted=140,
                num_accepted=accepted,
                accepted_by_position=by_position,
                **counted,
            )
        )
    return [*events, Finished("stop", 2.6)]


def test_a_run_on_a_server_is_told_by_its_sums_and_rules_about_steps_are_silent(
    store: Store, registry: Registry
) -> None:
    plain = add(store, served(1), **{**PLAIN, **SERVED})
    found = diagnose(store, registry, add(store, served(2, accepted=20), **SERVED))
    figures = {each.key: each.figures for each in found.headline}
    assert list(figures) == ["served", "served_length", "served_speedup"]
    assert figures["served"]["speed"] == pytest.approx(20)
    assert figures["served_length"] == {"length": 2.0, "steps": 20}
    assert figures["served_speedup"]["speedup"] == pytest.approx(2)
    assert figures["served_speedup"]["run"] == plain
    assert {each.key for each in found.findings} == {"refused"}
    assert all(say_headline(found))


def test_rules_that_need_no_steps_speak_of_servers_too(store: Store, registry: Registry) -> None:
    add(store, served(6, accepted=100), **SERVED)
    add(store, served(6, accepted=100), **SERVED)
    warm = add(store, served(2, accepted=20), **SERVED, temperature=1.0)
    keys = {each.key: each for each in diagnose(store, registry, warm).findings}
    assert keys["temperature"].gain == pytest.approx(3)
    slow = [TokensArrived(1, (1,), 3.0), *served(1, accepted=0)[1:]]
    assert "prefill" in {
        each.key for each in diagnose(store, registry, add(store, slow, **SERVED)).findings
    }


def test_a_server_that_counts_nothing_leaves_little_to_explain(
    store: Store, registry: Registry
) -> None:
    silent = [TokensArrived(None, (), 0.5), TokensArrived(None, (), 1.0), Finished("stop", 1.0)]
    found = diagnose(store, registry, add(store, silent, **SERVED))
    assert [each.key for each in found.headline] == ["served_uncounted"]
    assert found.hint() is None
