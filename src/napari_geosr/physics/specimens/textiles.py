"""Phantoms of felts, weaves, and rocks with several phases.

Lengths are in voxels. Phantoms contain neither blur nor noise; both can be added.

References
----------
.. [1] Stoyan, Mecke, Pohlmann. Formulas for stationary planar fibre processes II:
   partially oriented fibre systems. Series Statistics 11, 281-286 (1980).
   doi:10.1080/02331888008801540
.. [2] Okabe, Boots, Sugihara, Chiu. Spatial tessellations: concepts and applications
   of Voronoi diagrams. 2nd ed., Wiley (2000).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.specimens.phantoms import FloatArray, Phantom, Shape
from napari_geosr.physics.specimens.tubes import render_tubes

Array = npt.NDArray[np.float64]

#: Length of the straight segments of a fibre, in voxels: short segments have small
#: bounding boxes and are faster to draw.
_PIECE = 12.0
#: Maximum number of fibres, after which the porosity counts as unreachable.
_MAX_FIBRES = 20_000
#: Number of points along a yarn per distance between neighbouring yarns.
_POINTS_PER_SPACING = 8


@dataclass(frozen=True, eq=False)
class MultiphaseSolid:
    """A solid with several grey phases, including pores.

    Attributes
    ----------
    grey : ndarray of shape (Z, Y, X), float32
        Grey values; mixtures where a boundary cuts a voxel.
    labels : ndarray of shape (Z, Y, X), uint8
        Index into `greys` of the main phase of each voxel; 0 is pore.
    greys : tuple of float
        Grey value of each phase.
    """

    grey: FloatArray
    labels: npt.NDArray[np.uint8]
    greys: tuple[float, ...]

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Voxels that are mostly pore."""
        pores: npt.NDArray[np.bool_] = self.labels == 0
        return pores

    @property
    def porosity(self) -> float:
        """Fraction of the voxels that are mostly pore."""
        return float(self.mask.mean())


def felt(
    shape: Shape,
    *,
    porosity: float = 0.85,
    radius: float = 2.0,
    tilt: float = 1.0,
    seed: int = 0,
) -> Phantom:
    """Generate a felt of straight fibres in random directions [1]_.

    Fibres are added until `porosity` is reached. They may overlap, and each fibre
    crosses the whole box.

    Parameters
    ----------
    shape : tuple of int
        Box (Z, Y, X).
    porosity : float
        Fraction of the box that is free of fibres, accurate to one fibre.
    radius : float
        Radius of the fibres.
    tilt : float
        Inclination of fibres to the (Y, X) plane: 0 in the plane, 1 isotropic.
    seed : int

    Raises
    ------
    ConfigError
        If the porosity is not between 0 and 1, or cannot be reached with fibres of this
        radius.
    """
    if not 0 < porosity < 1 or not radius > 0:
        raise ConfigError(
            "The porosity of a felt must be between 0 and 1, and the radius of its "
            f"fibres must be positive; they are {porosity} and {radius}."
        )
    rng = np.random.default_rng(seed)
    size = np.asarray(shape, np.float64)
    reach = float(np.linalg.norm(size)) / 2 + radius
    solid = np.zeros(shape, np.float32)
    total, filled = math.prod(shape), 0.0
    for _ in range(_MAX_FIBRES):
        if filled >= (1 - porosity) * total:
            fraction = 1 - solid
            return Phantom(fraction, fraction >= 0.5, "felt")
        path = _line(size, reach, radius, tilt, rng)
        if path is None:
            continue
        low = np.maximum(np.floor(path.min(axis=0) - radius - 1), 0).astype(int)
        high = np.maximum(np.ceil(path.max(axis=0) + radius + 2), 0).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        part = solid[box]
        before = float(part.sum(dtype=np.float64))
        z, y, x = part.shape
        np.maximum(part, render_tubes((z, y, x), [path - low], [radius]), out=part)
        filled += float(part.sum(dtype=np.float64)) - before
    raise ConfigError(
        f"{_MAX_FIBRES} fibres of radius {radius} are too few for a porosity of "
        f"{porosity} in a box of {shape}. Choose thicker fibres."
    )


def _line(
    size: Array, reach: float, radius: float, tilt: float, rng: np.random.Generator
) -> Array | None:
    """Draw points on a random straight line; return None if it misses the box.

    Lines are distributed uniformly in the plane perpendicular to their direction, so
    that they are not denser in the middle of the box than in its corners.
    """
    direction = rng.standard_normal(3) * np.array([tilt, 1.0, 1.0])
    direction /= np.linalg.norm(direction)
    across = np.linalg.svd(direction[None])[2][1:]
    point = (size - 1) / 2 + rng.uniform(-reach, reach, 2) @ across
    low, high = np.full(3, -radius), size - 1 + radius
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([(low - point) / direction, (high - point) / direction])
    first, last = float(np.nanmax(ends.min(axis=0))), float(np.nanmin(ends.max(axis=0)))
    if not first < last:
        return None
    n = math.ceil((last - first) / _PIECE) + 1
    return np.asarray(point + np.linspace(first, last, n)[:, None] * direction)


