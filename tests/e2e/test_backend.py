"""The shipped pair through MLX on the real page: it chats, races, and gives way to PyTorch."""

import re

from playwright.sync_api import Page, expect

from tests.e2e.running_app import RunningApp, choose, newest_run, open_tab, send
from tests.e2e.tiny_pair import TITLE

QUESTION = "How many positive whole-number divisors does 196 have?"
ENDED = re.compile(r"(Finished|Ended at the length limit) after")


def test_mlx_chats_and_races_the_shipped_pair(page: Page, app: RunningApp) -> None:
    backend = page.locator("#backend input")
    expect(backend).to_have_value("PyTorch")
    choose(page, "backend", "MLX")
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    expect(page.locator("#chat-log .bot").last).to_contain_text("9")
    assert page.locator("#chat-strip .tok").count() > 5
    run = newest_run(app)
    assert (run["backend"], run["mode"], run["prompt"]) == ("mlx", "dflash", QUESTION)
    open_tab(page, "Compare")
    page.locator("#race-start").click()
    expect(page.locator("#race-outcome")).to_contain_text("✓ identical")
    expect(page.locator("#race-outcome .speedup")).to_contain_text("×")
    assert newest_run(app)["backend"] == "mlx"


def test_mlx_offers_its_own_precisions_and_answers_in_them(page: Page, app: RunningApp) -> None:
    choose(page, "backend", "MLX")
    choose(page, "precision", "8-bit")
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    run = newest_run(app)
    assert (run["backend"], run["quantization"]) == ("mlx", "8bit")
    choose(page, "backend", "PyTorch")
    expect(page.locator("#precision input")).to_have_value("auto")
    page.locator("#precision input").click()
    expect(page.get_by_role("option", name="nf4 (4-bit)")).to_be_visible()
    expect(page.get_by_role("option", name="8-bit", exact=True)).to_have_count(0)


def test_a_pair_that_mlx_does_not_run_takes_the_box_back_to_pytorch(page: Page) -> None:
    choose(page, "backend", "MLX")
    choose(page, "pair", TITLE)
    expect(page.locator("#backend input")).to_have_value("PyTorch")
    page.locator("#backend input").click()
    expect(page.get_by_role("option", name="MLX")).to_have_count(0)
