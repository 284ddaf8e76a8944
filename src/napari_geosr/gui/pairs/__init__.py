"""The *Pairs* dock: aligns two scans, or simulates a low-resolution scan."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from qtpy.QtCore import QTimer

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError, FileError, GeoSRError, VolumeError
from napari_geosr.core.steps import Step
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.dock_tabs import TRAIN
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.layers.data_row import DataRow
from napari_geosr.gui.layers.geometry import is_rotated_against, origin_along
from napari_geosr.gui.pairs.layers import (
    finest_image,
    scans_for_a_pair,
    show_pair,
)
from napari_geosr.gui.pairs.steps import (
    BuiltPair,
    PairRequest,
    build_steps,
    free_folder,
)
from napari_geosr.gui.pairs.widgets import BUILT, IDLE, ONE, READY, TWO, PairsWidgets
from napari_geosr.gui.train import scenarios
from napari_geosr.operations.pairs.config import (
    DegradeConfig,
    PairsConfig,
    imaging_titles,
)
from napari_geosr.operations.pairs.quality import report_figures, report_notes

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image
    from qtpy.QtCore import QEvent

    from napari_geosr.gui.train import TrainDock
    from napari_geosr.operations.pairs import Pairs


#: Settings that apply to a single pair and are not remembered, with their defaults.
_NOT_REMEMBERED = {"offset": None, "upscale_factor": None}


class PairsChoices(Config):
    """Choices that the dock remembers in addition to the settings."""

    have: str = Field(
        TWO, title="Have", description="Most recently chosen type of data."
    )
    folder: Path | None = Field(
        None, title="Folder", description="Folder in which pairs are saved."
    )


class PairsDock(PairsWidgets):
    """Builds training pairs for super-resolution.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.
    """

    settings_name = "pairs"

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Import the imaging modalities that can be simulated."""
        yield from ()
        imaging_titles()

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self._progress = OperationProgress(
            self.progress_label.setText, show_bar=self.bar.show_progress
        )
        self._built: BuiltPair | None = None
        self._layers: AnyDict = {}
        self._source_layer: Any = None
        #: Whether the pair of the chosen scans has been built.
        self._is_done = False
        self._show_result(None)
        self.show_busy("")
        self._connect()
        self._recall()

    def _connect(self) -> None:
        self.have.currentTextChanged.connect(self._on_have)
        for row in (self.low, self.high):
            row.changed.connect(self._on_scans)
        self.build_button.clicked.connect(self._on_build)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.blink_button.toggled.connect(self._on_blink)
        self.train_button.clicked.connect(self._on_train)
        self._suggesting = QTimer(self)
        self._suggesting.setSingleShot(True)
        self._suggesting.timeout.connect(self._suggest)
        self.activity.idle.connect(self._on_idle)
        events = self._viewer.layers.events
        self.connections.connect(events.inserted, self._on_layers)
        self.connections.connect(events.removed, self._on_removed)

    # Choices

    def _recall(self) -> None:
        choices, error = self.recall(PairsChoices)
        aligning, error_aligning = self.recall(PairsConfig, "aligned")
        degrading, error_degrading = self.recall(DegradeConfig, "degraded")
        if error := error or error_aligning or error_degrading:
            self.message.show_error(error)
        if choices.folder is not None:
            self.folder.set_path(choices.folder)
        for form in (self.shared, self.aligning, self.rare):
            form.set_values(aligning.model_dump())
        self.imaging.set_kind(degrading.degrade, dict(degrading.options))
        self.have.setCurrentText(choices.have)
        self._on_have()

    def is_aligned(self) -> bool:
        """Whether two scans are to be aligned."""
        return str(self.have.currentText()) == TWO

    def _on_have(self, _text: str = "") -> None:
        self.show_kind(self.is_aligned())
        self._suggest()
        self._on_scans()

    def _on_scans(self) -> None:
        self._is_done = False
        self._enable()

    def _on_layers(self, _event: object = None) -> None:
        self._suggesting.start(0)

    def _on_removed(self, event: QEvent) -> None:
        layers = self._layers.items()
        self._layers = {k: la for k, la in layers if la is not event.value}
        self.blink_button.setEnabled({"before", "high"} <= self._layers.keys())
        self._on_layers()

    def _suggest(self) -> None:
        """Choose a layer with large voxels and one with small voxels, if possible."""
        rows = [self.low, self.high] if self.is_aligned() else [self.high]
        layers: list[Image] = scans_for_a_pair(self._viewer)
        if not self.is_aligned():
            finest = finest_image(self._viewer)
            layers = [] if finest is None else [finest]
        if not layers:
            return
        for row, layer in zip(rows, layers, strict=True):
            if not row.touched and row.layer() is not layer:
                row.combo.set_layer(layer)

    def config(self) -> PairsConfig | DegradeConfig:
        """Return the current settings.

        Raises
        ------
        ConfigError
            If one of them is invalid.
        """
        shared = self.shared.values()
        if self.is_aligned():
            return PairsConfig.create(
                **shared, **self.aligning.values(), **self.rare.values()
            )
        return DegradeConfig.create(
            **shared, degrade=self.imaging.kind(), options=self.imaging.changed_values()
        )

    def request(self) -> PairRequest:
        """Return the request for the pair that would be built now.

        Raises
        ------
        GeoSRError
            If the scans or the settings are invalid.
        """
        config = self.config()
        high = _single_part(self.high)
        low = like = None
        if self.is_aligned():
            low = _single_part(self.low)
            same = (
                self.low.layer() is not None and self.low.layer() is self.high.layer()
            )
            if same or (isinstance(low, Path) and low == high):
                raise ConfigError("Choose two different scans.")
            low = _placed_beside(low, self.low.layer(), self.high.layer())
        elif not self.like.is_empty():
            like = _single_part(self.like)
        name = high.stem if isinstance(high, Path) else high.name
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
        folder = free_folder(self.folder.path, safe.strip("_") or "pair")
        return PairRequest(high, low, like, config, folder)

    # Actions

    def _on_build(self) -> None:
        self.clear_errors()
        self.data_message.clear()
        self._progress.restart()
        try:
            request = self.request()
            self._remember(request.config)
        except GeoSRError as error:
            if fields := self.show_in_fields(error):
                self.scroller.show_part(fields[0])
            else:
                self._show_below_scans(error)
            return
        self._show_result(None)
        self._source_layer = (self.low if self.is_aligned() else self.high).layer()
        self.activity.start(
            "build",
            lambda stop: build_steps(request, stop),
            self._on_built,
            on_step=self._progress.show_step,
            on_error=self._on_error,
            description=f"Building {request.folder.name}",
        )

    def _on_error(self, error: Exception) -> None:
        """Show why no pair was built, below the fields or scans that are invalid."""
        if self.show_in_fields(error) or not isinstance(error, FileError | VolumeError):
            self.show_failure(error)
        else:
            self._show_below_scans(error)

    def _show_below_scans(self, error: Exception) -> None:
        self.data_message.show_error(self.reworded(error))
        self.scroller.show_part(self.data_message)

    def settings_forms(self) -> list[ConfigForm]:
        """Return the forms with the settings of the pair, from top to bottom."""
        own = (self.aligning, self.rare) if self.is_aligned() else (self.imaging.form,)
        return [form for form in (self.shared, *own) if form is not None]

    def _remember(self, config: PairsConfig | DegradeConfig) -> None:
        have = TWO if isinstance(config, PairsConfig) else ONE
        self.remember(PairsChoices(have=have, folder=self.folder.path))
        lasting = config.model_copy(
            update={k: v for k, v in _NOT_REMEMBERED.items() if hasattr(config, k)}
        )
        aligned = isinstance(config, PairsConfig)
        self.remember(lasting, "aligned" if aligned else "degraded")

    def _on_cancel(self) -> None:
        self.progress_label.setText("Stopping…")
        self.activity.cancel()

    def _on_blink(self, before: bool) -> None:
        """Show the high-resolution scan before or after its alignment."""
        for key, shown in (("before", before), ("high", not before)):
            layer = self._layers.get(key)
            if layer is not None:
                layer.visible = shown

    def _on_train(self) -> None:
        if self._built is not None:
            pairs = self._built.pairs
            open_dock(self._viewer, TRAIN, lambda train: send_to_train(train, pairs))

    # Results

    def _on_built(self, built: BuiltPair) -> None:
        over = self._source_layer if self._source_layer in self._viewer.layers else None
        self._layers = show_pair(self._viewer, built, over)
        self._show_result(built)
        self.scroller.show_part(self.train_button)
        message = f"The pair is in {built.pairs.files['low'].parent}."
        warnings = self._progress.warnings
        kind = "warning" if warnings else "ok"
        self.message.show_message(" ".join([*warnings, message]), kind)

    def _on_idle(self) -> None:
        self._source_layer = None

    def _show_result(self, built: BuiltPair | None) -> None:
        self._built, self._is_done = built, built is not None
        is_aligned = built is not None and "before" in built.layers
        if built is None:
            self._layers = {}
        report = {} if built is None else built.pairs.report
        self.figures.set_figures(report_figures(report) if report else [])
        self.figures.setVisible(bool(report))
        notes = report_notes(report) if report else []
        self.result_notes.setText(" ".join(notes))
        self.result_notes.setVisible(bool(notes))
        self.train_button.setVisible(built is not None)
        self.blink_button.blockSignals(True)
        self.blink_button.setChecked(False)
        self.blink_button.blockSignals(False)
        self.blink_button.setEnabled(is_aligned)
        self.blink_button.setVisible(is_aligned)

    def show_busy(self, what: str) -> None:
        busy = bool(what)
        self._enable()
        self.cancel_button.setEnabled(busy)
        self.progress.setVisible(busy)
        self.progress.setRange(0, 0 if busy else 1)
        self.progress_label.setText("Reading the scans…" if busy else "")

    def _enable(self) -> None:
        """Enable *Build pair* once the scans are chosen, and show the next step."""
        rows = [self.low, self.high] if self.is_aligned() else [self.high]
        chosen = not any(row.is_empty() for row in rows)
        self.build_button.setEnabled(chosen and not self.activity.busy)
        if self._is_done:
            self.bar.set_next(BUILT, self.train_button)
        else:
            self.bar.set_next(READY if chosen else IDLE, self.build_button)


