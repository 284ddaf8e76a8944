"""Decorrelation analysis: estimates the resolution of an image from that image alone.

References
----------
.. [1] Descloux, Grußmayer and Radenovic. Parameter-free image resolution estimation
   based on decorrelation analysis. Nat. Methods 16, 918-924 (2019).
   doi:10.1038/s41592-019-0515-7
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyArray

Array = npt.NDArray[np.float64]

#: Number of radii in the Fourier plane at which the correlation is computed.
_N_RADII = 200
#: Number of high-pass filters.
_N_FILTERS = 20
#: Standard deviation, in pixels, of the Gaussian blur that the strongest high-pass
#: filter subtracts.
_MIN_BLUR = 0.5
#: Standard deviation of the blur for the weakest high-pass filter, as a fraction of the
#: image's shorter edge.
_MAX_BLUR_SHARE = 0.25
#: Minimum correlation at a peak.
_MIN_HEIGHT = 0.05
#: Minimum drop of the correlation after a peak.
_MIN_DROP = 1e-3
#: Fraction of the image that is faded out at each side.
_FADED = 0.08
#: Minimum edge length of an image, in pixels.
SMALLEST_EDGE = 32


def finest_detail(image: AnyArray, pixel_size: Sequence[float]) -> float | None:
    """Return the period of the finest detail above the noise, in the pixel size's unit.

    Within a growing disc of frequencies, the image is correlated with a copy in which
    all Fourier coefficients have been scaled to magnitude 1. Detail increases the
    correlation, whereas noise decreases it. The peak is sought in the image and in
    copies after increasingly strong high-pass filters; the peak at the highest
    frequency is used [1]_.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Finite values.
    pixel_size : sequence of float

    Returns
    -------
    float or None
        None if there is no peak, because there is only noise or the image is too small.
    """
    if min(image.shape) < SMALLEST_EDGE:
        return None
    radius, amplitude = _sorted_spectrum(image, pixel_size)
    if not amplitude.any():
        return None
    least = _MAX_BLUR_SHARE * min(image.shape)
    sigmas = np.geomspace(least, _MIN_BLUR, _N_FILTERS)
    highest = _peak(radius, amplitude)
    for sigma in sigmas:
        # `radius` is 1 at two pixels per period.
        kept = 1 - np.exp(-0.5 * (np.pi * sigma * radius) ** 2)
        highest = max(highest, _peak(radius, amplitude * kept))
    return 2 * max(pixel_size) / highest if highest > 0 else None


def _sorted_spectrum(
    image: AnyArray, pixel_size: Sequence[float]
) -> tuple[Array, Array]:
    """Return radii and amplitudes in the disc of frequencies, sorted by radius."""
    from scipy import fft
    from scipy.signal.windows import tukey

    values = image.astype(np.float64)
    values = values - values.mean()
    for a, n in enumerate(values.shape):
        fade = tukey(n, 2 * _FADED)
        values = values * (fade[:, None] if a == 0 else fade)
    amplitude = np.abs(fft.rfft2(values)).ravel()
    fy = np.fft.fftfreq(image.shape[0], pixel_size[0])
    fx = np.fft.rfftfreq(image.shape[1], pixel_size[1])
    radius = (2 * max(pixel_size) * np.hypot(fy[:, None], fx)).ravel()
    order = np.argsort(radius, kind="stable")
    order = order[radius[order] <= 1]
    return radius[order], amplitude[order]


def _peak(radius: Array, amplitude: Array) -> float:
    """Return the radius of the peak of the correlation; 0 if there is none."""
    total = float((amplitude**2).sum())
    if not total > 0:
        return 0.0
    radii = np.linspace(0, 1, _N_RADII + 1)[1:]
    ends = np.searchsorted(radius, radii, side="right")
    sums = np.concatenate([[0.0], np.cumsum(amplitude)])[ends]
    correlation = sums / np.sqrt(total * np.maximum(ends, 1))
    # Noise raises the correlation again towards the end: remove the rising end until it
    # no longer contains the maximum.
    last = len(correlation)
    while last > 1:
        at = int(np.argmax(correlation[:last]))
        if at < last - 1:
            drop = float(correlation[at] - correlation[at:last].min())
            if drop < _MIN_DROP:
                last = at
                continue
            return float(radii[at]) if correlation[at] >= _MIN_HEIGHT else 0.0
        last -= 1
    return 0.0
