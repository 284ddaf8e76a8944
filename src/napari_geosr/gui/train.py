"""The Train dock: say what you have, start, watch, use the model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path
from pydantic import Field, ValidationError
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.config import Config, format_bytes
from napari_geosr.core.errors import ConfigError, FileError, GeoSRError, VolumeError
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.gui import _train_questions as answers
from napari_geosr.gui._duration import duration
from napari_geosr.gui._elided import ElidedLabel
from napari_geosr.gui._form import ConfigForm
from napari_geosr.gui._job_view import JobView, _button
from napari_geosr.gui._layers import unwrapped
from napari_geosr.gui._lifetime import Connections
from napari_geosr.gui._notify import MessageRow
from napari_geosr.gui._position import plane_on_screen
from napari_geosr.gui._remembered import recall, remember
from napari_geosr.gui._resume_offer import ResumeOffer
from napari_geosr.gui._scrolling import fill_with_scrolling
from napari_geosr.gui._section import Section
from napari_geosr.gui._train_start import Plan, start_steps, time_steps
from napari_geosr.gui._training_data import DataRow, suggest
from napari_geosr.gui._worker import Run
from napari_geosr.jobs.estimate import TrainingEstimate
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations import catalogue
from napari_geosr.operations.fine_tune import fine_tune_settings
from napari_geosr.operations.train import config_class, needs, networks, roles

if TYPE_CHECKING:
    import napari.viewer

_FROM = "from_model"
#: Fields that the dock shows above *Advanced*.
_ABOVE = ("source", "target", "name", "steps")
_KEYS = (("1", "2"), ("3", "4"), ("5", "6"))
JOBS_DOCK = "Jobs"


class TrainChoices(Config):
    """What the dock remembers besides the settings of a method."""

    method: str = Field("noise2noise", title="Method", description="The last method.")
    folder: Path | None = Field(
        None, title="Folder", description="Where the folders of jobs are made."
    )


class TrainDock(QWidget):
    """Trains a model on a person's own data, in a process of its own.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._run: Run | None = None
        self._questions = answers.questions()
        self._rows: dict[str, DataRow] = {}
        self._form: ConfigForm | None = None
        self._method = ""
        self._folder = user_data_path("napari-geosr", appauthor=False) / "jobs"
        self.setMinimumWidth(300)
        self._make_widgets()
        self._lay_out()
        self._connect()
        self._recall()

    # Widgets

    def _make_widgets(self) -> None:
        self.have = _combo(
            "What do you have?", "What you have decides how a model can be learned."
        )
        self.have.addItems([question.text for question in self._questions])
        self.method = _combo("Method", "The learning method; the first fits best.")
        self.need = QLabel()
        self.need.setWordWrap(True)
        self.need.setAccessibleName("What the method needs")
        self.need.setToolTip("What the method needs.")
        self.data_message = MessageRow(shortcut="Alt+Shift+K")
        self.name = QLineEdit("mine")
        self.name.setAccessibleName("Model name")
        self.name.setToolTip("Name of the model: small letters, digits, - and _.")
        self.steps = QSpinBox()
        self.steps.setRange(1, 10**7)
        self.steps.setAccessibleName("Steps")
        self.steps.setToolTip(
            "Updates of the network's weights: more take longer and learn more."
        )
        for inner in self.steps.findChildren(QLineEdit):
            inner.setAccessibleName("Steps")
            inner.setToolTip(self.steps.toolTip())
        self.folder_label = ElidedLabel("")
        self.folder_label.setAccessibleName("Folder for jobs")
        self.folder_button = QToolButton()
        self.folder_button.setText("…")
        self.folder_button.setShortcut("Alt+Shift+U")
        self.folder_button.setAccessibleName("Choose the folder for jobs")
        self.folder_button.setToolTip(
            "Choose where the folders of jobs are made (Alt+Shift+U)."
        )
        self.settings_message = MessageRow(shortcut="Alt+Shift+L")
        self.estimate = QLabel("Estimate: –")
        self.estimate.setWordWrap(True)
        self.estimate.setAccessibleName("Estimate of time and memory")
        self.estimate.setToolTip(
            "Time and memory of the training, from a few steps really done."
        )
        self.estimate_button = _button(
            "&Estimate", "Time a few steps, in a process of their own."
        )
        self.start_button = _button(
            "&Start",
            "Train in a process of its own, which goes on when napari is closed.",
        )
        self.start_button.setDefault(True)
        self.cancel_button = _button("&Cancel", "Stop estimating or preparing.")
        self.jobs_button = _button("&Jobs…", "Open the list of all trainings.")
        self.jobs_button.setAccessibleName("Jobs")
        self.message = MessageRow()
        self.offer = ResumeOffer(self)
        self.view = JobView(self._viewer)
        self.advanced_place = QWidget()
        inside = QVBoxLayout(self.advanced_place)
        inside.setContentsMargins(0, 0, 0, 0)
        self.advanced = Section(
            "&Advanced",
            self.advanced_place,
            tool_tip="Every setting of the method; what you leave is chosen for you.",
        )

    def _lay_out(self) -> None:
        self._choices = QFormLayout()
        self._choices.setContentsMargins(0, 0, 0, 0)
        self._choices.setFieldGrowthPolicy(
            QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow
        )
        question = QLabel("&What do you have?")
        question.setBuddy(self.have)
        question.setToolTip(self.have.toolTip())
        question.setAccessibleName("Label of What do you have?")
        _add_row(self._choices, "Met&hod", self.method)
        self._data = QFormLayout()
        self._data.setContentsMargins(0, 0, 0, 0)
        self._data.setFieldGrowthPolicy(
            QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow
        )
        naming = QFormLayout()
        naming.setContentsMargins(0, 0, 0, 0)
        naming.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        _add_row(naming, "Model &name", self.name)
        _add_row(naming, "S&teps", self.steps)
        folder = QWidget()
        row = QHBoxLayout(folder)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.folder_label, 1)
        row.addWidget(self.folder_button)
        _add_row(naming, "Folder", folder, self.folder_button)
        actions = QHBoxLayout()
        for button in (self.estimate_button, self.start_button, self.cancel_button):
            actions.addWidget(button, 1)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addWidget(self.offer)
        column.addWidget(question)
        column.addWidget(self.have)
        column.addLayout(self._choices)
        column.addWidget(self.need)
        column.addLayout(self._data)
        column.addWidget(self.data_message)
        column.addLayout(naming)
        column.addWidget(self.settings_message)
        column.addWidget(self.estimate)
        column.addLayout(actions)
        for widget in (self.message, self.advanced, self.view, self.jobs_button):
            column.addWidget(widget)
        column.addStretch(1)
        fill_with_scrolling(self, inner)
        self.view.setVisible(False)
        self._show_busy(False)
        self._show_folder()

    def _connect(self) -> None:
        self.have.currentIndexChanged.connect(self._on_have)
        self.method.currentIndexChanged.connect(self._on_method)
        self.folder_button.clicked.connect(self._on_folder)
        self.estimate_button.clicked.connect(self._on_estimate)
        self.start_button.clicked.connect(self._on_start)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.jobs_button.clicked.connect(self._on_jobs)
        self.view.fineTune.connect(self.fine_tune)
        self.offer.resumed.connect(self._watch_job)
        self.advanced.button.toggled.connect(self._list_models)
        for signal in (self.name.textEdited, self.steps.valueChanged):
            signal.connect(self._on_settings)
        self._suggesting = QTimer(self)
        self._suggesting.setSingleShot(True)
        self._suggesting.timeout.connect(self._suggest)
        events = self._viewer.layers.events
        connections = Connections(self)
        connections.connect(events.inserted, self._on_layers)
        connections.connect(events.removed, self._on_layers)

    # Choices

    def _recall(self) -> None:
        try:
            choices = recall("train", TrainChoices)
        except ConfigError as error:
            choices = TrainChoices()
            self.message.show_error(error)
        if choices.folder is not None:
            self._folder = choices.folder
            self._show_folder()
        index = answers.find(self._questions, choices.method)
        self.have.setCurrentIndex(index)
        self._on_have(index)
        if choices.method in self._questions[index].methods:
            self.method.setCurrentText(choices.method)

    def _on_have(self, index: int) -> None:
        self.method.blockSignals(True)
        self.method.clear()
        self.method.addItems(list(self._questions[index].methods))
        self.method.blockSignals(False)
        self._on_method()

    def _on_method(self, _index: int = 0) -> None:
        method = self.method.currentText()
        need = needs()[method]
        self.need.setText(f"Needs {need}.")
        self._make_rows(method)
        if method != self._method:
            self._make_form(method)
        question = self._questions[self.have.currentIndex()]
        self._set(question.defaults.get(method, {}))
        self._on_settings()

    def _make_rows(self, method: str) -> None:
        """One row for each set of volumes that the method reads."""
        question = self._questions[self.have.currentIndex()]
        while self._data.rowCount():
            self._data.removeRow(0)
        self._rows = {}
        for i, role in enumerate(roles(method)):
            name = question.names[i] if i < len(question.names) else role.capitalize()
            row = DataRow(
                self._viewer, name, keys=_KEYS[i], several=question.several and i == 0
            )
            row.changed.connect(self._on_settings)
            _add_row(self._data, name, row, row.combo)
            self._rows[role] = row
        self._suggest()

    def _make_form(self, method: str) -> None:
        self._method = method
        old, self._form = self._form, None
        values = {} if old is None else old.values()
        kind = config_class(method)
        files = [
            name
            for name, field in kind.model_fields.items()
            if "Path" in str(field.annotation)
        ]
        form = ConfigForm(
            kind,
            skip=(*_ABOVE, *files),
            choices={
                "network": networks(),
                "device": ("auto", "cpu", "cuda"),
                # Filled when the section opens: reading the cards takes a while.
                "from_model": ("",),
            },
        )
        try:
            kept: Config = recall(f"train_{method}", kind)
        except ConfigError as error:
            kept = kind()
            self.message.show_error(error)
        form.set_values(values | kept.model_dump())
        self.name.setText(kept.model_dump()["name"])
        self.steps.setValue(kept.model_dump()["steps"])
        if old is not None:
            self.advanced_place.layout().removeWidget(old)
            old.deleteLater()
        self.advanced_place.layout().addWidget(form)
        form.changed.connect(self._on_settings)
        form.editor("from_model").currentTextChanged.connect(self._on_from_model)
        self._form = form
        if self.advanced.content.isVisibleTo(self):
            self._list_models(True)

    def _set(self, values: Any) -> None:
        if self._form is not None:
            self._form.set_values(values)
        if "name" in values:
            self.name.setText(values["name"])
        if "steps" in values:
            self.steps.setValue(values["steps"])

    def _list_models(self, is_open: bool) -> None:
        """Suggest the models of the zoo to start from."""
        combo: Any = None if self._form is None else self._form.editor(_FROM)
        if not is_open or combo is None or combo.count() > 1:
            return
        text = combo.currentText()
        combo.blockSignals(True)
        combo.addItems([model.name for model in catalogue.list_models()])
        combo.setCurrentText(text)
        combo.blockSignals(False)

    def _on_from_model(self, name: str) -> None:
        """Take over the network of a model of the zoo: its weights fit no other."""
        combo: Any = None if self._form is None else self._form.editor(_FROM)
        if not name or combo is None or combo.findText(name) < 0:
            return
        self._set({k: v for k, v in fine_tune_settings(name).items() if k != _FROM})

    def fine_tune(self, job: Path) -> None:
        """Fill the dock for a training that starts from the model of a job."""
        try:
            folder = JobFolder(job)
            values, bundle = folder.values(), folder.status().result
            if bundle is None:
                raise ConfigError(f"{folder.path.name} has made no model yet.")
            settings = fine_tune_settings(bundle)
        except GeoSRError as error:
            self.message.show_error(error)
            return
        method = str(values.get("method"))
        self.have.setCurrentIndex(answers.find(self._questions, method))
        self.method.setCurrentText(method)
        training = dict(values.get("training", {}))
        name = str(training.pop("name", "mine"))
        self._set(training | settings | {"name": f"{name}-tuned"})
        self.advanced.set_open(True)
        self.message.show_message(
            f"Starts from {name}: choose the data, then press Start."
        )

    def _on_layers(self, _event: Any = None) -> None:
        self._suggesting.start(0)

    def _suggest(self) -> None:
        suggest(list(self._rows.values()), self._viewer)

    def _on_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(
            self, "Folder for jobs", str(self._folder)
        )
        if path:
            self.set_folder(Path(path))

    def set_folder(self, path: Path) -> None:
        """Make the folders of jobs in `path` from now on."""
        self._folder = path
        self._show_folder()

    def _show_folder(self) -> None:
        self.folder_label.setText(str(self._folder))
        self.folder_label.setToolTip(str(self._folder))

    def _on_settings(self, *_: object) -> None:
        """An estimate and a complaint hold for the settings that they were about."""
        self.estimate.setText("Estimate: –")
        self.data_message.clear()
        self.settings_message.clear()

    # Actions

    def plan(self) -> Plan:
        """Return what would be trained now.

        Raises
        ------
        GeoSRError
            With one sentence; it is shown beside the field.
        """
        assert self._form is not None
        settings = self._form.values() | {
            "name": self.name.text().strip(),
            "steps": self.steps.value(),
        }
        if settings["preview_slice"] is None:
            settings["preview_slice"] = self._slice_on_screen()
        try:
            config_class(self._method).create(**settings)
        except ConfigError as error:
            self._complain(error)
            raise
        try:
            data = {role: row.parts() for role, row in self._rows.items()}
            layers = [row.layer() for row in self._rows.values() if row.layer()]
            if len(set(map(id, layers))) < len(layers):
                names = " and ".join(row.name.lower() for row in self._rows.values())
                raise ConfigError(f"Choose two different layers as {names}.")
            plan = Plan(self._method, settings, data)
        except GeoSRError as error:
            self._complain(error)
            raise
        return plan

    def _slice_on_screen(self) -> int | None:
        row = self._rows.get("source")
        layer = None if row is None else row.layer()
        if layer is None or layer.ndim < 3:
            return None
        axis = layer.ndim - 3
        return plane_on_screen(self._viewer, layer, axis, layer.data.shape[axis])

    def _complain(self, error: Exception) -> None:
        """Say what is wrong beside what it is wrong with."""
        if isinstance(error, FileError | VolumeError):
            self.data_message.show_error(error)
            return
        text = str(error)
        cause = error.__cause__
        fields = (
            {str(item["loc"][0]) for item in cause.errors() if item["loc"]}
            if isinstance(cause, ValidationError)
            else set()
        )
        about_data = not fields and any(
            word in text for word in ("source", "target", "a layer", "different layers")
        )
        if about_data:
            self.data_message.show_error(error)
            return
        if fields - set(_ABOVE) or (not fields and self._form is not None):
            self.advanced.set_open(True)
        self.settings_message.show_error(error)

    def _on_estimate(self) -> None:
        plan = self._checked_plan()
        if plan is None:
            return
        folder = self._folder
        self.estimate.setText("Estimate: timing a few steps…")
        self._begin(
            lambda stop: time_steps(plan, folder, should_stop=stop),
            self._on_estimated,
            self._on_not_estimated,
        )

    def _on_start(self) -> None:
        plan = self._checked_plan()
        if plan is None:
            return
        folder, name = self._folder, str(plan.settings["name"])
        self._begin(
            lambda stop: start_steps(plan, folder, name, should_stop=stop),
            partial(self._on_started, plan),
            self._on_not_started,
        )

    def _on_started(self, plan: Plan, job: Path) -> None:
        self._watch_job(job)
        try:
            self._remember(plan)
        except GeoSRError as error:
            self.message.show_error(error)

    def _remember(self, plan: Plan) -> None:
        remember("train", TrainChoices(method=plan.method, folder=self._folder))
        kept = {k: v for k, v in plan.settings.items() if k != "preview_slice"}
        remember(f"train_{plan.method}", config_class(plan.method).create(**kept))

    def _checked_plan(self) -> Plan | None:
        self.message.clear()
        self.data_message.clear()
        self.settings_message.clear()
        try:
            return self.plan()
        except GeoSRError:
            return None  # said beside the field

    def _begin(self, steps: Any, on_result: Any, on_error: Any) -> None:
        self._show_busy(True)
        self._run = Run(
            steps,
            owner=self,
            on_step=self._on_step,
            on_result=on_result,
            on_error=on_error,
            on_finished=self._on_finished,
        )

    def _on_cancel(self) -> None:
        if self._run is not None:
            self._run.cancel()

    def _on_step(self, step: Step) -> None:
        if isinstance(step, StageStarted):
            self.message.show_message(f"{step.message}…")

    def _on_finished(self) -> None:
        self._run = None
        self._show_busy(False)

    def _on_estimated(self, estimate: TrainingEstimate) -> None:
        self.message.clear()
        self.estimate.setText(
            f"Estimate: {duration(estimate.seconds)} and "
            f"{format_bytes(estimate.memory)} of memory, from {estimate.steps} steps "
            "timed on this machine as busy as it is now"
        )

    def _on_not_estimated(self, error: Exception) -> None:
        self.estimate.setText("Estimate: –")
        self.message.clear()
        self._on_error(error)

    def _on_not_started(self, error: Exception) -> None:
        self.message.clear()
        self._on_error(error)

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, ConfigError | FileError | VolumeError):
            self._complain(error)
        else:
            self.message.show_error(error)

    def _watch_job(self, job: Path) -> None:
        row = self._rows.get("source")
        self.view.set_job(job, source=None if row is None else row.layer())
        self.view.setVisible(True)
        self.message.show_message(
            "The training goes on when napari is closed; Jobs… shows it again."
        )

    def _on_jobs(self) -> None:
        dock, _ = self._viewer.window.add_plugin_dock_widget(
            "napari-geosr", JOBS_DOCK, tabify=True
        )
        dock.show()
        dock.raise_()

    def _show_busy(self, busy: bool) -> None:
        self.cancel_button.setVisible(busy)
        self.estimate_button.setVisible(not busy)
        self.start_button.setEnabled(not busy)


def _combo(name: str, tool_tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setAccessibleName(name)
    combo.setToolTip(tool_tip)
    combo.setSizeAdjustPolicy(
        QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )
    combo.setMinimumContentsLength(8)
    return combo


def _add_row(
    form: QFormLayout, title: str, widget: QWidget, buddy: QWidget | None = None
) -> None:
    label = QLabel(title)
    buddy = buddy or widget
    label.setBuddy(buddy)
    label.setToolTip(buddy.toolTip())
    label.setAccessibleName(f"Label of {buddy.accessibleName()}")
    form.addRow(label, widget)
