"""What a folder holds is said rightly for every format, and what does not fit is refused early."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from dflash_app.backends.torch.backend import TorchBackend
from dflash_app.backends.torch.candidate import check_fit, consider
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.backends.torch.inspection import (
    TargetInspection,
    check_pair,
    inspect_folder,
    inspect_target,
)
from dflash_app.backends.torch.selftest.tiny_families import build_model
from dflash_app.drafters.inspection import DrafterInspection, compare, inspect_drafter
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import LoadError, RegistryError, UnsupportedFormat
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.settings import EMBEDDED_DIR
from tests.backends.torch.drafter_files import (
    DFLASH2,
    SLIDING,
    VOCAB,
    random_drafter,
    speculators_config,
    write_block7,
    write_drafter,
    write_muse_assistant,
)

EMPTY = Registry((), (), (), {})


def _zlab(folder: Path, **changes: Any) -> Path:
    save_drafter(random_drafter(num_target_layers=4, **changes), folder)
    return folder


def _speculators(folder: Path, **changes: Any) -> Path:
    return write_drafter(folder, speculators_config(**changes), random_drafter().state_dict())


@pytest.fixture
def target(make_target: Callable[..., Any], tmp_path: Path) -> Path:
    make_target("qwen3", VOCAB).model.save_pretrained(tmp_path / "target")
    return tmp_path / "target"


def _tokenizer(folder: Path, words: list[str], special: dict[int, str] | None = None) -> None:
    """A tokenizer.json with these words, and special tokens at the ids after them."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    wrapped.add_special_tokens({"additional_special_tokens": [*(special or {}).values()]})
    wrapped.save_pretrained(folder)
    assert all(wrapped.convert_tokens_to_ids(name) == i for i, name in (special or {}).items())


@pytest.mark.parametrize(
    ("write", "name", "generation", "block_size", "own"),
    [
        (_zlab, "z-lab", "DFlash", 8, (False, False)),
        (
            lambda folder: _zlab(folder, architectures=["DFlash2DraftModel"], **DFLASH2),
            "z-lab", "DFlash 2", 8, (False, False),
        ),
        (_speculators, "speculators", "DFlash", 8, (False, False)),
        (write_block7, "DeepSpec", "DFlash", 8, (True, True)),
        (write_muse_assistant, "muse_glimmer_assistant", "DFlash", 8, (False, False)),
    ],
)  # fmt: skip
def test_every_format_is_told_with_its_figures(
    write: Callable[[Path], object],
    name: str,
    generation: str,
    block_size: int,
    own: tuple[bool, bool],
    tmp_path: Path,
) -> None:
    write(tmp_path / "drafter")
    found = inspect_folder(tmp_path / "drafter")
    assert isinstance(found, DrafterInspection)
    assert (found.format, found.generation, found.block_size) == (name, generation, block_size)
    assert (found.own_embedding, found.own_head) == own
    assert (found.hidden_size, found.num_layers, found.mask_token_id) == (32, 2, 95)
    assert found.dtypes == ("float32",)
    assert found.size_bytes == 4 * found.num_parameters > 0
    written = json.loads(json.dumps(found.as_json()))
    assert written["kind"] == "drafter"
    assert "config" not in written


def test_layers_are_told_in_words_from_the_first_on(tmp_path: Path) -> None:
    found = inspect_drafter(_zlab(tmp_path, **SLIDING))
    assert found.attention == "1 sliding 6 causal, then 1 full bidirectional"


@pytest.mark.parametrize(
    ("family", "rollback"),
    [("qwen3", "crop"), ("qwen3_5", "replay"), ("gemma4", "crop"), ("deepseek_v4", "slice")],
)
def test_a_target_is_told_by_its_text_model(family: str, rollback: str, tmp_path: Path) -> None:
    model = build_model(family, whole=True)
    model.save_pretrained(tmp_path)
    found = inspect_folder(tmp_path)
    assert isinstance(found, TargetInspection)
    assert (found.family, found.rollback) == (family, rollback)
    text = model.config.get_text_config(decoder=True)
    assert (found.hidden_size, found.vocab_size) == (text.hidden_size, text.vocab_size)
    assert (found.num_layers, found.context_length) == (text.num_hidden_layers, 512)
    assert found.quantization is None


