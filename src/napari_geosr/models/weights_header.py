"""Read the header of a safetensors file to check sizes before loading."""

from __future__ import annotations

import math
from typing import IO

from napari_geosr.core.documents import MAX_RESULT_BYTES, load_json
from napari_geosr.core.errors import ConfigError, ModelError

#: Number of bytes of the field that precedes the header and gives its length.
_LENGTH_BYTES = 8
#: Maximum number of axes of a tensor.
_MAX_AXES = 32
#: Bits per value, by the name of the data type.
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
}


def check_header(stream: IO[bytes], size: int, name: str) -> bytes:
    """Read only the header and compare it with the file size.

    Parameters
    ----------
    stream : file
        Weights file, positioned at its beginning; afterwards at the end of the header.
    size : int
        Size of the whole file in bytes, according to its folder or zip.
    name : str
        Name of the file in messages.

    Returns
    -------
    bytes
        The bytes that were read.

    Raises
    ------
    ModelError
        If the header is invalid, or the tensors do not fill the file exactly.
    """
    try:
        start = stream.read(_LENGTH_BYTES)
        length = int.from_bytes(start, "little")
        if len(start) < _LENGTH_BYTES or not 2 <= length <= min(size, MAX_RESULT_BYTES):
            raise ValueError(f"its header has an invalid length of {length} bytes")
        header = stream.read(length)
        needed = (
            _LENGTH_BYTES + length + _total_bytes(load_json(header, MAX_RESULT_BYTES))
        )
        if needed != size:
            raise ValueError(
                f"its tensors take {needed} bytes, but the file has {size}"
            )
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).rstrip(".")
        raise ModelError(
            f"{name} is damaged or not a safetensors file ({reason}), so its checksum "
            "was not verified. Download or copy it again."
        ) from error
    return start + header


def _total_bytes(tensors: object) -> int:
    """Return the size of all tensors in bytes; raise `ValueError` if inconsistent."""
    if not isinstance(tensors, dict):
        raise ValueError("its header is not a JSON object")
    total = 0
    for name, tensor in tensors.items():
        if name == "__metadata__":
            continue
        first, last = tensor["data_offsets"]
        shape = tensor["shape"]
        if len(shape) > _MAX_AXES:
            raise ValueError(f"{name} has {len(shape)} axes")
        if not all(isinstance(n, int) and n >= 0 for n in (first, last, *shape)):
            raise ValueError(f"{name} has an invalid shape")
        bits = _BITS.get(tensor["dtype"])
        if bits is not None and last - first != math.prod(shape) * bits // 8:
            raise ValueError(
                f"{name} has a size that differs from that of its stored data"
            )
        total += last - first
    return total
