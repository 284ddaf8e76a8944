"""The picture follows a lasso as often as the plot allows, and always at its end."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from porosity_helpers import measure, open_dock, wait_for_levels
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_geosr.gui.porosity.linked import PicturePace, pace, scatter
from napari_geosr.gui.porosity.linked.scatter import PlotAxis, ScatterView

#: Duration of frames without and with the picture on two cores without a graphics card,
#: in milliseconds.
PLAIN, FULL = 13.0, 29.0
#: Class of selected pores in the colours of the layer.
SELECTED_CLASS = 255
#: What the stopped clock shows, in seconds.
NOW = 1000.0


@pytest.fixture
def dock(viewer, qtbot):
    """A dock with 512 measured pores, plotted by their places."""
    data = np.full((16, 96, 96), 180, np.float32)
    data += np.random.default_rng(0).normal(0, 3, data.shape).astype(np.float32)
    for corner in np.ndindex(2, 16, 16):
        z, y, x = (n * step + 1 for n, step in zip(corner, (8, 6, 6), strict=True))
        data[z : z + 4, y : y + 3, x : x + 3] = 60
    viewer.add_image(data, name="foam", units="um")
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert dock.result.report.pore_count == 512
    plot = dock.result.plot
    for menu, column in ((plot.x, "centroid_x"), (plot.y, "centroid_y")):
        menu.setCurrentIndex(menu.findData(column))
    dock.tabs.setCurrentIndex(2)
    qtbot.waitUntil(plot.scatter.isVisible)
    QApplication.processEvents()
    return dock


class Lasso:
    """A lasso that the mouse draws round and round, and what changes meanwhile."""

    def __init__(self, dock) -> None:
        self.scatter, self.layer = dock.result.plot.scatter, dock.pores.layer()
        self.marked, self.table = dock.pores.marked, dock.result.table.pores
        self.changes: list[float] = []
        self.pictures: list[float] = []
        self._steps = 0
        self.marked.changed.connect(
            lambda: self.changes.append(time.perf_counter())  # not the dock: no cycle
        )
        self.layer.events.labels_update.connect(self._on_picture)

    def _on_picture(self, _event=None) -> None:
        self.pictures.append(time.perf_counter())

    def _send(self, kind) -> None:
        turn = self._steps / 9
        radius = 0.1 + 0.25 * abs(np.sin(turn / 5))
        self._steps += 1
        at = QPointF(
            self.scatter.width() * (0.5 + radius * np.cos(turn)),
            self.scatter.height() * (0.5 + radius * np.sin(turn)),
        )
        on_screen = QPointF(self.scatter.mapToGlobal(at.toPoint()))
        left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        event = QMouseEvent(kind, at, on_screen, left, left, none)
        QApplication.sendEvent(self.scatter, event)

    def begin(self) -> None:
        self._send(QEvent.Type.MouseButtonPress)

    def go_on(self, seconds: float) -> None:
        """Move the mouse and let the window be drawn, as fast as it can be."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self._send(QEvent.Type.MouseMove)
            QApplication.processEvents()

    def go_round(self) -> None:
        """Move the mouse once round, however long the window takes."""
        for _ in range(60):
            self._send(QEvent.Type.MouseMove)
            QApplication.processEvents()

    def end(self) -> None:
        self._send(QEvent.Type.MouseButtonRelease)

    def change(self, pace_) -> None:
        """Encircle a quarter of the points right after the picture was drawn."""
        (left, right), (bottom, top) = (
            (scale.low, (scale.low + scale.high) / 2) for scale in self.scatter._scales
        )
        self.scatter._timer.stop()
        self.scatter._lasso = [
            (left, bottom),
            (right, bottom),
            (right, top),
            (left, top),
        ]
        pace_._drawn_at = time.perf_counter() + 0.2  # a busy computer needs a while
        self.scatter._follow_lasso()

    def shown(self) -> dict[str, list[bool]]:
        """The selection as plot, picture and table show it."""
        pores = self.layer.colormap._classes[1:] == SELECTED_CLASS
        rows = self.table.shown_labels
        marked = {int(label): self.table.is_marked(i) for i, label in enumerate(rows)}
        return {
            "plot": self.scatter._mask.tolist(),
            "picture": pores.tolist(),
            "table": [marked[row + 1] for row in range(len(pores))],
        }

    def check_agreement(self) -> None:
        expected = self.marked.mask.tolist()
        assert 1 < sum(expected) < len(expected)
        for name, found in self.shown().items():
            assert found == expected, name


@pytest.fixture
def slow_picture(monkeypatch):
    """Each frame with the picture takes longer than one of the screen."""
    monkeypatch.setattr(PicturePace, "wait", property(lambda _: 200.0))


def test_the_picture_follows_during_a_long_stroke_but_less_often(
    qtbot, dock, slow_picture
):
    lasso = Lasso(dock)
    lasso.begin()
    lasso.go_on(0.5)  # the first picture also gets a new colormap
    lasso.changes.clear()
    lasso.pictures.clear()
    lasso.go_on(2.5)
    before_the_end = len(lasso.pictures)
    assert before_the_end >= 4
    assert before_the_end < len(lasso.changes)
    assert np.diff(lasso.pictures).min() >= 0.18  # timers may be early
    lasso.end()
    lasso.check_agreement()


