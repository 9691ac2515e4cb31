"""The composition root: the only place where settings, registry, plugins, store and models meet.

Nothing here is global, and opening a workspace imports neither gradio nor a tensor library.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from dflash_app import session
from dflash_app.backends.choice import backends_for, unsupported_reason
from dflash_app.engine.protocol import Backend, LoadedPair, LoadOptions
from dflash_app.errors import PairNotReady, RegistryError, StoreError
from dflash_app.events import DecodeEvent
from dflash_app.held import HeldPairs
from dflash_app.hub.cache import PairState, pair_state
from dflash_app.hub.choices import TargetChoice, resolve, targets
from dflash_app.hub.fit import Device
from dflash_app.hub.hub import Hub
from dflash_app.hub.published import Use
from dflash_app.hub.recommend import Advice, fits_of, recommend
from dflash_app.plugins import Plugins, load_plugins
from dflash_app.race import LaneSpec, RaceLane, race
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import Pair
from dflash_app.registry.save import append_pair, remove_pair
from dflash_app.request import GenerationRequest
from dflash_app.settings import Settings, find_bundled, load_settings
from dflash_app.spaces.copies import open_store
from dflash_app.spaces.public import check_limits, load_offered_pairs
from dflash_app.spaces.zero_gpu import ZeroGpuBackend, on_zero_gpu
from dflash_app.store.fingerprint import accelerators
from dflash_app.store.runs import Store

DEFAULT_OPTIONS = LoadOptions()

__all__ = ["PairState", "Workspace", "open_workspace"]


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
    _hub: Hub | None = None
    _held: HeldPairs = field(init=False)
    _saving: Any = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._held = HeldPairs(self._backends, lambda: self.registry)

    def pairs(self) -> list[Pair]:
        """All known pairs, the bundled ones first."""
        return list(self.registry.pairs)

    def state(self, name: str) -> PairState:
        """What of a pair is on this machine, and whether this app can run it.

        Raises:
            UnknownPair: no registry knows the name.
        """
        pair = self.registry.get(name)
        state = pair_state(pair)
        reason = (
            None if state.status == "planned" else unsupported_reason(pair, self._backends, state)
        )
        return replace(state, status="not supported", reason=reason) if reason else state

    @property
    def hub(self) -> Hub:
        """Downloads, disk and registry updates; made when it is asked for first."""
        with self._saving:
            if self._hub is None:
                self._hub = Hub(
                    self.settings.home,
                    registry=lambda: self.registry,
                    reload=self._reload_registry,
                    held=self._held.pair,
                )
            return self._hub

    def targets(self) -> tuple[TargetChoice, ...]:
        """Every known target with the drafters it can have: see `hub.choices`."""
        return targets(self.registry)

    def resolve(self, target: str, drafter: str | None) -> Pair:
        """The pair of a target and a drafter, or the target's own for none; see `hub.choices`.

        Raises:
            RegistryError: they are not known, or not as a pair.
        """
        return resolve(self.registry, target, drafter)

    def recommend(self, use: Use, devices: Sequence[Device], *, online: bool = True) -> Advice:
        """Which pair to take on this machine; may wait for the network, so use a worker.

        Args:
            use: what for.
            devices: this machine's, with what is free of each.
            online: False asks nobody: of pairs that are not here only the registry's size counts.
        """
        standings = [self.hub.standing(pair, self.state(pair.name)) for pair in self.pairs()]
        return recommend(standings, fits_of(standings, devices, online=online), use, accelerators())

    def add_pair(self, pair: Pair) -> None:
        """Save a pair in the user's registry file and know it from now on.

        Raises:
            RegistryError: its name is taken, or the file cannot be written (nothing was saved).
        """
        with self._saving:
            self._reload_registry()  # the file may have been edited, or another process added one
            if pair.name in self.registry.origins:
                where = self.registry.origins[pair.name]
                raise RegistryError(
                    f"The name {pair.name!r} is already taken in {where}: choose another."
                )
            append_pair(self.settings.user_registry, pair)
            self._reload_registry()

    def remove_pair(self, name: str) -> None:
        """Take a pair out of the user's registry file; its models stay on disk.

        Raises:
            UnknownPair: no registry knows the name.
            RegistryError: the row is the app's own or a plugin's, or the file cannot be written.
            PairNotReady: it is in memory, or a pair is being loaded.
        """
        with self._saving, self._held.pair() as held:
            if held is not None and held.name == name:
                raise PairNotReady(f"Pair {name!r} is in use: choose another pair first.")
            self._reload_registry()
            self.registry.get(name)
            own = str(self.settings.user_registry)
            origin = self.registry.origins.get(name, "no file: it is composed of two rows")
            if not origin.startswith(f"{own}, line "):
                raise RegistryError(
                    f"Pair {name!r} stands in {origin}, which is not your own "
                    f"registry file {own}: only pairs that were added there can be removed."
                )
            remove_pair(self.settings.user_registry, name)
            self._reload_registry()

    def backends(self) -> dict[str, Backend[Pair]]:
        """The ways to load pairs, by name, those that do not work here included."""
        return dict(self._backends)

    def backends_for(self, name: str) -> list[str]:
        """The backends that can run a pair on this machine, the one that is taken by default first.

        Raises:
            UnknownPair: no registry knows the name.
        """
        return backends_for(self.registry.get(name), self._backends)

    def loaded(
        self, name: str, options: LoadOptions = DEFAULT_OPTIONS, backend: str | None = None
    ) -> LoadedPair:
        """The pair in memory; loads it where it is not there yet.

        One pair is held at a time: loading another closes the one before, whose running turns end
        with an error. A pair with the same target is loaded first and shares it. Where another
        target is wanted, the pair in memory goes only after all was checked that needs no weights,
        and is loaded again where the weights turn out to be damaged: the message says so.

        Args:
            name: as in the registry.
            options: how to load it; other options load it anew.
            backend: by name; None takes the first of `backends_for`.

        Raises:
            UnknownPair: no registry knows the name.
            PairNotReady: it is not on this machine, or not for this backend; says what is missing.
            BackendUnavailable: no backend of the pair works here; says why.
            LoadError: its files cannot become a model.
        """
        return self._held.loaded(name, options, backend)

    @contextmanager
    def lanes(
        self, specs: Sequence[LaneSpec], backend: str | None = None
    ) -> Iterator[list[RaceLane]]:
        """What the lanes of a race run on; what is loaded beside the pair in memory goes after it.

        The pair in memory stays where a lane runs on it, else that of the first lane is loaded.
        Another drafter shares the target of a pair that is there; another precision is a second
        target. All of them share one thread.

        Args:
            specs: of the lanes.
            backend: of all of them, by name; None takes the first that can run the first lane.

        Raises:
            RequestError: the backend cannot hold two pairs.
            UnknownPair, PairNotReady, BackendUnavailable, LoadError: as `loaded`, for any lane;
                LoadError also where there is no room for all.
        """
        with self._held.lanes(specs, backend) as pairs:
            yield [
                RaceLane(pair, spec.request, *self.revisions(spec.pair))
                for pair, spec in zip(pairs, specs, strict=True)
            ]

    def unload(self) -> None:
        """Free the pair in memory, if there is one."""
        self._held.unload()

    def run(
        self,
        loaded: LoadedPair,
        request: GenerationRequest,
        *,
        source: str,
        group_id: str | None = None,
        owner: str | None = None,
        reuse: bool = True,
        began: Callable[[int], None] = lambda _: None,
    ) -> Iterator[DecodeEvent]:
        """Decode one turn and record it in this workspace's store: see `session.run`.

        Raises:
            RequestError: it is more than a visitor of a public page may ask for.
        """
        check_limits([request], self.settings.public)
        target, drafter = self.revisions(loaded.name)
        return session.run(
            loaded,
            self.store,
            request,
            source=source,
            target_revision=target,
            drafter_revision=drafter,
            group_id=group_id,
            owner=owner,
            reuse=reuse,
            began=began,
        )

    def race(
        self,
        loaded: LoadedPair,
        requests: Sequence[GenerationRequest],
        *,
        source: str = "race",
        owner: str | None = None,
    ) -> Iterator[tuple[int, DecodeEvent]]:
        """Race several requests on one pair: see `race_lanes`."""
        revisions = self.revisions(loaded.name)
        lanes = [RaceLane(loaded, request, *revisions) for request in requests]
        return self.race_lanes(lanes, source=source, owner=owner)

    def race_lanes(
        self,
        lanes: Sequence[RaceLane],
        *,
        source: str = "race",
        group_id: str | None = None,
        owner: str | None = None,
    ) -> Iterator[tuple[int, DecodeEvent]]:
        """Decode several lanes and record them in this workspace's store: see `race.race`.

        Raises:
            RequestError: it is more than a visitor of a public page may ask for.
        """
        check_limits([lane.request for lane in lanes], self.settings.public)
        return race(lanes, self.store, source=source, group_id=group_id, owner=owner)

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
        if self._hub is not None:
            self._hub.close()
        self.unload()
        self.store.close()

    def _reload_registry(self) -> None:
        bundled, *others = dict.fromkeys([*self.registry.paths, self.settings.user_registry])
        self.registry = load_offered_pairs(self.settings, bundled, others)

    @contextmanager
    def not_importing(self) -> Iterator[None]:
        """Wait until no pair is being loaded, which imports a backend's libraries.

        Two threads that import transformers for the first time may each find half of it.
        """
        with self._held.not_importing():
            yield


def open_workspace(settings: Settings | None = None) -> Workspace:
    """Put the app together.

    Args:
        settings: None reads the environment.

    Raises:
        RegistryError: the bundled registry is damaged (file and line named), or DFLASH_APP_PAIRS
            names a pair that no registry knows.
    """
    settings = settings or load_settings()
    plugins = load_plugins(settings)
    bundled = find_bundled("model_registry.yaml")
    others = [settings.user_registry, *plugins.hook.register_pairs()]
    backends: dict[str, Backend[Pair]] = {}
    for backend in plugins.hook.register_backends():
        backends.setdefault(backend.name, backend)
    if on_zero_gpu():
        backends[ZeroGpuBackend.name] = ZeroGpuBackend()
    registry = load_offered_pairs(settings, bundled, others)
    store, problem = open_store(settings)
    return Workspace(settings, registry, plugins, store, problem, backends)
