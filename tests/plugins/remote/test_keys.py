"""Keys come from the environment or the keyring, and addresses are freed of theirs."""

import base64
import sys
from types import ModuleType

import pytest
from dflash_plugins.remote import keys

from dflash_app.errors import DFlashAppError, RequestError

SECRET = "sk-very-secret"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DFLASH_APP_SERVER_KEY", raising=False)
    monkeypatch.delenv("DFLASH_APP_KEY_GPU_BOX_1", raising=False)
    monkeypatch.setattr(keys, "find_spec", lambda _: None)


def test_a_pair_s_own_variable_goes_before_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys.variable_of("gpu-box.1") == "DFLASH_APP_KEY_GPU_BOX_1"
    assert keys.find_key("gpu-box.1") is None
    monkeypatch.setenv("DFLASH_APP_SERVER_KEY", f" {SECRET}\n")
    assert keys.find_key("gpu-box.1") == keys.find_key(None) == SECRET
    monkeypatch.setenv("DFLASH_APP_KEY_GPU_BOX_1", "own")
    assert keys.find_key("gpu-box.1") == "own"
    assert keys.find_key("another") == SECRET


@pytest.mark.parametrize(
    ("url", "bare", "key"),
    [
        ("http://gpu-box:8000/v1", "http://gpu-box:8000/v1", None),
        (" https://GPU-box/v1/ ", "https://gpu-box/v1", None),
        (f"http://{SECRET}@gpu-box:8000/v1", "http://gpu-box:8000/v1", SECRET),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1", None),
        ("http://gpu-box/v1?key=x#y", "http://gpu-box/v1", None),
        (
            "http://ann:p%40ss@gpu-box/v1",
            "http://gpu-box/v1",
            "Basic " + base64.b64encode(b"ann:p@ss").decode(),
        ),
    ],
)
def test_credentials_are_taken_out_of_an_address(url: str, bare: str, key: str | None) -> None:
    assert keys.split_credentials(url) == (bare, key)


@pytest.mark.parametrize(
    "url",
    ["", "gpu-box:8000", f"ftp://{SECRET}@gpu-box", "file:///etc/passwd", "http://", "http://[x",
     f"http://u:{SECRET}@gpu-box:99999/v1", f"//{SECRET}@gpu-box"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(RequestError, match="http://gpu-box:8000/v1") as caught:
        keys.split_credentials(url)
    assert SECRET not in str(caught.value)


def test_a_key_becomes_a_header_and_one_that_cannot_is_not_repeated() -> None:
    assert keys.authorization(None) == keys.authorization("  ") == {}
    assert keys.authorization(SECRET) == {"authorization": f"Bearer {SECRET}"}
    assert keys.authorization("Basic YTpi") == {"authorization": "Basic YTpi"}
    for bad in (f"{SECRET}\r\nx: y", f"{SECRET}é"):
        with pytest.raises(RequestError) as caught:
            keys.authorization(bad)
        assert SECRET not in str(caught.value)


def test_without_a_keyring_a_key_is_not_kept_and_the_variable_is_named() -> None:
    with pytest.raises(DFlashAppError, match="DFLASH_APP_KEY_GPU_BOX") as caught:
        keys.keep_key("gpu-box", SECRET)
    assert SECRET not in str(caught.value)
    assert "keyring" in (keys.keyring_reason() or "")
    keys.forget_key("gpu-box")


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """A keyring in memory, behind the few names of the package that are used."""
    kept: dict[tuple[str, str], str] = {}
    package, errors, backends = (ModuleType(f"keyring{x}") for x in ("", ".errors", ".backends"))
    fail, null = ModuleType("keyring.backends.fail"), ModuleType("keyring.backends.null")
    error = type("KeyringError", (Exception,), {})

    def set_password(service: str, user: str, password: str) -> None:
        if user == "locked":
            raise error(f"cannot store {password}")
        kept[service, user] = password

    def delete_password(service: str, user: str) -> None:
        if kept.pop((service, user), None) is None:
            raise error("not there")

    fail.Keyring, null.Keyring = type("Fail", (), {}), type("Null", (), {})  # type: ignore[attr-defined]
    errors.KeyringError = error  # type: ignore[attr-defined]
    backends.fail, backends.null = fail, null  # type: ignore[attr-defined]
    package.errors, package.backends = errors, backends  # type: ignore[attr-defined]
    package.get_keyring = object  # type: ignore[attr-defined]
    package.set_password, package.delete_password = set_password, delete_password  # type: ignore[attr-defined]
    package.get_password = lambda service, user: kept.get((service, user))  # type: ignore[attr-defined]
    for module in (package, errors, backends, fail, null):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(keys, "find_spec", lambda _: True)
    return kept


def test_a_key_is_kept_found_and_forgotten(
    keyring: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.keep_key("gpu-box", SECRET)
    assert keyring == {("dflash-studio", "gpu-box"): SECRET}
    assert keys.find_key("gpu-box") == SECRET
    assert keys.find_key("another") is None
    monkeypatch.setenv("DFLASH_APP_KEY_GPU_BOX", "from the environment")
    assert keys.find_key("gpu-box") == "from the environment"
    keys.forget_key("gpu-box")
    keys.forget_key("gpu-box")
    assert keyring == {}


def test_a_keyring_that_refuses_gives_nothing_away(keyring: dict[tuple[str, str], str]) -> None:
    with pytest.raises(DFlashAppError, match="DFLASH_APP_KEY_LOCKED") as caught:
        keys.keep_key("locked", SECRET)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_system_whose_keyring_is_a_dummy_has_none(
    keyring: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = sys.modules["keyring"]
    dummy = sys.modules["keyring.backends.fail"].Keyring
    monkeypatch.setattr(package, "get_keyring", dummy)
    assert "environment variable" in (keys.keyring_reason() or "")
    assert keys.find_key("gpu-box") is None
