"""Counts pores in sample blocks, and compares the counts with the expected ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.inference.risk.evaluation import is_flat
from napari_geosr.measure.comparison.quality import pore_volumes
from napari_geosr.measure.histogram import GreyHistogram
from napari_geosr.measure.remarks import has_one_phase

if TYPE_CHECKING:
    from napari_geosr.inference.risk.evaluation import Block

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Minimum pore size at which few specks of noise are counted, in voxels of a 3D
#: volume.
MIN_PORE_VOXELS = 27
#: Maximum ratio of two pore counts, in either direction; above it, one count is wrong.
MAX_PORE_RATIO = 2.0
#: Minimum difference between two pore counts for which their ratio is evaluated.
MIN_PORES = 5
#: Maximum ratio of two pore counts at which the number of pores is called stable.
MAX_CHANGE_OF_COUNT = 1.125
#: Minimum count that can be called stable: its permitted change is one pore.
MIN_STABLE_PORES = 8
#: Number of bins of the histogram of the blocks.
_BINS = 256
#: Minimum distance of padding from other grey values, as a fraction of their range.
_GAP = 0.03
#: Maximum fraction of the other voxels with a grey value within this distance of
#: padding.
_GAP_SHARE = 1e-3


@dataclass(frozen=True)
class PoreCounts:
    """Numbers of pores, or of bright spots, of at least a given size.

    Attributes
    ----------
    objects : str
        ``"pores"`` or ``"bright spots"``.
    smallest : int
        Minimum size, in voxels.
    smoothed : int
        Number of objects in the smoothed scan.
    simulated : int
        Number of objects in the model's result for the smoothed scan with noise.
    result : int
        Number of objects in the model's result for the scan.
    noisy : int, optional
        Number of objects in the smoothed scan with noise.
    scan : int, optional
        Number of objects in the scan.
    repeated : int, optional
        Number of objects after the model is run again on its own result with added
        noise.
    is_known : bool
        Whether Otsu's threshold separates the pores in the smoothed scan. If not,
        `smoothed` and `simulated` are numbers of specks of noise.

    Examples
    --------
    >>> round(PoreCounts("pores", 27, smoothed=10, simulated=20, result=45).expected)
    15
    """

    objects: str
    smallest: int
    smoothed: int
    simulated: int
    result: int
    noisy: int | None = None
    scan: int | None = None
    repeated: int | None = None
    is_known: bool = True

    @property
    def tested(self) -> tuple[int, int]:
        """Numbers of pores before and after the model restores a known scan.

        The known scan is the smoothed scan or, if that shows no pores, the model's own
        result.
        """
        if self.is_known:
            return self.smoothed, self.simulated
        return self.result, self.result if self.repeated is None else self.repeated

    @property
    def expected(self) -> float:
        """Estimate of the true number of pores.

        The estimate is the number in the result divided by the factor by which the
        model changes the number. The factor is the geometric mean of two estimates: one
        from the simulation, with a ground truth that lacks fine detail, and one from
        the comparison with the smoothed scan, which also lacks fine detail. If the
        smoothed scan shows no pores, the only estimate comes from the test with the
        model's own result.
        """
        before, after, result = (max(0.5, n) for n in (*self.tested, self.result))
        if not self.is_known:
            return result * before / after
        return result * before / math.sqrt(after * result)

    def is_off(self, ratio: float) -> bool:
        """Return whether the two counts differ by more than a factor of `ratio`."""
        return differ(self.result, self.expected, ratio)

    def is_lossy(self, ratio: float) -> bool:
        """Return whether many objects are lost in the test.

        The comparison with the smoothed scan cannot show this, because smoothing loses
        the same objects.
        """
        before, after = self.tested
        return after < before and differ(after, before, ratio)

    @property
    def is_stable(self) -> bool:
        """Whether the number hardly changes if noise is added and removed again.

        A model that loses or invents pores usually does so again (the idea of the
        bootstrap: Efron, Ann. Statist. 7, 1, 1979).
        """
        if self.repeated is None:
            return False
        low, high = sorted((self.result, self.repeated))
        return low >= MIN_STABLE_PORES and high <= MAX_CHANGE_OF_COUNT * low


def differ(first: float, second: float, ratio: float = MAX_PORE_RATIO) -> bool:
    """Return whether two counts differ by more than `ratio`, and not by chance.

    Examples
    --------
    >>> differ(30, 14), differ(30, 16), differ(3, 1)
    (True, False, False)
    """
    low, high = sorted((first, second))
    return high > ratio * low and high - low >= MIN_PORES


def sample_of(block: Block) -> Mask:
    """Return the voxels of a window that belong to the sample.

    Excludes unknown voxels and padding. Padding has a single value, to which hardly
    any voxel of the sample is close, so pores that are clipped to black are not
    mistaken for padding.
    """
    from scipy import ndimage

    outside = ~block.finite if block.padded is None else ~block.finite | block.padded
    window = block.window
    plane = (1, 3, 3)[-window.ndim :]
    lowest, highest = (
        extreme(window, plane)
        for extreme in (ndimage.minimum_filter, ndimage.maximum_filter)
    )
    constant = window[(lowest == highest) & block.finite]
    if constant.size:
        values, numbers = np.unique(constant, return_counts=True)
        value = values[numbers.argmax()]
        distance = np.abs(window[block.finite] - value)
        others = distance[distance > 0]
        near = _GAP * np.ptp(window)
        if others.size and np.mean(others < near) < _GAP_SHARE:
            outside |= window == value
    shown: Mask = ~outside
    return shown


def inside_of(shown: Mask, width: float) -> Mask:
    """Return the voxels that a Gaussian filter mixes with sample voxels only.

    Examples
    --------
    >>> import numpy as np
    >>> shown = np.array([[False, True, True, True]])
    >>> inside_of(shown, 0.4).tolist()
    [[False, False, False, True]]
    """
    from scipy import ndimage

    if shown.all():
        return shown
    reach = 1 + math.ceil(2 * width)
    inside: Mask = ~ndimage.binary_dilation(~shown, iterations=reach)
    return inside


def pore_counts(
    volumes: Sequence[Sequence[Array]],
    insides: Sequence[Mask],
    voxels: int,
    *,
    bright: bool,
    is_known: bool = True,
) -> PoreCounts:
    """Count the pores of each volume, in the order of the fields of `PoreCounts`."""
    ndim = 2 if is_flat(insides[0].shape) else 3
    smallest = round(voxels ** (ndim / 3))
    names = ("smoothed", "simulated", "result", "noisy", "scan", "repeated")
    counts = {
        name: count_pores(blocks, insides, bright=bright, smallest=smallest)
        for name, blocks in zip(names, volumes, strict=False)
    }
    objects = "bright spots" if bright else "pores"
    return PoreCounts(objects, smallest, is_known=is_known, **counts)


def kept_pores(
    scans: Sequence[Array],
    results: Sequence[Array],
    insides: Sequence[Mask],
    threshold: float,
    size: int,
    *,
    bright: bool,
) -> tuple[int, int]:
    """Count pores of about this size in the scan, and those left in the result."""
    import cc3d
    from scipy import ndimage

    seen = kept = 0
    for in_scan, in_result in zip(
        pore_masks(scans, insides, threshold, bright=bright),
        pore_masks(results, insides, threshold, bright=bright),
        strict=True,
    ):
        labels = cc3d.connected_components(in_scan)
        sizes = np.bincount(labels.ravel())
        similar = np.flatnonzero((2 * sizes >= size) & (sizes <= 2 * size))
        similar = similar[similar > 0]
        if len(similar):
            shares = ndimage.mean(in_result.astype(np.float32), labels, similar)
            seen += len(similar)
            kept += int(np.count_nonzero(shares >= 0.5))
    return seen, kept


def count_pores(
    blocks: Sequence[Array],
    insides: Sequence[Mask],
    *,
    bright: bool = False,
    smallest: int = MIN_PORE_VOXELS,
) -> int:
    """Count the dark (or bright) objects in all blocks, with one Otsu threshold.

    Objects of at least `smallest` voxels are counted. `insides` are the voxels that
    belong to the sample.
    """
    found = threshold_of(blocks, insides)
    if found is None:
        return 0
    masks = pore_masks(blocks, insides, found[0], bright=bright)
    return sum(len(pore_volumes(mask, smallest=smallest)) for mask in masks)


def pore_masks(
    blocks: Sequence[Array], insides: Sequence[Mask], threshold: float, *, bright: bool
) -> Iterator[Mask]:
    """Yield a mask of the dark (or bright) voxels of each block."""
    return (
        np.ascontiguousarray(((block <= threshold) != bright) & inside)
        for block, inside in zip(blocks, insides, strict=True)
    )


def threshold_of(
    blocks: Sequence[Array], insides: Sequence[Mask]
) -> tuple[float, Array] | None:
    """Return Otsu's threshold of all values in the sample, and these values.

    The result is None if all values are the same.
    """
    from skimage.filters import threshold_otsu

    parts = [block[part] for block, part in zip(blocks, insides, strict=True)]
    values = np.concatenate(parts)
    if not (values.size and np.ptp(values) > 0):
        return None
    return float(threshold_otsu(values)), values


def has_one_peak(blocks: Sequence[Array], insides: Sequence[Mask]) -> bool:
    """Return whether Otsu's threshold divides a single peak of the histogram.

    Examples
    --------
    >>> import numpy as np
    >>> shown = np.full((20, 20, 20), True)
    >>> rng = np.random.default_rng(0)
    >>> solid = rng.normal(100, 5, shown.shape)
    >>> has_one_peak([solid], [shown])
    True
    >>> solid[:, :5] = 20
    >>> has_one_peak([solid], [shown])
    False
    """
    found = threshold_of(blocks, insides)
    if found is None:
        return False
    threshold, values = found
    counts, edges = np.histogram(values, _BINS)
    histogram = GreyHistogram(
        False, counts, 0, 1.0, float(values.min()), float(values.max())
    )
    place = (threshold - edges[0]) / (edges[1] - edges[0])
    return has_one_phase(histogram, place)
