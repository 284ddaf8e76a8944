"""One point of an array with more axes, as a run over a single volume fills it."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_geosr.operations.restore.targets import Target, Targets


class PointView:
    """The part of a zarr or buffered array at one point, written through to it.

    Parameters
    ----------
    array : array-like
        Takes ``array[key] = block``; may say what it holds back in ``held_bytes`` and
        ``buffer_bytes``, and its ``chunks``.
    index : tuple of int
        Along the leading axes.
    """

    def __init__(self, array: Any, index: tuple[int, ...]) -> None:
        self._array, self._index = array, index
        self.shape = tuple(int(n) for n in array.shape[len(index) :])
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        chunks = getattr(array, "chunks", None)
        self.chunks = None if chunks is None else tuple(chunks[len(index) :])

    @property
    def held_bytes(self) -> int:
        """Most memory that the array takes beside what it is given."""
        return int(getattr(self._array, "held_bytes", 0))

    @property
    def buffer_bytes(self) -> int | None:
        """What the array may hold back; None where it holds nothing back."""
        return getattr(self._array, "buffer_bytes", None)

    @buffer_bytes.setter
    def buffer_bytes(self, nbytes: int) -> None:
        self._array.buffer_bytes = nbytes

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[self._whole(key)] = value

    def __getitem__(self, key: Any) -> Any:
        return self._array[self._whole(key)]

    def _whole(self, key: Any) -> tuple[Any, ...]:
        return (*self._index, *(key if isinstance(key, tuple) else (key,)))


def view_at(array: Any, index: tuple[int, ...]) -> Any:
    """The part of `array` at `index` along its leading axes, to be filled."""
    return array[index] if isinstance(array, np.ndarray) else PointView(array, index)


def targets_at(targets: Targets, index: tuple[int, ...], axes: str) -> Targets:
    """What a run over one point fills; the files stay with `targets`.

    Parameters
    ----------
    axes : str
        Of the point, ``"ZYX"`` or ``"YX"``.
    """

    def part(target: Target) -> Target:
        """The same at the point."""
        return Target(
            target.volume.replace(data=view_at(target.array, index), axes=axes)
        )

    spread = None if targets.spread is None else part(targets.spread)
    return Targets(part(targets.result), spread)
