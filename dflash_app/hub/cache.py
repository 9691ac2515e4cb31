"""What of a pair is on this machine, found without touching the network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dflash_app import settings
from dflash_app.errors import PairNotReady, UnsupportedFormat
from dflash_app.hub.needed import WEIGHTS, WEIGHTS_INDEX
from dflash_app.registry.pair import ModelRef, Pair

Status = Literal["ready", "needs download", "planned", "not supported"]

SAFE_WEIGHTS = "weights as safetensors"
"""What a folder lacks that has weights in other files only."""


@dataclass(frozen=True, slots=True)
class PairState:
    """Whether a pair can be loaded from this machine's disk.

    Attributes:
        status: "needs download" where a file is missing, "not supported" where no file that is
            missing would help: here for weights that are no safetensors, and in the workspace for
            what no backend of the app can run.
        reason: one sentence with the cure; None where ready.
        target_dir: the target's folder where it is complete; None for a pair on a server, which is
            always ready, as nothing of it is needed here.
        drafter_dir: the drafter's folder where it is complete, likewise.
    """

    status: Status
    reason: str | None
    target_dir: Path | None
    drafter_dir: Path | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A model's folder, None where there is none, and the first file that it lacks."""

    ref: ModelRef
    folder: Path | None
    lacks: str | None

    @property
    def complete_dir(self) -> Path | None:
        return None if self.lacks else self.folder


def pair_state(pair: Pair, cache_dir: Path | None = None) -> PairState:
    """Look on disk for everything a pair needs.

    Args:
        pair: a registry row.
        cache_dir: the hub's cache; None takes the one that huggingface_hub uses (HF_HUB_CACHE).
    """
    if pair.remote:
        return PairState("ready", None, None, None)
    target = _find(pair.target, cache_dir, tokenizer=True)
    if pair.status == "planned":
        reason = f"Pair {pair.name!r} is planned, its drafter is not published: choose another."
        return PairState("planned", reason, target.complete_dir, None)
    drafter = _find(pair.drafter, cache_dir) if pair.drafter else None
    models = [model for model in (target, drafter) if model]
    missing = [model for model in models if model.complete_dir is None]
    unsafe = next((model for model in missing if model.lacks == SAFE_WEIGHTS), None)
    if unsafe is not None:
        drafter_dir = drafter.complete_dir if drafter else None
        return PairState("not supported", _say_unsafe(unsafe), target.complete_dir, drafter_dir)
    partly = any(model.folder for model in models)
    return PairState(
        status="needs download" if missing else "ready",
        reason=f"Pair {pair.name!r} is {_sentence(partly, missing, pair)}" if missing else None,
        target_dir=target.complete_dir,
        drafter_dir=drafter.complete_dir if drafter else None,
    )


def resolve(ref: ModelRef, cache_dir: Path | None = None) -> Path:
    """The folder that holds a model: config and every safetensors file.

    Args:
        ref: a pair's target or drafter.
        cache_dir: as for `pair_state`.

    Raises:
        PairNotReady: the model is not, or not completely, on this machine, or it is on a server.
        UnsupportedFormat: its weights are no safetensors.
    """
    if ref.server is not None:
        raise PairNotReady(_on_server(ref))
    found = _find(ref, cache_dir)
    if found.lacks == SAFE_WEIGHTS:
        raise UnsupportedFormat(_say_unsafe(found))
    if found.complete_dir is None:
        partly = found.folder is not None
        raise PairNotReady(f"{ref.source} is {_sentence(partly, [found])}")
    return found.complete_dir


def is_here(ref: ModelRef, cache_dir: Path | None = None) -> bool:
    """Whether a model is on this machine, complete; arguments as of `resolve`."""
    return _find(ref, cache_dir).complete_dir is not None


def _find(ref: ModelRef, cache_dir: Path | None, *, tokenizer: bool = False) -> _Found:
    try:
        folder = _folder(ref, cache_dir)
        return _Found(ref, folder, _first_lacking(folder, tokenizer) if folder else "every file")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return _Found(ref, Path(error.filename or "."), f"a readable folder ({reason})")


def _folder(ref: ModelRef, cache_dir: Path | None) -> Path | None:
    """Where the model's files are, complete or not; None where there are none."""
    if ref.server is not None:
        return None
    if ref.repo is not None:
        return _snapshot(ref.repo, ref.revision, cache_dir)
    embedded = ref.source.startswith("embedded:")
    name = ref.source.removeprefix("embedded:")
    folder = settings.EMBEDDED_DIR / name if embedded else Path(name)
    return folder if folder.is_dir() else None


