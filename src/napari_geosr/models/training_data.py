"""Compute statistics of the training data, with which later volumes are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.models.card import TrainingData, TrainingStatistic
from napari_geosr.models.distribution import (
    Signature,
    distance,
    draw_sample,
    signature,
)

#: Approximate total number of parts into which the volumes are divided by repeated
#: halving; each part is an example.
_ENOUGH_PARTS = 24
#: Minimum edge length of a part in voxels.
_MIN_EDGE = 24
#: Lower limit of the stored distances between examples, because parts of one scan are
#: nearly equal, whereas two scans of the same kind differ slightly more.
_MIN_DISTANCE = 0.05


def describe(volumes: Sequence[Volume], description: str, seed: int) -> TrainingData:
    """Return the percentiles and spectra of the training volumes and of their parts.

    The parts show how much volumes of this kind differ. Whole volumes are examples as
    well: volumes are checked as a whole later, and can differ from their parts, which
    may contain more air or be too small for patches of the usual size.

    Parameters
    ----------
    volumes : sequence of Volume
        Inputs of the network; axes ZYX or YX.
    description : str
        What the volumes show.
    seed : int
        Seed of the training or of the simulated data; only stored.
    """
    parts: list[Signature] = []
    wholes: list[Signature] = []
    for volume in volumes:
        cut = _parts(volume, max(2, _ENOUGH_PARTS // len(volumes)))
        parts += _signatures(cut)
        wholes += _signatures([volume]) if len(cut) > 1 else []
    quantiles = _rounded_rows([s.quantiles for s in parts])
    spectra = _rounded_rows([s.spectrum for s in parts])
    sizes = [edge for v in volumes if v.has_physical_size for edge in v.voxel_size]
    units = {v.unit for v in volumes if v.has_physical_size}
    known = TrainingData(
        description=description,
        voxel_size=(min(sizes), max(sizes)) if len(units) == 1 else None,
        unit=units.pop() if len(units) == 1 else None,
        seeds=(seed,),
    )
    if not parts:  # all parts are constant
        return known
    return TrainingData(
        **known.model_dump(exclude_defaults=True),
        intensity_quantiles=_reference(quantiles),
        intensity_distance=_nearest_distances(quantiles),
        examples=quantiles + _rounded_rows([s.quantiles for s in wholes]),
        spectrum=_reference(spectra),
        spectrum_distance=_nearest_distances(spectra),
        spectrum_examples=spectra + _rounded_rows([s.spectrum for s in wholes]),
    )


def _signatures(volumes: Sequence[Volume]) -> list[Signature]:
    """Return the signatures of the volumes that are not constant."""
    signatures = (signature(draw_sample(volume)) for volume in volumes)
    return [each for each in signatures if each is not None]


def _parts(volume: Volume, n: int) -> list[Volume]:
    """Halve the volume along its longest axes until it has at least `n` parts."""
    boxes = [tuple(slice(0, size) for size in volume.shape)]
    while len(boxes) < n:
        longest = max(range(len(volume.shape)), key=lambda a: _size(boxes[0][a]))
        if _size(boxes[0][longest]) < 2 * _MIN_EDGE:
            break
        boxes = [half for box in boxes for half in _halves(box, longest)]
    return [volume.replace(data=ArrayView(volume.data, box)) for box in boxes]


def _size(part: slice) -> int:
    return int(part.stop - part.start)


def _halves(box: tuple[slice, ...], axis: int) -> list[tuple[slice, ...]]:
    middle = (box[axis].start + box[axis].stop) // 2
    first, second = slice(box[axis].start, middle), slice(middle, box[axis].stop)
    return [(*box[:axis], part, *box[axis + 1 :]) for part in (first, second)]


class ArrayView:
    """A lazy view of a box of an array: data are read when it is indexed."""

    def __init__(self, data: ArrayLike, box: tuple[slice, ...]) -> None:
        self._data, self._box = data, box
        self.shape = tuple(_size(part) for part in box)
        self.dtype, self.ndim = data.dtype, len(box)

    def __getitem__(self, key: Any) -> AnyArray:
        key = key if isinstance(key, tuple) else (key,)
        key = key + (slice(None),) * (self.ndim - len(key))
        indices = []
        for part, box, n in zip(key, self._box, self.shape, strict=True):
            if isinstance(part, slice):
                start, stop, _ = part.indices(n)
                indices.append(slice(box.start + start, box.start + stop))
            else:
                indices.append(box.start + int(part))
        return np.asarray(self._data[tuple(indices)])


def _rounded_rows(rows: Sequence[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(v), 3) for v in row) for row in rows)


def _reference(rows: tuple[tuple[float, ...], ...]) -> TrainingStatistic:
    values = np.array(rows)
    mean, sd = _rounded_rows([values.mean(axis=0), values.std(axis=0)])
    return TrainingStatistic(mean=mean, sd=sd)


def _nearest_distances(rows: tuple[tuple[float, ...], ...]) -> tuple[float, float]:
    """Return median and 99th percentile of the rows' nearest-neighbour distances."""
    each = [
        distance(np.array(row), [*rows[:i], *rows[i + 1 :]])
        for i, row in enumerate(rows)
        if len(rows) > 1
    ] or [0.0]
    return (
        round(max(_MIN_DISTANCE / 2, float(np.median(each))), 4),
        round(max(_MIN_DISTANCE, float(np.percentile(each, 99))), 4),
    )
