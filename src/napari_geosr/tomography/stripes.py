"""Remove stripes, which would become rings in slices, from sinograms.

A detector column with a gain slightly different from that in the flat field adds the
same amount to all its line integrals: a stripe along the angles. The methods are those
of Vo et al. [1]_, adapted to line integrals: a wrong gain is a *difference* of line
integrals, whereas the paper divides intensities. They need few settings and no
knowledge of the detector, hardly change other structure, and are standard at several
beamlines. They are implemented here because algotom and tomopy, which offer them for
single sinograms, would add joblib and PyWavelets, or a compiled library, as
dependencies.

The wavelet-Fourier filter [2]_ is not included: it would also need PyWavelets, and it
blurs structures along the stripes that the sorting methods preserve.

References
----------
.. [1] Vo, Atwood, Drakopoulos. Superior techniques for eliminating ring artifacts in
   X-ray micro-tomography. Opt. Express 26, 28396-28412 (2018).
   doi:10.1364/OE.26.028396
.. [2] Münch, Trtik, Marone, Stampanoni. Stripe and ring artifact removal with combined
   wavelet-Fourier filtering. Opt. Express 17, 8567-8591 (2009).
   doi:10.1364/OE.17.008567
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError

FloatArray = npt.NDArray[np.float32]

#: Fraction of the ranks at either end that is ignored when the strength of a stripe is
#: computed.
_DROPPED_RANKS = 0.1
#: Fraction at either end of the sorted column values that is excluded from the line fit
#: by which outlying columns are found.
_DROPPED_COLUMNS = 0.25
#: The maximum width of narrow windows is the detector's width divided by this number:
#: the sample must vary slowly across a window. (Narrow detectors occur in tests and in
#: binned scans.)
_NARROW_PART = 24
#: The maximum width of wide windows is the detector's width divided by this number.
_WIDE_PART = 8
#: Length, in views, of the moving average along the angles; dead columns deviate less
#: from it than working ones.
_SMOOTH_VIEWS = 10


@dataclass(frozen=True)
class StripeSettings:
    """Width and strength of the stripes to remove.

    Attributes
    ----------
    size : int
        Window of the median filter that removes narrow stripes, in columns; at most
        1/24 of the detector.
    large_size : int
        Window of the median filter for wide stripes and dead columns, in columns; at
        most 1/8 of the detector.
    contrast : float
        How much a column must differ from the others to count as a wide stripe or dead
        column, in units of the typical difference between columns; lower values select
        more columns.
    """

    size: int = 21
    large_size: int = 61
    contrast: float = 3.0


def remove_sorting(sinogram: FloatArray, settings: StripeSettings) -> FloatArray:
    """Remove narrow stripes: sort each column, smooth across columns, sort back.

    Neighbouring columns contain similar values in a different order, so the remaining
    difference between sorted columns is the stripe (algorithm 3 of [1]_).
    """
    return _across_sorted(sinogram, _narrow(sinogram, settings))[0]


def remove_filtering(sinogram: FloatArray, settings: StripeSettings) -> FloatArray:
    """Remove narrow stripes by sorting the low frequencies along the angle axis.

    Details that vary rapidly with the angle are preserved (algorithm 2 of [1]_).
    """
    from scipy import ndimage

    slow = ndimage.gaussian_filter1d(
        sinogram, sinogram.shape[1] / (6 * np.pi), axis=1, mode="nearest"
    )
    smooth = _across_sorted(slow, _narrow(sinogram, settings))[0]
    cleaned: FloatArray = sinogram - slow + smooth
    return cleaned


def remove_large(sinogram: FloatArray, settings: StripeSettings) -> FloatArray:
    """Remove wide, strong stripes: detect, level and replace them.

    A column is detected if the mean difference between its sorted and its smoothed
    values stands out. The column is levelled and then replaced by the result of sorting
    (algorithm 5 of [1]_). Unlike in the paper, other columns are not levelled, because
    that would flatten the sample.
    """
    window = _wide(sinogram, settings)
    _, ordered, smooth = _across_sorted(sinogram, window)
    drop = int(_DROPPED_RANKS * sinogram.shape[1])
    kept = slice(drop, sinogram.shape[1] - drop)
    offsets = (ordered - smooth)[:, kept].mean(axis=1)
    found = np.stack(
        [_widened(find_outlying_columns(o, settings.contrast)) for o in offsets]
    )
    if not found.any():
        return sinogram
    levelled = sinogram - np.where(found, offsets, 0)[:, None, :]
    replaced = _across_sorted(levelled, window)[0]
    cleaned: FloatArray = np.where(found[:, None, :], replaced, sinogram)
    return cleaned


def remove_dead(sinogram: FloatArray, settings: StripeSettings) -> FloatArray:
    """Interpolate dead and flickering columns, then remove wide stripes.

    Dead columns vary less along the angles than their neighbours, and flickering
    columns more (algorithm 6 of [1]_).
    """
    from scipy import ndimage

    views = min(_SMOOTH_VIEWS, sinogram.shape[1])
    slow = ndimage.uniform_filter1d(sinogram, views, axis=1, mode="nearest")
    activity = np.abs(sinogram - slow).sum(axis=1)
    window = (1, _wide(sinogram, settings))
    usual = ndimage.median_filter(activity, size=window, mode="nearest")
    least = np.maximum(1e-6 * usual.max(axis=1, keepdims=True), 1e-12)
    ratio = activity / np.maximum(usual, least)
    repaired = sinogram.copy()
    for row, values in enumerate(ratio):
        found = _widened(find_outlying_columns(values, settings.contrast))
        # At the edge of the detector, interpolation is not possible.
        found[:2] = found[-2:] = False
        interpolate_columns(repaired[row], found)
    return remove_large(repaired, settings)


def remove_all(sinogram: FloatArray, settings: StripeSettings) -> FloatArray:
    """Remove dead columns, then wide stripes, then narrow stripes."""
    return remove_sorting(remove_dead(sinogram, settings), settings)


@dataclass(frozen=True)
class StripeMethod:
    """A method to remove stripes, and its title for the user."""

    title: str
    remove: Callable[[FloatArray, StripeSettings], FloatArray] | None


STRIPE_METHODS: dict[str, StripeMethod] = {
    "none": StripeMethod("Leave them", None),
    "sorting": StripeMethod("Narrow stripes (sorting)", remove_sorting),
    "filtering": StripeMethod(
        "Narrow stripes (low frequencies only)", remove_filtering
    ),
    "large": StripeMethod("Wide stripes", remove_large),
    "dead": StripeMethod("Dead columns and wide stripes", remove_dead),
    "all": StripeMethod("All kinds of stripes", remove_all),
}


def remove_stripes(
    sinogram: FloatArray, method: str, settings: StripeSettings | None = None
) -> FloatArray:
    """Remove stripes from each row separately.

    Parameters
    ----------
    sinogram : ndarray of shape (row, angle, column), float32
        Line integrals.
    method : str
        A key of `STRIPE_METHODS`.
    settings : StripeSettings, optional

    Returns
    -------
    ndarray of shape (row, angle, column), float32

    Raises
    ------
    ConfigError
        If there is no such method.
    """
    if method not in STRIPE_METHODS:
        known = ", ".join(STRIPE_METHODS)
        raise ConfigError(
            f"There is no method {method!r} to remove stripes. Use one of: {known}."
        )
    remove = STRIPE_METHODS[method].remove
    if remove is None or sinogram.shape[2] < 3:
        return sinogram
    cleaned = remove(np.asarray(sinogram, np.float32), settings or StripeSettings())
    return cleaned.astype(np.float32, copy=False)


def interpolate_columns(sinogram: FloatArray, columns: npt.NDArray[np.bool_]) -> None:
    """Fill columns of (angle, column) in place by linear interpolation.

    At the edge, the nearest column is repeated; if all are bad, nothing is done.
    """
    good = np.flatnonzero(~columns)
    bad = np.flatnonzero(columns)
    if not good.size or not bad.size:
        return
    at = np.clip(np.searchsorted(good, bad), 1, max(len(good) - 1, 1))
    left, right = good[at - 1], good[np.minimum(at, len(good) - 1)]
    share = (bad - left) / np.maximum(right - left, 1)
    share = np.clip(share, 0, 1).astype(np.float32)
    sinogram[:, bad] = sinogram[:, left] * (1 - share) + sinogram[:, right] * share


def find_outlying_columns(
    values: npt.NDArray[np.floating[Any]], contrast: float
) -> npt.NDArray[np.bool_]:
    """Find the columns that differ from the others (algorithm 4 of [1]_).

    Sorted values of ordinary columns lie on a line. If the highest value exceeds the
    upper end of this line by at least `contrast` times the rise of the line, all
    columns that exceed it by more than half of this amount are selected. Columns below
    the lower end are selected in the same way.
    """
    found = np.zeros(len(values), bool)
    ordered = np.sort(values.astype(np.float64))
    x = np.arange(len(values))
    drop = int(_DROPPED_COLUMNS * len(values))
    inner = slice(drop, len(values) - drop)
    if len(x[inner]) < 2:
        return found
    slope, low = np.polyfit(x[inner], ordered[inner], 1)
    high = low + slope * x[-1]
    rise = max(high - low, 1e-6)
    if (low - ordered[0]) / rise >= contrast:
        found |= values <= low - 0.5 * contrast * rise
    if (ordered[-1] - high) / rise >= contrast:
        found |= values > high + 0.5 * contrast * rise
    return found


def _across_sorted(
    sinogram: FloatArray, window: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Smooth across sorted columns; return result, sorted values, smoothed values."""
    from scipy import ndimage

    order = np.argsort(sinogram, axis=1, kind="stable")
    ordered = np.take_along_axis(sinogram, order, axis=1)
    smooth: FloatArray = ndimage.median_filter(
        ordered, size=(1, 1, window), mode="nearest"
    )
    back = np.empty_like(sinogram)
    np.put_along_axis(back, order, smooth, axis=1)
    return back, ordered, smooth


def _narrow(sinogram: FloatArray, settings: StripeSettings) -> int:
    return _odd_window(settings.size, sinogram.shape[2] // _NARROW_PART)


def _wide(sinogram: FloatArray, settings: StripeSettings) -> int:
    return _odd_window(settings.large_size, sinogram.shape[2] // _WIDE_PART)


def _odd_window(size: int, most: int) -> int:
    """Return `size`, limited to `most` and rounded up to an odd number, at least 3."""
    return max(min(size, most) | 1, 3)


def _widened(found: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    wide = found.copy()
    wide[1:] |= found[:-1]
    wide[:-1] |= found[1:]
    return wide
