"""A server that streams empty talk at a set pace: `python -m benchmarks.dummy_server`.

Chunks have vLLM's shape, each an HTTP chunk and a write of its own, as vLLM sends them. It times
itself from a reply's first chunk to its last and tells at `/timings`: what a client then finds less
is the client's own doing.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "dummy"
VERSION = "0.32.0"
CONTEXT_LENGTH = 1_000_000
PROMPT_IDS = list(range(16))
TOKEN_ID, TOKEN_TEXT = 1234, " token"


class DummyServer(ThreadingHTTPServer):
    """Serves on loopback, a thread for each request.

    Attributes:
        tok_s: pace of each reply.
        chunk: tokens in a chunk.
        timings: of the replies that were streamed to their end.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, tok_s: float, chunk: int) -> None:
        """Listens on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tok_s, self.chunk = tok_s, chunk
        self.timings: list[dict[str, float]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: DummyServer

    def do_GET(self) -> None:
        if self.path == "/timings":
            self._answer(self.server.timings)
            return
        model = {"id": MODEL, "object": "model", "owned_by": "vllm"}
        answers: dict[str, Any] = {
            "/health": {},
            "/version": {"version": VERSION},
            "/v1/models": {"object": "list", "data": [model | {"max_model_len": CONTEXT_LENGTH}]},
        }
        self._answer(answers.get(self.path))

    def do_POST(self) -> None:
        received_s = time.perf_counter()
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/chat/completions":
            self._answer(None)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self._stream(asked, received_s)

    def _stream(self, asked: dict[str, Any], received_s: float) -> None:
        num_tokens, step = int(asked["max_tokens"]), self.server.chunk
        counting = asked.get("stream_options", {}).get("continuous_usage_stats", False)
        telling = asked.get("return_token_ids", False)
        first = _chunk({"role": "assistant", "content": ""}, None)
        self._send(first | ({"prompt_token_ids": PROMPT_IDS} if telling else {}))
        first_s = time.perf_counter()
        for start in range(0, num_tokens, step):
            size = min(step, num_tokens - start)
            due_s = first_s + start / self.server.tok_s
            if (wait_s := due_s - time.perf_counter()) > 0:
                time.sleep(wait_s)
            last = start + size == num_tokens
            chunk = _chunk({"content": TOKEN_TEXT * size}, "length" if last else None)
            if telling:
                chunk["choices"][0]["token_ids"] = [TOKEN_ID] * size
            if counting:
                chunk["usage"] = _usage(start + size)
            self._send(chunk)
            last_s = time.perf_counter()
        self.server.timings.append(
            {
                "tokens": num_tokens,
                "received_s": received_s,
                "first_s": first_s,
                "last_s": last_s,
            }
        )
        self._send(_chunk(None, None) | {"usage": _usage(num_tokens)})
        # In one: a client may close the connection as soon as it has read that it is done.
        self.wfile.write(_framed(b"data: [DONE]\n\n") + _framed(b""))
        self.close_connection = True

    def _send(self, value: dict[str, Any]) -> None:
        data = json.dumps(value, separators=(",", ":")).encode()
        self.wfile.write(_framed(b"data: %b\n\n" % data))

    def _answer(self, value: object) -> None:
        body = json.dumps({"detail": "Not Found"} if value is None else value).encode()
        self.send_response(404 if value is None else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: printing takes time."""


def _framed(data: bytes) -> bytes:
    """An HTTP chunk; the empty one is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _chunk(delta: dict[str, str] | None, finish_reason: str | None) -> dict[str, Any]:
    """A chunk as vLLM 0.32 streams it; the last one, with the usage, has no choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-8ee825c5a6b13487",
        "object": "chat.completion.chunk",
        "created": 1795299230,
        "model": MODEL,
        "choices": [] if delta is None else [choice],
    }


def _usage(num_tokens: int) -> dict[str, int]:
    prompt = len(PROMPT_IDS)
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + num_tokens,
        "completion_tokens": num_tokens,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the address, then serve until stdin is closed or the process ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dummy_server", description=__doc__)
    parser.add_argument("--tok-s", type=float, default=math.inf, help="of each reply; no pace")
    parser.add_argument("--chunk", type=int, default=1, help="tokens in a chunk")
    options = parser.parse_args(argv)
    server = DummyServer(options.tok_s, options.chunk)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
