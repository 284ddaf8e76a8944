"""Test a forest on painted slices that were not used to train it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import PartDone, ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.learning.painting.classifier import grow_forest
from napari_geosr.learning.painting.segmenter import Segmenter

#: Maximum number of slices that are held out, one after the other.
_MAX_HELD_OUT = 10


@dataclass(frozen=True)
class HeldOutOverlap:
    """Overlap of the predicted and painted classes in held-out slices.

    Attributes
    ----------
    slices : tuple of int
        Indices of the slices that were held out, one at a time.
    iou : float
        Intersection over union of the painted voxels of all these slices, averaged over
        the classes, from 0 to 1; NaN if no slice could be held out.
    """

    slices: tuple[int, ...]
    iou: float


def held_out_steps(
    segmenter: Segmenter, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, HeldOutOverlap]:
    """Hold out up to 10 painted slices, one at a time, and learn from all others.

    A slice is held out only if every class is also painted on another slice.

    Parameters
    ----------
    segmenter : Segmenter
        A segmenter that has learned from all strokes.
    should_stop : callable
        Called before every slice.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    samples, classes = segmenter.samples(), segmenter.forest_classes
    free = [z for z in samples if _all_elsewhere(samples, z, classes)]
    chosen = np.linspace(0, len(free) - 1, min(len(free), _MAX_HELD_OUT))
    slices = [free[i] for i in chosen.round().astype(int)]
    counts = np.zeros((len(classes), len(classes)), np.int64)
    numbers = np.array(classes)
    for i, z in enumerate(slices):
        if should_stop():
            raise Cancelled("Cancelled.")
        others = [samples[other] for other in samples if other != z]
        values = np.concatenate([found for found, _ in others])
        given = np.concatenate([found for _, found in others])
        forest = grow_forest(
            [values[given == number] for number in classes], classes, segmenter.seed
        )
        features, truth = samples[z]
        predicted = forest.probabilities(features.T).argmax(axis=0)
        np.add.at(counts, (np.searchsorted(numbers, truth), predicted), 1)
        yield PartDone(i + 1, len(slices))
    return HeldOutOverlap(tuple(slices), _mean_iou(counts))


def _all_elsewhere(
    samples: dict[int, tuple[AnyArray, AnyArray]], z: int, classes: tuple[int, ...]
) -> bool:
    others = [given for other, (_, given) in samples.items() if other != z]
    return bool(others) and set(classes) <= set(np.unique(np.concatenate(others)))


def _mean_iou(counts: AnyArray) -> float:
    """Return the mean intersection over union of the classes that occur."""
    either = counts.sum(0) + counts.sum(1) - counts.diagonal()
    occurs = counts.sum(1) > 0
    if not occurs.any():
        return float("nan")
    return float((counts.diagonal()[occurs] / either[occurs]).mean())
