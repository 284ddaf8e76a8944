"""Porous structures that are generated in blocks of slices, for samples of any height.

Each is defined by a short description (spheres, ellipsoids, plane waves), so that
blocks of slices are identical to those of the whole structure.

References
----------
.. [1] Pelt, Hendriksen, Batenburg. Foam-like phantoms for comparing tomography
   algorithms. J. Synchrotron Rad. 29, 254-265 (2022). doi:10.1107/S1600577521013322
.. [2] Cahn. Phase separation by spinodal decomposition in isotropic systems.
   J. Chem. Phys. 42, 93-99 (1965). doi:10.1063/1.1695731
.. [3] van Hove et al. Osteocyte morphology in human tibiae of different bone
   pathologies with different bone mineral density. Bone 45, 321-329 (2009).
   doi:10.1016/j.bone.2009.04.238
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.specimens.dentin import dentin
from napari_geosr.physics.specimens.packing import (
    NEARLY_REACHED,
    ball_fraction,
    fill_gaps,
)
from napari_geosr.physics.specimens.phantoms import Shape, place_balls, render_balls
from napari_geosr.physics.specimens.tubes import bone_cells

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

#: Number of plane waves of a random field; the more there are, the closer its values
#: are to a normal distribution.
_WAVES = 384
#: Number of points for estimating a quantile of a random field.
_POINTS = 100_000
#: Standard deviation of the spatial frequencies of a bicontinuous structure, as a
#: fraction of their mean.
_RING_WIDTH = 0.18
#: Semi-axes of a lacuna relative to the longest one; about 9 × 4.5 × 2.5 µm [3]_.
_LACUNA = (1.0, 0.5, 0.28)
#: Standard deviation of the tilt of lacunae from the axis of the bone, in radians.
_TILT = 0.3


class Structure(Protocol):
    """A porous structure on a grid of `shape`."""

    @property
    def shape(self) -> Shape:
        """Shape of the grid (Z, Y, X)."""

    def block(self, start: int, stop: int) -> FloatArray:
        """Return the pore fraction of the slices `start` … `stop` - 1."""


@runtime_checkable
class VariedSolid(Structure, Protocol):
    """A structure with a solid of varying density."""

    def density(self, start: int, stop: int) -> FloatArray:
        """Return the relative attenuation of the solid; slices `start` … `stop` - 1."""


@dataclass(frozen=True, eq=False)
class Spheres:
    """Spherical pores: centre (z, y, x) and radius of each, in voxels."""

    shape: Shape
    balls: Array

    def block(self, start: int, stop: int) -> FloatArray:
        """Return the pore fraction of the slices `start` … `stop` - 1."""
        z, r = self.balls[:, 0], self.balls[:, 3]
        near = self.balls[(z + r + 1 >= start) & (z - r - 1 <= stop)]
        moved = near - np.array([start, 0, 0, 0])
        return render_balls((stop - start, *self.shape[1:]), moved)

    def share(self) -> float:
        """Return the pore fraction of the grid, accurate to about 0.002."""
        return ball_fraction(self.shape, self.balls)


@dataclass(frozen=True, eq=False)
class Ellipsoids:
    """Ellipsoidal pores that do not overlap.

    Attributes
    ----------
    centres : ndarray of shape (n, 3)
        Centres (z, y, x) in voxels.
    axes : ndarray of shape (n, 3, 3)
        Orthogonal semi-axes of each ellipsoid: the rows are vectors (z, y, x).
    """

    shape: Shape
    centres: Array
    axes: Array

    def block(self, start: int, stop: int) -> FloatArray:
        """Return the pore fraction of the slices `start` … `stop` - 1."""
        fraction = np.zeros((stop - start, *self.shape[1:]), np.float32)
        limits = (stop - start, *self.shape[1:])
        for centre, axes in zip(self.centres, self.axes, strict=True):
            # Half the bounding box of an ellipsoid: the norm of the axes' components.
            reach = np.linalg.norm(axes, axis=0) + 1
            at = centre - np.array([start, 0, 0])
            key = tuple(
                slice(max(0, math.ceil(c - d)), min(n, math.floor(c + d) + 1))
                for c, d, n in zip(at, reach, limits, strict=True)
            )
            if any(k.start >= k.stop for k in key):
                continue
            z, y, x = np.ogrid[key]
            lengths = np.linalg.norm(axes, axis=1, keepdims=True)
            units = axes / lengths
            along = [
                ((z - at[0]) * u[0] + (y - at[1]) * u[1] + (x - at[2]) * u[2]) / length
                for u, length in zip(units, lengths[:, 0], strict=True)
            ]
            f = np.sqrt(sum(a**2 for a in along))
            steep = np.sqrt(
                sum((a / n) ** 2 for a, n in zip(along, lengths[:, 0], strict=True))
            )
            # To first order, the distance to the surface is (1 - f) divided by the
            # slope of f, which is `steep` / f.
            distance = (1 - f) * f / np.maximum(steep, 1e-9)
            inside = np.clip(np.where(f < 0.5, 1.0, distance + 0.5), 0, 1)
            np.maximum(fraction[key], inside, out=fraction[key])
        return fraction


@dataclass(frozen=True, eq=False)
class Waves:
    """The set of points where a sum of plane waves exceeds a threshold [2]_.

    Attributes
    ----------
    vectors : ndarray of shape (n, 3)
        Wave vectors (z, y, x) in radians per voxel.
    phases : ndarray of shape (n,)
    threshold : float
        Threshold of the field, which has mean 0 and standard deviation 1.
    """

    shape: Shape
    vectors: Array
    phases: Array
    threshold: float

    def field(self, start: int, stop: int) -> FloatArray:
        """Return the field in slices `start` … `stop` - 1, even outside the shape."""
        _, height, width = self.shape
        kz, ky, kx = self.vectors.T
        y = np.exp(1j * np.outer(np.arange(height), ky))
        x = np.exp(1j * np.outer(kx, np.arange(width)))
        # Re(a b) = Re a Re b - Im a Im b: one real matrix product per slice.
        columns = np.concatenate([x.real, -x.imag]).astype(np.float32)
        scale = math.sqrt(2 / len(self.phases))
        field = np.empty((stop - start, height, width), np.float32)
        for z in range(start, stop):
            rows = y * (scale * np.exp(1j * (kz * z + self.phases)))
            both = np.concatenate([rows.real, rows.imag], axis=1).astype(np.float32)
            field[z - start] = both @ columns
        return field

    def block(self, start: int, stop: int) -> FloatArray:
        """Return the pore fraction of the slices `start` … `stop` - 1."""
        field = self.field(start - 1, stop + 1)
        slope = np.sqrt(sum(g**2 for g in np.gradient(field)))[1:-1]
        above = field[1:-1] - np.float32(self.threshold)
        fraction = np.clip(above / np.maximum(slope, 1e-6) + 0.5, 0, 1)
        return np.asarray(fraction, np.float32)


def foam(
    shape: Shape,
    *,
    porosity: float,
    radius: tuple[float, float],
    seed: int,
    gap: float = 1.0,
) -> Spheres:
    """Generate a foam of non-overlapping spherical pores [1]_.

    If randomly placed spheres fall far short of the porosity, smaller ones in the range
    `radius` are packed between them. With walls of `gap` voxels, not every porosity can
    be reached: see `Spheres.share`.

    Parameters
    ----------
    shape : (int, int, int)
    porosity : float
        Between 0 and 1.
    radius : (float, float)
        Smallest and largest radius, in voxels.
    seed : int
    gap : float
        Minimum wall thickness, in voxels.
    """
    balls = place_balls(shape, porosity=porosity, radius=radius, seed=seed, gap=gap)
    if ball_fraction(shape, balls) < NEARLY_REACHED * porosity:
        balls = fill_gaps(
            shape, balls, porosity=porosity, radius=radius, gap=gap, seed=seed
        )
    return Spheres(shape, balls)


def blobs(
    shape: Shape, *, porosity: float, radius: tuple[float, float], seed: int
) -> Waves:
    """Generate irregular pores by thresholding a correlated Gaussian random field.

    The correlation length is the geometric mean of `radius`.

    Parameters
    ----------
    shape : (int, int, int)
    porosity : float
        Between 0 and 1.
    radius : (float, float)
        Two radii, in voxels; their geometric mean is the correlation length.
    seed : int
    """
    rng = np.random.default_rng(seed)
    length = math.sqrt(radius[0] * radius[1])
    vectors = rng.standard_normal((_WAVES, 3)) / (math.sqrt(2) * length)
    return _cut(shape, vectors, porosity, rng)


def bone(
    shape: Shape, *, porosity: float, radius: tuple[float, float], seed: int
) -> Waves:
    """Generate trabecular bone: struts and plates with a typical spacing [2]_.

    The distance between struts is four times the geometric mean of `radius`.

    Parameters
    ----------
    shape : (int, int, int)
    porosity : float
        Between 0 and 1.
    radius : (float, float)
        Two radii, in voxels; their geometric mean is about the radius of a pore.
    seed : int
    """
    rng = np.random.default_rng(seed)
    wavelength = 4 * math.sqrt(radius[0] * radius[1])
    directions = rng.standard_normal((_WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = 1 + _RING_WIDTH * rng.standard_normal((_WAVES, 1))
    vectors = directions * lengths * (2 * math.pi / wavelength)
    return _cut(shape, vectors, porosity, rng)


def lacunae(
    shape: Shape, *, porosity: float, radius: tuple[float, float], seed: int
) -> Ellipsoids:
    """Generate lacunae of bone cells: flat, aligned ellipsoids that do not touch [3]_.

    Their half-lengths are in the range `radius`. Canaliculi are finer than a voxel and
    are omitted.

    Parameters
    ----------
    shape : (int, int, int)
    porosity : float
        Between 0 and 1.
    radius : (float, float)
        Smallest and largest half-length, in voxels.
    seed : int

    Raises
    ------
    ConfigError
        If lacunae cannot reach the porosity without touching.
    """
    share = math.prod(_LACUNA)
    if porosity / share > 0.3:
        raise ConfigError(
            f"The porosity of lacunae that do not touch is at most {0.3 * share:.3f}, "
            f"not {porosity}. Choose a smaller porosity."
        )
    balls = place_balls(
        shape, porosity=porosity / share, radius=radius, seed=seed, gap=1.0
    )
    rng = np.random.default_rng([seed, 1])
    axes = np.empty((len(balls), 3, 3))
    for i, size in enumerate(balls[:, 3]):
        long = np.array([1.0, *(_TILT * rng.standard_normal(2))])
        long /= np.linalg.norm(long)
        second = np.cross(long, rng.standard_normal(3))
        second /= np.linalg.norm(second)
        frame = np.stack([long, second, np.cross(long, second)])
        axes[i] = frame * (size * np.array(_LACUNA))[:, None]
    return Ellipsoids(shape, balls[:, :3], axes)


def _cut(
    shape: Shape, vectors: Array, porosity: float, rng: np.random.Generator
) -> Waves:
    if not 0 < porosity < 1:
        raise ConfigError(
            f"The porosity of a structure must be between 0 and 1, not {porosity}."
        )
    phases = rng.uniform(0, 2 * math.pi, len(vectors))
    points = rng.uniform(0, 1, (_POINTS, 3)) * np.array(shape)
    values = np.empty(_POINTS, np.float32)
    for start in range(0, _POINTS, 10_000):
        part = slice(start, start + 10_000)
        angles = (points[part] @ vectors.T + phases).astype(np.float32)
        values[part] = np.cos(angles).sum(axis=1) * math.sqrt(2 / len(vectors))
    return Waves(shape, vectors, phases, float(np.quantile(values, 1 - porosity)))


#: Structures by their name in settings.
STRUCTURES: dict[str, Callable[..., Structure]] = {
    "foam": foam,
    "blobs": blobs,
    "bone": bone,
    "lacunae": lacunae,
    "dentin": dentin,
    "cells": bone_cells,
}
