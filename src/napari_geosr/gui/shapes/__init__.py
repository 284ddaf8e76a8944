"""The *Shapes* dock: refine and complete shapes, view them, and segment inside them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, TypeVar

from qtpy.QtWidgets import QFileDialog

from napari_geosr.core.errors import Cancelled, ConfigError, GeoSRError, VolumeError
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.handover import RunHandover
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.kit.warm_up import load_torch
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.gui.layers.geometry import check_same_transform
from napari_geosr.gui.shapes.layers import (
    add_segmentation,
    add_shape,
    as_job,
    centre_of_view,
    check_mesh_place,
    transform_warning,
)
from napari_geosr.gui.shapes.mesh_path import ask_mesh_path
from napari_geosr.gui.shapes.preview import PreviewSurface
from napari_geosr.gui.shapes.repeated import PreviewRepeater
from napari_geosr.gui.shapes.widgets import (
    COMPLETE,
    EDITED,
    REFINE,
    SEGMENT,
    MaskFormConfig,
    ShapesWidgets,
)
from napari_geosr.operations import shapes
from napari_geosr.operations.shapes import (
    CompleteShapeConfig,
    RefineShapeConfig,
)

if TYPE_CHECKING:
    from pathlib import Path

    import napari.viewer
    from napari.layers import Image, Labels, Layer
    from napari.utils.events import Event

    from napari_geosr.gui.kit.worker import MakeSteps
    from napari_geosr.jobs.stopped.shape import StoppedShape
    from napari_geosr.operations.shapes import (
        MeshResult,
        SegmentedLayer,
        ShapeLayer,
        ShapePreview,
    )

    ShapeConfig = RefineShapeConfig | CompleteShapeConfig | MaskFormConfig

#: Type of the result of an operation.
T = TypeVar("T")
#: Names of the operations.
_PREVIEW, _RUN, _EXPORT = "preview of a shape", "shape", "mesh"


def _settings_part(task: str) -> str:
    """Return the part of a settings file's name that identifies a task."""
    return task.lower().replace(" ", "_")


