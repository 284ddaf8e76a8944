"""Compare the assumed cut-off of the objective with the detail in the frames.

The widefield images of all angles have the same detail but independent noise, so the
mean product of their spectra is the power of the detail alone, whatever the spectrum of
the noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.illumination.otf import Otf

FloatArray = npt.NDArray[np.float32]

#: Rings of frequencies, relative to the cut-off: just beyond it, well beyond it, at
#: half of it and just below it.
_BEYOND = (1.04, 1.25)
_FAR = 1.35
_MIDDLE = (0.35, 0.5)
_HIGH = (0.7, 0.85)
#: Minimum power of detail beyond the cut-off, relative to its random error and to the
#: noise. For correct optics and SNR 5 to 50, it is at most 3.1 and 0.12.
_MIN_SIGNIFICANCE = 5.0
_MIN_POWER = 0.05
#: Maximum power of detail just below the cut-off, relative to the expected power, at
#: which the cut-off is too high. It is at least 0.7 for a correct cut-off, and at most
#: 0.05 for one that is a third too high.
_MAX_MISSING = 0.15
#: Minimum expected power of this detail, relative to its random error.
_MIN_EXPECTED = 15.0
#: Decrease of the power spectrum of structures: power of the frequency.
_DECAY = 3.0
#: Maximum edge length of the part of a frame that is used, in pixels.
_EDGE = 512
#: Minimum number of frequencies in a ring.
_MIN_COUNT = 30
#: Variance of the power at adjacent frequencies, due to the window.
_WINDOW = 2.25


@dataclass(frozen=True)
class CutOffCheck:
    """Whether the assumed cut-off agrees with the detail in the frames.

    Attributes
    ----------
    is_too_low : bool
        The frames contain detail beyond the cut-off.
    is_too_high : bool
        The frames lack detail below the cut-off that they should contain, judging by
        their coarser detail.
    """

    is_too_low: bool = False
    is_too_high: bool = False


def check_cut_off(block: FloatArray, otf: Otf) -> CutOffCheck:
    """Compare the detail in the frames with the transfer function.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        Raw frames with the offset subtracted, without outliers.
    otf : Otf

    Returns
    -------
    CutOffCheck
        Without findings if there is a single angle, or the frames are too noisy.
    """
    n = len(block)
    if n < 2:
        return CutOffCheck()
    detail, total, fy, fx = _spectra(block)
    radius = np.hypot(fy, fx) / otf.cut_off
    transfer = otf.at(fy, fx) ** 2
    # Of the real and the imaginary parts of n (n - 1) / 2 products.
    error = np.sqrt(2 * _WINDOW / (n * (n - 1)))

    def ring(low: float, high: float) -> npt.NDArray[np.bool_] | None:
        found = (radius > low) & (radius < high)
        return found if np.count_nonzero(found) >= _MIN_COUNT else None

    beyond, far = ring(*_BEYOND), ring(_FAR, np.inf)
    is_too_low = False
    if beyond is not None:
        power = float(detail[beyond].mean())
        noise = float(total[beyond].mean()) - power
        if far is not None:  # patterns of the camera
            power -= max(0.0, float(detail[far].mean()))
        least = max(_MIN_POWER, _MIN_SIGNIFICANCE * error / np.sqrt(beyond.sum()))
        is_too_low = power > least * noise
    middle, high = ring(*_MIDDLE), ring(*_HIGH)
    is_too_high = False
    if middle is not None and high is not None:
        power = float(detail[high].mean())
        noise = float(total[high].mean()) - power
        shape = transfer[high] * (radius[high] / np.mean(_MIDDLE)) ** -_DECAY
        coarse = float(detail[middle].mean() / transfer[middle].mean())
        expected = coarse * float(shape.mean())
        is_clear = expected > _MIN_EXPECTED * noise * error / np.sqrt(high.sum())
        is_too_high = is_clear and power < _MAX_MISSING * expected
    return CutOffCheck(bool(is_too_low), bool(is_too_high) and not is_too_low)


def _spectra(
    block: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the power of detail, the total power, and the frequencies."""
    from scipy import fft

    n = len(block)
    rows, columns = (min(size, _EDGE) for size in block.shape[-2:])
    y, x = (block.shape[-2] - rows) // 2, (block.shape[-1] - columns) // 2
    images = block.mean(axis=1)[:, y : y + rows, x : x + columns]
    window = np.outer(*(np.hanning(size) for size in (rows, columns)))
    means = images.mean(axis=(1, 2), keepdims=True)
    even = images / np.where(means > 0, means, 1) - 1
    spectra = fft.rfft2(even * window.astype(np.float32))
    own = (np.abs(spectra) ** 2).sum(axis=0)
    detail = (np.abs(spectra.sum(axis=0)) ** 2 - own) / (n * (n - 1))
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]
    return detail, own / n, fy, fx
