"""Restores a series: all points in one run, into one result."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.array_parts.boxes import Box
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    TileDone,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.runner import estimate
from napari_geosr.io.output import COPY_BYTES
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.measurements import MeasurementStore
from napari_geosr.operations.restore.preparation import PreparedRestoration
from napari_geosr.operations.restore.resume import FinishedPart
from napari_geosr.operations.restore.run import (
    RestorationResult,
    TileProgress,
    VolumeRun,
    chosen_backend,
    fill_tiles,
    work_steps,
)
from napari_geosr.operations.restore.series.plan import Point, targets_at
from napari_geosr.operations.restore.series.preparation import (
    PreparedSeries,
    are_series_verdicts_kept,
    prepare_series_steps,
    reported_series_verdict_steps,
)
from napari_geosr.operations.restore.targets import Targets, check_budget
from napari_geosr.operations.restore.verdict.late import LateVerdict

if TYPE_CHECKING:
    from napari_geosr.inference.backends import Choice
    from napari_geosr.inference.run import RunSummary
    from napari_geosr.inference.runner import Estimate
    from napari_geosr.operations.restore.ranking import Ranking

#: Key, in a record, of the channels that were copied instead of restored.
_COPIED = "copied_channels"


def restore_series_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    look: bool = False,
    strict: bool = False,
    spare: bool = False,
    may_look_late: bool = False,
    rankings: Mapping[int | None, Ranking] | None = None,
    kept: MeasurementStore | None = None,
    should_stop: ShouldStop = never_stop,
    **more: Any,
) -> Generator[Step, None, RestorationResult]:
    """Restore a series; see `prepare_series_steps` and `run_series_steps`.

    Parameters
    ----------
    look, strict : bool
        As in `restore_steps`, for each channel.
    spare : bool
        Whether to copy channels that the model would make worse, unless it would make
        all of them worse.
    may_look_late : bool
        As in `restore_steps`; if channels may be copied, they are examined first.
    rankings : mapping of Ranking, optional
        Rankings by channel, if the model was selected automatically.
    kept : MeasurementStore, optional
        Receives the measurements, and provides those of an earlier run.
    """
    series = yield from prepare_series_steps(
        volume, config, rankings=rankings, kept=kept, should_stop=should_stop
    )
    series = series.copying(_copied_before(more.get("unfinished")))
    late = None
    if look or strict:
        check_budget(series.first, more.get("out"))
        predict = partial(
            reported_series_verdict_steps,
            series,
            strict=strict,
            spare=spare,
            kept=kept,
            should_stop=should_stop,
        )
        # With `strict` or `spare`, the run may depend on the prediction.
        decides = strict or (spare and len(series.channels) > 1)
        if may_look_late and not decides and not are_series_verdicts_kept(series, kept):
            late = LateVerdict(predict)
        else:
            series = yield from predict()
    steps = run_series_steps(series, late=late, should_stop=should_stop, **more)
    return (yield from steps)


def _copied_before(unfinished: Volume | None) -> list[int | None]:
    """Return the channels that an earlier run copied, from the record of its result."""
    if unfinished is None or not unfinished.provenance:
        return []
    return list(unfinished.provenance[-1].get("series", {}).get(_COPIED, []))


def run_series_steps(
    series: PreparedSeries,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    first: tuple[slice, ...] | None = None,
    first_point: Point | None = None,
    unfinished: Volume | None = None,
    unfinished_deviation: Volume | None = None,
    late: LateVerdict | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RestorationResult]:
    """Restore every point of a series, one after the other, into one result.

    Each point is restored separately: networks never combine time points or channels.
    Parameters, steps and errors are those of `run_steps`; slices and finished boxes
    have all axes of the series, and tiles are counted over all points.

    Parameters
    ----------
    first_point : Point, optional
        The point on screen, which is restored first, beginning with the region `first`.
    late : LateVerdict, optional
        Predicts the effect after the first tile, or after the last of a resumed run.
    """
    steps = work_steps(
        SeriesRun(series, first_point),
        out=out,
        overwrite=overwrite,
        first=first,
        unfinished=unfinished,
        unfinished_deviation=unfinished_deviation,
        late=late,
        should_stop=should_stop,
    )
    return (yield from steps)


def estimate_series_steps(series: PreparedSeries) -> Generator[Step, None, Estimate]:
    """Estimate the time and memory of a run."""
    yield StageStarted(message="Estimating time and memory")
    prepared = series.first
    one: Estimate = estimate(
        prepared.network,
        prepared.volume.shape,
        device=prepared.device,
        budget=prepared.budget,
        threads=prepared.config.threads,
    )
    n = len(series.plan.points)
    result = replace(one, seconds=n * one.seconds, n_tiles=n * one.n_tiles)
    return result


class SeriesRun(VolumeRun):
    """Restores a series point by point."""

    def __init__(
        self, series: PreparedSeries, first_point: Point | None = None
    ) -> None:
        super().__init__(series.whole, series.first)
        self.series, self.first_point = series, first_point

    def models_text(self) -> str:
        return f"{super().models_text()}: {self.series.plan.words}"

    def facts(self) -> AnyDict:
        """Return the statistics of each channel, and the points in order."""
        plan, copied = self.series.plan, self.series.copied
        channels = []
        for channel, prepared in self.series.channels.items():
            found, noise = prepared.statistics, prepared.noise
            channels.append(
                {
                    "channel": channel,
                    "mean": found.mean,
                    "std": found.std,
                    "input_scale": found.input,
                    "output_scale": found.output,
                    "sampled": found.sampled,
                    "n_nan": found.n_nan,
                    "n_inf": found.n_inf,
                    "model": prepared.model.card.name,
                    "noise": None if noise is None else noise.to_json_dict(),
                }
            )
            if prepared.ranking is not None and len(self.series.channels) > 1:
                channels[-1]["ranking"] = prepared.ranking.to_json_dict()
        # Noise and ranking of a single channel are stored under the same keys as those
        # of a volume.
        several = dict.fromkeys(("noise", "ranking")) if len(channels) > 1 else {}
        return {
            **several,
            "intensities": {
                "over": "each channel, all time points",
                "n_nan": sum(each["n_nan"] for each in channels),
                "n_inf": sum(each["n_inf"] for each in channels),
                "channels": channels,
            },
            "series": {
                "axes": plan.volume.axes,
                "points": [point.to_dict() for point in plan.points],
                **({_COPIED: list(copied)} if copied else {}),
            },
        }

    def doubts(self) -> Iterator[str]:
        yield from self.series.doubts()

    def fill(
        self,
        targets: Targets,
        first: tuple[slice, ...] | None,
        finished_part: FinishedPart | None,
        should_stop: ShouldStop,
    ) -> Generator[Step, None, TileProgress]:
        """Restore the tiles of one point after another."""
        progress = _SeriesProgress(self.series, finished_part)
        backends = _Backends(self.series, finished_part)
        shape = targets.result.array.shape[self.series.plan.n_leading :]
        whole = tuple(slice(0, int(n)) for n in shape)
        for done, point in enumerate(self._order()):
            finished = progress.finished[point]
            if whole in finished:
                continue
            prepared = self.series.at(point)
            part = targets_at(targets, point.index, prepared.volume.axes)
            if point.channel in self.series.copied:
                tiles = copy_steps(prepared, part)
            else:
                tiles = fill_tiles(
                    prepared,
                    part,
                    first if point == self.first_point else None,
                    FinishedPart(targets.result.volume, tuple(finished), progress.tile),
                    should_stop,
                    backends.of(point.channel),
                )
            filled = yield from progress.series_steps(tiles, point, done)
            progress.add(point, filled, whole)
            if not filled.complete:
                return progress.result(
                    backends.facts(), complete=False, error=filled.error
                )
        return progress.result(backends.facts(), complete=True)

    def _order(self) -> list[Point]:
        points = list(self.series.plan.points)
        if self.first_point in points:
            points.remove(self.first_point)
            points.insert(0, self.first_point)
        return points


def copy_steps(
    prepared: PreparedRestoration, targets: Targets
) -> Generator[Step, None, TileProgress]:
    """Copy the voxels of one point; repeat them if the result has finer voxels.

    Deviations are zero.

    Parameters
    ----------
    prepared : PreparedRestoration
        Preparation for the volume of the point; its model is not used.
    targets : Targets
        Arrays of that point.
    """
    source, target = prepared.volume.data, targets.result.array
    factors = prepared.factors
    box = tuple(slice(0, int(n)) for n in target.shape)
    rows = max(1, COPY_BYTES // max(1, math.prod(target.shape[1:]) * 8))
    for start in range(0, int(source.shape[0]), rows):
        part = np.asarray(source[start : start + rows])
        for axis, factor in enumerate(factors):
            part = np.repeat(part, factor, axis)
        begin = start * factors[0]
        key = (slice(begin, begin + part.shape[0]), *box[1:])
        target[key] = part.astype(target.dtype)
        if targets.deviation is not None:
            targets.deviation.array[key] = np.zeros(part.shape, np.float32)
    yield TileDone(1, 1, slices=box)
    return TileProgress(None, True, [box])


@dataclass
class _SeriesProgress:
    """State of a run over a series: finished boxes and statistics of each point."""

    series: PreparedSeries
    finished_part: FinishedPart | None

    def __post_init__(self) -> None:
        points = self.series.plan.points
        self.finished: dict[Point, list[Box]] = {point: [] for point in points}
        self.tile = None if self.finished_part is None else self.finished_part.tile
        self._summaries: list[RunSummary] = []
        self._reported: set[str] = set()
        at = {tuple(point.index): point for point in points}
        for box in () if self.finished_part is None else self.finished_part.places:
            n = self.series.plan.n_leading
            ranges = [range(part.start, part.stop) for part in box[:n]]
            for index in itertools.product(*ranges):
                if index in at:
                    self.finished[at[index]].append(box[n:])

    def series_steps(
        self, tiles: Generator[Step, None, TileProgress], point: Point, done: int
    ) -> Generator[Step, None, TileProgress]:
        """Convert a point's steps to those of the series; drop repeated warnings."""
        n = len(self.finished)
        axes = len(point.index)
        leading = tuple(slice(i, i + 1) for i in point.index)
        with StepIterator(tiles) as iterator:
            for step in iterator:
                if isinstance(step, TileDone):
                    array = step.array
                    yield TileDone(
                        done * step.total + step.done,
                        n * step.total,
                        slices=(*leading, *step.slices),
                        array=None if array is None else array[(np.newaxis,) * axes],
                        facts=step.facts,
                    )
                elif not isinstance(step, WarningIssued):
                    yield step
                elif step.message not in self._reported:
                    self._reported.add(step.message)
                    yield WarningIssued(message=_about(point, step.message))
        return iterator.result

    def add(self, point: Point, filled: TileProgress, whole: Box) -> None:
        """Add the result of a point; a finished point is recorded as a single box."""
        self.finished[point] = [whole] if filled.complete else list(filled.places)
        if filled.summary is not None:
            self._summaries.append(filled.summary)
            self.tile = filled.summary.tile  # tiles have the same size at all points

    def result(
        self, backend: AnyMapping, *, complete: bool, error: Any = None
    ) -> TileProgress:
        """Return the combined result, with boxes in all axes."""
        places = [
            (*(slice(i, i + 1) for i in point.index), *box)
            for point, boxes in self.finished.items()
            for box in boxes
        ]
        summary = _sum_of(self._summaries)
        return TileProgress(summary, complete, places, error, backend)


