"""Which tensors safetensors files hold, read from their headers: no weight, no tensor library."""

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from dflash_app.errors import LoadError
from dflash_app.hub.model_files import weight_files

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""PyTorch's name of a type by the format's."""

_DAMAGE = (
    OSError, struct.error, ValueError, LookupError, TypeError, AttributeError, RecursionError,
    OverflowError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor on disk.

    Attributes:
        file: that holds it.
        name: in the file.
        shape: its lengths.
        dtype: "bfloat16", "int64"; the format's own word for what PyTorch has no name for.
        size_bytes: on disk.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int

    @property
    def num_elements(self) -> int:
        return prod(self.shape)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a model folder, by name.

    Raises:
        UnsupportedFormat: there is no safetensors file.
        LoadError: a file is missing or damaged.
    """
    return {name: tensor for file in weight_files(folder) for name, tensor in _read(file).items()}


def _read(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one file.

    Source: the format's page at huggingface.co/docs/safetensors: 8 bytes of length, a JSON object,
    the values.

    Raises:
        LoadError: cut short, or no safetensors file.
    """
    try:
        header, content_bytes = _header(file)
        header.pop("__metadata__", None)
        found = {name: _stored(file, name, said) for name, said in header.items()}
        end_bytes = max((said["data_offsets"][1] for said in header.values()), default=0)
    except _DAMAGE as error:
        raise LoadError(f"{file} is damaged; download it again ({error}).") from error
    if content_bytes != end_bytes:
        raise LoadError(
            f"{file} is damaged; download it again ({content_bytes:,} bytes of weights where its "
            f"header says {end_bytes:,})."
        )
    return found


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """The header, and how many bytes come after it."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        text = opened.read(min(length, MAX_HEADER_BYTES))
    header: dict[str, Any] = json.loads(text)
    return header, file.stat().st_size - 8 - length


def _stored(file: Path, name: str, said: dict[str, Any]) -> StoredTensor:
    begin, end = said["data_offsets"]
    shape = tuple(int(size) for size in said["shape"])
    dtype = _DTYPES.get(said["dtype"], str(said["dtype"]))
    return StoredTensor(file, name, shape, dtype, int(end) - int(begin))
