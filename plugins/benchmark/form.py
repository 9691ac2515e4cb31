"""The form: what to ask, in which ways and how often. `reading.read_form` makes it a plan."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from dflash_app.hookspecs import Dataset
from dflash_app.registry.pair import Pair
from dflash_app.ui.choice import AUTO
from dflash_app.ui.model_bar import FOLLOWING, block_choices, offer_choices
from dflash_app.ui.pair_facts import find_pair
from dflash_app.ui.presets import thinking_of
from dflash_app.ui.sampling import thinking_labels
from dflash_app.ui.shell import Page
from dflash_app.workspace import Workspace

from .plan import MAX_NEW_TOKENS
from .public import OFFLINE_SET, PUBLIC_PROMPTS, public_tokens
from .words import texts

USUAL_PROMPTS = 8
LEVELS = ("1", "8", "16", "32", "64")
NO_BASELINE = "none"


@dataclass(frozen=True, slots=True)
class Form:
    """The widgets; `inputs` is the order in which `read_form` takes their values."""

    datasets: gr.Dropdown
    files: gr.File
    num_prompts: gr.Number
    modes: gr.CheckboxGroup
    block_sizes: gr.Dropdown
    policies: gr.CheckboxGroup
    repetitions: gr.Number
    warm_up: gr.Number
    temperature: gr.Slider
    seed: gr.Number
    thinking: gr.Dropdown
    max_new_tokens: gr.Number
    concurrency: gr.Dropdown
    baseline: gr.Dropdown

    @property
    def inputs(self) -> list[Any]:
        return [getattr(self, each.name) for each in fields(self)]

    @property
    def follows_pair(self) -> list[Any]:
        """What `offer_for_pair` gives values to, in its order."""
        return [
            self.modes,
            self.block_sizes,
            self.policies,
            self.thinking,
            self.concurrency,
            self.baseline,
        ]


def build_form(page: Page) -> Form:
    """Make the form. On a page for strangers it offers what they may ask for."""
    public = page.public
    with gr.Row(elem_id="bench-form", elem_classes="bench-row"):
        names = dataset_choices(page.workspace.plugins.hook.register_datasets(), public=public)
        datasets = gr.Dropdown(
            names, value=[OFFLINE_SET], multiselect=True, label=texts.label("datasets"), scale=4,
            min_width=240, elem_id="bench-datasets", interactive=not public,
        )  # fmt: skip
        num_prompts = gr.Number(
            PUBLIC_PROMPTS if public else USUAL_PROMPTS, precision=0, scale=1, min_width=220,
            label=texts.label("num_prompts"), elem_id="bench-prompts",
        )  # fmt: skip
        modes = gr.CheckboxGroup(
            mode_choices(drafts=True), value=["ar", "dflash"], scale=2, min_width=220,
            label=texts.label("modes"), elem_id="bench-modes",
        )  # fmt: skip
    folded = "settings_public" if public else "settings"
    with gr.Accordion(texts.label(folded), open=False, elem_id="bench-settings"):
        drafting = _build_drafting(page)
        repeating = _build_repeating(page)
        serving = _build_serving(page)
        files = gr.File(
            file_count="multiple", file_types=[".jsonl"], height=150, visible=not public,
            label=texts.label("files"), elem_id="bench-files",
        )  # fmt: skip
    return Form(datasets, files, num_prompts, modes, *drafting, *repeating, *serving)


def _build_drafting(page: Page) -> tuple[Any, ...]:
    pair = page.bar.pair.value
    with gr.Row(elem_classes="bench-row"):
        return (
            gr.Dropdown(
                block_choices(page.workspace, pair), value=[AUTO], multiselect=True, scale=2,
                label=texts.label("block_sizes"), min_width=200, elem_id="bench-blocks",
                allow_custom_value=True,  # else Gradio refuses what another pair offered
            ),
            gr.CheckboxGroup(
                [(texts.label(f"policy_{each}"), each) for each in ("fixed", "adaptive")],
                value=["fixed"], label=texts.label("policies"), scale=2, min_width=220,
                elem_id="bench-policies",
            ),
        )  # fmt: skip


def _build_repeating(page: Page) -> tuple[Any, ...]:
    limits = page.workspace.settings.public
    most = MAX_NEW_TOKENS if limits is None else public_tokens(limits)

    def number(name: str, value: int) -> gr.Number:
        return gr.Number(
            value, precision=0, label=texts.label(name), min_width=120,
            elem_id=f"bench-{name.replace('_', '-')}",
        )  # fmt: skip

    with gr.Row(elem_classes="bench-row"):
        counts = number("repetitions", 1), number("warm_up", 1)
        temperature = gr.Slider(
            0, 2, 0, step=0.05, label=texts.label("temperature"), min_width=200,
            elem_id="bench-temperature",
        )  # fmt: skip
        seed = number("seed", 0)
    with gr.Row(elem_classes="bench-row"):
        thinking = gr.Dropdown(
            thinking_labels(["on", "off"]), value="auto", label=texts.label("thinking"),
            min_width=160, elem_id="bench-thinking", allow_custom_value=True,
        )  # fmt: skip
        return (*counts, temperature, seed, thinking, number("max_new_tokens", most))


def _build_serving(page: Page) -> tuple[Any, ...]:
    pair = find_pair(page.workspace, page.bar.pair.value)
    levels, baseline = offer_servers(page.workspace, pair)
    with gr.Row(elem_classes="bench-row", visible=not page.public):
        return (
            gr.Dropdown(
                [(each, each) for each in LEVELS], value=["1"], multiselect=True, scale=2,
                label=texts.label("concurrency"), min_width=200, elem_id="bench-concurrency",
                info=levels["info"], interactive=levels["interactive"], allow_custom_value=True,
            ),
            gr.Dropdown(
                baseline["choices"], value=NO_BASELINE, label=texts.label("baseline"), scale=2,
                info=texts.label("baseline_info"), min_width=200, elem_id="bench-baseline",
                interactive=True, allow_custom_value=True,
            ),
        )  # fmt: skip


def connect_form(form: Form, page: Page) -> None:
    """The boxes follow the pair of the model bar."""

    def follow(name: str | None, *values: Any) -> list[Any]:
        return offer_for_pair(page.workspace, name, *values)

    asked = [page.bar.pair, form.block_sizes, form.thinking, form.baseline]
    gr.on([page.bar.pair.change, page.tab.select], follow, asked, form.follows_pair, **FOLLOWING)


def offer_for_pair(
    workspace: Workspace,
    name: str | None,
    block_sizes: Sequence[str] | None,
    thinking: str | None,
    baseline: str | None,
) -> list[Any]:
    """What `Form.follows_pair` become once a pair is chosen; what fits it stays.

    Args:
        workspace: knows the pairs.
        name: of the pair.
        block_sizes: chosen before.
        thinking: chosen before.
        baseline: chosen before.
    """
    pair = find_pair(workspace, name)
    drafts, remote = pair is not None and pair.drafter is not None, bool(pair and pair.remote)
    blocks = block_choices(workspace, name)
    offered = [value for _, value in blocks]
    stays = bool(block_sizes) and all(each in offered for each in block_sizes or ())
    thoughts = thinking_of(workspace, pair) if pair else []
    levels, baselines = offer_servers(workspace, pair)
    names = [value for _, value in baselines["choices"]]
    own = drafts and not remote
    return [
        gr.update(choices=mode_choices(drafts=drafts), **({} if drafts else {"value": ["ar"]})),
        gr.update(choices=blocks, interactive=own, **({} if stays else {"value": [AUTO]})),
        gr.update(interactive=own, **({} if own else {"value": ["fixed"]})),
        offer_choices(thinking_labels(thoughts), "auto", stays=thinking in ("auto", *thoughts)),
        gr.update(**levels, **({} if remote else {"value": ["1"]})),
        gr.update(**baselines, **({} if baseline in names else {"value": NO_BASELINE})),
    ]


def offer_servers(workspace: Workspace, pair: Pair | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the boxes for concurrency and for the baseline become with a pair."""
    remote = pair is not None and pair.remote
    info = texts.label("concurrency_info" if remote else "concurrency_local")
    others = [each for each in workspace.pairs() if each.remote and each != pair]
    baselines = [(texts.label("no_baseline"), NO_BASELINE)]
    baselines += [(each.title, each.name) for each in others]
    return {"interactive": remote, "info": info}, {"choices": baselines}


def dataset_choices(datasets: Sequence[Dataset], *, public: bool) -> list[tuple[Any, str]]:
    """Sets by what they are called, the one that needs no network first."""
    ordered = sorted(datasets, key=lambda each: each.name != OFFLINE_SET)
    offered = ordered[:1] if public else ordered
    own = (texts.label("bundled"), OFFLINE_SET)
    return [own if each.name == OFFLINE_SET else (each.name, each.name) for each in offered]


def mode_choices(*, drafts: bool) -> list[tuple[Any, str]]:
    """Ways of decoding that a pair has."""
    modes = ("ar", "dflash") if drafts else ("ar",)
    return [(texts.label(f"mode_{each}"), each) for each in modes]
