"""The pair in memory, and those that are held beside it while their lanes race."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import RLock

from dflash_app.backends.choice import choose_backend
from dflash_app.engine.protocol import Backend, BesideLoader, LoadedPair, LoadOptions, PairChecker
from dflash_app.errors import DFlashAppError, PairNotReady, RequestError
from dflash_app.hub.cache import pair_state
from dflash_app.race import LaneSpec
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import REMOTE_BACKEND, ModelRef, Pair


@dataclass(frozen=True, slots=True)
class _Held:
    """A pair in memory and what was asked for to get it; `guests` share its thread."""

    pair: Pair
    options: LoadOptions
    backend: str
    loaded: LoadedPair
    guests: "list[_Held]" = field(default_factory=list)

    def serves(self, pair: Pair, options: LoadOptions) -> bool:
        """Whether it is what another would be loaded as, or that with a drafter."""
        return self.pair == pair and self.options in (options, replace(options, drafter=True))


class HeldPairs:
    """One pair at a time, and for the length of a race the others that it needs.

    Any thread may call it.
    """

    def __init__(
        self, backends: Mapping[str, Backend[Pair]], registry: Callable[[], Registry]
    ) -> None:
        """Nothing is held.

        Args:
            backends: by name.
            registry: asked at every use, as it may be read anew.
        """
        self._backends, self._registry = backends, registry
        self._held: _Held | None = None
        self._lock = RLock()

    def loaded(self, name: str, options: LoadOptions, backend: str | None) -> LoadedPair:
        """The pair in memory; loads it where it is not there yet: see `Workspace.loaded`."""
        return self._hold(name, options, backend).loaded

    @contextmanager
    def lanes(self, specs: Sequence[LaneSpec], backend: str | None) -> Iterator[list[LoadedPair]]:
        """What each lane of a race runs on: see `Workspace.lanes`."""
        guests: list[_Held] = []
        with self._lock:
            host = self._host_of(specs, backend)
            try:
                pairs = [self._guest(host, guests, spec) for spec in _gathered(specs)]
            except BaseException:
                self._let_go(guests)
                raise
        try:
            yield pairs
        finally:
            self._let_go(guests)

    def unload(self) -> None:
        """Free the pair in memory, if there is one, and those beside it."""
        with self._lock:
            held, self._held = self._held, None
            if held is not None:
                # It ends what runs on the thread that they share; a guest would wait for that.
                held.loaded.close()
                for guest in held.guests:
                    guest.loaded.close()
                held.guests.clear()

    @contextmanager
    def not_importing(self) -> Iterator[None]:
        """Wait until no pair is being loaded, which imports a backend's libraries."""
        with self._lock:
            yield

    @contextmanager
    def pair(self) -> Iterator[Pair | None]:
        """The pair in memory, if there is one; none is loaded meanwhile. Waits for no loading."""
        if not self._lock.acquire(blocking=False):
            raise PairNotReady("A pair is being loaded just now: try again once it is there.")
        try:
            yield self._held.pair if self._held else None
        finally:
            self._lock.release()

    def _hold(self, name: str, options: LoadOptions, backend: str | None) -> _Held:
        pair = self._registry().get(name)
        with self._lock:
            chosen = choose_backend(pair, self._backends, backend)
            held = self._held
            if held and (held.pair, held.options, held.backend) == (pair, options, chosen.name):
                return held
            _check_ready(pair, options)
            row = self._registry().with_trained_for(pair)
            load = partial(chosen.load, row, options)
            if held and not _shares_target(held, pair, options, chosen.name):
                if isinstance(chosen, PairChecker):
                    chosen.check(row, options)
                loaded = self._exchange(held, load)
            else:
                loaded = load()
                self.unload()
            self._held = _Held(pair, options, chosen.name, loaded)
            return self._held

    def _host_of(self, specs: Sequence[LaneSpec], backend: str | None) -> _Held:
        """The pair in memory where a lane runs on it, else that of the first lane, loaded now.

        A pair on a server is the host only where all are: it has no thread to share.
        """
        gathered, held = _gathered(specs), self._held
        here = [spec for spec in gathered if not self._registry().get(spec.pair).remote]
        # Asked for where both are, "remote" is meant for those that are on servers.
        mixed = bool(here) and len(here) < len(gathered)
        wanted = None if mixed and backend == REMOTE_BACKEND else backend
        hosting = here or gathered
        for spec in hosting:
            pair = self._registry().get(spec.pair)
            chosen = choose_backend(pair, self._backends, wanted).name
            if held and held.backend == chosen and held.serves(pair, spec.options):
                return held
        return self._hold(hosting[0].pair, hosting[0].options, wanted)

    def _guest(self, host: _Held, guests: list[_Held], spec: LaneSpec) -> LoadedPair:
        """What a lane runs on, loaded beside the host where nothing that is held serves it."""
        pair = self._registry().get(spec.pair)
        for each in (host, *guests):
            if each.serves(pair, spec.options):
                return each.loaded
        alone = pair.remote or host.pair.remote  # the host is here where any lane is
        backend = choose_backend(pair, self._backends, None if alone else host.backend)
        if not alone and not isinstance(backend, BesideLoader):
            raise RequestError(
                f"{pair.name!r} cannot be loaded beside {host.pair.name!r} here: choose lanes of "
                "one pair in one precision."
            )
        _check_ready(pair, spec.options)
        row = self._registry().with_trained_for(pair)
        if isinstance(backend, BesideLoader) and not alone:
            loaded = backend.load_beside(row, spec.options, host.loaded)
        else:
            loaded = backend.load(row, spec.options)
        guest = _Held(pair, spec.options, backend.name, loaded)
        guests.append(guest)
        host.guests.append(guest)
        return loaded

    def _let_go(self, guests: Sequence[_Held]) -> None:
        """Free guests, those that `unload` has not freed before."""
        with self._lock:
            left = self._held.guests if self._held else []
            for guest in guests:
                if any(each is guest for each in left):
                    left[:] = [each for each in left if each is not guest]
                    guest.loaded.close()

    def _exchange(self, held: _Held, load: Callable[[], LoadedPair]) -> LoadedPair:
        """Load a pair in the place of the one in memory, which comes back where that fails."""
        self.unload()
        try:
            return load()
        except DFlashAppError as error:
            kind, said = type(error), str(error)
        # Not inside `except`: the traceback keeps what was loaded so far, and both may not fit.
        gc.collect()
        name = repr(held.pair.name)
        try:
            loaded = self._backends[held.backend].load(
                self._registry().with_trained_for(held.pair), held.options
            )
        except DFlashAppError as again:
            raise kind(
                f"{said.rstrip('.')}; {name} could not be loaded again either: choose a pair."
            ) from again
        self._held = replace(held, loaded=loaded)
        raise kind(f"{said.rstrip('.')}; {name} was loaded again.")


def _gathered(specs: Sequence[LaneSpec]) -> list[LaneSpec]:
    """The lanes, each with a drafter where any lane of the same pair and options drafts."""

    def place(spec: LaneSpec) -> tuple[str, LoadOptions]:
        return spec.pair, replace(spec.options, drafter=True)

    drafting = {place(spec) for spec in specs if spec.request.mode != "ar"}
    return [
        replace(spec, options=replace(spec.options, drafter=place(spec) in drafting))
        for spec in specs
    ]


def _check_ready(pair: Pair, options: LoadOptions) -> None:
    if pair.remote:
        return  # whether the server answers is for the backend to say
    state = pair_state(pair)
    wants_drafter = options.drafter and pair.drafter is not None
    if state.target_dir is None or (wants_drafter and state.drafter_dir is None):
        raise PairNotReady(state.reason or f"Pair {pair.name!r} is not on this machine.")


def _shares_target(held: _Held, pair: Pair, options: LoadOptions, backend: str) -> bool:
    return (
        held.backend == backend
        and _place(held.pair.target) == _place(pair.target)
        and held.options.of_target() == options.of_target()
    )


def _place(ref: ModelRef) -> tuple[str, str | None]:
    return ref.source, ref.revision
