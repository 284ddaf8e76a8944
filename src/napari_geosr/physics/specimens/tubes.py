"""Networks of tubes: bone cells with canaliculi, and the canals of cortical bone.

Lengths are in voxels. A cell network includes its graph, which is the ground truth for
the connections in a restored volume.

References
----------
.. [1] Kollmannsberger et al. The small world of osteocytes: connectomics of the
   lacuno-canalicular network in bone. New J. Phys. 19, 073019 (2017).
   doi:10.1088/1367-2630/aa764b
.. [2] Cooper et al. Comparison of microcomputed tomographic and microradiographic
   measurements of cortical bone porosity. Calcif. Tissue Int. 74, 437-447 (2004).
   doi:10.1007/s00223-003-0071-z
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.specimens.phantoms import FloatArray, Phantom, Shape

Array = npt.NDArray[np.float64]

#: Number of points along a bent path.
_POINTS = 9
#: Number of random candidate positions per cube with an edge of the minimum spacing.
_MAX_TRIES = 40
#: Short semi-axes of a lacuna relative to the long one.
_LACUNA = (0.5, 0.35)
#: Minimum distance between two cells that do not touch, in half-lengths of a lacuna.
_MIN_SPACING = 2.2
#: Deviation of canaliculi from a straight line, relative to the distance between cells.
_BEND = 0.08
#: Number of bisections in the search for the cell distance that gives a porosity.
_BISECTIONS = 12


@dataclass(frozen=True, eq=False)
class CellNetwork:
    """Bone cells connected by canaliculi.

    Attributes
    ----------
    shape : (int, int, int)
    cells : ndarray of shape (n, 3)
        Centres (z, y, x) of the lacunae in voxels.
    lacunae : ndarray of shape (n, 3, 3)
        Orthogonal semi-axes of each lacuna: the rows are vectors (z, y, x).
    paths : list of ndarray of shape (k, 3)
        Points (z, y, x) of each canaliculus, from centre to centre.
    radius : float
        Radius of the canaliculi.
    canaliculi : ndarray of shape (m, 2), int
        Indices of the two cells that each canaliculus connects.
    """

    shape: Shape
    cells: Array
    lacunae: Array
    paths: list[Array]
    radius: float
    canaliculi: npt.NDArray[np.intp]

    def block(self, start: int, stop: int) -> FloatArray:
        """Return the pore fraction of the slices `start` … `stop` - 1."""
        above = np.array([start, 0, 0])
        fraction = render_tubes(
            (stop - start, *self.shape[1:]),
            [path - above for path in self.paths],
            [self.radius] * len(self.paths),
        )
        for centre, axes in zip(self.cells - above, self.lacunae, strict=True):
            _add_lacuna(fraction, centre, axes)
        return fraction

    @cached_property
    def phantom(self) -> Phantom:
        """The whole network as a phantom; lacunae and canaliculi are the pores."""
        fraction = self.block(0, self.shape[0])
        return Phantom(fraction, fraction >= 0.5, "cell_network")

    @property
    def euler_number(self) -> int:
        """Euler number of the pores (cells minus canaliculi), if no canaliculi meet."""
        return len(self.cells) - len(self.canaliculi)

    @property
    def porosity(self) -> float:
        """Pore volume fraction to within a few per cent; overlaps are counted twice."""
        cells = 4 / 3 * math.pi * np.linalg.norm(self.lacunae, axis=2).prod(axis=1)
        length = 0.0
        for path, (i, j) in zip(self.paths, self.canaliculi, strict=True):
            inside = sum(_extent(self.lacunae[k], path[-1] - path[0]) for k in (i, j))
            steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
            length += max(0.0, float(steps.sum()) - inside)
        tubes = math.pi * self.radius**2 * length
        return float((cells.sum() + tubes) / math.prod(self.shape))


def _extent(axes: Array, direction: Array) -> float:
    """Return the distance from an ellipsoid's centre to its surface in a direction."""
    sizes = np.linalg.norm(axes, axis=1)
    unit = direction / np.linalg.norm(direction)
    return float(1 / np.linalg.norm((axes / sizes[:, None] ** 2) @ unit))


def render_tubes(
    shape: Shape, paths: Sequence[Array], radii: Sequence[float]
) -> FloatArray:
    """Return the fraction of each voxel inside round-ended tubes along bent paths.

    Parameters
    ----------
    paths : sequence of ndarray of shape (n, 3)
        Points (z, y, x) of each tube, joined by straight lines.
    radii : sequence of float
        Radius of each tube.

    Returns
    -------
    ndarray of `shape`
        Accurate to first order in the distance from the surface.
    """
    fraction = np.zeros(shape, np.float32)
    for path, radius in zip(paths, radii, strict=True):
        for a, b in itertools.pairwise(path):
            _add_segment(fraction, a, b, radius)
    return fraction


