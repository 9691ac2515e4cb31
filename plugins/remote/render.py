"""The Servers tab as inert HTML: a card for each pair on a server, and what a server told."""

from collections.abc import Callable, Sequence

from dflash_app.registry.pair import Pair
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import escape_html, format_count

from .asking import Answer, Place, places_of
from .capabilities import Capabilities, ServedModel
from .words import texts

MAX_NAMED = 8
"""Models of one server that are named; the others are counted."""


def render_servers(
    pairs: Sequence[Pair], told: Callable[[Place], Answer | None], *, manages: bool
) -> str:
    """A card for each pair.

    Args:
        pairs: those on servers.
        told: the newest answer of a server, None while it has given none.
        manages: False for strangers, who see no addresses and may remove nothing.
    """
    if not pairs:
        nothing = _say("none_yet" if manages else "none_here")
        return f'<p class="servers-empty">{nothing}</p>'
    cards = "".join(_card(pair, told, manages=manages) for pair in pairs)
    return f'<div class="servers" role="list" aria-label="{_say("list_label")}">{cards}</div>'


ACT_JS = """
element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-act]');
    if (button) {
        const card = button.closest('[data-server]');
        trigger('select', {value: {act: button.dataset.act, pair: card.dataset.server}});
    }
});
"""
"""A card's buttons tell the server what to do with which pair."""


def render_capabilities(found: Capabilities, title: str) -> str:
    """What one server told that was asked before it is added."""
    return (
        f'<div class="server-told"><h3>{escape_html(title)}</h3>'
        f"<dl>{_facts(found, None)}</dl></div>"
    )


def abilities(found: Capabilities) -> list[str]:
    """What a server can do, in words."""
    said = ["speculation_" + _word(found.drafts)]
    if found.drafts:
        said.append(f"acceptance_{found.counted or 'unknown'}")
        said.append("ar_switch_" + _word(found.can_switch_drafts))
    said.append("thinking_" + _word(found.engine != "unknown"))
    words = [texts.say(key) for key in said]
    if found.drafts and found.num_drafts:
        words[0] = texts.say("speculates_with", count=found.num_drafts)
    return words


def _card(pair: Pair, told: Callable[[Place], Answer | None], *, manages: bool) -> str:
    places = places_of(pair)
    answers = [(place, told(place)) for place in places]
    state = _state([answer for _, answer in answers])
    name = escape_html(pair.name)
    title = escape_html(pair.title)
    buttons = _button("use", pair.name)
    if manages:
        buttons += _button("remove", pair.name)
    hint = _hint(pair, [answer for _, answer in answers]) if manages else ""
    body = "".join(_place(place, answer, manages=manages) for place, answer in answers)
    return (
        f'<div class="server" role="listitem" data-server="{name}"><header>'
        f'<h3>{title}</h3><span class="badge {state}">{_say(f"status_{state}")}</span>'
        f'<span class="server-acts">{buttons}</span></header>{body}{hint}</div>'
    )


def _place(place: Place, answer: Answer | None, *, manages: bool) -> str:
    lines = ""
    if manages:
        lines = _line(f"place_{place.role}", escape_html(place.url))
    if isinstance(answer, Capabilities):
        lines += _facts(answer, place.model)
    problem = ""
    if isinstance(answer, str):
        # The sentence names the address, which is nobody else's business.
        problem = render_notice(answer if manages else texts.say("status_down"), "warning")
    elif isinstance(answer, Capabilities) and not _serves(answer, place.model):
        problem = render_notice(texts.say("lacks", model=place.model), "warning")
    return f"<dl>{lines}</dl>{problem}"


def _hint(pair: Pair, answers: Sequence[Answer | None]) -> str:
    """What the pair's only server lacks for a race."""
    only = answers[0] if len(answers) == 1 else None
    alone = isinstance(only, Capabilities) and pair.drafter is not None
    if not alone or not isinstance(only, Capabilities) or only.can_switch_drafts:
        return ""
    return f'<p class="servers-intro">{_say("alone")}</p>'


def _facts(found: Capabilities, model: str | None) -> str:
    """Lines of a server; all its models, or one and its context."""
    lines = _line("engine", escape_html(found.label))
    if model is None:
        lines += _line("models", escape_html(_name_models(found.models)))
    else:
        lines += _line("model", escape_html(model))
    contexts = {each.context_length for each in found.models if model in (None, each.name)} - {None}
    if len(contexts) == 1:
        count = format_count(contexts.pop())
        lines += _line("context", _say("context_tokens", count=count))
    chips = "".join(f"<li>{escape_html(said)}</li>" for said in abilities(found))
    return lines + _line("abilities", f"<ul>{chips}</ul>")


def _name_models(models: Sequence[ServedModel]) -> str:
    names = ", ".join(model.name for model in models[:MAX_NAMED])
    if len(models) > MAX_NAMED:
        return texts.say("more_models", names=names, count=len(models) - MAX_NAMED)
    return names or texts.say("no_models")


def _serves(found: Capabilities, model: str) -> bool:
    return any(each.name == model for each in found.models)


def _state(answers: Sequence[Answer | None]) -> str:
    """What the badge says, which is its class, too."""
    if None in answers:
        return "checking"
    num_up = sum(isinstance(answer, Capabilities) for answer in answers)
    return "up" if num_up == len(answers) else "partly" if num_up else "down"


def _button(act: str, pair: str) -> str:
    label = escape_html(texts.say(f"{act}_named", name=pair))
    return f'<button type="button" data-act="{act}" aria-label="{label}">{_say(act)}</button>'


def _line(key: str, html: str) -> str:
    return f"<div><dt>{_say(key)}</dt><dd>{html}</dd></div>"


def _word(known: bool | None) -> str:
    return "unknown" if known is None else "yes" if known else "no"


def _say(key: str, **values: object) -> str:
    return escape_html(texts.say(key, **values))
