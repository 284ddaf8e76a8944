"""A section that plans how many spots of a sample to scan, and shows where."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import Cancelled, ConfigError, GeoSRError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.form import FieldFaults, texts_by_field
from napari_geosr.gui.kit.lists import FiguresTable
from napari_geosr.gui.kit.option_words import in_words_of_dock
from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.widgets import Section, form_layout, text_label
from napari_geosr.gui.layers import (
    chosen_position,
    volume_from_layer,
)
from napari_geosr.gui.layers.contents import EditWatch
from napari_geosr.gui.layers.saving import confirm_overwrite
from napari_geosr.gui.porosity.drawn_sample import sample_volume
from napari_geosr.gui.porosity.linked.spots import SpotLayers
from napari_geosr.gui.porosity.measured_layers import (
    MeasuredInputs,
    MeasuredLayers,
    NoteWords,
)
from napari_geosr.gui.porosity.measuring import edit_warning, without_voxels
from napari_geosr.gui.porosity.pore_layers import position_text
from napari_geosr.gui.porosity.settings import PorositySettings
from napari_geosr.operations.measure.grey_levels import one_volume
from napari_geosr.operations.measure.mask import align_mask
from napari_geosr.operations.measure.planning import (
    SIZE_TITLES,
    SIZES_HEADING,
    PlanConfig,
    ScanPlan,
    plan_files,
    plan_record,
    plan_steps,
    write,
)

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

    from napari_geosr.core.volume import Volume
    from napari_geosr.gui.porosity.preview.levels_reader import LevelsReader

#: Values of the setting *Scan shows*, keyed by the text of the menu entry.
_SCANS = {"whole sample": "whole", "one spot": "spot"}
#: Words for the same choices in the description of a plan.
_SHOWN = {"whole sample": "the whole sample", "one spot": "one spot"}
_SIZES = (
    "For other spot sizes: number of spots needed, and fraction of the sample scanned."
)
_POWER = (
    "Power of the scanner in kW; with the hours per spot, adds energy and CO2eq to the "
    f"plan ({PlanConfig().kilograms_per_kilowatt_hour:g} kg of CO2eq per kWh)."
)
#: Command-line option for the second entry, and its wording in messages of the dock.
_ONE_SPOT = ("(--scan spot)", "(Scan shows: one spot)")
#: Wording of the note about an outdated plan.
_WORDS = NoteWords("This plan", "belongs", "plan", "Press Plan scan to plan")


class PlanSection(QWidget):
    """Fields for spot size and precision; the plan as text and as a layer of spots.

    Signals
    -------
    requested
        The button was clicked.
    planned
        A plan is shown.
    exported : str
        Message about the files that were written.
    failed : object
        Error that ended the export.
    """

    requested = Signal()
    planned = Signal()
    exported = Signal(str)
    failed = Signal(object)

    def __init__(
        self, viewer: napari.viewer.Viewer, settings: PorositySettings
    ) -> None:
        super().__init__()
        self._viewer, self._settings = viewer, settings
        self._scanned: tuple[weakref.ref[Layer], Volume] | None = None
        self._position: dict[str, int] = {}
        self._layers = MeasuredLayers(viewer, lambda _key: iter(()), self, _WORDS)
        self._layers.changed.connect(self._on_layers)
        self._inputs: MeasuredInputs | None = None
        self._made: _MadePlan | None = None
        self._exporting = Activity(self)
        self._edits, self._edited = EditWatch(self), ""
        self._spots = SpotLayers(viewer, self)
        self.spot = QLineEdit("10%")
        self.precision = QLineEdit("5%")
        self.scan = QComboBox()
        self.scan.addItems(list(_SCANS))
        self.hours, self.kilowatts = QLineEdit(), QLineEdit()
        self.button = QPushButton("Plan scan")
        self.text = text_label("Scan requested", "What the plan was made for.")
        self.figures = FiguresTable("Scan plan", "The plan for the chosen image.")
        self.sizes_title = text_label("Other spot sizes", _SIZES, SIZES_HEADING)
        #: Table of other spot sizes, and a note on it.
        self.sizes = FiguresTable("Table of other spot sizes", _SIZES)
        self.sizes_note = text_label("About other spot sizes", _SIZES)
        self.export_button = QPushButton("Export plan…")
        #: States why the plan is outdated; hidden if it is up to date.
        self.stale_note = text_label("About the plan", "")
        self.stale_note.setVisible(False)
        self._lay_out()
        #: Fields by the name of the setting, and their contents when the plan was made.
        self._editors = {
            "spot": self.spot,
            "precision": self.precision,
            "hours_per_spot": self.hours,
            "kilowatts": self.kilowatts,
        }
        self._faults = FieldFaults(self._rows)
        self._before = self._requested()
        for editor in self._editors.values():
            editor.textChanged.connect(self._on_edited)
        self.scan.currentIndexChanged.connect(self._on_edited)
        self.button.clicked.connect(self.requested)
        self.export_button.clicked.connect(self.export)
        self._exporting.failed.connect(self.failed)
        self._exporting.idle.connect(self._show_plan)
        self._show_plan()
        settings.image.layerChanged.connect(self._on_image)
        self._show_whether_possible()
        self.section = Section(
            "How much to scan",
            self,
            tool_tip="Number, size and positions of the high-resolution scans (spots) "
            "needed to measure the porosity precisely.",
            shortcut="Alt+Shift+H",
        )

    def _lay_out(self) -> None:
        fields = PlanConfig.model_fields
        rows = (
            ("Spot", self.spot, fields["spot"].description),
            ("Precision", self.precision, fields["precision"].description),
            ("Scan shows", self.scan, fields["scan"].description),
            ("Hours per spot", self.hours, fields["hours_per_spot"].description),
            ("Power (kW)", self.kilowatts, _POWER),
        )
        for editor in (self.hours, self.kilowatts):
            show_placeholder(editor, "optional")
        form = self._rows = form_layout()
        for title, widget, description in rows:
            label = QLabel(title)
            label.setBuddy(widget)
            widget.setToolTip(description or "")
            widget.setAccessibleName(title)
            form.addRow(label, widget)
        self.button.setToolTip(
            "Calculate how many spots are needed for the chosen image, and show them."
        )
        self.button.setAccessibleName("Plan scan")
        self.export_button.setToolTip(
            "Write the plan, the table of other spot sizes and the positions of the "
            "spots as JSON and CSV."
        )
        self.export_button.setAccessibleName("Export plan")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.button)
        layout.addWidget(self.stale_note)
        layout.addWidget(self.text)
        layout.addWidget(self.figures)
        layout.addWidget(self.sizes_title)
        layout.addWidget(self.sizes)
        layout.addWidget(self.sizes_note)
        layout.addWidget(self.export_button)

    def _show_whether_possible(self) -> None:
        """Disable the button while there is no image to plan from."""
        self.button.setEnabled(self._settings.image.layer() is not None)

    def _on_image(self) -> None:
        """Clear the plan of another image."""
        self._show_whether_possible()
        if not self._is_of_chosen_image():
            self._made = None
            self._show_plan()
        self.mark()

    def follow(self, levels: LevelsReader) -> None:
        """Compare the inputs of plans with these grey values and this sample."""
        self._inputs = MeasuredInputs(levels, self._settings, _WORDS)

    def mark(self) -> None:
        """Show a note if the plan does not match the current image and settings."""
        note = ""
        if self._made is not None and self._inputs is not None:
            chosen = self._settings.image.layer()
            note = self._layers.note(chosen) or self._edited or self._inputs.note()
            note = note or self._changed_setting()
        self.stale_note.setText(f"\N{WARNING SIGN} {note}" if note else "")
        self.stale_note.setVisible(bool(note))

    def _on_layers(self) -> None:
        """Put the spots where their image is."""
        self._spots.align()
        self.mark()

    def _requested(self) -> dict[str, str]:
        """Return the contents of the fields, keyed by their names in sentences."""
        return {
            "spot": self.spot.text().strip(),
            "precision": self.precision.text().strip(),
            "type of scan": self.scan.currentText(),
            "scan time per spot": self.hours.text().strip(),
            "power": self.kilowatts.text().strip(),
        }

    def _changed_setting(self) -> str:
        """Return a note if a field has changed since the plan; empty if none has."""
        now = self._requested().items()
        changed = [name for name, value in now if value != self._before[name]]
        if not changed:
            return ""
        were = "was" if len(changed) == 1 else "were"
        return _WORDS.changed(f"The {' and '.join(changed)} {were}")

    def _on_edited(self, _value: object) -> None:
        self.clear_faults()
        self.mark()

    def show_faults(self, error: Exception) -> list[QWidget]:
        """Show an error below the fields that it concerns, and return these fields."""
        self.clear_faults()
        texts, shown = texts_by_field(error), list[QWidget]()
        for name in self._editors.keys() & texts.keys():
            text = in_words_of_dock(texts[name].replace(*_ONE_SPOT), self)
            self._faults.add(name, self._editors[name], text)
            shown.append(self._editors[name])
        return shown

    def clear_faults(self) -> None:
        """Remove the errors below the fields."""
        self._faults.clear()

    @property
    def faults(self) -> dict[str, str]:
        """Errors below the fields, by the name of the setting."""
        return self._faults.texts

    def image(self) -> Layer | None:
        """Return the image of the latest plan, if it still exists."""
        return None if self._scanned is None else self._scanned[0]()

    def _is_of_chosen_image(self) -> bool:
        scanned = self.image()
        return scanned is not None and scanned is self._settings.image.layer()

    def config(self) -> PlanConfig:
        """Return the settings of a plan.

        Raises
        ------
        ConfigError
            If the text of a field is invalid.
        """
        measuring = self._settings.config()
        hours, kilowatts = self.hours.text().strip(), self.kilowatts.text().strip()
        if kilowatts and not hours:
            raise ConfigError(
                "The energy depends on the scan time: enter the hours per spot as well "
                "as the power.",
                fields=["hours_per_spot"],
            )
        return PlanConfig.create(
            spot=self.spot.text(),
            precision=self.precision.text(),
            scan=_SCANS[self.scan.currentText()],
            hours_per_spot=hours or None,
            kilowatts=kilowatts or None,
            threshold=measuring.threshold,
            phase=measuring.phase,
            local_window=measuring.local_window,
            hysteresis=measuring.hysteresis,
            sample_mask=measuring.sample_mask,
            mask_closing=measuring.mask_closing,
            connectivity=measuring.connectivity,
            memory=measuring.memory,
        )

    def start(
        self,
        activity: Activity,
        on_step: Callable[[Step], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Plan the spots from the chosen image, in a worker."""
        layer, mask = self._settings.image.layer(), self._settings.sample.layer()

        def fail(error: Exception) -> None:
            self._edits.end()
            if not isinstance(error, Cancelled):
                self._clear(layer)
            on_error(error)

        try:
            if layer is None:
                raise ConfigError("No layer is selected. Open an image first.")
            config = self.config()
            volume = volume_from_layer(layer, self._viewer)
            sample = sample_volume(mask, layer, self._viewer)
            if sample is not None:
                align_mask(sample, one_volume(volume))  # refuses a misfit
        except GeoSRError as error:
            fail(error)
            return
        self._scanned = (weakref.ref(layer), without_voxels(volume))
        self._position = chosen_position(layer, self._viewer)
        if self._inputs is not None:
            self._inputs.begin(config)
        request = self._request_text(config, mask)
        self._edits.begin([layer, mask])
        activity.start(
            "plan",
            lambda should_stop: _recorded_steps(volume, config, sample, should_stop),
            partial(self._show, self._requested(), request),
            on_step=on_step,
            on_error=fail,
            description=f"Planning scans of {layer.name}",
        )

    def _request_text(self, config: PlanConfig, mask: Layer | None) -> str:
        """Return what a plan refers to: settings, sample, time point and channel."""
        given = config.threshold
        threshold = given.title() if isinstance(given, str) else f"{given:g}"
        sample = "no sample mask"
        if mask is not None:
            sample = f"sample {mask.name!r}"
        elif config.sample_mask != "none":
            sample = f"sample {config.sample_mask}"
        fields = {"spot": self.spot, "precision": self.precision}
        sizes = {name: f.text().replace("%", " %") for name, f in fields.items()}
        parts = [
            *(f"{name} {' '.join(value.split())}" for name, value in sizes.items()),
            f"scan of {_SHOWN[self.scan.currentText()]}",
            f"threshold {threshold}",
            sample,
            position_text(self._position),
        ]
        return f"Planned for: {', '.join(part for part in parts if part)}"

    def _clear(self, layer: Layer | None) -> None:
        """Remove the plan and the spots of an image, because a new plan failed."""
        self._made = None
        self._show_plan()
        self.mark()
        if layer is not None:
            self._spots.remove(layer)

    def _show(self, requested: dict[str, str], request: str, made: _MadePlan) -> None:
        """Show the plan if its image is chosen, and the spots if its layer is open."""
        self._before, edited = requested, self._edits.end()
        self._edited = edit_warning(edited, "plan", "this plan", _WORDS.again)
        made = replace(made, request=request)
        self._made = made if self._is_of_chosen_image() else None
        self._show_plan()
        self.planned.emit()
        assert self._scanned is not None
        reference, volume = self._scanned
        if self._inputs is not None:
            self._inputs.finish()
        scans = PlannedScans({"data": volume}, {"data": self._position})
        self._layers.set_measured(scans, {"data": reference})
        self.mark()
        layer = reference()
        if layer is not None and layer in self._viewer.layers:
            self._spots.replace(layer, volume, self._position, made.plan)

    def _show_plan(self) -> None:
        """Show the latest plan, or nothing if there is none of the chosen image."""
        made, note = self._made, ""
        if made is not None:
            note = made.plan.size_note
            self.figures.set_figures(made.plan.figures())
            self.sizes.set_columns(SIZE_TITLES, made.plan.size_rows())
        self.text.setText("" if made is None else made.request)
        self.sizes_note.setText(note)
        self.sizes_note.setVisible(bool(note))
        for widget in (self.text, self.figures, self.sizes_title, self.sizes):
            widget.setVisible(made is not None)
        self.export_button.setVisible(made is not None)
        self.export_button.setEnabled(not self._exporting.busy)

    def export(self) -> None:
        """Ask for a folder, then write the files of the plan in a worker."""
        made = self._made
        if made is None:
            return
        chosen = QFileDialog.getExistingDirectory(self, "Folder for the plan")
        if not chosen:
            return
        files = plan_files(chosen)
        existing = [path.name for path in files.values() if path.exists()]
        if existing and not confirm_overwrite(self, Path(chosen), existing):
            return

        def steps(_stop: ShouldStop) -> Generator[Step, None, str]:
            yield StageStarted(message="Writing the plan")
            write(
                files,
                made.volume,
                made.plan,
                made.config,
                record=made.record,
                overwrite=True,
            )
            return f"The plan is in {chosen}."

        self.export_button.setEnabled(False)
        self._exporting.start("export", steps, self.exported.emit)


def _recorded_steps(
    volume: Volume, config: PlanConfig, mask: Volume | None, should_stop: ShouldStop
) -> Generator[Step, None, _MadePlan]:
    """Make a plan and its provenance record, for which the voxels are needed."""
    plan = yield from plan_steps(volume, config, mask, should_stop=should_stop)
    yield StageStarted(message="Saving the record of the plan")
    record = plan_record(volume, config, mask)
    return _MadePlan(plan, config, record, without_voxels(volume))


@dataclass(frozen=True)
class _MadePlan:
    """A plan with everything that its files contain."""

    plan: ScanPlan
    config: PlanConfig
    record: AnyDict
    #: The scan, without voxels.
    volume: Volume
    #: What was requested, in words.
    request: str = ""


@dataclass(frozen=True)
class PlannedScans:
    """The volume from which a plan was made, without voxels, and its time point."""

    volumes: Mapping[str, Volume]
    origins: Mapping[str, AnyDict]
