"""How large a model is where nobody tells: by the number of parameters in its name."""

import re

from dflash_app.hub.lines import quantization_by_name
from dflash_app.registry.pair import ModelRef

FLOAT_BYTES = 2
"""Of a weight: models are published in bf16 unless their name says otherwise."""
_BILLIONS = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)[Bb](?![A-Za-z])")


def weights_by_name(ref: ModelRef) -> int | None:
    """Bytes of the weights by the number of parameters in a name ("27B"), at two bytes each.

    Returns:
        None where the name has no such number, or says that it is quantised.
    """
    found = _BILLIONS.search(ref.source.rpartition("/")[2])
    if found is None or quantization_by_name(ref) is not None:
        return None
    return int(float(found[1]) * 1e9) * FLOAT_BYTES
