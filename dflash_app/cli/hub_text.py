"""The hub's answers as text and JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dflash_app.hub.fit import Fit, PairFit
    from dflash_app.hub.hub import Standing
    from dflash_app.hub.job_store import Job
    from dflash_app.hub.published import Figures
    from dflash_app.hub.recommend import Advice
    from dflash_app.registry.pair import ModelRef, Pair
    from dflash_app.registry.update import Proposal

HEADER = ("pair", "status", "on disk", "weights", "block", "licence", "gated", "speedup")
FIT_HEADER = ("precision", "device", "needs", "free", "verdict", "longest context")
UNKNOWN = "-"


def row(standing: "Standing") -> tuple[str, ...]:
    """A line of the table."""
    pair = standing.pair
    gated = any(ref.gated for ref in _refs(pair))
    return (
        pair.name,
        standing.status,
        size(standing.here_bytes) if standing.here_bytes else UNKNOWN,
        size(standing.weights_bytes) if standing.weights_bytes else UNKNOWN,
        str(pair.block_size or UNKNOWN),
        pair.target.licence or UNKNOWN,
        "yes" if gated else "no",
        _speedups(pair),
    )


def as_json(standing: "Standing") -> dict[str, Any]:
    """A pair with everything that is known, units in the names."""
    job = standing.job
    return standing.pair.model_dump(mode="json") | {
        "hub_status": standing.status,
        "reason": standing.reason,
        "here_bytes": standing.here_bytes,
        "weights_bytes": standing.weights_bytes,
        "download": None if job is None else {"state": job.state, "message": job.message},
    }


def describe(standing: "Standing") -> Iterator[str]:
    """A pair in lines."""
    pair = standing.pair
    yield f"{pair.name}: {pair.title}"
    yield f"status: {standing.status}"
    if standing.reason:
        yield f"        {standing.reason}"
    for role, ref in (("target", pair.target), ("drafter", pair.drafter)):
        if ref is None:
            yield f"{role}: {'the server has none' if pair.remote else 'none is published'}"
            continue
        if ref.server is not None:
            yield f"{role}: {ref.source}"
            continue
        weights = size(ref.size_bytes) if ref.size_bytes else "size unknown"
        gated = ", gated" if ref.gated else ""
        yield f"{role}: {ref.source} at {ref.revision or 'the tip of main'}"
        yield f"        {weights}, licence {ref.licence or 'unknown'}{gated}"
    yield f"family: {pair.family}, block size {pair.block_size or 'unknown'}"
    yield f"backends: {', '.join(pair.backends) or 'any'}"
    yield (
        "on disk: nothing, it runs on a server"
        if pair.remote
        else (f"on disk: {size(standing.here_bytes)}")
    )
    for told in pair.published:
        speed = f"{told.speedup:g}x" if told.speedup else "speedup untold"
        length = f", acceptance length {told.acceptance_length:g}" if told.acceptance_length else ""
        yield f"published: {told.task}: {speed}{length} ({told.source})"
    if pair.notes:
        yield f"note: {pair.notes}"


def progress(job: "Job") -> str:
    """A job in one line."""
    if job.state != "active":
        return f"{job.pair}: {job.state}"
    if job.message:
        return f"{job.pair}: {job.message}"
    if not job.total_bytes:
        return f"{job.pair}: asking the hub"
    rate = f", {size(int(job.rate_bytes_s))}/s" if job.rate_bytes_s else ""
    left = f", {_duration(job.left_s)} left" if job.left_s else ""
    share = 100 * job.done_bytes // job.total_bytes
    return f"{job.pair}: {share} % of {size(job.total_bytes)}, {size(job.done_bytes)}{rate}{left}"


def difference(proposal: "Proposal") -> Iterator[str]:
    """What a registry's update changes, a line each."""
    for name in proposal.added:
        yield f"new      {name}"
    for name in proposal.removed:
        yield f"removed  {name}"
    for change in proposal.changed:
        for key, old, new in change.keys:
            yield f"changed  {change.name}: {key}: {old} -> {new}"
    for name in proposal.left_out:
        yield f"left out {name}: you have a pair of that name"


def fit_row(fit: "Fit") -> tuple[str, ...]:
    """A precision on a device."""
    context = fit.longest_context
    return (
        fit.precision,
        fit.device,
        size(fit.needed_bytes),
        size(fit.free_bytes),
        "fits" if fit.fits else "does not fit",
        UNKNOWN if context is None else f"{context:,} tokens",
    )


def describe_fit(found: "PairFit", *, explain: bool) -> Iterator[str]:
    """What else there is to know about a pair's fit."""
    sources = {
        "files here": "Sizes are read from the files on this machine.",
        "hub": "Sizes are read from the headers of the files on the hub.",
        "registry": "Only the registry's sizes of the weights are known; caches come on top.",
        "its name": "The target's size is an estimate by its name; caches come on top.",
    }
    yield sources[found.source]
    if found.reason:
        yield found.reason
    if found.download_bytes:
        verdict = "fits" if found.disk_fits else "does not fit"
        free = size(found.disk_free_bytes)
        yield f"To download: {size(found.download_bytes)}, {verdict} the disk ({free} free)."
    device = found.fits[0].device
    for fit in found.fits if explain else ():
        if fit.need is None or fit.device != device:
            continue
        yield f"{fit.precision}: {size(fit.needed_bytes)} ="
        for name, num_bytes in fit.need.breakdown():
            yield f"  {size(num_bytes):>9}  {name}"


def fit_as_json(found: "PairFit") -> dict[str, Any]:
    """A pair's fit with its arithmetic, units in the names."""
    fits = [
        {
            "precision": fit.precision,
            "device": fit.device,
            "free_bytes": fit.free_bytes,
            "needed_bytes": fit.needed_bytes,
            "longest_context": fit.longest_context,
            "fits": fit.fits,
            "parts": dict(fit.need.breakdown()) if fit.need else None,
        }
        for fit in found.fits
    ]
    return {
        "pair": found.pair,
        "source": found.source,
        "reason": found.reason,
        "download_bytes": found.download_bytes,
        "disk_free_bytes": found.disk_free_bytes,
        "fits": fits,
    }


def advice_as_json(advice: "Advice") -> dict[str, Any]:
    """A recommendation with its reasons, the best pair first."""
    ranked = [
        {
            "pair": each.pair,
            "reason": each.reason,
            "device": each.fit.device,
            "precision": each.fit.precision,
            "needed_bytes": each.fit.needed_bytes,
            "by_name": each.fit.by_name,
            "longest_context": each.fit.longest_context,
            "published": _figures(each.figures) if each.figures else None,
        }
        for each in advice.ranked
    ]
    return {"use": advice.use, "ranked": ranked, "left_out": advice.left_out}


def _figures(figures: "Figures") -> dict[str, Any]:
    return asdict(figures) | {"results": [row.model_dump() for row in figures.results]}


def size(num_bytes: int) -> str:
    """Bytes for people, in powers of 1000 as disks are sold."""
    if num_bytes < 1000:
        return f"{num_bytes} B"
    value = float(num_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95 or unit == "TB":
            break
    return f"{value:.1f} {unit}"


def count(number: int, what: str) -> str:
    """A number with its noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _refs(pair: "Pair") -> "list[ModelRef]":
    return [ref for ref in (pair.target, pair.drafter) if ref]


def _speedups(pair: "Pair") -> str:
    found = [told.speedup for told in pair.published if told.speedup]
    if not found:
        return UNKNOWN
    low, high = min(found), max(found)
    return f"{low:g}x" if low == high else f"{low:g}-{high:g}x"
