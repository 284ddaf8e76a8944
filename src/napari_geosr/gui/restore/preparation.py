"""A prepared restoration with its estimate and preview size, made in the worker."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.cluster.proposal import RunEstimate
from napari_geosr.gui.kit.progress import format_duration
from napari_geosr.gui.kit.warm_up import load_torch
from napari_geosr.gui.layers import part_of_file
from napari_geosr.gui.restore.preview import PREVIEW_EDGES, Region
from napari_geosr.jobs.handover import LayerVolume, StoppedRestoration
from napari_geosr.operations import restore as operation
from napari_geosr.operations.restore import (
    Point,
    PreparedRestoration,
    PreparedSeries,
    RestorationResult,
    RestoreConfig,
)
from napari_geosr.operations.restore.resume import FinishedPart

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

    from napari_geosr.operations.restore.preview import Estimate

#: Result of preparing a run; see `prepare_run_steps`.
PreparationResult = tuple[
    PreparedRestoration, "Estimate", PreparedSeries | None, FinishedPart | None
]
#: Maximum estimated duration of a preview in seconds; if a preview would take longer,
#: its region is reduced.
_PREVIEW_SECONDS = 3.0


@dataclass(frozen=True)
class RunPreparation:
    """A prepared restoration with its estimate, layer and settings.

    Attributes
    ----------
    prepared : PreparedRestoration
        The prepared restoration; for a series, with all its axes.
    series : PreparedSeries or None
        The series, if all of its points are restored; otherwise None.
    finished_part : FinishedPart or None
        The part of the result that was finished before the program was killed.
    """

    key: tuple[Any, ...]
    prepared: PreparedRestoration
    estimate: Any
    series: PreparedSeries | None = None
    finished_part: FinishedPart | None = None

    def untold(self, doubts: Iterable[str]) -> list[str]:
        """Return the doubts that the verdict does not state."""
        told = self.prepared.likeness.reasons
        return [one for one in doubts if not any(reason in one for reason in told)]

    def at(self, position: Mapping[str, int]) -> PreparedRestoration:
        """Return the prepared restoration of the volume on screen, at `position`."""
        if self.series is None:
            return self.prepared
        return self.series.at(point_at(position))

    def judged_at(self, position: Mapping[str, int]) -> PreparedRestoration:
        """Return the preparation for predicting the effect on the volume on screen."""
        if self.series is None:
            return self.prepared
        return self.series.judged_at(point_at(position))

    def has_other_noise(self, position: Mapping[str, int]) -> bool:
        """Return whether the noise at `position` may differ from that of the run.

        If so, gains from a ranking of the volume on screen do not apply to the run.
        """
        return self.series is not None and self.series.has_other_noise(
            point_at(position)
        )

    def other_points(
        self, position: Mapping[str, int]
    ) -> Iterator[tuple[str, PreparedRestoration]]:
        """Yield the name and preparation of other points where the effect may differ.

        The points are a typical time point of every channel except the one at
        `position`, and the time points with very different noise, which are found by
        reading voxels.
        """
        series, shown = self.series, point_at(position)
        for channel in () if series is None else series.channels:
            assert series is not None
            typical = series.plan.typical(channel)
            extremes = series.extremes(channel)
            if channel != shown.channel:
                yield f"Channel {channel}", series.at(typical)
            elif extremes and shown != typical:
                yield _capitalised(typical.words), series.at(typical)
            for point, prepared in extremes.items():
                if point != shown:
                    yield _capitalised(point.words), prepared

    @property
    def result_bytes(self) -> int:
        """Size of the result, including deviations, in bytes."""
        volume = self.prepared.volume
        itemsize = self.prepared.output_dtype.itemsize
        n_voxels = math.prod(volume.shape)
        if self.prepared.has_deviation:
            itemsize += 4  # deviations are float32
        return int(n_voxels * math.prod(self.prepared.factors) * itemsize)


def _capitalised(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}"


def estimate_text(ready: RunPreparation) -> str:
    """Return the time and memory of a run, in words."""
    estimate, device = ready.estimate, ready.prepared.device.upper()
    of_series = "" if ready.series is None else f" of {ready.series.plan.words}"
    return (
        f"Estimate: {format_duration(estimate.seconds)} and "
        f"{format_bytes(estimate.peak_bytes)} of memory on {device}, "
        f"{format_bytes(ready.result_bytes)} for the result{of_series}"
    )


def run_estimate(ready: RunPreparation) -> RunEstimate:
    """Return the time (including the prediction of the effect) and memory of a run."""
    estimate, prepared, n_volumes = ready.estimate, ready.prepared, 1
    if ready.series is not None:
        prepared, n_volumes = ready.series.first, len(ready.series.channels)
    memory = estimate.peak_bytes if prepared.device == "cpu" else None
    n_voxels = math.prod(ready.prepared.volume.shape)
    check = operation.verdict_seconds(prepared, estimate.seconds, n_voxels) * n_volumes
    includes = f"{format_duration(check)} to predict the effect" if check else ""
    return RunEstimate(estimate.seconds + check, memory, includes)


def preview_edge(ready: RunPreparation) -> int:
    """Choose the preview size so that the preview takes only seconds.

    A 3D network also computes the planes within its halo, which contain far more voxels
    than are shown.
    """
    prepared, estimate = ready.prepared, ready.estimate
    card, n_voxels = prepared.model.card, math.prod(prepared.volume.shape)
    shape = prepared.volume.spatial_shape
    seconds = estimate.seconds / (n_voxels * estimate.cost_factor)
    depth = 1
    if card.axes == "ZYX":
        depth = min(shape[0], 1 + 2 * card.halo)
    for edge in PREVIEW_EDGES:
        rows, columns = (min(n, edge + 2 * card.halo) for n in shape[-2:])
        if seconds * depth * rows * columns <= _PREVIEW_SECONDS:
            return edge
    return PREVIEW_EDGES[-1]


def with_new_strength(
    ready: RunPreparation, key: tuple[Any, ...]
) -> RunPreparation | None:
    """Return the run with another strength, if nothing else changed; otherwise None.

    Parameters
    ----------
    key : tuple
        Required key, as in `RunPreparation.key`; its last item contains the settings.
    """
    *before, config = ready.key
    *after, new_config = key
    prepared = ready.prepared
    if before != after or prepared.model.card.noise_bound is None:
        return None
    strength = new_config.strength
    if config.model_copy(update={"strength": strength}) != new_config:
        return None
    if ready.series is not None:
        series = ready.series.with_strength(strength)
        return replace(ready, key=key, prepared=series.whole, series=series)
    changed = operation.with_strength(prepared, strength)
    return replace(ready, key=key, prepared=changed, finished_part=None)


def with_layer_name(prepared: PreparedRestoration, layer: Image) -> PreparedRestoration:
    """Return the run with the layer's current name; the statistics do not change."""
    if prepared.volume.name == layer.name:
        return prepared
    return replace(prepared, volume=prepared.volume.replace(name=layer.name))