def _snapshot(repo: str, revision: str | None, cache_dir: Path | None) -> Path | None:
    """The folder of a revision in the hub's cache, whose layout is documented and stable.

    Not by `try_to_load_from_cache`: it takes 0.1 s to import, where the constants take 0.01 s, and
    asking it for one file does not tell a half-done download from none.
    """
    from huggingface_hub import constants

    base = (cache_dir or Path(constants.HF_HUB_CACHE)) / f"models--{repo.replace('/', '--')}"
    commit = revision or "main"
    ref_file = base / "refs" / commit
    if ref_file.is_file():
        commit = ref_file.read_text(encoding="utf-8", errors="replace").strip()
    folder = base / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def _first_lacking(folder: Path, tokenizer: bool) -> str | None:
    """The first file that a model folder lacks; a dangling link into the cache counts as absent."""
    if not (folder / "config.json").is_file():
        return "config.json"
    if tokenizer and not any(path.is_file() for path in folder.glob("tokenizer*")):
        return "its tokenizer"
    if not (folder / WEIGHTS_INDEX).is_file():
        if (folder / WEIGHTS).is_file() or (not tokenizer and _any(folder, "*.safetensors")):
            return None
        return SAFE_WEIGHTS if _any(folder, "*.bin", "*.pt", "*.pth") else WEIGHTS
    try:
        index = json.loads((folder / WEIGHTS_INDEX).read_text(encoding="utf-8"))
        shards = sorted(set(index["weight_map"].values()))
        absent = [name for name in shards if not (folder / name).is_file()]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return f"a readable {WEIGHTS_INDEX}"
    return absent[0] if absent else None if shards else "its weights"


def _any(folder: Path, *patterns: str) -> bool:
    return any(path.is_file() for pattern in patterns for path in folder.glob(pattern))


def _say_unsafe(model: _Found) -> str:
    return (
        f"{model.folder} holds no .safetensors file, and other weight files (.bin, .pt) are never "
        "opened because they can run code: choose a model with safetensors."
    )


def ready_folders(pair: Pair, *, drafting: bool) -> tuple[Path, Path | None]:
    """Where a pair's target and drafter are.

    Args:
        pair: a registry row.
        drafting: False, or a pair without a drafter: none is asked for.

    Raises:
        PairNotReady: something is missing, or the pair is on a server; says what brings it.
    """
    if pair.remote:
        raise PairNotReady(_on_server(pair.target))
    state = pair_state(pair)
    wants_drafter = drafting and pair.drafter is not None
    if state.target_dir is None or (wants_drafter and state.drafter_dir is None):
        raise PairNotReady(state.reason or f"Pair {pair.name!r} is not on this machine.")
    return state.target_dir, state.drafter_dir if wants_drafter else None


def _on_server(ref: ModelRef) -> str:
    return f"{ref.source} runs on a server, so its files are not here: choose a pair that is."


def _sentence(partly: bool, missing: list[_Found], pair: Pair | None = None) -> str:
    """The rest of "X is ...": what is missing, and the commands that bring it."""
    state = "only partly here" if partly else "not on this machine"
    lacking = ", ".join(
        f"{model.ref.source} lacks {model.lacks}" for model in missing if model.folder
    )
    cures = list(dict.fromkeys(_cure(model.ref, pair) for model in missing))
    gated = [model.ref.repo for model in missing if model.ref.gated and model.ref.repo]
    if gated:
        pages = " and ".join(f"https://huggingface.co/{repo}" for repo in gated)
        cures.insert(0, f"accept the licence at {pages}, run `dflash-app hub login`")
    return f"{state}{f' ({lacking})' if lacking else ''}: {', then '.join(cures)}."


def _cure(ref: ModelRef, pair: Pair | None) -> str:
    if ref.repo is not None and pair is not None:
        return f"run `dflash-app hub pull {pair.name}`"
    if ref.repo is not None:
        pinned = f" --revision {ref.revision}" if ref.revision else ""
        return f"run `hf download {ref.repo}{pinned}`"
    if ref.source.startswith("embedded:"):
        return "run `python -m recipes.embedded_pair --install` or install the app again"
    return f"put the model into {ref.source} or correct the path in your registry"
