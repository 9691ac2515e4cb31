"""Files of a model folder: JSON, and safetensors and nothing else."""

import json
from pathlib import Path
from typing import Any

from dflash_app.errors import LoadError, UnsupportedFormat

INDEX_NAME = "model.safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        LoadError: absent, unreadable, or no object.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LoadError(f"{path} is missing: download the model again.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} cannot be read; download the model again ({error}).") from error
    if not isinstance(loaded, dict):
        raise LoadError(f"{path} holds no JSON object: download the model again.")
    return loaded


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those of its index where there is one, else all.

    Raises:
        UnsupportedFormat: there are none.
        LoadError: the index names a file that is absent or lies elsewhere.
    """
    if (folder / INDEX_NAME).exists():
        weight_map = read_json(folder / INDEX_NAME).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise LoadError(f"{folder / INDEX_NAME} lists no files: download the model again.")
        names = sorted({str(name) for name in weight_map.values()})
    else:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        raise UnsupportedFormat(
            f"{folder} holds no .safetensors file, and other weight files (.bin, .pt) are never "
            "opened because they can run code: choose a model with safetensors."
        )
    for name in names:
        # A downloaded index must not lead out of its folder.
        if Path(name).name != name or not (folder / name).is_file():
            raise LoadError(f"{folder / name} is missing: download the model again.")
    return [folder / name for name in names]
