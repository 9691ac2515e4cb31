"""Whatever is wrong with a pair or a prompt: one sentence with the cure, and the app goes on.

Every damage is done to real files, beside the shipped pair in memory, which must answer after each
as it did before.
"""

import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dflash_app.engine.prompt import template_warning
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.errors import (
    DFlashAppError,
    LoadError,
    PairNotReady,
    PromptTooLong,
    RequestError,
    UnsupportedFormat,
)
from dflash_app.events import DecodeEvent, Finished, TextDelta
from dflash_app.request import GenerationRequest, Message
from dflash_app.settings import EMBEDDED_DIR, load_settings
from dflash_app.workspace import Workspace, open_workspace
from tests.e2e.tiny_pair import write_tiny_pair

OPTIONS = LoadOptions(device="cpu", num_threads=1)
QUESTION = "How many divisors does 196 have?"
CAME_BACK = "; 'embedded' was loaded again."


ROW = """
- name: {name}
  title: {name}
  family: qwen3
  target: {{path: "{folder}/target"}}
  drafter: {{path: "{folder}/drafter"}}
  backends: [torch]
"""


def row(name: str, folder: Path) -> str:
    """A pair's line in a registry file."""
    return ROW.format(name=name, folder=folder)


@pytest.fixture(scope="module")
def good_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pair that nothing is wrong with: `target` and `drafter`."""
    folder = tmp_path_factory.mktemp("good")
    write_tiny_pair(folder, folder / "registry.yaml")
    return folder


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = open_workspace(load_settings(tmp_path_factory.mktemp("home")))
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def expected(app: Workspace) -> str:
    """What the shipped pair answers before anything went wrong."""
    return say(app.loaded("embedded", OPTIONS), QUESTION)


@pytest.fixture
def offer(app: Workspace, good_pair: Path, tmp_path: Path) -> Callable[..., str]:
    """Make a copy of the good pair, damage it, and put it into the user's registry."""

    def offer(damage: Callable[[Path], object]) -> str:
        folder = tmp_path / "pair"
        shutil.copytree(good_pair, folder)
        damage(folder)
        app.settings.user_registry.write_text("pairs:" + row("damaged", folder))
        app._reload_registry()
        assert app.registry.problems == ()
        return "damaged"

    return offer


def say(loaded: LoadedPair, text: str, **limits: Any) -> str:
    request = GenerationRequest((Message("user", text),), 24, **limits)
    events: list[DecodeEvent] = list(loaded.stream(request))
    assert isinstance(events[-1], Finished)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def fill_with_nan(state: dict[str, torch.Tensor], name: str) -> None:
    state[name][0] = torch.nan


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])


def pickle_instead(folder: Path) -> None:
    """A pickle that would leave a trace where it is opened."""

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (folder / "opened",)

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))


def renamed_pickle(folder: Path) -> None:
    pickle_instead(folder)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")


def nested(folder: Path, **changes: Any) -> None:
    raw = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", dflash_config=raw["dflash_config"] | changes)


Damage = Callable[[Path], object]

