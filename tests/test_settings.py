"""The environment is read once; what it says wrongly is refused with the variable's name."""

from pathlib import Path

import pytest

from dflash_app.errors import ServeError
from dflash_app.settings import PublicLimits, load_settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "SPACE_ID",
        "DFLASH_APP_PUBLIC",
        "DFLASH_APP_PAIRS",
        "DFLASH_APP_BUCKET",
        "DFLASH_APP_KEEP_DAYS",
    ):
        monkeypatch.delenv(name, raising=False)


def test_ones_own_machine_has_no_limits() -> None:
    found = load_settings()
    assert (found.public, found.pairs, found.bucket, found.mcp) == (None, None, None, False)


def test_a_space_is_public_unless_its_owner_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "ann/studio")
    assert load_settings().public == PublicLimits()
    monkeypatch.setenv("DFLASH_APP_PUBLIC", "0")
    assert load_settings().public is None
    monkeypatch.delenv("SPACE_ID")
    monkeypatch.setenv("DFLASH_APP_PUBLIC", "1")
    assert load_settings().public == PublicLimits()


def test_limits_pairs_and_bucket_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DFLASH_APP_PUBLIC", "1")
    monkeypatch.setenv("DFLASH_APP_MAX_NEW_TOKENS", "64")
    monkeypatch.setenv("DFLASH_APP_MAX_WAITING", "3")
    monkeypatch.setenv("DFLASH_APP_PAIRS", " embedded, qwen3-4b,embedded,")
    monkeypatch.setenv("DFLASH_APP_BUCKET", str(tmp_path))
    monkeypatch.setenv("DFLASH_APP_MCP", "1")
    found = load_settings()
    assert found.public == PublicLimits(max_new_tokens=64, max_waiting=3)
    assert found.pairs == ("embedded", "qwen3-4b")
    assert found.bucket == tmp_path
    assert found.mcp


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e3", "9" * 30])
def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DFLASH_APP_PUBLIC", "1")
    monkeypatch.setenv("DFLASH_APP_MAX_PER_VISITOR", text)
    with pytest.raises(ServeError, match=r"DFLASH_APP_MAX_PER_VISITOR is '.*': set it to a number"):
        load_settings()


def test_a_public_page_keeps_a_month_and_ones_own_machine_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_settings().keep_days is None
    monkeypatch.setenv("DFLASH_APP_KEEP_DAYS", "7")
    assert load_settings().keep_days == 7
    monkeypatch.delenv("DFLASH_APP_KEEP_DAYS")
    monkeypatch.setenv("DFLASH_APP_PUBLIC", "1")
    assert load_settings().keep_days == 30
    monkeypatch.setenv("DFLASH_APP_KEEP_DAYS", "0")
    assert load_settings().keep_days is None
    monkeypatch.setenv("DFLASH_APP_KEEP_DAYS", "-1")
    with pytest.raises(ServeError, match="number from 0 to"):
        load_settings()
