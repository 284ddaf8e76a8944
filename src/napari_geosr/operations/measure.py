"""Measure the pores of a volume, and compare the pores of several volumes."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import (
    BlockDone,
    ResultReady,
    ShouldStop,
    StageStarted,
    Step,
    Warned,
    never_stop,
    relay,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.operations.mask import align_mask
from napari_geosr.operations.storage import array_for

if TYPE_CHECKING:
    from napari_geosr.measure.histogram import GreyHistogram
    from napari_geosr.measure.report import PorosityReport

MeasureConfig = PorosityConfig

#: Bytes up to which every voxel is counted for the preview: from disk, from memory.
_MOST_READ = 2**29
_MOST_COUNTED = 2**32
#: Voxels per block: a few milliseconds between two looks at `should_stop`.
_BLOCK_VOXELS = 1 << 22


def measure_steps(
    volume: Volume,
    config: MeasureConfig,
    mask: Volume | None = None,
    *,
    labels_target: Any = None,
    keep_labels: bool = True,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Segment the pores of a volume, label them and measure each, block by block.

    Parameters
    ----------
    volume : Volume
        Axes (Z, Y, X) or (Y, X); other axes must have length one. Any real dtype.
    config : MeasureConfig
        Threshold, phase, smallest pore, connectivity, automatic sample mask.
    mask : Volume, optional
        The sample: every voxel that is not zero. It may have other voxels than
        `volume`, it is then looked up by position.
    labels_target : array-like, optional
        Integer array of the volume's shape to fill with the labels. Without it they
        are kept in memory, or in a zarr in the cache folder when they would not fit.
    keep_labels : bool
        False where only the figures are wanted.

    Yields
    ------
    Step
        The last is ``ResultReady(PorosityReport)``.

    Raises
    ------
    VolumeError
        If the volume is complex, has more axes, is constant or has no finite voxel,
        or the mask does not cover it. Also for an unfinished restoration in integers,
        unless a mask says which part to measure.
    Cancelled
        If `should_stop` says so.
    """
    from napari_geosr.measure.porosity import measure_steps as engine_steps

    volume = _one_volume(volume)
    config, remarks = _mind_the_kind(volume, config)
    if mask is None:
        _refuse_unfinished_integers(volume)
    for remark in remarks:
        yield Warned(message=remark)
    sample = None if mask is None else align_mask(mask, volume)
    if keep_labels and labels_target is None:
        labels_target = array_for(volume.shape, np.dtype(np.uint32))
    report: PorosityReport = yield from relay(
        engine_steps(
            volume,
            config,
            mask=sample,
            labels_target=labels_target if keep_labels else None,
            keep_labels=keep_labels,
            should_stop=should_stop,
        )
    )
    if mask is None and (lost := _lost_mask(volume, report)):
        remarks.append(lost)
        yield Warned(message=lost)
    if remarks:
        report = replace(report, warnings=(*remarks, *report.warnings))
    yield ResultReady(result=report)


def _mind_the_kind(
    volume: Volume, config: MeasureConfig
) -> tuple[MeasureConfig, list[str]]:
    """Labels are pores already; an unfinished restoration is half a volume."""
    from napari_geosr.measure.remarks import looks_like_labels

    remarks = []
    if volume.metadata.get("kind") == "labels":
        config = config.model_copy(update={"threshold": 0.0, "phase": "bright"})
        remarks.append(
            f"{volume.name!r} holds labels: every labelled voxel is taken as pore, and "
            "the threshold is not used."
        )
    elif config.phase == "dark" and looks_like_labels(volume.data):
        remarks.append(
            f"{volume.title} looks like labels: regions of one number each, and 0 "
            "between. It is measured as grey values, where the low ones are pores. If "
            "the labels are pores, choose bright pores and the threshold 0."
        )
    if _is_unfinished(volume):
        remarks.append(
            f"{volume.name!r} is an unfinished restoration: the figures are those of "
            "its finished part."
        )
    return config, remarks


def _is_unfinished(volume: Volume) -> bool:
    return any(entry.get("complete") is False for entry in volume.provenance)


