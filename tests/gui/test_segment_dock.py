"""The *Segment* dock: strokes, the prediction for each, and the whole scan."""

from __future__ import annotations

import numpy as np
import opening
import pytest
from scipy import ndimage

import napari_geosr as geosr
from napari_geosr.gui.kit.dock_tabs import POROSITY, SEGMENT, TRAIN
from napari_geosr.gui.segment.widgets import DONE, NO_SCAN, PAINT, READY, UNCERTAINTY

SHAPE = (12, 64, 72)


@pytest.fixture(scope="module")
def phases() -> np.ndarray:
    """A dark and a bright phase, 1 and 2, in large pieces."""
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 4)
    return np.where(field > 0, 2, 1)


@pytest.fixture
def scan(viewer, phases):
    rng = np.random.default_rng(1)
    values = 60 * phases + rng.normal(0, 25, SHAPE)
    return viewer.add_image(
        values.astype(np.float32),
        name="rock",
        scale=(4.0, 2.0, 2.0),
        translate=(8.0, 2.0, 4.0),
        units="um",
    )


@pytest.fixture
def dock(viewer, scan):
    return opening.opened(viewer, SEGMENT)


def idle(dock, qtbot):
    qtbot.wait(350)  # the time to wait for strokes
    qtbot.waitUntil(
        lambda: not dock.activity.busy and not dock.activity._timer.isActive(),
        timeout=60_000,
    )


def paint(layer, phases, z, number, n=30):
    """Paint discs on voxels of a class, as the brush does."""
    places = np.argwhere(phases[z] == number)
    rng = np.random.default_rng(number)
    layer.brush_size = 3
    for y, x in places[rng.choice(len(places), n, replace=False)]:
        layer.paint((z, int(y), int(x)), number)


def test_strokes_are_answered_on_the_slice_on_screen(viewer, dock, scan, phases, qtbot):
    assert dock.new_button.property("primary")
    assert "press New labels" in dock.bar.state.text()
    dock.new_button.click()
    idle(dock, qtbot)
    assert dock.segment_button.property("primary")
    strokes = dock.strokes.layer()
    assert viewer.layers.selection.active is strokes
    assert strokes.mode == "paint"
    for name in ("scale", "translate"):
        np.testing.assert_array_equal(getattr(strokes, name), getattr(scan, name))
    assert strokes.units == scan.units
    assert strokes.data.shape == SHAPE
    assert dock.slices.topLevelItemCount() == 5

    viewer.dims.set_point(0, 8 + 4 * 5)
    paint(strokes, phases, 5, 1)
    idle(dock, qtbot)
    assert dock.shown_layers.prediction is None
    assert dock.bar.state.text() == PAINT
    assert not dock.message.text
    paint(strokes, phases, 5, 2)
    idle(dock, qtbot)
    assert not dock.message.text
    prediction = dock.shown_layers.prediction
    assert prediction.data.shape == (1, *SHAPE[1:])
    assert (prediction.data[0] == phases[5]).mean() > 0.9
    np.testing.assert_allclose(prediction.translate, (8 + 4 * 5, 2, 4))
    assert viewer.layers.selection.active is strokes
    assert list(viewer.layers) == [scan, prediction, strokes]
    assert dock.bar.state.text() == READY

    # Another slice is predicted without another stroke, at its own position.
    viewer.dims.set_point(0, 8 + 4 * 9)
    idle(dock, qtbot)
    assert dock.shown_layers.prediction is prediction
    assert (prediction.data[0] == phases[9]).mean() > 0.85
    np.testing.assert_allclose(prediction.translate, (8 + 4 * 9, 2, 4))

    dock.shown.setCurrentText(UNCERTAINTY)
    values = dock.shown_layers.extra.data
    assert 0 <= values.min() < 0.2 < values.max() <= 1
    dock.shown.setCurrentText("probability of class 2")
    share = dock.shown_layers.extra.data[0]
    assert ((share > 0.5) == (prediction.data[0] == 2)).mean() > 0.99
    dock.live.setChecked(False)
    assert list(viewer.layers) == [scan, strokes]


def test_undone_strokes_are_no_longer_learned_from(viewer, dock, phases, qtbot):
    dock.new_button.click()
    strokes = dock.strokes.layer()
    viewer.dims.set_point(0, 8 + 4 * 5)
    paint(strokes, phases, 5, 1)
    paint(strokes, phases, 5, 2, n=1)
    idle(dock, qtbot)
    assert dock.shown_layers.prediction is not None
    strokes.undo()
    idle(dock, qtbot)
    assert dock.shown_layers.prediction is None
    assert dock.bar.state.text() == PAINT


def test_the_whole_scan_and_the_porosity_of_a_class(viewer, dock, scan, phases, qtbot):
    dock.new_button.click()
    strokes = dock.strokes.layer()
    for z in (3, 8):
        for number in (1, 2):
            paint(strokes, phases, z, number)
    dock.segment_button.click()
    qtbot.waitUntil(lambda: dock.fractions.text() != "", timeout=60_000)
    (made,) = [la for la in viewer.layers if la.name == "rock segmented"]
    assert made._type_string == "labels"
    np.testing.assert_array_equal(made.scale, scan.scale)
    np.testing.assert_array_equal(made.translate, scan.translate)
    assert (made.data == phases).mean() > 0.9
    (record,) = made.metadata["geosr"]["provenance"]
    assert record["operation"] == "segment"
    assert record["painted_slices"] == 2
    pores = (made.data == 1).mean()
    assert f"Class 1: {100 * pores:.2f} %" in dock.fractions.text()
    qtbot.waitUntil(lambda: dock.bar.state.text() == DONE)
    assert dock.porosity_button.property("primary")

    dock.of_class.setCurrentText("Class 1")
    dock.porosity_button.click()
    porosity = opening.in_front(viewer, POROSITY)
    qtbot.waitUntil(lambda: porosity.settings.image.layer() is not None)
    assert porosity.settings.image.layer().name == "rock segmented class 1"
    qtbot.waitUntil(porosity.measure_button.isEnabled)
    porosity.measure_button.click()
    qtbot.waitUntil(lambda: not porosity.is_running, timeout=60_000)
    (report,) = porosity._measured.reports.values()
    assert report.porosity == pytest.approx(pores, abs=1e-6)