class ShapesDock(ShapesWidgets):
    """Refines and completes shapes, segments scans inside them, and shows the results.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.
    """

    settings_name = "shapes"

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.preview = PreviewSurface(self._viewer)
        self._repeater = PreviewRepeater(self, self.preview, self._repeat_preview)
        self._made: ShapeLayer | None = None
        #: Layers of the result; once all are removed, the result is released.
        self._shown: tuple[weakref.ref[Layer], ...] = ()
        #: Input layers of the running operation, and a message if one of them was
        #: removed, which cancelled the operation.
        self._sources: tuple[weakref.ref[Layer], ...] = ()
        self._removed = ""
        #: Message that was shown with the preview; it concerns the preview's input.
        self._preview_message = ""
        self._progress = OperationProgress(
            self.bar.state.setText,
            show_bar=self.bar.show_progress,
            show_warning=self._show_warnings,
            shows_time_left=True,
        )
        self.handover = RunHandover(self.activity, self, "shapes")
        self.handover.can_keep_part = False
        for task, kind in (
            (COMPLETE, CompleteShapeConfig),
            (SEGMENT, MaskFormConfig),
            (REFINE, RefineShapeConfig),
        ):
            config, error = self.recall(kind, _settings_part(task))
            values = config.model_dump(exclude={"label"})
            for form in self.forms_of(task):
                form.set_values(values)
            if task == SEGMENT:
                self.region.set_values(values)
            if error is not None:
                self.message.show_error(error)
        self._connect()
        self.show_busy("")

    def _connect(self) -> None:
        self.connections.connect(self._viewer.layers.events.removed, self._on_removed)
        for layers in (self.shape_layer, self.scan):
            layers.layerChanged.connect(self._on_changed)
        self.region.changed.connect(self._on_changed)
        self.model_button.clicked.connect(self._on_choose_model)
        self.task.currentIndexChanged.connect(self._on_task)
        for form in (*self.forms.values(), self.common, self.grey_scale):
            form.changed.connect(self._on_setting)
        self.preview_button.clicked.connect(self._on_preview)
        self.closed.connect(self._repeater.stop)
        self.closed.connect(self.preview.clear)
        self.run_button.clicked.connect(self._on_run)
        self.cancel_button.clicked.connect(self.cancel)
        self.mesh_button.clicked.connect(self._on_export)
        self.cluster.set_run(self._run_elsewhere, self.run_button)

    # Settings

    def settings_forms(self) -> tuple[ConfigForm, ...]:
        """Return the forms with the settings of the chosen task."""
        return self.forms_of(self.task.currentText())

    def config(self) -> ShapeConfig:
        """Return the settings of the chosen task.

        Raises
        ------
        ConfigError
            If one of them is invalid.
        """
        kinds: dict[str, type[ShapeConfig]] = {
            REFINE: RefineShapeConfig,
            COMPLETE: CompleteShapeConfig,
            SEGMENT: MaskFormConfig,
        }
        task = self.task.currentText()
        values = {
            k: v for form in self.settings_forms() for k, v in form.values().items()
        }
        if task == SEGMENT and not values["model"]:
            raise ConfigError(
                "Choose the folder of a model. If there is none, train a model first "
                "(napari-geosr train sparse-segmentation).",
                fields=("model",),
            )
        if task == SEGMENT:
            values |= self.region.values()
            if not self.region.is_mask:
                values["label"] = None
        return kinds[task].create(
            **{k: None if v == "" else v for k, v in values.items()}
        )

    def _shape(self) -> Labels:
        layer = self.shape_layer.layer()
        if layer is None:
            raise ConfigError(
                "Choose the labels of a shape. If there are none, segment a scan, or "
                "right-click an image of zeros and ones in the layer list and choose "
                "Convert to Labels."
            )
        return layer

    def _on_choose_model(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder of a model or job")
        if path:
            self.forms[SEGMENT].set_values({"model": path})

    def _on_task(self, _index: int = 0) -> None:
        self.show_task()
        self._on_changed()

    def _on_setting(self) -> None:
        """Handle another setting; a preview that is shown is computed again."""
        self._repeater.note_change()
        self._clear_preview()

    def _on_changed(self) -> None:
        """Handle another shape, region or task; errors concern the previous one."""
        self._repeater.stop()
        if not self.activity.busy:
            self.clear_faults()
            if self.message.text == self._preview_message:
                self.message.clear()
        self._preview_message = ""
        self._clear_preview()

    def _clear_preview(self) -> None:
        """Remove the preview, which is outdated."""
        if self.activity.busy != _RUN:
            self.preview.clear()
        self.show_busy(self.activity.busy)

    # Running

    def show_busy(self, what: str) -> None:
        """Enable the controls that can be used while `what` is running."""
        has_shape = self.shape_layer.layer() is not None
        segments = self.task.currentText() == SEGMENT
        complete = has_shape
        if segments:
            complete = has_shape or not self.region.is_mask
            complete = complete and self.scan.layer() is not None
        inputs = (self.region, self.scan, self.model_button, self.task, self.advanced)
        for widget in (*inputs, *self.forms.values()):
            widget.setEnabled(not what)
        self.preview_button.setEnabled(has_shape and not segments and not what)
        self.run_button.setEnabled(complete and not what)
        self.mesh_button.setEnabled(self._made is not None and not what)
        self.cancel_button.setEnabled(bool(what))
        self.bar.state.set_idle(self.hint(self._made, complete=complete))
        if not what:
            self.bar.state.setText("")
            self.bar.progress.setVisible(False)

    def cancel(self) -> None:
        """Stop the running operation at its next step."""
        if self.activity.busy:
            self.activity.cancel()
            self.bar.state.setText("Stopping…")

    def _start(
        self,
        what: str,
        make_steps: MakeSteps[T],
        on_result: Callable[[T], None],
        description: str = "",
        sources: Sequence[Layer] = (),
    ) -> None:
        """Start an operation that shows its progress in the bar.

        The operation is cancelled if one of the layers in `sources` is removed.
        """
        self._progress.restart()
        layers = map(unwrapped, sources)
        self._sources, self._removed = tuple(map(weakref.ref, layers)), ""

        def show(result: T) -> None:
            if self._removed:  # a layer was removed during the last step
                self._on_error(Cancelled("Stopped."))
            else:
                on_result(result)

        def steps(stop: ShouldStop) -> Generator[Step, None, T]:
            load_torch()
            return (yield from make_steps(stop))

        self.activity.start(
            what,
            steps,
            show,
            on_step=self._progress.show_step,
            on_error=self._on_error,
            description=description,
        )

    def _repeat_preview(self) -> None:
        if self.preview_button.isEnabled():
            self._on_preview()

    def _on_preview(self) -> None:
        self._repeater.stop()
        try:
            self.clear_errors()
            layer, config = self._shape(), self.config()
            volume = volume_from_layer(layer, self._viewer)
        except GeoSRError as error:
            self.show_failure(error)
            return
        centre = [float(n) for n in centre_of_view(self._viewer, layer)]

        def steps(stop: ShouldStop) -> Generator[Step, None, ShapePreview]:
            if isinstance(config, CompleteShapeConfig):
                return shapes.part_surface_steps(volume, config, stop)
            assert isinstance(config, RefineShapeConfig)
            return shapes.preview_steps(volume, config, centre, stop)

        self._start(
            _PREVIEW,
            steps,
            lambda found: self._on_previewed(found, layer),
            sources=[layer],
        )

    def _on_previewed(self, found: ShapePreview, layer: Labels) -> None:
        self.preview.show(found, layer)
        if self._progress.notes and not self._progress.warnings:
            self.message.show_message(" ".join(self._progress.notes))
        self._preview_message = self.message.text

    def _prepare(self) -> tuple[Labels | None, ShapeConfig]:
        """Return the layer of the shape or mask, if any, and remember the settings."""
        self.clear_errors()
        beyond = self.task.currentText() == SEGMENT and not self.region.is_mask
        layer, config = None if beyond else self._shape(), self.config()
        # Do not remember the label, which is valid for this layer only.
        kept = config.model_copy(update={"label": None})
        self.remember(kept, _settings_part(self.task.currentText()))
        return layer, config

    def _as_job(self, layer: Labels | None, config: ShapeConfig) -> StoppedShape:
        """Return the run as a job for another process."""
        scan = self._scan_for(layer) if isinstance(config, MaskFormConfig) else None
        return as_job(self._viewer, layer, config, scan)

    def _scan_for(self, mask: Labels | None) -> Image:
        """Return the layer of the scan, which must be aligned with its mask."""
        scan = self.scan.layer()
        assert scan is not None
        if mask is not None:
            check_same_transform(mask, scan)
        return scan

    def _run_elsewhere(self) -> StoppedShape:
        layer, config = self._prepare()
        warning = "" if layer is None else transform_warning(layer)
        if warning and isinstance(config, CompleteShapeConfig):
            self.show_warning(warning)
        return self._as_job(layer, config)

    def _on_run(self) -> None:
        self._repeater.stop()
        try:
            layer, config = self._prepare()
            volume = None if layer is None else volume_from_layer(layer, self._viewer)
            job = self._as_job(layer, config)
            what = f"Processing {job.input.volume.name}"
            self.handover.begin(_RUN, what, lambda: job)
            if isinstance(config, MaskFormConfig):
                self._segment(layer, volume, config)
            elif layer is not None and volume is not None:
                self._process(layer, volume, config)
        except GeoSRError as error:
            self.show_failure(error)

    def _process(
        self,
        layer: Labels,
        volume: Volume,
        config: RefineShapeConfig | CompleteShapeConfig,
    ) -> None:
        """Refine or complete the shape."""
        warning = transform_warning(layer)

        def steps(stop: ShouldStop) -> Generator[Step, None, ShapeLayer]:
            if isinstance(config, RefineShapeConfig):
                return (yield from shapes.refined_layer_steps(volume, config, stop))
            if warning:
                yield WarningIssued(message=warning)
            return (yield from shapes.completed_layer_steps(volume, config, stop))

        self._start(
            _RUN,
            steps,
            lambda made: self._on_made(made, layer),
            f"Processing {volume.name}",
            [layer],
        )

    def _segment(
        self, mask_layer: Labels | None, mask: Volume | None, config: MaskFormConfig
    ) -> None:
        """Segment the scan inside the mask, or beyond a threshold without one."""
        layer = self._scan_for(mask_layer)
        volume = volume_from_layer(layer, self._viewer)
        self._start(
            _RUN,
            lambda stop: shapes.segmented_layer_steps(volume, mask, config, stop),
            lambda made: self._on_segmented(made, layer),
            f"Segmenting {volume.name}",
            [layer] if mask_layer is None else [mask_layer, layer],
        )

    def _show_warnings(self, _latest: str) -> None:
        """Show all warnings of the run."""
        self.show_warning("\n".join(self._progress.warnings))

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, Cancelled) and self._removed:
            self.show_warning(self._removed)
        elif isinstance(error, Cancelled):
            self.message.show_message("Cancelled. No layer was added.")
        else:
            self.show_failure(error)

    # Results

    def _on_made(self, made: ShapeLayer, layer: Labels) -> None:
        self.preview.clear()
        labels, surface = add_shape(self._viewer, made, layer)
        # Set this last, because `_on_removed` releases a result without layers.
        self._made = made
        self._shown = (weakref.ref(labels), weakref.ref(surface))
        self.show_figures(made, made.volume.name)
        self._show_place(labels)

    def _on_removed(self, event: Event) -> None:
        """Cancel the run of a removed layer; release a result no longer shown."""
        removed: Layer = unwrapped(event.value)
        if self.activity.busy and any(source() is removed for source in self._sources):
            what = "preview" if self.activity.busy == _PREVIEW else "run"
            self._removed = (
                f"{removed.name!r} was removed, so the {what} was cancelled. No layer "
                "was added."
            )
            self.cancel()
        if self.preview.layer is None or self.preview.is_of(removed):
            self.preview.clear()
        layers = [reference() for reference in self._shown]
        if layers and not any(layer in self._viewer.layers for layer in layers):
            self._made, self._shown = None, ()
            self.results.setVisible(False)
            if not self.activity.busy:
                self.clear_errors()
            self.show_busy(self.activity.busy)

    def _on_segmented(self, made: SegmentedLayer, scan: Image) -> None:
        labels = add_segmentation(self._viewer, made, scan)
        # A segmentation has no surface to export.
        self._made, self._shown = None, (weakref.ref(labels),)
        self.show_labels(made, labels.name)
        self._show_place(labels)

    def _show_place(self, labels: Labels) -> None:
        """State which layer contains the result, unless there is a warning."""
        if not self._progress.warnings:
            place = f"The result is in the layer {labels.name!r}."
            self.message.show_message(place, "ok", " ".join(self._progress.notes))

    def _on_export(self) -> None:
        made = self._made
        if made is None:
            return
        shown = made.part if made.part is not None else made.volume
        if (path := ask_mesh_path(self, shown.name)) is not None:
            self.export(path)

    def export(self, path: Path) -> None:
        """Write the surface of the result, or of the completed part, as a mesh."""
        made = self._made
        if made is None:
            return
        self.clear_errors()
        labels, surface = (layer() for layer in self._shown)
        try:
            check_mesh_place(
                labels if labels in self._viewer.layers else None,
                surface if surface in self._viewer.layers else None,
                made.volume,
            )
        except VolumeError as error:
            self.show_failure(error)
            return

        def steps(_stop: ShouldStop) -> Generator[Step, None, tuple[MeshResult, bool]]:
            edited = labels is not None and (
                shapes.contents_of(labels.data) != made.contents
            )
            written = yield from shapes.surface_file_steps(made, path, overwrite=True)
            return written, edited

        self._start(_EXPORT, steps, lambda done: self._on_exported(*done))

    def _on_exported(self, result: MeshResult, edited: bool) -> None:
        is_fine = not result.warnings
        note = f" {EDITED}" if edited else ""
        self.message.show_message(
            f"Wrote {result.path}: {result.n_faces:,} triangles, in "
            f"{result.unit_in_words}. {result.coordinates} "
            f"{' '.join(result.sentences)}{note}",
            "ok" if is_fine and not edited else "warning",
        )
