"""A hub on this machine: the part of the protocol that huggingface_hub uses, and its faults.

Model info with siblings, sizes and hashes; tree; resolve with ETag, X-Repo-Commit, X-Linked-* and a
redirect to another host for large files; Range; gated models; whoami. A `Fault` changes what the
next requests get: a status, headers, a cut, a stall.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_rightTokenOfTheTest"
OTHER_TOKEN = "hf_tokenWithoutAccess"
CHUNK_BYTES = 64 * 1024


@dataclass
class Fault:
    """What `times` requests, whose method and path contain the words, get instead.

    Attributes:
        method: GET or HEAD.
        path: part of the path.
        status: answered with an empty body; None answers as usual.
        headers: added to the answer.
        cut_after: the connection closes after so many bytes of the body.
        wrong: the body's bytes are changed, its length is not.
        times: how often.
    """

    method: str
    path: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    wrong: bool = False
    times: int = 1


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    authorization: str | None
    host: str


@dataclass
class Repo:
    """A model: its commits, what main points to, whether it is gated, its card's licence."""

    commits: dict[str, dict[str, bytes]]
    main: str
    gated: bool = False
    licence: str = "mit"
    declared: dict[str, int] = field(default_factory=dict)
    """Sizes that the listing claims instead of the real ones."""


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.pages: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.pause_s = 0.0
        self.ignore_range = False
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, repo: str, files: Mapping[str, bytes], *, gated: bool = False) -> str:
        """Publish a commit and point main to it; its id."""
        names = repr([repo, sorted((name, git_sha1(data)) for name, data in files.items())])
        commit = hashlib.sha1(names.encode()).hexdigest()
        known = self.repos.setdefault(repo, Repo({}, commit, gated))
        known.commits[commit] = dict(files)
        known.main = commit
        return commit

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def asked(self, part: str, method: str = "GET") -> list[Request]:
        """The requests so far whose path contains `part`."""
        return [r for r in self.requests if part in r.path and r.method == method]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        split = urlsplit(self.path)
        path, query = unquote(split.path), parse_qs(split.query)
        hub = self.server
        with hub.lock:
            said = self.headers
            hub.requests.append(
                Request(
                    self.command, path, said["Range"], said["Authorization"], said["Host"] or ""
                )
            )
            self.fault = next(
                (f for f in hub.faults if f.method == self.command and f.path in path and f.times),
                Fault("", ""),
            )
            self.fault.times -= 1
        if self.fault.status is not None:
            return self._send(self.fault.status, b"", self.fault.headers)
        if path in hub.pages:
            return self._send(200, hub.pages[path], {})
        if path == "/api/whoami-v2":
            return self._whoami()
        parts = path.strip("/").split("/")
        if parts[0] == "cdn":
            return self._file(
                hub.repos["/".join(parts[1:3])].commits[parts[3]]["/".join(parts[4:])]
            )
        if parts[0] == "datasets":
            parts = parts[1:]
        if path.startswith(("/api/models/", "/api/datasets/")):
            return self._api("/".join(parts[2:4]), parts[4:], query)
        if len(parts) > 4 and parts[2] == "resolve":
            return self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self._send(404, b"", {})

    def _whoami(self) -> None:
        if self.headers["Authorization"] not in (f"Bearer {TOKEN}", f"Bearer {OTHER_TOKEN}"):
            return self._send(
                401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"}
            )
        who = {"name": "tester", "auth": {"accessToken": {"displayName": "t", "role": "read"}}}
        return self._json(who)

    def _find(self, name: str, revision: str) -> tuple[Repo, str] | None:
        repo = self.server.repos.get(name)
        if repo is None:  # as the real hub answers the anonymous
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        found = [c for c in repo.commits if c.startswith(revision)]
        if revision != "main" and not found:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return repo, repo.main if revision == "main" else found[0]

    def _api(self, name: str, rest: list[str], query: dict[str, list[str]]) -> None:
        kind = rest[0] if rest else "revision"
        found = self._find(name, rest[1] if len(rest) > 1 else "main")
        if found is None:
            return None
        repo, commit = found
        files = repo.commits[commit]
        if kind == "tree":
            return self._json([_tree_entry(file, data) for file, data in files.items()])
        siblings = []
        for file, data in files.items():
            row: dict[str, object] = {"rfilename": file}
            if "blobs" in query:
                size = repo.declared.get(file, len(data))
                row |= {"size": size, "blobId": git_sha1(data)}
                if _is_large(file, data):
                    sha256 = hashlib.sha256(data).hexdigest()
                    row["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 130}
            siblings.append(row)
        info = {
            "id": name, "modelId": name, "sha": commit, "private": False, "tags": [],
            "gated": "manual" if repo.gated else False, "siblings": siblings,
            "cardData": {"license": repo.licence},
        }  # fmt: skip
        counts = Counter[str]()
        for file, data in files.items():
            if file.endswith(".safetensors"):
                counts += parameters(data)
        if counts:
            info["safetensors"] = {"parameters": dict(counts), "total": sum(counts.values())}
        return self._json(info)

    def _resolve(self, name: str, revision: str, file: str) -> None:
        found = self._find(name, revision)
        if found is None:
            return None
        repo, commit = found
        told = {"X-Repo-Commit": commit}
        if repo.gated and self.headers["Authorization"] != f"Bearer {TOKEN}":
            status = 403 if self.headers["Authorization"] else 401
            return self._send(status, b"", told | {"X-Error-Code": "GatedRepo"})
        if file not in repo.commits[commit]:
            return self._send(404, b"", told | {"X-Error-Code": "EntryNotFound"})
        data = repo.commits[commit][file]
        if not _is_large(file, data):
            return self._file(data, told | {"ETag": f'"{git_sha1(data)}"'})
        # "localhost" is another host than 127.0.0.1: the token must not go there.
        place = f"http://localhost:{self.server.server_port}/cdn/{name}/{commit}/{file}?signed=1"
        linked = {
            "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Linked-Size": str(len(data)),
            "Location": place,
        }
        return self._send(302, b"", told | linked)

    def _file(self, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        told = {"Accept-Ranges": "bytes"} | dict(headers or {})
        status, asked = 200, self.headers["Range"]
        if asked and not self.server.ignore_range:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1, len(data)) if last else len(data)
            told["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
            status, data = 206, data[int(first) : end]
        if self.fault.wrong:
            data = bytes(byte ^ 0xFF for byte in data)
        self._send(status, data, told | self.fault.headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for begin in range(0, len(body), CHUNK_BYTES):
            if self.fault.cut_after is not None and begin >= self.fault.cut_after:
                self.close_connection = True
                return
            self.wfile.write(body[begin : begin + CHUNK_BYTES])
            time.sleep(self.server.pause_s)


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def parameters(data: bytes) -> Counter[str]:
    """Number of elements by dtype, from a safetensors file's header; none where it has none."""
    counts = Counter[str]()
    length = int.from_bytes(data[:8], "little")
    if length > len(data) or data[8:9] != b"{":
        return counts
    for name, tensor in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            size = 1
            for side in tensor["shape"]:
                size *= side
            counts[tensor["dtype"]] += size
    return counts


def _is_large(name: str, data: bytes) -> bool:
    return name.endswith(".safetensors") or len(data) > 1_000_000


def _tree_entry(name: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {
        "type": "file", "path": name, "size": len(data), "oid": git_sha1(data),
    }  # fmt: skip
    if _is_large(name, data):
        sha256 = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 130}
    return entry
