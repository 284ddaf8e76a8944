"""Open a job's result: volumes as layers, measurements in the Porosity dock."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_geosr import io
from napari_geosr.core.errors import GeoSRError, JobError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.dock_tabs import POROSITY
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.layers import (
    METADATA,
    add_result,
    alignment_with,
    is_helper,
    layer_metadata,
    series_alignment_with,
)
from napari_geosr.gui.layers.contrast import Limits, limits_steps, set_limits
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.operations.restore import deviation_path
from napari_geosr.operations.segment.job import probabilities_path

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

#: Kinds of jobs whose result is shown as a layer, or as layers of pores.
SHOWN_AS_LAYER = (
    "restore",
    "reconstruct",
    "ganrec",
    "measure",
    "sim",
    "pinn-sim",
    "shapes",
    "segment",
)
#: Kinds of jobs whose result has pixels and axes different from those of the input.
_ON_THEIR_OWN = ("sim", "pinn-sim")
#: Kinds of jobs that accept labels as input and always produce labels.
_OF_LABELS = ("shapes",)


@dataclass(frozen=True)
class JobSource:
    """The input of a job.

    Attributes
    ----------
    path : Path
        File of the input.
    channel : int or None
        The channel chosen from the file.
    title : str
        Name of the layer from which the input came; may be empty.
    is_of_job : bool
        Whether the file was written for the job, from a layer.
    """

    path: Path
    channel: int | None = None
    title: str = ""
    is_of_job: bool = False


@dataclass(frozen=True)
class JobResult:
    """The parts of a job's result that are opened.

    Attributes
    ----------
    volumes : list of Volume
        The result and, if any, its standard deviations or the probability of each
        class; empty for a measurement, which the Porosity dock reads.
    limits : tuple of float or None
        Contrast limits, from a sample of the whole volume; None for a constant
        volume, labels or a measurement.
    source : JobSource or None
        Input from which the result was made.
    note : str
        States that a later job has overwritten the result; empty if not.
    """

    status: JobStatus
    volumes: list[Volume]
    limits: Limits | None
    source: JobSource | None
    note: str = ""


class ResultOpener(QObject):
    """Reads the result of a job in a worker and adds it to the viewer.

    Signals
    -------
    opened : object
        The `JobStatus`; its layers have been added.
    reported : str
        Message about what was opened.
    failed : object
        The error.
    """

    opened = Signal(object)
    reported = Signal(str)
    failed = Signal(object)

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.activity = Activity(self)
        self.activity.failed.connect(self.failed)

    def open(self, job: Path) -> None:
        """Open the result of the job in the folder `job`."""
        if not self.activity.busy:
            self.activity.start("open", partial(read_steps, job), self._add)

    def _add(self, result: JobResult) -> None:
        if result.status.operation == "measure":
            shown = partial(self._on_opened, result)
            # Let the dock, which may have to be created first, report unreadable files.
            open_dock(
                self._viewer,
                POROSITY,
                lambda dock: dock.show_job(result.status.path, shown),
            )
            return
        on_its_own = result.status.operation in _ON_THEIR_OWN
        of_labels = result.status.operation in _OF_LABELS
        source = None
        if not on_its_own:
            source = layer_of(self._viewer, result.source, may_be_labels=of_labels)
        layer = self._add_volumes(result.volumes, result.limits, source)
        self._on_opened(result, f"{layer.name!r} was opened.")

    def open_file(self, path: Path) -> None:
        """Open the result of another computer's job from its path on this computer."""
        if not self.activity.busy:
            self.activity.start("open", partial(volumes_steps, path), self._add_file)

    def _add_file(self, read: tuple[list[Volume], Limits | None]) -> None:
        layer = self._add_volumes(*read, None)
        self.reported.emit(f"{layer.name!r} was opened.")

    def _add_volumes(
        self, volumes: list[Volume], limits: Limits | None, input_layer: Layer | None
    ) -> Layer:
        first, *others = volumes
        placement: AnyDict = {}
        if first.axes not in ("YX", "ZYX") and input_layer is not None:
            placement = (
                series_alignment_with(first, input_layer)
                if input_layer.ndim == len(first.axes)
                else {}
            )
        if first.holds_labels or input_layer is not None:
            limits = None
        # Without limits, napari computes them from the first slice, in this thread.
        appearance = {} if limits is None else {"contrast_limits": limits}
        layer = add_result(self._viewer, first, input_layer, **(placement | appearance))
        if limits is not None:
            set_limits(layer, limits)
        record = layer_metadata(first)[METADATA]
        layer.metadata[METADATA] = record | {"info": dict(first.metadata)}
        # Probabilities of classes have a known range.
        options: AnyDict = {"contrast_limits": (0.0, 1.0)} if first.holds_labels else {}
        options |= {} if input_layer is None else alignment_with(input_layer)
        for volume in others:
            add_result(
                self._viewer, volume, None, visible=False, **(options | placement)
            )
        self._viewer.layers.selection.active = layer
        return layer

    def _on_opened(self, result: JobResult, reported: str) -> None:
        try:
            JobFolder(result.status.path).set_seen()
        except GeoSRError as error:
            self.failed.emit(error)
        self.opened.emit(result.status)
        self.reported.emit(f"{reported} {result.note}".strip())


