"""Warnings about grey values that make the results unreliable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from napari_geosr.core.text.counts import counted
from napari_geosr.core.volume import ArrayLike
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import GreyHistogram
from napari_geosr.measure.number_text import number_text
from napari_geosr.measure.segment import threshold_of
from napari_geosr.measure.small_pores import SmallPores

_MANY_NAN = "are NaN or infinite. They belong"
#: Words that identify the warning about phases hidden by voxels far from all others.
_FAR = "have grey values far from all others"
#: Fraction of the voxels below which a phase probably consists of outliers.
_MIN_PHASE_SHARE = 5e-4
#: Minimum fraction of each of two phases for a message that outliers hide them.
_MIN_HIDDEN_SHARE = 5e-3
#: Fraction of the voxels up to which a group far from all others counts as neither
#: pores nor solid.
_MAX_SMALL_SHARE = 0.02
#: Larger fraction for a group that may well be a phase, such as metal grains or regions
#: set to a constant.
_MAX_DOUBTFUL_SHARE = 0.25
#: Maximum frequency of grey values between two phases, relative to the lower frequency
#: at the means of the phases.
_MAX_VALLEY = 0.5
#: Distance from the end of the range of grey values, as a fraction of the range, within
#: which voxels count as saturated, and the minimum fraction of saturated voxels in a
#: group of voxels far from all others.
_SATURATED_RANGE = 0.01
_MIN_SATURATED_SHARE = 0.8
#: Half-width of the range of values that count as near a grey value, relative to the
#: distance between the phases.
_HALF_WIDTH = 0.05
#: Maximum number of voxels along an axis that are read to recognise a label image.
_MAX_EDGE = 2048
#: Minimum fraction of pairs of adjacent non-zero voxels that have equal values in a
#: label image, and the minimum number of these pairs.
_EQUAL_IN_LABELS = 0.9
_MIN_PAIRS = 50
#: Minimum number of single-voxel objects for a message.
_MIN_SINGLE_VOXELS = 500
#: Minimum fraction of single-voxel objects among all objects for a message.
_MIN_OBJECT_SHARE = 0.5
#: Minimum number of single-voxel objects for a message, as a fraction of the sample's
#: voxels.
_MIN_SAMPLE_SHARE = 1e-3


def looks_like_labels(data: ArrayLike) -> bool:
    """Whether some planes consist of regions with one value each, separated by zeros.

    Parameters
    ----------
    data : ArrayLike of shape (Z, Y, X) or (Y, X)
        If it holds integers, the central part of the image or of three planes is read;
        otherwise nothing is read.
    """
    if np.dtype(data.dtype).kind not in "iu":
        return False
    window = tuple(_middle(int(n)) for n in data.shape[-2:])
    keys: list[tuple[int | slice, ...]] = [window]
    if data.ndim == 3:
        keys = [(data.shape[0] * part // 4, *window) for part in (1, 2, 3)]
    numbers: set[int] = set()
    n_pairs = n_equal = 0
    for key in keys:
        plane = np.asarray(data[key])
        left, right = plane[:, :-1], plane[:, 1:]
        both = (left != 0) & (right != 0)
        n_pairs += int(np.count_nonzero(both))
        n_equal += int(np.count_nonzero(both & (left == right)))
        numbers.update(np.unique(plane).tolist())
    if min(numbers) != 0 or len(numbers) < 3:
        return False
    return n_pairs >= _MIN_PAIRS and n_equal >= _EQUAL_IN_LABELS * n_pairs


def _middle(n: int) -> slice:
    """Return the central part of an axis; whole planes may be larger than memory."""
    start = max(0, (n - _MAX_EDGE) // 2)
    return slice(start, start + min(n, _MAX_EDGE))


def remarks(
    histogram: GreyHistogram,
    config: PorosityConfig,
    threshold: float,
    name: str,
    n_voxels: int | None = None,
) -> Iterator[str]:
    """Yield messages about missing, unusual and ambiguous grey values.

    Parameters
    ----------
    histogram : GreyHistogram
        Histogram from which the threshold was found.
    n_voxels : int or None
        Number of voxels of the volume, among which those without a value were counted.
        None if they were counted inside a given mask.
    """
    bad, good = histogram.n_nonfinite, histogram.n + histogram.n_outliers
    if bad:
        share = 100 * bad / (n_voxels or (bad + good))
        where = f"of {name!r}" if n_voxels else f"in the mask of {name!r}"
        yield (
            f"{counted(bad, 'voxel')} {where} ({share:.2g} %) "
            f"{'is NaN or infinite. It belongs' if bad == 1 else _MANY_NAN} neither to "
            "the pores nor to the sample."
        )
    if histogram.n_outliers:
        is_one = histogram.n_outliers == 1
        yield (
            f"{counted(histogram.n_outliers, 'voxel')} of {name!r} "
            f"{'is an outlier' if is_one else 'are outliers'} (all others range from "
            f"{number_text(histogram.minimum)} to {number_text(histogram.maximum)}). "
            f"{'It was' if is_one else 'They were'} ignored when the threshold was "
            "determined."
        )
    filled = histogram.centres[histogram.counts > 0]
    if isinstance(config.threshold, str) and (
        text := _hidden_phases(histogram, config, threshold, name)
    ):
        yield text
        return
    if len(filled) == 2 and histogram.nearby is None:
        dark = config.phase == "dark"
        pore = histogram.minimum if dark else histogram.maximum
        yield (
            f"{name!r} contains only two values; {pore:g} was assumed to be pore. If "
            "it is the solid, choose the other phase."
        )
    elif isinstance(config.threshold, str):
        yield from _threshold_remarks(histogram, threshold, name)
    if not histogram.minimum <= threshold < histogram.maximum:
        above = threshold >= histogram.maximum
        what = "pore" if above == (config.phase == "dark") else "solid"
        yield (
            f"The threshold {number_text(threshold)} does not separate two phases in "
            f"{name!r}: its grey values range from {number_text(histogram.minimum)} "
            f"to {number_text(histogram.maximum)}, so all of it is {what}."
        )


def _hidden_phases(
    histogram: GreyHistogram, config: PorosityConfig, threshold: float, name: str
) -> str:
    """Return a message if voxels far from all others determine the threshold.

    Hot or saturated voxels, or grains of metal, then count as one phase, and pores and
    solid together count as the other. A few pores in a solid are not such a case,
    because the solid is a single phase. The more voxels are far from the others, the
    stricter the test, because a phase far from two others is not unusual.
    """
    others = histogram.nearby
    if others is None or _smaller_phase(others, threshold) >= _MIN_HIDDEN_SHARE:
        return ""
    own = threshold_of(others, config, np.dtype(np.float64), name=name)
    if _smaller_phase(others, own) < _MIN_HIDDEN_SHARE:
        return ""
    at_own, below_own, above_own = _frequencies(others, own)
    if at_own > _MAX_VALLEY * min(below_own, above_own):
        return ""
    below = int(others.counts[others.centres <= own].sum())
    n_far = histogram.n - others.n
    is_above = threshold > float(np.average(others.centres, weights=others.counts))
    are_pores = is_above != (config.phase == "dark")
    if n_far <= _MAX_SMALL_SHARE * histogram.n:
        certainty = "is wrong"
    elif not are_pores and _is_saturated(histogram, n_far, at_top=is_above):
        certainty = "is probably wrong"
    elif n_far <= _MAX_DOUBTFUL_SHARE * histogram.n and (
        not are_pores or _is_constant(histogram, others)
    ):
        certainty = "may be wrong"
    else:
        return ""
    what = "below" if config.phase == "dark" else "above"
    pores = below if config.phase == "dark" else others.n - below
    return (
        f"{n_far} voxels of {name!r} ({100 * n_far / histogram.n:.2g} %) {_FAR}, as "
        "is typical of hot or saturated voxels, metal grains or regions without "
        f"data. The threshold ({number_text(threshold)}) separates only these from the "
        f"others, so the porosity {certainty}. The other voxels "
        f"form two phases: {100 * pores / others.n:.3g} % of them are {what} "
        f"{number_text(own)}. Enter that threshold as a number, or exclude the "
        "extreme voxels with a sample mask."
    )


def hides_phases(warnings: Iterable[str]) -> bool:
    """Whether a warning says that the threshold does not separate pores and solid."""
    return any(_FAR in warning for warning in warnings)


def _smaller_phase(histogram: GreyHistogram, threshold: float) -> float:
    """Return the fraction of the voxels on the less frequent side of a threshold."""
    low = int(histogram.counts[histogram.centres <= threshold].sum())
    return min(low, histogram.n - low) / histogram.n


def _threshold_remarks(
    histogram: GreyHistogram, threshold: float, name: str
) -> Iterator[str]:
    """Check whether an automatic threshold separates two phases."""
    low = int(histogram.counts[histogram.centres <= threshold].sum())
    smaller = min(low, histogram.n - low)
    text = number_text(threshold)
    if smaller < _MIN_PHASE_SHARE * histogram.n:
        side = "at or below" if smaller == low else "above"
        yield (
            f"Only {smaller} of {histogram.n} voxels of {name!r} are {side} the "
            f"threshold {text}: a few outliers may have shifted it. Check the labels, "
            "or give the threshold as a number."
        )
    elif has_one_phase(histogram, threshold):
        yield (
            f"The most frequent grey values of {name!r} are at the threshold {text}: "
            "the histogram is not bimodal, so the porosity is unreliable. Give the "
            "threshold as a number, or measure a region that contains both pores and "
            "solid."
        )


def has_one_phase(histogram: GreyHistogram, threshold: float) -> bool:
    """Whether grey values are more frequent at the threshold than at both phase means.

    Rules such as Otsu's always split the histogram; a single peak is split near its
    centre.
    """
    if _smaller_phase(histogram, threshold) == 0:
        return True
    at_threshold, at_below, at_above = _frequencies(histogram, threshold)
    return at_threshold > max(at_below, at_above)


def _frequencies(histogram: GreyHistogram, threshold: float) -> tuple[int, int, int]:
    """Count voxels near the threshold, and near the mean grey value on either side."""
    centres, counts = histogram.centres, histogram.counts
    low = centres <= threshold
    below = float(np.average(centres[low], weights=counts[low]))
    above = float(np.average(centres[~low], weights=counts[~low]))
    near = max(_HALF_WIDTH * (above - below), histogram.width)

    def at(value: float) -> int:
        """Return the number of voxels near a grey value."""
        return int(counts[np.abs(centres - value) <= near].sum())

    return at(threshold), at(below), at(above)


def _is_saturated(histogram: GreyHistogram, n_far: int, *, at_top: bool) -> bool:
    """Whether most of the brightest or darkest voxels have nearly the same value."""
    span = _SATURATED_RANGE * (histogram.maximum - histogram.minimum)
    if at_top:
        at_end = histogram.centres >= histogram.maximum - span
    else:
        at_end = histogram.centres <= histogram.minimum + span
    return int(histogram.counts[at_end].sum()) >= _MIN_SATURATED_SHARE * n_far


def _is_constant(histogram: GreyHistogram, others: GreyHistogram) -> bool:
    """Whether the voxels outside the range of `others` have a single grey value."""
    beyond = (histogram.edges[1:] <= others.minimum) | (
        histogram.edges[:-1] > others.maximum
    )
    return int(np.count_nonzero(histogram.counts[beyond])) == 1


def speck_remarks(
    voxels: np.ndarray,
    sample_voxels: int,
    min_voxels: int,
    name: str,
    small: SmallPores | None = None,
) -> Iterator[str]:
    """Yield one sentence if there are many objects, most of which are single voxels.

    Parameters
    ----------
    voxels : ndarray of shape (n,), int
        Number of voxels of each object of the pore phase.
    sample_voxels : int
        Number of voxels of the sample.
    min_voxels : int
        Minimum size of a pore that is counted.
    small : SmallPores, optional
        Objects that are not in `voxels`.
    """
    small = SmallPores() if small is None else small
    single = int(np.count_nonzero(voxels == 1)) + small.single
    n = len(voxels) + small.n
    if single < max(
        _MIN_SINGLE_VOXELS, _MIN_SAMPLE_SHARE * sample_voxels, _MIN_OBJECT_SHARE * n
    ):
        return
    counted = (
        f"they are not counted as pores (minimum pore size: {min_voxels} voxels) but "
        "are part of the porosity"
        if min_voxels > 1
        else "they are counted as pores"
    )
    yield (
        f"{number_text(single)} of the {number_text(n)} objects in the pore phase of "
        f"{name!r} are single voxels, which is typical of noise; {counted}. Restore "
        "the scan first."
    )
