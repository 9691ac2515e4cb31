"""A server's key is sent to that server, and is in nothing that is kept or shown."""

import base64
import logging
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dflash_plugins.remote.keys import split_credentials

from dflash_app.errors import DFlashAppError
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.plugins.remote.asking_servers import row, text_of, turn
from tests.plugins.remote.scripted_server import (
    CHAT,
    Canned,
    ScriptedServer,
    as_vllm,
    events,
    fails,
    says,
    shape,
    stream,
)

SECRET = "sk-4f1c9d-secret"
PASSWORD = "correct horse"
ECHO = {"error": {"message": f"invalid key {SECRET}"}}


@pytest.fixture
def workspace(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("DFLASH_APP_KEY_GPU_BOX", SECRET)
    with closing(open_workspace(settings)) as opened:
        yield opened


def everything_kept(home: Path) -> bytes:
    """All bytes below the user's folder, and every table's text once more by SQL."""
    found = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    with closing(sqlite3.connect(home / "runs.db")) as database:
        return found + "\n".join(database.iterdump()).encode()


def run(workspace: Workspace, server: ScriptedServer) -> str:
    """Two turns recorded, one that ends well and one that fails; the error with all its causes."""
    loaded = workspace.loaded("gpu-box")
    assert text_of(workspace.run(loaded, turn(), source="chat")).startswith("Add 17 + 25")
    server.routes[CHAT] = fails(500, ECHO)
    with pytest.raises(DFlashAppError) as caught:
        list(workspace.run(loaded, turn(), source="chat"))
    return "".join(traceback.format_exception(caught.value))


def test_a_key_is_in_no_file_no_log_and_no_error(
    workspace: Workspace, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with as_vllm(stream(shape("vllm_chat_detailed.sse"))) as server:
        workspace.add_pair(row(server.url, "embedded"))
        error = run(workspace, server)
        workspace.unload()
        assert {each.headers.get("authorization") for each in server.asked} == {f"Bearer {SECRET}"}
    kept = everything_kept(settings.home)
    assert b"Add 17 + 25" in kept
    assert b"invalid key [key]" in kept
    for shown in (kept.decode("utf-8", "replace"), caplog.text, error):
        assert SECRET not in shown


def test_a_password_in_an_address_reaches_the_server_alone(
    workspace: Workspace,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    with as_vllm(stream(shape("vllm_chat_detailed.sse"))) as server:
        url, key = split_credentials(f"http://ann:{PASSWORD.replace(' ', '%20')}@{server.host}/v1")
        assert url == server.url
        monkeypatch.setenv("DFLASH_APP_KEY_GPU_BOX", key or "")
        workspace.add_pair(row(url, "embedded"))
        error = run(workspace, server)
        workspace.unload()
        sent = {each.headers["authorization"] for each in server.asked}
    coded = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    assert sent == {f"Basic {coded}"}
    for shown in (everything_kept(settings.home).decode("utf-8", "replace"), caplog.text, error):
        assert not any(secret in shown for secret in (coded, PASSWORD, "correct%20horse"))


def test_a_reply_that_breaks_off_is_recorded_as_failed_with_what_came(
    workspace: Workspace,
) -> None:
    begun = events(says("What came", token_ids=[5, 6]), done=False)
    with as_vllm(stream(begun, ending="cut")) as server:
        workspace.add_pair(row(server.url, "embedded"))
        loaded = workspace.loaded("gpu-box")
        with pytest.raises(DFlashAppError, match="in mid-reply"):
            list(workspace.run(loaded, turn(), source="chat"))
        workspace.unload()
    (record,) = workspace.store.list_runs()
    assert (record.finish_reason, record.output) == ("failed", "What came")
    assert tuple(record.token_ids) == (5, 6)
    assert (record.start.backend, record.start.path) == ("remote", "vLLM 0.32.0")
    assert "in mid-reply" in (record.error or "")


def test_a_finished_run_is_recorded_with_who_counted(workspace: Workspace) -> None:
    detailed = Canned((shape("vllm_chat_detailed.sse"),), kind="text/event-stream")
    with as_vllm(detailed) as server:
        workspace.add_pair(row(server.url, "embedded"))
        list(workspace.run(workspace.loaded("gpu-box"), turn(), source="chat"))
        workspace.unload()
    (record,) = workspace.store.list_runs()
    metrics = record.metrics
    assert (record.finish_reason, metrics.num_output_tokens) == ("length", 48)
    assert (metrics.acceptance_source, metrics.acceptance_shared) == ("vLLM, this request", False)
    assert metrics.mean_acceptance_length == pytest.approx(9.6)
    assert len(record.token_ids) == 48
