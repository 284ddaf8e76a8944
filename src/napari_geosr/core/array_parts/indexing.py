"""Split numpy-style keys into slices to read and a key to apply afterwards."""

from __future__ import annotations

from typing import Any

Slices = tuple[slice, ...]


def as_slices(key: Any, shape: tuple[int, ...]) -> tuple[Slices, tuple[Any, ...]]:
    """Split a numpy key into step-1 slices to read and a key to apply afterwards.

    Raises
    ------
    IndexError
        If the key has too many indices, or an index is out of range.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        fill = len(shape) - (len(parts) - 1)
        parts[at : at + 1] = [slice(None)] * fill
    parts += [slice(None)] * (len(shape) - len(parts))
    if len(parts) != len(shape):
        raise IndexError(
            f"{len(parts)} indices were given for an array with {len(shape)} axes"
        )
    read: list[slice] = []
    after: list[Any] = []
    for part, n in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            start, stop, step = part.indices(n)
            if step == 1:
                read.append(slice(start, max(start, stop)))
                after.append(slice(None))
                continue
            index = range(start, stop, step)
            low = min(index[0], index[-1]) if index else 0
            high = max(index[0], index[-1]) + 1 if index else 0
            read.append(slice(low, high))
            after.append(slice(None, None, step))
            continue
        i = int(part.__index__())
        if not -n <= i < n:
            raise IndexError(f"index {i} is out of range for an axis of length {n}")
        read.append(slice(i % n, i % n + 1))
        after.append(0)
    return tuple(read), tuple(after)
