"""Fluorescence phantoms: nuclei, membranes, filaments and spots on a background.

Lengths are in voxels of the plane. A phantom represents the light that a perfect
microscope would collect; blur and noise are added afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.noise import poisson_gaussian_noise
from napari_geosr.physics.sampling import area_downsample, centre_samples

FloatArray = npt.NDArray[np.float32]
Shape = tuple[int, int, int]

STRUCTURES = ("nuclei", "membranes", "filaments", "spots")
#: Percentile of the noise-free image that represents a bright structure.
BRIGHT = 99.5


@dataclass(frozen=True)
class Microscope:
    """Imaging settings of a phantom.

    Attributes
    ----------
    blur : float
        Standard deviation of the point-spread function in the plane, in voxels.
    elongation : float
        Length of the point-spread function along the optical axis, relative to its
        width in the plane.
    step : float
        Distance between slices, in voxels of the plane.
    photons : float
        Photons per voxel of a bright structure.
    read_noise : float
        Standard deviation of the camera's read noise, in photons.
    background : float
        Uniform background light, relative to a bright structure.
    """

    blur: float = 1.2
    elongation: float = 2.5
    step: float = 2.0
    photons: float = 30.0
    read_noise: float = 1.0
    background: float = 0.1


@dataclass(frozen=True, eq=False)
class Exposure:
    """Two images of the same object with independent noise, and their expected value.

    Attributes
    ----------
    noisy, again : ndarray of shape (Z, Y, X), float32
        Images in photons.
    clean : ndarray of the same shape
        Expected value of both images: blurred, without noise.
    """

    noisy: FloatArray
    again: FloatArray
    clean: FloatArray


def nuclei(
    shape: Shape, rng: np.random.Generator, *, step: float = 1.0, radius: float = 10.0
) -> FloatArray:
    """Draw ellipsoids with chromatin-like texture, with values from 0 to 1.

    Parameters
    ----------
    shape : (int, int, int)
    rng : numpy.random.Generator
    step : float
        Distance between planes along Z, in pixels.
    radius : float
        Approximate radius of a nucleus, in pixels.
    """
    inside = _cells(shape, rng, step, radius)[0] < 1
    grain = rng.uniform(1.0, 2.5)
    field = gaussian_blur(
        rng.standard_normal(shape, dtype=np.float32), (grain / step, grain, grain)
    )
    field /= max(float(field.std()), 1e-6)
    light = inside * np.exp(np.float32(rng.uniform(0.1, 0.5)) * field)
    return _scaled(light)


def membranes(
    shape: Shape, rng: np.random.Generator, *, step: float = 1.0, radius: float = 14.0
) -> FloatArray:
    """Draw thin shells around cells, with values from 0 to 1.

    Parameters
    ----------
    shape : (int, int, int)
    rng : numpy.random.Generator
    step : float
        Distance between planes along Z, in pixels.
    radius : float
        Approximate radius of a cell, in pixels.
    """
    depth, size = _cells(shape, rng, step, radius)
    thickness = rng.uniform(0.6, 1.2)
    return _scaled(np.exp(-0.5 * ((depth - 1) * size / thickness) ** 2))


def _cells(
    shape: Shape, rng: np.random.Generator, step: float, radius: float
) -> tuple[FloatArray, FloatArray]:
    """Return the distance to the nearest cell centre in radii, and the cell radius."""
    share = rng.uniform(0.1, 0.6)
    n = int(np.clip(share * math.prod(shape) * step / (4.2 * radius**3), 2, 60))
    best = np.full(shape, np.inf, np.float32)
    size = np.ones(shape, np.float32)
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    for _ in range(n):
        centre = rng.uniform(0, shape)
        axes = radius * rng.uniform(0.7, 1.3, 3) / (step, 1, 1)
        turn = rng.uniform(0, math.pi)
        z, y, x = (g - c for g, c in zip(grid, centre, strict=True))
        u = y * math.cos(turn) + x * math.sin(turn)
        v = x * math.cos(turn) - y * math.sin(turn)
        far = np.sqrt((z / axes[0]) ** 2 + (u / axes[1]) ** 2 + (v / axes[2]) ** 2)
        nearer = far < best
        best = np.where(nearer, far, best).astype(np.float32)
        size = np.where(nearer, np.float32(axes[1:].mean()), size)
    return best, size


def filaments(
    shape: Shape, rng: np.random.Generator, *, step: float = 1.0, number: int = 30
) -> FloatArray:
    """Draw curved lines of varied brightness, with values from 0 to 1.

    Parameters
    ----------
    shape : (int, int, int)
    rng : numpy.random.Generator
    step : float
        Distance between planes along Z, in pixels.
    number : int
        Number of filaments.
    """
    light = np.zeros(shape, np.float32)
    length = int(2 * max(shape))
    stiffness = rng.uniform(0.02, 0.12)
    for _ in range(number):
        heading = rng.uniform(0, 2 * math.pi)
        turns = heading + np.cumsum(rng.normal(0, stiffness, length))
        climb = rng.normal(0, 0.15) + np.cumsum(rng.normal(0, 0.02, length))
        start = rng.uniform(0, shape)
        z = start[0] + np.cumsum(0.5 * climb) / step
        y = start[1] + np.cumsum(0.5 * np.sin(turns))
        x = start[2] + np.cumsum(0.5 * np.cos(turns))
        _splat(light, np.stack([z, y, x], 1), np.full(length, rng.uniform(0.4, 1.0)))
    return _scaled(light)


def spots(shape: Shape, rng: np.random.Generator, *, number: int = 150) -> FloatArray:
    """Draw points of varied brightness, with values from 0 to 1.

    Parameters
    ----------
    shape : (int, int, int)
    rng : numpy.random.Generator
    number : int
        Number of spots.
    """
    light = np.zeros(shape, np.float32)
    _splat(light, rng.uniform(0, shape, (number, 3)), rng.lognormal(0, 0.5, number))
    return _scaled(light)


def _splat(light: FloatArray, points: AnyArray, weights: AnyArray) -> None:
    """Distribute points among the eight surrounding voxels."""
    low = np.floor(points).astype(int)
    share = points - low
    for corner in np.ndindex(2, 2, 2):
        place = low + corner
        weight = weights * np.prod(np.where(corner, share, 1 - share), axis=1)
        inside = ((place >= 0) & (place < light.shape)).all(axis=1)
        np.add.at(light, tuple(place[inside].T), weight[inside])


def _scaled(light: npt.NDArray[np.floating]) -> FloatArray:
    top = float(light.max())
    return (light / top if top > 0 else light).astype(np.float32)


def random_phantom(
    shape: Shape, rng: np.random.Generator, *, step: float = 1.0
) -> FloatArray:
    """Draw one or two kinds of structures with random sizes and numbers.

    Parameters
    ----------
    shape : (int, int, int)
    rng : numpy.random.Generator
    step : float
        Distance between planes along Z, in pixels.
    """
    chosen = rng.choice(len(STRUCTURES), size=rng.integers(1, 3), replace=False)
    light = np.zeros(shape, np.float32)
    extent = math.prod(shape) / (16 * 128 * 128)
    for kind in chosen:
        light += np.float32(rng.uniform(0.4, 1.0)) * phantom(
            STRUCTURES[kind], shape, rng, step=step, extent=extent
        )
    return light


def phantom(
    kind: str,
    shape: Shape,
    rng: np.random.Generator,
    *,
    step: float = 1.0,
    extent: float = 1.0,
) -> FloatArray:
    """Draw structures of one kind.

    The size of nuclei and membranes and the number of filaments and spots are random.

    Parameters
    ----------
    kind : str
        Kind of structure, such as ``"nuclei"``.
    shape : (int, int, int)
    rng : numpy.random.Generator
    step : float
        Distance between planes along Z, in pixels.
    extent : float
        Factor for the number of filaments or spots.
    """
    if kind == "nuclei":
        return nuclei(shape, rng, step=step, radius=rng.uniform(6, 18))
    if kind == "membranes":
        return membranes(shape, rng, step=step, radius=rng.uniform(8, 24))
    if kind == "filaments":
        number = max(2, int(extent * rng.uniform(10, 60)))
        return filaments(shape, rng, step=step, number=number)
    number = max(4, int(extent * math.exp(rng.uniform(math.log(40), math.log(600)))))
    return spots(shape, rng, number=number)


def random_microscope(
    rng: np.random.Generator, *, photons: tuple[float, float] = (4.0, 300.0)
) -> Microscope:
    """Draw imaging settings: blur, sampling and (log-uniform) photon count."""
    return Microscope(
        blur=rng.uniform(0.8, 2.0),
        elongation=rng.uniform(2.0, 3.5),
        step=rng.uniform(1.0, 4.0),
        photons=math.exp(rng.uniform(math.log(photons[0]), math.log(photons[1]))),
        read_noise=rng.uniform(0.0, 3.0),
        background=math.exp(rng.uniform(math.log(0.02), math.log(0.5))),
    )


def blurred_image(light: FloatArray, microscope: Microscope) -> FloatArray:
    """Return the noise-free image of `light`; 1 corresponds to a bright structure."""
    blur = microscope.blur
    blurred = gaussian_blur(
        light, (blur * microscope.elongation / microscope.step, blur, blur)
    )
    bright = max(float(np.percentile(blurred, BRIGHT)), 1e-6)
    clean = blurred / np.float32(bright) + np.float32(microscope.background)
    return clean.astype(np.float32)


def camera_image(
    clean: FloatArray, microscope: Microscope, rng: np.random.Generator
) -> FloatArray:
    """Simulate the camera image of a noise-free image, in photons.

    Parameters
    ----------
    clean : ndarray
        Noise-free image, in units of the microscope's number of photons.
    microscope : Microscope
    rng : numpy.random.Generator
    """
    noisy = poisson_gaussian_noise(
        clean, microscope.photons, microscope.read_noise, rng
    )
    return noisy * np.float32(microscope.photons)


def expose(
    light: FloatArray, microscope: Microscope, rng: np.random.Generator
) -> Exposure:
    """Record two images of `light` through `microscope`.

    Parameters
    ----------
    light : ndarray of shape (Z, Y, X)
    microscope : Microscope
    rng : numpy.random.Generator
    """
    clean = blurred_image(light, microscope)
    noisy, again = (camera_image(clean, microscope, rng) for _ in range(2))
    return Exposure(noisy, again, clean * np.float32(microscope.photons))


def expose_coarse(
    light: FloatArray, microscope: Microscope, rng: np.random.Generator, factor: int = 2
) -> tuple[FloatArray, FloatArray]:
    """Record `light` with wide pixels, and with narrow pixels and a sharper lens.

    A pixel counts all photons that fall on it. Both images are scaled to the grey level
    of bright structures in wide pixels, so fine structures may be brighter in the
    second image. The light of a wide pixel is the mean over its narrow pixels, apart
    from light that the wider blur carries across its edges.

    Parameters
    ----------
    light : ndarray of shape (Z, factor · Y, factor · X)
        The object, in narrow pixels.
    microscope : Microscope
        The microscope with wide pixels; its lengths are in wide pixels.
    factor : int
        Narrow pixels per wide pixel along Y and X.

    Returns
    -------
    noisy : ndarray of shape (Z, Y, X), float32
        Image in photons per wide pixel.
    sharp : ndarray of the shape of `light`, float32
        Noise-free image on the scale of `noisy`; its blur in the plane is that of
        `noisy` divided by `factor`, and its blur along the optical axis is the same.
    """
    blur = microscope.blur
    depth = blur * microscope.elongation / microscope.step
    wide = gaussian_blur(light, (depth, factor * blur, factor * blur))
    coarse = area_downsample(wide, (1, factor, factor))
    bright = np.float32(max(float(np.percentile(coarse, BRIGHT)), 1e-6))
    background = np.float32(microscope.background)
    noisy = camera_image(coarse / bright + background, microscope, rng)
    sharp = gaussian_blur(light, (depth, blur, blur)) / bright + background
    return noisy, sharp * np.float32(microscope.photons)


def scan_coarsely(
    light: FloatArray,
    microscope: Microscope,
    rng: np.random.Generator,
    factors: Sequence[int],
) -> FloatArray:
    """Record `light` with a scan that stops only at the centre of each block of voxels.

    The lens and the dwell time at each position are those of a scan of all voxels, so
    that blur and photon count per sample are the same.

    Parameters
    ----------
    microscope : Microscope
        Its lengths are in voxels of `light`.
    factors : sequence of int
        Number of voxels of a block along each axis.

    Returns
    -------
    ndarray
        Image in photons per sample.
    """
    return camera_image(
        centre_samples(blurred_image(light, microscope), factors), microscope, rng
    )
