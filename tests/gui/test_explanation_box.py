"""Why?: a click on a pore of a result explains its origin."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr.attribution import occlusion
from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers import add_result, geometry, is_helper
from napari_geosr.gui.layers.position import click_callback
from napari_geosr.gui.restore import explanation_box
from napari_geosr.gui.restore.explanation_box import ExplanationBox

SHAPE, PORE = (20, 40, 40), (10, 20, 22)


@pytest.fixture(scope="module")
def scan() -> Volume:
    rng = np.random.default_rng(1)
    grid = np.stack(np.mgrid[tuple(slice(n) for n in SHAPE)], -1)
    data = np.full(SHAPE, 180.0)
    data[((grid - PORE) ** 2).sum(-1) < 30] = 40
    data += rng.normal(0, 12, SHAPE)
    place = {"voxel_size": (3.0, 2.0, 2.0), "unit": "µm", "origin": (5.0, 0.0, -7.0)}
    return Volume(data.astype(np.float32), "ZYX", name="scan", **place)


@pytest.fixture(scope="module")
def restored(scan) -> Volume:
    return geosr.restore(scan, model="ct-denoise")


@pytest.fixture
def box(viewer, scan, restored, qtbot):
    source = viewer.add_image(scan.data, name=scan.name, **geometry(scan))
    result = add_result(viewer, restored, source, name="restored")
    made = ExplanationBox(viewer)
    viewer.window.add_dock_widget(made)
    made.set_pair(source, result)
    return made


def click(box, qtbot, index) -> str:
    result = box._result()
    box.pick(np.asarray(result.data_to_world(index)))
    qtbot.waitUntil(lambda: not box.activity.busy, timeout=120_000)
    return box.answer.text


def test_a_pore_is_explained_over_the_scan(viewer, box, qtbot):
    assert box.isVisible()
    n = len(viewer.layers)
    box.pick(np.zeros(3))  # nothing was requested
    assert not box.activity.busy
    box.pick_button.click()
    assert box.method.currentText() == "Support and influence"
    said = click(box, qtbot, PORE)
    assert "pore" in said
    assert "µm" in said
    overlay = viewer.layers[-1]
    assert is_helper(overlay)
    np.testing.assert_allclose(overlay.scale[-3:], viewer.layers["scan"].scale[-3:])
    top = np.unravel_index(np.argmax(overlay.data), overlay.data.shape)
    world = np.asarray(overlay.data_to_world(top))
    pore = np.asarray(viewer.layers["scan"].data_to_world(PORE))
    assert np.linalg.norm(world - pore) < 30
    assert "linear filter" not in said
    # Another click replaces the layer; switching off removes it.
    said = click(box, qtbot, (10, 6, 6))
    assert "linear filter" in said
    assert "the scan's own blur" in said
    assert len(viewer.layers) == n + 1
    box.pick_button.click()
    assert len(viewer.layers) == n
    assert not box.answer.text


@pytest.mark.slow
def test_other_methods_explain_the_same_place(viewer, box, qtbot, monkeypatch):
    # Using all cubes and noise realisations would take minutes.
    monkeypatch.setattr(occlusion, "_MAX_CUBES", 8)
    usual = explanation_box.explain_settings
    few = {"steps": 4, "draws": 2}
    monkeypatch.setattr(
        explanation_box,
        "explain_settings",
        lambda *args: usual(*args).model_copy(update=few),
    )
    shown = []
    box.progress.valueChanged.connect(shown.append)
    box.method.setCurrentText("Local attribution")
    box.pick_button.click()
    assert "the map explains this change" in click(box, qtbot, PORE)
    assert max(shown) == 4
    lam = viewer.layers[-1]
    check_overlay(viewer, lam)
    first = lam.data
    lam.visible = False
    box.method.setCurrentText("Occlusion")  # without another click
    assert box.cancel_button.isEnabled()
    assert not box.progress.isHidden()
    qtbot.waitUntil(lambda: not box.activity.busy, timeout=300_000)
    assert "8 cubes of 3 voxels" in box.answer.text
    assert "--" not in box.answer.text
    assert box.progress.isHidden()
    assert not box.cancel_button.isEnabled()
    assert not np.array_equal(lam.data, first), "the layer still shows the first map"
    check_overlay(viewer, lam)


def check_overlay(viewer, overlay) -> None:
    """The layer is on the scan, around the pore."""
    assert is_helper(overlay)
    scan = viewer.layers["scan"]
    np.testing.assert_allclose(overlay.scale[-3:], scan.scale[-3:])
    data = np.abs(overlay.data)
    assert data.max() > 0
    mean = [np.average(i, weights=data) for i in np.indices(data.shape)]
    world = np.asarray(overlay.data_to_world(mean))
    assert np.linalg.norm(world - np.asarray(scan.data_to_world(PORE))) < 15


def test_an_explanation_can_be_cancelled(viewer, box, qtbot):
    box.pick_button.click()
    box.method.setCurrentText("Occlusion")
    n = len(viewer.layers)
    result = box._result()
    box.pick(np.asarray(result.data_to_world(PORE)))
    assert not box.method.isEnabled()
    box.cancel_button.click()
    qtbot.waitUntil(lambda: not box.activity.busy, timeout=60_000)
    assert box.answer.text.startswith("Cancelled.")
    assert len(viewer.layers) == n
    assert box.method.isEnabled()


def test_a_click_beside_the_result_is_said(viewer, box, qtbot):
    box.pick_button.click()
    assert "outside" in click(box, qtbot, (10, 400, 20))


def test_voxels_are_picked_in_2d(viewer, box):
    box.pick_button.click()
    viewer.dims.ndisplay = 3
    box.pick(np.asarray(box._result().data_to_world(PORE)))
    assert "2D view" in box.answer.text
    assert not box.activity.busy


@pytest.mark.parametrize(("distance", "picks"), [(0, 1), (4, 1), (5, 0)])
def test_a_drag_is_no_click(distance, picks):
    class Picker:
        def __init__(self):
            self.places = []

        def pick(self, position):
            self.places.append(position)

    class Event:
        type, button, pos, position = "mouse_press", 1, (50, 60), (1.0, 2.0)

    picker, event = Picker(), Event()
    steps = click_callback(weakref.ref(picker))(None, event)
    next(steps)
    event.type, event.pos = "mouse_move", (50, 60 + distance)
    next(steps)
    event.type = "mouse_release"
    assert list(steps) == []
    assert picker.places == [(1.0, 2.0)] * picks


def test_only_results_of_networks_are_offered(viewer, box, restored):
    source, result = viewer.layers["scan"], viewer.layers["restored"]
    box.set_pair(source, None)
    assert not box.isVisible()
    box.set_pair(result, source)  # no record: not made by a run
    assert not box.isVisible()


@pytest.mark.slow
def test_a_model_with_an_index_says_whether_it_has_seen_this(
    viewer, scan, qtbot, tmp_path
):
    model = geosr.train(
        "noise2void",
        tmp_path / "job",
        scan,
        steps=2,
        batch_size=1,
        patch=16,
        layers=2,
        device="cpu",
        similarity_index=True,
    )
    restored = geosr.restore(scan, model)
    source = viewer.add_image(scan.data, name=scan.name, **geometry(scan))
    result = add_result(viewer, restored, source, name="restored")
    made = ExplanationBox(viewer)
    viewer.window.add_dock_widget(made)
    made.set_pair(source, result)
    assert not made.isHidden()
    made.pick_button.click()
    said = click(made, qtbot, PORE)
    assert "Closest training patch: 'scan' at Z, Y, X = " in said
