"""The Train dock: choose data and method, train, follow and use the model."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from qtpy.QtCore import QTimer

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError, FileError, GeoSRError, VolumeError
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.jobs.cluster import RunEstimate
from napari_geosr.gui.jobs.start import TrainingPlan, start_steps, time_steps
from napari_geosr.gui.kit.dock_tabs import JOBS
from napari_geosr.gui.kit.form import error_in_fields, texts_by_field
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.plots.chart import load_pyqtgraph
from napari_geosr.gui.kit.progress import OperationProgress, format_estimate
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers.data_row import (
    DataRow,
    add_data_row,
    check_layers,
    names_of_empty_rows,
    suggest,
)
from napari_geosr.gui.layers.position import plane_on_screen
from napari_geosr.gui.train import scenarios
from napari_geosr.gui.train.data_check import SETTINGS, DataCheck, DataQuestion
from napari_geosr.gui.train.method_settings import TUNED, tune_steps
from napari_geosr.gui.train.widgets import (
    CORRECT_ABOVE,
    CORRECT_FIELD,
    NO_ESTIMATE,
    TrainWidgets,
)
from napari_geosr.io.formats import formats
from napari_geosr.jobs.estimate import TrainingEstimate
from napari_geosr.jobs.folder import ALIVE, JobFolder
from napari_geosr.jobs.naming import taken_names
from napari_geosr.operations.train import config_class, needs, networks, roles
from napari_geosr.operations.train.name import proposed_name

if TYPE_CHECKING:
    import napari.viewer
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QWidget

_OUTDATED = "Estimate: out of date because the data or settings have changed"
_TIMING = "Estimate: timing a few steps…"
_CONTINUES = "Training continues after napari is closed. You will find it under Jobs."
#: Text of the status line when an operation starts.
_WORKING = {
    "read": "Reading the initial model…",
    "estimate": "Timing a few steps…",
    "start": "Checking settings and data…",
}
_KEYS = (("1", "2"), ("3", "4"), ("5", "6"))


class TrainChoices(Config):
    """Choices that the dock remembers in addition to the settings of a method."""

    method: str = Field("noise2noise", title="Method", description="Method used last.")
    use: str = Field(
        "",
        title="Use",
        description=(
            "What the selected layer is used for in training, if there is more than "
            "one choice."
        ),
    )
    folder: Path | None = Field(
        None, title="Folder", description="Folder in which jobs are saved."
    )


class TrainDock(TrainWidgets):
    """Trains a model on the user's data in a separate process.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.
    """

    settings_name = "train"

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        self._scenarios = scenarios.training_scenarios()
        super().__init__(napari_viewer, [scenario.text for scenario in self._scenarios])
        self._progress = OperationProgress(self.bar.state.setText)
        self._rows: dict[str, DataRow] = {}
        self._used_layers: list[weakref.ref[Any]] = []
        self._removed_layer = ""
        self._revision = 0
        self._taken: set[str] = set()
        self._naming: BackgroundTask | None = None
        self.show_busy("")
        self._connect()
        self._recall()
        self._list_names()

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Import all methods and the chart modules; list the networks."""
        yield StageStarted(message="Reading the methods")
        needs()
        networks()
        formats()  # needed later to omit file suffixes from proposed names
        load_pyqtgraph()

    def _connect(self) -> None:
        self.have.currentIndexChanged.connect(self._on_have)
        self.method.currentIndexChanged.connect(self._on_method)
        self.estimate_button.clicked.connect(self._on_estimate)
        self.start_button.clicked.connect(self._on_start)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.jobs_button.clicked.connect(self._on_jobs)
        self.cluster.set_run(self._checked_plan, self.start_button)
        self.view.fineTune.connect(self.fine_tune)
        self.view.progressed.connect(self._on_progress)
        self.view.stateChanged.connect(self._on_job_state)
        self.view.nextChanged.connect(self.mark_next)
        self.offer.resumed.connect(self._watch_job)
        self.advanced.button.toggled.connect(self.settings.list_models)
        self.settings.changed.connect(self._on_settings)
        self.settings.failed.connect(self.message.show_error)
        self._data_check = DataCheck(self._data_question, self)
        self._data_check.changed.connect(self._show_warnings)
        self._suggesting = QTimer(self)
        self._suggesting.setSingleShot(True)
        self._suggesting.timeout.connect(self._suggest)
        events = self._viewer.layers.events
        self.connections.connect(events.inserted, self._on_layers)
        self.connections.connect(events.removed, self._on_removed)

    # Choices

    def _recall(self) -> None:
        choices, error = self.recall(TrainChoices)
        if error is not None:
            self.message.show_error(error)
        if choices.folder is not None:
            self.folder.set_path(choices.folder)
        index = scenarios.find(self._scenarios, choices.method, choices.use)
        self.have.setCurrentIndex(index)
        self._on_have(index)
        if choices.method in self._scenarios[index].methods:
            self.method.setCurrentText(choices.method)

    def _on_have(self, index: int) -> None:
        self.method.blockSignals(True)
        self.method.clear()
        self.method.addItems(list(self._scenarios[index].methods))
        self.method.blockSignals(False)
        self._on_method()

    def _on_method(self, _index: int = 0) -> None:
        method = self.method.currentText()
        need = needs()[method]
        self.need.setText(f"Needs {need}.")
        self._make_rows(method)
        scenario = self._scenarios[self.have.currentIndex()]
        self.settings.show_method(
            method, scenario.use, scenario.defaults.get(method, {})
        )
        self._on_settings()

    def _make_rows(self, method: str) -> None:
        """Create one row for each set of volumes that the method reads."""
        scenario = self._scenarios[self.have.currentIndex()]
        while self._data.rowCount():
            self._data.removeRow(0)
        self._rows = {}
        for i, role in enumerate(roles(method)):
            name = scenario.names[i] if i < len(scenario.names) else role.capitalize()
            row = DataRow(
                self._viewer,
                name,
                keys=_KEYS[i],
                several=scenario.several and i == 0,
                labels=scenario.takes_labels and role == "target",
            )
            row.changed.connect(self._on_settings)
            row.partner = self._rows.get("source")
            add_data_row(self._data, name, row)
            self._rows[role] = row
        self._suggest()

    def fine_tune(self, job: Path) -> None:
        """Fill the dock for a training run that starts from the model of a job."""
        if self.activity.busy:
            self.message.show_message(
                "Preparation is still running. Wait, or cancel it."
            )
            return
        try:
            folder = JobFolder(job)
            values, bundle = folder.values(), folder.status().result
            if bundle is None:
                raise ConfigError(f"{folder.path.name} has not produced a model yet.")
        except GeoSRError as error:
            self.message.show_error(error)
            return
        self.activity.start(
            "read",
            lambda _stop: tune_steps(bundle, values.get("method")),
            partial(self._on_tuning, values),
            on_step=self._progress.show_step,
            on_error=self._on_error,
        )

    def _on_tuning(self, values: AnyDict, settings: AnyDict) -> None:
        method = str(values.get("method"))
        use = "labels" if "labels" in settings else ""
        self.have.setCurrentIndex(scenarios.find(self._scenarios, method, use))
        self.method.setCurrentText(method)
        training = dict(values.get("training", {}))
        name = str(training.pop("name", "mine"))
        self.settings.adopt(training | settings | {"name": f"{name}{TUNED}"})
        self.advanced.set_open(True)
        self.message.show_message(
            f"Training starts from {name}. Choose the data, then press Start."
        )

    def _on_layers(self, _event: object = None) -> None:
        self._suggesting.start(0)

    def _on_removed(self, event: QEvent) -> None:
        # Do not look for the layer in the rows, which may have released it already.
        if any(ref() is event.value for ref in self._used_layers):
            self._removed_layer = event.value.name
        self._on_layers()

    def _suggest(self) -> None:
        suggest(list(self._rows.values()), self._viewer)
        self._show_missing()

    def _show_warnings(self) -> None:
        """Show data warnings in their own row, independently of errors."""
        if self._data_check.text:
            self.warnings_message.show_message(self._data_check.text, "warning")
        else:
            self.warnings_message.clear()

    def _show_missing(self) -> None:
        """Show what has to be chosen again after a layer was removed."""
        names = names_of_empty_rows(list(self._rows.values()))
        if not (self._removed_layer and names):
            self._removed_layer = ""
            self.data_message.clear()
            return
        self.data_message.show_message(
            f"{self._removed_layer!r} was removed. Choose another layer or a file as "
            f"{' and '.join(names).lower()}.",
            "warning",
        )

    def _on_settings(self, *_: object) -> None:
        """Clear the estimate and errors, which are outdated once settings change."""
        self._revision += 1
        self.cluster.set_estimate(None)
        chosen = [row.layer() for row in self._rows.values()]
        self._used_layers = [
            weakref.ref(layer) for layer in chosen if layer is not None
        ]
        # While an estimate runs, leave the text: `_on_estimated` checks the revision.
        if self.estimate.text() not in (NO_ESTIMATE, _TIMING):
            self.estimate.setText(_OUTDATED)
        self._clear_faults()
        self._show_missing()
        self.show_busy(self.activity.busy)
        self._data_check.check_soon()
        self._propose_name()

    def _data_question(self) -> DataQuestion | None:
        """Return the chosen training data, for the data check."""
        rows, method = self._rows.items(), self.settings.method
        values = self.settings.values()
        try:
            # Other settings may be invalid, but the check does not depend on them.
            relevant = {name: values[name] for name in SETTINGS if name in values}
            training = config_class(method).create(**relevant)
            data = {role: row.parts() for role, row in rows if not row.is_empty()}
        except GeoSRError:
            return None  # shown when *Start* is pressed
        identity = tuple(row.identity() for _, row in rows)
        question = DataQuestion(method, training, data, identity)
        return question if "source" in data else None

    def _list_names(self) -> None:
        """List, in a worker, the names already used by models and training runs."""
        self._naming = BackgroundTask(
            lambda _stop: _taken_names_steps(), owner=self, on_result=self._on_names
        )

    def _on_names(self, names: set[str]) -> None:
        self._taken = names
        self._propose_name()

    def _propose_name(self) -> None:
        """Propose a model name based on the data, unless the user has set one."""
        source = self._rows.get("source")
        name = "" if source is None else source.first_name()
        method = self.method.currentText()
        self.settings.propose(
            proposed_name(method, [name] if name else [], self._taken)
        )

    # Actions

    def plan(self) -> TrainingPlan:
        """Return the training run described by the current settings.

        Raises
        ------
        GeoSRError
            If a setting is invalid; the message is shown below the field.
        """
        method, settings = self.settings.method, self.settings.values()
        if settings["preview_slice"] is None:
            settings["preview_slice"] = self._slice_on_screen()
        try:
            config_class(method).create(**settings)
        except ConfigError as error:
            self._show_at_field(error)
            raise
        try:
            data = {role: row.parts() for role, row in self._rows.items()}
            check_layers(list(self._rows.values()))
            plan = TrainingPlan(method, settings, data)
        except GeoSRError as error:
            self._show_at_field(error)
            raise
        return plan

    def _slice_on_screen(self) -> int | None:
        row = self._rows.get("source")
        layer = None if row is None else row.layer()
        if layer is None or layer.ndim < 3:
            return None
        axis = layer.ndim - 3
        return plane_on_screen(self._viewer, layer, axis, layer.data.shape[axis])

    def _show_at_field(self, error: Exception) -> None:
        """Show an error below the field that it concerns."""
        reworded = self._in_fields(error)
        of_data = isinstance(error, FileError | VolumeError)
        faults = [] if of_data else self._show_faults(error)
        self.to_correct = CORRECT_FIELD if faults else CORRECT_ABOVE
        self.show_busy(self.activity.busy)
        if faults:
            self.scroller.show_part(faults[0])
            return
        words = ("source", "target", "a layer", "different layers")
        if of_data or any(word in str(error) for word in words):
            self.data_message.show_error(reworded)
            return
        self.settings_message.show_error(reworded)
        self.advanced.set_open(True)

    def _show_faults(self, error: Exception) -> list[QWidget]:
        """Show the parts of an error below their fields; return these fields."""
        editors = {"name": self.name, "steps": self.steps}
        texts = texts_by_field(error)
        shown: list[QWidget] = []
        for field, editor in editors.items():
            if field in texts:
                self.name_faults.add(field, editor, texts[field])
                shown.append(editor)
        if others := self.settings.show_faults(error):
            self.advanced.set_open(True)
        return shown + others

    def _in_fields(self, error: Exception) -> Exception:
        """Return the error with titles of fields in place of code names and options."""
        form = self.settings.form
        return error if form is None else error_in_fields(error, [form])

    def _clear_faults(self) -> None:
        self.to_correct = ""
        self.settings_message.clear()
        self.name_faults.clear()
        self.settings.clear_faults()

    def _on_estimate(self) -> None:
        plan = self._checked_plan()
        if plan is None:
            return
        folder, revision = self.folder.path, self._revision
        self.estimate.setText(_TIMING)
        self.activity.start(
            "estimate",
            lambda stop: time_steps(plan, folder, should_stop=stop),
            partial(self._on_estimated, revision),
            on_step=self._progress.show_step,
            on_error=self._on_not_estimated,
        )

    def _on_start(self) -> None:
        plan = self._checked_plan()
        if plan is None:
            return
        folder, name = self.folder.path, str(plan.settings["name"])
        self.activity.start(
            "start",
            lambda stop: start_steps(plan, folder, name, should_stop=stop),
            partial(self._on_started, plan, self.settings.is_named),
            on_step=self._progress.show_step,
            on_error=self._on_not_started,
        )

    def _on_started(self, plan: TrainingPlan, named: bool, job: Path) -> None:
        self._watch_job(job)
        self._list_names()
        try:
            self._remember(plan, named)
        except GeoSRError as error:
            self.message.show_error(error)

    def _remember(self, plan: TrainingPlan, named: bool = True) -> None:
        use = self._scenarios[self.have.currentIndex()].use
        choices = TrainChoices(method=plan.method, use=use, folder=self.folder.path)
        self.remember(choices)
        settings = {k: v for k, v in plan.settings.items() if k != "name" or named}
        self.settings.keep(settings)

    def _checked_plan(self) -> TrainingPlan | None:
        self.message.clear()
        self.data_message.clear()
        self._clear_faults()
        if self.settings.is_reading:
            self.message.show_message(
                "The initial model is still being read. Please wait."
            )
            return None
        try:
            return self.plan()
        except GeoSRError:
            return None  # shown below the field

    def _on_cancel(self) -> None:
        self.bar.state.setText("Stopping…")
        self.activity.cancel()

    def _on_progress(self, text: str, done: int, total: int) -> None:
        if not self.activity.busy:
            self.bar.show_job(text, done, total)

    def _on_job_state(self, state: str) -> None:
        if state not in ALIVE and self.message.text == _CONTINUES:
            self.message.clear()  # the training has stopped

    def _on_estimated(self, revision: int, estimate: TrainingEstimate) -> None:
        self.message.clear()
        if revision != self._revision:
            self.estimate.setText(_OUTDATED)
            return
        self.estimate.setText(format_estimate(estimate))
        self.cluster.set_estimate(RunEstimate(estimate.seconds, estimate.memory))

    def _on_not_estimated(self, error: Exception) -> None:
        self.estimate.setText(NO_ESTIMATE)
        self.message.clear()
        self._on_error(error)

    def _on_not_started(self, error: Exception) -> None:
        self.message.clear()
        self._on_error(error)

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, ConfigError | FileError | VolumeError):
            self._show_at_field(error)
        else:
            self.message.show_error(error)

    def _watch_job(self, job: Path) -> None:
        row = self._rows.get("source")
        self.view.set_job(job, source=None if row is None else row.layer())
        self.show_view()
        self.message.show_message(_CONTINUES)

    def _on_jobs(self) -> None:
        open_dock(self._viewer, JOBS)

    def show_busy(self, what: str) -> None:
        working = _WORKING.get(what, "Working…") if what else ""
        self.show_state(working, names_of_empty_rows(list(self._rows.values())))


def _taken_names_steps() -> Generator[Step, None, set[str]]:
    yield from ()
    return taken_names()
