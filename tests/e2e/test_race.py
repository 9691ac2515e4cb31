"""Three lanes in a real browser, one of them in another precision, and what is taken along."""

import json
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.e2e.running_app import RunningApp, choose, open_tab
from tests.e2e.test_page import set_limit
from tests.e2e.tiny_pair import TITLE

QUESTION = "How many positive whole-number divisors does 196 have?"


def open_editor(page: Page) -> None:
    open_tab(page, "Compare")
    page.get_by_text("Lanes: which decoders race").click()
    expect(page.locator("#race-lane-3-kind input")).to_be_visible()


def download(page: Page, kind: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.locator(f"#race-{kind}").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def value_of(box: Locator) -> str:
    return box.locator("input").input_value()


def test_three_lanes_race_and_leave_a_card_and_a_command(
    page: Page, app: RunningApp, tmp_path: Path
) -> None:
    open_editor(page)
    expect(page.locator("#race-lane-3-block-size")).to_have_count(0)
    expect(page.locator("#race-png")).to_be_hidden()
    choose(page, "race-lane-3-kind", "DFlash")
    choose(page, "race-lane-3-block-size", "8")
    choose(page, "race-lane-3-precision", "bfloat16")
    page.locator("#race-start").click()
    expect(page.locator("#race-outcome .verdict")).to_have_count(2)
    first, second = page.locator("#race-outcome .verdict").all()
    expect(first).to_contain_text("✓ identical")
    expect(second).to_contain_text("block 8, bfloat16")
    for lane in ("ar", "dflash", "dflash-2"):
        expect(page.locator(f"#race-cards-{lane}")).to_contain_text("tok/s")

    card = json.loads(download(page, "json", tmp_path).read_text())
    assert card["prompt"] == QUESTION
    assert [lane["precision"] for lane in card["lanes"]] == ["float32", "float32", "bfloat16"]
    page.get_by_label("Show the prompt on the card").uncheck()
    assert QUESTION not in download(page, "json", tmp_path).read_text()
    with Image.open(download(page, "png", tmp_path)) as picture:
        assert (picture.format, picture.width) == ("PNG", 1200)

    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=app.url)
    copy = page.locator("#race-command button")
    expect(copy).to_have_text("Copy as command")
    copy.click()
    expect(copy).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("dflash-app generate --compare --pair embedded")
    assert copied.endswith(f"--lane dflash,precision=bfloat16,block=8 -- '{QUESTION}'")
    expect(copy).to_have_text("Copy as command")

    expect(first).to_contain_text("with the prompt")
    page.locator(".lane").nth(1).locator(".run-link").click()
    expect(page.locator("#microscope-step")).to_contain_text("Block 1 of")


def test_the_heading_of_the_folded_settings_tells_what_was_changed(page: Page) -> None:
    open_tab(page, "Compare")
    set_limit(page, "race", 1_200)
    heading = page.locator("#race-settings > button")
    expect(heading).to_contain_text("Sampling and limits of all lanes: 1,200 tokens")


def test_the_lanes_boxes_follow_the_pair(page: Page, app: RunningApp) -> None:
    open_editor(page)
    choose(page, "race-lane-2-block-size", "8")
    assert value_of(page.locator("#race-lane-2-block-size")) == "8"
    choose(page, "pair", TITLE)
    expect(page.locator("#race-lane-2-block-size input")).to_have_value("as in the bar")
    page.locator("#race-lane-2-drafter input").click()
    expect(page.get_by_role("option", name="as in the bar")).to_be_visible()
