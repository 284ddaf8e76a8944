"""Pores are selected by ranges of histograms, and by outlines in the viewer."""

from __future__ import annotations

import numpy as np
import pytest
from porosity_helpers import measure, open_dock, wait_for_levels
from qtpy.QtCore import QEvent, QObject, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QAbstractButton, QApplication

from napari_geosr.gui.layers import is_helper
from napari_geosr.gui.porosity.linked import PictureOutlines
from napari_geosr.gui.porosity.linked.axes import BINS
from napari_geosr.gui.porosity.linked.picture import LAYER_NAME, labels_inside
from napari_geosr.gui.porosity.pore_colours import HIGHLIGHT

NONE, SHIFT, ALT = (
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.AltModifier,
)
LEFT = Qt.MouseButton.LeftButton
#: Edges in voxels and corners of the cubic pores, in the order of their labels.
PORES = {2: (4, 4, 4), 3: (4, 4, 30), 5: (4, 30, 4), 8: (4, 28, 28)}


@pytest.fixture
def dock(viewer, qtbot):
    """Four pores of 8, 27, 125 and 512 voxels, all in the slices 4 and 5."""
    data = np.full((16, 40, 40), 180, np.float32)
    for edge, (z, y, x) in PORES.items():
        data[z : z + edge, y : y + edge, x : x + edge] = 60
    viewer.add_image(data, name="cubes", units="um", scale=(2, 0.5, 0.5))
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert dock.result.report.pore_count == 4
    return dock


def sizes(dock) -> list[int]:
    """Edges of the selected pores in every view; these must agree."""
    mask = dock.pores.marked.mask
    table, layer = dock.result.table.pores, dock.pores.layer()
    colours = layer.colormap.map(np.arange(5, dtype=np.uint32))
    rows = {
        int(label): table.is_marked(i) for i, label in enumerate(table.shown_labels)
    }
    chosen = {item.row() for item in dock.result.table.selectionModel().selectedRows()}
    rows |= {table.label_at(i): True for i in chosen}
    for i, expected in enumerate(mask):
        is_lit = np.allclose(colours[i + 1], HIGHLIGHT, atol=0.01)
        assert is_lit == expected == rows[i + 1]
    assert dock.result.plot.scatter._mask.tolist() == mask.tolist()
    voxels = dock.result.report.table["voxels"][mask]
    assert int(dock.result.histogram.selected_counts().sum()) == len(voxels)
    return sorted(round(n ** (1 / 3)) for n in voxels)


def drag(qtbot, widget, places, modifier=NONE, pause=0) -> None:
    """Drag the mouse; `qtbot.mouseMove` cannot press its button."""
    qtbot.mousePress(widget, LEFT, modifier, places[0])
    for place in places[1:]:
        at, there = QPointF(place), QPointF(widget.mapToGlobal(place))
        moved = QMouseEvent(QEvent.Type.MouseMove, at, there, LEFT, LEFT, modifier)
        QApplication.sendEvent(widget, moved)
        if pause:
            qtbot.wait(pause)
    qtbot.mouseRelease(widget, LEFT, modifier, places[-1])


def shown_histogram(dock, qtbot):
    dock.tabs.setCurrentIndex(1)
    histogram = dock.result.histogram
    qtbot.waitUntil(histogram.isVisible)
    QApplication.processEvents()
    return histogram


def test_a_range_of_sizes_selects_its_pores(qtbot, dock):
    histogram = shown_histogram(dock, qtbot)
    volumes = np.array([8, 27, 125, 512]) * 0.5

    def between(low: float, high: float, modifier=NONE) -> None:
        ends = [QPoint(round(histogram.x_of(value)), 40) for value in (low, high)]
        drag(qtbot, histogram, [ends[0], (ends[0] + ends[1]) / 2, ends[1]], modifier)

    between(volumes[1] * 0.7, volumes[2] * 1.4)
    assert sizes(dock) == [3, 5]
    between(volumes[3] * 1.5, volumes[3] * 0.7, SHIFT)  # from right to left
    assert sizes(dock) == [3, 5, 8]
    between(volumes[2] * 0.7, volumes[2] * 1.4, ALT)
    assert sizes(dock) == [3, 8]
    assert histogram._selected.isVisible()
    assert histogram.accessibleDescription().endswith("; 2 selected")
    between(volumes[0] / 3, volumes[3] * 3)  # beyond both ends
    assert sizes(dock) == [2, 3, 5, 8]
    qtbot.keyClick(histogram, Qt.Key.Key_Escape)
    assert sizes(dock) == []
    assert not histogram._selected.isVisible()


