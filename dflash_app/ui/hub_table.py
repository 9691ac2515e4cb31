"""The hub's list of pairs: which rows, in which order, and how they are drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dflash_app.hub.fit import PairFit
from dflash_app.hub.hub import Standing
from dflash_app.hub.published import is_for
from dflash_app.registry.pair import REMOTE_BACKEND, Pair, Published
from dflash_app.ui.format import UNKNOWN, escape_html, format_bytes, format_ratio
from dflash_app.ui.hub_fit import does_fit, say_verdict
from dflash_app.ui.hub_texts import say_state, texts

ALL = "all"
STATUSES = (
    "ready",
    "on server",
    "downloading",
    "partial",
    "not downloaded",
    "does not fit",
    "gated",
    "planned",
    "not supported",
)
ORDERS = ("ready", "name", "size", "speedup")
FITS = (("fits_all", ALL), ("fits_here", "fits"))
"""The text's key, and what it stands for."""
OWN_BACKENDS = ("torch", "mlx", REMOTE_BACKEND)
_LAST = ("planned", "not supported")
_COLUMNS = ("pair", "status", "size", "licence", "runs_on", "published")


@dataclass(frozen=True, slots=True)
class Row:
    """A pair in the list.

    Attributes:
        standing: what of it is here.
        fit: whether it fits; None where that is not known (yet).
        gpus: models of this machine's GPUs.
    """

    standing: Standing
    fit: PairFit | None
    gpus: Sequence[str] = ()

    @property
    def pair(self) -> Pair:
        return self.standing.pair

    @property
    def status(self) -> str:
        """As the standing tells it; what is not here may be on its way, or not fit either."""
        job = self.standing.job
        if job is not None and job.live:
            return "downloading"
        wanted = self.standing.status in ("not downloaded", "partial", "gated")
        if wanted and self.fit is not None and not does_fit(self.fit):
            return "does not fit"
        return self.standing.status

    @property
    def size_bytes(self) -> int | None:
        """Of both models; what is here or still to come where the registry does not tell."""
        if self.standing.weights_bytes:
            return self.standing.weights_bytes
        if self.standing.status == "ready":
            return self.standing.here_bytes or None
        return self.fit.download_bytes if self.fit else None

    @property
    def best(self) -> Published | None:
        """The highest published speedup."""
        told = [each for each in self.pair.published if each.speedup]
        return max(told, key=lambda each: each.speedup or 0, default=None)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the filters say.

    Attributes:
        text: in title, name, family, repositories or licence.
        family: one, or `ALL`.
        status: one of `STATUSES`, or `ALL`.
        fits: "fits" leaves out what is not known to fit, and what is on a server.
        order: of `ORDERS`.
    """

    text: str = ""
    family: str = ALL
    status: str = ALL
    fits: str = ALL
    order: str = "ready"


def choose_rows(rows: Iterable[Row], wish: Wish) -> list[Row]:
    """The rows that the filters leave, in their order; equal ones stay as the registry has them."""
    words = wish.text.lower().split()
    kept = [row for row in rows if _is_wanted(row, wish, words)]
    if wish.order == "name":
        kept.sort(key=lambda row: row.pair.title.lower())
    elif wish.order == "size":
        kept.sort(key=lambda row: row.size_bytes or float("inf"))
    elif wish.order == "speedup":
        kept.sort(key=lambda row: -(row.best.speedup or 0) if row.best else 0)
    else:
        kept.sort(key=_readiness)
    return kept


def render_table(rows: Sequence[Row], chosen: str | None) -> str:
    """The list; each row carries its pair's name for `CHOOSE_JS`."""
    if not rows:
        nothing = f'<p class="hub-empty">{texts.say("no_match")}</p>'
        return f'<div class="hub-list">{nothing}</div>'
    head = "".join(f"<th>{texts.say(f'column_{each}')}</th>" for each in _COLUMNS)
    body = "".join(_draw(row, row.pair.name == chosen) for row in rows)
    table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    label = texts.say("list_label")
    return (
        f'<div class="hub-list" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="hub-table">{table}</table></div>'
    )


CHOOSE_JS = """
element.addEventListener('click', (event) => {
    const row = event.target.closest('[data-pair]');
    if (row) { trigger('select', {value: row.dataset.pair}); }
});
"""
"""A click anywhere in a row chooses it; the row's name is a button, for the keyboard."""

STAY_JS = """
let before = null;
watch('value', () => {
    const list = element.querySelector('.hub-list');
    const row = list && list.querySelector('[aria-selected="true"]');
    if (row && before && before.pair === row.dataset.pair) {
        list.scrollTop += row.offsetTop - before.top;
    }
    before = row && {pair: row.dataset.pair, top: row.offsetTop};
});
"""
"""The chosen row stays where it is on the screen when another order moves it."""


def _is_wanted(row: Row, wish: Wish, words: Sequence[str]) -> bool:
    if wish.family not in (ALL, row.pair.family) or wish.status not in (ALL, row.status):
        return False
    fits = row.fit is not None and does_fit(row.fit)
    if wish.fits == "fits" and (row.pair.remote or not fits):
        return False
    refs = [ref for ref in (row.pair.target, row.pair.drafter) if ref]
    told = [row.pair.title, row.pair.name, row.pair.family]
    told += [text for ref in refs for text in (ref.source, ref.licence or "")]
    return all(word in " ".join(told).lower() for word in words)


def _readiness(row: Row) -> int:
    status = row.standing.status
    if status in _LAST:
        return 3
    return {"ready": 0, "on server": 0, "partial": 1}.get(status, 2)


def _draw(row: Row, chosen: bool) -> str:
    pair, status = row.pair, row.status
    block = f" · {texts.say('block', size=pair.block_size)}" if pair.block_size else ""
    fit = f"<small>{escape_html(say_verdict(row.fit))}</small>" if row.fit else ""
    gated = any(ref.gated for ref in (pair.target, pair.drafter) if ref)
    name = escape_html(pair.name)
    cells = (
        f'<button type="button">{escape_html(pair.title)}</button>'
        f"<small>{escape_html(pair.family)}{block}</small>",
        f'<span class="badge {status.replace(" ", "-")}">{escape_html(say_state(status))}</span>'
        + ("" if status == "does not fit" else fit),
        format_bytes(row.size_bytes),
        escape_html(pair.target.licence or UNKNOWN)
        + (f" <b>{texts.say('gated')}</b>" if gated else ""),
        _backends(pair),
        _speedup(row),
    )
    drawn = "".join(f"<td>{html}</td>" for html in cells)
    return f'<tr data-pair="{name}" aria-selected="{"true" if chosen else "false"}">{drawn}</tr>'


def _backends(pair: Pair) -> str:
    """This app's own engines; how many others a source names, on hover which."""
    own = [name for name in pair.backends if name in OWN_BACKENDS]
    others = [name for name in pair.backends if name not in OWN_BACKENDS]
    if not others:
        return escape_html(", ".join(own) or texts.say("any_backend"))
    hint = escape_html(", ".join(others))
    return f'{escape_html(", ".join(own))} <span title="{hint}">+{len(others)}</span>'


def _speedup(row: Row) -> str:
    best = row.best
    if best is None:
        return UNKNOWN
    here = is_for(best.setup, row.gpus)
    where = texts.say("this_gpu" if here else "other_hardware")
    hint = f"{best.task}: {best.setup or texts.say('setup_unknown')} ({best.source})"
    speedup = texts.say("up_to", speedup=format_ratio(best.speedup))
    return f'<span title="{escape_html(hint)}">{speedup}<small>{where}</small></span>'
