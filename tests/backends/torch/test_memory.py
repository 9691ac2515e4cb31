"""What is told before a pair is loaded is what is then held, within 10 %, in every family.

Held is the memory behind every tensor that can be reached from the models and an open lane.
"""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch

from dflash_app import settings
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.backends.torch.deferred import WAITING_TOKENS
from dflash_app.backends.torch.fast import kv as buffers_of
from dflash_app.backends.torch.fast import products
from dflash_app.backends.torch.fast.recorder import Eager
from dflash_app.backends.torch.fast.steps import FixedSteps, bucket_of
from dflash_app.backends.torch.loading import choose_dtype, load_models
from dflash_app.backends.torch.memory import estimate_pair, free_bytes, held_bytes
from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.selftest.tiny_families import CONFIGS, VOCAB_SIZE, build_model
from dflash_app.drafters.inspection import inspect_drafter
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.protocol import LoadOptions
from dflash_app.engine.speculative import PREFILL_CHUNK, decode
from dflash_app.hub import fast_copies, memory, step_memory
from dflash_app.hub.capacity import capacity_of
from dflash_app.hub.memory import MemoryNeed
from dflash_app.request import SamplingParams
from tests.backends.torch.drafter_files import random_drafter
from tests.backends.torch.stored import write_fp8, write_mxfp4

CPU = torch.device("cpu")
CPU_OPTIONS = LoadOptions(device="cpu")
BAR = 0.1
NUM_NEW = 12
EMBEDDED = settings.EMBEDDED_DIR
_WIDE = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
_WIDE_GDN = {**_WIDE, "linear_key_head_dim": 32, "linear_value_head_dim": 32}
_WIDE_LATENT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "q_lora_rank": 64,
    "kv_lora_rank": 64,
}
WIDE: dict[str, dict[str, int]] = {
    "qwen3": _WIDE,
    "llama": _WIDE,
    "qwen3_moe": _WIDE,
    "gpt_oss": {**_WIDE, "intermediate_size": 64},
    "minimax_m2": {**_WIDE, "intermediate_size": 64},
    "gemma4_text": {"hidden_size": 64, "intermediate_size": 128},
    "qwen3_5_text": _WIDE_GDN,
    "qwen3_next": _WIDE_GDN,
    "deepseek_v3": _WIDE_LATENT,
    "glm_moe_dsa": _WIDE_LATENT,
    "deepseek_v4": {"hidden_size": 64, "intermediate_size": 128, "q_lora_rank": 64},
}
"""Changes to tiny models that give nf4 and int8 something to store."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Writes a family's checkpoint in bfloat16, and a drafter for it, as they are published."""
    root = tmp_path_factory.mktemp("families")

    def write(name: str, **changes: int) -> tuple[Path, Path | None]:
        target, drafter = root / name / str(len(changes)), root / name / f"{len(changes)} drafter"
        if not target.exists():
            build_model(name, whole=True, **changes).to(torch.bfloat16).save_pretrained(target)
            wide = {"hidden_size": changes.get("hidden_size", 32)}
            save_drafter(random_drafter(**wide), drafter, torch.bfloat16)
        # No drafter in z-lab's format reads DeepSeek-V4's several streams.
        return target, None if name == "deepseek_v4" else drafter

    return write


def opened(models: TorchModels, length: int, num_prompt: int | None = None) -> Any:
    """A lane that has read and decoded so many tokens, all but a few of the prompt by default."""
    lane = models.open_lane(SamplingParams(), "ar" if models.block_size is None else "dflash")
    prompt = [(7 * index) % (VOCAB_SIZE - 1) for index in range(num_prompt or length - NUM_NEW)]
    # Not to the limit, where the last blocks are cut: each width has a mask of its own.
    steps = decode(
        lane,
        prompt,
        policy=FixedDrafts((models.block_size or 1) - 1),
        max_new_tokens=400,
        eos_ids=frozenset(),
        context_length=512,
        clock=lambda: 0.0,
        cancelled=lambda: False,
    )
    while lane.length < length:
        next(steps)
    return lane