@pytest.mark.parametrize(
    ("modifier", "before", "expected"),
    [(SHIFT, [1], [2, 3]), (ALT, [1, 2, 3, 4], [2, 5, 8])],
)
def test_a_range_can_be_made_smaller_again(qtbot, dock, modifier, before, expected):
    """Shift and Alt combine the range with the selection before it."""
    histogram = shown_histogram(dock, qtbot)
    order = np.argsort(dock.result.report.table["volume"])
    dock.pores.marked.set_labels(order[np.array(before) - 1] + 1)
    volumes = np.array([8, 27, 125, 512]) * 0.5
    ends = [volumes[1] * 0.7, volumes[3] * 1.4, volumes[1] * 1.4]
    places = [QPoint(round(histogram.x_of(value)), 40) for value in ends]
    drag(qtbot, histogram, places, modifier)
    assert sizes(dock) == expected


def test_a_click_selects_one_bar(qtbot, dock):
    histogram = shown_histogram(dock, qtbot)
    (bars,) = histogram.series
    for i in np.flatnonzero(bars.counts):
        middle = np.sqrt(bars.edges[i] * bars.edges[i + 1])
        place = QPoint(round(histogram.x_of(middle)), 40)
        qtbot.mouseClick(histogram, LEFT, NONE, place)
        assert len(sizes(dock)) == bars.counts[i]
        assert histogram.selected_counts().tolist() == [
            count * (j == i) for j, count in enumerate(bars.counts)
        ]


def test_the_histogram_shows_what_other_views_select(qtbot, dock):
    """Also if it is hidden meanwhile."""
    histogram = shown_histogram(dock, qtbot)
    dock.pores.marked.set_labels([1])
    assert histogram.selected_counts().sum() == 1
    dock.tabs.setCurrentIndex(2)
    dock.pores.marked.set_labels([1, 4])
    shown_histogram(dock, qtbot)
    assert histogram._selected.isVisible()
    assert histogram.accessibleDescription().endswith("; 2 selected")
    assert len(sizes(dock)) == 2


@pytest.mark.parametrize("axis", [0, 1])
def test_a_range_of_a_histogram_along_an_axis_of_the_plot(qtbot, dock, axis):
    dock.tabs.setCurrentIndex(2)
    plot = dock.result.plot
    for menu in (plot.x, plot.y):  # the points are on the diagonal
        menu.setCurrentIndex(menu.findData("volume"))
    scatter = plot.scatter
    qtbot.waitUntil(scatter.isVisible)
    QApplication.processEvents()
    order = np.argsort(dock.result.report.table["volume"])
    points = [scatter.point_of(int(row)).toPoint() for row in order]
    last = scatter.point_of(int(order[-1])).toPoint()

    def beside(point: QPoint, by: int = 0) -> QPoint:
        """The place in the histogram next to a point."""
        if axis:
            return QPoint(last.x() + 20, point.y() - by)
        return QPoint(point.x() + by, last.y() - 20)

    drag(qtbot, scatter, [beside(points[1], -9), beside(points[2], 9)])
    assert sizes(dock) == [3, 5]
    drag(qtbot, scatter, [beside(points[0], 9), beside(points[0], -9)], SHIFT)
    assert sizes(dock) == [2, 3, 5]
    row, scale = int(order[2]), scatter._scales[axis]
    width = (scale.high - scale.low) / BINS
    values = [p.copy() for p in scatter._positions]
    number = scale.bins(values[axis][row])
    values[axis][row] = scale.low + (number + 0.5) * width  # the middle of its bar
    scatter._positions, before = values, scatter._positions
    middle = scatter.point_of(row).toPoint()
    scatter._positions = before
    qtbot.mouseClick(scatter, LEFT, NONE, beside(middle))
    assert sizes(dock) == [5]
    assert not scatter.is_drawing


def start(dock, qtbot):
    """The layer for outlines, after a click on the button."""
    dock.tabs.setCurrentIndex(2)
    button = dock.result.plot.outline
    qtbot.mouseClick(button, LEFT)
    assert button.isChecked()
    return dock.pores._viewer.layers[LAYER_NAME]


def box(edge: int, z: float = 4.0) -> np.ndarray:
    """Corners of a rectangle around a pore, in voxels."""
    _, y, x = PORES[edge]
    low, high = -1.0, edge + 0.5
    ways = [(low, low), (low, high), (high, high), (high, low)]
    return np.array([(z, y + dy, x + dx) for dy, dx in ways])


def test_outlines_in_the_picture_select_pores(viewer, qtbot, dock):
    viewer.dims.set_point(0, 8)
    layer = start(dock, qtbot)
    assert viewer.layers.selection.active is layer
    assert str(layer.mode) == "add_polygon_lasso"
    for edge, kind in ((3, "polygon"), (8, "rectangle"), (5, "ellipse")):
        layer.add(box(edge), shape_type=kind)
        assert sizes(dock) == [edge]
        qtbot.waitUntil(lambda: len(layer.data) == 0)  # ready for the next one
    layer.add(box(2)[:2], shape_type="line")
    assert sizes(dock) == [5]  # a line has no inside
    layer.add(box(8, z=14), shape_type="polygon")
    assert sizes(dock) == []  # no pore in this slice
    qtbot.mouseClick(dock.result.plot.outline, LEFT)
    assert LAYER_NAME not in viewer.layers
    assert viewer.layers.selection.active is dock.pores.layer()


