"""The page stands whatever its plugins do, and tells what does not work."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dflash_app.errors import PairNotReady, StoreReadOnly, UnknownPair
from dflash_app.events import StepDone
from dflash_app.settings import Settings
from dflash_app.ui.choice import read_choice
from dflash_app.ui.language import translations
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import Page, build_page, render_problems
from dflash_app.workspace import Workspace
from tests.fakes import ScriptedPair, ask, script_of
from tests.ui.conftest import StageOpener
from tests.ui.stage import bar, one_reply, visitor, write_broken_plugin


def elem_ids(blocks: gr.Blocks) -> set[str]:
    """Ids of what the page shows: in its layout, not only made."""
    shown: list[Any] = list(blocks.children)
    ids = set()
    while shown:
        block = shown.pop()
        shown += getattr(block, "children", [])
        ids.add(block.elem_id or "")
    return ids


def labels(blocks: gr.Blocks, language: str = "en") -> list[str]:
    """Titles of the page's own tabs, as the browser fills them in."""
    words = translations().translations[language]
    tabs = [block for block in blocks.blocks.values() if isinstance(block, gr.Tab)]
    return [words[tab.label.key] for tab in tabs if tab.label.key.startswith("tabs.")]


@pytest.mark.parametrize(
    ("name", "elem_id", "value", "limit"),
    [
        ("on_send", "chat-temperature", 9, "greater than maximum value 2"),
        ("on_send", "chat-max-tokens", 0, "less than minimum value 1"),
        ("on_race", "race-top-p", 0, "less than minimum value 0.05"),
    ],
)
def test_a_value_out_of_a_sliders_range_is_refused_and_nothing_is_decoded(
    open_stage: StageOpener, name: str, elem_id: str, value: float, limit: str
) -> None:
    pair = one_reply()
    blocks = build_page(open_stage(lambda: pair), LiveRuns())
    event = next(fn for fn in blocks.fns.values() if fn.name == name)
    sent = [
        value if widget.elem_id == elem_id else getattr(widget, "value", None)
        for widget in event.inputs
    ]
    ask = blocks.process_api(event, sent, request=visitor())
    with ThreadPoolExecutor(1) as elsewhere, pytest.raises(gr.Error, match=limit):
        elsewhere.submit(asyncio.run, ask).result()  # the browser tests' loop runs in this thread
    assert pair.requests == []


def test_built_in_and_plugin_tabs_stand_in_their_order(open_stage: StageOpener) -> None:
    blocks = build_page(open_stage(one_reply), LiveRuns())
    assert labels(blocks)[:2] == ["Chat", "Compare"]
    assert labels(blocks)[-1] == "History"
    assert labels(blocks, "zh")[0] == "对话"
    assert {"chat-prompt", "race-start", "history-table", "pair"} <= elem_ids(blocks)


