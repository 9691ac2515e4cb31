"""A real workspace whose only backend plays scripts, and the page's events without a browser."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from dflash_app.engine.protocol import LoadOptions
from dflash_app.events import DecodeEvent, ServerCounts
from dflash_app.plugins import load_plugins
from dflash_app.registry.custom import new_pair, read_server
from dflash_app.registry.load import load_registry
from dflash_app.registry.pair import Pair
from dflash_app.request import GenerationRequest
from dflash_app.settings import Settings
from dflash_app.store.runs import Store
from dflash_app.workspace import Workspace
from tests.fakes import ScriptedPair, ScriptedServerPair, script_of, server_script_of

REGISTRY = """
pairs:
  - name: absent
    title: Absent pair
    family: qwen3
    target: {{repo: some/target, licence: MIT, size_bytes: 8_000_000_000}}
    drafter: {{repo: some/drafter, size_bytes: 1_000_000_000}}
    block_size: 8
    benchmarks: [{{source: a paper, results: [{{task: GSM8K, speedup: 5.15}}]}}]
  - name: scripted
    title: Scripted pair
    family: qwen3
    target: {{path: "{target}"}}
    drafter: {{path: "{drafter}"}}
    block_size: 4
    backends: [script]
  - name: second
    title: Second drafter
    family: qwen3
    target: {{path: "{target}"}}
    drafter: {{path: "{drafter}"}}
    backends: [script]
  - name: lonely
    title: Target without drafter
    family: qwen3
    target: {{path: "{drafter}"}}
    backends: [script]