def opaque_bytes(models: TorchModels) -> int:
    """What FBGEMM keeps outside of tensors: half precision, in place of float32."""
    if models.dtype != "float32":
        return 0
    parts = (models._target, models._drafter)
    return sum(getattr(part, "own_bytes", 0) for part in parts)


def told_and_held(
    target: Path, drafter: Path | None, options: LoadOptions, length: int, *, fast: bool = True
) -> tuple[int, int]:
    dtype = choose_dtype(options.dtype, CPU, options.quantization)
    need = need_of(target, drafter, options, fast=fast)
    models = load_models(target, drafter, options, fast=fast)
    assert models.dtype == str(dtype).removeprefix("torch.")
    lane = opened(models, length)
    held = held_bytes(models._target, models._drafter, lane) + opaque_bytes(models)
    return need.held_bytes(lane.length), held


def need_of(
    target: Path, drafter: Path | None, options: LoadOptions, *, fast: bool = True
) -> MemoryNeed:
    dtype = choose_dtype(options.dtype, CPU, options.quantization)
    config = inspect_drafter(drafter).config if drafter is not None else None
    return estimate_pair(target, drafter, options, CPU, dtype, drafter=config, fast=fast)


@pytest.mark.parametrize("length", [40, 300])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_holds_what_was_told(folder: Any, name: str, dtype: str, length: int) -> None:
    told, held = told_and_held(*folder(name), LoadOptions(device="cpu", dtype=dtype), length)
    assert told == pytest.approx(held, rel=BAR)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("name", WIDE)
def test_fewer_bits_hold_what_was_told(folder: Any, name: str, kind: Any) -> None:
    target, drafter = folder(name, **WIDE[name])
    options = LoadOptions(device="cpu", quantization=kind, drafter_quantization=kind)
    told, held = told_and_held(target, drafter, options, 100)
    assert told == pytest.approx(held, rel=BAR)


@pytest.mark.parametrize("length", [60, 450])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("drafter", [EMBEDDED / "drafter", None], ids=["pair", "target"])
def test_the_embedded_pair_holds_what_was_told(
    dtype: str, fast: bool, length: int, drafter: Path | None
) -> None:
    options = LoadOptions(device="cpu", dtype=dtype)
    told, held = told_and_held(EMBEDDED / "target", drafter, options, length, fast=fast)
    assert told == pytest.approx(held, rel=BAR)


def test_weights_that_survive_no_half_precision_are_held_twice_and_told_so(tmp_path: Path) -> None:
    build_model("qwen3").save_pretrained(tmp_path)
    options = LoadOptions(device="cpu", dtype="float32")
    told = need_of(tmp_path, None, options)
    held = load_models(tmp_path, None, options).memory_bytes()
    assert told.weight_bytes == pytest.approx(held, rel=0.02)
    if products.choose_kernels(torch.empty(0), 0).onednn:
        assert told.copies_bytes > 0.8 * told.target_bytes


class Counted(buffers_of.Buffers):
    """Buffers that tell the most that all of them held at once."""

    live, most = 0, 0

    def __init__(self, shape: tuple[int, ...], like: torch.Tensor) -> None:
        super().__init__(shape, like)
        Counted.live += self.nbytes
        Counted.most = max(Counted.most, Counted.live)

    def __del__(self) -> None:
        Counted.live -= self.nbytes


