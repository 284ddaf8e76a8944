"""Opens what a job made: a volume as a layer, of a measurement its pores."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_geosr import io
from napari_geosr.core.errors import GeoSRError, JobError
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.layers import (
    METADATA,
    add_labels_result,
    add_result,
    layer_metadata,
    place_over,
    series_over,
)
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.operations.measure.job import labels_file
from napari_geosr.operations.restore import deviation_path

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

#: Kinds of jobs whose result is shown as a layer.
SHOWN_AS_LAYER = ("restore", "reconstruct", "ganrec", "measure")
#: Share of the grey values that are darker, and brighter, than the contrast shows.
_CLIPPED = 0.1


@dataclass(frozen=True)
class JobResult:
    """What is opened of a job.

    Attributes
    ----------
    volumes : list of Volume
        The result, and standard deviations or pores where it has them.
    limits : tuple of float
        Of the contrast, from a sample of the first.
    source : Path or None
        The file that it was made from.
    """

    status: JobStatus
    volumes: list[Volume]
    limits: tuple[float, float]
    source: Path | None


class ResultOpener(QObject):
    """Reads the result of a job in a worker and adds it to the viewer.

    Signals
    -------
    opened : object
        The `JobStatus`; its layers are there.
    said : str
        What was opened.
    failed : object
        The error.
    """

    opened = Signal(object)
    said = Signal(str)
    failed = Signal(object)

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.activity = Activity(self)
        self.activity.failed.connect(self.failed)

    def open(self, job: Path) -> None:
        """Open the result of the job in the folder `job`."""
        if not self.activity.busy:
            self.activity.start("open", lambda _stop: read_steps(job), self._add)

    def _add(self, result: JobResult) -> None:
        first, *others = result.volumes
        like = self._layer_of(result.source)
        over: dict[str, Any] = {}
        if result.status.operation == "measure":
            over = {} if like is None else place_over(like)
            layer = add_labels_result(
                self._viewer, first.data, first, name=first.name, **over
            )
            said = f"The pores are in {layer.name!r}; the report is "
            said += f"{result.status.result}."
        else:
            over = {}
            if first.axes not in ("YX", "ZYX") and like is not None:
                over = series_over(first, like) if like.ndim == len(first.axes) else {}
            if not first.holds_labels and like is None:
                over["contrast_limits"] = result.limits
            layer = add_result(self._viewer, first, like, **over)
            record = layer_metadata(first)[METADATA]
            layer.metadata[METADATA] = record | {"info": dict(first.metadata)}
            for volume in others:
                also = {} if like is None else place_over(like)
                also |= {k: v for k, v in over.items() if k != "contrast_limits"}
                add_result(self._viewer, volume, None, visible=False, **also)
            said = f"{layer.name!r} was opened."
        self._viewer.layers.selection.active = layer
        try:
            JobFolder(result.status.path).beat(seen=True)
        except GeoSRError as error:
            self.failed.emit(error)
        self.opened.emit(result.status)
        self.said.emit(said)

    def _layer_of(self, source: Path | None) -> Layer | None:
        """The layer that shows the file a result was made from; its look is taken."""
        if source is None:
            return None
        from napari.layers import Image

        for layer in self._viewer.layers:
            record = layer.metadata.get(METADATA, {})
            file = record.get("source") or layer.source.path
            is_volume = isinstance(layer, Image) and "helper" not in record
            if is_volume and file is not None and Path(file).resolve() == source:
                found: Layer = layer
                return found
        return None


def read_steps(job: Path) -> Generator[Step, None, JobResult]:
    """Open the result of a job lazily.

    Raises
    ------
    GeoSRError
        If the job has no result, or it cannot be opened.
    """
    folder = JobFolder(job)
    status = folder.status()
    path = status.result
    if path is None or not path.exists():
        raise JobError(
            f"{status.name} has no result in {folder.path}: it was moved or deleted. "
            "Run it again."
        )
    yield StageStarted(message=f"Opening {path.name}")
    if status.operation == "measure":
        paths = [labels_file(path)]
    else:
        paths = [path, *(p for p in [deviation_path(path)] if p.exists())]
    volumes = [io.read(each) for each in paths]
    return JobResult(status, volumes, _limits(volumes[0]), source_of(folder))


def source_of(folder: JobFolder) -> Path | None:
    """The file that a job is about; None where that is not known."""
    values = folder.values()
    data = values.get("data")
    named = data.get("volume") if isinstance(data, dict) else values.get("projections")
    if not isinstance(named, str):
        return None
    return Path(named).resolve()


def _limits(volume: Volume) -> tuple[float, float]:
    """Contrast from the middle plane of a volume."""
    data = volume.data
    plane = np.asarray(data[tuple(n // 2 for n in data.shape[:-2])])
    finite = plane[np.isfinite(plane)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (_CLIPPED, 100 - _CLIPPED))
    return float(low), float(high) if high > low else float(low) + 1.0