def _refuse_unfinished_integers(volume: Volume) -> None:
    """Integers have no NaN: what was not reached is zero, as dark as any pore."""
    if _is_unfinished(volume) and volume.dtype.kind in "iu":
        raise VolumeError(
            f"{volume.title} is an unfinished restoration in {volume.dtype}: voxels "
            "that were not reached hold 0, as pores may. Restore it to the end, or to "
            "float32, or give a sample mask of the finished part."
        )


def _lost_mask(volume: Volume, report: PorosityReport) -> str:
    """Voxels that the scan did not have are grey values in some restorations of it."""
    missing = 0
    for entry in volume.provenance:
        seen = entry.get("intensities") or {}
        missing = max(missing, seen.get("n_nan", 0) + seen.get("n_inf", 0))
    if not missing or report.nonfinite_voxels:
        return ""
    return (
        f"The scan that {volume.name!r} was restored from has {missing} NaN or "
        "infinite voxels, but this volume has none: they are measured as sample. "
        "Restore the scan again to float32, or give a sample mask."
    )


def measure_porosity(
    volume: Volume, mask: Volume | None = None, **settings: Any
) -> PorosityReport:
    """Measure the pores of a volume.

    Parameters
    ----------
    volume : Volume
        Axes (Z, Y, X) or (Y, X), any real dtype.
    mask : Volume, optional
        The sample: every voxel that is not zero.
    **settings
        Fields of `MeasureConfig`.

    Returns
    -------
    PorosityReport
        Porosity, number of pores per mm³, one row per pore, and the labels.

    Raises
    ------
    ConfigError, VolumeError
        With one sentence saying what is wrong and what to do.
    """
    config = MeasureConfig.create(**settings)
    report: PorosityReport = run_to_end(measure_steps(volume, config, mask))
    return report


