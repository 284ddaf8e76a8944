"""Noise of raw frames, and grey value of the camera without light.

The noise is measured at frequencies that the objective does not transmit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.outliers import without_outliers

FloatArray = npt.NDArray[np.float32]

#: Frequencies above this multiple of the cut-off contain only noise.
_BEYOND = 1.05
#: Minimum fraction of the frequency plane that must contain only noise.
_MIN_SHARE = 0.02
#: Frequency, in cycles per pixel, above which noise is measured if the objective
#: transmits nearly all frequencies.
_HIGHEST = 0.47
#: Maximum edge length of the part of a frame that is used, in pixels.
_EDGE = 512
#: Number of classes of brightness for which the noise is measured.
_CLASSES = 8
#: Smallest variance of a pixel relative to the mean variance.
_FLOOR = 0.1
#: Limits of the grey value that is added to frames with read noise, as multiples of the
#: noise of a pixel without light. With the lower limit, 2 % of these pixels remain
#: negative; above the upper limit, the only effect is that Richardson–Lucy converges
#: more slowly.
_SHIFTS = (2.0, 3.0)
#: Percentile of the smoothed mean frame that is used as the grey value without light.
_DARK_PERCENTILE = 0.1
#: Distance of this percentile from the grey value without light, in units of the noise,
#: if all pixels are dark. The search for the number of dark pixels starts at this
#: value.
_FAR_BELOW = 3.1
#: Number of iterations of the search for the number of dark pixels.
_SEARCHES = 8
#: Minimum distance of the brightest pixel from the grey value without light, in units
#: of the noise; if it is smaller, all pixels may be illuminated.
_BRIGHTER = 6.0
#: An area of constant grey value counts as padding (of registered or cropped frames) if
#: it differs from the darkest other pixels by more than this multiple of their noise.
_CLEAR_STEP = 8.0
#: Minimum step at the edge of padding, as a fraction of the difference between the grey
#: value of the padding and that of the darkest other pixels. At the edge of a dark
#: background, the grey value increases gradually.
_STEP = 0.1
#: Distance from padding up to which pixels may be interpolated, in pixels.
_INTERPOLATED = 4


@dataclass(frozen=True)
class FrameNoise:
    """Noise of raw frames: its variance at each brightness.

    Attributes
    ----------
    variance : float
        Mean variance of a pixel, in grey values squared.
    dark : float
        Variance of a pixel without light.
    gain : float
        Increase of the variance per grey value, i.e. number of grey values per photon.
    snr : float
        99th percentile of the mean frame, divided by the square root of `variance`.
    """

    variance: float
    dark: float
    gain: float
    snr: float

    @property
    def shift(self) -> float:
        """Grey value to add to frames with read noise so that few remain negative.

        It is 0 without read noise. A Poisson distribution of the mean ``dark / gain``
        has the variance of the read noise; this value is kept within `_SHIFTS`.
        """
        read = math.sqrt(self.dark)
        low, high = (multiple * read for multiple in _SHIFTS)
        return min(max(low, self.dark / self.gain), high) if self.gain > 0 else high

    def weights(self, mean: npt.NDArray[np.floating]) -> FloatArray:
        """Return the variance of pixels with the expected values `mean`."""
        floor = _FLOOR * self.variance
        found = np.maximum(self.dark + self.gain * mean, floor)
        return np.asarray(found, np.float32)


def frame_noise(frames: FloatArray, otf: Otf) -> FrameNoise:
    """Estimate the noise of the frames of one plane; hot pixels are ignored.

    Parameters
    ----------
    frames : ndarray of shape (angles, phases, Y, X)
        Raw frames with the offset subtracted.
    otf : Otf
    """
    from scipy import fft, ndimage

    part = _central(frames.reshape(-1, *frames.shape[-2:]))
    part, _ = without_outliers(part, otf)
    rows, columns = part.shape[1:]
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]
    radius = np.hypot(fy, fx)
    outside = radius > _BEYOND * otf.cut_off
    if outside.mean() < _MIN_SHARE:
        outside = radius > _HIGHEST
    share = float(outside.mean())
    local = np.zeros((rows, columns), np.float32)
    window = _faded((rows, columns))
    for frame in part:
        spectrum = fft.rfft2((frame - frame.mean()) * window)
        local += fft.irfft2(spectrum * outside, s=(rows, columns)) ** 2
    inner = window > 0.999
    width = max(1.5, 1 / max(otf.cut_off, 0.05))
    mean = ndimage.gaussian_filter(part.mean(axis=0), width)[inner]
    seen = ndimage.gaussian_filter(local / (len(part) * share), width)[inner]
    dark, gain = _line(mean, seen)
    variance = max(dark + gain * float(part.mean()), 1e-20)
    bright = float(np.percentile(part.mean(axis=0), 99))
    return FrameNoise(variance, dark, gain, bright / float(np.sqrt(variance)))


def _central(frames: FloatArray) -> FloatArray:
    y, x = (
        slice((n - min(n, _EDGE)) // 2, (n + min(n, _EDGE)) // 2)
        for n in frames.shape[1:]
    )
    return frames[:, y, x]


def _faded(shape: tuple[int, int]) -> FloatArray:
    """Return a window that fades to 0 at the border; a jump would look like noise."""
    from scipy.signal.windows import tukey

    found = np.outer(tukey(shape[0], 0.3), tukey(shape[1], 0.3))
    return np.asarray(found, np.float32)


def _line(mean: FloatArray, variance: FloatArray) -> tuple[float, float]:
    """Fit the variance without light and its increase per grey value, both ≥ 0."""
    from scipy.optimize import nnls

    edges = np.unique(np.quantile(mean, np.linspace(0, 1, _CLASSES + 1)))
    overall = float(variance.mean())
    if len(edges) < 4:
        return overall, 0.0
    index = np.clip(np.searchsorted(edges, mean, "right") - 1, 0, len(edges) - 2)
    counts = np.bincount(index, minlength=len(edges) - 1)
    centres = np.bincount(index, mean, len(edges) - 1) / np.maximum(counts, 1)
    levels = np.bincount(index, variance, len(edges) - 1) / np.maximum(counts, 1)
    # All classes have about the same relative error, so weight by 1 / level.
    weight = 1 / np.maximum(levels, 1e-6 * max(overall, 1e-20))
    columns = np.stack([np.ones_like(centres), np.maximum(centres, 0)], 1)
    scale = np.array([1.0, max(float(np.abs(centres).max()), 1e-20)])
    (dark, gain), _ = nnls(columns / scale * weight[:, None], levels * weight)
    dark, gain = float(dark / scale[0]), float(gain / scale[1])
    # Mean and variance were smoothed, which flattens the line: scale it to the mean
    # variance.
    fitted = dark + gain * float(mean.mean())
    return (
        (dark * overall / fitted, gain * overall / fitted)
        if fitted > 0
        else (
            overall,
            0.0,
        )
    )


def dark_level(frames: FloatArray) -> float | None:
    """Return the grey value of the darkest parts of the frames of one plane.

    Padding is ignored.

    Parameters
    ----------
    frames : ndarray of shape (n, Y, X)
        Raw frames, including the camera offset.

    Returns
    -------
    float or None
        None if the frames are constant, or have NaN or infinite pixels.
    """
    mean = frames.mean(axis=0)
    if not np.isfinite(mean).all() or not np.ptp(mean) > 0:
        return None
    return _dark_level(frames)[0]


def dark_share(frames: FloatArray) -> float:
    """Return the fraction of the pixels that appear to receive no light.

    Parameters
    ----------
    frames : ndarray of shape (n, Y, X)
        Raw frames of one plane, not constant.
    """
    return _dark_level(frames)[1]


def has_padding(frames: FloatArray) -> bool:
    """Return whether parts of the frames were filled with a constant grey value.

    Parameters
    ----------
    frames : ndarray of shape (n, Y, X)
    """
    return _dark_level(frames)[2]


def _dark_level(frames: FloatArray) -> tuple[float, float, bool]:
    """Return the grey value and size of the darkest area, and whether there is padding.

    Areas in which all frames have one constant grey value are padding if this value is
    clearly lower than the grey values of all other areas, with a step at their edge.
    """
    from scipy import ndimage

    mean = frames.mean(axis=0)
    smooth = ndimage.uniform_filter(mean, 3, mode="nearest")
    rough = mean - smooth
    level = float(np.percentile(smooth, _DARK_PERCENTILE))
    spread = ndimage.maximum_filter(mean, 3) - ndimage.minimum_filter(mean, 3)
    seed = (spread == 0) & (mean <= level)
    if not seed.any():
        return *_centre(smooth, rough), False
    square = np.ones((3, 3))
    area = ndimage.binary_propagation(seed, square, mean <= level)
    used = ~ndimage.binary_dilation(area, square, iterations=_INTERPOLATED)
    if not used.any():
        return *_centre(smooth, rough), False
    other = float(np.percentile(smooth[used], _DARK_PERCENTILE))
    dark = used & (smooth <= np.percentile(smooth[used], 1))
    noise = float(frames[:, dark].std(axis=0).mean())
    edge = ndimage.binary_dilation(area, square) & ~area
    is_step = np.median(mean[edge]) > level + _STEP * (other - level)
    is_padding = bool(is_step and other - level > _CLEAR_STEP * noise)
    parts = (smooth[used], rough[used]) if is_padding else (smooth, rough)
    return *_centre(*parts), is_padding


def _centre(smooth: FloatArray, rough: FloatArray) -> tuple[float, float]:
    """Return the grey value and the size of the darkest area.

    The grey value is the centre of its noise distribution; the size is given as a
    fraction of all pixels, and 0 if all pixels may be illuminated.

    The percentile `_DARK_PERCENTILE` is lower than this grey value, by up to three
    standard deviations of the noise. Half of the pixels of the area are darker than the
    grey value, so their number gives the size of the area. The distance between the
    percentile and the grey value then follows from the fraction of these pixels below
    the percentile, because the noise is assumed to be normally distributed.

    Parameters
    ----------
    smooth : ndarray
        Mean of 3 × 3 pixels of the mean frame.
    rough : ndarray
        Mean frame minus `smooth`, at the same pixels.
    """
    from scipy import stats

    low, limit = np.percentile(smooth, (_DARK_PERCENTILE, 1))
    dark = rough[smooth <= limit]
    # Subtracting the mean of 9 pixels leaves 8 / 9 of the variance of white noise.
    sigma = stats.median_abs_deviation(dark, axis=None, scale="normal") / math.sqrt(8)
    n = _DARK_PERCENTILE / 100 * smooth.size
    values = np.sort(smooth, axis=None)
    level = low + _FAR_BELOW * sigma
    for _ in range(_SEARCHES):
        area = 2 * max(float(np.searchsorted(values, level)), n)
        level = low - stats.norm.ppf(n / area) * sigma
    # If no pixel is clearly brighter, all of them may be illuminated.
    if values[-1] > level + _BRIGHTER * sigma:
        return float(level), area / smooth.size
    return float(low), 0.0
