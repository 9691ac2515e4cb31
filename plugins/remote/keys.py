"""Keys of servers: from the environment or the system's keyring, never from a file of ours.

A key is sent as a bearer token. One that begins with "Basic " or "Bearer " is the whole value of
the header `Authorization`, which is how user and password out of an address are kept.
"""

import base64
import os
import re
from importlib.util import find_spec
from types import ModuleType
from urllib.parse import unquote, urlsplit, urlunsplit

from dflash_app.errors import DFlashAppError, RequestError

ANY_SERVER = "DFLASH_APP_SERVER_KEY"
"""The variable with the key of every pair that has none of its own."""

SERVICE = "dflash-studio"
"""What the keyring files our keys under; the user name there is the pair's."""


def variable_of(pair: str) -> str:
    """The environment variable with a pair's own key: "gpu-box.1" has DFLASH_APP_KEY_GPU_BOX_1."""
    return "DFLASH_APP_KEY_" + pair.upper().replace("-", "_").replace(".", "_")


def find_key(pair: str | None) -> str | None:
    """The key of a pair: its own variable, the common one, the keyring; None where there is none.

    Args:
        pair: its name; None looks at the common variable only.
    """
    names = [ANY_SERVER] if pair is None else [variable_of(pair), ANY_SERVER]
    found = next(filter(None, (os.environ.get(name, "").strip() for name in names)), None)
    if found is None and pair is not None and keyring_reason() is None:
        found = _ask_keyring(pair)
    return found


def keyring_reason() -> str | None:
    """Why no key can be kept in the system's keyring; None where one can."""
    if find_spec("keyring") is None:
        return "The package keyring is not installed: run `pip install 'dflash-studio[keyring]'`."
    import keyring
    from keyring.backends import fail, null

    if isinstance(keyring.get_keyring(), fail.Keyring | null.Keyring):
        return "This system has no keyring that is open: set the key as an environment variable."
    return None


def keep_key(pair: str, key: str) -> None:
    """Put a pair's key into the system's keyring.

    Raises:
        DFlashAppError: there is none, or it refuses; the message names the variable to set instead.
    """
    cure = f"set the key as the environment variable {variable_of(pair)}"
    if keyring_reason() is not None:
        raise DFlashAppError(f"The key is not kept, as this system has no keyring: {cure}.")
    keyring, errors = _keyring()
    try:
        keyring.set_password(SERVICE, pair, key)
    except errors.KeyringError:
        # Not chained: what the keyring says may hold what it was given.
        raise DFlashAppError(f"The system's keyring refuses the key: {cure}.") from None


def forget_key(pair: str) -> None:
    """Take a pair's key out of the keyring, where there is one."""
    if keyring_reason() is not None:
        return
    keyring, errors = _keyring()
    try:
        keyring.delete_password(SERVICE, pair)
    except errors.KeyringError:
        return


def split_credentials(url: str) -> tuple[str, str | None]:
    """Take user and password, or a token, out of an address.

    Args:
        url: as typed, such as "https://user:secret@gpu-box/v1".

    Returns:
        (the address without them, the key or None).

    Raises:
        RequestError: it is no http or https address; the message does not repeat it, as it may
            hold a password.
    """
    text = url.strip()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise RequestError("Use a server's base address by http or https: http://gpu-box:8000/v1.")
    name = f"[{host}]" if ":" in host else host
    netloc = name if port is None else f"{name}:{port}"
    bare = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
    if parts.username is None and parts.password is None:
        return bare, None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.password is None:
        return bare, user or None
    told = base64.b64encode(f"{user}:{password}".encode()).decode()
    return bare, f"Basic {told}"


def authorization(key: str | None) -> dict[str, str]:
    """The header that carries a key; empty without one.

    Raises:
        RequestError: it has characters that no header can carry.
    """
    if key is None or not key.strip():
        return {}
    key = key.strip()
    if not re.fullmatch(r"[\x20-\x7e]+", key):
        raise RequestError("The server's key has characters that none can have: set it again.")
    value = key if key.startswith(("Basic ", "Bearer ")) else f"Bearer {key}"
    return {"authorization": value}


def _keyring() -> tuple[ModuleType, ModuleType]:
    import keyring
    import keyring.errors

    return keyring, keyring.errors


def _ask_keyring(pair: str) -> str | None:
    keyring, errors = _keyring()
    try:
        found: str | None = keyring.get_password(SERVICE, pair)
    except errors.KeyringError:
        return None
    return found or None
