"""The embedded pair through MLX says what it says through PyTorch; what is missing has a cure."""

import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dflash_app.backends.mlx import backend as module
from dflash_app.backends.mlx.backend import MlxBackend
from dflash_app.backends.mlx.lane import MlxLane
from dflash_app.backends.torch.backend import TorchBackend
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.engine.protocol import LoadedPair, LoadOptions, PairChecker, SupportTeller
from dflash_app.errors import (
    BackendUnavailable,
    GenerationFailed,
    LoadError,
    PairNotReady,
    UnsupportedFormat,
)
from dflash_app.events import Finished, PrefillDone, StepDone, TextDelta
from dflash_app.registry.load import load_registry
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.request import GenerationRequest, Message, Mode
from dflash_app.settings import EMBEDDED_DIR, Settings, find_bundled
from dflash_app.store.records import RunFilter
from dflash_app.workspace import open_workspace
from tests.backends.torch.drafter_files import random_drafter

QUESTIONS = ["How many positive whole-number divisors does 196 have?", "What is 12 + 30?"]


@pytest.fixture(scope="module")
def pair() -> Pair:
    registry = load_registry([find_bundled("model_registry.yaml")])
    return next(each for each in registry.pairs if each.target.source.startswith("embedded:"))


@pytest.fixture(scope="module")
def loaded(pair: Pair) -> Iterator[LoadedPair]:
    found = MlxBackend().load(pair, LoadOptions())
    yield found
    found.close()


def request(text: str, mode: Mode = "dflash", num_tokens: int = 100) -> GenerationRequest:
    return GenerationRequest((Message("user", text),), num_tokens, mode=mode)


def tokens(loaded: LoadedPair, asked: GenerationRequest) -> list[int]:
    found: list[int] = []
    for event in loaded.stream(asked):
        if isinstance(event, PrefillDone):
            found.append(event.token_id)
        elif isinstance(event, StepDone):
            found += event.token_ids
    return found


def test_the_embedded_pair_says_what_it_says_through_pytorch(
    pair: Pair, loaded: LoadedPair
) -> None:
    reference = TorchBackend().load(pair, LoadOptions(device="cpu", num_threads=1))
    assert (loaded.backend, loaded.device, loaded.dtype) == ("mlx", "cpu", "float32")
    assert loaded.path == loaded.drafter_path == "mlx-lm's caches"
    assert loaded.block_size == reference.block_size
    assert loaded.context_length == reference.context_length
    for question in QUESTIONS:
        expected = tokens(reference, request(question))
        assert tokens(loaded, request(question)) == expected
        assert tokens(loaded, request(question, "ar")) == expected
    reference.close()


def test_it_drafts_as_well_as_through_pytorch(loaded: LoadedPair) -> None:
    steps = [e for e in loaded.stream(request(QUESTIONS[0])) if isinstance(e, StepDone)]
    assert sum(step.num_accepted for step in steps) / len(steps) > 4


def test_a_second_turn_reuses_the_first_and_a_race_reuses_nothing(loaded: LoadedPair) -> None:
    asked = request(QUESTIONS[0])
    reply = "".join(e.text for e in loaded.stream(asked) if isinstance(e, TextDelta))
    messages = (*asked.messages, Message("assistant", reply), Message("user", QUESTIONS[1]))
    first, *_ = loaded.stream(replace(asked, messages=messages))
    assert isinstance(first, PrefillDone)
    assert first.num_reused > 20
    events = list(
        loaded.race([request(QUESTIONS[1], "ar", 20), request(QUESTIONS[1], num_tokens=20)])
    )
    prefills = [event for _, event in events if isinstance(event, PrefillDone)]
    assert [event.num_reused for event in prefills] == [0, 0]
    assert sum(isinstance(event, Finished) for _, event in events) == 2


def test_a_cancelled_run_leaves_a_pair_that_goes_on(loaded: LoadedPair) -> None:
    expected = tokens(loaded, request(QUESTIONS[1]))
    stream = loaded.stream(request(QUESTIONS[0]))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert tokens(loaded, request(QUESTIONS[1])) == expected


