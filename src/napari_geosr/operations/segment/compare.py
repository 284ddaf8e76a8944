"""Compare segmentation by strokes with and without a pre-trained model."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, recount
from napari_geosr.core.volume import Volume
from napari_geosr.learning.painting import HeldOutOverlap, Segmenter, held_out_steps
from napari_geosr.operations.segment.config import SegmentConfig
from napari_geosr.operations.segment.run import learn_steps, open_segmenter


@dataclass(frozen=True)
class PretrainingComparison:
    """Overlap with painted slices that were held out from the random forest.

    Attributes
    ----------
    model : str
        Name of the pre-trained model.
    slices : tuple of int
        Indices of the slices that were held out, one after the other.
    with_model, without_model : float
        Mean intersection over union with and without the features of the model, 0 to 1.
    """

    model: str
    slices: tuple[int, ...]
    with_model: float
    without_model: float

    def sentence(self) -> str:
        """Return the result in words."""
        n = len(self.slices)
        where = f"slice {self.slices[0]}" if n == 1 else f"{n} slices"
        found = (
            f"On {where} held out from training, the mean IoU is "
            f"{100 * self.with_model:.1f} % with {self.model} and "
            f"{100 * self.without_model:.1f} % without it."
        )
        return found if n > 2 else f"{found} Paint more slices for a reliable result."


def compare_steps(
    segmenter: Segmenter, labels: Volume, config: SegmentConfig, should_stop: ShouldStop
) -> Generator[Step, None, PretrainingComparison]:
    """Hold out each painted slice in turn, and segment it with and without the model.

    Parameters
    ----------
    segmenter : Segmenter
        Made with the same `config`.
    labels : Volume
        The painted strokes.
    config : SegmentConfig
        Contains the model.
    should_stop : callable

    Raises
    ------
    ConfigError
        If no model is chosen.
    VolumeError
        If no slice can be held out, because some class is painted on one slice only.
    Cancelled
        If `should_stop` returns True.
    """
    if config.model is None:
        raise ConfigError("Choose a model (under Advanced) to compare.")
    plain = config.model_copy(update={"model": None})
    overlaps: list[HeldOutOverlap] = []
    for each, settings in (
        (open_segmenter(segmenter.scan, plain), plain),
        (segmenter, config),
    ):
        yield from learn_steps(each, labels, settings, should_stop)
        yield StageStarted(message="Testing on held-out slices")
        overlaps.append((yield from recount(held_out_steps(each, should_stop))))
        if not overlaps[0].slices:
            raise VolumeError(
                "No painted slice can be held out: paint every class on at least two "
                "slices."
            )
    without, with_model = overlaps
    return PretrainingComparison(
        config.model, without.slices, with_model.iou, without.iou
    )
