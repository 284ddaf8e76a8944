"""Segmentation of pores: threshold rules and phase mask."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import ShouldStop, never_stop, run_to_end
from napari_geosr.core.types import AnyDType
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import GreyHistogram, histogram_steps

#: Voxels from which a threshold was computed; see `PorosityReport`.
ThresholdScope = Literal["volume", "mask", "sample", "inner"]
#: Number of bins for multi-otsu (and for triangle without exact counts).
_RULE_BINS = 256
#: Shift of the threshold, relative to the distance between the phases' means.
SENSITIVITY = 0.05


def threshold_value(
    source: Any,
    config: PorosityConfig,
    should_stop: ShouldStop = never_stop,
    *,
    name: str = "volume",
) -> float:
    """Find the grey value that separates pores from solid, reading block by block.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X) or (Y, X)
    config : PorosityConfig

    Raises
    ------
    VolumeError
        If the volume contains no finite value, or only one grey value.
    """
    thickness = max(1, (1 << 22) // max(1, math.prod(source.shape[1:])))
    histogram = run_to_end(
        histogram_steps(source, thickness=thickness, name=name, should_stop=should_stop)
    )
    return threshold_of(histogram, config, np.dtype(source.dtype), name=name)


def threshold_of(
    histogram: GreyHistogram,
    config: PorosityConfig,
    dtype: AnyDType,
    *,
    name: str = "volume",
) -> float:
    """Find the threshold by the rule in `config`.

    For integers with up to 2¹⁷ levels (multi-otsu: 256), the value equals that of
    `skimage.filters`; otherwise it is the upper end of the bin that contains that
    value.

    Parameters
    ----------
    histogram : GreyHistogram
    config : PorosityConfig
    dtype : dtype
        Type of the grey values.
    name : str
        Name of the volume, for messages.
    """
    rule = config.threshold
    if isinstance(rule, float | int):
        return float(rule)
    offset = histogram.offset
    if offset:
        histogram = histogram.shifted(offset)
    if rule == "otsu":
        from skimage.filters import threshold_otsu

        counts, edges = histogram.counts, histogram.edges
        value = float(threshold_otsu(hist=(counts, histogram.centres)))
    elif rule == "li":
        value = _li(histogram)
        if histogram.is_exact:
            return value + offset
        counts, edges = histogram.counts, histogram.edges
    else:
        full = histogram.is_exact and rule == "triangle"
        counts, edges = (
            (histogram.counts, histogram.edges)
            if full
            else histogram.rebinned(_RULE_BINS)
        )
        centres = (edges[1:] + edges[:-1]) / 2
        if rule == "triangle":
            value = _triangle(counts, centres)
        else:
            value = _multi_otsu(counts, centres, config.phase, name)
    exact = histogram.is_exact and len(counts) == len(histogram.counts)
    if exact:
        return value + offset
    upper = edges[min(int(np.searchsorted(edges, value, "right")), len(edges) - 1)]
    upper += offset
    if dtype.kind != "f":
        return float(upper)
    below = np.nextafter(dtype.type(upper), dtype.type(-np.inf))
    return float(below)


def _multi_otsu(
    counts: np.ndarray, centres: np.ndarray, phase: str, name: str
) -> float:
    """Return the three-class Otsu threshold that is closer to the pores."""
    from skimage.filters import threshold_multiotsu

    if np.count_nonzero(counts) < 3:
        raise VolumeError(
            f"{name!r} has fewer than three grey values, too few for the threshold "
            "multi-otsu. Use otsu instead."
        )
    low, high = threshold_multiotsu(classes=3, hist=(counts, centres))
    return float(low if phase == "dark" else high)


def _li(histogram: GreyHistogram) -> float:
    """Apply Li's minimum cross entropy to a histogram (scikit-image needs an image).

    Li & Tam, Pattern Recognition Letters 19, 771 (1998),
    https://doi.org/10.1016/S0167-8655(98)00057-9.
    """
    weights = histogram.counts.astype(np.float64)
    values = histogram.centres - histogram.minimum
    values = np.maximum(values, 0.0)
    tolerance = 0.5 * histogram.width
    following = float(np.average(values, weights=weights))
    current = -2 * tolerance
    while abs(following - current) > tolerance:
        current = following
        above = values > current
        if not above.any() or not weights[~above].any():
            break
        mean_above = float(np.average(values[above], weights=weights[above]))
        mean_below = float(np.average(values[~above], weights=weights[~above]))
        if mean_below == 0:
            break
        following = (mean_below - mean_above) / (
            math.log(mean_below) - math.log(mean_above)
        )
    return following + histogram.minimum


def _triangle(counts: np.ndarray, centres: np.ndarray) -> float:
    """Find the bin farthest below the line from the peak to the end of the longer tail.

    Zack, Rogers & Latt, J. Histochem. Cytochem. 25, 741 (1977),
    https://doi.org/10.1177/25.7.70454; the version in scikit-image requires whole
    images.
    """
    peak = int(np.argmax(counts))
    low, high = (int(i) for i in np.flatnonzero(counts)[[0, -1]])
    end = high if peak - low < high - peak else low
    step = 1 if end < peak else -1
    # Go from the tail's end towards the peak, excluding the peak itself.
    bins = np.arange(end, peak, step)
    distance = counts[peak] * np.arange(len(bins)) - len(bins) * counts[bins].astype(
        float
    )
    return float(centres[bins[int(np.argmax(distance))]])


def phase_mask(block: np.ndarray, value: float, phase: str) -> np.ndarray:
    """Return the mask of the pore phase; NaN is not pore.

    Dark pores are ``block <= value``, bright ones ``block > value``, so that every
    finite voxel belongs to exactly one of the two masks.

    Parameters
    ----------
    block : ndarray
        Grey values.
    value : float
        Threshold.
    phase : {"dark", "bright"}
        Which of the two phases consists of pores.
    """
    bound: Any = float(value)
    if block.dtype == np.bool_:
        block = block.view(np.uint8)
    if block.dtype.kind in "iu":
        # Compare integers as integers, without a float copy of the block.
        info = np.iinfo(block.dtype)
        whole = math.floor(value)
        if not info.min <= whole <= info.max:
            everything = (whole > info.max) == (phase == "dark")
            return np.full(block.shape, everything)
        bound = block.dtype.type(whole)
    mask: np.ndarray = block <= bound if phase == "dark" else block > bound
    return mask


def shifted_thresholds(
    histogram: GreyHistogram, threshold: float
) -> tuple[float, float]:
    """Return the threshold shifted by ∓ 5 % of the distance between the phases' means.

    If the threshold lies in a gap between grey values, the centre of the gap is
    shifted, because all values in the gap give the same pores.
    """
    low = histogram.centres <= threshold
    weights = histogram.counts
    if not weights[low].any() or not weights[~low].any():
        return threshold, threshold
    below = float(np.average(histogram.centres[low], weights=weights[low]))
    above = float(np.average(histogram.centres[~low], weights=weights[~low]))
    shift = SENSITIVITY * (above - below)
    filled = weights > 0
    last, following = (
        histogram.centres[low & filled][-1],
        histogram.centres[~low & filled][0],
    )
    # Between adjacent integers, there is always a gap.
    gap = histogram.is_integer or following - last > histogram.width
    middle = (last + following) / 2 if gap else threshold
    return float(middle - shift), float(middle + shift)