@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("drafts", [True, False], ids=["pair", "target"])
@pytest.mark.parametrize(
    ("num_prompt", "length"),
    [(3, 40), (3, 100), (90, 100), (60, 105), (3, 200), (120, 200), (190, 200), (250, 300)],
)
def test_what_is_held_follows_from_the_length_and_not_from_how_it_was_reached(
    folder: Any,
    monkeypatch: pytest.MonkeyPatch,
    num_prompt: int,
    length: int,
    drafts: bool,
    recorded: bool,
) -> None:
    for name in ("hub.capacity.FIRST_CAPACITY", "hub.memory.FIRST_CAPACITY"):
        monkeypatch.setattr(f"dflash_app.{name}", 64)
    monkeypatch.setattr("dflash_app.backends.torch.fast.steps.FIRST_BUCKET", 64)
    monkeypatch.setattr(buffers_of, "Buffers", Counted)
    target, drafter = folder("llama")
    drafter = drafter if drafts else None
    need, models = need_of(target, drafter, CPU_OPTIONS), load_models(target, drafter, CPU_OPTIONS)
    if recorded:
        for part in (models.target, models.drafter):
            if part is not None:
                part.steps = FixedSteps(Eager())  # type: ignore[union-attr]
    gc.collect()
    Counted.live = Counted.most = 0
    lane = opened(models, length, num_prompt)
    told = need.cache_bytes(lane.length) + need.context_bytes(lane.length)
    assert Counted.most <= told + need.growing_bytes(lane.length)
    lane._prefix.cache.buffers.steps.clear()  # in the reserve, where they are CUDA graphs
    held = held_bytes(models._target, models._drafter, lane) + opaque_bytes(models)
    assert need.held_bytes(lane.length) == pytest.approx(held, rel=BAR)
    assert held <= need.bytes_at(lane.length)


def test_device_auto_is_told_by_where_the_weights_went() -> None:
    pair = EMBEDDED / "target", EMBEDDED / "drafter"
    whole = load_models(*pair, LoadOptions(device="auto", dtype="float32")).need
    spread = load_models(*pair, LoadOptions(device="auto", max_memory_bytes=1)).need
    assert whole is not None
    assert spread is not None
    assert whole.static != spread.static
    if not torch.cuda.is_available():
        assert whole == need_of(*pair, LoadOptions(device="cpu", dtype="float32"))


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_the_scales_of_packed_weights_are_told_and_counted(kind: Any) -> None:
    options = LoadOptions(device="cpu", quantization=kind, drafter_quantization=kind)
    pair = EMBEDDED / "target", EMBEDDED / "drafter"
    held = load_models(*pair, options).memory_bytes()
    assert need_of(*pair, options).weight_bytes == pytest.approx(held, rel=0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "pack"), [("qwen3", write_fp8), ("gpt_oss", write_mxfp4)])
def test_a_packed_checkpoint_is_told_as_it_is_unpacked(
    name: str, pack: Any, dtype: str, tmp_path: Path
) -> None:
    build_model(name, **WIDE[name]).save_pretrained(tmp_path / "plain")
    pack(tmp_path / "plain", tmp_path / "packed")
    options = LoadOptions(device="cpu", dtype=dtype)
    held = load_models(tmp_path / "packed", None, options).memory_bytes()
    assert need_of(tmp_path / "packed", None, options).weight_bytes == pytest.approx(held, rel=0.02)


def test_a_towerless_wrapper_counts_its_language_model_only(folder: Any) -> None:
    target, _ = folder("gemma4")
    stored = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    told = need_of(target, None, LoadOptions(device="cpu", dtype="bfloat16"))
    assert told.target_bytes < 0.95 * stored


def test_what_is_shared_or_closed_over_counts_once() -> None:
    weight = torch.zeros(1000)
    views = {"a": weight[:10], "b": [weight.view(10, 100)], "c": lambda: weight + 1}
    assert held_bytes(views, weight) == 4000
    assert held_bytes(torch.zeros(8, device="meta")) == 0


def test_this_machine_tells_its_free_memory() -> None:
    free = free_bytes(CPU)
    assert free is not None
    assert free > 10_000_000


def test_the_hub_knows_the_engines_and_the_fast_paths_numbers() -> None:
    assert step_memory.PREFILL_CHUNK == PREFILL_CHUNK
    assert memory.WAITING_TOKENS == WAITING_TOKENS
    assert fast_copies.MAX_COPIED_BYTES == products.MAX_COPIED_BYTES
    for length in range(1, 9000):
        assert capacity_of(bucket_of(length)) == capacity_of(length)
    buckets = {bucket_of(length) for length in range(1025, 2049)}
    assert len(buckets) < step_memory.GRAPH_BUCKETS
