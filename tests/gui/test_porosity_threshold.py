"""The displayed threshold is the one used in the measurement."""

from __future__ import annotations

import numpy as np
import pytest
from porosity_helpers import (
    SHAPE,
    add,
    measure,
    open_dock,
    physical,
    scan,
    wait_for_levels,
)

from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers import geometry
from napari_geosr.gui.porosity.preview import local_preview


def test_of_a_time_series_the_threshold_follows_the_slider(viewer, qtbot):
    volume = physical()
    series = np.stack([volume.data + 100 * t for t in range(3)])
    place = {"scale": (1, *volume.voxel_size), "translate": (0, *volume.origin)}
    units, labels = ("s", "um", "um", "um"), ("t", "z", "y", "x")
    viewer.add_image(series, name="series", units=units, axis_labels=labels, **place)
    viewer.dims.set_point(0, 0)
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    first = dock.settings.threshold
    for t in (2, 0):
        viewer.dims.set_point(0, t)
        qtbot.waitUntil(
            lambda t=t: dock.settings.threshold == pytest.approx(first + 100 * t, abs=1)
        )
        assert dock.preview.layer.visible
        # Along the volume's own axes, nothing has to be read.
        viewer.dims.set_point(1, 30 + t)
        qtbot.wait(300)
        assert dock.settings.threshold is not None
        drawn = dock.settings.threshold
        measure(dock, qtbot)
        assert dock.result.report.threshold == pytest.approx(drawn, rel=1e-6)
        dock.tabs.setCurrentIndex(0)


def padded(viewer):
    """A scan in dark padding, and labels that mark the scan."""
    volume = physical()
    inside = np.zeros(SHAPE, np.uint8)
    inside[:, 4:36, 4:40] = 1
    volume.data[inside == 0] = -1000
    add(viewer, volume)
    return viewer.add_labels(inside, name="sample", **geometry(volume))


@pytest.mark.every(3)
@pytest.mark.parametrize("method", ["Otsu", "Li", "Multi-Otsu", "Triangle"])
def test_of_a_padded_scan_the_threshold_of_the_sample_is_drawn(viewer, qtbot, method):
    mask = padded(viewer)
    dock = open_dock(viewer, qtbot)
    dock.settings.method.setCurrentText(method)
    wait_for_levels(dock, qtbot)
    whole = dock.settings.threshold
    counts = sum(bars.counts.sum() for bars in dock.settings.histogram.series)
    dock.settings.sample.set_layer(mask)
    assert dock.settings.threshold is None
    wait_for_levels(dock, qtbot)
    drawn = dock.settings.threshold
    assert drawn != pytest.approx(whole, abs=2)
    inside = sum(bars.counts.sum() for bars in dock.settings.histogram.series)
    assert inside == pytest.approx(mask.data.sum(), rel=1e-3)
    assert counts == pytest.approx(mask.data.size, rel=1e-3)
    measure(dock, qtbot)
    assert dock.result.report.threshold == pytest.approx(drawn, rel=1e-6)
    assert dock.settings.threshold == pytest.approx(drawn, rel=1e-6)
    dock.tabs.setCurrentIndex(0)
    dock.settings.sample.set_layer(None)
    wait_for_levels(dock, qtbot)
    assert dock.settings.method.currentText() == method
    assert dock.settings.threshold == pytest.approx(whole)


def test_the_threshold_follows_a_sample_that_is_painted(viewer, qtbot):
    mask = padded(viewer)
    dock = open_dock(viewer, qtbot)
    whole_shape = mask.data.copy()
    mask.data = np.zeros_like(mask.data)
    dock.settings.sample.set_layer(mask)
    faults = dock.settings.faults
    qtbot.waitUntil(lambda: "mask of 'scan' is empty" in faults.texts.get("mask", ""))
    assert dock.settings.threshold is None
    mask.data_setitem(np.nonzero(whole_shape), 1)
    wait_for_levels(dock, qtbot)
    assert not faults.texts
    first, key = dock.settings.threshold, dock.levels.key()
    # A single voxel, which sampling of rows would not find.
    mask.data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
    assert dock.levels.key() != key
    qtbot.waitUntil(lambda: dock.levels._shown == dock.levels.key(), timeout=10_000)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert dock.result.report.threshold == pytest.approx(first, abs=1)
    assert dock.result.report.sample_voxels == whole_shape.sum() + 1
    # If the sample is removed, the whole volume is used.
    viewer.layers.remove(mask)
    dock.tabs.setCurrentIndex(0)
    qtbot.waitUntil(
        lambda: abs((dock.settings.threshold or first) - first) > 2, timeout=10_000
    )


