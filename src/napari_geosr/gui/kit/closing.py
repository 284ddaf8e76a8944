"""Ask once what to do with jobs and runs when their window is closed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from napari.utils.notifications import show_info
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QApplication, QMainWindow, QMenu, QMessageBox, QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.kit.dock_tabs import dock_of
from napari_geosr.gui.kit.worker import BackgroundTask, running_tasks
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import FIT_NETWORKS

_CLOSE, _PAUSE, _STAY = "close", "pause", "stay"
#: napari commands that close a window, and whether they close all windows.
_COMMANDS = {
    "napari.window.file.close_dialog": False,
    "napari.window.file.quit_dialog": True,
}


class DockRun(Protocol):
    """A run of a dock; it ends when the window closes, unless it becomes a job."""

    @property
    def description(self) -> str:
        """What the run does, as the beginning of a sentence: ``Restoring 'foam'``."""

    @property
    def remark(self) -> str:
        """How the run continues as a job, in a sentence."""

    @property
    def can_keep_part(self) -> bool:
        """Whether the finished part of the run can be kept when the run stops."""

    @property
    def is_running(self) -> bool:
        """Whether the run is in progress."""

    def hand_over(
        self, *, start: bool, on_done: Callable[[], None], failed: Callable[[], None]
    ) -> None:
        """Stop the run, and keep it as a job that is started immediately or paused.

        Parameters
        ----------
        start : bool
            If False, the job is paused; a run without a finished part is only stopped.
        on_done, failed : callable
            One of them is called when the handover has ended.
        """

    def cancel_hand_over(self) -> None:
        """Cancel the handover; `failed` is called when that is done."""


class CloseFilter(QObject):
    """Watches for the closing of a window or its docks while jobs or runs are active.

    The user is informed about a job once: by a notification when its dock is closed, or
    by a question (instead of napari's own) when the window is closed. An event filter
    handles the window's button; for *Close Window* and *Exit* in the File menu see
    `CloseCommand`.
    """

    def __init__(self, window: QMainWindow) -> None:
        super().__init__(window)
        self._jobs: set[Path] = set()
        self._docks: set[int] = set()
        self._runs: weakref.WeakSet[Any] = weakref.WeakSet()
        self._handovers: list[DockRun] = []
        self._asked: list[DockRun] = []
        window.installEventFilter(self)
        _ask_before_commands(window)

    def watch(self, job: Path, widget: QWidget) -> None:
        """Watch a job shown in `widget`.

        The user is informed about the job if it is running when its dock is closed, and
        asked about it if it is running when the window is closed.
        """
        self._jobs.add(job)
        dock = dock_of(widget)
        if dock is not None and id(dock) not in self._docks:
            self._docks.add(id(dock))
            dock.installEventFilter(self)

    @property
    def is_handing_over(self) -> bool:
        """Whether runs are being turned into jobs before the window closes."""
        return bool(self._handovers)

    def watch_run(self, run: DockRun) -> None:
        """Ask about `run` if it is still running when the window is closed."""
        self._runs.add(run)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Handle the closing of a dock and requests to close the window."""
        if watched is self.parent():
            if event.type() == QEvent.Type.Close and event.spontaneous():
                return self._on_close(event)
            if event.type() == QEvent.Type.Close:
                # A script closes the window. Only the event loop destroys docks, and it
                # may no longer run, so stop the workers, which would keep the process
                # alive.
                for task in running_tasks():
                    if task.window() is watched:
                        task.cancel()
        elif event.type() == QEvent.Type.DeferredDelete:
            self._docks.discard(id(watched))
            self._report_jobs()
        return False

    def _take_running_jobs(self) -> list[JobFolder]:
        """Return the running jobs not yet reported; mark them as reported."""
        running = []
        for path in sorted(self._jobs):
            try:
                job = JobFolder(path)
                if job.status().is_alive:
                    running.append(job)
            except GeoSRError:
                continue  # deleted in the meantime
        self._jobs.clear()
        return running

    def _report_jobs(self) -> None:
        jobs = self._take_running_jobs()
        if jobs:
            them = "them" if len(jobs) > 1 else "it"
            show_info(f"{_background_sentence(jobs)} Follow {them} in the Jobs dock.")

    def _running(self) -> tuple[list[DockRun], list[BackgroundTask]]:
        """Return the runs that can become jobs, and tasks that end with the window."""
        runs = [run for run in self._runs if isalive(run) and run.is_running]
        described = {run.description for run in runs}
        window: Any = self.parent()
        tasks = [
            task
            for task in running_tasks()
            if task.description not in ("", *described) and task.window() is window
        ]
        return sorted(runs, key=lambda run: run.description), tasks

    def _on_close(self, event: QEvent) -> bool:
        if self._handovers:
            event.ignore()  # the window closes once the runs have become jobs
            self.ask_to_wait()
            return True
        answer = self.ask()
        if not answer:
            return False
        event.ignore()
        if answer != _STAY:
            # Close the window as a script would; otherwise napari would ask a second
            # time.
            window: Any = self.parent()
            self.hand_over_and_close(
                answer, partial(QTimer.singleShot, 0, window.close)
            )
        return True

    def ask(self, *, everywhere: bool = False) -> str:
        """Ask about jobs and runs of one or all windows; apply the answer to jobs.

        Jobs that wait in a queue are left alone: they do not need napari, and have no
        process that could pause them.

        Returns
        -------
        str
            ``"close"``, ``"pause"`` or ``"stay"``; empty if there is nothing to ask.
        """
        asking = _all_closings() if everywhere else [self]
        unreported = {id(closing): closing._take_running_jobs() for closing in asking}
        jobs = {
            job.path: job
            for some in unreported.values()
            for job in some
            if not job.status().is_waiting_in_queue
        }
        runs, tasks = _merge_runs(closing._running() for closing in asking)
        if not (jobs or runs or tasks):
            return ""
        self._asked = runs
        window: Any = self.parent()
        if runs or tasks:
            answer = ask_about_runs(runs, tasks, list(jobs.values()), window)
        else:
            answer = ask(list(jobs.values()), window)
        if answer == _STAY:
            for closing in asking:
                closing._jobs.update(job.path for job in unreported[id(closing)])
        elif answer == _PAUSE:
            for job in jobs.values():
                job.request("pause")
        return answer

    def hand_over_and_close(
        self, answer: str, close: Callable[[], None], *, everywhere: bool = False
    ) -> None:
        """Turn the runs into jobs according to the answer, then close."""
        asked = [run for run in self._asked if isalive(run)]
        ended = [run.description for run in asked if not run.is_running]
        self._asked = []
        # These runs ended while the dialog was open; their results exist only here.
        if ended:
            show_info(
                f"{' and '.join(ended)} {'have' if len(ended) > 1 else 'has'} finished "
                "in the meantime. Save the result, then close the window."
            )
            return
        asking = _all_closings() if everywhere else [self]
        runs, _ = _merge_runs(closing._running() for closing in asking)
        handovers = list(runs)
        for closing in asking:  # all windows share one list
            closing._handovers = handovers
        if not runs:
            close()
            return

        def handed_over(run: DockRun) -> None:
            if run in handovers:
                handovers.remove(run)
                if not handovers:
                    close()

        for run in runs:
            run.hand_over(
                start=answer == _CLOSE,
                on_done=partial(handed_over, run),
                # The dock shows the error, and the window stays open.
                failed=handovers.clear,
            )

    def ask_to_wait(self) -> None:
        """Ask whether to wait for the handover of the runs, or to cancel it."""
        handovers = self._handovers
        window: Any = self.parent()
        if not ask_about_handovers([run.description for run in handovers], window):
            return
        # Some runs may have become jobs while the dialog was open.
        for run in [run for run in handovers if isalive(run)]:
            run.cancel_hand_over()


class CloseCommand(QObject):
    """Asks about jobs and runs before *Close Window* or *Exit* in the File menu.

    When such a command runs, napari asks its own question before Qt sends a Close event
    to the event filter. Therefore, this object intercepts the command and asks the
    plugin's question first; if there is nothing to ask, it runs the command.

    Parameters
    ----------
    action : QAction
        The menu entry; napari has one for all windows.
    quits : bool
        Whether the command closes all windows; the question then concerns the jobs and
        runs of all windows.
    """

    def __init__(self, action: QAction, *, quits: bool) -> None:
        super().__init__(action)
        self._quits = quits
        action.triggered.disconnect()
        action.triggered.connect(self._on_triggered)

    def _on_triggered(self, _checked: bool = False) -> None:
        closing = self._closing()
        if closing is not None and closing.is_handing_over:
            closing.ask_to_wait()
            return
        answer = "" if closing is None else closing.ask(everywhere=self._quits)
        if answer == _STAY:
            return
        if closing is None or not answer:
            command: Any = self.parent().objectName()
            _app_model().commands.execute_command(command).result()
            return
        window: Any = closing.parent()
        # Skip napari's question, because the plugin's has been answered.
        close = partial(window.close, quit_app=self._quits, confirm_need=False)
        closing.hand_over_and_close(answer, close, everywhere=self._quits)

    def _closing(self) -> CloseFilter | None:
        """Return the filter that watches the active or, for *Exit*, any window."""
        active = QApplication.activeWindow()
        closings = _all_closings()
        if active is not None:
            for closing in closings:
                if closing.parent() is active:
                    return closing
        return closings[0] if closings and self._quits else None


def _ask_before_commands(window: Any) -> None:
    """Make menu commands that close windows ask the plugin's question first."""
    if _app_model() is None:
        return  # napari then asks only its own question
    for menu in window.findChildren(QMenu):
        for action in menu.actions():
            quits = _COMMANDS.get(action.objectName())
            if quits is not None and action.findChild(CloseCommand) is None:
                CloseCommand(action, quits=quits)


def _app_model() -> Any:
    """Return the object that runs napari's commands; None if this version has none.

    The object is private in napari, which has no public way to run a command.
    """
    try:
        from napari._app_model import get_app_model
    except ImportError:
        return None
    return get_app_model()


def closing_of(widget: QWidget) -> CloseFilter | None:
    """Return the object that watches the window of `widget`; None outside a window."""
    window = widget.window()
    if not isinstance(window, QMainWindow):
        return None
    return window.findChild(CloseFilter) or CloseFilter(window)


def watch_window_of(part: QObject) -> None:
    """Watch the window that contains `part` of a dock, if any."""
    widget: Any = part
    while widget is not None and not isinstance(widget, QWidget):
        widget = widget.parent()
    if widget is not None:
        closing_of(widget)


def _merge_runs(
    groups: Iterable[tuple[list[DockRun], list[BackgroundTask]]],
) -> tuple[list[DockRun], list[BackgroundTask]]:
    """Combine the runs and tasks of several windows into two lists."""
    runs, tasks = [], []
    for some_runs, some_tasks in groups:
        runs += some_runs
        tasks += some_tasks
    return runs, tasks


def _all_closings() -> list[CloseFilter]:
    """Return the objects that watch the windows of this process."""
    closings = [
        window.findChild(CloseFilter) for window in QApplication.topLevelWidgets()
    ]
    return [closing for closing in closings if closing is not None]


def ask(jobs: list[JobFolder], parent: QWidget | None) -> str:
    """Ask what to do with the jobs: ``"close"``, ``"pause"`` or ``"stay"``."""
    buttons, roles = QMessageBox, QMessageBox.ButtonRole
    box = buttons(parent)
    box.setIcon(buttons.Icon.Question)
    box.setWindowTitle("Close while a job is running?")
    box.setAccessibleName(box.windowTitle())
    box.setText(f"{_background_sentence(jobs)} Close the window?")
    box.setInformativeText("You will find it in the Jobs dock next time.")
    close = box.addButton(f"&Close and keep {_describe_work(jobs)}", roles.AcceptRole)
    pause = box.addButton("&Pause and close", roles.AcceptRole)
    box.addButton(buttons.StandardButton.Cancel)
    box.setDefaultButton(close)
    box.exec()
    return {close: _CLOSE, pause: _PAUSE}.get(box.clickedButton(), _STAY)


def ask_about_runs(
    runs: Sequence[DockRun],
    tasks: Sequence[BackgroundTask],
    jobs: Sequence[JobFolder],
    parent: QWidget | None,
) -> str:
    """Ask what to do with runs: ``"close"``, ``"pause"`` or ``"stay"``.

    Parameters
    ----------
    runs : sequence of DockRun
        Runs that can continue as jobs.
    tasks : sequence of BackgroundTask
        Tasks that end with the window.
    jobs : sequence of JobFolder
        Running jobs.
    """
    buttons, roles = QMessageBox, QMessageBox.ButtonRole
    box = buttons(parent)
    box.setIcon(buttons.Icon.Question)
    box.setWindowTitle("Close while something is running?")
    box.setAccessibleName(box.windowTitle())
    texts = [f"{run.description} has not finished." for run in runs]
    texts += [
        f"{task.description} has not finished and will be stopped." for task in tasks
    ]
    texts += [_background_sentence(list(jobs))] if jobs else []
    box.setText(" ".join(texts))
    answers: dict[object, str] = {}
    if runs:
        remarks = list(dict.fromkeys(run.remark for run in runs))
        them = "them" if len(runs) > 1 else "it"
        box.setInformativeText(" ".join([*remarks, f"Follow {them} in the Jobs dock."]))
        keep = box.addButton("&Keep running in the background", roles.AcceptRole)
        kept = any(run.can_keep_part for run in runs)
        stop = box.addButton(
            "&Stop and keep finished part" if kept else "&Stop", roles.AcceptRole
        )
        answers = {keep: _CLOSE, stop: _PAUSE}
    else:
        keep = box.addButton("&Close and stop it", roles.AcceptRole)
        answers = {keep: _CLOSE}
    box.addButton(buttons.StandardButton.Cancel)
    box.setDefaultButton(keep)
    box.exec()
    return answers.get(box.clickedButton(), _STAY)


def ask_about_handovers(descriptions: Sequence[str], parent: QWidget | None) -> bool:
    """Ask what to do with runs that are being saved as jobs.

    Returns
    -------
    bool
        Whether to discard the jobs and keep the window open.
    """
    buttons, roles = QMessageBox, QMessageBox.ButtonRole
    box = buttons(parent)
    box.setIcon(buttons.Icon.Question)
    box.setWindowTitle("Stop saving?")
    box.setAccessibleName(box.windowTitle())
    verb = "are" if len(descriptions) > 1 else "is"
    jobs = "jobs" if len(descriptions) > 1 else "a job"
    box.setText(f"{' and '.join(descriptions)} {verb} still being saved as {jobs}.")
    box.setInformativeText(
        "The window will close automatically when that is done. If you stop it, the "
        "window stays open and no job is created."
    )
    wait = box.addButton("&Wait", roles.RejectRole)
    stop = box.addButton("&Stop saving", roles.AcceptRole)
    box.setDefaultButton(wait)
    box.setEscapeButton(wait)
    box.exec()
    return bool(box.clickedButton() is stop)


def _background_sentence(jobs: list[JobFolder]) -> str:
    names = " and ".join(repr(job.status().name) for job in jobs)
    return f"{names} will keep {_describe_work(jobs)} in the background."


def _describe_work(jobs: list[JobFolder]) -> str:
    """Return ``"training"``, or ``"running"`` if not all jobs train a network."""
    fit = all(job.status().operation in FIT_NETWORKS for job in jobs)
    return "training" if fit else "running"
