"""Morphometry and groups of pores in the Porosity dock."""

from __future__ import annotations

import numpy as np
import pytest
from porosity_helpers import add, measure, open_dock, physical, scan, wait_for_levels

from napari_geosr.operations.measure import morphometry_choices


def test_chosen_statistics_and_a_group_are_measured(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    box = dock.settings.morphometry
    assert list(box.boxes) == list(morphometry_choices())
    box.section.set_open(True)
    assert not box.bands.isEnabled()
    box.boxes["thickness"].click()
    box.bands.click()
    box.group.setText("diameter > 20 um")
    assert dock.settings.config().statistics == ("thickness",)
    assert dock.settings.config().bands
    measure(dock, qtbot)
    report = dock.result.report
    # Voxels of 4 × 2 × 2 µm, so that the spheres are twice as long along Z.
    assert report.figures["Tb.Sp"] == pytest.approx(25, rel=0.2)
    low, high = report.morphometry["thickness"].bands["Tb.Sp"]
    assert low <= report.figures["Tb.Sp"] <= high
    assert report.group.count == 2
    assert report.group.total == 3
    pores = viewer.layers["scan · pores"]
    assert list(pores.features["in_group"][1:]) == list(report.table["in_group"])
    box.boxes["thickness"].click()
    assert not dock.settings.config().bands


def test_a_group_that_is_no_expression_is_refused(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.settings.morphometry.group.setText("large pores")
    dock.measure_button.click()
    assert not dock.is_running
    assert "does not define a group of pores" in " ".join(
        [dock.message.text, *dock.settings.faults.texts]
    )


def test_a_column_that_does_not_exist_is_reported(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.settings.morphometry.group.setText("largeness > 3")
    measure(dock, qtbot)
    assert "there is no column 'largeness'" in dock.message.text


def test_a_length_of_a_scan_without_voxel_size_asks_for_it(viewer, qtbot):
    """In the words of the dock, before anything is measured and in the filter."""
    add(viewer, scan())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.settings.morphometry.group.setText("diameter>20um & sphericity<0.6")
    measure(dock, qtbot)
    words = "the scan has no voxel size. Enter the voxel size above, or write the value"
    assert words in dock.message.text
    assert dock.result.report is None
    dock.settings.morphometry.group.setText("")
    measure(dock, qtbot)
    plot = dock.result.plot
    plot.expression.setText("diameter>20um")
    plot.select.click()
    assert words in plot.fault.text


def test_the_profile_is_plotted_if_it_was_measured(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    chart = dock.result.profile
    assert chart.isHidden()
    dock.settings.morphometry.boxes["profile"].click()
    measure(dock, qtbot)
    assert not chart.isHidden()
    values = dock.result.report.figures
    low, high = (100 * values[name] for name in ("Prof.min", "Prof.max"))
    assert f"{low:.3g} to {high:.3g} %" in chart.accessibleDescription()
    line = chart.plot.getPlotItem().listDataItems()[-1]
    z, porosity = line.getData()
    # Slices of the scan, although shapes are measured on cubes of 2 µm.
    assert len(z) == 32
    assert z[-1] == pytest.approx(31 * 4)
    assert porosity.max() == pytest.approx(high)


def test_the_rose_plot_of_the_anisotropy_is_a_layer(viewer, qtbot):
    scan = physical()
    scan.data[:] = 180
    scan.data[:, ::8] = scan.data[:, 1::8] = scan.data[:, 2::8] = (
        60  # sheets normal to Y
    )
    scan.data[:] += np.random.default_rng(0).normal(0, 3, scan.shape)
    image = add(viewer, scan)
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.settings.morphometry.boxes["anisotropy"].click()
    measure(dock, qtbot)
    # The lines would cover the pores, so the user shows them.
    assert viewer.layers["scan · pores"].visible
    assert not viewer.layers["scan · anisotropy"].visible
    viewer.layers["scan · anisotropy"].visible = True
    measure(dock, qtbot)
    rose = viewer.layers["scan · anisotropy"]
    assert rose.visible
    assert [type(layer).__name__ for layer in viewer.layers].count("Vectors") == 1
    starts, along = rose.data[:, 0], rose.data[:, 1]
    middle = (np.array(image.data.shape) - 1) / 2
    assert np.allclose(starts, middle)
    assert rose.data_to_world(middle) == pytest.approx(image.data_to_world(middle))
    ends = np.abs(along * (4, 2, 2))  # in µm
    shortest = np.argmin(rose.features["MIL"])
    assert np.argmax(ends[shortest]) == 1
    longest = np.linalg.norm(ends, axis=1).max()
    assert longest == pytest.approx(0.45 * 80, rel=0.01)
    assert viewer.layers.selection.active is viewer.layers["scan · pores"]
    dock.settings.morphometry.boxes["anisotropy"].click()
    measure(dock, qtbot)
    assert "scan · anisotropy" not in viewer.layers
