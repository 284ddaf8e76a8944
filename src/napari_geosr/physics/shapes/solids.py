"""Solids: functions of position that are positive inside, drawn at random."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_geosr.core.types import AnyArray

#: Function of Z, Y, X (broadcast against each other), positive inside.
Solid = Callable[[AnyArray, AnyArray, AnyArray], AnyArray]

#: Number of waves of a random field, enough to look random within a box.
_WAVES = 32


def waves(rng: np.random.Generator, wavelength: float, number: int = _WAVES) -> Solid:
    """Draw a smooth random field of zero mean and unit variance, a sum of plane waves.

    Parameters
    ----------
    rng : Generator
    wavelength : float
        Wavelength, in units of half the longest edge of the box.
    number : int
        Number of waves.
    """
    directions = rng.normal(size=(number, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    vectors = (2 * np.pi / wavelength) * directions
    phases = rng.uniform(0, 2 * np.pi, number)

    def field(z: AnyArray, y: AnyArray, x: AnyArray) -> AnyArray:
        # A plane wave is the outer product of exponentials along the axes.
        total: AnyArray = np.zeros(np.broadcast_shapes(z.shape, y.shape, x.shape), "f4")
        for (kz, ky, kx), phase in zip(vectors, phases, strict=True):
            along_z = np.exp(1j * (kz * z + phase)).astype(np.complex64)
            along_y = np.exp(1j * ky * y).astype(np.complex64)
            along_x = np.exp(1j * kx * x).astype(np.complex64)
            total += ((along_z * along_y) * along_x).real
        return total * np.float32(np.sqrt(2 / number))

    return field


def vault_direction(rng: np.random.Generator) -> AnyArray:
    """Draw a unit vector (Z, Y, X) that points upwards, never horizontally."""
    direction = rng.normal(size=3)
    direction[0] = abs(direction[0]) + 0.4
    unit: AnyArray = direction / np.linalg.norm(direction)
    return unit


def ellipsoid(rng: np.random.Generator) -> Solid:
    """Draw an ellipsoid in any orientation with a slightly uneven surface."""
    axes = rng.uniform(0.35, 0.8, 3)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rough = waves(rng, rng.uniform(0.3, 1.0), 12)
    height = rng.uniform(0, 0.05)

    def solid(z: AnyArray, y: AnyArray, x: AnyArray) -> AnyArray:
        square: AnyArray = np.zeros((1, 1, 1), "f4")
        for row, axis in zip(rotation, axes, strict=True):
            square = square + ((row[0] * z + row[1] * y + row[2] * x) / axis) ** 2
        return 1 - np.sqrt(square) + height * rough(z, y, x)

    return solid


def trabeculae(rng: np.random.Generator) -> Solid:
    """Draw interconnected plates and rods, by thresholding a random field."""
    field = waves(rng, rng.uniform(0.25, 0.7))
    is_plate = rng.random() < 0.5
    half_width = rng.uniform(0.25, 0.5)
    level = rng.uniform(-0.2, 0.9)

    def solid(z: AnyArray, y: AnyArray, x: AnyArray) -> AnyArray:
        values = field(z, y, x)
        return half_width - np.abs(values) if is_plate else values - level

    return solid


def pore_network(rng: np.random.Generator) -> Solid:
    """Draw a block with spherical pores, some of which overlap."""
    number = int(rng.integers(20, 80))
    centres = rng.uniform(-1.05, 1.05, (number, 3)).astype(np.float32)
    radii = rng.uniform(0.08, 0.35, number).astype(np.float32)

    def solid(z: AnyArray, y: AnyArray, x: AnyArray) -> AnyArray:
        outside: AnyArray = np.full(
            np.broadcast_shapes(z.shape, y.shape, x.shape), np.inf, "f4"
        )
        for (cz, cy, cx), radius in zip(centres, radii, strict=True):
            square = (z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2
            np.minimum(outside, square - radius**2, out=outside)
        return outside

    return solid


def tree(rng: np.random.Generator) -> Solid:
    """Draw a tree of tubes that split in two and become thinner."""
    segments: list[tuple[AnyArray, AnyArray, float]] = []
    start = np.array([-0.95, *rng.uniform(-0.2, 0.2, 2)])

    def grow(at: AnyArray, direction: AnyArray, radius: float, left: int) -> None:
        end = at + direction * rng.uniform(0.35, 0.6) * (0.8 ** (4 - left))
        segments.append((at, end, radius))
        if left:
            for _ in range(2):
                turned = direction + rng.normal(0, 0.5, 3)
                turned /= np.linalg.norm(turned)
                grow(end, turned, radius * rng.uniform(0.7, 0.85), left - 1)

    grow(start, np.array([1.0, 0.0, 0.0]), rng.uniform(0.12, 0.2), 4)

    def solid(z: AnyArray, y: AnyArray, x: AnyArray) -> AnyArray:
        shape = np.broadcast_shapes(z.shape, y.shape, x.shape)
        inside: AnyArray = np.full(shape, -np.inf, "f4")
        for (az, ay, ax), end, radius in segments:
            dz, dy, dx = end - np.array([az, ay, ax])
            along = (z - az) * dz + (y - ay) * dy + (x - ax) * dx
            along = np.clip(along / (dz * dz + dy * dy + dx * dx), 0, 1)
            square = (
                (z - az - along * dz) ** 2
                + (y - ay - along * dy) ** 2
                + (x - ax - along * dx) ** 2
            )
            np.maximum(inside, radius - np.sqrt(square), out=inside)
        return inside

    return solid
