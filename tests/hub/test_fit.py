"""Whether a pair fits is told before the download, and is the same after it."""

import hashlib
from pathlib import Path

import pytest

from dflash_app.cli import main
from dflash_app.errors import HubError
from dflash_app.hub.disk import repo_folder
from dflash_app.hub.fit import PRECISIONS, Device, fit_pair
from dflash_app.hub.process import Transfer, Wanted
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.settings import EMBEDDED_DIR, Settings
from tests.hub.conftest import model_files
from tests.hub.server import HubServer
from tests.hub.test_served_pairs import files_of

ROOMY, CRAMPED = Device("roomy", 10**9), Device("cramped", 10**6)


@pytest.fixture
def pair(server: HubServer) -> Pair:
    """The embedded pair as the hub would have it."""
    refs = {
        role: ModelRef(
            repo=f"org/{role}",
            revision=server.add(f"org/{role}", files_of(EMBEDDED_DIR / role)),
            size_bytes=(EMBEDDED_DIR / role / "model.safetensors").stat().st_size,
        )
        for role in ("target", "drafter")
    }
    return Pair(name="p", title="P", family="qwen3", block_size=16, **refs)


def test_the_answer_before_the_download_is_the_one_after_it(
    pair: Pair, server: HubServer, cache: Path
) -> None:
    before = fit_pair(pair, [ROOMY, CRAMPED])
    assert not cache.exists(), "asking writes nothing"
    assert not [r for r in server.asked("/cdn/") if r.range is None], "no weights were fetched"
    assert before.source == "hub"
    assert before.download_bytes == sum(
        (EMBEDDED_DIR / role / "model.safetensors").stat().st_size for role in ("target", "drafter")
    )
    assert before.disk_fits
    assert [(fit.precision, fit.device) for fit in before.fits] == [
        (precision, device.name) for precision in PRECISIONS for device in (ROOMY, CRAMPED)
    ]
    assert [fit.fits for fit in before.fits] == [True, False] * len(PRECISIONS)
    assert before.fits[1].longest_context == 0
    assert before.fits[0].need is not None
    assert sum(part for _, part in before.fits[0].need.breakdown()) == before.fits[0].needed_bytes
    needs = [fit.needed_bytes for fit in before.fits[::2]]
    assert needs == sorted(needs, reverse=True), "fewer bits need less"
    wanted = [
        Wanted(str(ref.repo), ref.revision, role)
        for role, ref in (("target", pair.target), ("drafter", pair.drafter))
        if ref
    ]
    transfer = Transfer(wanted)
    assert [event["event"] for event in transfer.events()][-1] == "done"
    transfer.close()
    server.stop()
    after = fit_pair(pair, [ROOMY, CRAMPED])
    assert (after.source, after.download_bytes) == ("files here", 0)
    assert after.fits == before.fits


def test_another_revision_on_disk_does_not_make_the_download_smaller(
    pair: Pair, server: HubServer, cache: Path
) -> None:
    old = server.add("org/target", model_files(3_000_000))
    transfer = Transfer([Wanted("org/target", old, "target")])
    assert [event["event"] for event in transfer.events()][-1] == "done"
    transfer.close()
    blobs = repo_folder("org/target") / "blobs"
    weights = EMBEDDED_DIR / "target" / "model.safetensors"
    whole = fit_pair(pair, [ROOMY]).download_bytes
    assert whole == sum(ref.size_bytes or 0 for ref in (pair.target, pair.drafter) if ref)
    begun = blobs / f"{hashlib.sha256(weights.read_bytes()).hexdigest()}.incomplete"
    begun.write_bytes(bytes(1000))
    assert fit_pair(pair, [ROOMY]).download_bytes == whole - 1000


def test_without_an_answer_the_registrys_sizes_are_used_and_the_reason_is_told(
    pair: Pair, server: HubServer
) -> None:
    server.repos["org/drafter"].gated = True
    found = fit_pair(pair, [ROOMY, CRAMPED])
    assert found.source == "registry"
    assert found.reason is not None
    assert "org/drafter is gated" in found.reason
    assert [fit.fits for fit in found.fits] == [True, False] * len(PRECISIONS)
    assert {fit.longest_context for fit in found.fits} == {None}
    requests = len(server.requests)
    offline = fit_pair(pair, [ROOMY], online=False)
    assert offline.reason == "org/target is not here, and the hub was not asked."
    assert len(server.requests) == requests
    nothing = pair.model_copy(update={"target": ModelRef(repo="org/target")})
    with pytest.raises(HubError, match="registry does not tell the size of pair 'p'"):
        fit_pair(nothing, [ROOMY], online=False)


def test_a_target_of_unknown_size_is_estimated_by_its_name_and_marked(pair: Pair) -> None:
    target = ModelRef(repo="org/target-4B")
    found = fit_pair(pair.model_copy(update={"target": target}), [ROOMY], online=False)
    assert (found.source, found.download_bytes) == ("its name", None)
    assert all(fit.by_name and fit.longest_context is None for fit in found.fits)
    drafter_bytes = pair.drafter.size_bytes if pair.drafter else None
    assert found.fits[0].needed_bytes == 8 * 10**9 + (drafter_bytes or 0)


def test_the_command_tells_verdicts_and_the_arithmetic(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub", "fit", "embedded", "--explain", "--context", "100"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[1].split()[:2] == ["bf16", "cpu"]
    assert "target cache at 100 tokens" in told.err
    assert main(["hub", "fit", "embedded", "--json"]) == 0
    assert '"longest_context": 2048' in capsys.readouterr().out
