"""Finds a sample in its surroundings, and a threshold that fits its blurred surface.

A mask drawn at the threshold of the whole volume ends half-way up the blurred surface
of the sample. At a higher threshold inside the mask, a layer of voxels at the surface
would become pores. Therefore, voxels near the surface do not affect the threshold, and
solid voxels of that layer remain solid.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    never_stop,
)
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import GreyHistogram, histogram_steps
from napari_geosr.measure.number_text import rough_percent
from napari_geosr.measure.remarks import has_one_phase
from napari_geosr.measure.sample.mask import dilated, sample_mask_steps
from napari_geosr.measure.segment import ThresholdScope, phase_mask, threshold_of
from napari_geosr.measure.thresholds.contours import compartment_steps

Mask = npt.NDArray[np.bool_]
Layers = npt.NDArray[np.uint8]

#: Number of layers, one voxel thick, in which the surface of the sample is examined.
_N_LAYERS = 8
#: Number of classes of voxels: outside the sample, in each layer, and deeper inside.
_N_NUMBERS = _N_LAYERS + 2
#: Minimum number of voxels in a layer for measuring its mean grey value.
_FEWEST = 100
#: If the mean grey value changes by more than this from one layer to the next, relative
#: to the contrast, the outer layer belongs to the blurred surface.
_MAX_STEP = 0.02
#: Minimum fraction of the sample that must lie below its blurred surface.
_MIN_INSIDE = 0.1
#: Quantile of a phase that represents its pure grey value: its darkest (or brightest)
#: voxels, because small pores consist mostly of voxels that are partly solid.
_PURE = 0.125
#: Maximum difference between the pure grey values of the pores and of the surroundings,
#: relative to the contrast, at which the two count as the same phase.
_SAME_PHASE = 0.2
#: Minimum difference between the phases of the sample, relative to the same contrast.
_MIN_CONTRAST = 0.05
#: Width of the range of grey values, relative to the contrast, in which voxels are
#: counted to find the peak of a phase.
_WINDOW = 0.1
#: Minimum number of voxels at such a peak, relative to those at the threshold. For
#: small pores with the grey value of the surroundings, this ratio is 0.74 to 0.83.
_MIN_PEAK = 0.95
#: Minimum porosity for a warning, at a threshold found inside the sample but not used.
_MIN_OTHER_POROSITY = 1e-3
#: Minimum difference between the phases at this threshold, relative to the contrast. In
#: a sample without pores, voxels that are still blurred differ by up to 0.02.
_MIN_OTHER_CONTRAST = 0.03
#: Fraction of the sample by which a redrawn mask may be smaller without a warning.
_MAX_LOST = 0.03
#: Empty step, yielded regularly so that the caller can stop the search.
_HEARTBEAT = Step()


@dataclass(frozen=True, eq=False)
class SampleSearch:
    """The grey values in which a sample is searched for.

    Attributes
    ----------
    source : ArrayLike of shape (Z, Y, X)
    slabs : list of slice
        Slabs along Z in which `source` is read.
    config : PorosityConfig
    name : str
    planes : (int, int)
        Number of planes per block of a histogram, and in memory at a time.
    should_stop : callable
    """

    source: Any
    slabs: list[slice]
    config: PorosityConfig
    name: str
    planes: tuple[int, int]
    should_stop: ShouldStop = never_stop

    @property
    def is_dark_outside(self) -> bool:
        """Whether the space next to the sample is the darker phase."""
        return (self.config.phase == "dark") != (self.config.sample_mask == "marrow")

    def read(self, slab: slice) -> np.ndarray:
        """Read a slab of grey values."""
        if self.should_stop():
            raise Cancelled(
                f"Measuring {self.name!r} was cancelled while finding the sample."
            )
        return np.asarray(self.source[slab])

    def solid(self, slab: slice, threshold: float) -> Mask:
        """Return the solid voxels of a slab."""
        block = self.read(slab)
        solid: Mask = ~phase_mask(block, threshold, self.config.phase)
        if block.dtype.kind == "f":
            solid &= np.isfinite(block)
        return solid


@dataclass(frozen=True, eq=False)
class FoundSample:
    """A sample mask with the threshold for the phases inside.

    Attributes
    ----------
    mask, solid : ndarray of bool
        The sample, and the solid from which the mask was made.
    histogram : GreyHistogram
        Grey values of the sample.
    threshold : float
    inner : ndarray of bool, or None
        The sample below its blurred surface; None if its surface is sharp, or if too
        little of the sample is left.
    level : float
        Mean grey value of the sample, below its blurred surface.
    surface : SampleSurface or None
    other_threshold : float or None
        Threshold of the grey values inside, if it was not used but gives a
        considerable porosity, at least twice that of the threshold used.
    other_porosity : float
        Approximate porosity at this threshold.
    scope : str
        See `PorosityReport.threshold_scope`.
    lost : float
        Fraction of the sample left out because of its blur.
    covered : ndarray of bool or None
        Solid voxels at the surface that would count as pores because of blur.
    solid_level : float
        Grey value of these voxels.
    """

    mask: Mask
    solid: Mask
    histogram: GreyHistogram
    threshold: float
    inner: Mask | None = None
    level: float = 0.0
    surface: SampleSurface | None = None
    other_threshold: float | None = None
    other_porosity: float = 0.0
    scope: ThresholdScope = "volume"
    lost: float = 0.0
    covered: Mask | None = None
    solid_level: float = 0.0

    def remarks(self, name: str) -> Iterator[str]:
        """Yield warnings if the threshold or the mask may not fit the sample."""
        if self.lost > _MAX_LOST:
            yield (
                f"The sample mask of {name!r} leaves out the blurred surface of the "
                f"sample, which is {rough_percent(self.lost)} of its volume, because "
                "the blur would count as pores. Sample volume, densities and open "
                "pores refer to the rest."
            )
        if self.other_threshold is not None:
            yield (
                f"The pores in the sample mask of {name!r} are too small, too rare or "
                "too low in contrast for a reliable threshold. The threshold of the "
                f"whole volume ({self.threshold:.4g}) was used; the grey values inside "
                f"the mask alone give {self.other_threshold:.4g}, and a porosity of "
                f"about {rough_percent(self.other_porosity)}. Check the pores in the "
                "slices, and give the threshold as a number if necessary."
            )

    def levelled_threshold(self, levelled: GreyHistogram, threshold: float) -> float:
        """Return the threshold for grey values relative to their local mean.

        Parameters
        ----------
        levelled : GreyHistogram
            Histogram of these grey values, with the mean `level`.
        threshold : float
        """
        surface = self.surface
        if surface is None or not surface.depth:
            return threshold
        keeps = surface.keeps_threshold(levelled, threshold)
        return surface.threshold if keeps else threshold


def found_sample_steps(
    search: SampleSearch, whole: GreyHistogram, threshold: float
) -> Generator[Step, None, FoundSample]:
    """Find the sample mask that the settings request, and the threshold inside it.

    Parameters
    ----------
    search : SampleSearch
    whole : GreyHistogram
    threshold : float
        Threshold of the whole volume.

    Raises
    ------
    VolumeError
        If there is no solid, or no such sample.

    Notes
    -----
    If the pores and the surroundings are the same phase, or if the pores are too small
    for a grey value of their own, the threshold of the whole volume is kept: it
    separates two well-populated phases, and the mask was drawn at it. Otherwise, the
    threshold is that of the voxels below the surface, and the mask is drawn again; the
    blurred surface that it then lacks is added as solid. If the first threshold does
    not separate the phases inside at all, as with padding, the mask is kept except for
    its blurred surface.
    """
    found = yield from _drawn(search, whole, threshold)
    layers = _layers(found.mask)
    limits = whole.minimum, whole.maximum
    surface = SampleSurface.of(search, layers, threshold, limits)
    depth = surface.depth
    inner = _below(layers, depth)
    found = replace(found, inner=inner, surface=surface)
    if isinstance(search.config.threshold, float):
        return found
    yield StageStarted(message="Reading the grey values of the sample")
    inside = yield from _inside_steps(search, found.mask if inner is None else inner)
    if inside is None:
        return found
    found, dtype = replace(found, level=mean_of(inside)), search.source.dtype
    new = threshold_of(inside, search.config, np.dtype(dtype), name=search.name)
    if has_one_phase(inside, new):
        return found
    inside.n_nonfinite = whole.n_nonfinite
    scope: ThresholdScope = "sample" if inner is None else "inner"
    if not depth:
        return replace(found, histogram=inside, threshold=new, scope=scope)
    if surface.keeps_threshold(inside, new):
        is_dark = search.config.phase == "dark"
        porosity = float(_counts_of(inside, new, is_dark).sum() / inside.n)
        if (
            porosity >= _MIN_OTHER_POROSITY
            and surface.has_contrast(inside, new)
            and not _separates(inside, threshold, new, is_dark)
        ):
            found = replace(found, other_threshold=new, other_porosity=porosity)
        if has_one_phase(inside, threshold):
            return found
        return replace(found, histogram=inside)
    if not _separates(inside, threshold, new, search.is_dark_outside):
        found = replace(found, histogram=inside, threshold=new, scope=scope)
        return found if inner is None else _without_surface(found, layers, depth)
    redrawn = yield from _drawn(search, inside, new)
    inner = _below(_layers(redrawn.mask), depth)
    redrawn = replace(redrawn, inner=inner, surface=surface, scope=scope)
    if search.config.sample_mask == "marrow":
        lost = 1 - np.count_nonzero(redrawn.mask) / np.count_nonzero(found.mask)
        return replace(redrawn, lost=float(lost))
    return _with_surface(redrawn, found, layers, depth, search.is_dark_outside)


def _drawn(
    search: SampleSearch, histogram: GreyHistogram, threshold: float
) -> Generator[Step, None, FoundSample]:
    """Draw the mask at a threshold."""
    yield StageStarted(message="Finding the sample")
    config = search.config
    solid = np.zeros(tuple(search.source.shape), bool)
    for slab in search.slabs:
        solid[slab] = search.solid(slab, threshold)
    closing, which = config.mask_closing, config.sample_mask
    options: dict[str, Any] = {"name": search.name, "should_stop": search.should_stop}
    if which in ("cortex", "marrow"):
        mask = yield from compartment_steps(solid, closing, which, **options)
    else:
        options["thickness"] = search.planes[1]
        mask = yield from sample_mask_steps(solid, closing, **options)
    return FoundSample(mask, solid, histogram, threshold, level=mean_of(histogram))


def _without_surface(found: FoundSample, layers: Layers, depth: int) -> FoundSample:
    """Remove the blurred surface from a sample."""
    surface = (layers > 0) & (layers <= depth)
    mask = found.mask & ~surface
    lost = 1 - np.count_nonzero(mask) / np.count_nonzero(found.mask)
    solid = found.solid & ~surface
    return replace(found, mask=mask, solid=solid, inner=None, lost=float(lost))


def _with_surface(
    redrawn: FoundSample, first: FoundSample, layers: Layers, depth: int, is_dark: bool
) -> FoundSample:
    """Add the solid surface of the first mask to a redrawn one.

    Open pores outside the redrawn mask remain outside, except for their blurred rims.
    """
    mask, inside = redrawn.mask, redrawn.histogram
    for _ in range(depth + 1):
        mask = dilated(mask)
    mask = redrawn.mask | (mask & (layers > 0) & (layers <= depth + 1))
    covered = mask & ~redrawn.mask & first.solid
    counts = _counts_of(inside, redrawn.threshold, not is_dark)
    level = float(np.average(inside.centres, weights=counts))
    solid = redrawn.solid | covered
    return replace(redrawn, mask=mask, solid=solid, covered=covered, solid_level=level)


def _layers(mask: Mask) -> Layers:
    """Number the layers of a mask from 1 at its surface; deeper voxels share a number.

    The faces of the volume are not a surface: the sample continues beyond them.
    """
    layers, outside = mask.astype(np.uint8), ~mask
    for _ in range(_N_LAYERS):
        outside = dilated(outside)
        layers += ~outside
    return layers


def _below(layers: Layers, depth: int) -> Mask | None:
    """Return the voxels below a surface `depth` layers thick, if they are enough."""
    if not depth:
        return None
    inner: Mask = layers > depth + 1  # one more: oblique layers are not exact
    enough = _MIN_INSIDE * np.count_nonzero(layers)
    return inner if np.count_nonzero(inner) >= enough else None


def _inside_steps(
    search: SampleSearch, mask: Mask
) -> Generator[Step, None, GreyHistogram | None]:
    """Find the histogram inside a mask; None if it has too few grey values."""
    steps = histogram_steps(
        search.source,
        thickness=search.planes[0],
        piece=search.planes[1],
        name=search.name,
        should_stop=search.should_stop,
        mask=mask,
    )
    try:
        with StepIterator(steps) as iterator:
            for _ in iterator:
                yield _HEARTBEAT
    except VolumeError:
        return None
    return iterator.result


def _separates(inside: GreyHistogram, first: float, new: float, is_dark: bool) -> bool:
    """Whether most of the dark (or bright) phase at `new` belongs to it at `first`."""
    at_new = _counts_of(inside, new, is_dark).sum()
    at_both = min(at_new, _counts_of(inside, first, is_dark).sum())
    return bool(2 * at_both >= at_new)


def _counts_of(
    histogram: GreyHistogram, threshold: float, is_dark: bool
) -> npt.NDArray[np.int64]:
    """Return the counts of the dark (or bright) phase, and 0 for the other one."""
    low = histogram.centres <= threshold
    return histogram.counts * (low if is_dark else ~low)


@dataclass
class SampleSurface:
    """Grey values next to the surface of a sample.

    Attributes
    ----------
    threshold : float
        Threshold at which the surface was found.
    is_dark_outside : bool
    sums, counts : ndarray of shape (n,)
        Sums and numbers of the grey values of the sample's phase, in every layer.
    outside : GreyHistogram
        Grey values of the phase that surrounds the sample.
    """

    threshold: float
    is_dark_outside: bool
    sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_N_NUMBERS))
    counts: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(_N_NUMBERS, np.int64)
    )
    outside: GreyHistogram = field(default_factory=lambda: GreyHistogram(False))

    @classmethod
    def of(
        cls,
        search: SampleSearch,
        layers: Layers,
        threshold: float,
        limits: tuple[float, float],
    ) -> SampleSurface:
        """Read the grey values; those beyond the limits (outliers) are left out."""
        surface = cls(threshold, search.is_dark_outside)
        for slab in search.slabs:
            block, here = search.read(slab), layers[slab]
            known = (block >= limits[0]) & (block <= limits[1])
            outer = phase_mask(block, threshold, "dark") == search.is_dark_outside
            surface.outside.add(block[known & outer & (here == 0)])
            chosen = known & ~outer & (here > 0)
            numbers, values = here[chosen], block[chosen].astype(np.float64)
            surface.sums += np.bincount(numbers, values, _N_NUMBERS)
            surface.counts += np.bincount(numbers, minlength=_N_NUMBERS)
        return surface

    @property
    def depth(self) -> int:
        """Number of layers of the sample that blur mixes with the surroundings."""
        known = self.counts >= _FEWEST
        if not self.outside.n or not known.any():
            return 0
        means = self.sums / np.maximum(self.counts, 1)
        if self.is_dark_outside:
            means = -means
        outside = mean_of(self.outside) * (-1 if self.is_dark_outside else 1)
        contrast = outside - means[np.flatnonzero(known)[-1]]
        depth = 0
        for layer in range(1, _N_LAYERS + 1):
            excess = means[layer] - means[layer + 1]
            if not known[layer : layer + 2].all() or excess <= _MAX_STEP * contrast:
                break
            depth = layer
        return depth

    def keeps_threshold(self, inside: GreyHistogram, threshold: float) -> bool:
        """Whether the threshold of the whole volume is better than one found inside.

        This is the case if the surroundings also occur inside, or if the phase beyond
        the threshold has no grey value of its own, as with small, blurred pores.
        """
        counts = _counts_of(inside, threshold, self.is_dark_outside)
        inner, outer, body = self._levels(inside, counts)
        contrast = abs(body - outer)
        if abs(inner - outer) <= _SAME_PHASE * contrast:
            return True
        if abs(body - inner) < _MIN_CONTRAST * contrast:
            return True
        return not _has_peak(inside, counts, threshold, abs(body - inner))

    def has_contrast(self, inside: GreyHistogram, threshold: float) -> bool:
        """Whether the phases inside differ by more than the remainder of the blur."""
        counts = _counts_of(inside, threshold, self.is_dark_outside)
        inner, outer, body = self._levels(inside, counts)
        return abs(body - inner) >= _MIN_OTHER_CONTRAST * abs(body - outer)

    def _levels(
        self, inside: GreyHistogram, counts: npt.NDArray[np.int64]
    ) -> tuple[float, float, float]:
        """Return the grey values of a phase inside, the surroundings, and the rest."""
        inner = _quantile(inside.centres, counts, self.is_dark_outside)
        outer = _quantile(
            self.outside.centres, self.outside.counts, self.is_dark_outside
        )
        body = float(np.average(inside.centres, weights=inside.counts - counts))
        return inner, outer, body


def _has_peak(
    histogram: GreyHistogram,
    counts: npt.NDArray[np.int64],
    threshold: float,
    contrast: float,
) -> bool:
    """Whether a phase, with the given counts, has a peak of its own."""
    width = max(1, round(_WINDOW * contrast / histogram.width))
    total = np.concatenate([[0], np.cumsum(histogram.counts)])
    start = int(np.searchsorted(histogram.centres, threshold)) - width // 2
    low, high = np.clip([start, start + width], 0, len(total) - 1)
    at_threshold = total[high] - total[low]
    own = np.concatenate([[0], np.cumsum(counts)])
    width = min(width, len(counts))
    highest = int((own[width:] - own[:-width]).max())
    return bool(highest > _MIN_PEAK * at_threshold)


def mean_of(histogram: GreyHistogram) -> float:
    """Return the mean grey value."""
    return float(np.average(histogram.centres, weights=histogram.counts))


def _quantile(
    centres: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], is_dark: bool
) -> float:
    """Return the quantile `_PURE`, counted from the dark or from the bright end."""
    if not is_dark:
        centres, counts = centres[::-1], counts[::-1]
    total = np.cumsum(counts)
    return float(centres[np.searchsorted(total, _PURE * total[-1])])
