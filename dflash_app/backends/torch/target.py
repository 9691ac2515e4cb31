"""The target: a dense Qwen3 or Llama model from transformers, and one way to run it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache

from dflash_app.backends.torch.transformers_calls import DAMAGE, first_line, quiet_transformers
from dflash_app.backends.torch.weights import read_json, weight_files
from dflash_app.errors import LoadError, UnsupportedFormat

_AutoModel: Any = AutoModelForCausalLM

FAMILIES = ("qwen3", "llama")
"""Values of `model_type` that are loaded."""


class TorchTarget:
    """A causal language model in memory.

    Args:
        model: from transformers, in eval mode, on its device.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config
        self.hidden_size: int = model.config.hidden_size
        self.vocab_size: int = model.config.vocab_size
        self.num_layers: int = model.config.num_hidden_layers
        self.context_length: int = model.config.max_position_embeddings
        self.head: nn.Module = model.get_output_embeddings()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.embedding.dtype

    @property
    def embedding(self) -> Tensor:
        """[V, hidden], the input embedding's rows."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    def new_cache(self) -> DynamicCache:
        """An empty cache that can be cropped, sliding layers included."""
        cache = DynamicCache(config=self.config)
        cache.activate_past_recording()  # type: ignore[no-untyped-call]
        return cache

    def forward(
        self,
        token_ids: Tensor,
        cache: DynamicCache | None,
        num_logits: int,
        taps: tuple[int, ...] = (),
    ) -> tuple[Tensor, Tensor | None]:
        """Run tokens after those in the cache.

        Args:
            token_ids: [T] int64 on the device.
            cache: grows by T; None runs without one.
            num_logits: how many of the last positions get logits, at least 1.
            taps: 0-based layers whose output is kept; the last layer's is taken after the final
                norm, as transformers gives it and z-lab's drafters were trained on.

        Returns:
            (logits, tapped): [num_logits, V], and [1, T, taps * hidden] or None without taps.
        """
        wanted = {"output_hidden_states": [tap + 1 for tap in taps]} if taps else {}
        output = self.model(
            input_ids=token_ids[None],
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=num_logits,
            **wanted,
        )
        tapped = None
        if taps:
            tapped = torch.cat([output.hidden_states[tap + 1] for tap in taps], dim=-1)
        return output.logits[0], tapped

    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a turn, by both configs; generation_config.json may list several."""
        found: set[int] = set()
        for config in (self.config, self.model.generation_config):
            ids = getattr(config, "eos_token_id", None)
            found.update([ids] if isinstance(ids, int) else ids or ())
        return frozenset(found)


def load_target(folder: Path, device: torch.device, dtype: torch.dtype) -> TorchTarget:
    """Read a target's safetensors; no remote code, no network.

    Args:
        folder: config.json and *.safetensors.
        device: where to put the weights.
        dtype: what to turn them into.

    Raises:
        UnsupportedFormat: another family, quantised weights, or no safetensors.
        LoadError: files are missing, damaged, or do not fit the config.
    """
    _check_family(folder)
    try:
        with quiet_transformers():
            model, info = _AutoModel.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            model = model.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise LoadError(
            f"{folder.name} does not fit into the memory of {device}: free some, or choose "
            "bfloat16 or a smaller pair."
        ) from error
    except DAMAGE as error:
        raise LoadError(
            f"The target in {folder} cannot be loaded; download it again ({first_line(error)})."
        ) from error
    absent = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if absent:
        raise LoadError(
            f"The target in {folder} is incomplete; download it again: "
            f"{absent[0]} is missing or of a wrong shape ({len(absent)} tensors in all)."
        )
    model.requires_grad_(False)
    return TorchTarget(model)


def _check_family(folder: Path) -> None:
    config = read_json(folder / "config.json")
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UnsupportedFormat(
            f"Targets of the family {family!r} are not supported yet: choose a pair whose "
            f"target is one of {', '.join(FAMILIES)}."
        )
    if config.get("quantization_config"):
        raise UnsupportedFormat(
            f"The target in {folder} is quantised, which is not supported yet: choose the full one."
        )
    weight_files(folder)
