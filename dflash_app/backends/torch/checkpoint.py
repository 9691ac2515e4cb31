"""Reading a drafter's weights from any format, tensor by tensor, and writing z-lab's."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.backends.torch.dflash2 import new_drafter
from dflash_app.backends.torch.dflash_layer import AttentionKind
from dflash_app.drafters.checkpoint import open_checkpoint
from dflash_app.drafters.config import DFlashConfig
from dflash_app.drafters.tensor_shapes import TOKEN_OFFSETS
from dflash_app.engine.out_of_memory import is_out_of_memory
from dflash_app.errors import LoadError
from dflash_app.hub.headers import StoredTensor

WEIGHTS_NAME = "model.safetensors"


def load_drafter(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    attention: AttentionKind = "sdpa",
) -> DFlashDrafter:
    """Read a checkpoint of any supported format.

    Args:
        folder: config.json and *.safetensors.
        device: where to put the weights.
        dtype: what to turn them into.
        attention: see `DFlashDrafter`.

    Returns:
        The drafter in eval mode.

    Raises:
        UnsupportedFormat, LoadError: as `drafters.checkpoint.open_checkpoint`; or a weight is
            no number.
    """
    checkpoint = open_checkpoint(folder)
    config, stored = checkpoint.config, checkpoint.tensors
    drafter = _without_weights(config, attention)
    state: dict[str, Tensor] = {}
    for file in {tensor.file for tensor in stored.values()}:
        with _opened(file) as weights:
            for name, tensor in stored.items():
                if tensor.file == file:
                    value = _checked(tensor, weights.get_tensor(tensor.name))
                    kept = dtype if value.is_floating_point() else torch.int64
                    state[name] = value.to(device=device, dtype=kept)
    _check_token_offsets(config, state)
    drafter.load_state_dict(state, assign=True)
    # Moves what is no weight: the rotary frequencies.
    return drafter.to(device).eval()


def save_drafter(drafter: DFlashDrafter, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a checkpoint that `load_drafter`, z-lab's code and vLLM read.

    Args:
        drafter: on any device, of either generation.
        folder: made if absent; its config.json and model.safetensors are replaced.
        dtype: of the file; None keeps the drafter's.

    Raises:
        LoadError: z-lab's format cannot hold this drafter; nothing was written.
    """
    written = drafter.config.to_dict()
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for name, tensor in drafter.state_dict().items()
    }
    written["dtype"] = str(next(iter(state.values())).dtype).removeprefix("torch.")
    save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    text = json.dumps(written, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def _without_weights(config: DFlashConfig, attention: AttentionKind) -> DFlashDrafter:
    with torch.device("meta"):
        return new_drafter(config, attention)


def _checked(stored: StoredTensor, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise LoadError(
            f"Tensor {stored.name} in {stored.file} holds values that are no finite numbers (NaN "
            "or infinity): download the drafter again, or choose another revision."
        )
    return tensor


def _check_token_offsets(config: DFlashConfig, state: Mapping[str, Tensor]) -> None:
    if TOKEN_OFFSETS not in state:
        return
    offsets = state[TOKEN_OFFSETS]
    token_ids = torch.arange(len(offsets), device=offsets.device) + offsets
    if token_ids.min() < 0 or token_ids.max() >= config.known_vocab_size:
        raise LoadError(
            "The drafter's d2t points at tokens outside its vocabulary of "
            f"{config.known_vocab_size}: download the drafter again."
        )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file, its library's errors translated."""
    try:
        with safe_open(file, framework="pt", device="cpu") as weights:
            yield weights
    except (SafetensorError, OSError) as error:
        if is_out_of_memory(error):
            raise  # the caller says what does not fit
        raise LoadError(f"{file} is damaged; download it again ({error}).") from error
