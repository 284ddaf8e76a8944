"""The dialog that asks where a job runs, shows the script and submits it."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLabel,
    QLayout,
    QLineEdit,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import Cancelled, ConfigError, GeoSRError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.gui.jobs.cluster.proposal import RunEstimate, propose
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.form import ConfigForm, error_in_fields, show_in_fields
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.kit.widgets import (
    FolderRow,
    FormAligner,
    Section,
    add_row,
    combo,
    form_layout,
    text_label,
)
from napari_geosr.jobs.cluster import (
    profiles,
    remote,
    remote_submission,
    submission,
)
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.data import jobs_folder
from napari_geosr.jobs.handover import Run, UndividedRun, submit_run_steps
from napari_geosr.jobs.queues import load_queue

#: Fields of a profile that apply to a single job; the others describe the cluster.
_SHOWN = ("project", "partition", "walltime", "nodes", "cores", "gpus", "memory")
#: Fields that are needed only if the job is submitted on another computer.
_REMOTE = ("local_folder", "remote_folder")
#: Commands that submit jobs, by queue.
_COMMANDS = {"slurm": "sbatch", "oar": "oarsub"}
_SUBMIT = "submit"
NOT_ESTIMATED = (
    "The walltime and memory of the profile are used, because the dock has no estimate "
    "for this run."
)
#: Text added for a run that keeps nothing when it is stopped.
MUST_END = (
    "The run must end within the walltime, because a stopped run keeps nothing. Time:"
)
#: Minimum height of the script, in pixels: about ten lines.
_SCRIPT_HEIGHT = 180


class ClusterDialog(QDialog):
    """Asks where to run a job, shows the script and submits the job.

    Parameters
    ----------
    run : Run
        The run to submit; the job starts it from the beginning.
    estimate : RunEstimate, optional
        Time and memory on this computer, as shown in the dock.
    parent : QWidget

    Signals
    -------
    submitted : object, str
        The job's folder, and a message for the user that names the job, its number and
        its folder.
    """

    submitted = Signal(object, str)

    def __init__(
        self,
        run: Run,
        estimate: RunEstimate | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._run, self._estimate = run, estimate
        self._base, self._proposed = Profile(), dict[str, str]()
        self._source = ""
        self._activity = Activity(self)
        self._fit_timer = QTimer(self)
        self._fit_timer.setSingleShot(True)
        self._fit_timer.timeout.connect(self._fit)
        self.setWindowTitle(f"Run {run.name} on a cluster")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.cluster = combo(
            "Cluster",
            "Cluster profile: the queue and the settings used for every job.",
        )
        for name in (*profiles.own_profiles(), *profiles.TEMPLATES):
            if self.cluster.findData(name) < 0 and name != submission.LOCAL:
                self.cluster.addItem(name, name)
        self.form = ConfigForm(
            Profile, skip=[f for f in Profile.model_fields if f not in _SHOWN]
        )
        self.computer = QLineEdit()
        self.computer.setAccessibleName("Computer")
        self.computer.setToolTip(
            "Login node of the cluster, as user@login or a name from ~/.ssh/config; "
            "leave it empty if jobs can be submitted from this computer."
        )
        show_placeholder(self.computer, "user@login (optional)")
        self.shared = ConfigForm(
            Profile, skip=[f for f in Profile.model_fields if f not in _REMOTE]
        )
        self.origin = text_label(
            "Source of the values", "How walltime and memory were estimated."
        )
        self.folder = FolderRow("jobs")
        self.folder.setToolTip("Folder that all nodes of the cluster can access.")
        self.folder.setAccessibleName("Job folder")
        self.keep_as = QLineEdit()
        self.keep_as.setAccessibleName("Save as")
        self.keep_as.setToolTip(
            "Name under which these settings are saved as a profile."
        )
        show_placeholder(self.keep_as, "name of a profile (optional)")
        self.script = QPlainTextEdit()
        self.script.setReadOnly(True)
        self.script.setMinimumHeight(_SCRIPT_HEIGHT)
        self.script.setAccessibleName("Script")
        self.script.setToolTip("Script that the queue runs.")
        self.script.setFont(
            QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
        )
        self.script.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.message = MessageRow()
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.submit_button = self.buttons.addButton(
            "Submit", QDialogButtonBox.ButtonRole.AcceptRole
        )
        self._lay_out()
        self._aligner = FormAligner(self)
        self.folder.set_path(_usual_folder(run))
        self.cluster.currentIndexChanged.connect(self._on_cluster)
        for form in self._forms():
            form.changed.connect(self._show_script)
        self.computer.textChanged.connect(self._on_computer)
        self.folder.changed.connect(self._show_script)
        self.buttons.accepted.connect(self._on_submit)
        self.buttons.rejected.connect(self.reject)
        self._activity.busyChanged.connect(self._on_busy)
        self._on_cluster()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        text = QLabel(
            "The queue starts the job when resources are free. The cluster must be "
            "able to access the files of the scan and the model."
        )
        text.setWordWrap(True)
        column.addWidget(text)
        rows = form_layout()
        add_row(rows, "C&luster", self.cluster)
        add_row(rows, "Com&puter", self.computer)
        column.addLayout(rows)
        column.addWidget(self.shared)
        column.addWidget(self.form)
        column.addWidget(self.origin)
        rows = form_layout()
        add_row(rows, "Job &folder", self.folder)
        add_row(rows, "Sa&ve as", self.keep_as)
        column.addLayout(rows)
        self.script_section = Section(
            "&Script", self.script, tool_tip="Script submitted to the queue."
        )
        column.addWidget(self.script_section, 1)
        column.addWidget(self.message)
        column.addWidget(self.buttons)
        # The dialog grows with the script and with errors below fields.
        column.setSizeConstraint(QLayout.SizeConstraint.SetMinimumSize)
        self.resize(480, self.sizeHint().height())

    def profile(self) -> Profile:
        """Return the chosen profile with the changes for this job.

        Raises
        ------
        ConfigError
            If a setting is invalid, or the profile cannot be read.
        """
        base = profiles.load_profile(str(self.cluster.currentData()))
        values = self.form.values() | self.shared.values()
        host = self.computer.text().strip()
        return Profile.create(**(base.model_dump() | values | {"host": host}))

    def _forms(self) -> tuple[ConfigForm, ConfigForm]:
        return self.form, self.shared

    def _on_cluster(self) -> None:
        self.message.clear()
        name = str(self.cluster.currentData())
        try:
            self._base = profiles.load_profile(name)
        except GeoSRError as error:
            self.message.show_error(error)
            return
        self._proposed, self._source = {}, NOT_ESTIMATED
        if self._estimate is not None:
            limited = name in profiles.own_profiles()
            proposal = propose(self._estimate, self._base, limited=limited)
            self._proposed, self._source = dict(proposal.values), proposal.text
        self.form.set_values(self._base.model_dump() | self._proposed)
        self.shared.set_values(self._base.model_dump())
        # If the queue's command exists here, no other computer is needed.
        command = _COMMANDS.get(self._base.queue, "")
        is_here = bool(command) and shutil.which(command) is not None
        self.computer.setText("" if is_here else self._base.host)
        self._on_computer()

    def _on_computer(self, _text: str = "") -> None:
        self.shared.setVisible(bool(self.computer.text().strip()))
        self._fit_timer.start(0)
        self._show_script()

    def _show_script(self) -> None:
        self.message.clear()
        self.script.clear()
        self.origin.setText(self._source)
        try:
            profile = self.profile()
        except GeoSRError as error:
            self._show_error(error)
            return
        if isinstance(self._run, UndividedRun):
            time = self._run.describe_time(profile)
            self.origin.setText(f"{self._source} {MUST_END} {time}.")
        name = self._run.name
        folder = self.folder.path / name
        operation = getattr(self._run, "operation", "")  # set only for training
        script_of = remote.script_of if profile.host else submission.script_of
        try:
            text = script_of(name, folder, profile, operation)
        except GeoSRError as error:  # incomplete rather than invalid
            missing = str(error_in_fields(error, self._forms()))
            self.message.show_message(missing)
            return
        self.script.setPlainText(text)

    def _show_error(self, error: Exception) -> None:
        if not show_in_fields(error, self._forms()):
            self.message.show_error(error_in_fields(error, self._forms()))
        self._fit_timer.start(0)  # after the layout

    def _fit(self) -> None:
        """Make room for errors below fields: wrapped text has no minimum height."""
        column = self.layout()
        if column is not None:
            needed = column.totalHeightForWidth(self.width())
            self.resize(self.width(), max(self.height(), needed))

    def _on_submit(self) -> None:
        self.message.clear()
        try:
            profile = self.profile()
            submission.check_profile(profile)
            if profile.host:
                remote.check(profile, self.folder.path)
            self._keep(profile)
        except GeoSRError as error:
            self._show_error(error)
            return
        run, parent = self._run, self.folder.path
        title = load_queue(profile.queue).title
        where = f" on {profile.host}" if profile.host else ""

        def steps(stop: ShouldStop) -> Generator[Step, None, tuple[Path, str]]:
            elsewhere = remote_submission.submit_steps
            submit = elsewhere if profile.host else submit_run_steps
            return submit(run, parent, profile, should_stop=stop)

        self._activity.start(
            _SUBMIT,
            steps,
            lambda made: self._on_made(title, where, *made),
            on_step=OperationProgress(self.message.show_message).show_step,
            on_error=self._on_error,
        )

    def _keep(self, profile: Profile) -> None:
        """Save the settings as a profile if the user entered a name for the profile."""
        name = self.keep_as.text().strip()
        if not name:
            return
        if profiles.profile_path(name).exists():
            raise ConfigError(
                f"The profile {name!r} already exists. Choose another name under "
                "Save as, or leave that field empty."
            )
        # The proposed values apply to this run only.
        own = {
            field: getattr(self._base, field)
            for field, value in self._proposed.items()
            if getattr(profile, field) == value
        }
        profiles.save_profile(name, profile.model_copy(update=own))
        self.keep_as.clear()  # the profile is kept even if the queue rejects the job

    def _on_made(self, title: str, where: str, folder: Path, number: str) -> None:
        text = (
            f"Submitted {self._run.name} as {title} job {number}{where}, in {folder}."
        )
        self.submitted.emit(folder, text)
        self.accept()

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            self.reject()
        else:
            self.message.show_error(error)
            self._fit_timer.start(0)  # after the layout

    def _on_busy(self, what: str) -> None:
        self.submit_button.setEnabled(not what)
        for widget in (
            self.cluster,
            self.computer,
            *self._forms(),
            self.folder,
            self.keep_as,
        ):
            widget.setEnabled(not what)

    def reject(self) -> None:
        """Close the dialog; a submission in progress is cancelled first."""
        if self._activity.busy:
            self._activity.cancel()
        else:
            super().reject()


def _usual_folder(run: Run) -> Path:
    """Return the folder of the scan, which the cluster must be able to access."""
    source = run.source
    return jobs_folder() if source is None else source.resolve().parent
