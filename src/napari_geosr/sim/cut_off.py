"""Compare the assumed cut-off of the objective with the detail in the frames.

The widefield images of all angles have the same detail but independent noise, so the
mean product of their spectra is the power of the detail alone, whatever the spectrum of
the noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.illumination.otf import Otf

FloatArray = npt.NDArray[np.float32]

#: Rings of frequencies, relative to the cut-off: just beyond it, and well beyond it.
_BEYOND = (1.04, 1.25)
_FAR = 1.35
#: Edges of the rings in which the decrease of the power of detail with frequency is
#: measured, and the finer rings to which it is extrapolated.
_COARSE = (0.2, 0.264, 0.328, 0.392, 0.456, 0.52)
_FINE = ((0.6, 0.66), (0.7, 0.78), (0.78, 0.88))
#: Minimum power of detail beyond the cut-off, relative to its random error and to the
#: noise; both limits must be exceeded. For correct optics and SNR 5 to 50, the ratios
#: are at most 3.1 and 0.12.
_MIN_SIGNIFICANCE = 5.0
_MIN_POWER = 0.05
#: The cut-off is too high if the power of detail below the cut-off, relative to the
#: expected power, is less than this value. For correct optics, the power is larger,
#: even if the sample is smooth.
_MAX_MISSING = 0.12
#: Minimum expected power of the detail below the cut-off, and minimum power of coarser
#: detail, each relative to its random error.
_MIN_EXPECTED = 8.0
#: Minimum exponent of the decrease of the power spectrum of structures with frequency.
_DECAY = 3.0
#: Maximum edge length of the part of a frame that is used, in pixels.
_EDGE = 512
#: Minimum number of frequencies in a ring.
_MIN_COUNT = 30
#: Minimum number of frequencies in a ring of `_COARSE`.
_MIN_COARSE = 8
#: Distance from the axes of the spectrum, in frequency samples, within which the noise
#: of rows and columns of the camera looks like detail.
_AXES = 2.5
#: Factor by which the window increases the variance of a mean power, because it
#: correlates adjacent frequencies.
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
        The result has no findings if there is a single angle, or the frames are too
        noisy.
    """
    n = len(block)
    if n < 2:
        return CutOffCheck()
    detail, total, fy, fx = _spectra(block)
    radius = np.hypot(fy, fx) / otf.cut_off
    transfer = otf.at(fy, fx) ** 2
    rows, columns = (min(size, _EDGE) for size in block.shape[-2:])
    radius[(np.abs(fy) * rows < _AXES) | (np.abs(fx) * columns < _AXES)] = np.nan
    # Random error of the mean of n (n - 1) / 2 products, relative to the noise.
    error = float(np.sqrt(2 * _WINDOW / (n * (n - 1))))

    def ring(low: float, high: float, count: int = _MIN_COUNT) -> _Ring | None:
        found = (radius > low) & (radius < high)
        number = np.count_nonzero(found)
        if number < count:
            return None
        power = float(detail[found].mean())
        noise = float(total[found].mean()) - power
        return _Ring(
            frequency=float(radius[found].mean()),
            power=power,
            noise=noise,
            error=noise * error / np.sqrt(number),
            transfer=float(transfer[found].mean()),
            count=int(number),
        )

    if _exceeds(ring(*_BEYOND), ring(_FAR, np.inf)):
        return CutOffCheck(is_too_low=True)
    coarse = [ring(*edges, _MIN_COARSE) for edges in itertools.pairwise(_COARSE)]
    return CutOffCheck(is_too_high=_lacks(coarse, [ring(*edges) for edges in _FINE]))


@dataclass(frozen=True)
class _Ring:
    """Mean power of the detail at similar frequencies.

    Attributes
    ----------
    frequency : float
        Mean frequency of the ring, relative to the cut-off.
    power, noise, error : float
        Power of detail and of noise, and random error of the former.
    transfer : float
        Mean square of the transfer function.
    count : int
    """

    frequency: float
    power: float
    noise: float
    error: float
    transfer: float
    count: int


def _exceeds(beyond: _Ring | None, far: _Ring | None) -> bool:
    """Return whether there is detail beyond the cut-off."""
    if beyond is None:
        return False
    power = beyond.power
    if far is not None:  # fixed patterns of the camera, not of the sample
        power -= max(0.0, far.power)
    return power > max(_MIN_POWER * beyond.noise, _MIN_SIGNIFICANCE * beyond.error)


def _lacks(coarse: Sequence[_Ring | None], fine: Sequence[_Ring | None]) -> bool:
    """Return whether the detail ends below the cut-off, rather than fading out.

    The spectrum of a sample without fine detail, such as one with soft edges, decreases
    exponentially. This decrease is measured from the coarser detail.
    """
    clear = [r for r in coarse if r is not None and r.power > _MIN_EXPECTED * r.error]
    if len(clear) < len(coarse):
        return False
    frequency = np.array([r.frequency for r in clear])
    logarithm = np.log([r.power / r.transfer for r in clear])
    weights = np.sqrt([r.count for r in clear])
    slope, start = np.polyfit(frequency, logarithm, 1, w=weights)
    for each in fine:
        if each is None:
            continue
        usual = logarithm[-1] - _DECAY * np.log(each.frequency / frequency[-1])
        faded = start + slope * each.frequency
        expected = each.transfer * float(np.exp(min(usual, faded)))
        is_clear = expected > _MIN_EXPECTED * each.error
        if is_clear and each.power < _MAX_MISSING * expected:
            return True
    return False


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