def test_keys_add_to_the_selection_and_remove_from_it(dock, monkeypatch, qtbot):
    layer = start(dock, qtbot)
    for edge, key, expected in (
        (3, NONE, [3]),
        (8, SHIFT, [3, 8]),
        (3, ALT, [8]),
        (5, NONE, [5]),
    ):
        monkeypatch.setattr(QApplication, "keyboardModifiers", lambda key=key: key)
        layer.add(box(edge), shape_type="polygon")
        assert sizes(dock) == expected
    monkeypatch.undo()


def test_the_mouse_draws_a_lasso_in_the_picture(viewer, qtbot, dock):
    viewer.dims.set_point(0, 8)
    viewer.window._qt_window.resize(1000, 800)
    viewer.reset_view()
    layer = start(dock, qtbot)
    QApplication.processEvents()
    canvas = viewer.window._qt_viewer.canvas
    native, view = canvas.native, canvas.view
    transform = view.transform * view.scene.transform

    def pixel(corner: np.ndarray) -> QPoint:
        y, x = layer.data_to_world(corner)[1:]
        place = transform.map([x, y, 0, 1])
        return QPoint(*(round(float(n / place[3])) for n in place[:2]))

    corners = [pixel(corner) for corner in box(8)]
    path = [
        start_ + (end - start_) * (i / 5)
        for start_, end in zip(corners, [*corners[1:], corners[0]], strict=True)
        for i in range(5)
    ]
    drag(qtbot, native, path, pause=30)  # vispy skips moves that follow too closely
    assert sizes(dock) == [8]
    qtbot.waitUntil(lambda: len(layer.data) == 0)
    assert str(layer.mode) == "add_polygon_lasso"


@pytest.mark.parametrize("how", ["outline", "pores", "3D", "measure"])
def test_what_ends_outlining(viewer, qtbot, dock, how):
    layer, button = start(dock, qtbot), dock.result.plot.outline
    if how == "outline":
        viewer.layers.remove(layer)
    elif how == "pores":
        viewer.layers.remove(dock.pores.layer())
    elif how == "3D":
        viewer.dims.ndisplay = 3
    else:
        measure(dock, qtbot)
    assert LAYER_NAME not in viewer.layers
    assert not button.isChecked()


def test_the_layer_of_outlines_goes_with_the_dock(viewer, qtbot):
    parent = QObject()
    outlines = PictureOutlines(viewer, parent)
    pores = viewer.add_labels(np.ones((4, 8, 8), np.uint8), name="pores")
    outlines.begin(pores)
    assert is_helper(viewer.layers[LAYER_NAME])  # no dock offers it as a sample
    del outlines
    parent.deleteLater()
    qtbot.waitUntil(lambda: LAYER_NAME not in viewer.layers)


def test_why_outlines_cannot_be_drawn(viewer, qtbot, dock):
    plot = dock.result.plot
    dock.tabs.setCurrentIndex(2)
    viewer.dims.ndisplay = 3
    plot.outline.click()
    assert "2D view" in plot.fault.text
    assert not plot.outline.isChecked()
    viewer.dims.ndisplay = 2
    plot.outline.click()
    assert not plot.fault.text
    viewer.layers.remove(dock.pores.layer())
    plot.outline.click()
    assert "was removed" in plot.fault.text
    assert not plot.outline.isChecked()
    assert LAYER_NAME not in viewer.layers


def test_the_button_has_a_tool_tip_and_a_key_of_its_own(dock):
    button = dock.result.plot.outline
    assert button.accessibleName() == "Select in viewer"
    key = button.shortcut().toString()
    assert key in button.toolTip()
    keys = [b.shortcut().toString() for b in dock.findChildren(QAbstractButton)]
    assert keys.count(key) == 1


def test_labels_inside_an_outline() -> None:
    labels = np.zeros((3, 20, 30), np.uint16)
    labels[:, 2:5, 3:6], labels[1, 10:19, 20:29] = 7, 9
    square = np.array([(1, 0, 0), (1, 0, 8), (1, 8, 8), (1, 8, 0)], float)
    assert labels_inside(labels, square, [1, 2]).tolist() == [7]
    assert labels_inside(labels, square * (1, 4, 4), [1, 2]).tolist() == [7, 9]
    assert labels_inside(labels, square - 50, [1, 2]).tolist() == []
    assert labels_inside(labels, square + np.array((0, 50, 50)), [1, 2]).tolist() == []
    upright = square[:, [1, 0, 2]] + np.array((-1, 2, 0))  # in the plane of Z and X
    assert labels_inside(labels, upright, [0, 2]).tolist() == [7]
    beside = square * (1, 1, 0.3)  # the pore begins at the centre of voxel 3
    assert labels_inside(labels, beside, [1, 2]).tolist() == []


def test_nothing_to_end(viewer, qtbot):
    outlines = PictureOutlines(viewer, viewer.window._qt_window)
    with qtbot.assertNotEmitted(outlines.ended):
        outlines.end()
