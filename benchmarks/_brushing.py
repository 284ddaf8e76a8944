"""Select among 100,000 pores with the mouse in the plot of the Porosity dock."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QEventLoop, QObject, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from _window import POROSITY, Gaps, opened, wait, wait_until
from napari_geosr.gui.porosity.linked import PicturePace

#: Distance between the centres of two pores, in voxels.
STEP = 6
#: Milliseconds between two redraws of the unchanged window.
FRAME = 16
#: Milliseconds between two movements of the mouse: 125 a second, like most USB mice.
MOUSE = 8


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
    """Measure the foam, and plot the positions of its pores in the Porosity dock."""
    viewer.add_image(foam((planes, 512, 512)), name="foam", units="um")
    dock = opened(viewer, POROSITY)
    wait_until("grey values", lambda: dock.settings.threshold is not None)
    before = dock.settings.form.values()
    dock.settings.form.set_values({"min_voxels": 1})
    dock.measure_button.click()
    wait_until("measured", lambda: not dock.is_running, 600)
    dock.settings.form.set_values(before)  # napari would remember these
    plot = dock.result.plot
    for menu, column in ((plot.x, "centroid_x"), (plot.y, "centroid_y")):
        menu.setCurrentIndex(menu.findData(column))
    viewer.dims.set_point(0, planes // 2 // STEP * STEP)  # first plane of some pores
    dock.tabs.setCurrentIndex(2)
    wait(0.5)
    return dock


def redrawn(viewer: Any, dock: Any) -> None:
    """Redraw the canvas and the plot without any change."""
    viewer.window._qt_viewer.canvas.native.update()
    dock.result.plot.scatter.plot.viewport().update()


def mouse(scatter: Any, kind: QEvent.Type, place: tuple[float, float]) -> None:
    """Send the event that Qt sends when the mouse is used over the plot."""
    at, left = QPointF(*place), Qt.MouseButton.LeftButton
    on_screen = QPointF(scatter.mapToGlobal(at.toPoint()))
    none = Qt.KeyboardModifier.NoModifier
    QApplication.sendEvent(scatter, QMouseEvent(kind, at, on_screen, left, left, none))


def repeated(
    step: Callable[[], Any], interval: int = FRAME, seconds: float = 3.0
) -> Gaps:
    """Call `step` regularly from the event loop, and measure the gaps in the loop.

    Parameters
    ----------
    step : callable
    interval : int
        Milliseconds between two calls.
    seconds : float
        Duration in total.
    """
    loop, timer, gaps = QEventLoop(), QTimer(), Gaps()
    timer.timeout.connect(step)
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    with gaps:
        timer.start(interval)
        loop.exec()
        timer.stop()
    return gaps


def drawn_by_mouse(scatter: Any) -> Gaps:
    """Draw a spiral with the mouse, and measure the gaps in the event loop."""
    size = scatter.width(), scatter.height()
    count = itertools.count()

    def place() -> tuple[float, float]:
        turn = next(count) / 16
        radius = min(0.4, 0.05 + 0.01 * turn)
        x, y = 0.5 + radius * np.cos(turn), 0.5 + radius * np.sin(turn)
        return float(x * size[0]), float(y * size[1])

    mouse(scatter, QEvent.Type.MouseButtonPress, place())
    gaps = repeated(lambda: mouse(scatter, QEvent.Type.MouseMove, place()), MOUSE)
    mouse(scatter, QEvent.Type.MouseButtonRelease, place())
    return gaps


class Drawn(QObject):
    """Times of the first redraw after each change, or after several changes."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []
        self._has_changed = False

    def change(self, _event: object = None) -> None:
        """Record that a redraw is due."""
        self._has_changed = True

    def draw(self, _event: object = None) -> None:
        """Record the time if a redraw was due."""
        if self._has_changed:
            self.times.append(time.perf_counter())
        self._has_changed = False

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Record that a widget is redrawn."""
        if event.type() == QEvent.Type.Paint:
            self.draw()
        return False

    @property
    def rate(self) -> float:
        """Number of redraws per second."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])

    @property
    def longest(self) -> float:
        """Longest time between two redraws, in milliseconds."""
        return float(1000 * np.diff(self.times).max())


@dataclass(frozen=True, eq=False)
class Stroke:
    """Measurements made while a lasso was drawn with the mouse.

    Attributes
    ----------
    gaps : Gaps
        Gaps in the event loop.
    changes : int
        Number of changes of the selection.
    plot, picture : Drawn
        Times at which the plot, and napari's canvas, were drawn with a new selection.
    """

    gaps: Gaps
    changes: int
    plot: Drawn
    picture: Drawn

    def __str__(self) -> str:
        return (
            f"{self.changes} changes of the selection; the plot was drawn with a new "
            f"one {self.plot.rate:.0f} times a second (longest pause "
            f"{self.plot.longest:.0f} ms), the picture {self.picture.rate:.0f} times "
            f"a second (longest pause {self.picture.longest:.0f} ms)"
        )


@contextlib.contextmanager
def at_every_change() -> Iterator[None]:
    """Update the picture after every change, however long the drawing takes."""
    wait_of_pace = PicturePace.wait
    PicturePace.wait = property(lambda _pace: 0.0)
    try:
        yield
    finally:
        PicturePace.wait = wait_of_pace


def brushed(viewer: Any, dock: Any) -> Stroke:
    """Draw a lasso; afterwards, plot, picture, table and features must agree."""
    pores, scatter = dock.pores, dock.result.plot.scatter
    layer, marked, changes = pores.layer(), pores.marked, list[int]()
    plot, picture = Drawn(), Drawn()
    canvas = viewer.window._qt_viewer.canvas._scene_canvas
    note = lambda: (changes.append(1), plot.change())  # noqa: E731
    marked.changed.connect(note)
    scatter.plot.viewport().installEventFilter(plot)
    layer.events.labels_update.connect(picture.change)
    canvas.events.draw.connect(picture.draw)
    gaps = drawn_by_mouse(scatter)
    marked.changed.disconnect(note)
    scatter.plot.viewport().removeEventFilter(plot)
    layer.events.labels_update.disconnect(picture.change)
    canvas.events.draw.disconnect(picture.draw)
    wait(0.6)  # until the features are updated
    check_agreement(dock, layer)
    return Stroke(gaps, len(changes), plot, picture)


def check_agreement(dock: Any, layer: Any) -> None:
    """Fail unless plot, picture, table and features show the same selection."""
    mask = dock.pores.marked.mask
    table = dock.result.table.pores
    shown = table.shown_labels - 1
    rows = np.zeros(len(mask), bool)
    rows[shown] = [table.is_marked(row) for row in range(len(shown))]
    classes = layer.colormap._classes[1:]  # 255: selected
    for name, found in (
        ("plot", dock.result.plot.scatter._mask),
        ("picture", classes == 255),
        ("table", rows),
        ("features", np.asarray(layer.features["selected"], bool)[1:]),
    ):
        if not np.array_equal(found, mask):
            raise RuntimeError(f"The {name} shows another selection.")
