"""What is looked at in the hub: a target and a drafter, chosen together or apart."""

from dataclasses import dataclass

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.hub.choices import find_target, keys_of, resolve, targets_of
from dflash_app.hub.hub import ROLES, Role
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import Pair
from dflash_app.ui.choice import NO_DRAFTER
from dflash_app.ui.hub_texts import texts


@dataclass(frozen=True, slots=True)
class Chosen:
    """A pair by name; `plain` takes its target without the drafter."""

    pair: str
    plain: bool = False

    @property
    def roles(self) -> tuple[Role, ...]:
        """The models that are wanted."""
        return ("target",) if self.plain else ROLES

    def find(self, registry: Registry) -> Pair | None:
        """The pair, without its drafter where that is not wanted; None where nobody knows it."""
        try:
            pair = registry.get(self.pair)
        except DFlashAppError:
            return None
        return pair.model_copy(update={"drafter": None}) if self.plain else pair


def rejoin(registry: Registry, chosen: Chosen, target: str | None, drafter: str | None) -> Chosen:
    """The choice with another target or another drafter.

    Args:
        registry: the known pairs.
        chosen: before.
        target: its key; None keeps it. A drafter that does not go with it gives way.
        drafter: its key, or `NO_DRAFTER`; None keeps it.

    Raises:
        RegistryError: no row has the target, or none says that the drafter goes with it.
    """
    own_target, own_drafter = keys_of(registry.get(chosen.pair))
    plain = drafter == NO_DRAFTER or (drafter is None and chosen.plain)
    pair = resolve(registry, target or own_target, None if plain else drafter or own_drafter)
    return Chosen(pair.name, plain)


def offer_targets(registry: Registry, chosen: Chosen) -> gr.Dropdown:
    """The targets that the chosen drafter serves, quantised ones too."""
    target, drafter = keys_of(registry.get(chosen.pair))
    own = find_target(registry, target)
    fitting = targets_of(registry, drafter) if drafter else ()
    known = [own, *(each for each in fitting if each.key != own.key)]
    choices = [
        (f"{each.ref.source} ({each.quantization})" if each.quantization else each.ref.source,
         each.key)
        for each in known
    ]  # fmt: skip
    return gr.Dropdown(choices, value=target)


def offer_drafters(registry: Registry, chosen: Chosen) -> gr.Dropdown:
    """The drafters that the chosen target can have, and none."""
    target, drafter = keys_of(registry.get(chosen.pair))
    choices = [
        (each.ref.source if each.trained_for is None
         else texts.say("trained_for", source=each.ref.source, target=each.trained_for), each.key)
        for each in find_target(registry, target).drafters
    ]  # fmt: skip
    value = NO_DRAFTER if chosen.plain or drafter is None else drafter
    return gr.Dropdown([*choices, (texts.say("no_drafter"), NO_DRAFTER)], value=value)
