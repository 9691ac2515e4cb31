"""What the serving panel plans: the chosen pair's command, or why there is none."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError, PlanError
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.serving.gpus import find_gpu, gpus_here, usual_gpu
from dflash_app.serving.layout import Machines
from dflash_app.serving.plan import ENGINES, Engine, ServePlan
from dflash_app.serving.planner import Wishes, check, plan
from dflash_app.serving.process import LocalServer
from dflash_app.serving.render import FORMS, Form, render
from dflash_app.serving.shapes import Role, Shape, shape_of
from dflash_app.ui.components import render_notice
from dflash_app.ui.hub_chosen import Chosen
from dflash_app.ui.hub_serve_text import render_plan, texts
from dflash_app.ui.hub_view import HubView, Update

USUAL_GPU = "usual"
"""In the list of GPUs: whatever `usual_gpu` says."""


@dataclass(frozen=True, slots=True)
class Serving:
    """The panel's widgets and what is known of the models.

    Attributes:
        wish: engine, GPU, GPUs a node, nodes, port, whether the twin; in this order.
        command: the text to copy.
        told: what has to be known of it.
        notice: what a button did, or why not.
        server: of this machine; one for all browsers.
        shapes: that the hub told, by model and role.
    """

    view: HubView
    section: gr.Accordion
    wish: list[Any]
    form: gr.Radio
    command: gr.Code
    told: gr.HTML
    notice: gr.HTML
    server: LocalServer
    shapes: dict[tuple[str, Role], Shape] = field(default_factory=dict)

    def on_wish(self, chosen: Chosen | None, form: str, *wish: Any) -> Update:
        """Plan for the chosen pair, or say why not; asks nobody."""
        try:
            made = self.plan(chosen, wish)
        except DFlashAppError as error:
            return {self.command: gr.Code("", visible=False),
                    self.told: render_notice(str(error), "warning")}  # fmt: skip
        shown: Form = next((each for each in FORMS if each == form), FORMS[0])
        text = render(made, shown, reasons=False)
        return {self.command: gr.Code(text, visible=True), self.told: render_plan(made)}

    def on_ask(self, chosen: Chosen | None) -> str:
        """Ask the hub how large the chosen models are."""
        pair = self._find(chosen)
        refs: list[tuple[ModelRef, Role]] = [(pair.target, "target")] if pair else []
        if pair and pair.drafter:
            refs.append((pair.drafter, "drafter"))
        try:
            self.check_local()
            for ref, role in refs:
                self.shapes[ref.source, role] = shape_of(ref, role, online=True)
        except DFlashAppError as error:
            return render_notice(str(error), "warning")
        return render_notice(texts.say("asked"))

    def plan(self, chosen: Chosen | None, wish: tuple[Any, ...]) -> ServePlan:
        """The plan that the widgets ask for; they name choices, never words of a command.

        Raises:
            PlanError: it is refused, or nothing is chosen.
        """
        self.check_local()
        pair = self._find(chosen)
        if pair is None:
            raise PlanError(texts.say("none_chosen"))
        engine, machines, wishes = _read(wish, pair)
        check(pair, machines, wishes)
        return plan(
            pair,
            engine,
            machines,
            wishes,
            target=self._shape(pair.target, "target"),
            drafter=self._shape(pair.drafter, "drafter") if pair.drafter else None,
        )

    def check_local(self) -> None:
        """Refuse where strangers reach the page: plans name folders, and servers are started.

        Raises:
            PlanError: they do.
        """
        if not self.view.page.local():
            raise PlanError(texts.say("strangers"))

    def _shape(self, ref: ModelRef, role: Role) -> Shape:
        return self.shapes.get((ref.source, role)) or shape_of(ref, role, online=False)

    def _find(self, chosen: Chosen | None) -> Pair | None:
        return chosen.find(self.view.page.workspace.registry) if chosen else None


def _read(wish: tuple[Any, ...], pair: Pair) -> tuple[Engine, Machines, Wishes]:
    engine, gpu, gpus, nodes, port, twin = wish
    known = next((each for each in ENGINES if each == engine), ENGINES[0])
    if gpu == USUAL_GPU:
        kind, why = usual_gpu(pair, gpus_here())
        machines = Machines(kind, _whole(gpus), _whole(nodes), why)
    else:
        machines = Machines(find_gpu(str(gpu)), _whole(gpus), _whole(nodes))
    wishes = Wishes(drafting=not twin, port=_whole(port) or None)
    return known, machines, wishes


def _whole(count: Any) -> int:
    """What a box for numbers sends; 0, which is refused, for what is none."""
    return int(count) if isinstance(count, int | float) and isfinite(count) else 0
