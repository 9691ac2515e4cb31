"""Which pair to take on this machine for a use, from fit and published figures, and why.

A published figure is of a graphics processor or of Apple silicon: it recommends a pair where one of
those holds it. Elsewhere the pair that ships with the app is recommended.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dflash_app.errors import DFlashAppError, HubError, HubOffline
from dflash_app.hub.fit import Device, Fit, PairFit, fit_pair
from dflash_app.hub.hub import Standing
from dflash_app.hub.published import Figures, Use, figures_for
from dflash_app.hub.remote import ask_model
from dflash_app.registry.pair import EMBEDDED_PATHS, Pair

AT_ONCE = 8
"""Pairs that the hub is asked for at a time."""
NO_ANSWER = (
    "Its size is neither here nor in the registry, and the hub does not answer: check the network."
)
NOT_ASKED = "Its size is neither here nor in the registry, and the hub was not asked."
_PRECISIONS = ("bf16", "int8", "nf4")
"""Of every device but Apple's, for which bitsandbytes has no int8 and nf4."""
_NEVER = ("planned", "not supported", "gated", "on server")

_Usable = tuple[Pair, Fit, Figures | None]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A pair that can be used here.

    Attributes:
        pair: its name.
        reason: why it stands where it stands, in one or two sentences with figures.
        fit: the precision and device to take, and the longest context there.
        figures: published for the use; None where there are none.
    """

    pair: str
    reason: str
    fit: Fit
    figures: Figures | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A pair that cannot be used here.

    Attributes:
        pair: its name.
        cause: "planned", "not supported", "gated", "on server", "does not fit" or "size not
            known".
        reason: one sentence.
    """

    pair: str
    cause: str
    reason: str


@dataclass(frozen=True, slots=True)
class Advice:
    """The recommendation.

    Attributes:
        use: what for.
        ranked: the pairs that can be used, the recommended one first.
        left_out: the others.
    """

    use: Use
    ranked: tuple[Suggestion, ...]
    left_out: tuple[LeftOut, ...]


def recommend(
    standings: Sequence[Standing],
    fits: Mapping[str, PairFit | str],
    use: Use,
    hardware: Sequence[str] = (),
) -> Advice:
    """Rank the pairs for a use.

    First come those that an accelerator holds and that have published figures for the use, by
    speedup (for long context by the context that fits, then by speedup); then the embedded pair;
    then the others that fit.

    Args:
        standings: every pair, as `Hub.standing` tells it.
        fits: of `fits_of`.
        use: what for.
        hardware: names of this machine's accelerators ("NVIDIA H200"), to tell which figures are
            for them.
    """
    left_out: list[LeftOut] = []
    usable: list[_Usable] = []
    for standing in standings:
        found = _usable_fit(standing, fits.get(standing.pair.name))
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            usable.append((standing.pair, found, figures_for(standing.pair, use, hardware)))
    usable.sort(key=lambda item: _rank(item, use), reverse=True)
    ranked = [
        Suggestion(pair.name, _say(pair, fit, figures, use, first=not index), fit, figures)
        for index, (pair, fit, figures) in enumerate(usable)
    ]
    if usable and _is_embedded(usable[0][0]):
        why = _why_embedded(use, left_out, [item for item in usable if not _is_embedded(item[0])])
        first = ranked[0]
        ranked[0] = Suggestion(first.pair, f"{first.reason} {why}", first.fit, first.figures)
    return Advice(use, tuple(ranked), tuple(left_out))


def fits_of(
    standings: Sequence[Standing],
    devices: Sequence[Device],
    *,
    online: bool = True,
    cache_dir: Path | None = None,
) -> dict[str, PairFit | str]:
    """How each pair fits, by name, or a sentence why that is not known. Blocks: use a worker.

    Args:
        standings: the pairs; those that no download would help are not looked at.
        devices: where they could be loaded.
        online: False asks nobody. Where the hub does not answer once, it is not asked again.
        cache_dir: the hub's cache; None takes the library's own.
    """
    pairs = [each.pair for each in standings if each.status not in _NEVER]
    elsewhere = [each.pair for each in standings if each.status in ("partial", "not downloaded")]
    answers = online and _hub_answers(elsewhere)

    def look(pair: Pair) -> PairFit | str:
        try:
            return fit_pair(pair, devices, online=answers, cache_dir=cache_dir)
        except HubError as error:
            return str(error) if answers else (NO_ANSWER if online else NOT_ASKED)
        except DFlashAppError as error:
            return str(error)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip((pair.name for pair in pairs), pool.map(look, pairs), strict=True))


