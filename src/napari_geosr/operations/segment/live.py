"""Segment slices while the user paints, and suggest the slices to paint next."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.orientation import same_orientation
from napari_geosr.core.steps import ShouldStop, Step, recount
from napari_geosr.core.volume import Volume
from napari_geosr.learning.painting import SegmentedSlice, Segmenter, grow_forest
from napari_geosr.learning.painting.segmenter import Suggestion
from napari_geosr.learning.painting.strokes import TooFewClassesError, read_strokes
from napari_geosr.operations.segment.config import SegmentConfig
from napari_geosr.operations.segment.run import (
    classify_steps,
    learn_steps,
    record_steps,
)

__all__ = [
    "StrokeAnswer",
    "Suggestion",
    "TooFewClassesError",
    "answer_steps",
    "painted_classes",
    "segmented_layer_steps",
    "suggest_steps",
    "warm_up",
]


def warm_up() -> None:
    """Compile the random forest in advance, so that the first stroke is fast."""
    samples = [np.zeros((4, 2), np.float32), np.ones((4, 2), np.float32)]
    forest = grow_forest(samples, (1, 2), 0)
    forest.probabilities(samples[0].T)


@dataclass(frozen=True)
class StrokeAnswer:
    """Segmentation of the slice on screen after a stroke.

    Attributes
    ----------
    z : int
    found : SegmentedSlice
    classes : tuple of int
        Classes in the same order as the probabilities.
    """

    z: int
    found: SegmentedSlice
    classes: tuple[int, ...]


def answer_steps(
    segmenter: Segmenter,
    labels: Volume,
    z: int,
    config: SegmentConfig,
    should_stop: ShouldStop,
) -> Generator[Step, None, StrokeAnswer]:
    """Learn from all strokes and segment one slice.

    Parameters
    ----------
    segmenter : Segmenter
        Keeps the features of slices for the next stroke.
    labels : Volume
        The painted strokes.
    z : int
        The slice on screen.
    config : SegmentConfig
    should_stop : callable

    Raises
    ------
    VolumeError
        If fewer than two classes are painted.
    """
    yield from learn_steps(segmenter, labels, config, should_stop)
    assert segmenter.strokes is not None
    return StrokeAnswer(z, segmenter.segment(z), segmenter.strokes.classes)


def painted_classes(labels: Volume, should_stop: ShouldStop) -> tuple[int, ...]:
    """Return the classes painted in a Labels layer, in which 0 means unpainted.

    Raises
    ------
    VolumeError
        If fewer than two classes are painted.
    Cancelled
        If `should_stop` returns True.
    """
    return read_strokes(labels, labels, 0, should_stop=should_stop).classes


def suggest_steps(
    segmenter: Segmenter, should_stop: ShouldStop
) -> Generator[Step, None, list[Suggestion]]:
    """Find the slices that would improve the result most if they were painted."""
    return (yield from recount(segmenter.suggest_steps(should_stop=should_stop)))


def name_of_result(scan: Volume) -> str:
    """Return the name of a segmented scan."""
    return f"{scan.name} segmented"


def segmented_layer_steps(
    segmenter: Segmenter,
    labels: Volume,
    config: SegmentConfig,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[Volume, Mapping[int, float]]]:
    """Segment the whole scan in memory.

    Returns
    -------
    labels : Volume
        Integers with the geometry of the scan.
    fractions : mapping of int to float
        Fraction of the segmented voxels in each class.
    """
    yield from learn_steps(segmenter, labels, config, should_stop)
    record = yield from record_steps(segmenter, labels, config, should_stop)
    scan = segmenter.scan
    whole = np.zeros(scan.shape, segmenter.dtype)

    def keep(z: int, found: SegmentedSlice) -> None:
        whole[z if scan.axes == "ZYX" else ...] = found.labels

    fractions = yield from classify_steps(segmenter, keep, should_stop)
    result = scan.replace(
        data=whole,
        name=name_of_result(scan),
        provenance=(*scan.provenance, record),
        source=None,
        metadata={"kind": "labels", **same_orientation(scan.metadata)},
    )
    return result, fractions
