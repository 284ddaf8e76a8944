"""Reading and writing in napari preserves voxels, scale, unit, origin, provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Surface
from napari.utils.notifications import notification_manager

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.reading import reading_of
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers import part_of_file
from napari_geosr.gui.readers import get_reader
from napari_geosr.gui.writers import volume_from_data, write_image, write_labels
from napari_geosr.jobs.handover import LayerVolume
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.operations.restore.reproduce import as_command, as_python
from napari_geosr.operations.shapes import MeshConfig, mesh_steps

SUFFIXES = [".tif", ".ome.tif", ".ome.zarr"]


def volume(dtype: str = "uint16", **more: Any) -> Volume:
    rng = np.random.default_rng(0)
    given: dict[str, Any] = {
        "data": (rng.random((300, 20, 31)) * 200).astype(dtype),
        "axes": "ZYX",
        "voxel_size": (0.3, 0.2, 0.123456789012),
        "unit": "µm",
        "origin": (1.0, -2.5, 1 / 3),
        "provenance": ({"operation": "restore", "model": "foam-denoise"},),
    }
    return Volume(**(given | more))


def opened(path: Path) -> list[Any]:
    """The layers of a viewer after `path` was dropped into it."""
    reader = get_reader(str(path))
    assert reader is not None
    viewer = ViewerModel()
    for data in reader(str(path)):
        viewer.add_layer(Layer.create(*data))
    return list(viewer.layers)


@pytest.mark.parametrize("suffix", [".stl", ".ply"])
def test_a_mesh_opens_in_the_place_of_its_shape(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("trimesh", reason="trimesh is not installed (extra mesh)")
    data = np.zeros((30, 20, 31), np.uint8)
    data[4:20, 5:15, 8:28] = 1
    shape = volume(data=data)
    path = tmp_path / f"surface{suffix}"
    run_to_end(mesh_steps(shape, path, MeshConfig(smoothing=0)))
    (layer,) = opened(path)
    assert isinstance(layer, Surface)
    assert [str(u) for u in layer.units] == ["millimeter"] * 3
    size, origin = np.array(shape.voxel_size), np.array(shape.origin)
    found = layer.extent.world * 1000  # mm to µm
    for end, corner in zip(found, ([3.5, 4.5, 7.5], [19.5, 14.5, 27.5]), strict=True):
        np.testing.assert_allclose(end, origin + size * corner, atol=0.05)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["image", "labels"])
def test_every_figure_survives(suffix: str, kind: str, tmp_path: Path) -> None:
    dtype = "uint16" if kind == "image" else "int32"
    before = volume(dtype)
    first = io.write(before, tmp_path / f"first{suffix}", kind=kind)
    (layer,) = opened(first)
    assert isinstance(layer, Image if kind == "image" else Labels)
    np.testing.assert_allclose(layer.scale, before.voxel_size, rtol=1e-12)
    np.testing.assert_allclose(layer.translate, before.origin, rtol=1e-12)
    assert [str(u) for u in layer.units] == ["micrometer"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    assert layer.metadata["geosr"]["source"] == first
    assert layer.metadata["geosr"]["provenance"] == list(before.provenance)

    second = tmp_path / f"second{suffix}"
    data, attributes, _ = layer.as_layer_data_tuple()
    write = write_image if kind == "image" else write_labels
    assert write(str(second), data, attributes) == [str(second)]
    after = io.read(second)
    np.testing.assert_allclose(after.voxel_size, before.voxel_size, rtol=1e-6)
    np.testing.assert_allclose(after.origin, before.origin, rtol=1e-6)
    assert (after.unit, after.axes, after.dtype) == ("µm", "ZYX", before.dtype)
    assert after.provenance == before.provenance
    np.testing.assert_array_equal(np.asarray(after.data), before.data)


def test_zarr_opens_with_its_levels(tmp_path: Path) -> None:
    path = io.write(
        volume(data=np.zeros((600, 20, 520), np.uint8)), tmp_path / "a.zarr"
    )
    (layer,) = opened(path)
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [
        (600, 20, 520),
        (300, 20, 260),
        (150, 20, 130),
    ]
    assert all(isinstance(level, da.Array) for level in layer.data)
    np.testing.assert_allclose(layer.scale, volume().voxel_size)


def test_channels_become_layers(viewer: Any, tmp_path: Path) -> None:
    data = np.arange(3 * 4 * 5 * 6, dtype=np.uint8).reshape(3, 4, 5, 6)
    path = io.write(volume(data=data, axes="CZYX"), tmp_path / "a.tif")
    layers = opened(path)
    assert [layer.name for layer in layers] == [f"a · channel {c}" for c in range(3)]
    for c, layer in enumerate(layers):
        np.testing.assert_array_equal(np.asarray(layer.data), data[c])
        assert layer.ndim == 3
        assert layer.metadata["geosr"]["channel"] == c
        assert layer.metadata["geosr"]["source"] is None
        np.testing.assert_allclose(layer.translate, volume().origin)
        again, part = part_of_file(layer, ViewerModel())
        assert (again.source, part) == (path, {"channel": c})
        assert reading_of(again.metadata) == {"channel": c}
        command = as_command(again, RestoreConfig(), **part)
        assert f"restore {path} " in command
        assert f"--channel {c}" in command


def test_time_series_keeps_its_axis(tmp_path: Path) -> None:
    data = np.zeros((2, 4, 5, 6), np.float32)
    (layer,) = opened(io.write(volume(data=data, axes="TZYX"), tmp_path / "a.ome.tif"))
    assert layer.axis_labels == ("t", "z", "y", "x")
    out = tmp_path / "b.ome.tif"
    write_image(str(out), *layer.as_layer_data_tuple()[:2])
    back = io.read(out)
    assert (back.axes, back.unit) == ("TZYX", "µm")
    np.testing.assert_allclose(back.voxel_size, volume().voxel_size, rtol=1e-6)


def test_series_of_channels_and_datasets_are_found_again(tmp_path: Path) -> None:
    data = np.zeros((3, 2, 4, 5, 6), np.uint8)
    path = io.write(volume(data=data, axes="TCZYX"), tmp_path / "a.ome.tif")
    viewer = ViewerModel()
    for layer in opened(path):
        viewer.add_layer(layer)
    viewer.dims.set_point(0, 2)
    again, part = part_of_file(viewer.layers[1], viewer)
    assert (again.source, part) == (path, {"time": 2, "channel": 1})
    assert reading_of(again.metadata) == part
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/my data"] = np.zeros((4, 5, 6), np.float32)
    (layer,) = opened(tmp_path / "a.h5")
    again, part = part_of_file(layer, ViewerModel())
    assert (again.source, part) == (tmp_path / "a.h5", {})
    assert reading_of(again.metadata) == {"dataset": "entry/my data"}
    assert "--dataset 'entry/my data'" in as_command(again, RestoreConfig())
    assert "dataset='entry/my data'" in as_python(again, RestoreConfig())


def test_large_files_stay_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tifffile

    monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    path = tmp_path / "a.tif"
    stack = np.zeros((5, 20, 30), np.uint16)
    tifffile.imwrite(
        path, stack, compression="zlib", photometric="minisblack", metadata=None
    )
    (layer,) = opened(path)
    assert isinstance(layer.data, da.Array)
    assert layer.data.chunks[0] == (1,) * 5
    (plain,) = opened(io.write(volume(), tmp_path / "b.tif"))
    assert isinstance(plain.data, da.Array)


def test_folder_and_list_of_slices(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    for i in range(12):
        plane = Volume(np.full((5, 6), i, np.uint8), "YX", (2, 2), "mm")
        io.write(plane, folder / f"slice{i}.tif")
    (layer,) = opened(folder)
    assert layer.data.shape == (12, 5, 6)
    np.testing.assert_array_equal(np.asarray(layer.data[:, 0, 0]), np.arange(12))
    assert str(layer.units[0]) == "millimeter"
    names = [str(folder / f"slice{i}.tif") for i in (3, 10, 2)]
    reader = get_reader(names)
    assert reader is not None
    ((data, _, _),) = reader(names)
    np.testing.assert_array_equal(np.asarray(data)[:, 0, 0], [2, 3, 10])


def test_what_is_not_ours_is_left_to_others(tmp_path: Path) -> None:
    for name in ("table.csv", "scan.raw", "model.pth"):
        (tmp_path / name).write_bytes(b"x")
        assert get_reader(str(tmp_path / name)) is None
    assert get_reader(str(tmp_path)) is None
    assert get_reader([]) is None
    assert get_reader([str(tmp_path / "a.csv"), str(tmp_path / "b.tif")]) is None


def test_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "words.tif"
    path.write_text("no image")
    reader = get_reader(str(path))
    assert reader is not None
    with pytest.raises(FileError, match=r"words\.tif is not a TIFF file"):
        reader(str(path))


def test_layers_that_came_from_elsewhere(tmp_path: Path) -> None:
    layer = Image(
        np.zeros((4, 5, 6)), scale=(2000, 1, 1), units=("nm", "um", "um"), name="x"
    )
    out = tmp_path / "a.ome.tif"
    write_image(str(out), *layer.as_layer_data_tuple()[:2])
    back = io.read(out)
    assert (back.voxel_size, back.unit) == ((2, 1, 1), "µm")
    plain = volume_from_data(np.zeros((4, 5)), {})
    assert (plain.axes, plain.voxel_size, plain.unit) == ("YX", (1, 1), "pixel")


def test_rgb_layer_becomes_channels(tmp_path: Path) -> None:
    colours = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    layer = Image(colours, rgb=True, scale=(0.5, 0.5), units="um")
    out = tmp_path / "a.tif"
    write_image(str(out), *layer.as_layer_data_tuple()[:2])
    back = io.read(out)
    assert (back.axes, back.shape, back.unit) == ("CYX", (3, 4, 5), "µm")
    np.testing.assert_array_equal(np.asarray(back.data), np.moveaxis(colours, -1, 0))


def test_rotated_layers_are_refused(tmp_path: Path) -> None:
    turned = Image(np.zeros((4, 5)), rotate=30, name="turned")
    with pytest.raises(FileError, match="'turned' is rotated"):
        write_image(str(tmp_path / "a.tif"), *turned.as_layer_data_tuple()[:2])
    sheared = Image(np.zeros((4, 5)), affine=[[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(FileError, match="sheared"):
        write_image(str(tmp_path / "a.tif"), *sheared.as_layer_data_tuple()[:2])
    assert list(tmp_path.iterdir()) == []


def test_moved_and_stretched_layers_are_written_where_they_lie(tmp_path: Path) -> None:
    affine = [[2, 0, 3], [0, 4, 5], [0, 0, 1]]
    layer = Image(np.zeros((4, 5)), scale=(0.5, 1), translate=(1, 2), affine=affine)
    layer.units = ("mm", "um")
    out = tmp_path / "a.ome.tif"
    write_image(str(out), *layer.as_layer_data_tuple()[:2])
    back = io.read(out)
    assert (back.unit, back.voxel_size, back.origin) == ("µm", (1000, 4), (5000, 13))


def test_wide_labels_are_narrowed_only_if_they_fit(tmp_path: Path) -> None:
    labels = np.zeros((3, 4, 5), np.int64)
    labels[1, 2, 3] = 70000
    out = tmp_path / "a.ome.tif"
    write_labels(str(out), labels, {})
    back = io.read(out)
    assert back.dtype == np.int32
    assert back.metadata["kind"] == "labels"
    np.testing.assert_array_equal(np.asarray(back.data), labels)
    labels[0, 0, 0] = 2**40
    write_labels(str(tmp_path / "b.tif"), labels, {})
    np.testing.assert_array_equal(np.asarray(io.read(tmp_path / "b.tif").data), labels)


def test_real_files_keep_their_voxel_size(shared_data: Path) -> None:
    (beads,) = opened(shared_data / "microscopy" / "Bead_Image1_crop.tif")
    np.testing.assert_allclose(beads.scale, (0.125, 1e6 / 44460534, 1e6 / 44460534))
    assert str(beads.units[-1]) == "micrometer"
    assert len(opened(shared_data / "microscopy" / "hela-cells.tif")) == 3
    (nan,) = opened(shared_data / "bad" / "psf_all_nan.tif")
    assert nan.data.shape == (41, 150, 150)


def test_images_of_different_shapes_become_layers(viewer: Any, tmp_path: Path) -> None:
    """napari's dialog does not support ``scan.tif::1``."""
    rng = np.random.default_rng(0)
    path = tmp_path / "scan.tif"
    shapes = ((5, 20, 30), (8, 9), (40, 31))
    with tifffile.TiffWriter(path) as writer:
        for shape in shapes:
            writer.write(rng.integers(0, 9, shape, np.uint8), photometric="minisblack")
    before = len(notification_manager.records)
    layers = viewer.open(str(path), plugin="napari-geosr")
    assert [layer.data.shape for layer in layers] == list(shapes)
    assert [layer.name for layer in layers] == [f"scan · image {i}" for i in range(3)]
    said = [note.message for note in notification_manager.records[before:]]
    assert any("3 images of different shapes: each is opened" in text for text in said)
    # A job, which reads the file again, uses the same image.
    for layer in layers:
        assert LayerVolume(*part_of_file(layer, viewer)).is_in_file()


def test_only_the_largest_of_very_many_images_are_opened(
    viewer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        for n in range(10, 30):
            writer.write(np.ones((n, n), np.uint8), photometric="minisblack")
    layers = viewer.open(str(path), plugin="napari-geosr")
    assert [layer.data.shape[0] for layer in layers] == list(range(14, 30))
