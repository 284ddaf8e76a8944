"""Simulated exposures: from the attenuation along the rays to stored grey values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Largest stored grey value (12 bits).
_WHITE = 4095


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A simulated radiograph, in which dense tissue is bright.

    Attributes
    ----------
    grey : ndarray of shape (Y, X), uint16
        Stored grey values, up to 4095.
    labels : ndarray of shape (Y, X), uint8
        Tissue of each pixel; 255 for pixels excluded from training and evaluation.
    pixel : float
        Edge length of a pixel in mm.
    """

    grey: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint8]
    pixel: float


@dataclass(frozen=True)
class ExposureRange:
    """Ranges from which the conditions of an exposure are drawn.

    Attributes
    ----------
    blur : tuple of float
        Standard deviation of the blur on the detector, in mm.
    scatter_width : float
        Standard deviation of the spread of scattered radiation on the detector, in mm.
    scatter : tuple of float
        Scattered radiation as a fraction of the primary radiation.
    photons : tuple of float
        Photons per pixel of the reference size, without a sample.
    reference_pixel : float
        Edge length of the pixel to which `photons` refers, in mm.
    """

    blur: tuple[float, float]
    scatter_width: float
    scatter: tuple[float, float]
    photons: tuple[float, float]
    reference_pixel: float


def exposed(
    exponent: Array,
    labels: npt.NDArray[np.uint8],
    pixel: float,
    exposure: ExposureRange,
    rng: np.random.Generator,
    grain: np.random.Generator,
) -> Radiograph:
    """Simulate a radiograph by the Beer–Lambert law, with scatter, blur and noise.

    Parameters
    ----------
    exponent : ndarray of shape (Y, X)
        Attenuation coefficient integrated along the rays.
    labels : ndarray of shape (Y, X), uint8
    pixel : float
        Edge length of a pixel in mm.
    exposure : ExposureRange
    rng : Generator
        Draws the conditions of the exposure.
    grain : Generator
        Draws the photon noise.
    """
    primary = blurred(np.exp(-exponent), rng.uniform(*exposure.blur) / pixel, "reflect")
    share = rng.uniform(*exposure.scatter)
    scatter = blurred(primary, exposure.scatter_width / pixel, "nearest")
    light = primary + share * scatter
    few, many = exposure.photons
    photons = np.exp(rng.uniform(math.log(few), math.log(many)))
    area = (pixel / exposure.reference_pixel) ** 2
    counts = grain.poisson(photons * area * light) / (photons * area)
    return Radiograph(_stored(counts, rng), labels, pixel)


def _stored(counts: Array, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Convert counts to grey values as sensor software does: log, window and gamma."""
    dense = -np.log(np.maximum(counts, 1e-3))
    low, high = np.quantile(dense, [0.005, 0.995])
    room = high - low
    low -= rng.uniform(0, 0.35) * room
    high += rng.uniform(-0.1, 0.35) * room
    part = np.clip((dense - low) / (high - low), 0, 1) ** np.exp(rng.normal(0, 0.25))
    stored: npt.NDArray[np.uint16] = np.round(_WHITE * part).astype(np.uint16)
    return stored


def smooth_field(edge: int, width: float, rng: np.random.Generator) -> Array:
    """Draw a random field of unit variance, correlated over `width` pixels."""
    smooth = blurred(rng.standard_normal((edge, edge)), width, "wrap")
    found: Array = smooth / max(float(smooth.std()), 1e-12)
    return found


def blurred(values: Any, width: float | tuple[float, float], mode: str) -> Any:
    """Blur an image with a Gaussian; `mode` is "wrap" for periodic patterns."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(values, width, mode=mode)
