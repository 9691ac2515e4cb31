"""The hub's serving panel, in the browser: a plan is read, copied, and a small engine served."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from tests.e2e.running_app import RunningApp, choose, free_port, open_tab, start_app
from tests.e2e.test_hub import look_at
from tests.serving.fake_engine import install_engine


@pytest.fixture(scope="module")
def app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """The app with an engine called vllm on its PATH, whose child's number is in a file."""
    home = tmp_path_factory.mktemp("serve-home")
    install_engine(home / "bin")
    with start_app(
        home,
        PATH=f"{home / 'bin'}:{os.environ['PATH']}",
        FAKE_ENGINE_CHILD=str(home / "child"),
    ) as running:
        yield running
    assert "Traceback" not in running.printed()


def shown(page: Page) -> str:
    """The text to copy, as its lines stand in the editor."""
    lines = page.locator("#serve-command .cm-line").all_inner_texts()
    return "\n".join(line.rstrip("\n") for line in lines)


def open_panel(page: Page, pair: str) -> None:
    look_at(page, pair)
    page.locator("#hub-serve > button").click()
    expect(page.locator("#serve-command")).to_be_visible()


def test_a_plan_follows_pair_engine_gpus_and_form(page: Page) -> None:
    open_panel(page, "qwen3-8b")
    command = page.locator("#serve-command")
    expect(command).to_contain_text("vllm serve Qwen/Qwen3-8B")
    expect(command).to_contain_text('"num_speculative_tokens": 15')
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    command.get_by_role("button").first.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("vllm serve Qwen/Qwen3-8B \\\n  --revision ")

    told = page.locator("#serve-told")
    told.locator("summary").click()
    expect(told.locator("td", has_text="whose first token is the anchor")).to_be_visible()

    page.locator("#serve-engine label", has_text="SGLang").click()
    expect(command).to_contain_text("--speculative-num-draft-tokens 16")
    page.locator("#serve-gpus input").fill("2")
    expect(command).to_contain_text("--tp-size 2")
    page.locator("#serve-form label", has_text="Compose").click()
    expect(command).to_contain_text("services:")
    assert "sglang" in yaml.safe_load(shown(page))["services"]

    page.locator("#hub-list tr[data-pair='kimi-k2.5'] button").click()
    expect(told).to_contain_text("it takes 16 such GPUs (--gpus 8 --nodes 2)")
    expect(command).to_be_hidden()


def test_a_server_is_started_followed_added_as_a_pair_and_stopped(
    page: Page, app: RunningApp
) -> None:
    open_panel(page, "qwen3-8b")
    start, stop = page.locator("#serve-start"), page.locator("#serve-stop")
    local = page.locator("#serve-local")
    expect(stop).to_be_hidden()
    url = f"http://127.0.0.1:{(port := free_port())}/v1"
    page.locator("#serve-port input").fill(str(port))
    expect(page.locator("#serve-command")).to_contain_text(f"--port {port}")
    start.click()
    expect(local).to_contain_text(f"vLLM serves qwen3-8b at {url}")
    expect(local.locator("pre")).to_contain_text("Application startup complete.")
    expect(start).to_be_hidden()
    child = int((app.home / "child").read_text())
    os.kill(child, 0)

    page.locator("#serve-add").click()
    expect(page.locator("#serve-notice")).to_contain_text("qwen3-8b-vllm is a pair now")
    expect(page.locator("#hub-list tr[data-pair='qwen3-8b-vllm']")).to_be_visible()
    (row,) = yaml.safe_load((app.home / "model_registry.yaml").read_text())["pairs"]
    assert row["target"] == {"server": url, "model": "Qwen/Qwen3-8B"}

    stop.click()
    expect(local).to_contain_text("was stopped")
    expect(start).to_be_visible()
    assert not is_alive(child)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_an_engine_that_is_not_installed_is_named_with_its_cure(page: Page) -> None:
    open_panel(page, "qwen3-8b")
    page.locator("#serve-engine label", has_text="SGLang").click()
    expect(page.locator("#serve-command")).to_contain_text("sglang.launch_server")
    page.locator("#serve-start").click()
    expect(page.locator("#serve-notice")).to_contain_text("run pip install 'sglang[all]>=0.5.20'")
    choose(page, "serve-gpu", "cpu")
    expect(page.locator("#serve-told")).to_contain_text("CUDA and NPU devices only")
    open_tab(page, "Chat")
