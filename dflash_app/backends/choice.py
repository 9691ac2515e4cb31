"""Which of the app's backends runs a pair; asks them, loads nothing."""

import platform
import sys
from collections.abc import Mapping

from dflash_app.engine.protocol import Backend, SupportTeller
from dflash_app.errors import BackendUnavailable, PairNotReady
from dflash_app.hub.cache import PairState, pair_state
from dflash_app.registry.pair import REMOTE_BACKEND, Pair

ON_APPLE_SILICON = "mlx"
"""The backend that is taken there first; elsewhere the order of the pair's row counts."""

Backends = Mapping[str, Backend[Pair]]
"""All that the app has, by name, those that do not work here included."""


def backends_for(pair: Pair, backends: Backends) -> list[str]:
    """Names of the backends that can run a pair on this machine, the default one first."""
    names = _named(pair, backends)
    available = [name for name in names if backends[name].unavailable_reason() is None]
    state = pair_state(pair)
    return [name for name in available if _unsupported_by(backends[name], pair, state) is None]


def unsupported_reason(pair: Pair, backends: Backends, state: PairState) -> str | None:
    """Why none of the backends can run a pair whatever is downloaded, or None."""
    names = _named(pair, backends)
    if not names:
        return _no_backend(pair)
    reasons = [_unsupported_by(backends[name], pair, state) for name in names]
    return None if None in reasons else reasons[0]


def choose_backend(pair: Pair, backends: Backends, wanted: str | None) -> Backend[Pair]:
    """The backend to load a pair by.

    Args:
        pair: a registry row.
        backends: all there are.
        wanted: by name; None takes the first of `backends_for`, or where none can run the pair the
            first that works here, which says why as it refuses to load.

    Raises:
        PairNotReady: the pair does not run on it, or on none.
        BackendUnavailable: what it runs on does not work here; says why.
    """
    names = _named(pair, backends)
    if wanted is not None and wanted not in names:
        runs_on = ", ".join(names) or "none of this app's backends"
        raise PairNotReady(f"Pair {pair.name!r} does not run on {wanted!r}: use {runs_on}.")
    if not names:
        raise PairNotReady(_no_backend(pair))
    asked = [wanted] if wanted else names
    reasons = {name: backends[name].unavailable_reason() for name in asked}
    available = [name for name in asked if reasons[name] is None]
    if not available:
        said = " ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise BackendUnavailable(f"Pair {pair.name!r} cannot run here. {said}")
    supporting = [] if wanted else backends_for(pair, backends)
    return backends[(supporting or available)[0]]


def _named(pair: Pair, backends: Backends) -> list[str]:
    any_here = [name for name in backends if name != REMOTE_BACKEND]
    names = [name for name in pair.backends or any_here if name in backends]
    on_apple_silicon = sys.platform == "darwin" and platform.machine() == "arm64"
    return sorted(names, key=lambda name: on_apple_silicon and name != ON_APPLE_SILICON)


def _unsupported_by(backend: Backend[Pair], pair: Pair, state: PairState) -> str | None:
    if not isinstance(backend, SupportTeller):
        return None
    return backend.unsupported_reason(pair, state.target_dir, state.drafter_dir)


def _no_backend(pair: Pair) -> str:
    if pair.remote:
        return (
            f"Pair {pair.name!r} is on a server, which the plugin 'remote' of this app reaches: "
            "bring that plugin back (`dflash-app doctor` says what became of it)."
        )
    engines = ", ".join(pair.backends) or "no backend"
    return (
        f"Pair {pair.name!r} runs on {engines}, which this app does not have: choose another pair "
        "or add a plugin with such a backend."
    )
