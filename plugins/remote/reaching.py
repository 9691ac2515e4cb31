"""A pair's servers are reached: the row of the registry becomes a pair that can run."""

from dflash_app.errors import DFlashAppError, PairNotReady
from dflash_app.registry.pair import ModelRef, Pair

from .keys import find_key, variable_of
from .pair import Place, RemotePair
from .probe import reach


def reach_pair(pair: Pair, *, drafting: bool) -> RemotePair:
    """Reach the servers of a pair and check that they serve it.

    Args:
        pair: its target and drafter are on servers.
        drafting: False leaves the server that drafts alone.

    Raises:
        PairNotReady: a server is not there, refuses the key, or does not serve the model, or the
            one that should draft says that it does not.
    """
    target = _reach(pair, pair.target)
    try:
        drafter = _reach_drafter(pair, pair.drafter, target) if drafting and pair.drafter else None
    except BaseException:
        target.server.close()
        raise
    warnings = _warnings(target, drafter)
    return RemotePair(pair.name, target, drafter, block_size=pair.block_size, warnings=warnings)


def _reach_drafter(pair: Pair, ref: ModelRef, target: Place) -> Place:
    """Where DFlash happens: the target's own place where both are the same."""
    same = (ref.server, ref.model) == (pair.target.server, pair.target.model)
    place = target if same else _reach(pair, ref)
    if place.capabilities.drafts is False:
        if not same:
            place.server.close()
        raise PairNotReady(
            f"{place.server.host} serves {place.model.name!r} without drafting: start it with a "
            "drafter, or take the drafter out of the pair."
        )
    return place


def _reach(pair: Pair, ref: ModelRef) -> Place:
    if ref.server is None or ref.model is None:
        raise PairNotReady(f"Pair {pair.name!r} is not on a server: choose another backend.")
    try:
        server, dialect, capabilities = reach(
            ref.server, find_key(pair.name), variable=variable_of(pair.name)
        )
    except DFlashAppError as error:
        raise PairNotReady(str(error)) from error
    try:
        return Place(server, dialect, capabilities, capabilities.model(ref.model))
    except DFlashAppError as error:
        server.close()
        raise PairNotReady(str(error)) from error


def _warnings(target: Place, drafter: Place | None) -> tuple[str, ...]:
    told: list[str] = []
    places = [target] if drafter is None or drafter is target else [target, drafter]
    for place in places:
        if place.capabilities.healthy is False:
            told.append(f"{place.server.host} says that it is not well: look at its log.")
        if place.model.context_length is None:
            told.append(
                f"{place.server.host} does not tell its context length: a prompt that is too long "
                "is only refused once it is sent."
            )
    if drafter is not None and drafter.capabilities.drafts is None:
        told.append(
            f"{drafter.server.host} does not tell whether it drafts: see whether a run has an "
            "acceptance length, and how much faster it is than plain decoding."
        )
    if target.capabilities.drafts and not target.capabilities.can_switch_drafts:
        told.append(
            f"{target.server.host} drafts in every request, so it cannot be the plain lane of a "
            "race: serve the target without a drafter at another address for that (`dflash-app "
            "serve-plan PAIR --ar` prints how)."
        )
    return tuple(told)
