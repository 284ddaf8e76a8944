"""Dentin: parallel tubules with cuffs, and thin branches between them.

Lengths are in voxels. The structure is defined by the paths of its tubes, so that any
block of slices is identical to that of the whole structure; its graph states which
tubules each branch joins. In a confocal microscope, stained tubules appear in faintly
fluorescent dentin, with dark, unstained cuffs; in a CT scan, dark tubules appear within
cuffs that contain more mineral than the dentin between them.

References
----------
.. [1] Mjör, Nordahl. The density and branching of dentinal tubules in human teeth.
   Arch. Oral Biol. 41, 401-412 (1996). doi:10.1016/0003-9969(96)00008-8
.. [2] Marshall, Marshall, Kinney, Balooch. The dentin substrate: structure and
   properties related to bonding. J. Dent. 25, 441-458 (1997).
   doi:10.1016/S0300-5712(96)00065-6
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.specimens.phantoms import FloatArray, Phantom, Shape
from napari_geosr.physics.specimens.tubes import bent_path, render_tubes

Array = npt.NDArray[np.float64]

#: Brightness of the dentin between tubules, relative to that of the stain inside the
#: tubules.
AUTOFLUORESCENCE = 0.15
#: Excess attenuation of a cuff relative to the attenuation of other dentin.
CUFF_DENSITY = 0.25
#: Thickness of a cuff divided by the radius of its tubule.
_CUFF = 0.6
#: Tubules closer together than this fraction of their mean distance are rejected.
_MIN_DISTANCE_SHARE = 0.7
#: Maximum porosity of parallel tubules that do not touch.
_MAX_POROSITY = 0.35
#: Approximate number of slices between the points that define the path of a tubule.
_PIECE = 8
#: Range of the radius of a branch, relative to the median radius of the tubules.
_BRANCH = (0.15, 0.3)
_MIN_BRANCH_RADIUS = 0.6
_MAX_TRIES = 60


@dataclass(frozen=True, eq=False)
class Dentin:
    """Tubules along the first axis and their side branches.

    Attributes
    ----------
    shape : (int, int, int)
    tubules : list of ndarray of shape (n, 3)
        Points (z, y, x) of each tubule; tubules extend beyond the faces of the box.
    radii : ndarray
        Radii of the tubules.
    branches : list of ndarray of shape (n, 3)
    branch_radii : ndarray
    joins : ndarray of shape (m, 2), int
        Index of the tubule at which each branch starts, and of the one that it reaches;
        -1 if it ends in the dentin.
    """

    shape: Shape
    tubules: list[Array]
    radii: Array
    branches: list[Array]
    branch_radii: Array
    joins: npt.NDArray[np.intp]

    def block(self, start: int, stop: int) -> FloatArray:
        """Return the fraction of each voxel inside tubes for a range of slices."""
        paths = [*self.tubules, *self.branches]
        return self._tubes(paths, [*self.radii, *self.branch_radii], start, stop)

    def cuffs(self, start: int, stop: int) -> FloatArray:
        """Return the fraction of each voxel inside cuffs (branches have none)."""
        outer = self._tubes(self.tubules, (1 + _CUFF) * self.radii, start, stop)
        found: FloatArray = np.maximum(outer - self.block(start, stop), 0)
        return found

    def density(self, start: int, stop: int) -> FloatArray:
        """Return the attenuation of the solid relative to dentin without cuffs."""
        return 1 + np.float32(CUFF_DENSITY) * self.cuffs(start, stop)

    @property
    def phantom(self) -> Phantom:
        """The whole structure as a phantom of pores in a solid."""
        fraction = self.block(0, self.shape[0])
        return Phantom(fraction, fraction >= 0.5, "dentin")

    @property
    def texture(self) -> FloatArray:
        """Grey values that cuffs add in a CT scan of contrast 1 (`scans.scan`)."""
        return np.float32(CUFF_DENSITY) * self.cuffs(0, self.shape[0])

    @property
    def light(self) -> FloatArray:
        """Light collected by a perfect confocal microscope; 1 for a stained tubule."""
        fraction = self.block(0, self.shape[0])
        between = 1 - fraction - self.cuffs(0, self.shape[0])
        glow: FloatArray = np.float32(AUTOFLUORESCENCE) * np.maximum(between, 0)
        return fraction + glow

    def _tubes(
        self,
        paths: Sequence[Array],
        radii: Sequence[float] | Array,
        start: int,
        stop: int,
    ) -> FloatArray:
        moved = [path - np.array([start, 0, 0]) for path in paths]
        return render_tubes((stop - start, *self.shape[1:]), moved, list(radii))


def dentin(
    shape: Shape,
    *,
    porosity: float = 0.12,
    radius: tuple[float, float] = (2.5, 7.5),
    seed: int,
    branching: float = 1.5,
) -> Dentin:
    """Draw tubules along the first axis, joined by thin branches [1]_ [2]_.

    With voxels of 0.2 µm, the default radii correspond to diameters of 1 to 3 µm.

    Parameters
    ----------
    porosity : float
        Approximate area fraction of tubules in a cross-section, without branches.
    radius : (float, float)
        Smallest and largest radius of the tubules; log-uniform.
    branching : float
        Number of branches of a tubule over a length equal to the mean distance between
        tubules.

    Raises
    ------
    ConfigError
        If the tubules would touch, or the radii are invalid.
    """
    if not 0 < porosity <= _MAX_POROSITY:
        raise ConfigError(
            f"The porosity of tubules that do not touch is at most {_MAX_POROSITY}, "
            f"not {porosity}. Choose a smaller porosity."
        )
    if not 0 < radius[0] <= radius[1]:
        raise ConfigError(
            f"Radii must be greater than 0 and in ascending order, not {radius}."
        )
    rng = np.random.default_rng(seed)
    low, high = math.log(radius[0]), math.log(radius[1])
    squares = rng.uniform(low, high, 4096)
    spacing = math.sqrt(math.pi * float(np.exp(2 * squares).mean()) / porosity)
    lean, sway = 0.1 * rng.standard_normal(2), 0.25 * spacing * rng.standard_normal(2)
    centres = _placed(shape, spacing, rng)
    radii = np.exp(rng.uniform(low, high, len(centres)))
    radii = np.minimum(radii, _max_radii(centres))
    tubules = [_tubule(shape, centre, lean, sway, radius[1]) for centre in centres]
    paths, joins = _branches(shape, tubules, centres, spacing, branching, rng)
    middle = math.sqrt(radius[0] * radius[1])
    widths = np.maximum(
        _MIN_BRANCH_RADIUS, middle * rng.uniform(*_BRANCH, size=len(paths))
    )
    return Dentin(shape, tubules, radii, paths, widths, joins)


def _placed(shape: Shape, spacing: float, rng: np.random.Generator) -> Array:
    """Draw positions at which tubules cross the middle slice and a margin around it."""
    _, height, width = shape
    margin = 0.1 * shape[0] + spacing
    low, high = -margin, np.array([height, width]) + margin
    target_count = round(float(np.prod(high - low)) / spacing**2)
    found = np.zeros((0, 2))
    for point in rng.uniform(low, high, (_MAX_TRIES * max(1, target_count), 2)):
        if len(found) == target_count:
            break
        near = (
            np.linalg.norm(found - point, axis=1) if len(found) else np.array([np.inf])
        )
        if near.min() >= _MIN_DISTANCE_SHARE * spacing:
            found = np.concatenate([found, point[None]])
    return found


def _max_radii(centres: Array) -> Array:
    """Return the largest radius at which each tubule does not touch its neighbours."""
    from scipy.spatial import cKDTree

    if len(centres) < 2:
        return np.full(len(centres), np.inf)
    distances, _ = cKDTree(centres).query(centres, k=2)
    return np.asarray(0.42 * distances[:, 1])


def _tubule(
    shape: Shape, centre: Array, lean: Array, sway: Array, reach: float
) -> Array:
    """Draw a path through the volume; all paths have equal bends and stay parallel."""
    depth, n = shape[0], 2 + math.ceil(shape[0] / _PIECE)
    z = np.linspace(-reach - 2, depth + reach + 1, n)
    turn = 2 * np.pi * z / max(depth, 1)
    plane = centre + np.outer(z - depth / 2, lean)
    plane = plane + np.outer(np.sin(turn) / 2, sway) * min(1, depth / 200)
    return np.concatenate([z[:, None], plane], axis=1)


def _branches(
    shape: Shape,
    tubules: list[Array],
    centres: Array,
    spacing: float,
    branching: float,
    rng: np.random.Generator,
) -> tuple[list[Array], npt.NDArray[np.intp]]:
    """Draw thin, slightly inclined tubes to a neighbour, or about halfway to it."""
    paths: list[Array] = []
    joins: list[tuple[int, int]] = []
    mean = branching * shape[0] / spacing
    for i, tubule in enumerate(tubules):
        order = np.argsort(np.linalg.norm(centres - centres[i], axis=1))[1:4]
        for _ in range(rng.poisson(mean)):
            start = _at(tubule, rng.uniform(0, shape[0]))
            if not len(order):
                break
            j = int(rng.choice(order))
            end = _at(tubules[j], start[0] + rng.uniform(-0.5, 0.5) * spacing)
            reaches = rng.random() < 0.5
            if not reaches:
                end = start + rng.uniform(0.4, 0.7) * (end - start)
            paths.append(bent_path(start, end, 0.05 * spacing, rng))
            joins.append((i, j if reaches else -1))
    return paths, np.array(joins, np.intp).reshape(-1, 2)


def _at(path: Array, z: float) -> Array:
    """Return the position of a tubule at a given height."""
    return np.array([z, *(np.interp(z, path[:, 0], path[:, i]) for i in (1, 2))])
