"""Layers whose voxels were changed in place, for which napari emits no event."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from opening import opened
from porosity_helpers import add, measure, open_dock, physical, wait_for_levels

from napari_geosr import restore
from napari_geosr.core import provenance
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.gui.layers.contents import contents_key, is_unfinished
from napari_geosr.gui.porosity.measuring import without_voxels
from napari_geosr.gui.readers import read_layers
from napari_geosr.operations.shapes.snapshots import snapshot


def test_a_run_uses_the_statistics_of_what_is_there_now(viewer, qtbot, rng):
    data = rng.normal(100, 10, (6, 24, 30)).astype(np.float32)
    layer = viewer.add_image(data, name="scan", scale=(2, 1, 1), units="um")
    dock = opened(viewer)
    with qtbot.waitSignal(dock.activity.ready, timeout=60_000):
        pass
    layer.data *= 1000
    layer.data += 5000
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    expected = restore(volume_from_layer(layer), "ct-denoise").data
    found = dock.activity.target().data
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_thresholds_are_of_what_is_there_now(viewer, qtbot):
    layer = add(viewer, physical())
    other = add(viewer, physical(name="other"))
    dock = open_dock(viewer, qtbot)
    dock.settings.image.set_layer(layer)
    wait_for_levels(dock, qtbot)
    before = dock.settings.threshold
    dock.settings.image.set_layer(other)
    wait_for_levels(dock, qtbot)
    layer.data += 1000
    dock.settings.image.set_layer(layer)
    wait_for_levels(dock, qtbot)
    assert dock.settings.threshold == pytest.approx(before + 1000, abs=2)
    # Also while it is shown, as soon as napari redraws it.
    layer.data -= 500
    layer.refresh()
    qtbot.waitUntil(
        lambda: abs((dock.settings.threshold or 0) - before - 500) < 2, timeout=10_000
    )
    # The change is noticed when it is measured at the latest.
    layer.data -= 500
    measure(dock, qtbot)
    assert dock.result.report.threshold == pytest.approx(before, abs=2)
    wait_for_levels(dock, qtbot)
    assert dock.settings.threshold == pytest.approx(before, abs=2)


@pytest.mark.parametrize("kind", ["whole", "strided", "flat", "mapped"])
def test_changes_in_place_are_noticed(kind, rng, tmp_path):
    data = rng.random((40, 50, 60)).astype(np.float32)
    if kind == "strided":
        data = np.asfortranarray(data)[::2, ::-1, 1::3]
    elif kind == "flat":
        data = data[0]
    elif kind == "mapped":
        data = np.memmap(tmp_path / "a", np.float32, "w+", shape=(40, 50, 60))
    layer = Image(data)
    before = contents_key(layer)
    assert contents_key(layer) == before
    layer.data[len(data) // 2 :] += 1
    assert contents_key(layer) != before


def test_another_array_is_noticed_and_finishing_too():
    layer = Image(da.zeros((4, 5, 6)))
    keys = [contents_key(layer)]
    for _ in range(5):  # the next array may get the id of the previous one
        layer.data = da.zeros((4, 5, 6))
        keys.append(contents_key(layer))
    assert len(set(keys)) == 6
    layer.metadata["geosr"] = {"provenance": [{"complete": False}]}
    unfinished = contents_key(layer)
    assert is_unfinished(layer)
    layer.metadata["geosr"] = {"provenance": [{"complete": True}]}
    assert contents_key(layer) != unfinished
    assert not is_unfinished(layer)


def read_labels(path: Path) -> Labels:
    """A small label volume as a layer, read from a file that cannot be mapped."""
    labels = np.zeros((5, 12, 14), np.uint8)
    labels[1:4, 3:9, 3:9] = 1
    tifffile.imwrite(path, labels, compression="zlib", metadata={"axes": "ZYX"})
    ((data, attributes, _),) = read_layers(str(path))
    assert isinstance(data, np.ndarray)
    options = {name: attributes[name] for name in ("scale", "translate", "metadata")}
    return Labels(data, **options)


def paint(layer: Labels) -> None:
    layer.paint((2, 6, 6), 3)


def replace(layer: Labels) -> None:
    layer.data = np.array(layer.data) * 2


def assign_lazily(layer: Labels) -> None:
    layer.data = da.from_array(np.array(layer.data))
    assert not is_recorded_as_edited(layer)
    layer.data[2, 6, 6] = 3


def is_recorded_as_edited(layer: Labels) -> bool:
    """Whether a record has the checksum of the voxels, instead of that of the file."""
    volume = volume_from_layer(layer)
    facts = provenance.record("test", inputs={"shape": volume}, settings={})
    found = facts["inputs"]["shape"]
    own = provenance.array_checksum(volume.data)
    assert found["checksum"] in (own, provenance.checksum(volume.source))
    assert (found["checksum"] == own) == ("changed" in found)
    return "changed" in found


@pytest.mark.parametrize("edit", [paint, replace, assign_lazily])
def test_the_record_has_the_checksum_of_what_was_read(edit, tmp_path) -> None:
    layer = read_labels(tmp_path / "labels.tif")
    assert not is_recorded_as_edited(layer)
    edit(layer)
    assert is_recorded_as_edited(layer)


def test_a_copy_from_before_an_edit_is_unedited(tmp_path) -> None:
    layer = read_labels(tmp_path / "labels.tif")
    before = snapshot(volume_from_layer(layer))
    paint(layer)
    record = provenance.record("test", inputs={"shape": before}, settings={})
    assert "changed" not in record["inputs"]["shape"]


def test_what_cannot_be_compared_is_not_called_edited(viewer, tmp_path, rng):
    """Other readers return other axes, or read formats that we do not."""
    data = rng.normal(100, 10, (2, 6, 20, 24)).astype(np.float32)
    tifffile.imwrite(tmp_path / "channels.tif", data, imagej=True)
    (layer,) = viewer.open(tmp_path / "channels.tif", plugin="napari")
    layer.data = np.asarray(layer.data)[0]
    np.save(tmp_path / "scan.npy", data[0])
    (other,) = viewer.open(tmp_path / "scan.npy", plugin="napari")
    for each in (layer, other):
        volume = volume_from_layer(each)
        record = provenance.record("measure", inputs={"input": volume}, settings={})
        assert "changed" not in record["inputs"]["input"]


def test_a_measured_volume_does_not_keep_the_voxels_of_its_layer(viewer, tmp_path):
    data = np.zeros((4, 20, 24), np.uint8)
    tifffile.imwrite(tmp_path / "scan.tif", data, imagej=True)
    (layer,) = viewer.open(tmp_path / "scan.tif", plugin="napari")
    volume = volume_from_layer(layer)
    assert provenance.IS_IN_FILE in volume.metadata
    assert provenance.IS_IN_FILE not in without_voxels(volume).metadata
