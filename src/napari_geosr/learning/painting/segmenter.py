"""Learn classes from strokes on a scan, and segment any of its slices immediately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import PartDone, ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyArray, AnyDType
from napari_geosr.core.volume import Volume
from napari_geosr.learning.painting.classifier import Forest, entropy, grow_forest
from napari_geosr.learning.painting.features import (
    SLICES,
    WEIGHTS,
    banded_features,
    filter_features,
)
from napari_geosr.learning.painting.strokes import SliceStrokes, Strokes
from napari_geosr.learning.statistics import grey_scale

if TYPE_CHECKING:
    from napari_geosr.learning.painting.prior import PriorFeatures

#: Maximum size, in bytes, of features that are kept for the next stroke.
_CACHE_BYTES = 256 * 1024**2
#: Maximum number of slices compared to suggest slices for painting, and approximate
#: edge, in voxels, to which they are subsampled.
_COMPARED = 64
_COMPARED_EDGE = 128
#: Maximum number of slices that are classified to suggest the most uncertain ones, and
#: maximum edge, in voxels, of the central part of a slice that is classified.
_DOUBTED = 16
_DOUBTED_EDGE = 128


@dataclass(frozen=True)
class SegmentedSlice:
    """A slice that was segmented.

    Attributes
    ----------
    labels : ndarray of shape (Y, X)
        The most likely class; the unpainted value where the scan is not finite.
    probabilities : ndarray of shape (K, Y, X)
        float32, in the order of the classes.
    """

    labels: AnyArray
    probabilities: AnyArray

    @property
    def entropy(self) -> AnyArray:
        """Uncertainty of each voxel: 0 is certain, 1 is a guess."""
        return entropy(self.probabilities)


@dataclass(frozen=True)
class Suggestion:
    """A slice on which painting would improve the segmentation most.

    Attributes
    ----------
    z : int
    reason : str
        How the slice differs, or its uncertainty, in a few words.
    """

    z: int
    reason: str


class Segmenter:
    """Segments the slices of a scan from strokes painted on some of them.

    Parameters
    ----------
    scan : Volume
        Axes ZYX or YX.
    seed : int
        The same strokes and seed give the same result.
    prior : PriorFeatures, optional
        Features of a diffusion model that are used as well.

    Raises
    ------
    VolumeError
        If all grey values are the same, or none is finite.
    ModelError
        If the grey scale differs from that of the model's training data.
    """

    def __init__(
        self, scan: Volume, *, seed: int = 0, prior: PriorFeatures | None = None
    ) -> None:
        self.scan, self.seed, self.prior = scan, seed, prior
        self.grey = grey_scale([scan])
        #: Warnings about the scan, as sentences.
        self.doubts = [] if prior is None else prior.check_scan(scan, self.grey)
        self.strokes: Strokes | None = None
        self.forest: Forest | None = None
        self._features: OrderedDict[int, list[tuple[slice, AnyArray]]] = OrderedDict()
        self._planes: OrderedDict[int, AnyArray] = OrderedDict()
        self._samples: dict[int, tuple[object, AnyArray, AnyArray]] = {}

    @property
    def n_slices(self) -> int:
        """Number of slices; 1 for an image."""
        return self.scan.shape[0] if self.scan.axes == "ZYX" else 1

    @property
    def dtype(self) -> AnyDType:
        """Smallest data type that holds all classes and the unpainted value."""
        assert self.strokes is not None
        largest = max(*self.strokes.classes, self.strokes.unpainted)
        return np.dtype(np.min_scalar_type(largest))

    def plane(self, z: int) -> AnyArray:
        """Return a slice with its original grey values."""
        data = self.scan.data
        return np.asarray(data[z] if self.scan.axes == "ZYX" else data[:])

    def features(self, z: int) -> Iterator[tuple[slice, AnyArray]]:
        """Yield rows and features (F, rows, X) of each band of a slice; cached."""
        if z in self._features:
            self._features.move_to_end(z)
            yield from self._features[z]
            return
        kept, nbytes = [], 0
        for rows, found in self._computed(z):
            nbytes += found.nbytes
            if nbytes <= _CACHE_BYTES:
                kept.append((rows, found))
            else:
                kept = []
            yield rows, found
        if nbytes > _CACHE_BYTES:
            return
        self._features[z] = kept
        while self._cached_bytes() > _CACHE_BYTES:
            self._features.popitem(last=False)

    def _cached_bytes(self) -> int:
        return sum(f.nbytes for parts in self._features.values() for _, f in parts)

    def _standardised(self, z: int) -> tuple[AnyArray, AnyArray]:
        """Return a slice, and its mean with the slices nearby."""
        nearby = range(z - SLICES, z + SLICES + 1)
        numbers = [min(max(other, 0), self.n_slices - 1) for other in nearby]
        for number in numbers:
            if number not in self._planes:
                self._planes[number] = self.grey.standardise(self.plane(number))
        mean = sum(
            np.float32(w / sum(WEIGHTS)) * self._planes[number]
            for number, w in zip(numbers, WEIGHTS, strict=True)
        )
        plane = self._planes[z]
        while len(self._planes) > len(WEIGHTS):
            self._planes.popitem(last=False)
        return plane, np.asarray(mean)

    def _computed(self, z: int) -> Iterator[tuple[slice, AnyArray]]:
        plane, around = self._standardised(z)
        if self.prior is None:
            yield from banded_features(plane, around)
            return
        filtered = filter_features(plane, around).astype(np.float16)
        known = self.prior(self.plane(z))
        yield slice(0, len(plane)), np.concatenate([filtered, known])

    def learn_steps(
        self, strokes: Strokes, should_stop: ShouldStop = never_stop
    ) -> Generator[Step, None, Forest]:
        """Learn from all strokes; features of unchanged slices are reused.

        Parameters
        ----------
        strokes : Strokes
        should_stop : callable
            Called before every painted slice.

        Raises
        ------
        VolumeError
            If a class is painted only where the scan is not finite.
        Cancelled
            If `should_stop` returns True.
        """
        for z in set(self._samples) - set(strokes.slices):
            del self._samples[z]
        for i, (z, of_slice) in enumerate(strokes.slices.items()):
            if should_stop():
                raise Cancelled("Cancelled.")
            if z not in self._samples or self._samples[z][0] != of_slice.key:
                self._samples[z] = (of_slice.key, *self._sampled(z, of_slice))
            yield PartDone(i + 1, len(strokes.slices))
        parts = [self._samples[z][1:] for z in strokes.slices]
        values = np.concatenate([found for found, _ in parts])
        classes = np.concatenate([found for _, found in parts])
        samples = [values[classes == number] for number in strokes.classes]
        for number, found in zip(strokes.classes, samples, strict=True):
            if not len(found):
                raise VolumeError(
                    f"Class {number} is painted only where {self.scan.title} has no "
                    "finite grey values. Paint it elsewhere."
                )
        self.forest = grow_forest(samples, strokes.classes, self.seed)
        self.strokes = strokes
        return self.forest

    def _sampled(self, z: int, strokes: SliceStrokes) -> tuple[AnyArray, AnyArray]:
        """Return the features (n, F) and classes of the painted voxels of a slice."""
        is_finite = np.isfinite(self.plane(z)).ravel()[strokes.at]
        at, classes = strokes.at[is_finite], strokes.classes[is_finite]
        width = self.scan.shape[-1]
        found = []
        for rows, features in self.features(z):
            low, high = np.searchsorted(at, (rows.start * width, rows.stop * width))
            flat = features.reshape(len(features), -1)
            found.append(flat[:, at[low:high] - rows.start * width].T)
        return np.concatenate(found).astype(np.float32), classes

    @property
    def forest_classes(self) -> tuple[int, ...]:
        """The learned classes; call `learn_steps` first."""
        assert self.forest is not None
        return self.forest.classes

    def samples(self) -> dict[int, tuple[AnyArray, AnyArray]]:
        """Return the features (n, F) and classes of the painted voxels by slice."""
        return {z: found[1:] for z, found in sorted(self._samples.items())}

    def segment(self, z: int) -> SegmentedSlice:
        """Segment a slice; call `learn_steps` first."""
        assert self.forest is not None
        assert self.strokes is not None
        forest, shape = self.forest, self.scan.shape[-2:]
        probabilities = np.empty((len(forest.classes), *shape), np.float32)
        for rows, features in self.features(z):
            probabilities[:, rows] = forest.probabilities(features)
        numbers = np.array(forest.classes, self.dtype)
        labels = numbers[probabilities.argmax(axis=0)]
        if self.scan.dtype.kind == "f":
            labels[~np.isfinite(self.plane(z))] = self.strokes.unpainted
        return SegmentedSlice(labels, probabilities)

    # Suggestions of slices to paint

    def suggest_steps(
        self, number: int = 5, should_stop: ShouldStop = never_stop
    ) -> Generator[Step, None, list[Suggestion]]:
        """Suggest slices to paint next: unlike the painted ones, or uncertain.

        Before the first strokes are learned, the next slice is the one that differs
        most from all painted or suggested slices; afterwards, it is the one with the
        largest entropy.

        Parameters
        ----------
        number : int
            Maximum number of slices.
        should_stop : callable
            Called before every slice.
        """
        painted = [] if self.strokes is None else list(self.strokes.slices)
        most = _COMPARED if self.forest is None else _DOUBTED
        # Use the centres of equal parts, because the ends of a scan are often of poor
        # quality.
        edges = np.linspace(0, self.n_slices, min(most, self.n_slices) + 1)
        candidates = np.unique(((edges[1:] + edges[:-1]) / 2).astype(int)).tolist()
        values = {}
        seen = sorted({*candidates, *painted}) if self.forest is None else candidates
        for i, z in enumerate(seen):
            if should_stop():
                raise Cancelled("Cancelled.")
            values[z] = self._described(z) if self.forest is None else self._doubt(z)
            yield PartDone(i + 1, len(seen))
        if self.forest is None:
            apart = max(1, self.n_slices // _COMPARED * 2)
            order = _farthest(values, painted, candidates, number, apart)
            return [Suggestion(z, "unlike the others") for z in order]
        near = max(1, self.n_slices // (2 * _DOUBTED))
        free = [z for z in candidates if all(abs(z - p) >= near for p in painted)]
        order = sorted(free, key=lambda z: -float(values[z]))[:number]
        return [
            Suggestion(z, f"uncertainty {100 * float(values[z]):.0f} %") for z in order
        ]

    def _described(self, z: int) -> AnyArray:
        """Return mean and standard deviation of each feature over every n-th voxel."""
        plane, around = self._standardised(z)
        step = max(1, max(plane.shape) // _COMPARED_EDGE)
        found = filter_features(plane[::step, ::step], around[::step, ::step])
        flat = found.reshape(len(found), -1)
        return np.concatenate([flat.mean(axis=1), flat.std(axis=1)])

    def _doubt(self, z: int) -> AnyArray:
        """Return the mean entropy of the central part of a slice.

        With a prior, every fourth voxel along Y and X of the whole slice is used.
        """
        assert self.forest is not None
        if self.prior is not None:
            (_, found), *_ = self.features(z)
            found = found[:, ::4, ::4]
        else:
            plane, around = self._standardised(z)
            key = tuple(
                slice(max(0, (n - _DOUBTED_EDGE) // 2), (n + _DOUBTED_EDGE) // 2)
                for n in plane.shape
            )
            found = filter_features(plane[key], around[key])
        return np.asarray(entropy(self.forest.probabilities(found)).mean())


def _farthest(
    values: dict[int, AnyArray],
    painted: list[int],
    candidates: list[int],
    number: int,
    apart: int,
) -> list[int]:
    """Choose candidates that each differ as much as possible from all previous ones.

    The candidates are at least `apart` slices away from each other and from painted
    slices.
    """
    table = np.stack(list(values.values()))
    spread = table.std(axis=0)
    points = {
        z: (v - table.mean(axis=0)) / np.where(spread > 0, spread, 1)
        for z, v in values.items()
    }
    chosen: list[int] = []
    while len(chosen) < number:
        before = [*painted, *chosen]
        free = [z for z in candidates if all(abs(z - b) >= apart for b in before)]
        if not free:
            break

        def distance(z: int, before: list[int] = before) -> float:
            # Without painted slices, begin with the most typical slice.
            if not before:
                return -float(np.linalg.norm(points[z]))
            return min(float(np.linalg.norm(points[z] - points[b])) for b in before)

        chosen.append(max(free, key=distance))
    return chosen