def test_an_unknown_family_is_refused_by_its_name(target: Path) -> None:
    _edit(target, model_type="mamba")
    with pytest.raises(UnsupportedFormat, match="family 'mamba' are not supported yet"):
        inspect_folder(target)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Domino", {"dflash_config": {"projector_type": "domino"}}),
        ("DSpark", {"architectures": ["DSparkDraftModel"]}),
        ("EAGLE", {"architectures": ["LlamaForCausalLMEagle3"]}),
        ("MiMo", {"architectures": ["MiMoV2DFlash"]}),
        ("Laguna", {"architectures": ["DFlashLagunaForCausalLM"], "model_type": "laguna"}),
    ],
)
def test_a_refused_format_is_taken_for_no_target(
    name: str, config: dict[str, Any], tmp_path: Path
) -> None:
    _edit(_zlab(tmp_path), **config)
    with pytest.raises(UnsupportedFormat, match=f"in the {name}"):
        inspect_folder(tmp_path)


def test_a_folder_of_pickles_is_refused_without_opening_one(tmp_path: Path) -> None:
    (_zlab(tmp_path) / "model.safetensors").unlink()
    (tmp_path / "model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(UnsupportedFormat, match="can run code"):
        inspect_folder(tmp_path)


def test_a_config_of_strange_values_is_one_sentence(tmp_path: Path) -> None:
    _edit(_zlab(tmp_path), dflash_config=[1], architectures=7)
    with pytest.raises(LoadError) as caught:
        inspect_folder(tmp_path)
    assert "\n" not in str(caught.value)


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": 64}, "hidden size: 64 against 32"),
        ({"vocab_size": 100}, "vocabulary: 100 against 96"),
        ({"target_layer_ids": [0, 2, 4]}, "deepest tapped layer: 4 against 4 layers"),
    ],
)
def test_a_drafter_of_another_shape_is_refused_before_any_weight_is_read(
    changes: dict[str, Any], reason: str, target: Path, tmp_path: Path
) -> None:
    drafter = _zlab(tmp_path / "drafter", **changes)
    for folder in (target, drafter):  # all weights become NaN: whoever reads them would say so
        file = folder / "model.safetensors"
        content = file.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        file.write_bytes(content[:begin] + b"\xff" * (len(content) - begin))
    with pytest.raises(LoadError, match=reason) as caught:
        check_pair(target, drafter, _row())
    assert "choose the drafter that was trained for it" in str(caught.value)


def _row(**changes: Any) -> Pair:
    row = {"name": "p", "title": "P", "family": "qwen3", "target": ModelRef(repo="org/Target")}
    return Pair.model_validate(row | changes)


def test_a_sound_pair_has_nothing_said_of_it(target: Path, tmp_path: Path) -> None:
    assert check_pair(target, _zlab(tmp_path / "drafter"), _row(block_size=8)) == ()


def test_every_reason_is_listed_not_only_the_first(target: Path, tmp_path: Path) -> None:
    drafter = inspect_drafter(_zlab(tmp_path / "d", hidden_size=64, vocab_size=100))
    fit = compare(drafter, inspect_target(target))
    assert not fit.fits
    assert len(fit.reasons) == 2


def test_another_block_size_than_the_rows_is_a_warning(target: Path, tmp_path: Path) -> None:
    (said,) = check_pair(target, _zlab(tmp_path / "drafter"), _row(block_size=16))
    assert said == (
        "The registry says block size 16 and the drafter's config.json 8: 8 is used; correct the "
        "row."
    )


CARD = "---\nlicense: mit\nbase_model: {}\n---\n# A drafter\n"


@pytest.mark.parametrize(
    ("card", "warned"),
    [
        ("org/Sibling", "org/Sibling"),
        ("[org/Sibling, org/More]", "org/Sibling"),
        ("org/Target", None),
        ("[org/Sibling, org/Target]", None),
        ("z-lab/Some-DFlash", None),  # what it was trained on from, no target
        ("/home/me/target", None),
        ("{", None),
        ("7", None),
    ],
)
def test_a_card_that_names_a_sibling_is_a_warning(
    card: str, warned: str | None, target: Path, tmp_path: Path
) -> None:
    drafter = _zlab(tmp_path / "drafter")
    (drafter / "README.md").write_text(CARD.format(card))
    said = check_pair(target, drafter, _row())
    assert len(said) == (warned is not None)
    assert all(f"trained for {warned} and not for org/Target" in sentence for sentence in said)


