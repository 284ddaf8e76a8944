"""Clicks and seconds from an empty napari to the first porosity table.

Performs and counts every mouse click that a user needs in the menus, dialogs and
buttons of napari. The file is opened in two ways: by dropping it into the window (one
drag), and by *File ▸ Open File(s)…* (menu, entry, file, *Open*; the dialog of the
operating system is not operated, but counted as two clicks). The time from the first
click until the table has rows is given as elapsed time and as CPU time, which
does not depend on other programs. The time in which a user looks for a button is not
included. napari asks for the reader once, and not again if *Remember* is ticked.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/bench_first_table.py FILE…
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialog, QDialogButtonBox, QMenu, QPushButton

#: Time limit of a step, in seconds.
_PATIENCE = 120
#: Clicks for opening a file by the menu; the last two are in the system's dialog.
_BY_MENU = ("File", "Open File(s)…", "the file", "Open")


class Person:
    """A simulated user; the clicks are counted."""

    def __init__(self, viewer: Any) -> None:
        self.window = viewer.window._qt_window
        self.clicks: list[str] = []

    def click(self, button: QPushButton) -> None:
        """Press a visible button."""
        assert button.isVisible(), button.text()
        assert button.isEnabled(), button.text()
        self.clicks.append(button.text().replace("&", ""))
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def menu(self, *titles: str) -> None:
        """Click through the menus, starting at the menu bar."""
        menu: QMenu | Any = self.window.menuBar()
        for title in titles:
            action = next(
                action
                for action in menu.actions()
                if action.text().replace("&", "").startswith(title)
            )
            self.clicks.append(title)
            if action.menu() is None:
                action.trigger()
            else:
                menu = action.menu()
                menu.aboutToShow.emit()

    def drop(self, path: Path) -> None:
        """Drop a file into the window."""
        self.clicks.append(f"drag of {path.name}")
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path))])
        event = QDropEvent(
            QPointF(300, 300),
            Qt.DropAction.CopyAction,
            data,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
        self.window._qt_viewer.dropEvent(event)

    def accept_dialogs(self) -> QTimer:
        """Press *OK* in every dialog that appears, such as the choice of a reader."""

        def look() -> None:
            dialog = QApplication.activeModalWidget()
            if not isinstance(dialog, QDialog):
                return
            box = dialog.findChild(QDialogButtonBox)
            accept = (
                None if box is None else box.button(QDialogButtonBox.StandardButton.Ok)
            )
            if accept is not None and accept.isVisible():
                self.clicks.append(f"OK in “{dialog.windowTitle()}”")
                QTest.mouseClick(accept, Qt.MouseButton.LeftButton)

        timer = QTimer(self.window)
        timer.timeout.connect(look)
        timer.start(20)
        return timer


def wait(until: Callable[[], object]) -> None:
    """Process events until a condition is true."""
    end = time.monotonic() + _PATIENCE
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("a step did not finish in time")
        QApplication.processEvents()
        time.sleep(0.002)


def first_table(
    path: Path, *, dropped: bool
) -> tuple[list[str], dict[str, tuple[float, float]]]:
    """Open a file and measure its pores; return the clicks and the seconds."""
    import napari

    for kind in ("CONFIG", "DATA", "STATE"):  # like a fresh installation
        os.environ[f"XDG_{kind}_HOME"] = tempfile.mkdtemp()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1366, 768)
    wait(viewer.window._qt_window.isVisible)
    person = Person(viewer)
    seconds: dict[str, tuple[float, float]] = {}
    dialogs = person.accept_dialogs()

    begin = time.perf_counter(), time.process_time()

    def lap(what: str) -> None:
        seconds[what] = (
            time.perf_counter() - begin[0],
            time.process_time() - begin[1],
        )

    if dropped:
        person.drop(path)
    else:
        person.clicks += _BY_MENU
        viewer.window._qt_viewer._qt_open([str(path)], stack=False)
    wait(lambda: len(viewer.layers) > 0)
    lap("file opened")

    person.menu("Plugins", "GeoSR", "Porosity")
    wait(lambda: _dock(viewer) is not None)
    dock = _dock(viewer)
    wait(lambda: dock.settings.threshold is not None)
    lap("dock open, threshold shown")

    person.click(dock.measure_button)
    wait(lambda: dock.is_running)
    wait(lambda: not dock.is_running and dock.result.table.model().rowCount() > 0)
    lap("table")
    dialogs.stop()
    report = dock.result.report
    print(
        f"{path.name}: porosity {100 * report.porosity:.2f} %, "
        f"{report.pore_count} pores, {report.unit}"
    )
    viewer.close()
    return person.clicks, seconds


def _dock(viewer: Any) -> Any:
    for frame in viewer.window.dock_widgets.values():
        inner = getattr(frame, "dock", None)
        if inner is not None:
            return inner
    return None


def main() -> None:
    """Print clicks and seconds for every file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    for path in parser.parse_args().files:
        for dropped in (True, False):
            clicks, seconds = first_table(path, dropped=dropped)
            times = ", ".join(
                f"{what} {elapsed:.1f} s (CPU time {worked:.1f} s)"
                for what, (elapsed, worked) in seconds.items()
            )
            print(f"  {len(clicks)} clicks: {', '.join(clicks)}\n  {times}", flush=True)


if __name__ == "__main__":
    main()