def _single_part(row: DataRow) -> Path | Volume:
    """Return the file or layer of a row.

    Raises
    ------
    GeoSRError
        If there is none or more than one.
    """
    parts = row.parts()
    if len(parts) > 1:
        raise ConfigError(f"{row.name}: choose one file, not {len(parts)}.")
    return parts[0]


def _placed_beside(
    low: Path | Volume, layer: Image | None, other: Image | None
) -> Path | Volume:
    """Return a scan; its origin is given along the axes of the layer aligned with it.

    Raises
    ------
    VolumeError
        If both are layers and are rotated relative to each other.
    """
    if layer is None or other is None or isinstance(low, Path):
        return low
    if is_rotated_against(layer, other):
        raise VolumeError(
            f"{layer.name!r} and {other.name!r} are rotated, sheared or mirrored "
            "relative to each other in napari, which the alignment does not take into "
            "account. Reset the rotation and shear of both layers; the alignment "
            "itself finds rotations up to the maximum search angle."
        )
    return low.replace(origin=origin_along(layer, other))


_METHOD = "supervised"


def send_to_train(dock: TrainDock, pairs: Pairs) -> None:
    """Choose the files of a pair in the Train dock.

    Raises
    ------
    GeoSRError
        If the files cannot be read.
    """
    report = pairs.report
    factor = int(report["upscale_factor"])
    is_flat = report["dimensions"] == "2D" or len(report["low"]["shape"]) == 2
    known = scenarios.training_scenarios()
    index = scenarios.find(known, _METHOD, "finer" if factor > 1 else "")
    dock.have.setCurrentIndex(index)
    dock.method.setCurrentText(_METHOD)
    settings: AnyDict = {"dimensions": "2D"} if is_flat else {}
    if factor > 1:
        settings = {
            "upscale_factor": factor,
            "network": "light_sr",
            "dimensions": "2D" if is_flat else "3D",
        }
    dock.settings.adopt(settings)
    rows = {row.name: row for row in dock.findChildren(DataRow)}
    for name, key in zip(known[index].names, ("low", "high"), strict=True):
        rows[name].set_files((pairs.files[key],))
