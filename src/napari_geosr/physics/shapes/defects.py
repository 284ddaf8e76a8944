"""Defects: regions that are missing from a shape."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.shapes.solids import Solid, waves

DefectKind = Literal["sphere", "cube", "cylinder", "irregular", "bilateral"]
#: Kinds of defects.
DEFECTS: tuple[DefectKind, ...] = get_args(DefectKind)


def defect(
    rng: np.random.Generator,
    kind: str,
    centre: AnyArray,
    size: float,
) -> Solid:
    """Draw a defect: a function of position that is positive in the missing region.

    Parameters
    ----------
    rng : Generator
    kind : str
        One of `DEFECTS`. ``"cylinder"`` is a burr hole through the centre of the box;
        ``"bilateral"`` consists of spheres on both sides of X = 0.
    centre : ndarray of shape (3,)
        Position on the shape (Z, Y, X), in units of half the longest edge.
    size : float
        Radius, or half the edge, in the same unit; the radius of cylinders is 0.6 times
        this value, and that of bilateral spheres 0.8 times.
    """
    rough = waves(rng, 1.2 * size, 16)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    axis = centre / max(float(np.linalg.norm(centre)), 1e-6)

    def distance(z: AnyArray, y: AnyArray, x: AnyArray) -> AnyArray:
        found: AnyArray = np.sqrt(
            (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
        )
        return found

    def solid(z: AnyArray, y: AnyArray, x: AnyArray) -> AnyArray:
        if kind == "cube":
            turned = [
                np.abs(
                    row[0] * (z - centre[0])
                    + row[1] * (y - centre[1])
                    + row[2] * (x - centre[2])
                )
                for row in rotation
            ]
            longest: AnyArray = np.maximum(np.maximum(turned[0], turned[1]), turned[2])
            return size - longest
        if kind == "cylinder":
            along = axis[0] * z + axis[1] * y + axis[2] * x
            square = z**2 + y**2 + x**2 - along**2
            hole = 0.6 * size - np.sqrt(np.maximum(square, 0))
            half: AnyArray = np.where(along > 0, hole, -1.0)
            return half
        if kind == "bilateral":
            return 0.8 * size - distance(z, y, np.sign(centre[2] or 1) * np.abs(x))
        if kind == "irregular":
            return size * (1 + 0.25 * rough(z, y, x)) - distance(z, y, x)
        return size - distance(z, y, x)

    return solid