def test_any_thread_may_read_what_one_thread_computes(loaded: LoadedPair) -> None:
    stream = loaded.stream(request(QUESTIONS[1], num_tokens=30))
    events = []
    for _ in range(8):
        with ThreadPoolExecutor(1) as pool:  # a thread of its own for every read
            events.append(pool.submit(next, stream).result())
    assert any(isinstance(event, StepDone) for event in events)
    with ThreadPoolExecutor(1) as pool:
        logits = pool.submit(loaded.next_logits, request(QUESTIONS[1]), (), (5, 6)).result()
    assert len(logits) == 2


def test_another_drafter_keeps_the_target_which_both_may_use(pair: Pair) -> None:
    backend = MlxBackend()
    first = backend.load(pair, LoadOptions())
    second = backend.load(pair, LoadOptions(drafter=False))
    assert len(set(map(id, backend._targets.values()))) == 1
    expected = tokens(first, request(QUESTIONS[1]))
    with ThreadPoolExecutor(2) as pool:
        found = list(
            pool.map(lambda each: tokens(each, request(QUESTIONS[1], "ar")), [first, second])
        )
    assert found == [expected, expected]
    first.close()
    assert tokens(second, request(QUESTIONS[1], "ar")) == expected
    second.close()
    assert not backend._targets
    assert second.memory_bytes() == 0


def test_what_load_refuses_check_refuses(pair: Pair, tmp_path: Path) -> None:
    backend = MlxBackend()
    assert isinstance(backend, PairChecker)
    backend.check(pair, LoadOptions())
    refused = [
        LoadOptions(snapshot=True),
        LoadOptions(device="auto"),
        LoadOptions(quantization="nf4"),
        LoadOptions(drafter_quantization="int8"),
    ]
    for options in refused:
        with pytest.raises(LoadError):
            backend.check(pair, options)
        with pytest.raises(LoadError):
            backend.load(pair, options)
    other = ModelRef(path=str(tmp_path))
    save_drafter(random_drafter(), tmp_path)
    for act in (backend.check, backend.load):
        with pytest.raises(LoadError, match="does not belong to this target"):
            act(pair.model_copy(update={"drafter": other}), LoadOptions())
    config = json.loads((EMBEDDED_DIR / "drafter" / "config.json").read_text())
    for changes, cure in (
        ({"hidden_act": "gelu_new"}, "torch backend"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "another",
        ),
    ):
        shutil.copytree(EMBEDDED_DIR / "drafter", tmp_path / cure)
        (tmp_path / cure / "config.json").write_text(json.dumps({**config, **changes}))
        strange = pair.model_copy(update={"drafter": ModelRef(path=str(tmp_path / cure))})
        for act in (backend.check, backend.load):
            with pytest.raises(UnsupportedFormat, match=f"not supported.*{cure}"):
                act(strange, LoadOptions())
    away = pair.model_copy(update={"target": ModelRef(repo="nobody/nothing")})
    with pytest.raises(PairNotReady):
        backend.check(away, LoadOptions())


def test_what_works_but_was_not_meant_so_is_said(pair: Pair) -> None:
    row = pair.model_copy(update={"block_size": 9})
    found = MlxBackend().load(row, LoadOptions())
    assert any("block" in sentence for sentence in found.warnings)
    found.close()


def test_choosing_the_other_backend_frees_what_the_first_held(settings: Settings) -> None:
    with closing(open_workspace(settings)) as workspace:
        names = workspace.backends_for("embedded")
        assert names == ["torch", "mlx"]
        held = [workspace.loaded("embedded", LoadOptions(num_threads=1), name) for name in names]
        assert [each.backend for each in held] == names
        assert held[0].memory_bytes() == 0
        list(workspace.run(held[1], request(QUESTIONS[1], num_tokens=9), source="cli"))
        (recorded,) = workspace.store.list_runs(RunFilter(), limit=1)
        assert (recorded.start.backend, recorded.start.device) == ("mlx", "cpu")


