"""A registry row: what is known about one target and its drafter.

None means that the sources do not tell; nothing is guessed. A model's own config wins over a row.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

EMBEDDED_PATHS = ("embedded:target", "embedded:drafter")
"""Paths that stand for the pair that ships with the app."""

REMOTE_BACKEND = "remote"
"""The backend of pairs whose models are on a server."""

MAX_SERVER_CHARS = 500

UNKNOWN_FAMILY = "unknown"
"""Family of a target that nobody has looked at yet."""

Status = Literal["available", "preview", "planned"]
"""available: both models are published; preview: published, but early or not confirmed by a
second source; planned: announced, nothing to download yet."""


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", text):
        raise ValueError("use 1 to 64 of a-z, 0-9, '.', '_' and '-', not beginning with a sign")
    return text


def _repo(text: str) -> str:
    part = r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?"
    if not re.fullmatch(f"{part}/{part}", text) or "--" in text or ".." in text or len(text) > 96:
        raise ValueError("use a Hugging Face repository id such as Qwen/Qwen3-8B")
    return text


def _revision(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{7,40}", text):
        raise ValueError("use a commit id of 7 to 40 lowercase hex digits, or leave it out")
    return text


def _path(text: str) -> str:
    if text not in EMBEDDED_PATHS and (not text.isprintable() or not Path(text).is_absolute()):
        raise ValueError("use an absolute path, embedded:target or embedded:drafter")
    return text


def _server(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > MAX_SERVER_CHARS:
        raise ValueError(f"use an address of at most {MAX_SERVER_CHARS} characters, all ASCII")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("use an address such as http://gpu-box:8000/v1") from error
    if parts.scheme not in ("http", "https") or not host or "\\" in text:
        raise ValueError("use an address such as http://gpu-box:8000/v1, by http or https")
    if "@" in parts.netloc:
        raise ValueError("remove user and password: keys belong in the environment or keyring")
    if "?" in text or "#" in text:
        raise ValueError("remove what follows '?' or '#': only the base address belongs here")
    return text.rstrip("/")


def _text(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 1000:
        raise ValueError("use 1 to 1000 printable characters on one line")
    return text


def _language(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}", text):
        raise ValueError("use a language's code of two or three letters such as en")
    return text


Name: TypeAlias = Annotated[str, AfterValidator(_name)]
RepoId: TypeAlias = Annotated[str, AfterValidator(_repo)]
Revision: TypeAlias = Annotated[str, AfterValidator(_revision)]
ModelPath: TypeAlias = Annotated[str, AfterValidator(_path)]
ServerUrl: TypeAlias = Annotated[str, AfterValidator(_server)]
Text: TypeAlias = Annotated[str, AfterValidator(_text)]
Language: TypeAlias = Annotated[str, AfterValidator(_language)]
BlockSize: TypeAlias = Annotated[int, Field(ge=2, le=64)]


class Row(BaseModel):
    """Base of everything in a registry file: no conversions, no unknown keys, no changes."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # an address may hold a password that does not belong there
    )


class ModelRef(Row):
    """Where a model is: exactly one of `repo`, `path` and `server`.

    Attributes:
        repo: Hugging Face repository id.
        path: `embedded:target`, `embedded:drafter`, or an absolute folder of the user's.
        server: base address of an OpenAI-compatible server that runs it, without a final "/".
        model: the name that `server` gives it.
        revision: commit of `repo`; None takes what its main branch points to.
        licence: as its card states it.
        gated: True where a licence must be accepted before the download.
        size_bytes: of the weights.
    """

    repo: RepoId | None = None
    path: ModelPath | None = None
    server: ServerUrl | None = None
    model: Text | None = None
    revision: Revision | None = None
    licence: Text | None = None
    gated: bool | None = None
    size_bytes: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "ModelRef":
        if [self.repo, self.path, self.server].count(None) != 2:
            raise ValueError("give exactly one of 'repo', 'path' and 'server'")
        if self.repo is None and self.revision is not None:
            raise ValueError("only a 'repo' has a 'revision': remove it")
        if self.server is not None and self.model is None:
            raise ValueError("a 'server' needs 'model', the name that it serves: add it")
        if self.server is None and self.model is not None:
            raise ValueError("only a 'server' has a 'model': remove it")
        return self

    @property
    def source(self) -> str:
        """The repository id, the path, or the model and its server."""
        return self.repo or self.path or f"{self.model} at {self.server}"


