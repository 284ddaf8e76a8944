"""A standard orientation of volumes, for methods that depend on the order of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Orientation:
    """A rotation or reflection of a volume by right angles.

    Attributes
    ----------
    axes : tuple of int
        Axes of the volume in their order after turning.
    reversed_axes : tuple of int
        Axes of the volume that are reversed.
    """

    axes: tuple[int, ...]
    reversed_axes: tuple[int, ...]

    @classmethod
    def standard(cls, masks: Sequence[npt.NDArray[np.bool_]]) -> Orientation:
        """Find the orientation that is the same however the masks were turned before.

        Axes are sorted by their lengths and by the numbers of voxels in their planes,
        and reversed if the numbers are then larger. Axes with equal numbers keep their
        order, and axes with symmetric numbers their direction.
        """
        profiles, reversed_axes = [], []
        for axis in range(masks[0].ndim):
            others = tuple(i for i in range(masks[0].ndim) if i != axis)
            counts = np.stack([np.count_nonzero(m, axis=others) for m in masks], axis=1)
            profile = max(counts.tolist(), counts[::-1].tolist())
            if profile != counts.tolist():
                reversed_axes.append(axis)
            profiles.append((len(profile), profile))
        axes = sorted(range(len(profiles)), key=lambda axis: profiles[axis])
        return cls(tuple(axes), tuple(reversed_axes))

    def turned(self, volume: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return a volume in this orientation."""
        return np.ascontiguousarray(
            np.flip(volume, self.reversed_axes).transpose(self.axes)
        )

    def restored(self, volume: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Return a turned volume in its original orientation."""
        found = volume.transpose(np.argsort(self.axes))
        return np.ascontiguousarray(np.flip(found, self.reversed_axes))

    def restored_places(
        self, places: npt.NDArray[np.float64], shape: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """Return positions in a turned volume as positions in the original volume.

        Parameters
        ----------
        places : ndarray of shape (n, ndim)
        shape : sequence of int
            Shape of the original volume.
        """
        found = places[:, np.argsort(self.axes)]
        for axis in self.reversed_axes:
            found[:, axis] = shape[axis] - 1 - found[:, axis]
        return found
