"""Questions to the hub: answered, refused or given up, within seconds."""

import json
import struct
import time
from pathlib import Path

import pytest

from dflash_app.errors import GatedModel, HubError, HubOffline
from dflash_app.hub import remote
from dflash_app.hub.login import has_token, log_in, log_out
from dflash_app.hub.remote import ask_config, ask_model, read_url, within_limit
from tests.hub.conftest import model_files, use_endpoint
from tests.hub.server import TOKEN, Fault, HubServer


def test_a_model_tells_sizes_licence_and_parameters_by_dtype(server: HubServer) -> None:
    header = {"a": {"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]}}
    text = json.dumps(header).encode()
    weights = struct.pack("<Q", len(text)) + text + bytes(24)
    commit = server.add("org/T", model_files() | {"model.safetensors": weights})
    model = ask_model("org/T")
    assert (model.commit, model.gated, model.licence) == (commit, False, "mit")
    assert model.parameters == {"BF16": 12}
    assert model.weights == {"model.safetensors": len(weights)}, "not those in folders"
    assert model.files["config.json"] == len(server.repos["org/T"].commits[commit]["config.json"])


def test_a_config_is_read_into_memory(server: HubServer, cache: Path) -> None:
    old = server.add("org/T", model_files(layers=2))
    server.add("org/T", model_files(layers=3))
    assert ask_config("org/T")["layers"] == 3
    assert ask_config("org/T", old)["layers"] == 2
    assert not cache.exists()
    server.add("org/bad", {"config.json": b"[1]"})
    with pytest.raises(HubError, match="is no JSON object"):
        ask_config("org/bad")
    server.add("org/gated", model_files(), gated=True)
    with pytest.raises(GatedModel, match="accept its licence at") as raised:
        ask_config("org/gated")
    assert raised.value.url == f"{server.url}/org/gated"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "begins https://"),
        ("http://example.org/r.yaml", "begins https://"),
        ("ftp://127.0.0.1/x", "begins https://"),
        ("https://a\x00b", "is no address"),
    ],
)
def test_an_address_of_another_kind_is_refused_without_asking(
    server: HubServer, url: str, said: str
) -> None:
    with pytest.raises(HubError, match=said):
        read_url(url)
    assert server.requests == []


def test_a_page_is_read_up_to_its_limit(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.pages = {"/r.yaml": "pärs".encode(), "/latin.yaml": b"\xff", "/big": bytes(2_000_000)}
    assert read_url(f"{server.url}/r.yaml") == "pärs"
    with pytest.raises(HubError, match="no UTF-8"):
        read_url(f"{server.url}/latin.yaml")
    with pytest.raises(HubError, match="larger than"):
        read_url(f"{server.url}/big")
    with pytest.raises(HubError, match="404"):
        read_url(f"{server.url}/absent")
    assert server.asked("/r.yaml")[0].authorization is None


def test_a_hub_that_hangs_is_given_up(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LIMIT_S", 0.2)
    begin = time.monotonic()
    with pytest.raises(HubOffline, match="org/T cannot be fetched, the hub does not answer"):
        within_limit(lambda: time.sleep(3), "org/T")
    assert time.monotonic() - begin < 2
    use_endpoint("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(HubOffline, match="does not answer"):
        ask_model("org/T")


def test_offline_mode_is_named(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubOffline, match="HF_HUB_OFFLINE is set"):
        ask_model("org/T")
    assert server.requests == []


@pytest.mark.parametrize("token", ["", " ", "hf_a b", "hf_a\n", " hf_a", "hf_ä", "hf_\x00"])
def test_what_cannot_be_a_token_is_refused_without_asking_or_keeping(
    server: HubServer, tmp_path: Path, token: str
) -> None:
    with pytest.raises(HubError, match="A token has no spaces") as raised:
        log_in(token)
    assert not token.strip() or token.strip() not in str(raised.value)
    assert server.requests == []
    assert not (tmp_path / "token").exists()


def test_the_library_keeps_a_token_that_the_hub_accepts_and_no_other(
    server: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HubError, match="does not know this token") as raised:
        log_in("hf_unknownToken")
    assert "hf_unknownToken" not in str(raised.value)
    with pytest.raises(HubError, match="no personal access token"):
        log_in("api_org_x")
    assert not has_token()
    log_in(TOKEN)
    assert has_token()
    assert (tmp_path / "token").read_text() == TOKEN
    log_out()
    assert not has_token()
    captured = capsys.readouterr()
    assert TOKEN not in captured.out + captured.err


def test_a_fault_while_the_token_is_checked_keeps_nothing(
    server: HubServer, tmp_path: Path
) -> None:
    server.faults = [Fault("GET", "/api/whoami-v2", 500)]
    with pytest.raises(HubError, match="500"):
        log_in(TOKEN)
    assert not (tmp_path / "token").exists()
