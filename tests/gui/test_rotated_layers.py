"""Layers that are rotated or moved against each other are not combined by voxel."""

from __future__ import annotations

import numpy as np
import opening
import pytest
from porosity_helpers import SHAPE, add, open_dock, physical, wait_for_levels
from train_helpers import noisy_scans

from napari_geosr.core.errors import VolumeError
from napari_geosr.gui.kit.dock_tabs import COMPARE, PAIRS, SEGMENT, TRAIN
from napari_geosr.gui.layers import geometry
from napari_geosr.gui.porosity.measuring import MeasuringInput, stopped_measurement
from napari_geosr.gui.restore.check_button import CheckButton

ROTATED = "rotated, sheared or mirrored relative to"
#: A rotation by 90° about Z, which keeps the first voxel where it is.
QUARTER = {"rotate": (0, 0, 90)}


def test_a_rotated_sample_is_an_error_below_it(viewer, qtbot):
    volume = physical()
    add(viewer, volume)
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :20] = 1
    layer = viewer.add_labels(mask, name="mask", **geometry(volume))
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.settings.sample.set_layer(layer)
    assert not dock.settings.faults.texts
    layer.rotate = QUARTER["rotate"]
    dock.measure_button.click()
    assert not dock.is_running
    assert ROTATED in dock.settings.faults.texts["mask"]


@pytest.mark.parametrize("role", ["reference", "deviation"])
@pytest.mark.parametrize("read", [MeasuringInput.of, stopped_measurement])
def test_a_rotated_companion_of_a_measurement_is_refused(viewer, qtbot, role, read):
    image = add(viewer, physical())
    other = add(viewer, physical(name="other", seed=1))
    other.rotate = QUARTER["rotate"]
    dock = open_dock(viewer, qtbot)
    layers = dict.fromkeys(("data", "reference", "mask", "deviation"))
    layers |= {"data": image, role: other}
    with pytest.raises(VolumeError, match=ROTATED) as refused:
        read(layers, dock.settings.form.config(), viewer)
    assert list(refused.value.fields) == [role]


def test_a_cropped_mask_of_a_rotated_scan_lies_along_its_axes(viewer, qtbot):
    """Its first voxel is that of the scan 8 rows further, along the rotated axis."""
    volume = physical()
    image = add(viewer, volume)
    image.rotate = QUARTER["rotate"]
    mask = viewer.add_labels(np.ones((32, 48, 48), np.uint8), name="mask")
    for name, value in geometry(volume).items():
        setattr(mask, name, value)
    mask.rotate = image.rotate
    mask.translate = image.data_to_world((0, -8, 0))
    dock = open_dock(viewer, qtbot)
    layers = {"data": image, "reference": None, "mask": mask, "deviation": None}
    config = dock.settings.form.config()
    found = MeasuringInput.of(layers, config, viewer)
    expected = np.subtract(volume.origin, (0, 8 * volume.voxel_size[1], 0))
    np.testing.assert_allclose(found.mask.origin, expected)
    job = stopped_measurement(layers, config, viewer)
    np.testing.assert_allclose(job.volumes["mask"].volume.origin, expected)


@pytest.mark.parametrize("role", ["image", "sample", "halves"])
def test_rotated_layers_are_not_compared(viewer, qtbot, role):
    first = add(viewer, physical())
    second = add(viewer, physical(name="second", seed=1))
    third = add(viewer, physical(name="third", seed=2))
    mask = viewer.add_labels(
        np.ones(SHAPE, np.uint8), name="mask", **geometry(physical())
    )
    dock = opening.opened(viewer, COMPARE)
    dock.choose_images(first, second)
    if role == "sample":
        dock.sample.set_layer(mask)
    elif role == "halves":
        dock.rare.set_values({"fsc": "halves"})
        dock.first_half.set_layer(first)
        dock.second_half.set_layer(third)
    {"image": second, "sample": mask, "halves": third}[role].rotate = (0, 0, 40)
    dock.compare_button.click()
    assert not dock.activity.busy
    assert ROTATED in dock.message.text


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"rotate": (0, 0, 30)}, ROTATED),
        ({"units": ("um",) * 3, "translate": (0, 7, 0)}, "begins at 0 × 7 × 0 µm"),
        ({"translate": (0, 7, 0)}, "have different scales or positions"),
    ],
)
def test_labels_elsewhere_are_not_learned_from(viewer, qtbot, rng, place, message):
    unit = {"units": place["units"]} if "units" in place else {}
    scan = viewer.add_image(
        rng.random((6, 32, 32)).astype(np.float32), name="scan", **unit
    )
    strokes = np.zeros(scan.data.shape, np.uint8)
    strokes[3, ::4], strokes[3, 2::4] = 1, 2
    layer = viewer.add_labels(strokes, name="strokes", **place)
    dock = opening.opened(viewer, SEGMENT)
    dock.live.setChecked(False)
    assert dock.strokes.layer() is layer
    dock.segment_button.click()
    qtbot.waitUntil(lambda: message in dock.message.text, timeout=60_000)
    assert "scan segmented" not in viewer.layers


def test_rotated_layers_are_no_training_pair(viewer, qtbot):
    _, second = noisy_scans(viewer)
    dock = opening.opened(viewer, TRAIN)
    dock.plan()
    second.rotate = (0, 0, 30)
    with pytest.raises(VolumeError, match=ROTATED):
        dock.plan()
    assert ROTATED in dock.data_message.text


def test_a_rotation_in_napari_is_not_lost_in_a_pair(viewer, qtbot, rng):
    data = rng.random((16, 16, 16)).astype(np.float32)
    viewer.add_image(data[:8, :8, :8], name="low", scale=(4,) * 3, units="um")
    high = viewer.add_image(data, name="high", scale=(2,) * 3, units="um")
    dock = opening.opened(viewer, PAIRS)
    qtbot.waitUntil(lambda: dock.high.layer() is high)
    dock.request()
    high.rotate = (0, 0, 10)
    dock.build_button.click()
    assert not dock.activity.busy
    assert ROTATED in dock.data_message.text


def test_a_rotated_result_is_not_checked_against_its_scan(viewer, qtbot):
    source = add(viewer, physical())
    result = add(viewer, physical(name="result"))
    result.rotate = (0, 0, 5)
    button = CheckButton(viewer)
    qtbot.addWidget(button)
    button.set_pair(source, result)
    with qtbot.waitSignal(button.failed) as said:
        button.check()
    assert ROTATED in str(said.args[0])