def test_all_views_agree_at_once_after_a_fast_stroke(viewer, qtbot, dock, slow_picture):
    lasso = Lasso(dock)
    for _ in range(3):
        lasso.begin()
        lasso.go_round()
        lasso.end()
        lasso.check_agreement()
        assert not dock.pores._pace.is_waiting
    features = dock.pores.layer().features
    expected = lasso.marked.mask.tolist()
    qtbot.waitUntil(lambda: "selected" in features)  # written after a pause
    qtbot.waitUntil(lambda: features["selected"][1:].tolist() == expected)
    # The other way round: from the features to all views.
    features["selected"] = [False] * 500 + [True] * 13
    dock.pores.layer().events.features()
    lasso.check_agreement()
    assert lasso.marked.count == 13


def test_the_end_of_a_stroke_shows_a_picture_that_waits(qtbot, dock, slow_picture):
    """The last movement of the mouse selects nothing new."""
    lasso = Lasso(dock)
    lasso.begin()
    lasso.go_on(0.5)
    pace_ = dock.pores._pace
    lasso.change(pace_)
    assert pace_.is_waiting
    assert lasso.shown()["picture"] != lasso.shown()["plot"]
    lasso.scatter.lassoEnded.emit()  # as when the button is released
    assert not pace_.is_waiting
    lasso.check_agreement()


def test_a_picture_that_waits_is_drawn_when_the_mouse_stops(qtbot, dock, slow_picture):
    lasso = Lasso(dock)
    lasso.begin()
    lasso.go_on(0.5)
    lasso.change(dock.pores._pace)
    assert dock.pores._pace.is_waiting
    qtbot.waitUntil(lambda: not dock.pores._pace.is_waiting)
    assert lasso.scatter.is_drawing
    lasso.check_agreement()


def test_the_picture_follows_every_change_on_a_fast_computer(qtbot, dock, monkeypatch):
    monkeypatch.setattr(pace, "_FRAME", 10_000.0)  # no frame takes longer
    lasso = Lasso(dock)
    lasso.begin()
    lasso.go_on(0.5)
    lasso.changes.clear()
    lasso.pictures.clear()
    lasso.go_on(1.0)
    assert len(lasso.changes) > 5
    assert len(lasso.pictures) == len(lasso.changes)
    lasso.end()
    lasso.check_agreement()


def test_frames_with_and_without_the_picture_are_timed(
    viewer, qtbot, dock, monkeypatch
):
    """Drawing the canvas is slowed down; the frames of the plot alone are not."""
    canvas = viewer.window._qt_viewer.canvas._scene_canvas
    found, lasso = dock.pores._pace, Lasso(dock)

    def slowly(_event=None) -> None:
        time.sleep(0.5)

    lasso.begin()
    lasso.go_round()
    canvas.events.draw.connect(slowly)
    try:
        for wait, durations in (
            (0.0, found._with_picture),
            (1e6, found._without_picture),
        ):
            monkeypatch.setattr(PicturePace, "wait", property(lambda _, w=wait: w))
            durations.clear()
            lasso.go_on(3.0)
            assert durations
    finally:
        canvas.events.draw.disconnect(slowly)
    lasso.end()
    lasso.check_agreement()
    monkeypatch.undo()
    assert np.median(found._with_picture) > 500
    assert np.median(found._with_picture) > np.median(found._without_picture) + 250
    assert found.wait > 0


@pytest.mark.parametrize("what", ["layer", "dock"])
def test_layer_or_dock_may_go_in_the_middle_of_a_stroke(
    viewer, qtbot, dock, slow_picture, what
):
    lasso = Lasso(dock)
    lasso.begin()
    lasso.go_on(0.5)
    lasso.change(dock.pores._pace)
    assert dock.pores._pace.is_waiting
    if what == "layer":
        viewer.layers.remove(lasso.layer)
        qtbot.waitUntil(lambda: not dock.pores._pace.is_waiting)
        lasso.go_on(0.3)
        lasso.end()
        shown = lasso.scatter._mask.tolist()
        assert shown == lasso.marked.mask.tolist()
        assert any(shown)
    else:
        viewer.window.remove_dock_widget(dock.parent())
        qtbot.wait(300)  # a late timer would report an error, which fails the test
    assert len(viewer.layers) > 0


@pytest.mark.parametrize("count", [9, 12])
def test_other_pores_end_a_lasso(qtbot, count):
    """A measurement may finish while a lasso is drawn."""
    view = ScatterView()
    qtbot.addWidget(view)
    view.set_axes(PlotAxis("x", np.arange(9.0)), PlotAxis("y", np.arange(9.0)))
    view._press, view._before = QPointF(), np.zeros(9, bool)
    view._timer.start(1000)
    others = np.arange(float(count)) + 1
    view.set_axes(PlotAxis("x", others), PlotAxis("y", others))
    assert not view.is_drawing
    assert not view._timer.isActive()


