"""A target and a drafter chosen apart are one pair, which loads, or is refused, as any other."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shutil import copytree

import pytest

from dflash_app.engine.local import LocalPair
from dflash_app.errors import LoadError, RegistryError, UnknownPair
from dflash_app.events import Finished, StepDone
from dflash_app.hub.choices import find_target, keys_of, resolve, targets, targets_of
from dflash_app.hub.known_pairs import PINS, load_known_pairs
from dflash_app.hub.pins import write_pin
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import Pair
from dflash_app.settings import EMBEDDED_DIR, Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.e2e.tiny_pair import write_tiny_pair
from tests.fakes import ask

BUNDLED = """pairs:
  - {name: base, title: Base 8B, family: qwen3, target: {repo: org/M-8B, revision: aaaaaaa},
     drafter: {repo: lab/D1, revision: bbbbbbb}, block_size: 16, backends: [torch, mlx]}
  - {name: base-two, title: Base 8B, family: qwen3, target: {repo: org/M-8B, revision: aaaaaaa},
     drafter: {repo: lab/D2}, block_size: 8}
  - {name: base-old, title: Base 8B, family: qwen3, target: {repo: org/M-8B, revision: aaaaaaa},
     drafter: {repo: lab/D1, revision: ccccccc}}
  - {name: alone, title: Alone, family: qwen3, target: {repo: org/Alone}, status: planned}
"""
USERS = """pairs:
  - {name: awq, title: AWQ, family: qwen3, target: {repo: other/M-8B-AWQ}, drafter: {repo: me/D3}}
  - {name: newer, title: Newer, family: qwen3, target: {repo: org/M-8B}, drafter: {repo: me/D3}}
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "bundled.yaml").write_text(BUNDLED)
    (tmp_path / "users.yaml").write_text(USERS)
    return read(tmp_path)


def read(home: Path) -> Registry:
    found = load_known_pairs(home, home / "bundled.yaml", [home / "users.yaml"])
    assert found.problems == ()
    return found


def drafters(registry: Registry, target: str) -> list[str]:
    return [each.ref.source for each in find_target(registry, target).drafters]


def test_each_target_is_offered_once_with_every_drafter_of_its_line(registry: Registry) -> None:
    assert [(each.key, each.quantization) for each in targets(registry)] == [
        ("org/M-8B@aaaaaaa", None),
        ("org/Alone", None),
        ("other/M-8B-AWQ", "AWQ"),
        ("org/M-8B", None),
    ]
    assert drafters(registry, "org/M-8B@aaaaaaa") == ["lab/D1", "lab/D2", "lab/D1", "me/D3"]
    assert drafters(registry, "other/M-8B-AWQ") == ["me/D3", "lab/D1", "lab/D2"]
    assert drafters(registry, "org/Alone") == []
    assert [each.key for each in targets_of(registry, "lab/D1@bbbbbbb")] == [
        "org/M-8B@aaaaaaa", "other/M-8B-AWQ", "org/M-8B",
    ]  # fmt: skip
    awq = find_target(registry, "other/M-8B-AWQ")
    borrowed = {each.key: each.trained_for for each in awq.drafters}
    assert borrowed == {"me/D3": None, "lab/D1@bbbbbbb": "org/M-8B", "lab/D2": "org/M-8B"}


def test_rows_are_resolved_to_themselves_and_others_to_one_composed_pair(
    registry: Registry,
) -> None:
    for row in registry.pairs:
        assert resolve(registry, *keys_of(row)) is row
    pair = resolve(registry, "other/M-8B-AWQ", "lab/D1@bbbbbbb")
    assert pair not in registry.pairs
    assert keys_of(pair) == ("other/M-8B-AWQ", "lab/D1@bbbbbbb")
    assert registry.get(pair.name) is pair
    assert pair.backends == ("torch", "mlx")
    assert len({each.name for each in (*registry.pairs, *registry.composed)}) == len(
        registry.pairs
    ) + len(registry.composed)


def test_every_offered_choice_resolves_to_a_pair_of_just_these_two(registry: Registry) -> None:
    for target in targets(registry):
        assert resolve(registry, target.key, None).target == target.ref
        for drafter in target.drafters:
            pair = resolve(registry, target.key, drafter.key)
            assert (pair.name, pair.target, pair.drafter) == (
                drafter.pair, target.ref, drafter.ref,
            )  # fmt: skip


