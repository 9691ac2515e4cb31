"""The target: a language model from transformers, and one way to run it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from dflash_app.backends.torch.families import RollbackKind, auto_class, rollback_of
from dflash_app.backends.torch.gated_delta import record_updates
from dflash_app.backends.torch.rollback import RewindableCache, new_cache
from dflash_app.backends.torch.snapshot import SnapshotCache
from dflash_app.backends.torch.transformers_calls import DAMAGE, first_line, quiet_transformers
from dflash_app.backends.torch.weights import read_json, weight_files
from dflash_app.errors import LoadError, UnsupportedFormat

_AutoConfig: Any = AutoConfig


class TorchTarget:
    """A causal language model in memory.

    Args:
        model: from transformers, in eval mode, on its device.
        snapshot: go back by snapshots, which works for every family and costs most; otherwise in
            the family's own way.

    Attributes:
        config: of the text model, also where the model is a multimodal wrapper.
        rollback_kind: how its caches forget rejected tokens.

    Raises:
        UnsupportedFormat: the family has no way of its own, and snapshots were not asked for.
    """

    def __init__(self, model: Any, *, snapshot: bool = False) -> None:
        self.model = model
        self.config = model.config.get_text_config(decoder=True)
        self.rollback_kind: RollbackKind = (
            "snapshot" if snapshot else rollback_of(model.config.model_type)
        )
        self.hidden_size: int = self.config.hidden_size
        self.vocab_size: int = self.config.vocab_size
        self.num_layers: int = self.config.num_hidden_layers
        self.context_length: int = self.config.max_position_embeddings
        self.head: nn.Module = model.get_output_embeddings()
        if self.rollback_kind == "replay":
            record_updates(model)

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

    def new_cache(self) -> RewindableCache:
        """An empty cache for one request."""
        return new_cache(self.model, self.rollback_kind)

    def forward(
        self,
        token_ids: Tensor,
        cache: RewindableCache | None,
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
            (logits, tapped): [num_logits, V], and [1, T, taps * hidden] or None without taps;
            hidden is several streams side by side where the family has them (DeepSeek-V4).
        """
        if isinstance(cache, SnapshotCache):
            cache.begin(token_ids)
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
            states = [output.hidden_states[tap + 1].flatten(2) for tap in taps]
            tapped = torch.cat(states, dim=-1)
        return output.logits[0], tapped

    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a turn, by both configs; generation_config.json may list several."""
        found: set[int] = set()
        for config in (self.config, self.model.config, self.model.generation_config):
            ids = getattr(config, "eos_token_id", None)
            found.update([ids] if isinstance(ids, int) else ids or ())
        return frozenset(found)


def load_target(
    folder: Path, device: torch.device, dtype: torch.dtype, *, snapshot: bool = False
) -> TorchTarget:
    """Read a target's safetensors; no remote code, no network.

    Args:
        folder: config.json and *.safetensors.
        device: where to put the weights.
        dtype: what to turn them into.
        snapshot: see `TorchTarget`; with it, families that nobody looked at load too.

    Raises:
        UnsupportedFormat: another family, quantised weights, or no safetensors.
        LoadError: files are missing, damaged, or do not fit the config.
    """
    _check_files(folder, snapshot)
    try:
        with quiet_transformers():
            config = _AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            if getattr(config, "tie_word_embeddings", False):
                # Said of a wrapper it holds for its text model, whose own class does not ask.
                config.get_text_config(decoder=True).tie_word_embeddings = True
            # No attention is asked for: SDPA where the family has it, else what it has.
            model, info = auto_class(config).from_pretrained(
                folder,
                config=config,
                dtype=dtype,
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
    return TorchTarget(model, snapshot=snapshot)


def _check_files(folder: Path, snapshot: bool) -> None:
    config = read_json(folder / "config.json")
    if not snapshot:
        rollback_of(config.get("model_type"))
    if config.get("quantization_config"):
        raise UnsupportedFormat(
            f"The target in {folder} is quantised, which is not supported yet: choose the full one."
        )
    weight_files(folder)