def test_without_plugins_the_page_still_chats(
    open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    workspace = open_stage(one_reply)
    for name in [
        n for n, _ in workspace.plugins.manager.list_name_plugin() if "dflash_plugins" in n
    ]:
        workspace.plugins.manager.unregister(name=name)
    assert labels(build_page(workspace, LiveRuns())) == ["Chat", "Hub"]


def test_a_broken_tab_shows_its_reason_in_place_and_stops_nothing(
    home: Path, open_stage: StageOpener
) -> None:
    write_broken_plugin(home / "plugins" / "broken")
    workspace = open_stage(one_reply)
    blocks = build_page(workspace, LiveRuns())
    assert "Broken" in labels(blocks)
    assert "half-made" not in elem_ids(blocks)
    told = [b.value for b in blocks.blocks.values() if isinstance(b, gr.HTML) and b.value]
    reason = next(text for text in told if "This tab cannot be shown" in text)
    assert "ValueError: no luck &lt;b&gt;today&lt;/b&gt;" in reason
    assert "no luck" not in render_problems(workspace)


def test_store_and_plugin_problems_are_told(home: Path, open_stage: StageOpener) -> None:
    folder = home / "plugins" / "bad"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import no_such_module")
    workspace = open_stage(one_reply)
    workspace.store_problem = StoreReadOnly("The run database cannot be written: free it.")
    html = render_problems(workspace)
    assert "Runs are not kept: The run database cannot be written: free it." in html
    assert "no_such_module" in html


def page_of(workspace: Workspace) -> Page:
    with gr.Blocks():
        return Page(workspace, None, None, LiveRuns(), lambda: True)  # type: ignore[arg-type]


def test_a_pair_that_is_not_here_is_refused_with_the_cure(open_stage: StageOpener) -> None:
    page = page_of(open_stage(one_reply))
    with pytest.raises(PairNotReady, match="dflash-app hub pull absent"):
        page.check_ready(read_choice(bar("absent", "absent")))
    with pytest.raises(UnknownPair):
        page.check_ready(read_choice(bar("nobody", "none")))
    page.check_ready(read_choice(bar()))


def test_the_speed_to_compare_with_is_the_last_plain_run_of_this_machine(
    open_stage: StageOpener,
) -> None:
    workspace = open_stage(one_reply)
    page = page_of(workspace)
    loaded = workspace.loaded("scripted")
    assert isinstance(loaded, ScriptedPair)
    assert page.ar_speed(loaded) is None
    list(workspace.run(loaded, ask(mode="ar"), source="chat"))
    list(workspace.run(loaded, ask(mode="dflash"), source="chat"))
    assert page.ar_speed(loaded) == 12.0
    for other in (
        {"device": "cuda:0"},
        {"dtype": "bfloat16"},
        {"quantization": "nf4"},
        {"backend": "mlx"},
    ):
        assert page.ar_speed(replace(loaded, **other)) is None  # type: ignore[arg-type]


def test_a_plain_run_that_was_cut_is_not_compared_with(open_stage: StageOpener) -> None:
    workspace = open_stage(one_reply)
    page, loaded = page_of(workspace), workspace.loaded("scripted")
    assert isinstance(loaded, ScriptedPair)
    cut = workspace.run(loaded, ask(mode="ar"), source="chat")
    while not isinstance(next(cut), StepDone):
        pass
    cut.close()
    (run,) = workspace.store.list_runs()
    assert (run.finish_reason, run.metrics.decode_tok_s) == ("cancelled", 12.0)
    assert page.ar_speed(loaded) is None
    loaded.scripts = [script_of((2,), (3,), reason="length")]
    list(workspace.run(loaded, ask(mode="ar"), source="chat"))
    assert page.ar_speed(loaded) == 4.0
    loaded.scripts = one_reply().scripts
    next(again := workspace.run(loaded, ask(mode="ar"), source="chat"))
    again.close()
    assert page.ar_speed(loaded) == 4.0


def test_speeds_of_other_surfaces_are_not_compared_with(open_stage: StageOpener) -> None:
    workspace = open_stage(one_reply)
    loaded = workspace.loaded("scripted")
    list(workspace.run(loaded, ask(mode="ar"), source="cli"))
    assert page_of(workspace).ar_speed(loaded) is None


def test_plain_decoding_does_without_a_drafter_that_is_not_here(
    open_stage: StageOpener,
) -> None:
    workspace = open_stage(one_reply)
    page = page_of(workspace)
    (workspace.settings.home / "drafter" / "model.safetensors").unlink()
    plain = read_choice(bar(drafter="none"))
    page.check_ready(plain)
    assert page.load(plain).name == "scripted"
    with pytest.raises(PairNotReady, match=r"lacks model\.safetensors"):
        page.check_ready(read_choice(bar()))


def test_a_drafter_that_is_here_stays_loaded_for_plain_decoding(open_stage: StageOpener) -> None:
    page = page_of(open_stage(one_reply))
    assert page.load(read_choice(bar(drafter="none"))) is page.load(read_choice(bar()))


def test_no_two_widgets_share_an_id(open_stage: StageOpener) -> None:
    blocks = build_page(open_stage(one_reply), LiveRuns())
    ids = [block.elem_id for block in blocks.blocks.values() if block.elem_id]
    assert sorted(set(ids)) == sorted(ids)


def test_a_backend_that_does_not_run_the_pair_gives_way_to_its_default(
    open_stage: StageOpener,
) -> None:
    page = page_of(open_stage(one_reply))
    assert page.read([*bar()[:-1], "script"]).backend == "script"
    assert page.read([*bar()[:-1], "mlx"]).backend is None


def test_a_drafter_of_the_pair_before_gives_way_to_the_pairs_own(open_stage: StageOpener) -> None:
    page = page_of(open_stage(one_reply))
    stale = page.read(bar("scripted", "absent"))
    assert (stale.pair, stale.mode) == ("scripted", "dflash")
    assert page.read(bar("scripted", "none")).mode == "ar"
    with pytest.raises(UnknownPair):
        page.read(bar("scripted", "typed by hand"))