def steps_factory(
    ready: RunPreparation, layer: Image, first: Region, position: Mapping[str, int]
) -> Callable[..., Generator[Step, None, RestorationResult]]:
    """Return a function that restores the whole layer, the region on screen first.

    Parameters
    ----------
    first : tuple of slice
        The region on screen, for the point at `position`.
    """
    if ready.series is None:
        shown = with_layer_name(ready.prepared, layer)
        return partial(operation.run_steps, shown, first=first)
    return partial(
        operation.run_series_steps,
        ready.series.named(layer.name),
        first=first,
        first_point=point_at(position),
    )


def stopped_run(
    ready: RunPreparation,
    layer: Image,
    viewer: napari.viewer.Viewer,
    earlier: Volume | None = None,
    earlier_deviation: Volume | None = None,
) -> Callable[[RestorationResult | None], StoppedRestoration]:
    """Return a function that describes a stopped run, so that a job can resume it.

    Call this when the run begins, because the layer may change later.

    Parameters
    ----------
    ready : RunPreparation
    layer : Image
        The layer being restored.
    viewer : napari.viewer.Viewer
    earlier, earlier_deviation : Volume, optional
        Partial results of an earlier run.
    """
    whole = ready.series is not None
    stored, position = part_of_file(layer, viewer, whole=whole)
    volume = ready.prepared.volume.replace(name=layer.name, source=stored.source)
    source = LayerVolume(volume, position, whole)
    settings = ready.prepared.config
    by_voxels = ready.prepared.volume.source is None

    def stopped(result: RestorationResult | None) -> StoppedRestoration:
        # If a run was stopped before its first tile, keep the earlier partial result.
        part = earlier if result is None else result.volume
        deviation = earlier_deviation if result is None else result.deviation
        return StoppedRestoration(source, settings, by_voxels, part, deviation)

    return stopped


def point_at(position: Mapping[str, int]) -> Point:
    """Return the point of a series at a layer's `position`."""
    return Point(position.get("time"), position.get("channel"))


def prepare_run_steps(
    volume: Volume, config: RestoreConfig, should_stop: ShouldStop
) -> Generator[Step, None, PreparationResult]:
    """Load torch, then prepare and estimate a run; called in the worker.

    Returns
    -------
    prepared : PreparedRestoration
    estimate : Estimate
    series : PreparedSeries or None
        The whole series; None for a single volume.
    finished_part : FinishedPart or None
        The part of the result that was finished before the program was killed.
    """
    yield StageStarted(message="Starting")
    load_torch()
    if operation.is_series(volume):
        series = yield from operation.prepare_series_steps(
            volume, config, should_stop=should_stop
        )
        if should_stop():
            raise Cancelled("Cancelled.")
        estimate = yield from operation.estimate_series_steps(series)
        return series.whole, estimate, series, None
    prepared = yield from operation.prepare_steps(
        volume, config, should_stop=should_stop
    )
    if should_stop():
        raise Cancelled("Cancelled.")
    estimate = yield from operation.estimate_steps(prepared)
    return prepared, estimate, None, operation.find_finished_part(prepared)