"""


@dataclass
class ScriptBackend:
    """Loads what `make` returns, whatever the pair."""

    make: Callable[[], ScriptedPair]
    name: str = "script"
    options: list[LoadOptions] = field(default_factory=list)

    def unavailable_reason(self) -> None:
        return None

    def load(self, pair: Pair, options: LoadOptions) -> ScriptedPair:
        self.options.append(options)
        loaded = self.make()
        loaded.name = pair.name
        return loaded


@dataclass
class PacedPair(ScriptedPair):
    """Waits before each event until the gate is open: a run that a test can hold in its middle."""

    gate: threading.Event = field(default_factory=threading.Event)
    pause_s: float = 0.0

    def _play(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, DecodeEvent]]:
        for item in super()._play(requests):
            self.gate.wait(10)
            time.sleep(self.pause_s)
            yield item


def two_lanes() -> ScriptedPair:
    """Both lanes put out the same tokens: plain decoding one a step, DFlash three."""
    plain = script_of((2,), (3,), (4,), (5,), (6,), (7,))
    return ScriptedPair([plain, script_of((2, 3, 4), (5, 6, 7), num_draft=3)])


def one_reply() -> ScriptedPair:
    return ScriptedPair([script_of((2, 3, 4), (5, 6, 7), num_draft=3)])


def open_stage(settings: Settings, make: Callable[[], ScriptedPair]) -> Workspace:
    """A workspace over its own registry, with the real store and the real plugins."""
    for name in ("target", "drafter"):
        folder = settings.home / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("config.json", "tokenizer.json", "model.safetensors"):
            (folder / file).write_text("{}")
    path = settings.home / "stage.yaml"
    path.write_text(
        REGISTRY.format(target=settings.home / "target", drafter=settings.home / "drafter")
    )
    return Workspace(
        settings=settings,
        registry=load_registry([path]),
        plugins=load_plugins(settings),
        store=Store(settings.database),
        store_problem=None,
        _backends={"script": ScriptBackend(make)},
    )


def one_served_reply() -> ScriptedServerPair:
    return ScriptedServerPair([server_script_of((1,), (2, 3, 4), counts=COUNTS)])


def two_served_lanes() -> ScriptedServerPair:
    """Plain decoding one token at a time, DFlash three."""
    plain = server_script_of(*((token_id,) for token_id in range(1, 8)))
    drafted = server_script_of((1,), (2, 3, 4), (5, 6, 7), counts=COUNTS)
    return ScriptedServerPair([plain, drafted])


COUNTS = ServerCounts(
    "vLLM, this request", num_prompt_tokens=12, num_reused=8, num_steps=2, num_drafted=6,
    num_accepted=4, accepted_by_position=(2, 2, 0), histogram=(0, 0, 2, 0), decode_s=0.4,
)  # fmt: skip
SERVER = "http://gpu-box:8000/v1"


def add_server(workspace: Workspace, make: Callable[[], ScriptedServerPair]) -> Workspace:
    """Let the workspace know the pair `served`, which `make` reaches."""
    ref = read_server(SERVER, "org/T")
    workspace._backends["remote"] = ScriptBackend(make, name="remote")
    workspace.add_pair(new_pair("served", ref, ref, title="Served pair"))
    return workspace


def visitor(session: str = "tab-1") -> gr.Request:
    """What Gradio hands to an event of one browser tab."""
    return gr.Request(session_hash=session)


def find_handler(blocks: gr.Blocks, name: str) -> Callable[..., Any]:
    """The first event function of that name ("on_stop", "CompareTab.on_stop") on the page."""
    return next(
        fn.fn
        for fn in blocks.fns.values()
        if name in (getattr(fn.fn, "__name__", ""), getattr(fn.fn, "__qualname__", ""))
    )


def play(blocks: gr.Blocks, name: str, *values: Any) -> Iterator[dict[Any, Any]]:
    """The updates of a flow, its events fired one after the other as the browser does."""
    begin = next(fn for fn in blocks.fns.values() if fn.name == name)
    live = next(fn for fn in blocks.fns.values() if fn.trigger_after == begin._id)
    end = next(fn for fn in blocks.fns.values() if fn.trigger_after == live._id)
    state = begin.inputs[-1]
    update = begin.fn(*values, None)
    flow = update.pop(state)
    try:
        yield update
        yielded = False
        for shown in live.fn(flow):
            yielded = True
            if set(map(str, shown.values())) != {str(gr.skip())}:
                yield shown
        assert yielded, "Gradio empties every output of a generator that yields nothing"
    finally:
        flow.close()
    update = end.fn(flow)
    assert update.pop(state) is None
    yield update


def texts(update: dict[Any, Any]) -> dict[str, Any]:
    """An update by elem_id; a panel counts as the parts it is made of."""
    shown: dict[str, Any] = {}
    for widget, value in update.items():
        if isinstance(widget, gr.BrowserState):
            shown["stored"] = value
            continue
        elem_id = getattr(widget, "elem_id", None) or "state"
        if elem_id.endswith("-panel"):
            _, *parts = re.split(r'<div id="([\w-]+)">', value)
            shown |= dict(zip(parts[::2], parts[1::2], strict=True))
        else:
            shown[elem_id] = value
    return shown


def last(updates: Iterator[dict[Any, Any]]) -> dict[str, Any]:
    """What stands on the page after all updates."""
    shown: dict[str, Any] = {}
    for update in updates:
        shown |= texts(update)
    return shown


def bar(pair: str = "scripted", drafter: str = "scripted") -> list[str]:
    """Values of the model bar."""
    backend = "remote" if pair == "served" else "script"
    return [pair, drafter, "auto", "auto", "auto", backend]


SAMPLING: list[Any] = [64, 0, 1, 0, 0, 1, "", "auto", "", "", "fixed"]
"""Values of the sampling controls, as they stand at the start."""


def write_broken_plugin(folder: Path) -> None:
    """A plugin whose tab cannot be built."""
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from dflash_app.hookspecs import Tab, hookimpl\n"
        "@hookimpl\n"
        "def register_tabs():\n"
        "    return [Tab('Broken', 50, f'{__name__}.tab:build')]\n"
    )
    (folder / "tab.py").write_text(
        "import gradio as gr\n"
        "def build(page):\n"
        "    gr.Textbox('half made', elem_id='half-made')\n"
        "    raise ValueError('no luck <b>today</b>')\n"
    )
