"""The composition root: the only place where settings, registry, plugins, store and models meet.

Nothing here is global, and opening a workspace imports neither gradio nor a tensor library.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from dflash_app import session
from dflash_app.engine.protocol import Backend, LoadedPair, LoadOptions
from dflash_app.errors import BackendUnavailable, PairNotReady, StoreError
from dflash_app.events import DecodeEvent
from dflash_app.hub.cache import PairState, pair_state
from dflash_app.plugins import Plugins, load_plugins
from dflash_app.race import race
from dflash_app.registry.load import Registry, load_registry
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.request import GenerationRequest
from dflash_app.settings import Settings, find_bundled, load_settings
from dflash_app.store.runs import Store

DEFAULT_OPTIONS = LoadOptions()

__all__ = ["PairState", "Workspace", "open_workspace"]


@dataclass(frozen=True, slots=True)
class _Held:
    """The pair in memory and what was asked for to get it."""

    pair: Pair
    options: LoadOptions
    backend: str
    loaded: LoadedPair


@dataclass(slots=True)
class Workspace:
    """Everything the surfaces share. Any thread may call it.

    Attributes:
        settings: paths.
        registry: the known pairs.
        plugins: what was loaded, and what was not and why.
        store: the run log. Where the database cannot be used it is one in memory, so that the
            session's runs can still be seen; it ends with the process.
        store_problem: why the runs of this session will not be kept; None while they are.
    """

    settings: Settings
    registry: Registry
    plugins: Plugins
    store: Store
    store_problem: StoreError | None
    _backends: dict[str, Backend[Pair]]
    _held: _Held | None = None
    _lock: Any = field(default_factory=RLock)

    def pairs(self) -> list[Pair]:
        """All known pairs, the bundled ones first."""
        return list(self.registry.pairs)

    def state(self, name: str) -> PairState:
        """What of a pair is on this machine.

        Raises:
            UnknownPair: no registry knows the name.
        """
        return pair_state(self.registry.get(name))

    def backends(self) -> dict[str, Backend[Pair]]:
        """The ways to load pairs, by name, those that do not work here included."""
        return dict(self._backends)

    def loaded(
        self, name: str, options: LoadOptions = DEFAULT_OPTIONS, backend: str | None = None
    ) -> LoadedPair:
        """The pair in memory; loads it where it is not there yet.

        One pair is held at a time: loading another closes the one before, whose running turns end
        with an error. A pair with the same target is loaded first and shares it.

        Args:
            name: as in the registry.
            options: how to load it; other options load it anew.
            backend: by name; None takes the pair's first that works here.

        Raises:
            UnknownPair: no registry knows the name.
            PairNotReady: it is not on this machine, or not for this backend; says what is missing.
            BackendUnavailable: no backend of the pair works here; says why.
            LoadError: its files cannot become a model.
        """
        pair = self.registry.get(name)
        with self._lock:
            chosen = self._choose_backend(pair, backend)
            held = self._held
            if held and (held.pair, held.options, held.backend) == (pair, options, chosen.name):
                return held.loaded
            _check_ready(pair, options)
            if held and not _shares_target(held, pair, options, chosen.name):
                self.unload()
            loaded = chosen.load(pair, options)
            self.unload()
            self._held = _Held(pair, options, chosen.name, loaded)
            return loaded

    def unload(self) -> None:
        """Free the pair in memory, if there is one."""
        with self._lock:
            held, self._held = self._held, None
            if held is not None:
                held.loaded.close()

    def run(
        self, loaded: LoadedPair, request: GenerationRequest, *, source: str
    ) -> Iterator[DecodeEvent]:
        """Decode one turn and record it in this workspace's store: see `session.run`."""
        target, drafter = self.revisions(loaded.name)
        return session.run(
            loaded,
            self.store,
            request,
            source=source,
            target_revision=target,
            drafter_revision=drafter,
        )

    def race(
        self, loaded: LoadedPair, requests: Sequence[GenerationRequest], *, source: str = "race"
    ) -> Iterator[tuple[int, DecodeEvent]]:
        """Decode several lanes and record them in this workspace's store: see `race.race`."""
        target, drafter = self.revisions(loaded.name)
        return race(
            loaded,
            self.store,
            requests,
            source=source,
            target_revision=target,
            drafter_revision=drafter,
        )

    def revisions(self, name: str) -> tuple[str | None, str | None]:
        """The commits of a pair's target and drafter that are on this machine, None = unknown.

        The embedded pair has none of its own: the app's version, in every record, tells it.
        """
        pair = self.registry.get(name)
        state = pair_state(pair)
        # The hub's cache names a snapshot's folder by its commit.
        target = state.target_dir.name if state.target_dir and pair.target.repo else None
        from_hub = pair.drafter is not None and pair.drafter.repo is not None
        return target, state.drafter_dir.name if state.drafter_dir and from_hub else None

    def close(self) -> None:
        """Free the models, which ends running turns, then close the run log.

        A turn that another thread had no time to record is marked interrupted at the next start.
        """
        self.unload()
        self.store.close()

    def _choose_backend(self, pair: Pair, wanted: str | None) -> Backend[Pair]:
        names = [name for name in pair.backends or self._backends if name in self._backends]
        if wanted is not None and wanted not in names:
            runs_on = ", ".join(names) or "none of this app's backends"
            raise PairNotReady(f"Pair {pair.name!r} does not run on {wanted!r}: use {runs_on}.")
        if not names:
            engines = ", ".join(pair.backends) or "no backend"
            raise PairNotReady(
                f"Pair {pair.name!r} runs on {engines}, which this app does not have: choose "
                "another pair or add a plugin with such a backend."
            )
        reasons = []
        for name in [wanted] if wanted else names:
            reason = self._backends[name].unavailable_reason()
            if reason is None:
                return self._backends[name]
            reasons.append(f"{name}: {reason}")
        raise BackendUnavailable(f"Pair {pair.name!r} cannot run here. {' '.join(reasons)}")


def open_workspace(settings: Settings | None = None) -> Workspace:
    """Put the app together.

    Args:
        settings: None reads the environment.

    Raises:
        RegistryError: the bundled registry is damaged (file and line named).
    """
    settings = settings or load_settings()
    plugins = load_plugins(settings)
    bundled = find_bundled("model_registry.yaml")
    paths = [bundled, settings.user_registry, *plugins.hook.register_pairs()]
    backends: dict[str, Backend[Pair]] = {}
    for backend in plugins.hook.register_backends():
        backends.setdefault(backend.name, backend)
    registry = load_registry(paths)
    store, problem = _open_store(settings)
    return Workspace(settings, registry, plugins, store, problem, backends)


def _open_store(settings: Settings) -> tuple[Store, StoreError | None]:
    """The run log, or one in memory and the reason: chatting goes on without a database."""
    try:
        return Store(settings.database), None
    except StoreError as problem:
        return Store(None), problem


def _check_ready(pair: Pair, options: LoadOptions) -> None:
    state = pair_state(pair)
    wants_drafter = options.drafter and pair.drafter is not None
    if state.target_dir is None or (wants_drafter and state.drafter_dir is None):
        raise PairNotReady(state.reason or f"Pair {pair.name!r} is not on this machine.")


def _shares_target(held: _Held, pair: Pair, options: LoadOptions, backend: str) -> bool:
    return (
        held.backend == backend
        and _place(held.pair.target) == _place(pair.target)
        and (held.options.device, held.options.dtype) == (options.device, options.dtype)
    )


def _place(ref: ModelRef) -> tuple[str, str | None]:
    return ref.source, ref.revision
