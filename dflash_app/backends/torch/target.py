"""The target: a language model from transformers, and one way to run it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from dflash_app.backends.torch.families import (
    NOT_IN_FLOAT16,
    RollbackKind,
    auto_class,
    check_family,
    drop_towers,
    rollback_of,
    slow_path,
)
from dflash_app.backends.torch.finite import check_finite
from dflash_app.backends.torch.gated_delta import record_updates
from dflash_app.backends.torch.layout import stored_bytes
from dflash_app.backends.torch.placement import (
    Spread,
    device_of,
    loading_arguments,
    remove_offload,
    say_devices,
    weight_on,
)
from dflash_app.backends.torch.quantization import (
    PLAIN,
    Storage,
    check_understood,
    choose_storage,
    prepare,
    settle_dtype,
)
from dflash_app.backends.torch.rollback import RewindableCache, new_cache
from dflash_app.backends.torch.snapshot import SnapshotCache
from dflash_app.backends.torch.warnings import target_warnings
from dflash_app.drafters.transformers_calls import DAMAGE, first_line, quiet_transformers
from dflash_app.engine.out_of_memory import refusing
from dflash_app.engine.protocol import Quantization
from dflash_app.errors import BackendUnavailable, LoadError, UnsupportedFormat
from dflash_app.hub.model_files import read_json, weight_files

_AutoConfig: Any = AutoConfig


class TorchTarget:
    """A causal language model in memory.

    Args:
        model: from transformers, in eval mode, on its device.
        snapshot: go back by snapshots, which works for every family and costs most; otherwise in
            the family's own way.
        storage: how its weights are kept.

    Attributes:
        config: of the text model, also where the model is a multimodal wrapper.
        rollback_kind: how its caches forget rejected tokens.
        quantization: what its weights are stored as; None where that is `dtype`.
        warnings: what the user should know of this load, a sentence each.
        own_bytes: of weights that are no parameters of the model.
        slow_reason: why it is not on the fast path, in a few words; None where nobody asked.

    Raises:
        UnsupportedFormat: the family has no way of its own, and snapshots were not asked for.
    """

    def __init__(self, model: Any, *, snapshot: bool = False, storage: Storage = PLAIN) -> None:
        self.model = model
        self.quantization = storage.name
        self.warnings = target_warnings(model, storage, snapshot=snapshot)
        self.config = model.config.get_text_config(decoder=True)
        self.rollback_kind: RollbackKind = (
            "snapshot" if snapshot else rollback_of(model.config.model_type)
        )
        self.hidden_size: int = self.config.hidden_size
        self.vocab_size: int = self.config.vocab_size
        self.num_layers: int = self.config.num_hidden_layers
        self.context_length: int = self.config.max_position_embeddings
        self.head: nn.Module = model.get_output_embeddings()
        self.own_bytes = 0
        self.slow_reason: str | None = None
        self._embedding: Tensor | None = None
        if self.rollback_kind == "replay":
            record_updates(model)

    @property
    def device(self) -> torch.device:
        """Where the head computes: tokens go in and logits and tapped states come out there."""
        return device_of(self.model.get_output_embeddings())

    @property
    def devices(self) -> str:
        """Every place that holds layers: "cpu", "cuda:0+cuda:1"."""
        return say_devices(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        dtype: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return dtype

    @property
    def embedding(self) -> Tensor:
        """[V, hidden], the input embedding's rows, on `device`: copied once where they are not."""
        if self._embedding is None:
            module = self.model.get_input_embeddings()
            here = module.weight.device == self.device
            self._embedding = module.weight if here else weight_on(module, self.device)
        return self._embedding

    @property
    def path(self) -> str:
        """How it decodes and why not faster, as "dynamic cache: recurrent layers"."""
        return slow_path(self.slow_reason)

    @property
    def startup_s(self) -> float:
        """Seconds spent on recording steps; here none are recorded."""
        return 0.0

    def memory_bytes(self) -> int:
        """Bytes held in weights; tied ones count once, those that wait elsewhere not."""
        return stored_bytes(self.model) + self.own_bytes

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
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    snapshot: bool = False,
    quantization: Quantization | None = None,
    spread: Spread | None = None,
) -> TorchTarget:
    """Read a target's safetensors; no remote code, no network.

    Args:
        folder: config.json and *.safetensors.
        device: where to put the weights.
        dtype: what to turn them into, or to compute in where they stay quantised.
        snapshot: see `TorchTarget`; with it, families that nobody looked at load too.
        quantization: what to store linear weights as; None as the checkpoint has them.
        spread: over several places, instead of `device`.

    Raises:
        UnsupportedFormat: another family or quantisation, or no safetensors.
        BackendUnavailable: a package is missing that reads these weights.
        LoadError: files are missing, damaged, or do not fit the config, or weights are no numbers.
    """
    storage = check_target(folder, dtype, snapshot=snapshot, quantization=quantization)
    place = loading_arguments(device, spread)
    model = None
    full = f"{folder.name} does not fit into the memory of {device}: free some, or choose nf4, "
    try:
        with refusing(f"{full}bfloat16 or a smaller pair."):
            model, info = _read(folder, storage, dtype, place)
    except ImportError as error:
        raise BackendUnavailable(
            f"The target in {folder} needs what is not installed here: {first_line(error)}"
        ) from error
    except DAMAGE as error:
        _check_spread(error, storage)
        raise LoadError(
            f"The target in {folder} cannot be loaded; download it again ({first_line(error)})."
        ) from error
    finally:
        remove_offload(model, place)
    absent = sorted(info["missing_keys"]) + sorted(key for key, *_ in info["mismatched_keys"])
    if absent:
        raise LoadError(
            f"The target in {folder} is incomplete; download it again: "
            f"{absent[0]} is missing or of a wrong shape ({len(absent)} tensors in all)."
        )
    check_understood(folder, storage, model, info["unexpected_keys"])
    model = model.eval().requires_grad_(False)
    drop_towers(model)
    settle_dtype(model, storage, dtype)
    check_finite(model, folder)
    return TorchTarget(model, snapshot=snapshot, storage=storage)


