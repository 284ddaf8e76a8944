"""Two models side by side: their results for the slice on screen."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_geosr import io
from napari_geosr.core.errors import ConfigError, GeoSRError, JobError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.warm_up import load_torch
from napari_geosr.gui.kit.widgets import button
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    helper_metadata,
    volume_from_layer,
)
from napari_geosr.gui.layers.camera import remove_in_place
from napari_geosr.gui.layers.curtain import CompareBox
from napari_geosr.gui.layers.data_row import is_training_image
from napari_geosr.gui.layers.position import plane_on_screen
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.operations.restore import (
    RestoreConfig,
    prepare_steps,
    preview_steps,
)

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

_HELPER = "comparison"


class JobComparison(QWidget):
    """Restores one slice with the models of two jobs and compares the results.

    A job that is still training is represented by its last preview.

    Signals
    -------
    failed : object
        The error that explains why there is nothing to compare.
    """

    failed = Signal(object)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._jobs: tuple[Path, ...] = ()
        self.activity = Activity(self)
        self.activity.failed.connect(self.failed)
        self.button = button(
            "Compare both on thi&s slice",
            "Restore the current slice with both models, one layer each. For a job "
            "that is still training, its last preview is shown.",
        )
        self.box = CompareBox(viewer, labels=("first", "second"))
        # Use mnemonics that are still free in the dock.
        self.box.curtain_button.setText("Curt&ain")
        self.box.difference_button.setText("Differen&ce")
        self.box.link_box.setText("Li&nk contrast")
        self.box.curtain_button.setToolTip(
            "Show the first model's result to the left of a line and the second's to "
            "the right. Drag the line."
        )
        self.box.blink_button.setToolTip("Alternate between the two results.")
        self.box.difference_button.setToolTip(
            "Show the difference (second minus first) as a layer."
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.button)
        column.addWidget(self.box)
        self.button.clicked.connect(self._on_compare)
        self.box.failed.connect(self.failed)
        self.activity.busyChanged.connect(lambda what: self.button.setEnabled(not what))
        self.set_jobs(())

    def set_jobs(self, jobs: Sequence[Path]) -> None:
        """Offer a comparison if exactly two jobs are given."""
        if tuple(jobs) != self._jobs:
            self.box.clear()
        self._jobs = tuple(jobs)
        self.setVisible(len(self._jobs) == 2)
        self.box.setVisible(self.box.pair() is not None)

    def _layer(self) -> Image:
        """Return the image for the comparison: the active one, otherwise the first.

        Raises
        ------
        ConfigError
            If no image is open.
        """
        layers = self._viewer.layers
        images: list[Any] = [la for la in layers if is_training_image(la)]
        if not images:
            raise ConfigError("Open the image on which to compare the models.")
        active = layers.selection.active
        return active if active in images else images[0]

    def _on_compare(self) -> None:
        if self.activity.busy:
            return
        try:
            layer = self._layer()
            volume = volume_from_layer(layer, self._viewer)
            jobs = [JobFolder(path) for path in self._jobs]
        except GeoSRError as error:
            self.failed.emit(error)
            return
        index = None
        if volume.axes == "ZYX":
            axis = layer.ndim - 3
            index = plane_on_screen(self._viewer, layer, axis, volume.shape[0])
        self.activity.start(
            "compare",
            lambda stop: compare_steps(volume, index, jobs, stop),
            lambda volumes: self._show(layer, volumes),
        )

    def _show(self, source_layer: Image, volumes: list[Volume]) -> None:
        self.box.clear()
        for layer in list(self._viewer.layers):
            if layer.metadata.get(METADATA, {}).get("helper") == _HELPER:
                remove_in_place(self._viewer, layer)
        active = self._viewer.layers.selection.active
        source = source_layer if source_layer in self._viewer.layers else None
        first, second = (
            add_image_result(
                self._viewer, volume, source, metadata=helper_metadata(_HELPER)
            )
            for volume in volumes
        )
        self._viewer.layers.selection.active = active
        self.box.set_pair(first, second)
        self.box.setVisible(True)
        self.box.curtain_button.setChecked(True)


def compare_steps(
    volume: Volume,
    index: int | None,
    jobs: Sequence[JobFolder],
    should_stop: ShouldStop,
) -> Generator[Step, None, list[Volume]]:
    """Restore one slice of `volume` with the model of each job.

    Parameters
    ----------
    index : int or None
        Index of the slice; None for a single image. If a job has no model yet, the
        slice of its last preview is used for both jobs instead.

    Returns
    -------
    list of Volume

    Raises
    ------
    GeoSRError
        If a job has nothing to show, or the jobs show different slices.
    """
    statuses = [job.status() for job in jobs]
    if any(status.result is not None for status in statuses):
        load_torch()
    previews = {
        status.path: _preview(job, status)
        for job, status in zip(jobs, statuses, strict=True)
        if status.result is None
    }
    shown = {_slice_of(preview, volume) for preview in previews.values()}
    if len(shown) > 1:
        raise JobError(
            "The previews of the two jobs show different slices. Wait until one of "
            "the jobs has finished."
        )
    index = shown.pop() if shown else index
    region = tuple(slice(0, n) for n in volume.shape)
    if index is not None:
        region = (slice(index, index + 1), *region[1:])
    volumes = []
    for status in statuses:
        result = previews.get(status.path)
        if result is None:
            config = RestoreConfig.create(model=str(status.result))
            prepared = yield from prepare_steps(volume, config, should_stop=should_stop)
            result = yield from preview_steps(prepared, region, should_stop=should_stop)
        volumes.append(result.replace(name=f"{volume.name} · {status.path.name}"))
    return volumes


def _preview(job: JobFolder, status: JobStatus) -> Volume:
    if not job.preview.is_file():
        raise JobError(
            f"{status.name} has produced neither a model nor a preview yet. Wait for "
            "its first preview."
        )
    volume = io.read(job.preview)
    return volume.replace(data=np.asarray(volume.data))


def _slice_of(preview: Volume, volume: Volume) -> int | None:
    """Return the index of the slice of `volume` at the position of a preview."""
    if volume.axes != "ZYX" or preview.axes != "ZYX":
        return None
    index = round((preview.origin[0] - volume.origin[0]) / volume.voxel_size[0])
    if not 0 <= index < volume.shape[0]:
        raise JobError(
            f"A preview lies outside {volume.title}: choose the image that the job "
            "uses for training."
        )
    return index
