"""Each browser is a visitor of its own, known by a key that only it has."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dflash_app.errors import QueueFull
from dflash_app.spaces.visitors import COOKIE, GiveKeys, Visitors, find_key, is_secure

KEY = "k" * 43


def load(*headers: tuple[bytes, bytes], path: str = "/", kind: str = "http") -> list[str]:
    """The cookies that one request of the page gets."""
    return ask(*headers, path=path, kind=kind)[0]


def ask(
    *headers: tuple[bytes, bytes], path: str = "/", kind: str = "http"
) -> tuple[list[str], dict[bytes, bytes]]:
    """The cookies that one request gets, and the headers that the page sees of it."""
    sent: list[Any] = []
    seen: dict[bytes, bytes] = {}

    async def page(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "method": "GET", "path": path, "headers": headers, "scheme": "http"}
    with ThreadPoolExecutor(
        1
    ) as aside:  # a browser test before may have left its loop in this thread
        aside.submit(asyncio.run, GiveKeys(page)(scope, None, send)).result()
    assert (b"a", b"b") in sent[0]["headers"]
    cookies = [value.decode() for name, value in sent[0]["headers"] if name == b"set-cookie"]
    return cookies, seen


def test_who_loads_the_page_first_gets_a_key_that_scripts_cannot_read() -> None:
    (cookie,) = load()
    name, _, rest = cookie.partition("=")
    assert name == COOKIE
    assert find_key({name: rest.split(";")[0]}) is not None
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie
    assert load() != load()


def test_behind_the_proxy_of_a_space_it_works_in_a_frame_and_over_https_only() -> None:
    (cookie,) = load((b"x-forwarded-proto", b"https"))
    assert cookie.startswith(f"__Host-{COOKIE}=")
    assert cookie.endswith("Path=/; HttpOnly; Secure; SameSite=None; Partitioned")


def test_a_browser_that_has_a_key_keeps_it() -> None:
    assert load((b"cookie", f"other=1; {COOKIE}={KEY}".encode())) == []
    https = (b"x-forwarded-proto", b"https")
    assert load((b"cookie", f"__Host-{COOKIE}={KEY}".encode()), https) == []


def test_over_https_only_a_cookie_counts_that_no_other_host_can_have_set() -> None:
    planted = {COOKIE: KEY}
    assert find_key(planted, secure=True) is None
    assert len(load((b"cookie", f"{COOKIE}={KEY}".encode()), (b"x-forwarded-proto", b"https"))) == 1
    own = {**planted, f"__Host-{COOKIE}": "j" * 43}
    assert find_key(own, secure=True) == "j" * 43
    visitors = Visitors()
    assert visitors.owner(planted, "a", secure=True) == visitors.owner({}, "a")


@pytest.mark.parametrize(
    ("forwarded", "scheme", "secure"),
    [("https", "http", True), ("https, http", "http", True), ("", "https", True),
     ("http", "http", False), ("", "http", False)],
)  # fmt: skip
def test_the_proxy_says_how_the_browser_came(forwarded: str, scheme: str, secure: bool) -> None:
    assert is_secure(forwarded, scheme) is secure


@pytest.mark.parametrize(
    ("site", "known"), [("same-origin", True), ("none", True), ("cross-site", False),
                        ("same-site", False)],
)  # fmt: skip
def test_another_site_cannot_ask_as_a_visitor(site: str, known: bool) -> None:
    cookie, fetch = (b"cookie", f"{COOKIE}={KEY}".encode()), (b"sec-fetch-site", site.encode())
    cookies, seen = ask(cookie, fetch, path="/gradio_api/queue/join")
    assert cookies == []
    assert (b"cookie" in seen) is known


def test_the_page_in_a_frame_of_another_site_keeps_its_key() -> None:
    cookie = (b"cookie", f"{COOKIE}={KEY}".encode())
    cookies, seen = ask(cookie, (b"sec-fetch-site", b"cross-site"))
    assert (cookies, b"cookie" in seen) == ([], True)


@pytest.mark.parametrize("value", ["", "ann", "k" * 42, "k" * 44, "k" * 42 + "!", "../" + KEY[3:]])
def test_a_key_of_another_form_is_replaced(value: str) -> None:
    assert find_key({COOKIE: value}) is None
    assert len(load((b"cookie", f"{COOKIE}={value}".encode()))) == 1


def test_nothing_but_the_page_itself_gives_keys() -> None:
    assert load(path="/config") == []
    assert load(kind="websocket") == []


def test_damaged_cookies_stop_nothing() -> None:
    assert len(load((b"cookie", b'\xff"=;;;{'))) == 1


def test_a_visitor_stays_the_same_in_every_session_and_after_a_restart() -> None:
    first = Visitors().owner({COOKIE: KEY}, "tab 1")
    assert first == Visitors().owner({f"__Host-{COOKIE}": KEY}, "tab 2", secure=True)
    assert first != Visitors().owner({COOKIE: "j" * 43}, "tab 1")


def test_the_log_does_not_hold_what_would_let_one_in() -> None:
    owner = Visitors().owner({COOKIE: KEY}, None)
    assert KEY not in owner
    assert find_key({COOKIE: owner}) is None


def test_without_a_key_each_session_is_a_visitor_and_none_can_be_made_up() -> None:
    visitors = Visitors()
    assert visitors.owner({}, "one") == visitors.owner({}, "one") != visitors.owner({}, "two")
    assert visitors.owner({}, "one") != Visitors().owner({}, "one")
    assert visitors.owner({}, None) != visitors.owner({}, None)


def test_programs_without_a_cookie_are_counted_by_their_address() -> None:
    visitors = Visitors(max_per_hour=2)
    proxied = {"x-forwarded-for": "203.0.113.7, 10.0.0.1"}
    for session in ("one", "two"):
        visitors.admit(visitors.owner({}, session), proxied, "10.0.0.2")
    with pytest.raises(QueueFull):
        visitors.admit(visitors.owner({}, "three"), proxied, "10.0.0.2")
    visitors.admit(visitors.owner({COOKIE: KEY}, "three"), proxied, "10.0.0.2")
    visitors.admit(visitors.owner({}, "three"), {}, "10.0.0.2")


def test_without_a_limit_nobody_is_counted() -> None:
    visitors = Visitors()
    for _ in range(1000):
        visitors.admit("visitor-1", {}, None)
