"""A newer registry is checked as a whole, shown as a difference, and leaves the user's rows."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from dflash_app.errors import RegistryError
from dflash_app.hub.known_pairs import load_known_pairs
from dflash_app.registry.load import Registry, load_registry
from dflash_app.registry.update import Proposal, propose, take, update_path

OLD = """pairs:
  - {name: kept, title: Kept, family: qwen3, target: {repo: org/a}, block_size: 8}
  - {name: old, title: Old, family: qwen3, target: {repo: org/b}}
"""
NEW = """# newer
pairs:
  - {name: kept, title: Kept, family: qwen3, target: {repo: org/a, gated: true}, block_size: 16}
  - {name: mine, title: Theirs, family: qwen3, target: {repo: org/c}}
  - {name: fresh, title: Fresh, family: qwen3, target: {repo: org/d}}
"""
MINE = "pairs:\n  - {name: mine, title: Mine, family: qwen3, target: {repo: me/c}}\n"


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    path = tmp_path / "bundled.yaml"
    path.write_text(OLD)
    return path


@pytest.fixture
def user(home: Path) -> Path:
    path = home / "model_registry.yaml"
    path.write_text(MINE)
    return path


@pytest.fixture
def registry(bundled: Path, user: Path) -> Registry:
    return load_registry([bundled, user])


def test_the_difference_is_told_and_nothing_is_taken_yet(
    registry: Registry, home: Path, user: Path
) -> None:
    before = sorted(path.name for path in home.iterdir())
    proposal = propose(NEW, "new.yaml", registry, home)
    assert (proposal.added, proposal.removed) == (("fresh",), ("old",))
    assert proposal.left_out == ("mine",)
    (change,) = proposal.changed
    assert change.name == "kept"
    assert [key for key, _, _ in change.keys] == ["target", "block_size"]
    assert change.keys[1] == ("block_size", "8", "16")
    assert sorted(path.name for path in home.iterdir()) == before
    assert propose(OLD, "same.yaml", registry, home).empty


def test_taken_it_replaces_the_apps_rows_and_the_users_survive(
    registry: Registry, home: Path, bundled: Path, user: Path
) -> None:
    take(propose(NEW, "new.yaml", registry, home), home, bundled)
    known = load_known_pairs(home, bundled, [user])
    assert [pair.name for pair in known.pairs] == ["kept", "fresh", "mine"]
    assert known.get("mine").target.repo == "me/c"
    assert known.get("kept").block_size == 16
    assert known.problems == ()
    assert user.read_text() == MINE


def test_a_newer_app_brings_its_own_registry_and_the_old_update_is_not_used(
    registry: Registry, home: Path, bundled: Path, user: Path
) -> None:
    take(propose(NEW, "new.yaml", registry, home), home, bundled)
    old = update_path(home, bundled)
    bundled.write_text(OLD + "# the next version\n")
    assert "fresh" not in [pair.name for pair in load_known_pairs(home, bundled, [user]).pairs]
    take(propose(NEW, "new.yaml", load_registry([bundled, user]), home), home, bundled)
    assert not old.exists(), "what nobody reads any more is deleted"


def test_an_update_that_was_damaged_later_is_a_problem_and_the_apps_own_rows_are_used(
    registry: Registry, home: Path, bundled: Path, user: Path
) -> None:
    take(propose(NEW, "new.yaml", registry, home), home, bundled)
    update_path(home, bundled).write_text("pairs:\n  - {name: kept}\n")
    known = load_known_pairs(home, bundled, [user])
    assert [pair.name for pair in known.pairs] == ["kept", "old", "mine"]
    (problem,) = known.problems
    assert f"{update_path(home, bundled)}, line 2" in str(problem)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NEW + "  - {name: fresh, title: T, family: f, target: {repo: a/b}}\n", "line 6: the name"),
        (
            NEW.replace("gated: true", "gates: true"),
            "line 3: pair 'kept', target.gates is no known",
        ),
        (
            NEW.replace("block_size: 16", "block_size: 'x'"),
            "line 3: pair 'kept', block_size: input",
        ),
        (NEW.replace("org/d", "https://huggingface.co/org/d"), "line 5: pair 'fresh', target.repo"),
        (NEW.replace("org/d", "../d"), "line 5: pair 'fresh', target.repo: use a Hugging Face"),
        (NEW.replace("repo: org/d", "path: /etc"), "'fresh' names a folder of this machine (/etc)"),
        (NEW.replace("repo: org/d", "path: 'embedded:target'"), "'fresh' names a folder of this"),
        ("pairs:\n", "holds no pair"),
        ("<html>", "line 1: the file must begin with 'pairs:'"),
        ("pairs: [", "not valid YAML"),
    ],
)
def test_an_error_names_source_and_line_and_writes_nothing(
    registry: Registry, home: Path, text: str, said: str
) -> None:
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    with pytest.raises(RegistryError) as raised:
        propose(text, "https://x.org/r.yaml", registry, home)
    assert str(raised.value).startswith("https://x.org/r.yaml")
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before


def test_two_checks_at_once_do_not_see_each_others_text(registry: Registry, home: Path) -> None:
    texts = [NEW.replace("name: fresh", f"name: fresh{number}") for number in range(8)]
    with ThreadPoolExecutor(len(texts)) as pool:
        found = list(pool.map(lambda text: propose(text, "new.yaml", registry, home), texts))
    assert [each.added for each in found] == [(f"fresh{number}",) for number in range(8)]


def test_an_update_that_lost_the_embedded_pair_is_refused(home: Path) -> None:
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace, pytest.raises(RegistryError, match="'embedded'"):
        propose(NEW, "new.yaml", workspace.registry, home)


def test_where_the_folder_cannot_be_written_the_one_before_stays(
    tmp_path: Path, bundled: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    proposal = Proposal("s", (), (), (), (), NEW)
    with pytest.raises(RegistryError, match="cannot be written"):
        take(proposal, blocked, bundled)
    with pytest.raises(RegistryError, match="cannot be written"):
        propose(NEW, "s", load_registry([bundled]), blocked)


def test_an_update_sends_no_prompts_to_a_server_and_the_users_own_stay(
    registry: Registry, home: Path, bundled: Path, user: Path
) -> None:
    server = "server: 'http://else.where/v1', model: x"
    text = NEW.replace("target: {repo: org/d}", f"target: {{{server}}}, backends: [remote]")
    with pytest.raises(RegistryError, match=r"'fresh' is on a server \(http://else.where/v1\)"):
        propose(text, "new.yaml", registry, home)
    own = MINE.replace("target: {repo: me/c}", f"target: {{{server}}}, backends: [remote]")
    user.write_text(own)
    take(propose(NEW, "new.yaml", load_registry([bundled, user]), home), home, bundled)
    assert load_known_pairs(home, bundled, [user]).get("mine").remote
