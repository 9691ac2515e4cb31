"""Which format a drafter is in, and how that format is read."""

from collections.abc import Iterable

from dflash_app.drafters.formats import deepspec, muse_assistant, speculators, zlab
from dflash_app.drafters.formats.checkpoint_format import CheckpointFormat
from dflash_app.drafters.marks import FormatName, RawConfig, name_format

_FORMATS: dict[FormatName, CheckpointFormat] = {
    "z-lab": zlab.ZLAB,
    "speculators": speculators.SPECULATORS,
    "DeepSpec": deepspec.DEEPSPEC,
    "muse_glimmer_assistant": muse_assistant.MUSE_ASSISTANT,
}


def check_format(raw: RawConfig, tensor_names: Iterable[str]) -> CheckpointFormat:
    """Find out how a drafter is to be read, or refuse it: see `name_format`."""
    return _FORMATS[name_format(raw, tensor_names)]
