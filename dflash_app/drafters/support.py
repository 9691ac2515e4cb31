"""Whether a backend can run a pair at all, told from the registry and small files.

Needs no tensor library: the list of pairs asks it for every row.
"""

from collections.abc import Callable
from pathlib import Path

from dflash_app.drafters.marks import RawConfig, name_format
from dflash_app.errors import LoadError, UnsupportedFormat
from dflash_app.hub.headers import stored_tensors
from dflash_app.hub.model_files import read_json
from dflash_app.registry.pair import UNKNOWN_FAMILY, Pair


def unsupported_reason(
    pair: Pair,
    target_dir: Path | None,
    drafter_dir: Path | None,
    check_family: Callable[[RawConfig], object],
) -> str | None:
    """Why a pair cannot run whatever is downloaded; None where it can or nobody knows.

    Args:
        pair: a registry row, whose family counts until the target is on disk.
        target_dir: the target's folder where it is complete.
        drafter_dir: the drafter's folder where it is complete.
        check_family: raises UnsupportedFormat for a target that the backend does not run.
    """
    try:
        if target_dir is not None:
            check_family(read_json(target_dir / "config.json"))
        elif pair.family != UNKNOWN_FAMILY:
            check_family({"model_type": pair.family})
        if drafter_dir is not None:
            name_format(read_json(drafter_dir / "config.json"), stored_tensors(drafter_dir))
    except UnsupportedFormat as error:
        return str(error)
    except LoadError:
        return None  # damaged: loading it says what is
    return None
