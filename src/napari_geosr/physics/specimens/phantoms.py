"""Seeded porous phantoms: foams, random blobs, bicontinuous structures, rare pores.

Lengths are in voxels. A phantom has no grey values: it consists of pore fractions of
voxels, to which any contrast, blur and noise can be applied.

References
----------
.. [1] Pelt, Hendriksen, Batenburg. Foam-like phantoms for comparing tomography
   algorithms. J. Synchrotron Rad. 29, 254-265 (2022). doi:10.1107/S1600577521013322
.. [2] Cahn. Phase separation by spinodal decomposition in isotropic systems.
   J. Chem. Phys. 42, 93-99 (1965). doi:10.1063/1.1695731
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyArray

FloatArray = npt.NDArray[np.float32]
Shape = tuple[int, int, int]

_CANDIDATES_PER_BALL = 12
_MAX_BALLS = 20_000


@dataclass(frozen=True, eq=False)
class Phantom:
    """A structure of pores in a solid.

    Attributes
    ----------
    fraction : ndarray of shape (Z, Y, X), float32
        Pore fraction of each voxel: 0, 1, or in between if a surface cuts the voxel.
    mask : ndarray of shape (Z, Y, X), bool
        Voxels with a pore fraction of at least one half.
    kind : str
        Name of the generator.
    """

    fraction: FloatArray
    mask: npt.NDArray[np.bool_]
    kind: str

    @property
    def porosity(self) -> float:
        """Mean pore fraction, including partial voxels."""
        return float(self.fraction.mean(dtype=np.float64))


def _phantom(fraction: AnyArray, kind: str) -> Phantom:
    fraction = np.clip(fraction, 0, 1).astype(np.float32)
    return Phantom(fraction=fraction, mask=fraction >= 0.5, kind=kind)


def _require_porosity(porosity: float) -> None:
    if not 0 < porosity < 1:
        raise ConfigError(
            f"The porosity of a phantom must be between 0 and 1, not {porosity}."
        )


def place_balls(
    shape: Shape,
    *,
    porosity: float,
    radius: tuple[float, float],
    seed: int,
    gap: float = 0.0,
) -> npt.NDArray[np.float64]:
    """Place non-overlapping spheres until `porosity` is reached or no room is left.

    The largest admissible radius at every candidate centre is tracked [1]_. A radius is
    drawn (log-uniform) and the sphere placed at random where it fits; if it fits
    nowhere, the candidate position with the most room gets the largest sphere that fits
    there.

    Parameters
    ----------
    shape : tuple of int
        Box (Z, Y, X); spheres may be cut by its faces.
    porosity : float
        Volume fraction at which to stop.
    radius : tuple of float
        Smallest and largest radius.
    seed : int
        Random seed.
    gap : float
        Minimum thickness of the wall between two spheres.

    Returns
    -------
    ndarray of shape (n, 4)
        Centre (z, y, x) and radius of each sphere.
    """
    _require_porosity(porosity)
    smallest, largest = radius
    if not 0 < smallest <= largest:
        raise ConfigError(
            f"Radii must be greater than 0 and in ascending order, not {radius}."
        )
    rng = np.random.default_rng(seed)
    margin = largest / 2
    low = np.full(3, -margin)
    high = np.asarray(shape) - 1 + margin
    volume = float(np.prod(high - low))
    typical = 4 / 3 * math.pi * (smallest * largest) ** 1.5
    n = int(np.clip(_CANDIDATES_PER_BALL * porosity * volume / typical, 500, 8000))
    points = rng.uniform(low, high, (n, 3))
    free = np.full(n, largest)
    balls: list[tuple[float, float, float, float]] = []
    filled, target = 0.0, porosity * volume
    # Candidates with a free distance that was estimated from nearby spheres only.
    redrawn: set[int] = set()
    while filled < target and len(balls) < _MAX_BALLS:
        r = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        # Shrink the last spheres so that the target is met rather than exceeded.
        r = min(r, max(smallest, (3 * (target - filled) / (4 * math.pi)) ** (1 / 3)))
        fits = np.flatnonzero(free >= r)
        chosen = int(rng.choice(fits)) if fits.size else int(free.argmax())
        r = min(r, float(free[chosen]))
        if r < smallest:
            break
        centre = points[chosen].copy()
        if chosen in redrawn:
            free[chosen] = min(free[chosen], _distance_to_balls(centre, balls, gap))
            redrawn.discard(chosen)
            if free[chosen] < r:
                continue
        balls.append((*centre, r))
        filled += 4 / 3 * math.pi * r**3
        free = np.minimum(free, np.linalg.norm(points - centre, axis=1) - r - gap)
        swallowed = np.flatnonzero(free < smallest)
        if swallowed.size > n // 4:
            points[swallowed] = rng.uniform(low, high, (swallowed.size, 3))
            free[swallowed] = _distances_to_nearby_balls(
                points[swallowed], balls, gap, largest
            )
            redrawn.update(swallowed.tolist())
    return np.array(balls).reshape(-1, 4)


def _distance_to_balls(
    point: npt.NDArray[np.float64],
    balls: list[tuple[float, float, float, float]],
    gap: float,
) -> float:
    """Return the distance from `point` to the nearest sphere, minus the gap."""
    placed = np.array(balls)
    distance = np.linalg.norm(placed[:, :3] - point, axis=1) - placed[:, 3]
    return float(distance.min()) - gap


def _distances_to_nearby_balls(
    points: npt.NDArray[np.float64],
    balls: list[tuple[float, float, float, float]],
    gap: float,
    largest: float,
) -> npt.NDArray[np.float64]:
    """Return the free space at `points`, from the 24 nearest spheres only.

    This is a fast upper bound.
    """
    from scipy.spatial import cKDTree

    placed = np.array(balls)
    k = min(24, len(placed))
    distance, index = cKDTree(placed[:, :3]).query(points, k=k)
    distance, index = distance.reshape(-1, k), index.reshape(-1, k)
    surface = (distance - placed[index, 3]).min(axis=1) - gap
    free: npt.NDArray[np.float64] = np.minimum(surface, largest)
    return free


def render_balls(
    shape: Shape,
    balls: npt.NDArray[np.float64],
    flatten: npt.NDArray[np.float64] | None = None,
) -> FloatArray:
    """Return each voxel's pore fraction for spheres, optionally flattened along Z.

    The fraction is computed from the signed distance to the surface; it is within a few
    per cent of the exact overlap for radii of at least two voxels.

    Parameters
    ----------
    shape : (int, int, int)
    balls : ndarray of shape (n, 4)
        Centres along Z, Y and X, and radii, in voxels.
    flatten : ndarray of shape (n,), optional
        Scale factor for the extent of each sphere along Z.
    """
    fraction = np.zeros(shape, np.float32)
    for i, (z, y, x, r) in enumerate(balls):
        squeeze = 1.0 if flatten is None else float(flatten[i])
        reach = (r * squeeze + 1, r + 1, r + 1)
        key = tuple(
            slice(max(0, math.ceil(c - d)), min(n, math.floor(c + d) + 1))
            for c, d, n in zip((z, y, x), reach, shape, strict=True)
        )
        if any(k.start >= k.stop for k in key):
            continue
        grid = np.ogrid[key]
        distance = np.sqrt(
            ((grid[0] - z) / squeeze) ** 2 + (grid[1] - y) ** 2 + (grid[2] - x) ** 2
        )
        np.maximum(fraction[key], np.clip(r - distance + 0.5, 0, 1), out=fraction[key])
    return fraction


def sphere_foam(
    shape: Shape,
    *,
    porosity: float = 0.3,
    radius: tuple[float, float] = (2.0, 10.0),
    gap: float = 1.0,
    seed: int = 0,
) -> Phantom:
    """Generate a foam of non-overlapping spherical pores [1]_ (see `place_balls`).

    Parameters
    ----------
    shape : (int, int, int)
    porosity : float
        Between 0 and 1.
    radius : (float, float)
        Smallest and largest radius, in voxels.
    gap : float
        Minimum distance between two pores, in voxels.
    seed : int
    """
    balls = place_balls(shape, porosity=porosity, radius=radius, seed=seed, gap=gap)
    return _phantom(render_balls(shape, balls), "sphere_foam")


def rare_pores(
    shape: Shape,
    *,
    porosity: float = 0.01,
    radius: tuple[float, float] = (2.0, 6.0),
    seed: int = 0,
) -> Phantom:
    """Generate a few separate pores, some flat, as in additively manufactured metal.

    Parameters
    ----------
    shape : (int, int, int)
    porosity : float
        Between 0 and 1.
    radius : (float, float)
        Smallest and largest radius, in voxels.
    seed : int
    """
    balls = place_balls(shape, porosity=porosity, radius=radius, seed=seed, gap=2.0)
    flatten = np.random.default_rng([seed, 1]).choice([1.0, 1.0, 0.6], len(balls))
    return _phantom(render_balls(shape, balls, flatten), "rare_pores")


def _filtered_field(
    shape: Shape, seed: int, amplitude: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Return white noise filtered by `amplitude`, a function of cycles per voxel."""
    from scipy import fft

    white = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    spectrum = fft.rfftn(white)
    axes = [fft.fftfreq(n).astype(np.float32) for n in shape[:-1]]
    axes.append(fft.rfftfreq(shape[-1]).astype(np.float32))
    fz, fy, fx = np.ix_(*axes)
    spectrum *= amplitude(np.sqrt(fz**2 + fy**2 + fx**2))
    field: FloatArray = fft.irfftn(spectrum, s=shape).astype(np.float32)
    return field


