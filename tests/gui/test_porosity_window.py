"""The Porosity dock as a window: it stops, fits, is accessible, and survives."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from event_loop import Turns
from opening import opened
from porosity_helpers import add, measure, open_dock, physical, wait_for_levels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

from napari_geosr.gui.kit.remembered import remember
from napari_geosr.operations.measure import MeasureConfig


def test_stopping_removing_and_closing_end_the_worker(
    make_napari_viewer, qtbot, monkeypatch
):
    viewer = make_napari_viewer(show=True)
    from napari_geosr.core.errors import Cancelled
    from napari_geosr.core.steps import BlockDone
    from napari_geosr.gui.porosity import measuring as _measuring

    closed = []

    def endless(volumes, config, mask, *, deviation, should_stop):
        try:
            while True:
                if should_stop():
                    raise Cancelled("Stopped.")
                time.sleep(0.01)
                yield BlockDone(1, 2)
        finally:
            closed.append(True)

    monkeypatch.setattr(_measuring, "measure_several_steps", endless)
    layer = add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)

    dock.measure_button.click()
    qtbot.waitUntil(lambda: dock.progress.value() == 1)
    assert dock.cancel_button.isVisible()
    dock.cancel_button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=30_000)
    assert len(closed) == 1
    assert dock.measure_button.isEnabled()

    dock.measure_button.click()
    qtbot.waitUntil(lambda: dock.progress.value() == 1)
    viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: len(closed) == 2, timeout=2000)
    qtbot.waitUntil(lambda: not dock.is_running, timeout=2000)
    qtbot.waitUntil(lambda: "was removed" in dock.message.text)
    dock.levels.outdated.emit()  # as when its grey values are checked again, late
    assert "was removed" in dock.message.text

    add(viewer, physical())
    wait_for_levels(dock, qtbot)
    dock.measure_button.click()
    qtbot.waitUntil(lambda: dock.progress.value() == 1)
    viewer.close()
    qtbot.waitUntil(lambda: len(closed) == 3, timeout=2000)


def test_the_last_settings_are_there_again(viewer, qtbot):
    remember("porosity", MeasureConfig(threshold=7.0, phase="bright", min_voxels=33))
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    config = dock.settings.config()
    assert (config.phase, config.min_voxels) == ("bright", 33)
    # A grey value of another image means nothing in this one.
    assert config.threshold == "otsu"


def test_dock_fits_and_says_what_everything_is(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert dock.minimumSizeHint().width() <= 300
    window = viewer.window._qt_window
    window.resize(1200, 740)
    button = dock.measure_button
    for index in (0, 1):
        dock.tabs.setCurrentIndex(index)
        for width in (360, 300):
            frame = dock.parentWidget().parentWidget()
            window.resizeDocks([frame], [width], Qt.Orientation.Horizontal)
            qtbot.wait(50)
            assert dock.width() <= width
            assert dock.height() <= 680
            assert button.isVisible()
            assert dock.rect().contains(button.mapTo(dock, button.rect().bottomRight()))
            for area in (dock.scroll, dock.result._above):
                if area.isVisible():
                    inner = area.widget()
                    assert inner.minimumSizeHint().width() <= area.viewport().width()
    public = [
        widget
        for widget in dock.findChildren(QWidget)
        if type(widget).__module__.startswith("napari_geosr")
        or widget.focusPolicy() != Qt.FocusPolicy.NoFocus
    ]
    inner = ("qt_", "ScrollBar")
    for widget in public:
        if widget.objectName().startswith(inner) or not widget.isEnabled():
            continue
        if isinstance(widget.parent(), QWidget) and widget.parent().accessibleName():
            continue  # part of a widget that has a name
        what = f"{type(widget).__name__} {widget.objectName()}"
        assert widget.accessibleName() or widget.children(), what


@pytest.mark.every(2)
@pytest.mark.parametrize("height", [600, 630])
def test_nothing_overlaps_in_a_low_window(make_napari_viewer, qtbot, height):
    viewer = make_napari_viewer(show=True)  # nothing else increases its height
    add(viewer, physical())
    opened(viewer)
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    dock.message.show_message("Voxels are left out. " * 12, "warning")
    viewer.window._qt_window.resize(1200, height)
    qtbot.wait(200)
    assert viewer.window._qt_window.height() == height
    result = dock.result

    def place(widget, within):
        return widget.rect().translated(widget.mapTo(within, widget.rect().topLeft()))

    parts = (result._above, result.colour, result.table, result.export)
    for upper, lower in itertools.pairwise(parts):
        assert place(upper, result).bottom() < place(lower, result).top()
    assert not place(result.table, result).intersects(
        place(result.only_selected, result)
    )
    rows = (dock.tabs, dock.message, dock.measure_button)
    for upper, lower in itertools.pairwise(rows):
        assert place(upper, dock).bottom() < place(lower, dock).top()
    assert place(dock.measure_button, dock).bottom() < dock.height()
    # Everything can be reached, and no column is truncated.
    page = result._page
    page.ensureWidgetVisible(result.export)
    assert not result.export.visibleRegion().isEmpty()
    assert page.widget().width() <= page.viewport().width()
    assert page.viewport().height() >= 80


def test_of_a_hundred_thousand_pores_only_those_shown_become_text(qtbot, monkeypatch):
    from napari_geosr.gui.porosity.pore_table import PoreTable, PoreTableModel

    asked = []
    data = PoreTableModel.data

    def counted(self, index, role=Qt.ItemDataRole.DisplayRole):
        asked.append(index.row())
        return data(self, index, role)

    monkeypatch.setattr(PoreTableModel, "data", counted)

    n = 100_000
    rng = np.random.default_rng(0)
    columns = {"label": np.arange(1, n + 1), "volume": rng.lognormal(size=n)}
    columns |= {f"c{i}": rng.normal(size=n) for i in range(18)}
    table = PoreTable()
    qtbot.addWidget(table)
    with qtbot.waitExposed(table):
        table.show()
    for action in (
        lambda: table.set_table(columns, {"volume": "µm³"}),
        lambda: table.sortByColumn(1, Qt.SortOrder.DescendingOrder),
        lambda: table.select_label(77_777),
        lambda: table.set_minimum("volume", 1.0),
    ):
        asked.clear()
        action()
        table.viewport().repaint()
        assert 0 < len(set(asked)) < n / 100
    kept = columns["volume"] >= 1
    assert table.model().rowCount() == kept.sum()
    assert table.selected_label() in (None, 77_777)


def test_the_window_goes_on(viewer, qtbot):
    from scipy import ndimage

    rng = np.random.default_rng(0)
    block = ndimage.gaussian_filter(rng.normal(size=(16, 512, 512)), 3, mode="wrap")
    block = np.where(block < np.quantile(block, 0.15), 60, 180).astype(np.float32)
    block += rng.normal(0, 8, block.shape).astype(np.float32)
    viewer.add_image(np.tile(block, (12, 1, 1)), name="scan", units="um")
    with Turns() as reading:
        dock = open_dock(viewer, qtbot)
        wait_for_levels(dock, qtbot)
    assert reading.count > 1  # again after the event loop was blocked
    dock.settings.form.editor("min_voxels").setValue(50)
    dock.measure_button.click()
    with Turns() as running:
        qtbot.waitUntil(
            lambda: running.count > 10 or not dock.is_running, timeout=120_000
        )
    assert running.count > 10  # a slow computer may have ended the run by now
    dock.cancel()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=30_000)
    assert dock.measure_button.isEnabled()


def test_the_preview_goes_with_the_dock_and_does_not_pile_up(viewer, qtbot, rng):
    data = rng.normal(100, 5, (12, 30, 30)).astype(np.float32)
    data[4:8, 8:14, 8:14] = 20
    layer = viewer.add_image(data, name="foam", scale=(2, 1, 1), units="um")
    for _ in range(2):
        dock = open_dock(viewer, qtbot)
        wait_for_levels(dock, qtbot)
        qtbot.waitUntil(lambda: len(viewer.layers) == 2)
        # As with the close button of its title bar.
        viewer.window.remove_dock_widget(dock.parent())
        qtbot.waitUntil(lambda: list(viewer.layers) == [layer])


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_unknown_values_are_last_in_a_sorted_table(qtbot, order):
    from napari_geosr.gui.porosity.pore_table import PoreTableModel

    table = PoreTableModel()
    values = np.array([0.5, np.nan, 0.9, np.nan, 0.2])
    table.set_table({"label": np.arange(1, 6), "sphericity": values}, {})
    table.sort(1, getattr(Qt.SortOrder, f"{order}Order"))
    known = [5, 1, 3] if order == "Ascending" else [3, 1, 5]
    labels = [table.label_at(row) for row in range(5)]
    assert labels[:3] == known
    assert sorted(labels[3:]) == [2, 4]


def test_values_with_bands_of_two_images_fit(viewer, qtbot):
    """Both columns are visible in a narrow dock, and no unit is torn apart."""
    one = add(viewer, physical())
    other = add(viewer, physical(name="other", noise=10))
    dock = open_dock(viewer, qtbot)
    dock.settings.image.set_layer(one)
    dock.settings.other.set_layer(other)
    wait_for_levels(dock, qtbot)
    box = dock.settings.morphometry
    for name in ("thickness", "trabecular", "profile", "additive"):
        box.boxes[name].click()
    box.bands.click()
    measure(dock, qtbot)
    dock.tabs.setCurrentIndex(1)
    frame = dock.parentWidget().parentWidget()
    window, area = viewer.window._qt_window, dock.result._above
    window.resize(1200, 740)
    window.resizeDocks([frame], [380], Qt.Orientation.Horizontal)
    qtbot.wait(50)
    bar, inner = area.horizontalScrollBar(), area.widget()
    assert inner.minimumSizeHint().width() <= area.viewport().width()
    assert not bar.isVisible()
    # If values do not fit nevertheless, they can be reached.
    inner.setMinimumWidth(2 * area.viewport().width())
    qtbot.waitUntil(bar.isVisible)
    assert bar.maximum() > 0
    labels = dock.result.figures.findChildren(QLabel)
    titles = [label.text().replace("\n", " ") for label in labels]
    assert "Prof.SD (percentage points)" in titles
    assert "BV/TV (%)" in titles
    assert any(text.count("(") == text.count(")") == 1 for text in titles)