def weave(
    shape: Shape,
    *,
    spacing: float = 16.0,
    radius: float = 4.0,
    gap: float = 1.0,
    jitter: float = 0.3,
    seed: int = 0,
) -> Phantom:
    """Generate layers of plain weave: interlaced yarns along Y and X.

    Parameters
    ----------
    shape : tuple of int
        Box (Z, Y, X); the layers are stacked along Z.
    spacing : float
        Distance between the axes of neighbouring parallel yarns.
    radius : float
        Radius of the yarns; less than half the `spacing`.
    gap : float
        Gap between crossing yarns, and between layers.
    jitter : float
        Standard deviation of the in-plane position of each yarn, across its direction.
    seed : int
        Random seed, which also determines the shift of each layer in the plane.

    Raises
    ------
    ConfigError
        If neighbouring yarns would touch.
    """
    if not 0 < 2 * radius < spacing:
        raise ConfigError(
            f"Yarns of radius {radius} need a spacing of more than {2 * radius}, not "
            f"{spacing}."
        )
    rng = np.random.default_rng(seed)
    swing = radius + gap / 2
    height = 2 * (swing + radius) + gap
    paths: list[Array] = []
    for centre in np.arange(rng.uniform(-height, 0), shape[0] + height, height):
        shift = rng.uniform(0, 2 * spacing, 2)
        for along in (1, 2):
            across = 3 - along
            count = math.ceil(shape[across] / spacing) + 4
            reach = shape[along] + 2 * spacing
            n = math.ceil(_POINTS_PER_SPACING * reach / spacing)
            t = np.linspace(-spacing, shape[along] + spacing, n)
            for i in range(-4, count):
                # Warp and weft alternate: one is above where the other is below.
                sign = (-1) ** i * (1 if along == 1 else -1)
                wave = np.cos(np.pi * (t - shift[along - 1]) / spacing)
                path = np.empty((n, 3))
                path[:, 0] = centre + sign * swing * wave
                path[:, along] = t
                path[:, across] = (
                    i * spacing + shift[across - 1] + jitter * rng.standard_normal()
                )
                paths.append(path)
    near = [p for p in paths if _is_near(p, shape, radius)]
    fraction = 1 - render_tubes(shape, near, [radius] * len(near))
    return Phantom(fraction, fraction >= 0.5, "weave")


def _is_near(path: Array, shape: Shape, radius: float) -> bool:
    low, high = path.min(axis=0) - radius, path.max(axis=0) + radius
    return bool((high >= 0).all() and (low <= np.asarray(shape) - 1).all())


def several_phases(
    shape: Shape,
    *,
    shares: tuple[float, ...] = (0.15, 0.35, 0.3, 0.2),
    greys: tuple[float, ...] = (0.0, 0.45, 0.7, 1.0),
    size: float = 12.0,
    seed: int = 0,
) -> MultiphaseSolid:
    """Generate grains of several phases, like minerals in a rock [2]_.

    Grains are the Voronoi cells of random points, and each grain consists of one phase;
    the first phase is pore space. A voxel cut by the boundary of two grains is a
    mixture of both.

    Parameters
    ----------
    shape : tuple of int
        Box (Z, Y, X).
    shares : tuple of float
        Volume fraction of each phase, accurate to about one grain; the sum is 1.
    greys : tuple of float
        Grey value of each phase.
    size : float
        Edge length of a cube with the mean volume of the grains.
    seed : int

    Raises
    ------
    ConfigError
        If shares and grey values are invalid or inconsistent.
    """
    from scipy.spatial import cKDTree

    if len(shares) != len(greys) or len(shares) < 2 or min(shares) <= 0:
        raise ConfigError(
            "At least two phases are needed, each with a grey value and a fraction "
            f"above 0, not {shares} and {greys}."
        )
    if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise ConfigError(
            f"The fractions of the phases must add up to 1, not {sum(shares):g}."
        )
    rng = np.random.default_rng(seed)
    low, high = np.full(3, -size), np.asarray(shape) + size
    n = max(2 * len(shares), round(float(np.prod(high - low)) / size**3))
    points = rng.uniform(low, high, (n, 3))
    tree = cKDTree(points)
    grey = np.empty(shape, np.float32)
    first = np.empty(shape, np.int64)
    other = np.empty(shape, np.int64)
    inside = np.empty(shape, np.float32)
    plane = np.stack(
        np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij"), -1
    ).reshape(-1, 2)
    for z in range(shape[0]):
        voxels = np.column_stack([np.full(len(plane), z), plane])
        distance, index = tree.query(voxels, k=2)
        between = np.linalg.norm(points[index[:, 0]] - points[index[:, 1]], axis=1)
        away = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * between)
        first[z], other[z] = (index[:, k].reshape(shape[1:]) for k in (0, 1))
        inside[z] = np.clip(away + 0.5, 0, 1).reshape(shape[1:])
    phase = _phases_of(np.bincount(first.reshape(-1), minlength=n), shares, rng)
    values = np.asarray(greys, np.float32)
    grey = inside * values[phase[first]] + (1 - inside) * values[phase[other]]
    return MultiphaseSolid(
        grey, phase[first].astype(np.uint8), tuple(float(g) for g in greys)
    )


def _phases_of(
    volumes: npt.NDArray[np.int64], shares: tuple[float, ...], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw a phase for each grain, weighted by the missing volume of each phase."""
    missing = np.asarray(shares) * volumes.sum()
    phase = np.zeros(len(volumes), np.int64)
    for grain in rng.permutation(len(volumes)):
        lacking = np.maximum(missing, 0) + 1e-9
        chosen = int(rng.choice(len(shares), p=lacking / lacking.sum()))
        if missing[chosen] < volumes[grain]:
            chosen = int(np.argmax(missing))
        phase[grain] = chosen
        missing[chosen] -= volumes[grain]
    return phase