def test_speculators_name_their_target_in_the_config(target: Path, tmp_path: Path) -> None:
    drafter = _speculators(tmp_path / "drafter")
    assert inspect_drafter(drafter).trained_for == ("x/y",)
    (said,) = check_pair(target, drafter, _row())
    assert "trained for x/y and not for org/Target" in said
    assert check_pair(target, drafter, _row(target=ModelRef(repo="x/y"))) == ()


def test_a_local_target_is_told_by_its_place_in_the_hubs_cache(
    target: Path, tmp_path: Path
) -> None:
    drafter = _speculators(tmp_path / "drafter")
    row = _row(target=ModelRef(path=str(target)))
    assert check_pair(target, drafter, row) == ()  # nobody can know
    place = tmp_path / "models--org--Sibling" / "snapshots" / "abc"
    place.parent.mkdir(parents=True)
    target.rename(place)
    (said,) = check_pair(place, drafter, row)
    assert "trained for x/y and not for org/Sibling" in said


def test_what_the_registry_knows_counts_beside_the_drafters_own_word(
    target: Path, tmp_path: Path
) -> None:
    drafter = _zlab(tmp_path / "drafter")
    (said,) = check_pair(target, drafter, _row(trained_for="org/Sibling"))
    assert "trained for org/Sibling and not for org/Target" in said


WORDS = [f"w{index}" for index in range(90)]


def test_a_tokenizer_of_its_own_must_be_the_targets(target: Path, tmp_path: Path) -> None:
    drafter = _zlab(tmp_path / "drafter")
    _tokenizer(target, WORDS, {90: "<|end|>"})
    _tokenizer(drafter, WORDS, {90: "<|end|>"})
    assert check_pair(target, drafter, _row()) == ()
    _tokenizer(drafter, [*WORDS[:7], "other", *WORDS[8:]], {90: "<|end|>"})
    with pytest.raises(LoadError, match=r"token 7 is 'other' there and 'w7' here, 1 differ"):
        check_pair(target, drafter, _row())


def test_a_mask_may_be_called_otherwise_and_spare_tokens_may_be_added(
    target: Path, tmp_path: Path
) -> None:
    drafter = _zlab(tmp_path / "drafter", mask_token_id=91)
    _tokenizer(target, WORDS, {90: "<|end|>", 91: "<|spare|>"})
    _tokenizer(drafter, WORDS, {90: "<|end|>", 91: "<|MASK|>", 92: "<|more|>"})
    assert check_pair(target, drafter, _row()) == ()


