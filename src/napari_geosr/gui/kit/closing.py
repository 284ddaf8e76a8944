"""Tell once that jobs go on when their dock, or the window, is closed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QApplication, QMainWindow, QMenu, QMessageBox, QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.kit.places import dock_of
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import FIT_NETWORKS

if TYPE_CHECKING:
    from qtpy.QtCore import QEvent

_CLOSE, _PAUSE, _STAY = "close", "pause", "stay"
#: Commands of napari that close a window, and whether they close all.
_COMMANDS = {
    "napari.window.file.close_dialog": False,
    "napari.window.file.quit_dialog": True,
}


class Closing(QObject):
    """Watches a window, and its docks, for being closed while jobs run.

    A person is told of a job once: in a notification when its dock is closed, else in a
    question when the window is, in place of napari's own. An event filter sees the
    window's button; for *Close Window* and *Exit* of the File menu see `CloseCommand`.
    """

    def __init__(self, window: QMainWindow) -> None:
        super().__init__(window)
        self._jobs: set[Path] = set()
        self._docks: set[int] = set()
        window.installEventFilter(self)
        _ask_before_commands(window)

    def watch(self, job: Path, widget: QWidget) -> None:
        """Speak of `job`, which `widget` shows, if it runs at the end."""
        self._jobs.add(job)
        dock = dock_of(widget)
        if dock is not None and id(dock) not in self._docks:
            self._docks.add(id(dock))
            dock.installEventFilter(self)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Answer the end of a dock, and a request to close the window."""
        if watched is self.parent():
            if event.type() == QEvent.Type.Close and event.spontaneous():
                return self._on_close(event)
        elif event.type() == QEvent.Type.DeferredDelete:
            self._docks.discard(id(watched))
            self._tell()
        return False

    def _untold(self) -> list[JobFolder]:
        """Jobs that run and were not spoken of; from now on they were."""
        found = []
        for path in sorted(self._jobs):
            try:
                job = JobFolder(path)
                if job.status().is_alive:
                    found.append(job)
            except GeoSRError:
                continue  # deleted since
        self._jobs.clear()
        return found

    def _tell(self) -> None:
        jobs = self._untold()
        if jobs:
            show_info(f"{_sentence(jobs)} The Jobs dock shows it again.")

    def _on_close(self, event: QEvent) -> bool:
        answer = self.ask()
        if not answer:
            return False
        event.ignore()
        if answer != _STAY:
            # From a script, as it seems: napari would ask a second time.
            window: Any = self.parent()
            QTimer.singleShot(0, window.close)
        return True

    def ask(self, *, everywhere: bool = False) -> str:
        """Ask about the jobs of this window, or of all; do what a person answers.

        Returns
        -------
        str
            ``"close"``, ``"pause"`` or ``"stay"``; empty where there is nothing to ask.
        """
        asking = _all_closings() if everywhere else [self]
        untold = {id(closing): closing._untold() for closing in asking}
        jobs = {job.path: job for found in untold.values() for job in found}
        if not jobs:
            return ""
        window: Any = self.parent()
        answer = ask(list(jobs.values()), window)
        if answer == _STAY:
            for closing in asking:
                closing._jobs.update(job.path for job in untold[id(closing)])
        elif answer == _PAUSE:
            for job in jobs.values():
                job.request("pause")
        return answer


class CloseCommand(QObject):
    """Asks about running jobs before *Close Window* or *Exit* of the File menu.

    napari asks its own question when such a command is run, before Qt sends a Close
    event that a filter would see. So the command is run from here, after our question.

    Parameters
    ----------
    action : QAction
        The entry of the menu; napari has one for all windows.
    quits : bool
        Whether it closes all windows: then the jobs of all are asked about.
    """

    def __init__(self, action: QAction, *, quits: bool) -> None:
        super().__init__(action)
        self._quits = quits
        action.triggered.disconnect()
        action.triggered.connect(self._on_triggered)

    def _on_triggered(self, _checked: bool = False) -> None:
        closing = self._closing()
        answer = "" if closing is None else closing.ask(everywhere=self._quits)
        if answer == _STAY:
            return
        if closing is None or not answer:
            command: Any = self.parent().objectName()
            _app_model().commands.execute_command(command).result()
            return
        window: Any = closing.parent()
        # Without napari's question: this one was answered.
        window.close(quit_app=self._quits, confirm_need=False)

    def _closing(self) -> Closing | None:
        """What watches the window in front; to end napari, any that is watched."""
        active = QApplication.activeWindow()
        found = _all_closings()
        if active is not None:
            for closing in found:
                if closing.parent() is active:
                    return closing
        return found[0] if found and self._quits else None


def _ask_before_commands(window: Any) -> None:
    """Ask before the commands of napari's menus that close windows, from now on."""
    if _app_model() is None:
        return  # a napari that keeps its commands elsewhere asks its own question
    for menu in window.findChildren(QMenu):
        for action in menu.actions():
            quits = _COMMANDS.get(action.objectName())
            if quits is not None and action.findChild(CloseCommand) is None:
                CloseCommand(action, quits=quits)


def _app_model() -> Any:
    """What runs napari's commands; None where this napari has no such thing.

    It is private in napari, and there is no public way to run a command.
    """
    try:
        from napari._app_model import get_app_model
    except ImportError:
        return None
    return get_app_model()


def closing_of(widget: QWidget) -> Closing | None:
    """What watches the window of `widget`; None for a widget outside of one."""
    window = widget.window()
    if not isinstance(window, QMainWindow):
        return None
    return window.findChild(Closing) or Closing(window)


def _all_closings() -> list[Closing]:
    """What watches the windows of this process."""
    found = [window.findChild(Closing) for window in QApplication.topLevelWidgets()]
    return [closing for closing in found if closing is not None]


def ask(jobs: list[JobFolder], parent: QWidget | None) -> str:
    """Ask what is to become of the jobs: ``"close"``, ``"pause"`` or ``"stay"``."""
    buttons, roles = QMessageBox, QMessageBox.ButtonRole
    box = buttons(parent)
    box.setIcon(buttons.Icon.Question)
    box.setWindowTitle(f"Close while {_doing(jobs)}?")
    box.setAccessibleName(box.windowTitle())
    box.setText(f"{_sentence(jobs)} Close the window?")
    box.setInformativeText("You will find it in the Jobs dock next time.")
    close = box.addButton(f"&Close and keep {_doing(jobs)}", roles.AcceptRole)
    pause = box.addButton("&Pause and close", roles.AcceptRole)
    box.addButton(buttons.StandardButton.Cancel)
    box.setDefaultButton(close)
    box.exec()
    return {close: _CLOSE, pause: _PAUSE}.get(box.clickedButton(), _STAY)


def _sentence(jobs: list[JobFolder]) -> str:
    names = " and ".join(repr(job.status().name) for job in jobs)
    return f"{names} will keep {_doing(jobs)} in the background."


def _doing(jobs: list[JobFolder]) -> str:
    """What jobs do; studies of projections train no one network."""
    fit = all(job.status().operation in FIT_NETWORKS for job in jobs)
    return "training" if fit else "working"
