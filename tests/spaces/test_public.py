"""A visitor of a public page gets the pairs that are there, and no more of them than is allowed."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dflash_app.errors import RegistryError, RequestError
from dflash_app.registry.custom import new_pair, read_server
from dflash_app.registry.save import append_pair
from dflash_app.request import GenerationRequest, Message
from dflash_app.settings import PublicLimits, Settings, find_bundled
from dflash_app.spaces.public import check_limits, hide_paths, load_offered_pairs
from dflash_app.workspace import open_workspace
from tests.fakes import ask

LIMITS = PublicLimits(max_new_tokens=100, max_prompt_chars=50)


def offered(settings: Settings) -> list[str]:
    registry = load_offered_pairs(settings, find_bundled("model_registry.yaml"), [])
    return [pair.name for pair in registry.pairs]


def test_ones_own_machine_offers_every_pair(settings: Settings) -> None:
    assert {"embedded", "qwen3-4b", "kimi-k2.5"} <= set(offered(settings))


def test_a_public_page_offers_what_is_here(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert offered(replace(settings, public=LIMITS)) == ["embedded"]


def test_the_named_pairs_are_offered_in_the_registrys_order(settings: Settings) -> None:
    named = replace(settings, public=LIMITS, pairs=("qwen3-4b", "embedded"))
    assert offered(named) == ["embedded", "qwen3-4b"]


def test_pairs_composed_of_others_are_not_offered(settings: Settings) -> None:
    registry = load_offered_pairs(
        replace(settings, pairs=("embedded",)), find_bundled("model_registry.yaml"), []
    )
    assert registry.composed == ()


def test_a_name_that_no_registry_knows_stops_the_start(settings: Settings) -> None:
    with pytest.raises(RegistryError, match="DFLASH_APP_PAIRS names 'qwen4'"):
        open_workspace(replace(settings, pairs=("embedded", "qwen4")))


def test_a_registry_that_is_read_again_offers_no_more(settings: Settings) -> None:
    workspace = open_workspace(replace(settings, pairs=("embedded",)))
    workspace._reload_registry()
    assert [pair.name for pair in workspace.pairs()] == ["embedded"]
    workspace.close()


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (ask("short", max_new_tokens=101), "max_new_tokens is 101 and this public page gives 100"),
        (ask("x" * 51), "51 characters and this public page takes 50"),
        (
            GenerationRequest((Message("system", "x" * 50), Message("user", "x"))),
            "51 characters",
        ),
    ],
)
def test_what_is_too_much_is_refused_with_the_limit(
    request_: GenerationRequest, sentence: str
) -> None:
    with pytest.raises(RequestError, match=sentence):
        check_limits([ask("fine", max_new_tokens=1), request_], LIMITS)
    check_limits([request_], None)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("The run database /home/user/.local/runs.db is locked: wait.", "The run database … is"),
        ("The target in '/data/hub/models--a' is damaged.", "The target in '…' is damaged."),
        ("Accept it at https://huggingface.co/a/b/c first.", "https://huggingface.co/a/b/c first"),
        ("http://gpu-box:8000/v1 is not reached: wait.", "… is not reached: wait."),
        ("http://gpu-box/v1 is not reached, nor http://10.0.0.7.", "… is not reached, nor …"),
        ("[::1]:80 closed, as did gpu-box:8000.", "… closed, as did …."),
        ("It ended at 12:5 of 3:4, by a ratio of 2:1.", "at 12:5 of 3:4, by a ratio of 2:1."),
        ("1/2 and and/or stay, as does owner/name.", "1/2 and and/or stay, as does owner/name."),
    ],
)
def test_a_sentence_for_strangers_names_no_folder(said: str, shown: str) -> None:
    assert shown in hide_paths(said)


def test_a_public_page_offers_a_server_only_where_its_pair_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    append_pair(
        settings.user_registry, new_pair("served", read_server("http://gpu-box/v1", "x"), None)
    )
    public = replace(settings, public=LIMITS)
    for found, names in (
        (settings, {"embedded", "served"}),
        (replace(public, pairs=("served",)), {"served"}),
    ):
        with closing(open_workspace(found)) as workspace:
            assert names <= {pair.name for pair in workspace.pairs()}
    with closing(open_workspace(public)) as workspace:
        assert [pair.name for pair in workspace.pairs()] == ["embedded"]