def _add_segment(fraction: FloatArray, a: Array, b: Array, radius: float) -> None:
    """Add a straight segment: all points closer than `radius` to the line a … b."""
    reach = radius + 1
    key = tuple(
        slice(max(0, math.ceil(min(p, q) - reach)), min(n, int(max(p, q) + reach) + 1))
        for p, q, n in zip(a, b, fraction.shape, strict=True)
    )
    if any(k.start >= k.stop for k in key):
        return
    grid = np.ogrid[key]
    along = b - a
    length = float(along @ along)
    offsets = [g - p for g, p in zip(grid, a, strict=True)]
    t = sum(o * d for o, d in zip(offsets, along, strict=True)) / max(length, 1e-12)
    t = np.clip(t, 0, 1)
    distance = np.sqrt(
        sum((o - t * d) ** 2 for o, d in zip(offsets, along, strict=True))
    )
    inside = np.clip(radius - distance + 0.5, 0, 1)
    np.maximum(fraction[key], inside, out=fraction[key])


def bent_path(a: Array, b: Array, bend: float, rng: np.random.Generator) -> Array:
    """Draw a smooth path from a to b that deviates from a line by about `bend`."""
    t = np.linspace(0, 1, _POINTS)[:, None]
    first, second = rng.standard_normal((2, 3)) * bend
    sway = np.sin(np.pi * t) * first + np.sin(2 * np.pi * t) * second / 2
    return np.asarray(a + t * (b - a) + sway)


