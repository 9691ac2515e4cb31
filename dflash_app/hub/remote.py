"""Questions to the hub that need an answer now: they end within seconds, whatever the network does.

Call them from a worker thread, never from the page's.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar

from dflash_app.errors import HubError, HubOffline
from dflash_app.hub.faults import translate
from dflash_app.hub.needed import CONFIG, WEIGHTS_INDEX, needed_files
from dflash_app.hub.weights import Headers

REQUEST_TIMEOUT_S = 5.0
LIMIT_S = 10.0
"""For everything together: a name that cannot be resolved has a time limit of its own."""
HEADERS_LIMIT_S = 60.0
"""For the headers of a model of hundreds of files; each request has its own limit."""
MAX_TEXT_BYTES = 1_000_000
MAX_INDEX_BYTES = 50_000_000
CONNECTIONS = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """What the hub says about a model at one commit.

    Attributes:
        repo: its id.
        commit: 40 hex digits.
        gated: whether a licence must be accepted before the download.
        licence: as its card states it.
        parameters: count of parameters by dtype ("BF16"), where the hub has read the headers.
        files: name and size of every file.
        hashes: sha256 of the large files' content, by name; the cache names its files so.
    """

    repo: str
    commit: str
    gated: bool
    licence: str | None
    parameters: dict[str, int] | None
    files: dict[str, int]
    hashes: dict[str, str]

    @property
    def weights(self) -> dict[str, int]:
        """Name and size of the safetensors files; those in folders are other formats."""
        return {
            name: size
            for name, size in self.files.items()
            if name.endswith(".safetensors") and "/" not in name
        }


def ask_model(repo: str, revision: str | None = None) -> RemoteModel:
    """Ask what a repository holds.

    Args:
        repo: its id.
        revision: commit or branch; None asks for the tip of main.

    Raises:
        HubOffline: no answer, or HF_HUB_OFFLINE is set.
        HubError: no such repository or revision, or the hub refuses.
    """
    from huggingface_hub import HfApi

    def ask() -> Any:
        return HfApi(library_name="dflash-studio").model_info(
            repo, revision=revision, files_metadata=True, timeout=REQUEST_TIMEOUT_S
        )

    info = within_limit(ask, repo, revision)
    files = {item.rfilename: int(item.size or 0) for item in info.siblings or ()}
    card = info.card_data
    return RemoteModel(
        repo=repo,
        commit=str(info.sha),
        gated=bool(info.gated),
        licence=getattr(card, "license", None) if card else None,
        parameters=dict(info.safetensors.parameters) if info.safetensors else None,
        files=files,
        hashes={item.rfilename: item.lfs.sha256 for item in info.siblings or () if item.lfs},
    )


def ask_config(repo: str, revision: str | None = None) -> dict[str, Any]:
    """A model's config.json, read from the hub into memory.

    Raises:
        HubOffline, GatedModel, HubError: as `ask_model`; or it is no JSON object.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(repo, CONFIG, revision=revision)
    text = within_limit(lambda: _get(url, build_hf_headers()), repo, revision)
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise HubError(f"The {CONFIG} of {repo} is no JSON object: choose another revision.")
    return config


def ask_headers(model: RemoteModel, role: str) -> Headers:
    """The tensors of a model's safetensors files: their headers are read, no weights.

    Args:
        model: of `ask_model`.
        role: "target" or "drafter".

    Raises:
        HubOffline, GatedModel, HubError: as `ask_model`; or it has no safetensors.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import SafetensorsParsingError
    from huggingface_hub.utils import build_hf_headers

    def ask() -> Headers:
        index = None
        if WEIGHTS_INDEX in model.files:
            url = hf_hub_url(model.repo, WEIGHTS_INDEX, revision=model.commit)
            index = _get(url, build_hf_headers(), MAX_INDEX_BYTES)
        names = needed_files(model.repo, model.files, index, role=role)
        api = HfApi(library_name="dflash-studio")

        def read(name: str) -> Headers:
            try:
                found: Headers = api.parse_safetensors_file_metadata(
                    model.repo, name, revision=model.commit, timeout=REQUEST_TIMEOUT_S
                ).tensors
            except SafetensorsParsingError as error:
                raise HubError(
                    f"{model.repo} is damaged on the hub, its {name} is no safetensors file: "
                    "choose another pair."
                ) from error
            return found

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            parts = pool.map(read, [name for name in names if name.endswith(".safetensors")])
            return {name: tensor for part in parts for name, tensor in part.items()}

    return within_limit(ask, model.repo, model.commit, limit_s=HEADERS_LIMIT_S)


def read_url(url: str) -> str:
    """A text from the web, for a registry: https, or http on this machine only.

    Raises:
        HubOffline: no answer.
        HubError: another kind of address, refused, too large or no text.
    """
    import httpx2

    try:
        asked = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise HubError(f"{url[:200]!r} is no address: give one that begins https://.") from error
    if not _may_read(asked):
        raise HubError(f"{url[:200]!r} cannot be read: give an address that begins https://.")
    return within_limit(lambda: _get(url, {}), asked.host, None)


def _get(url: str, headers: dict[str, str], max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text at an address, following redirects that stay safe."""
    import httpx2
    from huggingface_hub.utils import get_session, hf_raise_for_status

    data = b""
    with get_session().stream(
        "GET", url, headers=headers, timeout=REQUEST_TIMEOUT_S, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        if not _may_read(response.url) and not url.startswith("http:"):
            raise HubError(f"{httpx2.URL(url).host} sends to an address that is not https.")
        for part in response.iter_bytes():
            data += part
            if len(data) > max_bytes:
                raise HubError(
                    f"The text at {httpx2.URL(url).host} is larger than {max_bytes:,} bytes."
                )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HubError(f"What {httpx2.URL(url).host} sends is no UTF-8 text.") from error


def _may_read(url: Any) -> bool:
    return url.scheme == "https" or (
        url.scheme == "http" and url.host in ("127.0.0.1", "localhost", "::1")
    )


def within_limit(
    ask: Callable[[], T], what: str, revision: str | None = None, *, limit_s: float | None = None
) -> T:
    """Run a question in a thread of its own, and wait for it no longer than the limit.

    Args:
        ask: the question.
        what: the model that it is about, or whatever begins the sentence where it fails.
        revision: of the model.
        limit_s: None takes `LIMIT_S`.

    Raises:
        HubOffline, GatedModel, HubError: whatever it raised, translated; or the time is up.
    """
    import httpx2

    answer: list[T] = []
    failure: list[Exception] = []

    def run() -> None:
        try:
            answer.append(ask())
        except (httpx2.HTTPError, HubError, OSError, ValueError, TypeError, LookupError) as error:
            failure.append(error)

    thread = Thread(target=run, name="hub question", daemon=True)
    thread.start()
    thread.join(limit_s or LIMIT_S)
    if failure:
        raise translate(failure[0], what, revision) from failure[0]
    if not answer:
        raise HubOffline(f"{what} cannot be fetched, the hub does not answer: check the network.")
    return answer[0]