def test_a_choice_and_its_name_outlive_the_commit_that_a_download_records(
    registry: Registry, tmp_path: Path
) -> None:
    before = resolve(registry, "other/M-8B-AWQ", "lab/D2")
    write_pin(tmp_path / PINS, "other/M-8B-AWQ", "c" * 40)
    after = resolve(read(tmp_path), "other/M-8B-AWQ", "lab/D2")
    assert after.name == before.name
    assert (before.target.revision, after.target.revision) == (None, "c" * 40)


@pytest.mark.parametrize(
    ("target", "drafter", "message"),
    [
        ("org/Nothing", None, "No pair has the target 'org/Nothing'"),
        ("org/Alone", "lab/D1", "No row says that 'lab/D1' drafts for org/Alone: add the pair"),
        ("org/M-8B", "../../etc", "No row says"),
    ],
)
def test_what_no_row_says_is_refused_with_one_sentence(
    registry: Registry, target: str, drafter: str | None, message: str
) -> None:
    with pytest.raises(RegistryError, match=message):
        resolve(registry, target, drafter)


ROWS = """pairs:
  - {{name: copy, title: Copy, family: qwen3, target: {{path: {folder}/copy}},
     drafter: {{path: {folder}/second}}, block_size: 16}}
  - {{name: borrowed, title: Borrowed, family: qwen3, target: {{path: {folder}/copy}},
     drafter: {{path: "embedded:drafter"}}}}
  - {{name: misfit, title: Misfit, family: qwen3, target: {{path: {folder}/copy}},
     drafter: {{path: {folder}/tiny/drafter}}}}
"""


@pytest.fixture
def workspace(settings: Settings, tmp_path: Path) -> Iterator[Workspace]:
    """The embedded target joined with a copy of it, whose drafters it can therefore have."""
    copytree(EMBEDDED_DIR / "target", tmp_path / "copy")
    copytree(EMBEDDED_DIR / "drafter", tmp_path / "second")
    write_tiny_pair(tmp_path / "tiny", tmp_path / "unused.yaml")
    settings.user_registry.write_text(ROWS.format(folder=tmp_path))
    with closing(open_workspace(settings)) as opened:
        yield opened


def test_a_composed_pair_is_loaded_on_the_target_in_memory_and_runs_as_itself(
    workspace: Workspace, tmp_path: Path
) -> None:
    pair = workspace.resolve("embedded:target", str(tmp_path / "second"))
    assert workspace.state(pair.name).status == "ready"
    first = workspace.loaded("embedded")
    assert isinstance(first, LocalPair)
    kept = first._models.target  # type: ignore[attr-defined]
    loaded = workspace.loaded(pair.name)
    assert isinstance(loaded, LocalPair)
    assert loaded._models.target is kept  # type: ignore[attr-defined]
    events = list(workspace.run(loaded, ask("What is 6 x 7?", max_new_tokens=20), source="test"))
    assert isinstance(events[-1], Finished)
    assert any(isinstance(event, StepDone) and event.num_accepted for event in events)
    assert workspace.store.list_runs()[0].start.pair == pair.name


def test_a_drafter_of_the_line_that_does_not_fit_is_refused_and_the_pair_before_stays(
    workspace: Workspace, tmp_path: Path
) -> None:
    kept = workspace.loaded("embedded")
    pair = workspace.resolve("embedded:target", str(tmp_path / "tiny" / "drafter"))
    with pytest.raises(LoadError, match="hidden size"):
        workspace.loaded(pair.name)
    assert workspace.loaded("embedded") is kept


def test_a_composed_pair_is_no_row_that_could_be_removed(
    workspace: Workspace, tmp_path: Path
) -> None:
    pair: Pair = workspace.resolve("embedded:target", str(tmp_path / "second"))
    with pytest.raises(RegistryError, match="composed of two rows"):
        workspace.remove_pair(pair.name)
    with pytest.raises(UnknownPair):
        workspace.state(f"{pair.name}x")
