"""Whether pairs fit this machine: remembered for the page, and drawn."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from dflash_app.errors import DFlashAppError
from dflash_app.hub.fit import Device, Fit, PairFit, fit_pair
from dflash_app.registry.pair import Pair
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import UNKNOWN, escape_html, format_bytes, format_count
from dflash_app.ui.hub_scroll import render_scroll
from dflash_app.ui.hub_texts import texts
from dflash_app.ui.pair_facts import auto_dtype
from dflash_app.workspace import Workspace

KEPT_S = 300.0
"""What the hub told is not asked for again so soon."""


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer and its time; `found` is None where nothing is known, and `reason` says why."""

    found: PairFit | None
    reason: str
    online: bool
    time_s: float


class Fits:
    """What is known of each pair's fit. Any thread may call it; all but `get` take time."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = Lock()
        self._known: dict[Pair, _Known] = {}
        self._free: Callable[[], dict[str, int]] | None = None

    def get(self, pair: Pair) -> PairFit | None:
        """What is known; None where nothing is."""
        known = self._known.get(pair)
        return known.found if known else None

    def reason(self, pair: Pair) -> str | None:
        """Why nothing is known of a pair that was looked at; None where it was not, or is known."""
        known = self._known.get(pair)
        return known.reason or None if known else None

    def asked(self, pair: Pair) -> bool:
        """Whether the hub was asked, or need not be."""
        known = self._known.get(pair)
        return known is not None and (
            known.online or (known.found is not None and known.found.source == "files here")
        )

    def look(self, pairs: list[Pair]) -> None:
        """Work out what can be known without the network."""
        devices = self.devices()
        for pair in pairs:
            known = self._known.get(pair)
            if not pair.remote and (known is None or not _is_fresh(known)):
                self._find(pair, devices, online=False)

    def ask(self, pair: Pair) -> None:
        """Ask the hub where the pair is not here; a worker thread's work."""
        known = self._known.get(pair)
        if known is None or not _is_fresh(known):
            self._find(pair, self.devices(), online=True)

    def forget(self, name: str) -> None:
        """After a download or a deletion of the pair of that name: other files are here."""
        with self._lock:
            self._known = {pair: each for pair, each in self._known.items() if pair.name != name}

    def devices(self) -> list[Device]:
        """The places for weights and what is free of them."""
        if self._free is None:
            with self._workspace.not_importing():
                from dflash_app.backends.torch.devices import free_by_device

                self._free = free_by_device
        return [Device(*each) for each in self._free().items()]

    def _find(self, pair: Pair, devices: list[Device], *, online: bool) -> None:
        found, reason = None, ""
        try:
            found = fit_pair(pair, devices, online=online, dtype=auto_dtype())
        except DFlashAppError as error:
            reason = str(error)
        with self._lock:
            self._known[pair] = _Known(found, reason, online, time.monotonic())


def _is_fresh(known: _Known) -> bool:
    found = known.found
    asked = known.online and found is not None and found.source in ("files here", "hub")
    return asked and time.monotonic() - known.time_s < KEPT_S


def best_fit(found: PairFit) -> Fit | None:
    """The most precise one that fits, on the device where its context is longest."""
    fitting = [each for each in found.fits if each.fits]
    if not fitting:
        return None
    return max(
        (each for each in fitting if each.precision == fitting[0].precision),
        key=lambda each: each.longest_context or 0,
    )


def say_verdict(found: PairFit) -> str:
    """The verdict in a few words."""
    best = best_fit(found)
    if best is None:
        return texts.say("verdict_no")
    if not found.disk_fits:
        return texts.say("verdict_disk")
    return texts.say("verdict_by_name" if best.by_name else "verdict_in", precision=best.precision)


def does_fit(found: PairFit) -> bool:
    """Whether some precision fits a device, and the download the disk."""
    return best_fit(found) is not None and found.disk_fits


def render_fit(found: PairFit | None, reason: str | None, *, asking: bool) -> str:
    """The verdict, every precision, and the arithmetic to unfold.

    Args:
        found: None where nothing is known.
        reason: why; None where nobody has looked yet.
        asking: the hub's answer is under way.
    """
    if found is None:
        waiting = texts.say("asking_sizes" if reason else "working_out")
        idle = f'<p class="hub-quiet">{waiting}</p>'
        said = render_notice(reason, "warning") if reason and not asking else idle
        return f'<div class="hub-fit">{said}</div>'
    quiet = [texts.say(f"sizes_{found.source.replace(' ', '_')}")]
    if asking:
        quiet.append(texts.say("asking_more"))
    elif found.reason:
        quiet.append(found.reason)
    drawn = "".join(f'<p class="hub-quiet">{escape_html(text)}</p>' for text in quiet)
    return (
        f'<div class="hub-fit">{_headline(found)}{_table(found.fits)}{drawn}'
        f"{_arithmetic(found)}</div>"
    )


def _headline(found: PairFit) -> str:
    best = best_fit(found)
    if best is None:
        said = texts.say("fits_nowhere")
    elif best.longest_context is None:
        said = texts.say("fits_in", precision=best.precision, device=best.device)
    else:
        tokens = format_count(best.longest_context)
        said = texts.say(
            "fits_in_up_to", precision=best.precision, device=best.device, tokens=tokens
        )
    if found.download_bytes:
        said += " " + texts.say(
            "to_download" if found.disk_fits else "to_download_too_much",
            size=format_bytes(found.download_bytes),
            free=format_bytes(found.disk_free_bytes),
        )
    return render_notice(said, "success" if does_fit(found) else "warning")


def _table(fits: tuple[Fit, ...]) -> str:
    columns = ("precision", "device", "needs", "free", "verdict", "longest_context")
    head = "".join(f"<th>{texts.say(column)}</th>" for column in columns)
    body = "".join(map(_row, fits))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return render_scroll(table, texts.say("fit"))


def _row(fit: Fit) -> str:
    context = fit.longest_context
    cells = (
        fit.precision,
        fit.device,
        format_bytes(fit.needed_bytes),
        format_bytes(fit.free_bytes),
        texts.say("verdict_yes" if fit.fits else "verdict_no"),
        texts.say("tokens", count=format_count(context)) if context else UNKNOWN,
    )
    drawn = "".join(f"<td>{escape_html(cell)}</td>" for cell in cells)
    return f'<tr class="{"yes" if fit.fits else "no"}">{drawn}</tr>'


def _arithmetic(found: PairFit) -> str:
    """What each precision's need is the sum of; the same on every device."""
    device = found.fits[0].device if found.fits else None
    parts = []
    for fit in found.fits:
        if fit.need is None or fit.device != device:
            continue
        lines = "".join(
            f"<div><dt>{escape_html(name)}</dt><dd>{format_bytes(num_bytes)}</dd></div>"
            for name, num_bytes in fit.need.breakdown()
        )
        total = (
            f"<div><dt>{texts.say('together')}</dt><dd>{format_bytes(fit.needed_bytes)}</dd></div>"
        )
        parts.append(
            f"<section><h3>{escape_html(fit.precision)}</h3><dl>{lines}{total}</dl></section>"
        )
    if not parts:
        return ""
    summary = texts.say("arithmetic")
    return f"<details><summary>{summary}</summary><div>{''.join(parts)}</div></details>"
