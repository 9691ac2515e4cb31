"""What the command line says of a run: figures, and for a server who measured and who counted."""

from dataclasses import replace

import pytest

from dflash_app import session
from dflash_app.cli import main
from dflash_app.cli.outcome import Outcome
from dflash_app.events import DecodeEvent, ServerCounts, TokensArrived
from dflash_app.settings import Settings
from dflash_app.store.runs import Store
from tests.fakes import ScriptedServerPair, ask, script_of, server_script_of

COUNTS = ServerCounts("vLLM /metrics", shared=True, num_steps=2, num_drafted=6, num_accepted=4)


def told(events: list[DecodeEvent], mode: str = "dflash") -> Outcome:
    outcome = Outcome(mode)  # type: ignore[arg-type]
    for event in events:
        outcome.add(event)
    return outcome


def test_a_run_of_our_own_engine_is_told_with_its_drafts() -> None:
    said = told(script_of((2, 3), (4,), num_draft=3)).summary()
    assert said == (
        "dflash: 4 tokens, 6 tok/s, first token after 0.500 s, acceptance length 1.50, fixed drafts"
    )


def test_a_run_on_a_server_is_told_with_who_measured_and_who_counted() -> None:
    outcome = told(server_script_of((1,), (2, 3, 4), counts=COUNTS))
    assert outcome.summary() == (
        "dflash: 4 tokens, 12 tok/s measured at the client, first token after 0.500 s, "
        "acceptance length 3.00 (from vLLM /metrics, shared with other traffic)"
    )
    assert (outcome.text, outcome.token_ids, outcome.reason) == ("bcde", [1, 2, 3, 4], "stop")
    own = replace(COUNTS, source="SGLang", shared=False)
    assert "(from SGLang)" in told(server_script_of((1,), (2,), counts=own)).summary()


def test_tokens_that_nobody_counts_are_no_number() -> None:
    said = told([TokensArrived(None, (), 0.5)], "ar").summary()
    assert said == "ar: tokens not counted, first token after 0.500 s"


def test_the_log_says_the_same(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ScriptedServerPair([server_script_of((1,), (2, 3, 4), counts=COUNTS)])
    with Store(settings.database) as store:
        list(session.run(pair, store, ask(), source="cli"))
    assert main(["runs", "show", "1"]) == 0
    shown = capsys.readouterr().out
    assert "remote, gpu-box:8000" in shown
    assert "12.0, measured at the client" in shown
    assert "3.00 (from vLLM /metrics, shared with other traffic)" in shown