class Sampling(Row):
    """Sampling that the pair's own documentation uses; limits as in `request.SamplingParams`."""

    temperature: Annotated[float, Field(ge=0, le=2)]
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] = 1.0


class Result(Row):
    """One cell pair of a published table.

    Attributes:
        task: benchmark, or a few words.
        speedup: against plain decoding of the same target in the same engine.
        acceptance_length: mean tokens committed per target forward, bonus token included.
        concurrency: requests at a time.
        block_size: anchor included, where the table tells it.
    """

    task: Text
    speedup: Annotated[float, Field(gt=0, le=64)] | None = None
    acceptance_length: Annotated[float, Field(ge=1, le=64)] | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None
    block_size: BlockSize | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Result":
        if self.speedup is None and self.acceptance_length is None:
            raise ValueError("give 'speedup', 'acceptance_length' or both")
        return self


class Benchmark(Row):
    """A published table: its source, the setup where it is told, and its results."""

    source: Text
    setup: Text | None = None
    results: Annotated[tuple[Result, ...], Field(min_length=1)]


class Published(NamedTuple):
    """A published result with its table's setup and source; see `Result`, `Benchmark`."""

    task: str
    speedup: float | None
    acceptance_length: float | None
    concurrency: int | None
    block_size: int | None
    setup: str | None
    source: str


class Pair(Row):
    """A target and its drafter.

    Attributes:
        name: unique over all registries.
        title: for people.
        family: the target's `model_type` (`qwen3`, `llama`, `qwen3_5_moe`), or `unknown`.
        target: the model that decides.
        drafter: the model that drafts; None where none is published.
        trained_for: the target that the drafter was trained for, where it is another one: users
            pair a drafter with a sibling of its target on purpose.
        block_size: that the drafter was trained for, anchor included.
        backends: `torch` and `mlx` where this app's own engine runs the pair; else the engines that
            a source shows running it.
        status: see `Status`.
        thinking: the mode the drafter was trained for, as `GenerationRequest.thinking` takes it.
        thinking_levels: the levels the target's template understands.
        languages: that the drafter was trained on, as codes ("en").
        trained_context: tokens of the sequences that the drafter was trained on.
        sampling: that the pair's own documentation uses.
        benchmarks: published tables; `published` gives them row by row.
        notes: what a user should know before choosing it.
        sources: where the row comes from, in short.
    """

    name: Name
    title: Text
    family: Text
    target: ModelRef
    drafter: ModelRef | None = None
    trained_for: RepoId | None = None
    block_size: BlockSize | None = None
    backends: tuple[Name, ...] = ()
    status: Status = "available"
    thinking: Text | None = None
    thinking_levels: tuple[Text, ...] = ()
    languages: tuple[Language, ...] = ()
    trained_context: Annotated[int, Field(ge=1)] | None = None
    sampling: Sampling | None = None
    benchmarks: tuple[Benchmark, ...] = ()
    notes: Text | None = None
    sources: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _servers_alone(self) -> "Pair":
        refs = [ref for ref in (self.target, self.drafter) if ref is not None]
        on_servers = [ref.server is not None for ref in refs]
        if any(on_servers) and not all(on_servers):
            raise ValueError("give target and drafter both a 'server', or neither")
        if any(on_servers) != (REMOTE_BACKEND in self.backends) or (
            any(on_servers) and self.backends != (REMOTE_BACKEND,)
        ):
            raise ValueError(
                f"a pair on a server has backends: [{REMOTE_BACKEND}], and no other pair has it"
            )
        return self

    @property
    def remote(self) -> bool:
        """Whether its models run on a server, so that nothing of it is on this machine."""
        return self.target.server is not None

    @property
    def published(self) -> tuple[Published, ...]:
        """Every published result, in the order of the file."""
        return tuple(
            Published(
                task=result.task,
                speedup=result.speedup,
                acceptance_length=result.acceptance_length,
                concurrency=result.concurrency,
                block_size=result.block_size,
                setup=table.setup,
                source=table.source,
            )
            for table in self.benchmarks
            for result in table.results
        )
