"""Single pixels that the objective cannot have imaged: hot pixels and cosmic rays.

The image of a point is several pixels wide. A single bright pixel therefore also has
frequencies beyond the cut-off, where the frames otherwise contain only noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.illumination.otf import Otf

FloatArray = npt.NDArray[np.float32]

#: Frequencies above this multiple of the cut-off contain only noise.
_BEYOND = 1.05
#: Minimum fraction of the frequency plane that must contain only noise.
_MIN_SHARE = 0.1
#: Margin in which a frame fades to its mean, in pixels.
_MARGIN = 16
#: Minimum height of an outlier relative to the noise of equally bright pixels.
_MIN_NOISE = 12.0
#: Minimum height of an outlier relative to the contrast of the frame: weaker ones do
#: not affect the search for patterns.
_MIN_HEIGHT = 0.5
#: Percentile of the frame, minus its median, that is taken as its contrast.
_BRIGHT = 99.9
#: Quantiles that separate classes of brightness, for each of which the noise is
#: measured.
_CLASSES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 1.0)
#: Maximum fraction of the pixels of a frame that are outliers; if there are more, they
#: are structures, and the cut-off is wrong.
_MOST = 1e-3
#: Maximum number of searches for outliers; the highest outliers are found first.
_ROUNDS = 12
#: Outliers are subtracted together with the highest one if they have at least this
#: fraction of its height. Lower ones are searched for again, because subtraction
#: changes the surroundings of an outlier.
_TOGETHER = 0.5
#: Standard deviation of a normal distribution relative to its median deviation.
_FROM_MEDIAN = 1.4826


@dataclass(frozen=True)
class Outlier:
    """A single pixel that the objective cannot have imaged.

    Attributes
    ----------
    frame : int
        Index of the frame.
    y, x : int
    height : float
        Grey value above (or below) that of the surroundings.
    contrast : float
        Contrast of the frame.
    """

    frame: int
    y: int
    x: int
    height: float
    contrast: float


def without_outliers(
    frames: FloatArray, otf: Otf
) -> tuple[FloatArray, tuple[Outlier, ...]]:
    """Find hot pixels and cosmic rays, and subtract them.

    Parameters
    ----------
    frames : ndarray of shape (..., Y, X)
    otf : Otf

    Returns
    -------
    frames : ndarray of the same shape
        Frames without outliers; a copy, if there are any.
    outliers : tuple of Outlier
    """
    stack = frames.reshape(-1, *frames.shape[-2:])
    rows, columns = (n + 2 * _MARGIN for n in stack.shape[1:])
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]
    outside = np.hypot(fy, fx) > _BEYOND * otf.cut_off
    # Each column of the half-plane, except the first, represents two of the full plane.
    share = float((2 * outside.mean() * fx.size - outside[:, 0].mean()) / columns)
    found: list[Outlier] = []
    if share < _MIN_SHARE or min(stack.shape[1:]) <= _MARGIN:
        return frames, ()
    result = stack
    for index, frame in enumerate(stack):
        cleaned, each = _clean(frame, outside, share)
        if each:
            result = stack.copy() if result is stack else result
            result[index] = cleaned
            found += [Outlier(index, *place) for place in each]
    return (result.reshape(frames.shape) if found else frames), tuple(found)


def _clean(
    frame: FloatArray, outside: npt.NDArray[np.bool_], share: float
) -> tuple[FloatArray, list[tuple[int, int, float, float]]]:
    """Return a frame without outliers, and their positions, heights and contrasts."""
    from scipy import ndimage

    cleaned = frame
    for _ in range(_ROUNDS):
        height = _heights(cleaned, outside, share)
        below = cleaned - height
        contrast = float(np.percentile(below, _BRIGHT) - np.median(below))
        size = np.abs(height)
        is_high = size > max(_MIN_HEIGHT * contrast, 0.0)
        if not is_high.any():
            break
        around = (9 * ndimage.uniform_filter(cleaned, 3) - cleaned) / 8
        is_high &= size > _MIN_NOISE * _noise(height, np.maximum(below, around))
        is_high &= size == ndimage.maximum_filter(size, 3)
        if not is_high.any():
            break
        is_high &= size >= _TOGETHER * size[is_high].max()
        cleaned = np.where(is_high, below, cleaned)
        if np.count_nonzero(cleaned != frame) > max(1.0, _MOST * frame.size):
            return frame, []
    changed = np.argwhere(cleaned != frame)
    moved = frame - cleaned
    found = [(int(y), int(x), float(moved[y, x]), contrast) for y, x in changed]
    return cleaned, found


def _heights(
    frame: FloatArray, outside: npt.NDArray[np.bool_], share: float
) -> FloatArray:
    """Return the height that a single outlier would have at each pixel.

    It is the height that best explains the frequencies of the frame beyond the cut-off.
    """
    from scipy import fft

    mean = np.float32(frame.mean())
    padded = np.pad(frame - mean, _MARGIN, mode="reflect")
    ramp = np.sin(np.pi / 2 * (np.arange(_MARGIN) + 0.5) / _MARGIN) ** 2
    for axis, n in enumerate(padded.shape):
        fade = np.ones(n, np.float32)
        fade[:_MARGIN], fade[-_MARGIN:] = ramp, ramp[::-1]
        padded *= fade[:, None] if axis == 0 else fade
    high = fft.irfft2(fft.rfft2(padded) * outside, s=padded.shape)
    inner = high[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return np.asarray(inner / share, np.float32)


def _noise(height: FloatArray, brightness: FloatArray) -> FloatArray:
    """Return a robust estimate of the noise of `height` at each brightness."""
    edges = np.quantile(brightness, _CLASSES)
    index = np.searchsorted(edges[1:-1], brightness)
    size = np.abs(height)
    levels = [
        float(np.median(part)) if (part := size[index == i]).size else np.inf
        for i in range(len(_CLASSES) - 1)
    ]
    # Brighter pixels have at least as much noise.
    found = np.maximum.accumulate(levels)
    return np.asarray(_FROM_MEDIAN * found[index], np.float32)
