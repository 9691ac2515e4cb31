"""The line below the model bar: what is known of the chosen pair, and what it waits for."""

from typing import get_args

from dflash_app.engine.protocol import Quantization
from dflash_app.errors import DFlashAppError, UnknownPair
from dflash_app.hub.fit import PRECISIONS, SHORT_NAMES, Device, fit_pair
from dflash_app.registry.pair import Pair
from dflash_app.spaces.public import hide_paths
from dflash_app.ui.backend_choices import device_choices, texts
from dflash_app.ui.choice import AUTO
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import (
    escape_html,
    format_bytes,
    format_count,
    format_decimal,
    format_ratio,
)
from dflash_app.workspace import PairState, Workspace

OPEN_HUB_JS = """
element.addEventListener('click', (event) => {
    if (event.target.closest('.open-hub')) { trigger('select', {value: ''}); }
});
"""
"""The Hub tab, which listens, shows the pair and comes to the front."""


def find_pair(workspace: Workspace, name: str | None) -> Pair | None:
    """The pair of that name, composed ones too, or None."""
    try:
        return workspace.registry.get(name or "")
    except UnknownPair:
        return None


def say_status(state: PairState) -> str:
    """A pair's state in two words, as `dflash-app pairs` says it in English."""
    return texts.say(f"status_{state.status.replace(' ', '_')}")


def render_pair(
    workspace: Workspace,
    name: str | None,
    backend: str | None = None,
    precision: str | None = None,
    device: str | None = None,
) -> str:
    """One line of facts, and what is missing where the pair cannot run here.

    Args:
        workspace: knows the pairs.
        name: of the pair.
        backend: that the bar says, for the memory that the pair takes; None is its default.
        precision: the same; None is "auto".
        device: the same.
    """
    pair = find_pair(workspace, name)
    if pair is None:
        return render_notice(texts.say("no_pair"), "warning")
    state = workspace.state(pair.name)
    public = workspace.settings.public is not None
    parts = [_badge(pair, state)]
    facts = _facts(pair, public=public)
    if state.status == "ready" and not pair.remote:
        facts += _memory(pair, backend, precision or AUTO, device or AUTO)
    parts += [f"<span>{fact}</span>" for fact in facts]
    html = f'<div class="pair-facts">{"".join(parts)}</div>'
    if state.status != "ready" and state.reason:
        html += _lack(pair, state.reason, public=public)
    return html


def _badge(pair: Pair, state: PairState) -> str:
    """The state; of a server nothing is known before it is asked."""
    served = pair.remote and state.status == "ready"
    said = texts.say("status_on_server") if served else say_status(state)
    kind = " served" if served else "" if state.status == "ready" else " missing"
    return f'<span class="badge{kind}">{escape_html(said)}</span>'


def _lack(pair: Pair, reason: str, *, public: bool) -> str:
    """What a pair waits for: where that is a download, the way to the page's own."""
    if public:
        return render_notice(hide_paths(reason), "warning")
    if f"hub pull {pair.name}`" not in reason:
        return render_notice(reason, "warning")
    said, opens = (escape_html(texts.say(key)) for key in ("not_downloaded", "open_hub"))
    button = f'<button type="button" class="open-hub">{opens}</button>'
    return f'<div class="notice warning" role="status">{said} {button}</div>'


def _facts(pair: Pair, *, public: bool) -> list[str]:
    facts = []
    for role, ref in (("target", pair.target), ("drafter", pair.drafter)):
        if ref is not None and not ref.source.startswith("embedded:"):
            source = str(ref.model) if public and ref.server else ref.source
            shown = escape_html(hide_paths(source) if public else source)
            facts.append(texts.say(f"{role}_html", source=shown))
    if pair.target.source.startswith("embedded:"):
        facts.append(escape_html(texts.say("shipped")))
    sizes = [ref.size_bytes for ref in (pair.target, pair.drafter) if ref is not None]
    if sizes and None not in sizes:
        facts.append(texts.say("size_html", size=format_bytes(sum(size or 0 for size in sizes))))
    if pair.target.licence:
        facts.append(texts.say("licence_html", licence=escape_html(pair.target.licence)))
    if pair.target.gated:
        facts.append(f"<b>{escape_html(texts.say('gated'))}</b>")
    if pair.thinking:
        facts.append(texts.say("thinking_html", thinking=escape_html(pair.thinking)))
    return facts + _published(pair)


def _published(pair: Pair) -> list[str]:
    best = next(iter(pair.published), None)
    if best is None:
        return []
    figures = [format_ratio(best.speedup)] if best.speedup else []
    if best.acceptance_length:
        figures.append(texts.say("acceptance", length=format_decimal(best.acceptance_length)))
    where = escape_html(f"{best.task}, {best.setup or best.source}")
    said = texts.say(
        "published_html", figures=escape_html(", ".join(figures)), task=escape_html(best.task)
    )
    return [f'<span title="{where}">{said}</span>']


def _memory(pair: Pair, backend: str | None, precision: str, device: str) -> list[str]:
    """What the pair takes as the bar says; the sum's parts stand where the pointer rests on it."""
    quantization = precision if precision in get_args(Quantization) else None
    dtype = auto_dtype(backend, device)
    if precision in SHORT_NAMES:
        dtype = precision
    try:
        found = fit_pair(pair, [Device("any", 0)], online=False, dtype=dtype)
    except DFlashAppError:
        return []
    by_quantization = dict(zip(PRECISIONS.values(), found.fits, strict=False))
    need = by_quantization[quantization].need if quantization in by_quantization else None
    if need is None:
        return []
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in need.breakdown())
    said = texts.say(
        "memory_html",
        memory=format_bytes(need.total_bytes),
        precision=quantization or dtype,
        tokens=format_count(need.context_length),
    )
    return [f'<span title="{escape_html(parts)}">{said}</span>']


def auto_dtype(backend: str | None = None, device: str = AUTO) -> str:
    """What a backend computes in where nothing else is asked for: on the CPU float32."""
    has_gpu = any(value not in (AUTO, "cpu") for _, value in device_choices(backend))
    on_cpu = device == "cpu" or (device == AUTO and not has_gpu)
    return "float32" if on_cpu else "bfloat16"