def test_a_proposed_slice_is_gone_to(viewer, dock, qtbot):
    assert dock.slices.isHidden()
    dock.suggest_button.click()
    qtbot.waitUntil(lambda: dock.slices.topLevelItemCount() > 0, timeout=60_000)
    assert not dock.slices.isHidden()
    item = dock.slices.topLevelItem(1)
    dock.slices.itemClicked.emit(item, 0)
    assert viewer.dims.point[0] == pytest.approx(8 + 4 * int(item.text(0)))


def test_labels_of_another_shape_are_refused(viewer, dock, qtbot):
    viewer.add_labels(np.ones((4, 8, 8), np.uint8), name="other")
    idle(dock, qtbot)
    assert dock.strokes.currentText() == "other"
    assert "Paint on this scan" in dock.message.text
    assert dock.shown_layers.prediction is None


def test_a_dock_without_a_scan_says_what_to_do(viewer):
    dock = opening.opened(viewer, SEGMENT)
    assert dock.bar.state.text() == NO_SCAN
    assert not dock.segment_button.isEnabled()
    assert not dock.new_button.isEnabled()


def test_each_time_point_is_a_scan_of_its_own(viewer, phases, qtbot):
    rng = np.random.default_rng(1)
    first = 60 * phases + rng.normal(0, 15, SHAPE)
    series = np.stack([first, 200 - first]).astype(np.float32)
    viewer.add_image(series, name="series", axis_labels=("t", "z", "y", "x"))
    dock = opening.opened(viewer, SEGMENT)
    dock.new_button.click()
    strokes = dock.strokes.layer()
    assert strokes.data.shape == SHAPE
    viewer.dims.current_step = (0, 5, 0, 0)
    for number in (1, 2):
        paint(strokes, phases, 5, number)
    idle(dock, qtbot)
    assert not dock.message.text
    assert (dock.shown_layers.prediction.data[0] == phases[5]).mean() > 0.9
    kept = dock._segmenter
    viewer.dims.current_step = (0, 6, 0, 0)
    idle(dock, qtbot)
    assert dock._segmenter is kept
    viewer.dims.current_step = (1, 5, 0, 0)
    idle(dock, qtbot)
    assert dock._segmenter is not kept
    assert (dock.shown_layers.prediction.data[0] == phases[5]).mean() > 0.9


def test_fine_tuning_fills_the_train_dock(viewer, dock, scan, phases, qtbot):
    assert not dock.tune_button.isEnabled()
    dock.new_button.click()
    strokes = dock.strokes.layer()
    for number in (1, 2):
        paint(strokes, phases, 5, number)
    idle(dock, qtbot)
    assert not dock.compare_button.isEnabled()  # there is no model to compare
    dock.tune_button.click()
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)
    train = opening.in_front(viewer, TRAIN)
    qtbot.waitUntil(lambda: "press Start" in train.message.text)
    plan = train.plan()
    assert plan.method == "ptdr"
    assert (plan.settings["unpainted"], plan.settings["classes"]) == (0, 2)
    # The model of an earlier training run is not kept.
    train.settings.adopt({"from_model": "prior", "learning_rate": 0.5})
    dock.tune_button.click()
    qtbot.waitUntil(lambda: not train.settings.values()["from_model"], timeout=60_000)
    assert train.settings.values()["learning_rate"] == pytest.approx(1e-4)
    source, target = plan.data["source"][0], plan.data["target"][0]
    np.testing.assert_array_equal(np.asarray(source.data), scan.data)
    np.testing.assert_array_equal(np.asarray(target.data), strokes.data)


def test_a_model_is_compared_with_no_pre_training(
    viewer, dock, phases, qtbot, tmp_path
):
    small = {"batch_size": 2, "patch": 16, "steps": 2, "width": 8, "layers": 2}
    image = np.random.default_rng(0).normal(100, 30, SHAPE).astype(np.float32)
    geosr.train("ddpm", tmp_path / "job", image, device="cpu", name="rock", **small)
    dock.new_button.click()
    strokes = dock.strokes.layer()
    for z in (3, 8):
        for number in (1, 2):
            paint(strokes, phases, z, number)
    dock.form.set_values({"model": str(tmp_path / "job")})
    idle(dock, qtbot)
    dock.compare_button.click()
    qtbot.waitUntil(lambda: not dock.comparison.isHidden(), timeout=60_000)
    assert "On 2 slices" in dock.comparison.text()
    paint(strokes, phases, 3, 1, n=1)
    assert dock.comparison.isHidden()  # it was about other strokes
    idle(dock, qtbot)
    dock.form.set_values({"model": None})
    dock.form.changed.emit()
    assert not dock.compare_button.isEnabled()
    assert dock.comparison.isHidden()
