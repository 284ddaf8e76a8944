"""A skull-like shell: a deformed, thickened ellipsoid with openings and sutures.

It has the topology and proportions of a cranium, but not its anatomy: results on these
shapes do not apply to patients.
"""

from __future__ import annotations

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.shapes.solids import Solid, waves

#: Outer half-axes (Z, Y, X) of the mean skull, in units of half the box's longest edge.
_AXES = (0.71, 0.85, 0.65)
#: Mean thickness of the bone, in units of half the box's longest edge.
_THICKNESS = 0.075
#: Depth and half-width of a suture, in units of half the box's longest edge.
_SUTURE_DEPTH = 0.012
_SUTURE_WIDTH = 0.012


def skull(rng: np.random.Generator) -> Solid:
    """Draw a skull; Z points up, Y to the back.

    The vault is closed. The base has an opening for the spine; the front has two orbits
    and a nasal opening. The thickness varies smoothly.
    """
    axes = np.array(_AXES) * rng.uniform(0.9, 1.08, 3)
    deformed = waves(rng, 1.4, 8)
    bumps = waves(rng, 0.5, 8)
    thicker = waves(rng, 0.9, 8)
    thickness = _THICKNESS * rng.uniform(0.8, 1.25)
    wiggle = rng.uniform(15, 30, 2)
    opening = rng.uniform(0.17, 0.24)
    orbit = np.array([-0.18, -0.74, 0.27]) + rng.normal(0, 0.02, 3)
    orbit_radius = rng.uniform(0.15, 0.19)
    coronal = rng.uniform(-0.25, -0.1)

    def solid(z: AnyArray, y: AnyArray, x: AnyArray) -> AnyArray:
        radius = np.sqrt((z / axes[0]) ** 2 + (y / axes[1]) ** 2 + (x / axes[2]) ** 2)
        scale = np.float32(axes.mean())
        depth = scale * (1 - radius) + 0.025 * deformed(z, y, x)
        depth = depth + 0.004 * bumps(z, y, x)
        wall = thickness * (1 + 0.25 * np.clip(thicker(z, y, x), -1.5, 1.5))
        wall = wall * np.where(z < -0.35, 1.2, 1.0)
        sagittal = np.abs(x - 0.02 * np.sin(wiggle[0] * y))
        crosswise = np.abs(y - coronal - 0.02 * np.sin(wiggle[1] * x))
        in_suture = np.minimum(sagittal, crosswise) < _SUTURE_WIDTH
        groove = np.where(in_suture & (z > 0.1), _SUTURE_DEPTH, 0.0)
        inside = np.minimum(depth - groove, wall - depth)
        spine = np.hypot(y - 0.2, x) - opening
        inside = np.where(z < -0.3, np.minimum(inside, spine), inside)
        for side in (-1, 1):
            square = (
                (z - orbit[0]) ** 2
                + ((y - orbit[1]) / 1.6) ** 2
                + (x - side * orbit[2]) ** 2
            )
            inside = np.minimum(inside, np.sqrt(square) - orbit_radius)
        nose = np.sqrt(((z + 0.42) / 1.4) ** 2 + (x / 0.8) ** 2) - 0.1
        found: AnyArray = np.where(y < -0.3, np.minimum(inside, nose), inside)
        return found

    return solid
