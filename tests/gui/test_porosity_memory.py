"""The Porosity dock keeps figures and positions, but no voxels."""

from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
from porosity_helpers import ORIGIN, SIZE, add, measure, open_dock, physical

from napari_geosr import io
from napari_geosr.core.volume import Volume
from napari_geosr.gui.porosity import measuring as _export
from napari_geosr.gui.porosity.measuring import without_voxels


def test_a_volume_without_voxels_is_otherwise_the_same():
    volume = Volume(np.ones((3, 4, 5), np.uint16), "ZYX", (1, 2, 3), "µm", name="v")
    hollow = without_voxels(volume)
    for name in ("axes", "shape", "dtype", "voxel_size", "unit", "origin", "name"):
        assert getattr(hollow, name) == getattr(volume, name)
    assert hollow.data.base.nbytes == 2


def test_removed_layers_give_their_memory_back(
    make_napari_viewer, qtbot, tmp_path, monkeypatch
):
    viewer = make_napari_viewer(show=True)
    volume = physical()
    file = io.write(volume, tmp_path / "scan.tif")
    layer = add(viewer, volume)
    layer.metadata["geosr"] = {"source": file}
    dock = open_dock(viewer, qtbot)
    measure(dock, qtbot)
    qtbot.waitUntil(lambda: not dock.levels.is_running, timeout=60_000)
    pores = viewer.layers["scan · pores"]
    kept = [weakref.ref(layer.data), weakref.ref(pores.data)]
    del volume

    # Even without its pores, the image can be moved to a pore.
    viewer.layers.remove(pores)
    dock.pores.go_to(1)
    place = [dock.result.report.table[f"centroid_{axis}"][0] for axis in "zyx"]
    assert viewer.dims.point[0] == pytest.approx(place[0], abs=SIZE[0] / 2)
    assert viewer.scene.camera.center[-2:] == pytest.approx(place[1:], abs=SIZE[1])
    assert viewer.dims.point[0] > ORIGIN[0]

    viewer.layers.clear()
    del layer, pores

    # napari's thumbnails and status line release it a moment later.
    def let_go() -> bool:
        gc.collect()
        return all(reference() is None for reference in kept)

    qtbot.waitUntil(let_go)

    # The report can still be written, for the file as it was measured.
    file.write_bytes(b"another file by now")
    monkeypatch.setattr(
        _export, "ask_report_path", lambda *_: tmp_path / "a_report.html"
    )
    dock.pores.go_to(1)
    dock.export()
    qtbot.waitUntil(lambda: "report is in" in dock.message.text, timeout=60_000)
    record = json.loads((tmp_path / "a_report.json").read_text("utf-8"))["provenance"]
    (measured,) = record["inputs"].values()
    assert measured["checksum"].startswith("sha256:")
    assert record == json.loads(json.dumps(dock._measured.record))


@pytest.mark.every(2)
@pytest.mark.parametrize("removed", [True, False])
def test_pores_lie_over_a_moved_layer(make_napari_viewer, qtbot, removed):
    viewer = make_napari_viewer(show=True)
    layer = add(viewer, physical())
    layer.rotate = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    layer.affine = [[1, 0, 0, 50], [0, 1, 0, 60], [0, 0, 1, 70], [0, 0, 0, 1]]
    dock = open_dock(viewer, qtbot)
    measure(dock, qtbot)
    pores = viewer.layers["scan · pores"]
    for corner in ((0, 0, 0), (31, 5, 7)):
        np.testing.assert_allclose(
            pores.data_to_world(corner), layer.data_to_world(corner)
        )
    if removed:
        viewer.layers.remove(pores)
    dock.pores.go_to(2)
    # The middle of a sphere is on screen, whatever the layer's position.
    shown = viewer.dims.point[0], *viewer.scene.camera.center[-2:]
    at = tuple(np.round(layer.world_to_data(shown)).astype(int))
    assert layer.data[at] < 120
