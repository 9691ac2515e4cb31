"""What a drafter's format is told by; what is not implemented is refused by its name.

Needs no tensor library: the list of pairs asks it too.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from dflash_app.errors import UnsupportedFormat

FormatName = Literal["z-lab", "speculators", "DeepSpec", "muse_glimmer_assistant"]
RawConfig = Mapping[str, Any]
"""A parsed config.json."""

SPECULATORS_MODEL_TYPES = ("dflash", "dflash2")
DEEPSPEC_ARCHITECTURE = "Qwen3DSparkModel"

_REFUSED: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    # name, words in what a config calls its model, parts of tensor names
    ("Domino", ("domino",), ("prefix_gru", "embed_proj")),
    ("DSpark", (), ("markov_", "confidence_head", "confidence_proj")),
    ("EAGLE", ("eagle",), ("midlayer",)),
    ("Laguna", ("laguna",), ()),
    ("MiMo (attention sinks)", ("mimo",), ("attention_sink_bias",)),
    ("LiLiCorr", ("lilicorr",), ("lilicorr.",)),
)
_PLAIN_ATTENTION = ("gqa", "mha")
_PLAIN_PROJECTORS = ("dflash", "dflash2")
_DRAFTER_WORDS = ("dflash", "dspark", "domino", "eagle", "lilicorr", "_assistant", "speculator")
_PROJECTIONS = frozenset({"fc.weight", "encoder.fc.weight"})


def name_format(raw: RawConfig, tensor_names: Iterable[str]) -> FormatName:
    """Find out which format a drafter is in, or refuse it.

    Args:
        raw: the parsed config.json.
        tensor_names: names in the checkpoint.

    Raises:
        UnsupportedFormat: naming the format or the part that is not implemented.
    """
    names = set(tensor_names)
    _refuse_other_formats(raw, names)
    _refuse_unknown_parts(raw)
    if "speculators_model_type" in raw or "transformer_layer_config" in raw:
        return "speculators"
    if raw.get("model_type") == "muse_glimmer_assistant":
        return "muse_glimmer_assistant"
    if DEEPSPEC_ARCHITECTURE in _architectures(raw):
        return "DeepSpec"
    if not {"fc.weight", "hidden_norm.weight"} <= names:
        raise UnsupportedFormat(
            "This folder holds no DFlash drafter (it has no fc.weight and hidden_norm.weight): "
            "choose a z-lab DFlash drafter."
        )
    return "z-lab"


def is_drafter(raw: RawConfig, tensor_names: Iterable[str]) -> bool:
    """Whether a folder holds a drafter of any kind, a refused one included, and no target.

    Args:
        raw: the parsed config.json.
        tensor_names: names in the checkpoint.
    """
    said = any(word in _words(raw) for word in _DRAFTER_WORDS)
    # Every drafter that reads a target's states begins by projecting them.
    return said or bool(_nested(raw)) or not _PROJECTIONS.isdisjoint(tensor_names)


def _refuse_other_formats(raw: RawConfig, tensor_names: set[str]) -> None:
    words = _words(raw)
    for name, config_words, tensor_words in _REFUSED:
        in_config = any(word in words for word in config_words)
        if in_config or any(word in tensor for word in tensor_words for tensor in tensor_names):
            raise _refusal(name)
    if "dspark" in words and not _is_headless_dspark(raw):
        raise _refusal("DSpark")
    model_type = raw.get("speculators_model_type", "dflash")
    if model_type not in SPECULATORS_MODEL_TYPES:
        raise _refusal(f"speculators {model_type}")


def _is_headless_dspark(raw: RawConfig) -> bool:
    """DeepSpec writes DFlash as a DSpark model whose heads are switched off."""
    heads = raw.get("markov_rank") or raw.get("enable_confidence_head")
    return DEEPSPEC_ARCHITECTURE in _architectures(raw) and not heads


def _refuse_unknown_parts(raw: RawConfig) -> None:
    """Refuse what loads without complaint and then drafts nonsense."""
    nested = _nested(raw)
    modes = nested.get("attention_modes") or nested.get("attention_mode", "gqa")
    modes = modes if isinstance(modes, list) else [modes]
    projector = nested.get("projector_type", raw.get("projector_type")) or "dflash"
    parts = {
        "attention sinks": nested.get("attention_sink_bias") or raw.get("attention_sink_bias"),
        f"{' and '.join(map(str, modes))} attention": any(
            mode not in _PLAIN_ATTENTION for mode in modes
        ),
        f"a {projector} projector": projector not in _PLAIN_PROJECTORS,
        "shifted labels (shift_label)": nested.get("shift_label") or raw.get("shift_label"),
        "quantised weights": raw.get("quantization_config"),
    }
    for part, present in parts.items():
        if present:
            raise UnsupportedFormat(
                f"This drafter has {part}, which is not supported yet: choose a z-lab DFlash "
                "drafter in full precision."
            )


def _refusal(name: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"This drafter is in the {name} format, which is not supported yet: "
        "choose a z-lab DFlash drafter."
    )


def _words(raw: RawConfig) -> str:
    """What a config calls its model, in lower case."""
    keys = ("model_type", "speculators_model_type", "projector_type")
    said = [raw.get(key) for key in keys]
    said += [_nested(raw).get("projector_type"), *_architectures(raw)]
    return " ".join(str(word) for word in said).lower()


def _nested(raw: RawConfig) -> dict[str, Any]:
    nested = raw.get("dflash_config")
    return nested if isinstance(nested, dict) else {}


def _architectures(raw: RawConfig) -> list[str]:
    names = raw.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []
