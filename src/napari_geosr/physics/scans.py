"""Simulated scans: a phantom with grey values, blur and noise, and its ground truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.noise import gaussian_noise, reconstruction_noise
from napari_geosr.physics.projection.radon import parallel_beam, short_exposure_scan
from napari_geosr.physics.sampling import area_downsample
from napari_geosr.physics.specimens import phantoms
from napari_geosr.physics.specimens.phantoms import FloatArray, Phantom, Shape

NoiseKind = Literal["independent", "reconstruction", "few-photons"]


@dataclass(frozen=True)
class Imaging:
    """Settings of a simulated scan: noise, blur and sampling.

    Attributes
    ----------
    noise : float
        Standard deviation of the noise in units of the contrast between pore and solid.
    noise_kind : str
        ``"independent"``: uncorrelated between voxels; ``"reconstruction"``: with the
        spectrum of filtered back-projection; ``"few-photons"``: that of a
        reconstruction from simulated projections with Poisson noise (square slices
        only).
    blur : float
        Standard deviation of the point-spread function in voxels of the scan.
    cutoff : float
        Frequency at which the filter's window reaches zero (Nyquist frequency = 1).
    n_angles : int
        Number of projections of a ``"few-photons"`` scan.
    downsample : int
        Voxels of the object per voxel of the scan along each axis.
    """

    noise: float = 0.3
    noise_kind: NoiseKind = "reconstruction"
    blur: float = 0.7
    cutoff: float = 1.5
    n_angles: int = 180
    downsample: int = 1


@dataclass(frozen=True, eq=False)
class Scan:
    """A simulated scan and its ground truth.

    Attributes
    ----------
    noisy : ndarray of shape (Z, Y, X)
        The simulated scan, with noise.
    clean : ndarray of shape (s·Z, s·Y, s·X)
        Grey values of the object on its own grid, sharp except for partial volumes.
    mask : ndarray of bool, same shape as `clean`
        Voxels of the pores.
    contrast : float
        Grey value of the solid minus that of the pores; negative for bright pores.
    """

    noisy: FloatArray
    clean: FloatArray
    mask: npt.NDArray[np.bool_]
    contrast: float


def scan(
    phantom: Phantom,
    imaging: Imaging,
    *,
    solid: float = 0.8,
    pore: float = 0.2,
    texture: FloatArray | None = None,
    seed: int = 0,
) -> Scan:
    """Simulate a scan of `phantom`.

    Parameters
    ----------
    solid, pore : float
        Grey values of the two phases.
    texture : ndarray of the phantom's shape, optional
        Grey values added to the object (gradients, inclusions); `Scan.clean` includes
        them.
    seed : int
        Seed for the noise.
    """
    rng = np.random.default_rng([seed, 7])
    contrast = solid - pore
    clean = np.float32(solid) - np.float32(contrast) * phantom.fraction
    if texture is not None:
        clean = clean + texture
    seen = gaussian_blur(clean, imaging.blur * imaging.downsample)
    if imaging.downsample > 1:
        seen = area_downsample(seen, imaging.downsample)
    sd = imaging.noise * abs(contrast)
    if imaging.noise_kind == "few-photons":
        low = float(seen.min())
        seen = low + short_exposure_scan(
            seen - low,
            n_angles=imaging.n_angles,
            noise=sd,
            cutoff=imaging.cutoff,
            seed=int(rng.integers(2**31)),
        )
    elif imaging.noise_kind == "reconstruction":
        shape = (seen.shape[0], seen.shape[1], seen.shape[2])
        seen = seen + reconstruction_noise(shape, sd, rng, cutoff=imaging.cutoff)
    else:
        seen = seen + gaussian_noise(seen.shape, sd, rng)
    return Scan(
        noisy=seen.astype(np.float32),
        clean=clean.astype(np.float32),
        mask=phantom.mask,
        contrast=contrast,
    )


def noise_free(clean: FloatArray, imaging: Imaging) -> FloatArray:
    """Simulate the noise-free scan of an object with grey values `clean`.

    The result includes the blur and, for ``"few-photons"``, the filter and streaks of
    the reconstruction.
    """
    seen = gaussian_blur(clean, imaging.blur * imaging.downsample)
    if imaging.downsample > 1:
        seen = area_downsample(seen, imaging.downsample)
    if imaging.noise_kind == "few-photons":
        low = np.float32(seen.min())
        beam = parallel_beam(seen.shape[-1], imaging.n_angles)
        seen = low + beam.reconstruct(beam.project(seen - low), imaging.cutoff)
    return seen.astype(np.float32)


def random_phantom(
    shape: Shape, rng: np.random.Generator, scale: float = 1.0
) -> Phantom:
    """Draw a phantom of random kind, porosity and feature size.

    Parameters
    ----------
    scale : float
        Scale factor for all lengths: 2 gives the same structures on a grid twice as
        fine.
    """
    seed = int(rng.integers(2**31))
    kind = rng.choice(4, p=[0.4, 0.25, 0.2, 0.15])
    if kind == 0:
        smallest = scale * math.exp(rng.uniform(math.log(1.6), math.log(5.0)))
        largest = smallest * rng.uniform(1.2, 4.0)
        return phantoms.sphere_foam(
            shape,
            porosity=math.exp(rng.uniform(math.log(0.03), math.log(0.6))),
            radius=(smallest, min(largest, 15 * scale)),
            gap=scale * rng.choice([0.0, 0.5, 1.0, 2.0]),
            seed=seed,
        )
    if kind == 1:
        return phantoms.random_blobs(
            shape,
            porosity=math.exp(rng.uniform(math.log(0.03), math.log(0.6))),
            radius=scale * math.exp(rng.uniform(math.log(2.0), math.log(8.0))),
            seed=seed,
        )
    if kind == 2:
        return phantoms.bicontinuous(
            shape,
            porosity=rng.uniform(0.1, 0.85),
            wavelength=scale * math.exp(rng.uniform(math.log(9.0), math.log(36.0))),
            sheets=bool(rng.random() < 0.3),
            seed=seed,
        )
    smallest = scale * rng.uniform(1.5, 3.5)
    return phantoms.rare_pores(
        shape,
        porosity=math.exp(rng.uniform(math.log(0.005), math.log(0.03))),
        radius=(smallest, smallest * rng.uniform(1.3, 3.0)),
        seed=seed,
    )


def small_pore_foam(
    shape: Shape, rng: np.random.Generator, scale: float = 1.0
) -> Phantom:
    """Draw a foam of small pores, with radii of 1.5 to 7.5 · `scale` voxels.

    Parameters
    ----------
    shape : (int, int, int)
    rng : numpy.random.Generator
    scale : float
        Scale factor for all lengths.
    """
    smallest = scale * rng.uniform(1.5, 3.0)
    return phantoms.sphere_foam(
        shape,
        porosity=math.exp(rng.uniform(math.log(0.04), math.log(0.3))),
        radius=(smallest, smallest * rng.uniform(1.2, 2.5)),
        gap=scale * rng.choice([0.0, 0.5, 1.0]),
        seed=int(rng.integers(2**31)),
    )


def random_imaging(
    rng: np.random.Generator,
    *,
    noise: tuple[float, float] = (0.08, 0.8),
    blur: tuple[float, float] = (0.0, 1.2),
    downsample: int = 1,
    square: bool = True,
    strong_noise: float = 0.0,
) -> Imaging:
    """Draw imaging settings with random blur and noise.

    The noise level is log-uniform within `noise`; for the fraction `strong_noise` of
    the draws it is uniform, and therefore stronger on average.

    Parameters
    ----------
    rng : numpy.random.Generator
    noise : (float, float)
        Range of the noise level, in units of the contrast.
    blur : (float, float)
        Range of the blur's standard deviation, in voxels of the scan.
    downsample : int
        Voxels of the object per voxel of the scan.
    square : bool
        Whether slices are square, as required for ``"few-photons"``.
    strong_noise : float
        Fraction of draws with uniform noise levels.
    """
    kinds: list[NoiseKind] = ["independent", "reconstruction", "few-photons"]
    chances = [0.35, 0.35, 0.3] if square else [0.5, 0.5, 0.0]
    if strong_noise and rng.random() < strong_noise:
        level = rng.uniform(*noise)
    else:
        level = math.exp(rng.uniform(math.log(noise[0]), math.log(noise[1])))
    return Imaging(
        noise=level,
        noise_kind=kinds[rng.choice(3, p=chances)],
        blur=0.0 if rng.random() < 0.1 else rng.uniform(*blur),
        cutoff=rng.uniform(0.8, 2.5),
        n_angles=int(rng.choice([90, 120, 180])),
        downsample=downsample,
    )


def random_texture(phantom: Phantom, rng: np.random.Generator) -> FloatArray | None:
    """Draw a mild gradient, a third phase, both or neither (None); contrast is 1."""
    shape = phantom.fraction.shape
    texture = np.zeros(shape, np.float32)
    if rng.random() < 0.5:
        slope = rng.normal(size=3)
        slope *= rng.uniform(0, 0.2) / np.abs(slope).sum()
        for axis, (n, amount) in enumerate(zip(shape, slope, strict=True)):
            line = np.linspace(-amount, amount, n, dtype=np.float32)
            texture += line.reshape([-1 if i == axis else 1 for i in range(3)])
    if rng.random() < 0.2:
        grains = phantoms.random_blobs(
            (shape[0], shape[1], shape[2]),
            porosity=rng.uniform(0.02, 0.12),
            radius=rng.uniform(2.5, 6.0),
            seed=int(rng.integers(2**31)),
        )
        level = rng.uniform(-0.4, 0.8)
        texture += np.float32(level) * grains.fraction * (1 - phantom.fraction)
    return texture if texture.any() else None


def random_scan(
    shape: Shape,
    rng: np.random.Generator,
    *,
    phantom: Phantom | None = None,
    noise: tuple[float, float] = (0.08, 0.8),
    blur: tuple[float, float] = (0.0, 1.2),
    downsample: int = 1,
    strong_noise: float = 0.0,
    small_pores: float = 0.0,
    scale: float | None = None,
) -> Scan:
    """Simulate a scan with random settings of a random phantom, or of `phantom`.

    Dark and bright pores are equally likely, and the contrast is 1. For the fraction
    `small_pores` of the draws, the phantom is a foam of small pores, with noise from
    the upper half of `noise`. Lengths of the phantom are multiplied by `scale`, by
    default `downsample`.

    Parameters
    ----------
    shape : (int, int, int)
        Shape of the scan.
    rng : numpy.random.Generator
    phantom : Phantom, optional
        The object; by default one is drawn.
    noise, blur, downsample, strong_noise
        As in `random_imaging`.
    small_pores : float
        Fraction of draws with small pores.
    scale : float, optional
        Scale factor for the lengths of the phantom.
    """
    scale = float(downsample) if scale is None else scale
    fine: Shape = (shape[0] * downsample, shape[1] * downsample, shape[2] * downsample)
    if phantom is not None:
        pass
    elif small_pores and rng.random() < small_pores:
        phantom = small_pore_foam(fine, rng, scale=scale)
        noise = (sum(noise) / 2, noise[1])
    else:
        phantom = random_phantom(fine, rng, scale=scale)
    sign = -1.0 if rng.random() < 0.5 else 1.0
    texture = random_texture(phantom, rng)
    imaging = random_imaging(
        rng,
        noise=noise,
        blur=blur,
        downsample=downsample,
        square=shape[1] == shape[2],
        strong_noise=strong_noise,
    )
    return scan(
        phantom,
        imaging,
        solid=0.5 + 0.5 * sign,
        pore=0.5 - 0.5 * sign,
        texture=None if texture is None else np.float32(sign) * texture,
        seed=int(rng.integers(2**31)),
    )