def _distant_points(
    shape: Shape, spacing: float, margin: float, rng: np.random.Generator
) -> Array:
    """Draw random points at least `spacing` apart and `margin` from the faces."""
    low, high = np.full(3, margin), np.array(shape) - 1 - margin
    if (high <= low).any():
        raise ConfigError(
            f"A cell network needs more than {2 * margin + 1:.0f} voxels along each "
            f"axis, not {' × '.join(map(str, shape))}."
        )
    found: list[Array] = []
    # Accepted points, by the cube that contains them; its edge is the minimum spacing.
    near: dict[tuple[int, ...], list[Array]] = {}
    tries = _MAX_TRIES * (1 + math.prod(shape) / spacing**3)
    for point in rng.uniform(low, high, (int(tries), 3)):
        cube = tuple(int(x // spacing) for x in point)
        around = itertools.product(*((c - 1, c, c + 1) for c in cube))
        others = [other for key in around for other in near.get(key, ())]
        if all(math.dist(point, other) >= spacing for other in others):
            found.append(point)
            near.setdefault(cube, []).append(point)
    return np.array(found).reshape(-1, 3)


def cell_network(
    shape: Shape,
    *,
    spacing: float = 36.0,
    lacuna: float = 10.0,
    canaliculus: float = 1.6,
    neighbours: int = 4,
    bend: float = 3.0,
    seed: int = 0,
) -> CellNetwork:
    """Generate bone-cell lacunae, joined to their neighbours by canaliculi [1]_.

    Parameters
    ----------
    spacing : float
        Minimum distance between cells.
    lacuna : float
        Half the length of a lacuna.
    canaliculus : float
        Radius of the canaliculi.
    neighbours : int
        Number of nearest cells that each cell is connected to.
    bend : float
        Typical distance of canaliculi from a straight line.

    Raises
    ------
    ConfigError
        If the volume is too small for a cell.
    """
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(seed)
    cells = _distant_points(shape, spacing, lacuna + 2, rng)
    near = cKDTree(cells).query(cells, range(1, min(neighbours + 1, len(cells)) + 1))[1]
    pairs = {
        (min(i, j), max(i, j)) for i, row in enumerate(near) for j in row[1:].tolist()
    }
    joined = np.array(sorted(pairs), np.intp).reshape(-1, 2)
    paths = [bent_path(cells[i], cells[j], bend, rng) for i, j in joined]
    lacunae = np.array([_tilted_axes(lacuna, rng) for _ in cells])
    return CellNetwork(shape, cells, lacunae, paths, canaliculus, joined)


def bone_cells(
    shape: Shape, *, porosity: float, radius: tuple[float, float], seed: int
) -> CellNetwork:
    """Generate a cell network of given porosity [1]_.

    Parameters
    ----------
    porosity : float
        Approximate volume fraction of lacunae and canaliculi.
    radius : (float, float)
        Radius of the canaliculi, and half the length of a lacuna.

    Raises
    ------
    ConfigError
        If the cells would touch, the canaliculi are too thick, or the volume is too
        small for a cell.
    """
    canaliculus, lacuna = radius
    if not 0 < canaliculus <= lacuna * min(_LACUNA):
        raise ConfigError(
            "Canaliculi must be thinner than the cells that they connect: their radius "
            f"{canaliculus:g} must be above 0 and at most {min(_LACUNA):g} times half "
            f"the length of a lacuna ({lacuna:g})."
        )
    closest = _MIN_SPACING * lacuna

    def network(spacing: float) -> CellNetwork:
        return cell_network(
            shape,
            spacing=spacing,
            lacuna=lacuna,
            canaliculus=canaliculus,
            bend=_BEND * spacing,
            seed=seed,
        )

    densest = network(closest)
    if densest.porosity < porosity:
        raise ConfigError(
            "In this volume, the porosity of cells that do not touch is at most about "
            f"{densest.porosity:.3f}, not {porosity:g}. Choose a smaller porosity "
            "or smaller radii."
        )
    low, high = closest, 2.0 * max(shape)
    best = densest
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        made = network(middle)
        if abs(made.porosity - porosity) < abs(best.porosity - porosity):
            best = made
        low, high = (middle, high) if made.porosity > porosity else (low, middle)
    return best


def _tilted_axes(length: float, rng: np.random.Generator) -> Array:
    """Draw the semi-axes of an ellipsoid with its long axis tilted randomly from Z."""
    long = np.array([1.0, *(0.3 * rng.standard_normal(2))])
    long /= np.linalg.norm(long)
    second = np.cross(long, rng.standard_normal(3))
    second /= np.linalg.norm(second)
    frame = np.stack([long, second, np.cross(long, second)])
    return np.asarray(frame * length * np.array([1.0, *_LACUNA])[:, None])


def _add_lacuna(fraction: FloatArray, centre: Array, axes: Array) -> None:
    """Add an ellipsoid with the given semi-axes."""
    sizes = np.linalg.norm(axes, axis=1)
    length = float(sizes[0])
    key = tuple(
        slice(max(0, int(c - length - 1)), min(n, int(c + length + 2)))
        for c, n in zip(centre, fraction.shape, strict=True)
    )
    if any(k.start >= k.stop for k in key):
        return
    grid = np.ogrid[key]
    offsets = [g - c for g, c in zip(grid, centre, strict=True)]
    along = [
        sum(o * u for o, u in zip(offsets, axis / size, strict=True)) / size
        for axis, size in zip(axes, sizes, strict=True)
    ]
    level = np.sqrt(sum(a**2 for a in along))
    slope = np.sqrt(sum((a / s) ** 2 for a, s in zip(along, sizes, strict=True)))
    # To first order, the distance to the surface is (1 - level) divided by the slope of
    # the level, which is `slope` / level.
    distance = (1 - level) * level / np.maximum(slope, 1e-9)
    inside = np.clip(np.where(level < 0.5, 1.0, distance + 0.5), 0, 1)
    np.maximum(fraction[key], inside, out=fraction[key])


def cortical_canals(
    shape: Shape,
    *,
    number: int = 10,
    radius: tuple[float, float] = (2.0, 10.0),
    links: int = 6,
    bend: float = 6.0,
    seed: int = 0,
) -> Phantom:
    """Generate Haversian canals along the first axis, joined by Volkmann canals [2]_.

    Parameters
    ----------
    number : int
        Number of Haversian canals.
    radius : (float, float)
        Smallest and largest radius; the distribution is log-uniform.
    links : int
        Number of thinner canals that connect neighbouring ones.
    bend : float
        Typical distance of canals from a straight line.
    """
    rng = np.random.default_rng(seed)
    depth, height, width = shape
    paths: list[Array] = []
    radii: list[float] = []
    for _ in range(number):
        y, x = rng.uniform((0, 0), (height, width))
        lean = 0.15 * depth * rng.standard_normal(2)
        low = np.array([-8.0, y - lean[0], x - lean[1]])
        high = np.array([depth + 8.0, y + lean[0], x + lean[1]])
        paths.append(bent_path(low, high, bend, rng))
        radii.append(math.exp(rng.uniform(math.log(radius[0]), math.log(radius[1]))))
    for _ in range(links if number > 1 else 0):
        first = int(rng.integers(number))
        starts = np.array([path[_POINTS // 2] for path in paths[:number]])
        order = np.argsort(np.linalg.norm(starts - starts[first], axis=1)).tolist()
        second = order[min(1 + int(rng.integers(2)), number - 1)]
        a, b = (paths[i][rng.integers(1, _POINTS - 1)] for i in (first, second))
        paths.append(bent_path(a, b, bend / 3, rng))
        radii.append(max(radius[0], 0.5 * min(radii[first], radii[second])))
    fraction = render_tubes(shape, paths, radii)
    return Phantom(fraction, fraction >= 0.5, "cortical_canals")