TOLD_BY_SMALL_FILES: dict[str, tuple[Damage, str]] = {
    "another vocabulary": (
        lambda pair: edit(pair / "drafter" / "config.json", vocab_size=99),
        r"vocabulary: 99 against 16\): choose the drafter",
    ),
    "a mask token outside the vocabulary": (
        lambda pair: nested(pair / "drafter", mask_token_id=16),
        "mask_token_id",
    ),
    "a layer that the target lacks": (
        lambda pair: nested(pair / "drafter", target_layer_ids=[0, 2, 4]),
        r"layer: 4 against 4 layers\): choose the drafter",
    ),
    "a missing tensor of the drafter": (
        lambda pair: rewrite(pair / "drafter", lambda state: state.pop("fc.weight")),
        r"fc\.weight.*choose a z-lab DFlash drafter",
    ),
    "a missing norm of the drafter": (
        lambda pair: rewrite(
            pair / "drafter", lambda state: state.pop("layers.0.input_layernorm.weight")
        ),
        r"no tensor layers\.0\.input_layernorm\.weight.*download it again",
    ),
    "a truncated target": (
        lambda pair: cut(pair / "target" / "model.safetensors"),
        "is damaged; download it again",
    ),
    "a truncated drafter": (
        lambda pair: cut(pair / "drafter" / "model.safetensors"),
        "is damaged; download it again",
    ),
    "a pickled target": (
        lambda pair: pickle_instead(pair / "target"),
        "can run code: choose a model with safetensors",
    ),
    "a pickled drafter": (
        lambda pair: pickle_instead(pair / "drafter"),
        "can run code: choose a model with safetensors",
    ),
    "a pickle under another name": (
        lambda pair: renamed_pickle(pair / "target"),
        "is damaged; download it again",
    ),
    "an unknown architecture": (
        lambda pair: edit(pair / "target" / "config.json", model_type="mixtral"),
        "'mixtral' are not supported yet: choose a pair whose target is one of",
    ),
    "a family that is a list": (
        lambda pair: edit(pair / "target" / "config.json", model_type=["qwen3"]),
        "are not supported yet: choose a pair whose target is one of",
    ),
    "a drafter of a billion layers": (
        lambda pair: edit(pair / "drafter" / "config.json", num_hidden_layers=10**9),
        r"promises 1000000000 layers, and there are \d+ tensors: download the drafter again",
    ),
    "a drafter of a negative size": (
        lambda pair: edit(pair / "drafter" / "config.json", intermediate_size=-1),
        "a size of the layers is below 1",
    ),
    "a drafter of an unknown activation": (
        lambda pair: edit(pair / "drafter" / "config.json", hidden_act="x"),
        "is no activation",
    ),
    "a drafter whose kinds of attention are a number": (
        lambda pair: nested(pair / "drafter", attention_modes=5),
        "5 attention",
    ),
    "a drafter with an unknown head": (
        lambda pair: edit(pair / "drafter" / "config.json", architectures=["DominoDraftModel"]),
        "Domino format, which is not supported yet: choose",
    ),
    "a config that is no JSON": (
        lambda pair: (pair / "target" / "config.json").write_text("{"),
        r"target/config\.json.*download the (model|target) again|download the target again.*JSON",
    ),
    "a damaged tokenizer": (
        lambda pair: (pair / "target" / "tokenizer.json").write_text("{"),
        "tokenizer in .* cannot be loaded; download the target again",
    ),
}
"""Damage and message; the pair in memory is not touched."""

TOLD_BY_WEIGHTS: dict[str, tuple[Damage, str]] = {
    "a missing tensor of the target": (
        lambda pair: rewrite(
            pair / "target", lambda state: state.pop("model.layers.2.mlp.up_proj.weight")
        ),
        r"incomplete; download it again: model\.layers\.2\.mlp\.up_proj\.weight",
    ),
    "not a number in the drafter": (
        lambda pair: rewrite(pair / "drafter", lambda state: fill_with_nan(state, "fc.weight")),
        r"fc\.weight in .* no finite numbers .*: download the drafter again",
    ),
    "not a number in the target": (
        lambda pair: rewrite(
            pair / "target",
            lambda state: fill_with_nan(state, "model.layers.1.mlp.up_proj.weight"),
        ),
        r"layers\.1\.mlp\.up_proj\.weight.*(no finite numbers|NaN).*download",
    ),
    "a target without heads": (
        lambda pair: edit(pair / "target" / "config.json", num_attention_heads=0),
        "cannot be loaded; download",
    ),
    "a target of another width than its config says": (
        lambda pair: edit(pair / "target" / "config.json", intermediate_size=40),
        r"incomplete; download it again: model\.layers\.0\.mlp\.\w+\.weight",
    ),
}
"""Damage and message; the pair in memory had to go, and comes back."""


def refuse(app: Workspace, name: str) -> DFlashAppError:
    """The error of a load, held to the form that all of them have."""
    with pytest.raises((LoadError, PairNotReady)) as caught:
        app.loaded(name, OPTIONS)
    assert_one_sentence(str(caught.value))
    return caught.value


def assert_one_sentence(text: str) -> None:
    """One line that ends with its only full stop before a space, and tells what to do."""
    assert "\n" not in text
    assert "Traceback" not in text
    assert text.endswith(".")
    assert not re.search(r"\.\s+[A-Z]", text), "more than one sentence"
    assert re.search(r"\b(choose|download|put|correct|shorten|type|install|free)\b", text)


