"""A small real HTTP server that answers as it is told to, faults included."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

SHAPES = Path(__file__).parent / "shapes"
STREAM = "text/event-stream; charset=utf-8"


def shape(name: str) -> bytes:
    """A body as it was recorded, or written after an engine's public source."""
    return (SHAPES / name).read_bytes()


def events(*chunks: dict[str, Any], done: bool = True) -> bytes:
    """Chunks of a chat as a server sends them."""
    texts = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"] * done
    return b"".join(f"data: {text}\n\n".encode() for text in texts)


def says(text: str | None = None, *, end: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a chat."""
    delta: dict[str, Any] = {} if text is None else {"content": text}
    delta |= {name: more.pop(name) for name in ("reasoning", "reasoning_content") if name in more}
    choice = {"index": 0, "delta": delta, "finish_reason": end}
    choice |= {"token_ids": more.pop("token_ids")} if "token_ids" in more else {}
    return {"object": "chat.completion.chunk", "choices": [choice], **more}


@dataclass(frozen=True)
class Canned:
    """One answer.

    Attributes:
        pieces: of the body, each its own chunk.
        gap_s: between them.
        ending: "whole"; "cut" closes without the last chunk; "silent" keeps the connection and
            waits for the client to go.
    """

    pieces: tuple[bytes, ...] = (b"{}",)
    status: int = 200
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    gap_s: float = 0.0
    ending: Literal["whole", "cut", "silent"] = "whole"


def stream(*pieces: bytes, **options: Any) -> Canned:
    """A streamed answer."""
    return Canned(pieces, kind=STREAM, **options)


def fails(status: int, body: Any = None, **options: Any) -> Canned:
    """An answer that is no success."""
    return Canned((json.dumps(body or {"error": {"message": "no"}}).encode(),), status, **options)


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any = None


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128  # clients that may connect at once
    daemon_threads = True


Route = Canned | Callable[[Any], Canned]


@dataclass
class ScriptedServer:
    """Answers each path as `routes` says, others with 404, until it is closed.

    Attributes:
        asked: every request so far.
        gone: set once a client has closed the connection of an unfinished answer.
        num_sent: pieces of unfinished or finished bodies sent so far.
    """

    routes: dict[str, Route]
    asked: list[Asked] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    num_sent: int = 0

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"script": self})
        self._server = _Listener(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/v1"

    def chats(self) -> list[dict[str, Any]]:
        """Bodies of the chats that were asked for."""
        return [each.body for each in self.asked if each.path.endswith("/chat/completions")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: ScriptedServer

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.script.asked.append(Asked(self.command, self.path, headers, body))
        route = self.script.routes.get(self.path, fails(404, {"detail": "Not Found"}))
        canned = route(body) if callable(route) else route
        self.send_response(canned.status)
        for name, value in (("content-type", canned.kind), *canned.headers):
            self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            self._send(canned)
        except OSError:
            self.script.gone.set()

    def _send(self, canned: Canned) -> None:
        for piece in canned.pieces:
            if piece:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()
                self.script.num_sent += 1
            time.sleep(canned.gap_s)
        if canned.ending == "whole":
            self.wfile.write(b"0\r\n\r\n")
        elif canned.ending == "silent" and self.connection.recv(1) == b"":
            self.script.gone.set()


def models(*names: str, owner: str = "vllm", context: int | None = 1024) -> Canned:
    """A list of models."""
    cards = [{"id": name, "object": "model", "owned_by": owner} for name in names]
    if context is not None:
        cards = [{**card, "max_model_len": context} for card in cards]
    return Canned((json.dumps({"object": "list", "data": cards}).encode(),))


def told(value: Any) -> Canned:
    """A JSON answer."""
    return Canned((json.dumps(value).encode(),))


CHAT = "/v1/chat/completions"


def as_vllm(chat: Route, *, metrics: bytes | None = None) -> ScriptedServer:
    """vLLM 0.32.0 with the embedded pair, by recorded shapes."""
    return ScriptedServer(
        {
            "/v1/models": Canned((shape("vllm_models.json"),)),
            "/version": told({"version": "0.32.0"}),
            "/health": Canned((b"",), kind="text/plain"),
            "/metrics": Canned((metrics or shape("vllm_metrics.txt"),), kind="text/plain"),
            "/detokenize": lambda body: told({"prompt": f"<{body['tokens'][0]}>"}),
            CHAT: chat,
        }
    )


def as_sglang(chat: Route, **arguments: Any) -> ScriptedServer:
    """SGLang, by shapes after its public source."""
    info = json.loads(shape("sglang_server_info.json")) | arguments
    return ScriptedServer(
        {
            "/v1/models": models("org/target", owner="sglang", context=40960),
            "/server_info": told(info),
            "/health": Canned((b"",), kind="text/plain"),
            CHAT: chat,
        }
    )


def as_llama_cpp(chat: Route, *, props: str = "llama_cpp_props.json") -> ScriptedServer:
    """llama.cpp, by shapes after its public source."""
    return ScriptedServer(
        {
            "/v1/models": models("target.gguf", owner="llamacpp", context=None),
            "/props": Canned((shape(props),)),
            "/health": told({"status": "ok"}),
            CHAT: chat,
        }
    )


def as_unknown(chat: Route) -> ScriptedServer:
    """A server that speaks OpenAI's protocol and tells nothing else."""
    return ScriptedServer(
        {"/v1/models": models("some-model", owner="somebody", context=None), CHAT: chat}
    )