def layer_of(
    viewer: napari.viewer.Viewer,
    source: JobSource | None,
    *,
    may_be_labels: bool = False,
) -> Layer | None:
    """Return the layer that shows the job's input; the result adopts its appearance."""
    if source is None:
        return None
    from napari.layers import Image, Labels

    kinds = (Image, Labels) if may_be_labels else Image
    for layer in viewer.layers:
        if isinstance(layer, kinds) and not is_helper(layer) and _shows(layer, source):
            match: Layer = layer
            return match
    return None


def _shows(layer: Layer, source: JobSource) -> bool:
    """Whether a layer shows the job's input: the same file and channel."""
    record = layer.metadata.get(METADATA, {})
    if source.is_of_job:  # the input was a layer without a file
        return bool(source.title) and layer.name == source.title
    file = record.get("source") or record.get("file") or layer.source.path
    if file is None or Path(file).resolve() != source.path:
        return False
    channel = record.get("channel")  # set if the layer is one channel of a file
    return None in (channel, source.channel) or channel == source.channel


def read_steps(job: Path, should_stop: ShouldStop) -> Generator[Step, None, JobResult]:
    """Open the result of a job lazily.

    Raises
    ------
    GeoSRError
        If the job has no result, or the result cannot be opened.
    """
    folder = JobFolder(job)
    status = folder.status()
    path = status.result
    if path is None or not path.exists():
        raise JobError(
            f"The result of {status.name} is no longer in {folder.path}: it was moved "
            "or deleted. Run the job again."
        )
    later = index.later_writer(status)
    note = "" if later is None else index.overwritten_text(status, later)
    if status.operation == "measure":
        yield StageStarted(message=f"Opening {path.name}")
        return JobResult(status, [], None, None, note)
    shares = folder.values().get("probabilities")
    more = Path(shares) if isinstance(shares, str) else None
    volumes, limits = yield from volumes_steps(path, should_stop, more)
    return JobResult(status, volumes, limits, source_of(folder), note)


def volumes_steps(
    path: Path, should_stop: ShouldStop, probabilities: Path | None = None
) -> Generator[Step, None, tuple[list[Volume], Limits | None]]:
    """Open a result and its companions lazily, and find contrast limits.

    Parameters
    ----------
    path : Path
        The result. Standard deviations next to it are opened as well.
    should_stop : callable
    probabilities : Path, optional
        Probabilities of the classes of labels; by default a file next to the labels.

    Raises
    ------
    GeoSRError
        If the result cannot be opened.
    """
    yield StageStarted(message=f"Opening {path.name}")
    first, limits = io.read(path), None
    if first.holds_labels:
        shares = probabilities or probabilities_path(path)
        return [first, *(_by_class(shares) if shares.exists() else ())], limits
    limits = yield from limits_steps(first.data, should_stop)
    deviation = deviation_path(path)
    return [first, *([io.read(deviation)] if deviation.exists() else ())], limits


def _by_class(path: Path) -> list[Volume]:
    """Open the probabilities of classes lazily, as one volume for each class."""
    whole = io.read(path)
    names = whole.metadata.get("channels") or range(whole.shape[0])
    return [
        whole.select(channel=i).replace(name=f"{whole.name} {name}")
        for i, name in enumerate(names)
    ]


def source_of(folder: JobFolder) -> JobSource | None:
    """Return the input of a job; None if unknown."""
    values = folder.values()
    data = values.get("data")
    if not isinstance(data, dict):
        named = values.get("projections") or values.get("frames")
        data = {"volume": named, "reading": values.get("reading")}
    named, reading = data.get("volume"), data.get("reading")
    if not isinstance(named, str):
        return None
    path = Path(named).resolve()
    return JobSource(
        path,
        channel=reading.get("channel") if isinstance(reading, dict) else None,
        title=str(data.get("title", "")),
        is_of_job=path.is_relative_to(folder.path),
    )