def _hub_answers(pairs: Sequence[Pair]) -> bool:
    repo = next((pair.target.repo for pair in pairs if pair.target.repo), None)
    try:
        if repo is not None:
            ask_model(repo)
    except HubOffline:
        return False
    except DFlashAppError:
        pass  # an answer, even if it is no
    return True


def _usable_fit(standing: Standing, found: PairFit | str | None) -> Fit | LeftOut:
    """The precision and device to take, or why there is none."""
    name = standing.pair.name
    if standing.status in _NEVER:
        reason = standing.reason or (
            "It runs on a server, not on this machine."
            if standing.pair.remote
            else f"It is {standing.status}."
        )
        return LeftOut(name, standing.status, reason)
    if not isinstance(found, PairFit):
        return LeftOut(name, "size not known", found or "Its fit was not looked at.")
    if not found.disk_fits:
        return LeftOut(
            name,
            "does not fit",
            f"Its download of {_gb(found.download_bytes or 0)} does not fit the disk, of which "
            f"{_gb(found.disk_free_bytes)} is free.",
        )
    held = [fit for fit in found.fits if _applies(fit, standing.pair)]
    fitting = [fit for fit in held if fit.fits]
    if fitting:
        # The order of `PRECISIONS` is kept: the most exact that fits.
        return max(fitting, key=lambda fit: (_accelerates(fit), -held.index(fit)))
    least = min(held, key=lambda fit: fit.needed_bytes - fit.free_bytes, default=None)
    if least is None:
        return LeftOut(name, "does not fit", "No device of this machine is known.")
    reason = (
        f"It needs {_needed(least)} in {least.precision}, and {least.device} has "
        f"{_gb(least.free_bytes)} free."
    )
    return LeftOut(name, "does not fit", reason)


def _applies(fit: Fit, pair: Pair) -> bool:
    if fit.device != "mps":
        return fit.precision in _PRECISIONS
    on_mlx = not pair.backends or "mlx" in pair.backends
    return fit.precision == "bf16" or (on_mlx and fit.precision == "MLX 4-bit")


def _accelerates(fit: Fit) -> bool:
    return fit.device != "cpu"


def _is_embedded(pair: Pair) -> bool:
    return pair.target.path == EMBEDDED_PATHS[0]


def _rank(item: _Usable, use: Use) -> tuple[float, ...]:
    """The larger the better; see `recommend`."""
    pair, fit, figures = item
    proven = figures is not None and _accelerates(fit)
    context = fit.longest_context if use == "long context" else None
    speedup = figures.speedup if figures else None
    length = figures.acceptance_length if figures else None
    return (
        2 if proven else 1 if _is_embedded(pair) else 0,
        _accelerates(fit),
        context or 0,
        speedup or 0,
        length or 0,
    )


def _say(pair: Pair, fit: Fit, figures: Figures | None, use: Use, *, first: bool) -> str:
    fits = _say_fit(pair, fit)
    if figures is None:
        return f"{fits}; nothing is published for {use}."
    if not _accelerates(fit):
        return f"{fits}, for which nothing is published. Elsewhere: {figures.say()}."
    why, known = "", "Published"
    if use == "long context":
        if first and fit.longest_context:
            why = ", the longest context of the pairs with published figures"
        known = "Published, for short prompts"
    elif first and figures.speedup:
        why = f", and its published speedup for {use} is the highest of the pairs that fit"
    if fit.precision != "bf16" and "bit" not in (figures.setup or ""):
        known += f", not said to be of {fit.precision}"
    return f"{fits}{why}. {known}: {figures.say()}."


def _say_fit(pair: Pair, fit: Fit) -> str:
    begin = "It ships with the app and" if _is_embedded(pair) else "It"
    long = f", with room for {fit.longest_context:,} tokens" if fit.longest_context else ""
    return (
        f"{begin} needs {_needed(fit)} of the {_gb(fit.free_bytes)} free on {fit.device} "
        f"in {fit.precision}{long}"
    )


def _needed(fit: Fit) -> str:
    guess = ", by its name and without caches," if fit.by_name else ""
    return f"{_gb(fit.needed_bytes)}{guess}"


def _why_embedded(
    use: Use,
    left_out: Sequence[LeftOut],
    usable: Sequence[_Usable],
) -> str:
    causes = Counter(each.cause for each in left_out)
    counts = [f"{count} {cause}" for cause, count in causes.most_common()]
    on_cpu = sum(not _accelerates(fit) for _, fit, _ in usable)
    untold = len(usable) - on_cpu
    counts += [f"{on_cpu} fit only the processor's memory"] if on_cpu else []
    counts += [f"{untold} fit without a published figure"] if untold else []
    said = f" ({', '.join(counts)})" if counts else ""
    return (
        f"It is recommended because no pair with published figures for {use} fits a graphics "
        f"processor of this machine{said}."
    )


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.1f} GB"
