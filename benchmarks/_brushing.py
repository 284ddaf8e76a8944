"""100,000 pores, brushed with the mouse in the plot of the Porosity dock."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QEventLoop, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from _window import POROSITY, Gaps, opened, wait, wait_until

#: Distance between the centres of two pores, in voxels.
STEP = 6
#: Milliseconds between two movements of the mouse.
FRAME = 16


def foam(shape: tuple[int, int, int]) -> np.ndarray:
    """Separate box-shaped pores of random size in a bright solid."""
    rng = np.random.default_rng(0)
    data = np.full(shape, 180, np.uint8)
    for corner in np.ndindex(*(n // STEP for n in shape)):
        size = rng.integers(2, STEP, 3)
        box = tuple(
            slice(STEP * c, STEP * c + s) for c, s in zip(corner, size, strict=True)
        )
        data[box] = 60
    return data


def shown_pores(viewer: Any, planes: int) -> Any:
    """Measure the foam; the Porosity dock with the places of its pores plotted."""
    viewer.add_image(foam((planes, 512, 512)), name="foam", units="um")
    dock = opened(viewer, POROSITY)
    wait_until("grey values", lambda: dock.settings.threshold is not None)
    before = dock.settings.form.values()
    dock.settings.form.set_values({"min_voxels": 1})
    dock.measure_button.click()
    wait_until("measured", lambda: not dock.is_running, 600)
    dock.settings.form.set_values(before)  # napari remembers these
    plot = dock.result.plot
    for menu, column in ((plot.x, "centroid_x"), (plot.y, "centroid_y")):
        menu.setCurrentIndex(menu.findData(column))
    viewer.dims.set_point(0, planes // 2 // STEP * STEP)  # all pores begin here
    dock.tabs.setCurrentIndex(2)
    wait(0.5)
    return dock


def redrawn(viewer: Any, dock: Any) -> None:
    """Have the canvas and the plot drawn again, without any change."""
    viewer.window._qt_viewer.canvas.native.update()
    dock.result.plot.scatter.plot.viewport().update()


def mouse(scatter: Any, kind: QEvent.Type, place: tuple[float, float]) -> None:
    """Send what Qt does for the mouse over the plot."""
    at, left = QPointF(*place), Qt.MouseButton.LeftButton
    on_screen = QPointF(scatter.mapToGlobal(at.toPoint()))
    none = Qt.KeyboardModifier.NoModifier
    QApplication.sendEvent(scatter, QMouseEvent(kind, at, on_screen, left, left, none))


def repeated(step: Callable[[], Any], seconds: float = 3.0) -> Gaps:
    """Call `step` each 16 ms from the event loop; the gaps of the loop meanwhile."""
    loop, timer, gaps = QEventLoop(), QTimer(), Gaps()
    timer.timeout.connect(step)
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    with gaps:
        timer.start(FRAME)
        loop.exec()
        timer.stop()
    return gaps


def drawn_by_mouse(scatter: Any) -> Gaps:
    """Draw a spiral with the mouse; the gaps of the event loop in this time."""
    size = scatter.width(), scatter.height()
    count = itertools.count()

    def place() -> tuple[float, float]:
        turn = next(count) / 8
        radius = min(0.4, 0.05 + 0.01 * turn)
        x, y = 0.5 + radius * np.cos(turn), 0.5 + radius * np.sin(turn)
        return float(x * size[0]), float(y * size[1])

    mouse(scatter, QEvent.Type.MouseButtonPress, place())
    gaps = repeated(lambda: mouse(scatter, QEvent.Type.MouseMove, place()))
    mouse(scatter, QEvent.Type.MouseButtonRelease, place())
    return gaps


def brushed(dock: Any) -> tuple[Gaps, float]:
    """Gaps of the event loop while a lasso is drawn, and changes per second."""
    marked, changes = dock.pores.marked, list[float]()

    def note() -> None:
        changes.append(time.perf_counter())

    marked.changed.connect(note)
    gaps = drawn_by_mouse(dock.result.plot.scatter)
    marked.changed.disconnect(note)
    return gaps, (len(changes) - 1) / (changes[-1] - changes[0])