class _Backends:
    """Backends of the channels of a series, all of the same kind.

    Each backend uses the noise of its channel.
    """

    def __init__(
        self, series: PreparedSeries, finished_part: FinishedPart | None
    ) -> None:
        self._series, self._finished_part = series, finished_part
        self._choices: dict[int | None, Choice] = {}

    def of(self, channel: int | None) -> Choice:
        """Return the backend of a channel, as decided at its first time point."""
        if channel not in self._choices:
            config, plan = self._series.first.config, self._series.plan
            if self._choices:
                config = config.model_copy(update={"backend": self.facts()["name"]})
            n_runs = len(plan.points) // len(plan.channels)
            self._choices[channel] = chosen_backend(config, self._finished_part, n_runs)
        return self._choices[channel]

    def facts(self) -> AnyDict:
        """Return the entries for the record, from the first channel.

        For differences between backends, the maximum over all channels is recorded.
        """
        found = [choice.facts() for choice in self._choices.values()]
        if not found:
            return self.of(self._series.plan.channels[0]).facts()
        worst: AnyDict = {
            key: max(each[key] for each in found if key in each)
            for key in ("largest_difference", "rms_difference")
            if key in found[0]
        }
        return {**found[0], **worst}


def _about(point: Point, sentence: str) -> str:
    """Put the point's name before a sentence that begins with a count of voxels.

    All other sentences are about the model and apply to every point.
    """
    if not sentence[:1].isdigit():
        return sentence
    return f"{point.words[0].upper()}{point.words[1:]}: {sentence}"


def _sum_of(summaries: Sequence[RunSummary]) -> RunSummary | None:
    """Combine the summaries of runs; the tile size is that of the last run."""
    if not summaries:
        return None
    return replace(
        summaries[-1],
        n_tiles=sum(each.n_tiles for each in summaries),
        seconds=sum(each.seconds for each in summaries),
        n_clipped=sum(each.n_clipped for each in summaries),
        n_nonfinite=sum(each.n_nonfinite for each in summaries),
        n_retries=sum(each.n_retries for each in summaries),
        peak_bytes=max(each.peak_bytes for each in summaries),
    )
