"""The Jobs dock, which lists all jobs, shows their progress and resumes them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QMessageBox,
    QPushButton,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import GeoSRError, JobError
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.gui.jobs.compare import JobComparison
from napari_geosr.gui.jobs.hosts import HostWatch, RemoteJob
from napari_geosr.gui.jobs.resume_offer import ResumeOffer
from napari_geosr.gui.jobs.view import NO_JOB, JobView
from napari_geosr.gui.kit.action_bar import ActionBar, fill_dock
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.dock_tabs import TRAIN
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.lists import list_tree
from napari_geosr.gui.kit.plots.chart import load_pyqtgraph
from napari_geosr.gui.kit.widgets import button, scrolling, text_label
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import queries
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.jobs.job_files import foreign_files
from napari_geosr.jobs.kinds import FIT_NETWORKS
from napari_geosr.jobs.status import outage_text
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.train import needs

if TYPE_CHECKING:
    import napari.viewer

#: Status line and placeholder of an empty list.
NO_JOBS = "No jobs yet. Next: Train…"
_EMPTY = (
    "Jobs from Train, Restore, Reconstruct and the cluster appear here.\n\nTrain a "
    "model to start one. To list an existing job, add its folder; to list the jobs on "
    "another computer, add that computer."
)
#: Minimum height of the placeholder, in pixels, like that of a short list.
_EMPTY_HEIGHT = 120
#: Milliseconds between updates of the list.
_PAUSE = 2000
_PATH = Qt.ItemDataRole.UserRole
#: Computer, name and time of creation of a job; paths differ between computers.
Identity = tuple[str, str, float]


class JobsDock(Dock):
    """Lists the jobs on this computer and on other computers that are watched.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self._listing = Activity(self)
        self._queues = queries.QueueWatch()
        self._known: dict[str, JobStatus] = {}
        self._local: list[JobStatus] = []
        self._shared: set[Identity] = set()
        self._hosts: dict[str, str] = {}  # host of each remote job, by key
        self._chosen = False
        self._make_widgets()
        self._lay_out()
        self.tree.itemSelectionChanged.connect(self._on_selected)
        self.remove_button.clicked.connect(self._on_remove)
        self.add_button.clicked.connect(self._on_add)
        self.host_button.clicked.connect(self._on_add_host)
        self.watch.changed.connect(self._show_jobs)
        self.watch.answered.connect(self._on_host)
        self.watch.failed.connect(self.message.show_error)
        self.watch.noted.connect(self.message.show_message)
        self.remote.acted.connect(self.watch.ask_soon)
        self.remote.failed.connect(self.message.show_error)
        self.remote.reported.connect(self.message.show_message)
        self.train_button.clicked.connect(self._on_train)
        self.offer.resumed.connect(self.show_job)
        self.view.stateChanged.connect(self._on_state)
        self.view.fineTune.connect(self._on_tune)
        self.view.progressed.connect(self.bar.show_job)
        self.view.nextChanged.connect(self.bar.set_primary)
        self.compare.failed.connect(self.message.show_error)
        self.activity.idle.connect(self.refresh)
        self._listing.idle.connect(self._on_listing_idle)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.refresh)
        self.refresh()

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Import the modules for charts and loss names; read the model cards."""
        yield StageStarted(message="Reading the models")
        catalogue.scan_folders()
        needs()
        load_pyqtgraph()

    def _make_widgets(self) -> None:
        self.tree = list_tree(
            ["Job", "State", "Progress"],
            "Jobs",
            "All jobs on this computer. Select several training runs to compare them.",
            heights=(90, 190),
        )
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.remove_button: QPushButton = button(
            "&Delete…",
            "Delete the job's folder, including its result. You will be asked to "
            "confirm.",
        )
        self.remove_button.setEnabled(False)
        self.add_button = button(
            "Add &job…",
            "Add a job from its folder, for example one that was moved or comes from "
            "another computer.",
        )
        self.host_button = button(
            "Add co&mputer…",
            "List the jobs on another computer, such as the login node of a cluster, "
            "over your own SSH connection.",
        )
        self.train_button = button("&Train…", "Open the Train dock.")
        self.empty = text_label("Empty list of jobs", _EMPTY, _EMPTY)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.empty.setMinimumHeight(_EMPTY_HEIGHT)
        self.empty.setVisible(False)  # until the jobs are listed
        self.offer = ResumeOffer(self)
        self.view = JobView(self._viewer)
        self.view.set_hint("")  # the status line shows the hint
        self.remote = RemoteJob(self._viewer)
        self.watch = HostWatch(self)
        self.compare = JobComparison(self._viewer)

    def _lay_out(self) -> None:
        buttons = QVBoxLayout()
        for pair in (
            (self.train_button, self.add_button),
            (self.host_button, self.remove_button),
        ):
            row = QHBoxLayout()
            for widget in pair:
                row.addWidget(widget, 1)
            buttons.addLayout(row)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addWidget(self.offer)
        column.addWidget(self.tree)
        column.addWidget(self.empty)
        column.addLayout(buttons)
        column.addWidget(self.remote)
        column.addWidget(self.compare)
        column.addWidget(self.view)
        column.addStretch(1)
        self.bar = ActionBar(idle=NO_JOB)
        #: Buttons for the job that is shown; hidden while there is no job at all.
        self.actions = self.bar.add_row(*self.view.actions)
        self.actions.setVisible(False)
        fill_dock(self, scrolling(inner), self.message, self.bar)

    # The list

    def refresh(self) -> None:
        """List the jobs again, in a worker."""
        if not self._listing.busy:
            self._listing.start(
                "list",
                lambda _stop: _list_steps(self._queues),
                self._on_listed,
                on_error=self.message.show_error,
            )

    def _on_listing_idle(self) -> None:
        self._timer.start(_PAUSE)

    def _on_listed(self, listed: tuple[list[JobStatus], set[Identity]]) -> None:
        self._local, self._shared = listed
        self._show_jobs()

    def _remote_jobs(self) -> dict[str, JobStatus]:
        """Return remote jobs, except those in folders shared with this computer."""
        found = {}
        for host, jobs in self.watch.jobs.items():
            for job in jobs:
                if (host, job.name, job.created) not in self._shared:
                    found[f"{host}:{job.path}"] = job
                    self._hosts[f"{host}:{job.path}"] = host
        return found

    def _show_jobs(self) -> None:
        jobs = self._local
        self._hosts = {}
        known = self._known = {str(job.path): job for job in jobs}
        known |= self._remote_jobs()
        self.tree.blockSignals(True)
        for i in reversed(range(self.tree.topLevelItemCount())):
            if self.tree.topLevelItem(i).data(0, _PATH) not in known:
                self.tree.takeTopLevelItem(i)
        rows = {item.data(0, _PATH): item for item in self._items()}
        for i, (path, job) in enumerate(known.items()):
            item = rows.get(path)
            if item is None:
                item = QTreeWidgetItem()
                item.setData(0, _PATH, path)
                self.tree.insertTopLevelItem(i, item)
            host = self._hosts.get(path, "")
            _fill(item, job, host, is_lost=host in self.watch.errors)
        self.tree.blockSignals(False)
        present = [job for job in jobs if job.state != "missing"]
        if not self._chosen and present:
            # Choose the first running job, otherwise the newest.
            first = next((job for job in present if job.is_alive), present[0])
            self.show_job(first.path)
        elif self.view.job is not None and str(self.view.job) not in known:
            self._on_selected()
        elif self.remote.isVisible():
            self._show_remote()
        self._refresh_view()
        # Last, because the view marks its own button even if no job is left.
        self._show_hint(bool(known))

    def _refresh_view(self) -> None:
        """Update the view if the list has a newer state of the job."""
        shown = self.view.status
        listed = None if shown is None else self._known.get(str(shown.path))
        if shown is None or listed is None:
            return
        is_new = (listed.state, listed.queue.words) != (shown.state, shown.queue.words)
        if is_new or listed.updated > shown.updated:
            self.view.refresh()

    def _show_hint(self, has_jobs: bool) -> None:
        for widget in (self.tree, self.remove_button, self.actions):
            widget.setVisible(has_jobs)  # hide what has nothing to show or to act on
        self.empty.setVisible(not has_jobs)
        self.bar.set_primary(self.view.next_button if has_jobs else self.train_button)
        hint = NO_JOB if has_jobs else NO_JOBS
        if hint != self.bar.state.idle:
            self.bar.state.idle = hint
            if not self.view.line[0]:
                self.bar.state.setText("")

    def _items(self) -> list[QTreeWidgetItem]:
        return [self.tree.topLevelItem(i) for i in range(self.tree.topLevelItemCount())]

    def show_job(self, path: Path) -> None:
        """Select a job in the list, or show one that is not listed yet."""
        self._chosen = True
        for item in self._items():
            if item.data(0, _PATH) == str(path):
                self.tree.setCurrentItem(item)
                return
        self.view.set_job(path)
        self.refresh()

    def _on_selected(self) -> None:
        self._chosen = True
        items = self.tree.selectedItems()
        keys = [item.data(0, _PATH) for item in items]
        paths = [Path(key) for key in keys if key not in self._hosts]
        self.remove_button.setEnabled(len(keys) == 1)
        self._show_remote()
        self.message.clear()
        self.compare.set_jobs(paths)
        missing = [job for job in map(self._missing, paths) if job is not None]
        if missing:
            self.message.show_message(missing[0].message, "warning")
        if not paths:
            self.view.set_job(None)
            return
        current = self.tree.currentItem()
        first = paths[0] if current is None else Path(current.data(0, _PATH))
        first = first if first in paths else paths[0]
        self.view.set_job(first, others=[path for path in paths if path != first])

    def _show_remote(self) -> None:
        """Show the selected job if only another computer can access its folder."""
        keys = [item.data(0, _PATH) for item in self.tree.selectedItems()]
        key = keys[0] if len(keys) == 1 else ""
        host = self._hosts.get(key, "")
        self.remote.set_job(host, self._known.get(key) if host else None)

    def _missing(self, path: Path) -> JobStatus | None:
        """Return the status of a job if its folder no longer exists; otherwise None."""
        job = self._known.get(str(path))
        return job if job is not None and job.state == "missing" else None

    def _on_state(self, _state: str) -> None:
        """Update the list immediately instead of waiting for the next poll."""
        status = self.view.status
        for item in self._items():
            if status is not None and item.data(0, _PATH) == str(status.path):
                _fill(item, status)
        self.refresh()

    # Actions

    def _on_remove(self) -> None:
        items = self.tree.selectedItems()
        if len(items) != 1 or self.activity.busy:
            return
        if host := self._hosts.get(items[0].data(0, _PATH)):
            self._remove_host(host)
            return
        path = Path(items[0].data(0, _PATH))
        known = self._known.get(str(path))
        is_kept = known is not None and known.state in index.UNVERIFIED
        text = (
            f"Delete the folder {path} of this job? This cannot be undone. A finished "
            "result in another folder is kept, and so is a copy of this job's model "
            "among your models. An unfinished result is deleted."
        )
        if is_kept:
            text = (
                f"Remove this job from the list? The folder {path} no longer contains "
                "a valid job. Its files are kept."
            )
        elif foreign := foreign_files(path):
            text += (
                " Files that do not belong to the job are kept: "
                f"{index.format_names(foreign)}."
            )
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self, "Delete job", text, buttons.Yes | buttons.No, buttons.No
        )
        if answer != buttons.Yes:
            return
        self.message.clear()
        self.activity.start(
            "remove",
            lambda _stop: _forget_steps(path) if is_kept else _remove_steps(path),
            on_error=self.message.show_error,
        )

    def _remove_host(self, host: str) -> None:
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self,
            "Remove computer",
            f"Remove {host} and its jobs from the list? The jobs are not changed.",
            buttons.Yes | buttons.No,
            buttons.No,
        )
        if answer == buttons.Yes:
            self.watch.remove(host)
            self._show_remote()

    def _on_add_host(self) -> None:
        host, is_given = QInputDialog.getText(
            self,
            "Jobs on another computer",
            "user@login, or a name from ~/.ssh/config. ssh must work without a "
            "password.",
        )
        if not is_given or not host.strip():
            return
        try:
            self.watch.add(host.strip())
        except GeoSRError as error:
            self.message.show_error(error)
        else:
            self.message.show_message(f"Listing the jobs on {host.strip()}…")

    def _on_host(self, host: str, n_jobs: int) -> None:
        jobs = "job" if n_jobs == 1 else "jobs"
        self.message.show_message(f"Connected to {host}: {n_jobs} {jobs}.", "ok")

    def _on_add(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Job folder")
        if path:
            self.add_job(Path(path))

    def add_job(self, path: Path) -> None:
        """List the job in a folder, replacing its old location, and select it."""
        self.message.clear()
        try:
            job = JobFolder(path)
            if not job.is_verified():
                reason = job.status().message or "its files are incomplete."
                raise JobError(
                    f"{path} was not added because it does not appear to be a job: "
                    f"{reason}"
                )
            index.register(job)
        except GeoSRError as error:
            self.message.show_error(error)
            return
        self.show_job(job.path)

    def _on_train(self) -> None:
        open_dock(self._viewer, TRAIN)

    def _on_tune(self, job: Path) -> None:
        open_dock(self._viewer, TRAIN, lambda train: train.fine_tune(job))


def _fill(
    item: QTreeWidgetItem, job: JobStatus, host: str = "", *, is_lost: bool = False
) -> None:
    state, outage = index.describe_state(job), outage_text(job)
    texts = (
        f"{job.name} on {host}" if host else job.name,
        f"{state} (last known)" if is_lost or outage else state,
        _progress(job),
    )
    for column, text in enumerate(texts):
        if item.text(column) != text:
            item.setText(column, text)
    item.setToolTip(0, f"{texts[0]}: {job.method}, in {job.path}")
    item.setToolTip(1, outage)


def _progress(job: JobStatus) -> str:
    """Return the progress: in steps for training runs, in per cent for other jobs."""
    if not job.total:
        return "–"
    if job.operation in FIT_NETWORKS:
        return f"{job.done} / {job.total}"
    return f"{100 * job.done // job.total} %"


def _list_steps(
    queues: queries.QueueWatch,
) -> Generator[Step, None, tuple[list[JobStatus], set[Identity]]]:
    """List the jobs, and identify those that were submitted on other computers."""
    yield from ()
    jobs = index.list_jobs()
    # A queue that does not respond is queried again later; until then, the last known
    # state is listed as such.
    queues.refresh(jobs)
    places = [(job, index.elsewhere_of(job.path)) for job in jobs]
    shared = {
        (place.host, job.name, job.created)
        for job, place in places
        if place is not None
    }
    if any(job.queue.queue for job in jobs):
        jobs = index.list_jobs()
    return jobs, shared


def _forget_steps(path: Path) -> Generator[Step, None, Path]:
    yield from ()
    index.forget(path)
    return path


def _remove_steps(path: Path) -> Generator[Step, None, Path]:
    yield from ()
    job = JobFolder(path)
    queries.refresh([job.status()])
    index.remove(job, keep_foreign=True)
    return path