def compare_steps(
    volumes: Mapping[str, Volume],
    config: MeasureConfig,
    mask: Volume | None = None,
    *,
    keep_labels: bool = True,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Measure several volumes by the same rules, so that their figures can be compared.

    Each volume gets its own threshold by the same method (or the same manual value),
    and the smallest pore is the same physical size in all: see `same_smallest_pore`.

    Parameters
    ----------
    volumes : mapping of str to Volume
        By the name that people see.

    Yields
    ------
    Step
        `done` and `total` count over all volumes. The last step is
        ``ResultReady(dict[str, PorosityReport])`` in the order of `volumes`.

    Raises
    ------
    VolumeError
        For what :func:`measure_steps` refuses, or if some are single images and
        others volumes.
    """
    volumes = {name: _one_volume(volume) for name, volume in volumes.items()}
    _refuse_mixed_axes(volumes)
    configs = same_smallest_pore(volumes, config)
    if len({volume.has_physical_size for volume in volumes.values()}) > 1:
        without = next(n for n, v in volumes.items() if not v.has_physical_size)
        yield Warned(
            message=f"{without!r} has no voxel size, so its pores cannot be compared "
            "in physical units. Set its voxel size and measure again."
        )
    reports: dict[str, PorosityReport] = {}
    for i, (name, volume) in enumerate(volumes.items()):
        yield StageStarted(message=f"Measuring {name}")
        steps = measure_steps(
            volume,
            configs[name],
            mask,
            keep_labels=keep_labels,
            should_stop=should_stop,
        )
        try:
            for step in steps:
                if isinstance(step, ResultReady):
                    reports[name] = step.result
                elif isinstance(step, BlockDone):
                    total = step.total * len(volumes)
                    yield BlockDone(step.total * i + step.done, total)
                else:
                    yield step
        finally:
            steps.close()
    yield ResultReady(result=reports)


def _refuse_mixed_axes(volumes: Mapping[str, Volume]) -> None:
    if len({volume.axes for volume in volumes.values()}) < 2:
        return
    flat = next(name for name, v in volumes.items() if v.axes == "YX")
    deep = next(name for name, v in volumes.items() if v.axes != "YX")
    raise VolumeError(
        f"{flat!r} is a single image and {deep!r} a volume: sections of pores cannot "
        "be compared with whole pores. Compare two images or two volumes."
    )


def same_smallest_pore(
    volumes: Mapping[str, Volume], config: MeasureConfig
) -> dict[str, MeasureConfig]:
    """Give each volume a config with the same *physical* smallest pore.

    ``config.min_voxels`` counts voxels of the coarsest volume, since that is where
    small pores are hardest to see; finer volumes get as many voxels as make up the
    same size. Volumes in pixels are compared with each other, as a result with its
    input; beside volumes in physical units they keep ``config.min_voxels``.
    """
    sizes: dict[str, float | None]
    if len({volume.unit for volume in volumes.values()}) == 1:
        sizes = {name: math.prod(v.voxel_size) for name, v in volumes.items()}
    else:
        sizes = {name: volume.voxel_volume_mm3 for name, volume in volumes.items()}
    known = [size for size in sizes.values() if size is not None]
    coarsest = max(known, default=0.0)
    configs = {}
    for name, size in sizes.items():
        n = config.min_voxels
        if size is not None:
            n = max(1, math.ceil(config.min_voxels * coarsest / size - 1e-6))
        configs[name] = config.model_copy(update={"min_voxels": n})
    return configs


@dataclass(frozen=True)
class PoreSize:
    """A number of voxels in physical units.

    Attributes
    ----------
    volume : float
        In ``unit``³ (``unit``² in 2D).
    diameter : float
        Of the ball (disc in 2D) of that volume, in ``unit``.
    """

    volume: float
    diameter: float
    unit: str
    ndim: int


def pore_size(n_voxels: int, volume: Volume) -> PoreSize:
    """Give the physical size of a pore of `n_voxels` of `volume`."""
    size = n_voxels * math.prod(volume.voxel_size)
    ndim = len(volume.voxel_size)
    if ndim == 2:
        diameter = 2 * math.sqrt(size / math.pi)
    else:
        diameter = (6 * size / math.pi) ** (1 / 3)
    return PoreSize(size, diameter, volume.unit, ndim)


@dataclass(frozen=True)
class GreyLevels:
    """The grey values of a volume: what people see, and what thresholds come from.

    Attributes
    ----------
    histogram : napari_geosr.measure.histogram.GreyHistogram
    sampled : bool
        Whether only evenly spread planes were read; thresholds are then close to
        those of a measurement, which reads every voxel, but not the same.
    """

    histogram: GreyHistogram
    dtype: np.dtype[Any]
    name: str
    sampled: bool

    def threshold(self, config: MeasureConfig) -> float:
        """Give the threshold that `config` asks for.

        Raises
        ------
        VolumeError
            If there are too few grey values for the rule.
        """
        from napari_geosr.measure.segment import threshold_of

        return threshold_of(self.histogram, config, self.dtype, name=self.name)

    def bars(
        self, n_bins: int = 160
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Counts and edges for a picture.

        The outermost 0.02 % of the values at either end are left out, so that a few
        hot voxels do not squeeze the rest.
        """
        counts, edges = self.histogram.counts, self.histogram.edges
        share = np.cumsum(counts) / counts.sum()
        first = int(np.searchsorted(share, 2e-4))
        last = int(np.searchsorted(share, 1 - 2e-4)) + 1
        counts, edges = counts[first:last], edges[first : last + 1]
        # Whole bins are joined: splitting integers unevenly would draw a comb.
        join = -(-len(counts) // n_bins)
        starts = np.arange(0, len(counts), join)
        width = edges[1] - edges[0]
        joined = np.append(edges[starts], edges[0] + width * join * len(starts))
        return np.add.reduceat(counts, starts), joined


def histogram_steps(
    volume: Volume,
    mask: Volume | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Count grey values; of evenly spread planes where reading all would take long.

    Parameters
    ----------
    volume : Volume
        Axes (Z, Y, X) or (Y, X); other axes must have length one. Any real dtype.
    mask : Volume, optional
        The sample, as for `measure_steps`: only voxels where it is not zero count.

    Yields
    ------
    Step
        The last is ``ResultReady(GreyLevels)``.

    Raises
    ------
    VolumeError
        If there is no finite value, or only one value, or the mask does not fit.
    """
    from skimage import filters  # noqa: F401  # thresholds must not wait for it later

    from napari_geosr.measure.histogram import histogram_steps as engine_steps

    volume = _one_volume(volume)
    source: Any = volume.data
    sample: Any = None if mask is None else align_mask(mask, volume)
    sampled = False
    limit = _MOST_READ if volume.is_lazy else _MOST_COUNTED
    per_plane = math.prod(volume.shape[-2:])
    if volume.axes == "YX":
        source = np.asarray(source)[None]
        sample = None if sample is None else np.asarray(sample[:])[None]
    elif volume.nbytes > limit:
        planes = _some_planes(volume, sample, limit, should_stop)
        sampled = len(planes) < volume.shape[0]
        source = _SomePlanes(source, planes)
        sample = None if sample is None else _SomePlanes(sample, planes)
    steps = engine_steps(
        source,
        thickness=max(1, _BLOCK_VOXELS // per_plane),
        name=volume.name,
        should_stop=should_stop,
        mask=sample,
    )
    histogram = yield from relay(steps)
    levels = GreyLevels(histogram, volume.dtype, volume.name, sampled)
    yield ResultReady(result=levels)


def _some_planes(
    volume: Volume, sample: Any, limit: int, should_stop: ShouldStop
) -> np.ndarray[Any, Any]:
    """Choose evenly spread planes, of those in which the sample is."""
    n = max(16, limit * volume.shape[0] // volume.nbytes)
    all_planes = np.arange(volume.shape[0])
    if sample is not None:
        held = []
        for z in all_planes:
            if should_stop():
                raise Cancelled("Reading the grey values was cancelled.")
            held.append(bool(np.any(sample[int(z)])))
        # Of an empty mask any planes do: the engine says that it is empty.
        all_planes = all_planes[held] if any(held) else all_planes
    chosen = np.linspace(0, len(all_planes) - 1, min(n, len(all_planes))).astype(int)
    planes: np.ndarray[Any, Any] = all_planes[np.unique(chosen)]
    return planes


class _SomePlanes:
    """Some planes of a large volume, read when they are asked for."""

    def __init__(self, data: Any, planes: np.ndarray[Any, Any]) -> None:
        self._data = data
        self._planes = planes
        self.shape = (len(planes), *data.shape[1:])
        self.dtype = data.dtype

    def __getitem__(self, slab: slice) -> np.ndarray[Any, Any]:
        return np.stack([np.asarray(self._data[int(z)]) for z in self._planes[slab]])


def threshold_steps(
    volume: Volume,
    config: MeasureConfig,
    mask: Volume | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Find the threshold of a volume: the last step is ``ResultReady(float)``."""
    yield StageStarted(message="Finding the threshold")
    for step in histogram_steps(volume, mask, should_stop=should_stop):
        if isinstance(step, ResultReady):
            yield ResultReady(result=step.result.threshold(config))
        else:
            yield step


def preview_mask(
    plane: np.ndarray[Any, Any], threshold: float, config: MeasureConfig
) -> np.ndarray[Any, Any]:
    """Pore voxels of one plane at a threshold, before small pores are dropped."""
    from napari_geosr.measure.segment import phase_mask

    mask: np.ndarray[Any, Any] = phase_mask(plane, threshold, config.phase)
    return mask


def figure_rows(
    reports: Mapping[str, PorosityReport],
) -> list[tuple[str, list[str], list[str]]]:
    """Rows for people: label, a text per report, a difference to the first each."""
    from napari_geosr.measure.rows import table_rows

    return table_rows(list(reports.values()))


def number_text(value: float) -> str:
    """A number for people: three significant digits, integers whole."""
    from napari_geosr.measure.rows import number_text as text_of

    return text_of(value)


def measure_record(
    volumes: Mapping[str, Volume], config: MeasureConfig
) -> dict[str, Any]:
    """Make the provenance record of a measurement, for the exported files."""
    return provenance.record(
        "measure", inputs=volumes, settings=config.model_dump(mode="json")
    )


def _one_volume(volume: Volume) -> Volume:
    volume = volume.select()
    if volume.dtype.kind not in "buif":
        raise VolumeError(
            f"{volume.name!r} holds {volume.dtype} values; pores can be measured in "
            "real numbers only. Take the magnitude or the phase first."
        )
    if 0 in volume.shape:
        raise VolumeError(f"{volume.name!r} is empty: its shape is {volume.shape}.")
    return volume
