"""What a user should know of a load that is not plain: where it is slow, and what rounds."""

from typing import Any

from dflash_app.backends.torch.families import has_experts
from dflash_app.backends.torch.placement import slow_places
from dflash_app.backends.torch.quantization import Storage, quantized_share


def target_warnings(model: Any, storage: Storage, *, snapshot: bool) -> tuple[str, ...]:
    """A sentence for each thing about a target.

    Args:
        model: from transformers.
        storage: how its weights are kept.
        snapshot: its caches go back by snapshots.
    """
    text_config = model.config.get_text_config(decoder=True)
    dtype = str(model.get_input_embeddings().weight.dtype).removeprefix("torch.")
    said = [storage.warning, _rounding(storage.name, dtype), slow_places(model)]
    if said[1] is not None and has_experts(text_config):
        said.append(
            "Rounding may also make this target choose other experts, which changes more than near "
            "ties: only float32 is lossless token by token."
        )
    if storage.name in ("nf4", "int8") and quantized_share(model) < 0.5:
        said.append(
            f"Only {quantized_share(model):.0%} of the weights are linear layers that can be "
            f"stored as {storage.name} (experts and embeddings cannot): it saves little memory."
        )
    if snapshot:
        said.append(
            "The target goes back by snapshots: every block with a rejected draft costs a second "
            "forward, so expect less speedup."
        )
    return tuple(sentence for sentence in said if sentence)


def _rounding(quantization: str | None, dtype: str) -> str | None:
    """Whether DFlash is plain decoding token by token, or up to near ties."""
    if quantization == "int8":
        kept = f"int8 with {dtype}"  # activations are rounded to 8 bits as well
    elif dtype != "float32":
        kept = f"{quantization} with {dtype}" if quantization == "nf4" else dtype
    else:
        return None
    return (
        f"In {kept}, DFlash and plain decoding may differ where two tokens are nearly tied, as any "
        "two batch sizes may: comparing tells by the margin of their logits."
    )
