"""A small real HTTP server that answers as vLLM 0.32 does: its shapes, not its models."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

BLOCK_SIZE = 16
ACCEPTED = (3, 15, 0, 6, 5, 9, 2)
"""Drafts that the steps accept, from the beginning again at the end: 5.7 on average."""

REPLY = (
    "Two hundred and four divided by twelve is seventeen, as twelve times ten is one hundred "
    "and twenty, twelve times seven is eighty-four, and both together are two hundred and four. "
) * 3


@dataclass
class ReplayedVllm:
    """Serves one model until it is closed; a word is a token, whose id is its place.

    Attributes:
        model: its name.
        more_models: names that it lists, too.
        drafts: whether it speculates; both kinds answer a prompt with the same text.
        key: that requests must carry; None takes all.
        step_s: time of a step, with one token of plain decoding or a block.
        per_request: whether the last chunk tells acceptance, as vLLM does when it is asked to.
        asked: the bodies of the chats so far.
    """

    model: str = "org/replayed"
    more_models: tuple[str, ...] = ()
    drafts: bool = True
    key: str | None = None
    step_s: float = 0.02
    per_request: bool = True
    context: int = 4096
    version: str = "0.32.0"
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    num_drafts: int = 0
    accepted_by_position: list[int] = field(default_factory=lambda: [0] * (BLOCK_SIZE - 1))

    def __post_init__(self) -> None:
        handler = type("Handler", (_Handler,), {"replayed": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """What a user types."""
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        """Answer no more; to be called once or more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def tokens(self, body: dict[str, Any]) -> list[str]:
        """What it says to a chat, no longer than was asked for."""
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        return [f"{word} " for word in REPLY.split()][: int(limit or 4096)]

    def steps(self, num_tokens: int) -> Iterator[tuple[int, int]]:
        """Tokens of each step and the drafts that it accepted, after the first token."""
        left, number = num_tokens, 0
        while left > 0:
            accepted = ACCEPTED[number % len(ACCEPTED)] if self.drafts else 0
            yield min(accepted + 1, left), accepted
            left -= accepted + 1
            number += 1

    def speculative(self, accepted: Sequence[int]) -> dict[str, Any]:
        """The block `metrics.speculative_decoding` of a run."""
        histogram = [0] * BLOCK_SIZE
        for count in accepted:
            histogram[count] += 1
        num_steps, total = len(accepted), sum(accepted)
        num_drafts = num_steps * (BLOCK_SIZE - 1)
        return {
            "mean_acceptance_length": 1 + total / max(num_steps, 1),
            "draft_acceptance_rate": total / max(num_drafts, 1),
            "acceptance_histogram": histogram,
            "num_spec_steps": num_steps,
            "num_accepted_draft_tokens": total,
            "num_draft_tokens": num_drafts,
            "num_spec_tokens": BLOCK_SIZE - 1,
            "per_step_accepted": list(accepted),
            "per_step_drafted": [BLOCK_SIZE - 1] * num_steps,
        }

    def metrics(self) -> str:
        """The page /metrics: counters since the start."""
        labels = f'engine="0",model_name="{self.model}"'
        lines = [f"vllm:num_requests_running{{{labels}}} 0.0"]
        if not self.drafts:
            return lines[0] + "\n"
        name = "vllm:spec_decode_num_"
        lines += [
            f"{name}drafts_total{{{labels}}} {self.num_drafts}.0",
            f"{name}draft_tokens_total{{{labels}}} {self.num_drafts * (BLOCK_SIZE - 1)}.0",
            f"{name}accepted_tokens_total{{{labels}}} {sum(self.accepted_by_position)}.0",
        ]
        lines += [
            f'{name}accepted_tokens_per_pos_total{{{labels},position="{place}"}} {count}.0'
            for place, count in enumerate(self.accepted_by_position)
        ]
        return "\n".join(lines) + "\n"


def url_of_nobody() -> str:
    """An address where no server is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection; `replayed` says how."""

    protocol_version = "HTTP/1.1"
    replayed: ReplayedVllm

    def do_GET(self) -> None:
        served = self.replayed
        if self.path == "/health":
            self._send(200, b"", "text/plain")
        elif self.path == "/metrics":
            self._send(200, served.metrics().encode(), "text/plain; version=0.0.4")
        elif self.path == "/version":
            self._send_json(200, {"version": served.version})
        elif self.path.startswith("/v1/") and not self._may_ask():
            self._send_json(401, {"error": "Unauthorized"})
        elif self.path == "/v1/models":
            names = (served.model, *served.more_models)
            self._send_json(200, {"object": "list", "data": [_card(served, n) for n in names]})
        else:
            self._send_json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        served = self.replayed
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
        if not self._may_ask():
            self._send_json(401, {"error": "Unauthorized"})
        elif self.path != "/v1/chat/completions":
            self._send_json(404, {"detail": "Not Found"})
        elif body.get("model") != served.model:
            said = f"The model `{body.get('model')}` does not exist."
            error = {"message": said, "type": "NotFoundError", "param": "model", "code": 404}
            self._send_json(404, {"error": error})
        else:
            served.asked.append(body)
            self._stream(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for chunk in self._chunks(body):
                self._write(f"data: {json.dumps(chunk)}\n\n")
            self._write("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the client has gone
            self.close_connection = True

    def _chunks(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        served, wants_ids = self.replayed, bool(body.get("return_token_ids"))
        tokens = served.tokens(body)
        prompt_ids = list(range(sum(len(m["content"].split()) for m in body["messages"]) + 4))
        opening = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        yield _chunk(body, opening, {"prompt_token_ids": prompt_ids} if wants_ids else {})
        at, accepted = 0, []
        for count, num_accepted in [(1, None), *served.steps(len(tokens) - 1)]:
            time.sleep(served.step_s)
            if num_accepted is not None and served.drafts:
                accepted.append(num_accepted)
                served.num_drafts += 1
                for place in range(num_accepted):
                    served.accepted_by_position[place] += 1
            text = "".join(tokens[at : at + count])
            choice: dict[str, Any] = {"delta": {"content": text}, "finish_reason": None}
            if at + count >= len(tokens):
                whole = len(tokens) == len(REPLY.split())
                choice["finish_reason"] = "stop" if whole else "length"
            if wants_ids:
                choice["token_ids"] = list(range(100 + at, 100 + at + count))
            at += count
            yield _chunk(body, choice)
        if (body.get("stream_options") or {}).get("include_usage"):
            num_prompt = len(prompt_ids)
            usage = {"prompt_tokens": num_prompt, "completion_tokens": len(tokens)}
            more: dict[str, Any] = {"usage": usage | {"total_tokens": num_prompt + len(tokens)}}
            if served.drafts and served.per_request:
                more["metrics"] = {"speculative_decoding": served.speculative(accepted)}
            yield _chunk(body, None, more)

    def _may_ask(self) -> bool:
        key = self.replayed.key
        return key is None or self.headers.get("authorization") == f"Bearer {key}"

    def _write(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send_json(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _card(served: ReplayedVllm, name: str) -> dict[str, Any]:
    """An entry of the list of models."""
    return {
        "id": name,
        "object": "model",
        "created": 1_790_000_000,
        "owned_by": "vllm",
        "root": f"/models/{name}",
        "parent": None,
        "max_model_len": served.context,
        "permission": [],
    }


def _chunk(
    body: dict[str, Any], choice: dict[str, Any] | None, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One event of a streamed chat; the last has no choice but the usage."""
    return {
        "id": "chatcmpl-replayed",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": body["model"],
        "choices": [] if choice is None else [{"index": 0, "logprobs": None, **choice}],
        **(more or {}),
    }
