"""What a user types becomes a row, or one sentence."""

from pathlib import Path

import pytest

from dflash_app.errors import RegistryError
from dflash_app.registry.custom import new_pair, read_ref, read_server, suggest_name
from dflash_app.registry.pair import ModelRef

TARGET, DRAFTER = ModelRef(repo="Qwen/Qwen3-8B"), ModelRef(repo="me/My_Drafter")


def test_repositories_and_folders_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own" / "model").mkdir(parents=True)
    folder = ModelRef(path=str((tmp_path / "own" / "model").resolve()))
    for text in (str(tmp_path / "own" / "model"), "~/own/model", "./own/model", " own/model "):
        assert read_ref(text) == folder
    assert read_ref("other/model") == ModelRef(repo="other/model")
    assert read_ref("other/model", "0123456").revision == "0123456"
    assert read_ref("embedded:drafter").path == "embedded:drafter"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "The drafter is missing"),
        ("  ", "The drafter is missing"),
        ("no-slash", "repository id such as Qwen/Qwen3-8B"),
        ("../no/such", "is no folder of this machine"),
        ("/no/such\x00folder", "is no folder of this machine"),
        ("~nobody-here/x", "is no folder of this machine"),
        ("<b>x</b>/y", "repository id"),
        ("x" * 5000, "repository id"),
    ],
)
def test_what_is_neither_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(RegistryError, match=said) as caught:
        read_ref(text, role="drafter")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["/", "/etc", "~", "./x", "..", "\\\\host\\share", "/no/such"])
def test_where_folders_are_not_taken_none_is_looked_at(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bool:
        raise AssertionError("the disk was asked")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(RegistryError, match="DFLASH_APP_LOCAL_FOLDERS=1"):
        read_ref(text, folders=False)
    assert read_ref("org/model", folders=False).repo == "org/model"


def test_a_revision_is_a_commit() -> None:
    with pytest.raises(RegistryError, match="commit id"):
        read_ref("org/model", "main")


def test_a_row_takes_what_is_given_and_the_registrys_rules_hold() -> None:
    pair = new_pair("mine", TARGET, DRAFTER, title="Mine", family="qwen3", block_size=8)
    assert (pair.name, pair.title, pair.family, pair.block_size) == ("mine", "Mine", "qwen3", 8)
    assert new_pair("", TARGET, DRAFTER).name == "my_drafter"
    for name in ("Mine", "a b", "-x", "x" * 65, "<b>"):
        with pytest.raises(RegistryError, match="name: use 1 to 64"):
            new_pair(name, TARGET, DRAFTER)
    with pytest.raises(RegistryError, match="title: use 1 to 1000"):
        new_pair("mine", TARGET, DRAFTER, title="two\nlines")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({"repo": "z-lab/Qwen3-8B-DFlash-b16"}, "qwen3-8b-dflash-b16"),
        ({"path": "/models/My drafter (2)"}, "my-drafter-2-"),
        ({"path": "/模型"}, "my-pair"),
        ({"path": "embedded:drafter"}, "drafter"),
    ],
)
def test_a_name_is_made_from_the_drafters(source: dict[str, str], name: str) -> None:
    assert suggest_name(ModelRef.model_validate(source)) == name


def test_a_server_is_its_address_and_the_name_that_it_serves() -> None:
    ref = read_server(" https://gpu-box:8000/v1/ ", " Qwen/Qwen3-8B ")
    assert (ref.server, ref.model) == ("https://gpu-box:8000/v1", "Qwen/Qwen3-8B")
    pair = new_pair("", ref, None, title="Mine")
    assert (pair.name, pair.remote, pair.backends, pair.drafter) == (
        "qwen3-8b",
        True,
        ("remote",),
        None,
    )
    assert new_pair("mine", ref, ref).drafter == ref
    with pytest.raises(RegistryError, match="both a 'server', or neither"):
        new_pair("mine", ref, DRAFTER)


def test_what_is_wrong_with_a_server_is_told_without_its_password() -> None:
    with pytest.raises(RegistryError, match="remove user and password") as refused:
        read_server("http://me:hunter2@gpu-box/v1", "x", role="drafter")
    assert "The drafter cannot be used" in str(refused.value)
    assert "hunter2" not in f"{refused.value} {refused.value.__cause__}"
    with pytest.raises(RegistryError, match="1 to 1000 printable characters"):
        read_server("http://gpu-box/v1", " ")


def test_an_address_in_the_place_of_a_model_leads_to_the_servers() -> None:
    for text in ("http://gpu-box:8000/v1", "HTTPS://gpu-box"):
        with pytest.raises(RegistryError, match="`dflash-app servers add`"):
            read_ref(text)
    with pytest.raises(RegistryError, match="without the hub's address"):
        read_ref("https://huggingface.co/org/model")
