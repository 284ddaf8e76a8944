"""Random scenes for training denoisers: dead leaves with features of real scans.

Random shapes with power-law sizes occlude each other, which gives images the statistics
of natural images [1]_; networks trained on them can denoise unseen kinds of images
[2]_. The following features of materials, bones and cells are added: fibres and weaves,
plates and cracks, thin struts, cavities one to four voxels wide, grains, textures with
power-law spectra inside phases, and gradients from beam hardening.

References
----------
.. [1] Lee, Mumford, Huang. Occlusion models for natural images: a statistical study of
   a scale-invariant dead leaves model. IJCV 41, 35-59 (2001).
   doi:10.1023/A:1011109015675
.. [2] Achddou, Gousseau, Ladjal. Fully synthetic training for image restoration tasks.
   CVIU 233, 103723 (2023). doi:10.1016/j.cviu.2023.103723
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.specimens.phantoms import Shape

FloatArray = npt.NDArray[np.float32]
Grid = tuple[FloatArray, FloatArray, FloatArray]

#: Minimum and maximum radius r of objects, in voxels; the number of objects of a radius
#: is proportional to ``r^-3``.
_RADII = (0.8, 30.0)
_KINDS = ("ellipsoid", "box", "octahedron", "fibre", "plate")


def random_scene(shape: Shape, rng: np.random.Generator) -> FloatArray:
    """Generate a noise-free volume (Z, Y, X) with grey values of about 0 … 1."""
    two_phases = rng.random() < 0.35
    greys = rng.random(2 if two_phases else int(rng.integers(3, 9)))
    if two_phases and abs(greys[0] - greys[1]) < 0.2:
        greys[1] = (greys[0] + 0.5) % 1
    grid = _grid(shape)
    scene = np.full(shape, rng.choice(greys), np.float32)
    kinds = rng.dirichlet((2.0, 1.0, 1.0, 1.0, 1.0))
    textured = rng.random() * 0.5
    for _ in range(int(rng.integers(20, 130))):
        _add_leaf(scene, grid, rng, greys, rng.choice(_KINDS, p=kinds), textured)
    extras = (_add_cavities, _add_struts, _add_cracks, _add_weave, _add_grains)
    for extra, chance in zip(extras, (0.35, 0.2, 0.15, 0.1, 0.15), strict=True):
        if rng.random() < chance:
            extra(scene, grid, rng, greys)
    if rng.random() < 0.4:
        scene = gaussian_blur(scene, rng.uniform(0.3, 1.3))
    elif rng.random() < 0.2:  # different blurs along Z and in the plane
        scene = gaussian_blur(
            scene, (rng.uniform(0, 1.5), *[rng.uniform(0.2, 1.0)] * 2)
        )
    if rng.random() < 0.3:
        scene = scene + _gradient(grid, rng)
    if rng.random() < 0.25:
        field = power_law_field(shape, rng.uniform(1.0, 3.0), rng)
        scene = scene + np.float32(rng.uniform(0.005, 0.05)) * field
    return scene.astype(np.float32)


def power_law_field(
    shape: Shape, exponent: float, rng: np.random.Generator
) -> FloatArray:
    """Draw a Gaussian field with power ∝ ``f^-exponent``, mean 0, standard deviation 1.

    Parameters
    ----------
    shape : (int, int, int)
    exponent : float
    rng : numpy.random.Generator
    """
    from scipy import fft

    spectrum = fft.rfftn(rng.standard_normal(shape, dtype=np.float32))
    axes = [fft.fftfreq(n) for n in shape[:-1]] + [fft.rfftfreq(shape[-1])]
    f2 = sum(np.square(a) for a in np.meshgrid(*axes, indexing="ij", sparse=True))
    f2[(0,) * len(shape)] = math.inf
    field: FloatArray = fft.irfftn(spectrum * f2 ** (-exponent / 4), s=shape)
    return (field / max(float(field.std()), 1e-12)).astype(np.float32)


def _grid(shape: Shape) -> Grid:
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    return z.astype(np.float32), y.astype(np.float32), x.astype(np.float32)


def _rotation(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    turned: npt.NDArray[np.float64] = q * np.sign(np.diag(r))
    return turned


def _radius(rng: np.random.Generator) -> float:
    """Draw a radius with density ∝ r^-3, times a random factor from 0.8 to 2."""
    low, high = _RADII
    share = rng.random()
    return float((low**-2 - share * (low**-2 - high**-2)) ** -0.5 * rng.uniform(0.8, 2))


def _cut(grid: Grid, key: tuple[slice, ...]) -> Grid:
    """Return the coordinates of the voxels in a box."""
    z, y, x = grid
    return z[key[0]], y[:, key[1]], x[:, :, key[2]]


def _relative_to(grid: Grid, place: npt.NDArray[np.float64]) -> Grid:
    """Return the coordinates relative to `place` (Z, Y, X)."""
    z, y, x = grid
    c = place.astype(np.float32)
    return z - c[0], y - c[1], x - c[2]


def _dot(grid: Grid, u: npt.NDArray[np.float64]) -> FloatArray:
    z, y, x = grid
    n = u.astype(np.float32)
    along: FloatArray = z * n[0] + y * n[1] + x * n[2]
    return along


def _add_leaf(
    scene: FloatArray,
    grid: Grid,
    rng: np.random.Generator,
    greys: npt.NDArray[np.float64],
    kind: str,
    textured: float,
) -> None:
    shape = scene.shape
    centre = rng.random(3) * np.array(shape)
    r = min(_radius(rng), _RADII[1])
    reach = math.inf if kind in ("fibre", "plate") else 2.2 * r + 2
    low = [int(max(0, math.floor(c - min(reach, 1e6)))) for c in centre]
    high = [
        int(min(n, math.ceil(c + min(reach, 1e6)) + 1))
        for c, n in zip(centre, shape, strict=True)
    ]
    key = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return
    part = _relative_to(_cut(grid, key), centre)
    a, b, c = (_dot(part, u) for u in _rotation(rng))
    size = r * rng.uniform(0.6, 1.6, 3)
    if kind == "ellipsoid":
        inside = (a / size[0]) ** 2 + (b / size[1]) ** 2 + (c / size[2]) ** 2 < 1
    elif kind == "box":
        inside = (abs(a) < size[0]) & (abs(b) < size[1]) & (abs(c) < size[2])
    elif kind == "octahedron":
        inside = abs(a) + abs(b) + abs(c) < 1.4 * r
    elif kind == "fibre":
        inside = a**2 + b**2 < min(r, 5.0) ** 2
    else:
        wide = 12 + 10 * rng.random()
        inside = (abs(a) < min(0.5 * r, 3.0)) & (b**2 + c**2 < wide**2)
    leaf: FloatArray = np.full(inside.shape, rng.choice(greys), np.float32)
    if rng.random() < textured and min(inside.shape) > 2:
        field = power_law_field(inside.shape, rng.uniform(1.0, 3.0), rng)
        leaf = leaf + np.float32(rng.uniform(0.01, 0.12)) * field
    scene[key] = np.where(inside, leaf, scene[key])


def _add_cavities(
    scene: FloatArray,
    grid: Grid,
    rng: np.random.Generator,
    greys: npt.NDArray[np.float64],
) -> None:
    """Add cavities one to four voxels wide, such as lacunae, or grains of that size."""
    grey = np.float32(rng.choice(greys))
    for _ in range(int(rng.integers(10, 120))):
        centre = rng.random(3) * np.array(scene.shape)
        radii = rng.uniform(0.6, 2.0, 3)
        key = tuple(slice(max(0, int(c) - 3), int(c) + 4) for c in centre)
        inside = sum(
            ((g - c) / r) ** 2
            for g, c, r in zip(_cut(grid, key), centre, radii, strict=True)
        )
        scene[key] = np.where(inside < 1, grey, scene[key])


def _add_struts(
    scene: FloatArray,
    grid: Grid,
    rng: np.random.Generator,
    greys: npt.NDArray[np.float64],
) -> None:
    """Add struts one to four voxels thick between random positions."""
    grey = np.float32(rng.choice(greys))
    for _ in range(int(rng.integers(5, 25))):
        ends = rng.random((2, 3)) * np.array(scene.shape)
        along = ends[1] - ends[0]
        length = max(float(np.linalg.norm(along)), 1.0)
        u = along / length
        d = _relative_to(grid, ends[0])
        t = _dot(d, u)
        away = d[0] ** 2 + d[1] ** 2 + d[2] ** 2 - t**2
        r = rng.uniform(0.5, 2.2)
        scene[(away < r * r) & (t > 0) & (t < length)] = grey


def _add_cracks(
    scene: FloatArray,
    grid: Grid,
    rng: np.random.Generator,
    greys: npt.NDArray[np.float64],
) -> None:
    """Add cracks: wavy sheets about one voxel thick."""
    grey = np.float32(rng.choice(greys))
    for _ in range(int(rng.integers(1, 5))):
        u = _rotation(rng)[0]
        place = rng.random(3) * np.array(scene.shape)
        d = _dot(_relative_to(grid, place), u)
        wave = power_law_field(scene.shape, 4.0, rng) * np.float32(rng.uniform(1, 4))
        scene[abs(d + wave) < rng.uniform(0.4, 1.0)] = grey


def _add_weave(
    scene: FloatArray,
    grid: Grid,
    rng: np.random.Generator,
    greys: npt.NDArray[np.float64],
) -> None:
    """Add two sets of interlaced yarns."""
    z, y, x = grid
    pitch, r = rng.uniform(8, 24), rng.uniform(1.5, 6)
    for across, along in ((y, x), (x, y)):
        grey = np.float32(rng.choice(greys))
        phase = 0.0 if across is y else math.pi
        number = np.round(across / pitch)
        height = scene.shape[0] / 2 + 0.8 * r * np.sin(
            np.pi * along / pitch + np.pi * number + phase
        )
        layer = np.round((z - height) / (4 * r)) * 4 * r
        inside = (z - height - layer) ** 2 + (across - number * pitch) ** 2 < r * r
        scene[inside] = grey


def _add_grains(
    scene: FloatArray,
    grid: Grid,
    rng: np.random.Generator,
    greys: npt.NDArray[np.float64],
) -> None:
    """Add grains (Voronoi cells) of different grey values, in one phase or in all."""
    from scipy.spatial import cKDTree

    n = int(rng.integers(15, 150))
    seeds = rng.random((n, 3)) * np.array(scene.shape)
    where = np.stack(np.broadcast_arrays(*grid), -1).reshape(-1, 3)
    nearest = cKDTree(seeds).query(where)[1].reshape(scene.shape)
    own = (rng.choice(greys, n) + rng.uniform(0, 0.1) * rng.normal(size=n)).astype("f4")
    within = scene == np.float32(rng.choice(greys)) if rng.random() < 0.5 else True
    scene[...] = np.where(within, own[nearest], scene)


def _gradient(grid: Grid, rng: np.random.Generator) -> FloatArray:
    """Draw a linear plus a parabolic gradient: uneven light and beam hardening."""
    shape = [g.size for g in grid]
    z, y, x = (g / max(n - 1, 1) - 0.5 for g, n in zip(grid, shape, strict=True))
    ramp = sum(rng.normal() * part for part in (z, y, x))
    bowl = rng.normal() * ((y - rng.normal() / 4) ** 2 + (x - rng.normal() / 4) ** 2)
    field: FloatArray = (rng.uniform(0, 0.2) * (ramp + 2 * bowl)).astype(np.float32)
    return field
