"""A pair of one's own, added in the page: checked, chosen in both tabs, and it answers."""

import re
import shutil

from playwright.sync_api import Page, expect

from dflash_app.settings import EMBEDDED_DIR
from tests.e2e.conftest import OpenTab
from tests.e2e.running_app import RunningApp, choose, open_tab, send
from tests.e2e.test_page import ENDED, QUESTION, newest_run


def fill(page: Page, **texts: str) -> None:
    for name, text in texts.items():
        page.locator(f"#add-{name} input, #add-{name} textarea").fill(text)


def test_a_local_pair_is_added_answers_races_and_is_there_after_a_reload(
    page: Page, app: RunningApp, open_browser_tab: OpenTab
) -> None:
    folder = app.home / "copied"
    for name in ("target", "drafter"):
        shutil.copytree(EMBEDDED_DIR / name, folder / name)
    page.locator("#add-pair button").first.click()
    fill(page, target=str(folder / "target"), drafter="no drafter at all", name="copied")
    page.locator("#add-check").click()
    expect(page.locator("#add-result")).to_contain_text("a repository id such as Qwen")
    fill(page, drafter=str(folder / "drafter"))
    page.locator("#add-check").click()
    expect(page.locator("#add-result")).to_contain_text("The drafter fits this target.")
    page.locator("#add-save").click()
    expect(page.locator("#add-result")).to_contain_text("copied is saved")
    expect(page.locator("#pair input")).to_have_value("copied")
    expect(page.locator("#pair-facts")).to_contain_text(str(folder))
    send(page, QUESTION)
    expect(page.locator("#chat-status")).to_contain_text(ENDED)
    run = newest_run(app)
    assert (run["pair"], run["mode"], run["source"]) == ("copied", "dflash", "chat")
    open_tab(page, "Compare")
    page.locator("#race-start").click()
    expect(page.locator("#race-outcome")).to_contain_text("✓ identical")
    assert newest_run(app)["pair"] == "copied"
    later = open_browser_tab()
    choose(later, "pair", "copied")
    expect(later.locator("#pair-facts")).to_contain_text(str(folder))
    expect(later.locator("#pair-facts .badge")).to_have_text(re.compile("ready"))


def test_the_section_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#add-pair button").first.click()
    for name in ("target", "drafter", "name"):
        expect(page.locator(f"#add-{name}")).to_be_visible()
    fill(page, target="some-organisation/" + "a-very-long-name" * 4, drafter="org/other")
    page.locator("#add-check").click()
    expect(page.locator("#add-result")).to_contain_text("not on this machine")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