def test_the_picture_at_the_end_of_a_stroke_is_not_timed(qtbot, dock, slow_picture):
    """The last frame of the stroke is one without the picture until it is released."""
    lasso, found = Lasso(dock), dock.pores._pace
    lasso.begin()
    lasso.go_on(0.3)
    lasso.change(found)
    assert found._began is not None
    timed = [*found._without_picture], [*found._with_picture]
    lasso.scatter._lasso = lasso.scatter._lasso[:3]  # half as many points
    lasso.end()
    lasso.check_agreement()
    assert found._began is None
    qtbot.wait(200)
    assert timed == ([*found._without_picture], [*found._with_picture])


def test_delayed_frames_do_not_count(qtbot):
    view = ScatterView()
    qtbot.addWidget(view)
    found = PicturePace(view, view)
    for seconds, count in ((60.0, 0), (0.5, 1)):
        found._began = time.perf_counter() - seconds
        found._on_drawn()
        assert len(found._without_picture) == count
        assert found._began is None


def test_a_new_report_is_drawn_once(dock, monkeypatch):
    pores, calls = dock.pores, []
    for owner, name in (
        (pores._result.table, "set_marked"),
        (pores._highlighter, "show"),
    ):
        monkeypatch.setattr(owner, name, lambda *_, name=name, **__: calls.append(name))
    pores._restart()
    assert sorted(calls) == ["set_marked", "show"]


@pytest.fixture
def stopped_clock(monkeypatch):
    """Time stands still for plot and picture, however slow the computer is."""
    for module in (pace, scatter):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: NOW))


def test_late_updates_of_the_plot_are_made_up_for(qtbot, stopped_clock):
    """After a frame of 30 ms, the next updates follow each other more closely."""
    view = ScatterView()
    qtbot.addWidget(view)
    view._lasso = [(0.0, 0.0)]
    view.set_axes(PlotAxis("x", np.arange(9.0)), PlotAxis("y", np.arange(9.0)))
    view.set_colours(np.ones((9, 4)))
    for late, expected in ((0.0, 15), (10.0, 5), (30.0, -15), (5_000.0, 15 - 48)):
        view._due = NOW - late / 1000
        view._follow_lasso()
        left = 1000 * (view._due - view.updated)
        assert left == pytest.approx(expected, abs=2), late
        assert view.late == pytest.approx(late)


@pytest.mark.parametrize(
    ("late", "past", "is_drawn"),
    [
        (0.0, 50.0, True),
        (0.0, 10.0, False),  # too soon after the last picture
        (10.0, 50.0, False),  # the plot has to catch up
        (10.0, 150.0, True),  # no longer: the picture must not stand still
    ],
)
def test_the_plot_catches_up_before_the_next_picture(
    qtbot, monkeypatch, stopped_clock, late, past, is_drawn
):
    monkeypatch.setattr(PicturePace, "wait", property(lambda _: 20.0))
    view = ScatterView()
    qtbot.addWidget(view)
    found, drawn = PicturePace(view, view), []
    found.due.connect(lambda: drawn.append(True))
    view._late = late
    found._drawn_at = NOW - past / 1000
    found.follow()
    assert bool(drawn) is is_drawn
    assert found.is_waiting is not is_drawn


def test_the_number_of_selected_pores_is_right_at_the_end_of_a_stroke(qtbot, dock):
    """While the lasso is drawn, the number is updated less often than the plot."""
    lasso, plot, texts = Lasso(dock), dock.result.plot, set()
    lasso.marked.changed.connect(lambda: texts.add(plot.summary.text()))
    lasso.begin()
    lasso.go_on(1.0)
    assert 1 < len(texts) < len(lasso.changes)
    lasso.end()
    assert plot.summary.text().startswith(f"{lasso.marked.count} of 512 pores")
    lasso.check_agreement()


@pytest.mark.parametrize(
    ("plain", "full", "expected"),
    [
        (4.0, 12.0, 0.0),  # everything is drawn within a frame of the screen
        (33.0, 33.5, 0.0),  # a slow screen: the plot would gain nothing
        (20.0, 45.0, 100.0),  # the plot is late anyway
        (15.9, 60.0, 100.0),
    ],
)
def test_how_long_the_picture_waits(qtbot, plain, full, expected):
    view = ScatterView()
    qtbot.addWidget(view)
    found = PicturePace(view, view)
    assert found.wait == 0  # nothing is known yet
    found._with_picture.extend([full] * 5)
    found._without_picture.extend([plain] * 5)
    assert found.wait == expected


def test_the_plot_keeps_up_with_the_screen(qtbot):
    """The changes of one cycle, one of them with the picture, per its duration."""
    view = ScatterView()
    qtbot.addWidget(view)
    found = PicturePace(view, view)
    found._with_picture.extend([FULL, FULL, 400.0])  # one outlier does not count
    found._without_picture.extend([PLAIN] * 3)
    wait = found.wait
    rate = 1000 * (1 + wait / PLAIN) / (FULL + wait)
    assert rate >= 60
    assert 1000 / (FULL + wait) >= 10  # pictures a second
