"""Optical transfer functions of a fluorescence microscope.

References
----------
.. [1] Goodman. Introduction to Fourier Optics, section 6.3: the incoherent transfer
   function of a circular pupil.
.. [2] Gustafsson. Surpassing the lateral resolution limit by a factor of two using
   structured illumination microscopy. J. Microsc. 198, 82-87 (2000).
   doi:10.1046/j.1365-2818.2000.00710.x
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.types import AnyArray

Array = npt.NDArray[np.float64]

#: Value of the transfer function below which a frequency counts as not transmitted.
SUPPORT = 0.005
#: Number of frequencies at which the radial mean of a measured transfer function is
#: computed.
_RADII = 512


@dataclass(frozen=True, eq=False)
class Otf:
    """Transfer function of objective and camera; frequencies in cycles per pixel.

    Attributes
    ----------
    cut_off : float
        Highest transmitted frequency, in cycles per camera pixel.
    psf : ndarray of shape (rows, columns), float64, or None
        Measured point-spread function; None for the function of a circular pupil [1]_.
    sampling : float
        Pixels of `psf` per camera pixel, along each axis.
    damping : float
        Transfer at the cut-off relative to that of an ideal objective: real objectives
        transmit high frequencies less well. At other frequencies, the factor is
        ``damping ** (frequency / cut_off)``.
    camera : bool
        Whether the averaging over a square camera pixel is included.
    """

    cut_off: float
    psf: Array | None = field(default=None, repr=False)
    sampling: float = 1.0
    damping: float = 1.0
    camera: bool = True

    @classmethod
    def from_psf(
        cls,
        psf: AnyArray,
        sampling: float = 1.0,
        name: str = "The point-spread function",
    ) -> Otf:
        """Return the transfer function of a measured point-spread function.

        Parameters
        ----------
        psf : ndarray of shape (rows, columns)
            Image without background; the smallest value is subtracted.
        sampling : float
            Pixels of `psf` per camera pixel. With 1, the image already contains the
            averaging over a camera pixel.

        Raises
        ------
        VolumeError
            If `psf` is not an image of a single spot.
        """
        values = np.asarray(psf, np.float64)
        if values.ndim != 2 or min(values.shape) < 3 or not np.isfinite(values).all():
            raise VolumeError(
                f"{name} has shape {values.shape}; one image of a spot, without NaN, "
                "is needed. Average or crop it first."
            )
        values = values - values.min()
        if not values.sum() > 0:
            raise VolumeError(
                f"{name} is uniform, so it shows no spot. Choose another file (--psf)."
            )
        values = _centred(values / values.sum())
        found = cls(0.0, values, sampling, camera=sampling > 1)
        radii = np.linspace(0, 1, _RADII) * sampling / 2
        curve = found._radial(radii)
        below = np.flatnonzero(curve < SUPPORT)
        end = radii[below[0]] if len(below) else radii[-1]
        return cls(float(end), values, sampling, camera=sampling > 1)

    @cached_property
    def _curve(self) -> tuple[Array, Array]:
        radii = np.linspace(0, self.cut_off, _RADII)
        return radii, self._radial(radii)

    def _radial(self, radii: Array) -> Array:
        """Return the measured transfer function, averaged over directions."""
        assert self.psf is not None
        total = np.zeros(len(radii))
        turns = np.linspace(0, np.pi, 16, endpoint=False)
        y, x = ((np.arange(n) - n // 2) / self.sampling for n in self.psf.shape)
        for turn in turns:
            ey = np.exp(-2j * np.pi * radii[:, None] * math.sin(turn) * y)
            ex = np.exp(-2j * np.pi * radii[:, None] * math.cos(turn) * x)
            total += np.einsum("ri,ij,rj->r", ey, self.psf, ex, optimize=True).real
        curve: Array = np.maximum(total / len(turns), 0)
        return curve

    def radial(self, frequency: AnyArray) -> Array:
        """Return the transfer at frequencies (cycles/pixel), without the camera."""
        v = np.minimum(np.abs(frequency) / self.cut_off, 1.0)
        if self.psf is not None:
            radii, curve = self._curve
            value = np.interp(v * self.cut_off, radii, curve)
            return np.where(v < 1, value, 0.0)
        ideal = (2 / np.pi) * (np.arccos(v) - v * np.sqrt(1 - v**2))
        return np.asarray(ideal * self.damping**v, np.float64)

    def at(self, fy: AnyArray, fx: AnyArray) -> Array:
        """Return the transfer at the frequencies (`fy`, `fx`), broadcast together."""
        found = self.radial(np.hypot(fy, fx))
        if self.camera:
            found = found * np.sinc(fy) * np.sinc(fx)
        return found


def _centred(psf: Array) -> Array:
    """Pad an image so that its spot is centred with sub-pixel accuracy."""
    from scipy import ndimage

    peak = psf * (psf >= 0.1 * psf.max())
    centre = ndimage.center_of_mass(peak)
    edge = (
        2
        * max(
            math.ceil(max(c, n - 1 - c)) for c, n in zip(centre, psf.shape, strict=True)
        )
        + 1
    )
    padded = np.zeros((edge, edge))
    padded[: psf.shape[0], : psf.shape[1]] = psf
    shift = [edge // 2 - c for c in centre]
    moved = ndimage.fourier_shift(np.fft.fft2(padded), shift)
    found: Array = np.fft.ifft2(moved).real
    return found


def check_cut_off(cut_off: float) -> None:
    """Reject a cut-off of zero, which results from a spot that fills its image."""
    if not cut_off > 0:
        raise ConfigError(
            "The cut-off frequency of the point-spread function is zero, because the "
            "spot fills its image. Use an image in which dark background surrounds the "
            "spot, and check --psf-sampling."
        )