def check_target(
    folder: Path,
    dtype: torch.dtype,
    *,
    snapshot: bool = False,
    quantization: Quantization | None = None,
) -> Storage:
    """Refuse what `load_target` refuses, as far as config.json and the names of the files tell.

    Returns:
        How the weights will be kept.

    Raises:
        UnsupportedFormat, BackendUnavailable, LoadError: as `load_target`.
    """
    raw = read_json(folder / "config.json")
    if not snapshot:
        check_family(raw)
    reason = NOT_IN_FLOAT16.get(str(raw.get("model_type")))
    if reason and dtype == torch.float16:
        raise UnsupportedFormat(
            f"The target in {folder} cannot run in float16 ({reason}): choose bfloat16."
        )
    storage = choose_storage(folder, raw, quantization, dtype)
    weight_files(folder)
    return storage


def _read(
    folder: Path, storage: Storage, dtype: torch.dtype, place: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers says of the keys that it read."""
    with quiet_transformers():
        config = _AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if getattr(config, "tie_word_embeddings", False):
            # Said of a wrapper it holds for its text model, whose own class does not ask.
            config.get_text_config(decoder=True).tie_word_embeddings = True
        model_class = auto_class(config)
        prepare(config, storage, model_class, dtype)
        # No attention is asked for: SDPA where the family has it, else what it has.
        model, info = model_class.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            quantization_config=storage.config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused by name
            output_loading_info=True,
            **place,
        )
    return model, info


def _check_spread(error: Exception, storage: Storage) -> None:
    """Say what an error of another name means: quantised layers would have to wait elsewhere."""
    if storage.name is not None and "dispatched on the CPU" in str(error):
        raise LoadError(
            f"The target does not fit where it may be in {storage.name}, and layers that wait "
            "elsewhere cannot be quantised: raise --max-memory-gb if you gave one, choose a "
            "smaller pair, or leave the precision on auto."
        ) from error
