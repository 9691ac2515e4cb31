"""Other people's decode loops in MLX on the same weights: mlx-lm's, z-lab's, dflash-mlx's."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import mlx.core as mx

MLX_LM, ZLAB, DFLASH_MLX = "mlx-lm, AR", "z-lab, DFlash", "dflash-mlx, DFlash"

Loop: TypeAlias = Callable[[list[int], int], list[int]]
"""(prompt ids, most new tokens) -> output ids, greedy, the stop token among them."""


def mlx_loops(
    target_dir: Path, drafter_dir: Path, dtype: mx.Dtype
) -> tuple[dict[str, Loop], dict[str, str]]:
    """Every loop that is installed, each on models of its own: some wrap theirs for good.

    Args:
        target_dir: folder of the target.
        drafter_dir: folder of the drafter, in z-lab's layout.
        dtype: what all compute in.

    Returns:
        (loops, reasons): by name, and why those that are missing are missing.
    """
    loops, missing = {MLX_LM: _mlx_lm(target_dir, dtype)}, {}
    for name, module, package, make in (
        (ZLAB, "dflash.model_mlx", "dflash==0.1.0", _zlab),
        (DFLASH_MLX, "dflash_mlx.runtime.bundle", "dflash-mlx==0.1.8", _dflash_mlx),
    ):
        try:
            importlib.import_module(module)
        except ImportError as error:
            missing[name] = f"{error}: run `pip install --no-deps {package}`"
        else:
            loops[name] = make(target_dir, drafter_dir, dtype)
    return loops, missing


def _load(target_dir: Path, dtype: mx.Dtype) -> tuple[Any, Any]:
    library: Any = importlib.import_module("mlx_lm")
    model, tokenizer = library.load(str(target_dir))
    return _cast(model, dtype), tokenizer


def _cast(model: Any, dtype: mx.Dtype) -> Any:
    model.set_dtype(dtype)
    mx.eval(model.parameters())
    return model


def _mlx_lm(target_dir: Path, dtype: mx.Dtype) -> Loop:
    generate: Any = importlib.import_module("mlx_lm.generate")
    model, tokenizer = _load(target_dir, dtype)

    def run(prompt_ids: list[int], max_new_tokens: int) -> list[int]:
        found = []
        prompt = mx.array(prompt_ids)
        for token, _ in generate.generate_step(prompt, model, max_tokens=max_new_tokens):
            found.append(int(token))
            if token in tokenizer.eos_token_ids:
                break
        return found

    return run


def _zlab(target_dir: Path, drafter_dir: Path, dtype: mx.Dtype) -> Loop:
    reference: Any = importlib.import_module("dflash.model_mlx")
    reference.snapshot_download = lambda folder, **_: folder  # it takes repositories only
    model, tokenizer = _load(target_dir, dtype)
    drafter = _cast(reference.load_draft(str(drafter_dir)), dtype)

    def run(prompt_ids: list[int], max_new_tokens: int) -> list[int]:
        steps = reference.stream_generate(
            model, drafter, tokenizer, mx.array(prompt_ids), max_tokens=max_new_tokens
        )
        return [token for step in steps for token in step.tokens]

    return run


def _in_old_words(drafter_dir: Path, folder: Path) -> Path:
    """A copy whose config says at its top what transformers 5 nests: dflash-mlx reads only that."""
    shutil.copytree(drafter_dir, folder)
    config = json.loads((folder / "config.json").read_text())
    config.setdefault("rope_theta", config["rope_parameters"]["rope_theta"])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _dflash_mlx(target_dir: Path, drafter_dir: Path, dtype: mx.Dtype) -> Loop:
    bundles: Any = importlib.import_module("dflash_mlx.runtime.bundle")
    contexts: Any = importlib.import_module("dflash_mlx.runtime.context")
    runtime: Any = importlib.import_module("dflash_mlx.runtime")
    context = contexts.build_offline_runtime_context()
    with TemporaryDirectory() as folder:
        bundle = bundles.load_runtime_bundle(
            model_ref=str(target_dir),
            draft_ref=str(_in_old_words(drafter_dir, Path(folder) / "drafter")),
            verify_config=context.verify,
            lazy=False,
        )
    _cast(bundle.target_model, dtype)
    _cast(bundle.draft_model, dtype)

    stop_ids = runtime.get_stop_token_ids(bundle.tokenizer)

    def run(prompt_ids: list[int], max_new_tokens: int) -> list[int]:
        events = runtime.stream_dflash_generate(
            target_model=bundle.target_model,
            target_ops=bundle.target_ops,
            tokenizer=bundle.tokenizer,
            draft_model=bundle.draft_model,
            draft_backend=bundle.draft_backend,
            prompt_tokens_override=prompt_ids,
            max_new_tokens=max_new_tokens,
            stop_token_ids=stop_ids,
            runtime_context=context,
        )
        found = [event.token_id for event in events if type(event).__name__ == "TokenEvent"]
        # It goes on to the end of the block in which the reply ended.
        end = next((place for place, token in enumerate(found) if token in stop_ids), len(found))
        return found[: end + 1]

    return run