def test_a_sample_that_does_not_fit_is_said_to_without_a_preview(viewer, qtbot):
    padded(viewer)
    place = geometry(physical()) | {"translate": (0, 500, 0)}
    away = viewer.add_labels(np.ones(SHAPE, np.uint8), name="away", **place)
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.settings.preview.setChecked(False)
    dock.settings.sample.set_layer(away)
    assert "does not cover" in dock.settings.faults.texts["mask"]
    away.translate = physical().origin
    qtbot.waitUntil(lambda: dock.levels._shown == dock.levels.key(), timeout=10_000)
    wait_for_levels(dock, qtbot)
    assert not dock.settings.faults.texts


def test_local_threshold_and_hysteresis_are_settings_of_the_dock(viewer, qtbot):
    add(viewer, scan())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    assert dock.preview.layer is not None
    form = dock.settings.form
    assert dock.settings.config().local_window is None
    for name in ("local_window", "hysteresis"):
        assert form.editor(name).text() == "off"
    form.set_values({"local_window": 41, "hysteresis": 0.5})
    config = dock.settings.config()
    assert (config.local_window, config.hysteresis) == (41, 0.5)
    measure(dock, qtbot)
    assert dock.result.report.neighbourhood == {"local_window": 41, "hysteresis": 0.5}
    assert dock.result.report.pore_count == 3


def uneven() -> np.ndarray:
    """Pores in uneven brightness, with specks that just count as pores."""
    shape = (24, 48, 48)
    z, y, x = np.indices(shape)
    grey = np.full(shape, 160.0)
    for centre in ((12, 12, 12), (12, 36, 14), (8, 24, 36)):
        far = sum((g - c) ** 2 for g, c in zip((z, y, x), centre, strict=True))
        grey[far <= 16] = 60
    grey[12, 40:42, 40:42] = 108
    return (grey + 2.0 * (x - 24)).astype(np.float32)


@pytest.mark.parametrize(
    "more", [{"local_window": 25}, {"local_window": 25, "hysteresis": 0.7}]
)
def test_the_preview_shows_the_pores_of_the_neighbourhood(viewer, qtbot, more):
    """As found in a measurement, in every slice, and again after a change."""
    add(viewer, Volume(uneven(), "ZYX", voxel_size=(2.0,) * 3, unit="µm", name="s"))
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.settings.form.set_values({**more, "min_voxels": 1})
    qtbot.waitUntil(lambda: dock.local_preview._found is not None, timeout=20_000)
    layer = dock.preview.layer
    assert layer is not None
    assert layer.visible
    shown = np.asarray(layer.data)
    viewer.dims.set_current_step(0, 12)
    middle = np.asarray(layer._data_view)
    assert middle.shape == shown[12].shape
    np.testing.assert_array_equal(middle > 0, shown[12] > 0)
    speck = bool(shown[12, 40, 40])
    assert speck == ("hysteresis" not in more)
    measure(dock, qtbot)
    np.testing.assert_array_equal(viewer.layers["s · pores"].data > 0, shown > 0)
    dock.tabs.setCurrentIndex(0)
    dock.settings.form.set_values({"local_window": None, "hysteresis": None})
    qtbot.waitUntil(
        lambda: (
            dock.preview.layer is not None
            and not np.array_equal(np.asarray(dock.preview.layer.data), shown)
        ),
        timeout=10_000,
    )


def test_a_large_volume_has_no_preview_of_its_neighbourhood(viewer, qtbot, monkeypatch):
    monkeypatch.setattr(local_preview, "MAX_VOXELS", 1000)
    add(viewer, scan())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    assert dock.preview.layer.visible
    dock.settings.form.set_values({"hysteresis": 0.5})
    qtbot.wait(600)
    assert not dock.preview.layer.visible
    assert dock.local_preview._run is None