def _cut(field: FloatArray, porosity: float) -> FloatArray:
    """Return the pore fraction where `field` exceeds its (1 - porosity) quantile."""
    threshold = np.quantile(field, 1 - porosity)
    slope = np.sqrt(sum(g**2 for g in np.gradient(field)))
    distance: FloatArray = (field - threshold) / np.maximum(slope, 1e-6 * field.std())
    # The pore fraction is at least one half exactly where the field is above the
    # threshold, so the mask has the requested porosity.
    fraction: FloatArray = np.clip(distance + 0.5, 0, 1)
    return fraction


def random_blobs(
    shape: Shape, *, porosity: float = 0.2, radius: float = 4.0, seed: int = 0
) -> Phantom:
    """Generate irregular pores by thresholding a Gaussian random field at a quantile.

    The porosity of the mask is exact (to one voxel). `radius` is the correlation length
    of the field, about the radius of a pore.

    Parameters
    ----------
    shape : (int, int, int)
    porosity : float
        Between 0 and 1.
    radius : float
        Correlation length, in voxels.
    seed : int
    """
    _require_porosity(porosity)
    field = _filtered_field(
        shape, seed, lambda f: np.exp(-2 * (np.pi * radius * f) ** 2)
    )
    return _phantom(_cut(field, porosity), "random_blobs")


def bicontinuous(
    shape: Shape,
    *,
    porosity: float = 0.5,
    wavelength: float = 16.0,
    sheets: bool = False,
    seed: int = 0,
) -> Phantom:
    """Generate interwoven pores and solid of one typical width, as in bone [2]_.

    Parameters
    ----------
    wavelength : float
        Distance between neighbouring struts, in voxels.
    sheets : bool
        Whether to threshold the absolute value of the field, which gives curved walls
        instead of struts.
    """
    _require_porosity(porosity)
    centre, width = 1 / wavelength, 0.18 / wavelength
    field = _filtered_field(
        shape, seed, lambda f: np.exp(-0.5 * ((f - centre) / width) ** 2)
    )
    if sheets:
        field = np.abs(field)
    return _phantom(_cut(field, porosity), "bicontinuous")
