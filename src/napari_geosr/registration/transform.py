"""Rigid and similarity transforms of physical positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyDict

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Transform:
    """Transform that maps a position ``p`` to ``matrix @ p + shift``.

    Attributes
    ----------
    matrix : ndarray of shape (n, n)
        A rotation times a scale factor, for the axes (Z, Y, X) or (Y, X).
    shift : ndarray of shape (n,)
        Translation in the unit of the positions.
    """

    matrix: FloatArray
    shift: FloatArray

    @classmethod
    def around(
        cls, matrix: npt.ArrayLike, centre: npt.ArrayLike, goes_to: npt.ArrayLike
    ) -> Transform:
        """Return a transform that applies `matrix` and maps `centre` to `goes_to`."""
        turned = np.asarray(matrix, np.float64)
        return cls(turned, np.asarray(goes_to) - turned @ np.asarray(centre))

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """Transform positions of shape (…, n)."""
        moved: FloatArray = np.asarray(points) @ self.matrix.T + self.shift
        return moved

    def inverse(self) -> Transform:
        """Return the inverse."""
        back: FloatArray = np.asarray(np.linalg.inv(self.matrix), np.float64)
        return Transform(back, -back @ self.shift)

    def after(self, first: Transform) -> Transform:
        """Return the composition that applies `first`, then this transform."""
        return Transform(self.matrix @ first.matrix, self.apply(first.shift))

    @property
    def scale(self) -> float:
        """Scale factor of lengths."""
        n = len(self.shift)
        return float(abs(np.linalg.det(self.matrix)) ** (1 / n))

    @property
    def degrees(self) -> float:
        """Absolute value of the rotation angle, in degrees."""
        turn = self.matrix / self.scale
        if len(turn) == 2:
            return abs(math.degrees(math.atan2(turn[1, 0], turn[0, 0])))
        cosine = (float(np.trace(turn)) - 1) / 2
        # Use the sine as well: the arc cosine alone is inaccurate for small angles.
        around = turn - turn.T
        sine = math.sqrt(around[0, 1] ** 2 + around[0, 2] ** 2 + around[1, 2] ** 2) / 2
        return math.degrees(math.atan2(sine, cosine))

    def to_json_dict(self) -> AnyDict:
        """Return the transform as JSON-serialisable values."""
        return {
            "matrix": self.matrix.tolist(),
            "shift": self.shift.tolist(),
            "degrees": self.degrees,
            "scale": self.scale,
        }


def identity(n: int) -> Transform:
    """Return the identity for `n` axes."""
    return Transform(np.eye(n), np.zeros(n))


def turn_in_plane(degrees: float, n: int) -> FloatArray:
    """Return the rotation of the last two of `n` axes, from Y towards X."""
    angle = math.radians(degrees)
    matrix = np.eye(n)
    matrix[-2:, -2:] = [
        [math.cos(angle), -math.sin(angle)],
        [math.sin(angle), math.cos(angle)],
    ]
    return matrix


def corners(low: Sequence[float], high: Sequence[float]) -> FloatArray:
    """Return the corners of a box, shape (2ⁿ, n)."""
    grid = np.meshgrid(*zip(low, high, strict=True), indexing="ij")
    return np.stack([axis.ravel() for axis in grid], axis=1).astype(np.float64)
