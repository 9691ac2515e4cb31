"""Downloads as the page shows them, and the buttons that make sense."""

from typing import Any

import pytest

from dflash_app.hub.hub import Standing
from dflash_app.hub.job_store import Job
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.ui.hub_jobs import acts, any_live, job_key, render_jobs

PAIR = Pair(name="p", title="P", family="qwen3", target=ModelRef(repo="org/p"))


def stand(status: Any = "not downloaded", here: int = 0) -> Standing:
    return Standing(PAIR, status, None, here, None, None)


def job(state: Any, **more: Any) -> Job:
    return Job(**{"id": 1, "pair": "p", "models": (), "state": state} | more)


@pytest.mark.parametrize(
    ("standing", "known", "found"),
    [
        (stand(), None, ["can-download"]),
        (stand("gated"), None, ["can-download"]),
        (stand(), job("queued"), ["can-pause", "can-cancel"]),
        (stand("partial", 5), job("active"), ["can-pause", "can-cancel"]),
        (stand("partial", 5), job("paused"), ["can-resume", "can-cancel", "can-delete"]),
        (stand("partial", 5), job("failed"), ["can-resume", "can-delete"]),
        (stand("partial", 5), job("interrupted"), ["can-resume", "can-delete"]),
        (stand("ready", 5), job("active"), ["can-pause", "can-cancel", "can-use"]),
        (stand("ready", 5), job("done"), ["can-delete", "can-use", "can-verify"]),
        (stand("ready"), None, ["can-use"]),
        (stand("not downloaded"), job("done"), ["can-download"]),
        (stand("planned"), None, []),
        (stand("not supported"), None, []),
        (None, None, []),
    ],
)
def test_buttons_follow_what_is_here_and_what_goes_on(
    standing: Standing | None, known: Job | None, found: list[str]
) -> None:
    assert acts(standing, known) == found


def test_progress_tells_share_bytes_rate_and_time_left() -> None:
    active = job("active", done_bytes=4_600_000, total_bytes=12_500_000, rate_bytes_s=1.25e6,
                 left_s=3671.0)  # fmt: skip
    html = render_jobs(stand("partial", 1), [active], local=True)
    assert "36 % · 4.6 MB of 12.5 MB · 1.2 MB/s · 1:01:11 left" in html
    assert 'aria-valuenow="36"' in html
    assert "Asking the hub" in render_jobs(stand(), [job("active")], local=True)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (job("queued"), "Waits for the download before it."),
        (
            job("paused", done_bytes=5, total_bytes=10),
            "what is there is kept. 5 B of 10 B.",
        ),
        (job("cancelled"), "Cancelled; what is there is kept"),
        (job("interrupted"), "resume it"),
        (job("active", total_bytes=10, message="The hub asks to wait."), "The hub asks to wait."),
        (job("failed", message="No room."), "No room."),
    ],
)
def test_every_state_is_one_sentence(known: Job, said: str) -> None:
    assert said in render_jobs(stand("partial", 1), [known], local=True)


def test_a_gated_model_links_to_its_licence_and_its_text_is_inert() -> None:
    url = 'https://hub/x"><script>'
    failed = job("failed", message="<b>gated</b>", licence_url=url)
    html = render_jobs(stand(), [failed], local=True)
    assert 'href="https://hub/x&quot;&gt;&lt;script&gt;" target="_blank" rel="noopener' in html
    assert "&lt;b&gt;gated" in html


def test_other_downloads_are_listed_once_and_ended_ones_can_be_cleared() -> None:
    jobs = [job("queued", id=4, pair="<i>"), job("paused", id=3, pair="<i>"), job("done", id=2)]
    html = render_jobs(stand("ready", 1), jobs, local=True)
    assert html.count("<li>") == 1
    assert "<b>&lt;i&gt;</b> queued" in html
    assert "can-clear" in html
    assert any_live(jobs)
    assert job_key(jobs) == ((4, "queued"), (3, "paused"), (2, "done"))


def test_a_page_for_strangers_shows_no_download_and_no_button() -> None:
    assert render_jobs(stand(), [job("active")], local=False) == '<div class="hub-jobs"></div>'