def test_a_mask_that_text_is_made_of_is_a_warning(target: Path, tmp_path: Path) -> None:
    drafter = _zlab(tmp_path / "drafter", mask_token_id=5)
    _tokenizer(target, WORDS)
    (said,) = check_pair(target, drafter, _row())
    assert "mask token 5 is the ordinary token 'w5'" in said


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": {"vocab": [3]}}', "[" * 100_000])
def test_a_damaged_tokenizer_is_no_matter_of_the_comparison(
    text: str, target: Path, tmp_path: Path
) -> None:
    drafter = _zlab(tmp_path / "drafter")
    (target / "tokenizer.json").write_text(text)
    (drafter / "tokenizer.json").write_text(text)
    assert check_pair(target, drafter, _row()) == ()


def _ref(folder: Path) -> ModelRef:
    return ModelRef(path=str(folder))


def test_a_candidate_becomes_a_row_with_what_its_folders_tell(target: Path, tmp_path: Path) -> None:
    drafter = _zlab(tmp_path / "drafter")
    found = check_fit(consider(EMPTY, "mine", _ref(target), _ref(drafter)))
    assert (found.pair.family, found.pair.block_size, found.missing) == ("qwen3", 8, ())
    assert found.fit is not None
    assert found.fit.fits


def test_a_candidate_that_is_not_here_is_no_mistake_and_says_the_command(target: Path) -> None:
    found = check_fit(consider(EMPTY, "", _ref(target), ModelRef(repo="org/not-here")))
    assert (found.pair.name, found.pair.block_size, found.fit) == ("not-here", None, None)
    assert found.missing == (
        "org/not-here is not on this machine: run `hf download org/not-here`.",
    )


def test_a_candidate_that_does_not_fit_or_is_swapped_is_refused(
    target: Path, tmp_path: Path
) -> None:
    wide = _zlab(tmp_path / "wide", hidden_size=64)
    with pytest.raises(LoadError, match="hidden size: 64 against 32"):
        check_fit(consider(EMPTY, "mine", _ref(target), _ref(wide)))
    with pytest.raises(LoadError, match="is a drafter: give a language model"):
        consider(EMPTY, "mine", _ref(wide), _ref(wide))
    with pytest.raises(LoadError, match="is no drafter"):
        consider(EMPTY, "mine", _ref(target), _ref(target))
    with pytest.raises(RegistryError, match="name: use 1 to 64"):
        consider(EMPTY, "Not a name", _ref(target), _ref(wide))


def test_a_borrowed_drafter_of_the_registry_is_a_warning_of_the_candidate(
    target: Path, tmp_path: Path
) -> None:
    drafter = _zlab(tmp_path / "drafter")
    place = tmp_path / "models--org--New" / "snapshots" / "abc"
    place.parent.mkdir(parents=True)
    target.rename(place)
    known = Registry((_row(drafter=_ref(drafter)),), (), (), {})
    found = consider(known, "mine", _ref(place), _ref(drafter))
    assert found.fit is not None
    assert found.fit.fits
    assert "trained for org/Target and not for org/New" in found.fit.warnings[0]


def test_support_is_told_by_the_row_until_the_models_are_here(target: Path, tmp_path: Path) -> None:
    drafter = _zlab(tmp_path / "drafter")
    unsupported_reason = TorchBackend().unsupported_reason
    assert unsupported_reason(_row(), None, None) is None
    assert unsupported_reason(_row(family="unknown"), None, None) is None
    assert "'rwkv'" in str(unsupported_reason(_row(family="rwkv"), None, None))
    assert unsupported_reason(_row(family="rwkv"), target, drafter) is None
    _edit(drafter, dflash_config={"projector_type": "domino"})
    assert "Domino" in str(unsupported_reason(_row(), target, drafter))
    (drafter / "config.json").write_text("{")
    assert unsupported_reason(_row(), target, drafter) is None  # loading says what is damaged


def test_support_is_told_without_a_tensor_library(target: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dflash_app.backends.torch.backend import TorchBackend\n"
        "from dflash_app.registry.pair import ModelRef, Pair\n"
        "p = Pair(name='p', title='P', family='qwen3', target=ModelRef(repo='a/b'))\n"
        "print(TorchBackend().unsupported_reason(p, Path(sys.argv[1]), Path(sys.argv[2])))\n"
        "print(sorted(set(sys.modules) & {'torch', 'transformers', 'safetensors', 'numpy'}))\n"
    )
    command = [sys.executable, "-c", code, str(target), str(_zlab(tmp_path / "drafter"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n[]\n"


def test_a_loaded_pair_carries_what_was_found(tmp_path: Path) -> None:
    drafter, target = tmp_path / "drafter", tmp_path / "models--org--New" / "snapshots" / "abc"
    shutil.copytree(EMBEDDED_DIR / "drafter", drafter)
    shutil.copytree(EMBEDDED_DIR / "target", target)
    (drafter / "README.md").write_text(CARD.format("org/Sibling"))
    row = _row(target=_ref(target), drafter=_ref(drafter), block_size=8)
    loaded = TorchBackend().load(row, LoadOptions(device="cpu"))
    try:
        sibling, block_size = loaded.warnings
    finally:
        loaded.close()
    assert "trained for org/Sibling and not for org/New" in sibling
    assert "block size 8 and the drafter's config.json 16" in block_size