@pytest.mark.parametrize("what", TOLD_BY_SMALL_FILES)
def test_what_small_files_tell_is_refused_while_the_loaded_pair_stays(
    app: Workspace, expected: str, offer: Callable[..., str], what: str, tmp_path: Path
) -> None:
    damage, message = TOLD_BY_SMALL_FILES[what]
    loaded = app.loaded("embedded", OPTIONS)
    error = refuse(app, offer(damage))
    assert re.search(message, str(error)), str(error)
    assert app.loaded("embedded", OPTIONS) is loaded
    assert say(loaded, QUESTION) == expected
    assert not list(tmp_path.rglob("opened")), "a pickle was opened"


@pytest.mark.parametrize("what", TOLD_BY_WEIGHTS)
def test_what_only_weights_tell_is_refused_and_the_pair_before_comes_back(
    app: Workspace, expected: str, offer: Callable[..., str], what: str
) -> None:
    damage, message = TOLD_BY_WEIGHTS[what]
    app.loaded("embedded", OPTIONS)
    error = refuse(app, offer(damage))
    assert re.search(message, str(error)), str(error)
    assert str(error).endswith(CAME_BACK)
    held = app._held._held
    assert held is not None
    assert held.pair.name == "embedded"
    assert app.loaded("embedded", OPTIONS) is held.loaded
    assert say(held.loaded, QUESTION) == expected


def test_a_drafter_of_another_width_is_refused(
    app: Workspace, expected: str, offer: Callable[..., str]
) -> None:
    def widen(pair: Path) -> None:
        shutil.rmtree(pair / "drafter")
        shutil.copytree(EMBEDDED_DIR / "drafter", pair / "drafter")

    loaded = app.loaded("embedded", OPTIONS)
    assert re.search(r"hidden size: 256 against 32\): choose", str(refuse(app, offer(widen))))
    assert app.loaded("embedded", OPTIONS) is loaded
    assert say(loaded, QUESTION) == expected


def test_a_tokenizer_without_a_template_gets_a_plain_one_and_it_is_said(
    app: Workspace, offer: Callable[..., str]
) -> None:
    def forget_template(pair: Path) -> None:
        (pair / "target" / "chat_template.jinja").unlink()

    loaded = app.loaded(offer(forget_template), OPTIONS)
    (warning,) = [each for each in loaded.warnings if "chat template" in each]
    assert warning == template_warning(loaded._tokenizer)  # type: ignore[attr-defined]
    assert_one_sentence(warning)
    assert say(loaded, "word **strong** <|im_end|>")
    assert not [each for each in app.loaded("embedded", OPTIONS).warnings if "template" in each]


@pytest.mark.parametrize("text", ["", "  \n "])
def test_an_empty_prompt_is_refused(app: Workspace, expected: str, text: str) -> None:
    loaded = app.loaded("embedded", OPTIONS)
    with pytest.raises(RequestError, match="type a question first") as caught:
        say(loaded, text)
    assert_one_sentence(str(caught.value))
    assert say(loaded, QUESTION) == expected


def test_a_prompt_over_the_context_limit_is_refused(app: Workspace, expected: str) -> None:
    loaded = app.loaded("embedded", OPTIONS)
    with pytest.raises(PromptTooLong, match="shorten it or start a new one") as caught:
        say(loaded, "word " * loaded.context_length)
    assert_one_sentence(str(caught.value))
    assert say(loaded, QUESTION) == expected


def test_a_pair_that_cannot_come_back_is_said_too(
    app: Workspace, offer: Callable[..., str], good_pair: Path, tmp_path: Path
) -> None:
    name = offer(lambda pair: None)
    loaded = app.loaded(name, OPTIONS)
    assert say(loaded, "word")
    second = tmp_path / "next"
    shutil.copytree(good_pair, second)
    rewrite(second / "drafter", lambda state: fill_with_nan(state, "fc.weight"))
    with app.settings.user_registry.open("a") as file:
        file.write(row("next", second))
    app._reload_registry()
    cut(tmp_path / "pair" / "drafter" / "model.safetensors")
    error = refuse(app, "next")
    assert str(error).endswith(f"; {name!r} could not be loaded again either: choose a pair.")
    assert say(app.loaded("embedded", OPTIONS), QUESTION)


def test_an_unsupported_pair_is_told_apart_from_a_damaged_one(
    app: Workspace, offer: Callable[..., str]
) -> None:
    app.loaded("embedded", OPTIONS)
    name = offer(TOLD_BY_SMALL_FILES["an unknown architecture"][0])
    assert isinstance(refuse(app, name), UnsupportedFormat)
    assert app.state(name).status == "not supported"