def test_choosing_the_other_backend_ends_a_run_in_its_middle_and_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewind = MlxLane.rewind

    def slowly(lane: MlxLane, length: int) -> None:
        time.sleep(0.1)  # or the reply would be done before the choice
        rewind(lane, length)

    monkeypatch.setattr(MlxLane, "rewind", slowly)
    with closing(open_workspace(settings)) as workspace:
        first = workspace.loaded("embedded", LoadOptions(), "mlx")
        events = workspace.run(first, request(QUESTIONS[0], "ar"), source="chat")
        next(events)
        second = workspace.loaded("embedded", LoadOptions(num_threads=1), "torch")
        with pytest.raises(GenerationFailed, match="unloaded while it was working: load it"):
            list(events)
        (recorded,) = workspace.store.list_runs(RunFilter(), limit=1)
        assert recorded.finish_reason == "failed"
        assert tokens(second, request(QUESTIONS[1]))


def test_an_app_without_mlx_decodes_and_shows_its_page_and_says_how_to_get_it(
    settings: Settings,
) -> None:
    code = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Bare(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        absent = name.split('.')[0] in ('mlx', 'mlx_lm')\n"
        "        return None if absent else super().find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Bare if each is PathFinder else each for each in sys.meta_path]\n"
        "from dflash_app.cli.app import run_app\n"
        "assert run_app(['generate', 'What is 12 + 30?', '--max-new-tokens', '8']) == 0\n"
        "assert run_app(['generate', 'Hello', '--backend', 'mlx']) == 1\n"
        "from dflash_app.ui.live import LiveRuns\n"
        "from dflash_app.ui.shell import build_page\n"
        "from dflash_app.workspace import open_workspace\n"
        "workspace = open_workspace()\n"
        "build_page(workspace, LiveRuns())\n"
        "assert workspace.backends_for('embedded') == ['torch']\n"
        "workspace.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mlx: MLX is not installed: run `pip install '.[mlx]'`" in done.stderr


def test_it_tells_which_pairs_it_cannot_run_without_loading_mlx(pair: Pair, tmp_path: Path) -> None:
    backend = MlxBackend()
    assert isinstance(backend, SupportTeller)
    assert backend.unsupported_reason(pair, None, None) is None
    foreign = pair.model_copy(update={"family": "deepseek_v4"})
    assert "torch backend" in str(backend.unsupported_reason(foreign, None, None))
    config = {"model_type": "qwen3", "quantization_config": {"quant_method": "bitsandbytes"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "stored as bitsandbytes" in str(backend.unsupported_reason(pair, tmp_path, None))


def test_importing_the_backend_and_asking_it_imports_no_tensor_library() -> None:
    code = (
        "import sys\n"
        "from dflash_app.backends.mlx.builtin import register_backends\n"
        "backend = register_backends()[0]\n"
        "backend.unavailable_reason()\n"
        "from dflash_app.registry.load import load_registry\n"
        "from dflash_app.settings import find_bundled\n"
        "pairs = load_registry([find_bundled('model_registry.yaml')]).pairs\n"
        "[backend.unsupported_reason(pair, None, None) for pair in pairs]\n"
        "print(sorted({'mlx', 'mlx_lm', 'torch', 'transformers'} & set(sys.modules)))\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("system", "machine", "macos", "installed", "said"),
    [
        ("linux", "x86_64", "", True, None),
        ("darwin", "arm64", "15.1", True, None),
        ("darwin", "arm64", "13.6", True, "update macOS"),
        ("darwin", "x86_64", "15.1", True, "Apple Silicon"),
        ("linux", "x86_64", "", False, "pip install '.[mlx]'"),
    ],
)
def test_where_it_cannot_run_it_names_the_cure(
    system: str,
    machine: str,
    macos: str,
    installed: bool,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    pair: Pair,
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "mac_ver", lambda: (macos, ("", "", ""), ""))
    monkeypatch.setattr(module, "find_spec", lambda name: object() if installed else None)
    reason = MlxBackend().unavailable_reason()
    assert (reason is None) if said is None else (said in str(reason))
    if said:
        with pytest.raises(BackendUnavailable):
            MlxBackend().load(pair, LoadOptions())


def test_an_mlx_that_does_not_start_is_said_with_the_cure(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    with pytest.raises(BackendUnavailable, match=r"MLX cannot start here.*torch backend"):
        MlxBackend().load(pair, LoadOptions())
