"""OME-Zarr: reads 0.4 and 0.5, writes 0.5; aligned levels; shards written once."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import assumed_distances, file_warnings
from napari_geosr.io.formats.ome_zarr.reading import read_levels
from napari_geosr.io.formats.ome_zarr.shards import (
    ShardBuffer,
    chunk_shapes,
    fitted_shapes,
)
from napari_geosr.io.formats.ome_zarr.writer import reduced
from napari_geosr.io.lazy import LazyArray

SPEC: dict[str, Any] = {
    "axes": "ZYX",
    "voxel_size": (2.0, 1.0, 0.5),
    "unit": "µm",
    "origin": (10.0, -1.0, 0.25),
}


def foreign(path: Path, version: str, **more: Any) -> Path:
    """An image as other programs write it."""
    v2 = version == "0.4"
    group = zarr.open_group(path, mode="w", zarr_format=2 if v2 else 3)
    rng = np.random.default_rng(0)
    for level, shape in enumerate([(2, 4, 8, 10), (2, 4, 4, 5)]):
        data = rng.integers(0, 999, shape).astype(">u2" if v2 else "u2")
        group.create_array(str(level), data=data, chunks=(1, 2, 4, 5))
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]

    def transformations(f: float) -> list[dict[str, Any]]:
        return [
            {"type": "scale", "scale": [1, 2, 0.5 * f, 0.5 * f]},
            {"type": "translation", "translation": [0, 7, 0.25 * (f - 1), 0]},
        ]

    entry = {
        "axes": axes,
        "datasets": [
            {"path": "0", "coordinateTransformations": transformations(1)},
            {"path": "1", "coordinateTransformations": transformations(2)},
        ],
        **more,
    }
    if v2:
        group.attrs["multiscales"] = [{"version": "0.4", **entry}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [entry]}
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_reads_others(version: str, tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.zarr", version)
    volume = io.read(path)
    assert (volume.axes, volume.shape) == ("CZYX", (2, 4, 8, 10))
    assert volume.dtype == np.uint16
    assert volume.dtype.isnative
    assert (volume.voxel_size, volume.unit) == ((2, 0.5, 0.5), "µm")
    assert volume.origin == (7, 0, 0)
    raw = zarr.open_group(path, mode="r")["0"][:]
    np.testing.assert_array_equal(np.asarray(volume.data), raw)
    coarse = read_levels(path)[1]
    assert (coarse.shape, coarse.voxel_size) == ((2, 4, 4, 5), (2, 1, 1))
    assert coarse.origin == (7, 0.25, 0)


def changed(path: Path, change: Any) -> Path:
    """An image of another program, whose finest level has other transformations."""
    group = zarr.open_group(foreign(path, "0.4"), mode="r+")
    entries = group.attrs["multiscales"]
    change(entries[0])
    group.attrs["multiscales"] = entries
    return path


@pytest.mark.parametrize(
    "scale",
    [
        [1, 0, 0.5, 0.5],
        [1, -2, 0.5, 0.5],
        [1, "2", 0.5, 0.5],
        [2, 0.5, 0.5],
        [1, None, 0.5, 0.5],
        "2",
        None,
    ],
    ids=str,
)
def test_without_a_usable_scale_the_voxel_size_is_unknown(
    tmp_path: Path, scale: Any
) -> None:
    def change(entry: dict[str, Any]) -> None:
        steps = entry["datasets"][0]["coordinateTransformations"]
        if scale is None:
            del steps[0]
        else:
            steps[0]["scale"] = scale

    volume = io.read(changed(tmp_path / "a.ome.zarr", change))
    assert (volume.voxel_size, volume.unit) == ((1, 1, 1), "pixel")
    assert not volume.has_physical_size
    (note,) = volume.metadata["notes"]
    assert note.corrected_by == "unit"
    reason = "The file specifies no scale" if scale is None else f"{scale}, is invalid"
    assert f"{reason}, so the voxel size is unknown." in note
    given = io.read(tmp_path / "a.ome.zarr", voxel_size=(2, 1, 1), unit="µm")
    assert (given.voxel_size, given.unit) == ((2, 1, 1), "µm")
    assert "notes" not in given.metadata


def test_a_scale_of_nan(tmp_path: Path) -> None:
    def change(entry: dict[str, Any]) -> None:
        entry["datasets"][0]["coordinateTransformations"][0]["scale"][1] = float("nan")

    volume = io.read(changed(tmp_path / "a.ome.zarr", change))
    assert volume.unit == "pixel"


def test_a_scale_of_the_whole_image_is_enough(tmp_path: Path) -> None:
    def change(entry: dict[str, Any]) -> None:
        del entry["datasets"][0]["coordinateTransformations"]
        entry["coordinateTransformations"] = [{"type": "scale", "scale": [1, 4, 3, 3]}]

    volume = io.read(changed(tmp_path / "a.ome.zarr", change))
    assert (volume.voxel_size, volume.unit) == ((4, 3, 3), "µm")
    assert "notes" not in volume.metadata


def test_an_invalid_translation_is_ignored_and_said(tmp_path: Path) -> None:
    def change(entry: dict[str, Any]) -> None:
        steps = entry["datasets"][0]["coordinateTransformations"]
        steps[1]["translation"] = [0, "x", 0, 0]

    volume = io.read(changed(tmp_path / "a.ome.zarr", change))
    assert volume.voxel_size == (2, 0.5, 0.5)
    assert volume.origin == (0, 0, 0)
    (note,) = volume.metadata["notes"]
    assert "translation in the file, [0, 'x', 0, 0], is invalid; it was ignored" in note


def test_units_that_are_missing_or_unknown_are_said(tmp_path: Path) -> None:
    def without_z(entry: dict[str, Any]) -> None:
        del entry["axes"][1]["unit"]

    volume = io.read(changed(tmp_path / "a.ome.zarr", without_z))
    assert (volume.voxel_size, volume.unit) == ((2, 0.5, 0.5), "µm")
    (note,) = assumed_distances(volume.metadata)
    assert "along Z is not in the file; it was taken to be µm, as along X" in note

    def parsecs(entry: dict[str, Any]) -> None:
        for axis in entry["axes"][1:]:
            axis["unit"] = "parsec"

    volume = io.read(changed(tmp_path / "b.ome.zarr", parsecs))
    assert volume.unit == "pixel"
    assert volume.metadata["notes"] == ("The unit 'parsec' is not a length unit.",)


def test_missing_chunks_of_another_channel_are_not_said(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.ome.zarr", "0.5")
    for file in (path / "0" / "c" / "1").rglob("*"):
        if file.is_file():
            file.unlink()
    (said,) = file_warnings(io.read(path).metadata)
    assert "(C 1" in said
    assert file_warnings(io.read(path, channel=0).metadata) == ()
    (said,) = file_warnings(io.read(path, channel=1).metadata)
    assert said.startswith("8 of 8 chunks")


def test_transformations_of_the_whole_come_last(tmp_path: Path) -> None:
    whole = [
        {"type": "scale", "scale": [1, 10, 10, 10]},
        {"type": "translation", "translation": [0, 1, 1, 1]},
    ]
    path = foreign(tmp_path / "a.zarr", "0.5", coordinateTransformations=whole)
    volume = io.read(path)
    assert volume.voxel_size == (20, 5, 5)
    assert volume.origin == (71, 1, 1)


def test_written_levels_lie_in_place(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(520.0), (3, 300, 520)).astype(np.float32)
    with io.create(
        tmp_path / "a.zarr", io.OutputSpec(shape=ramp.shape, dtype="f4", **SPEC)
    ) as output:
        output.array[...] = ramp
    levels = read_levels(tmp_path / "a.zarr")
    assert [v.shape for v in levels] == [(3, 300, 520), (3, 150, 260), (3, 75, 130)]
    for factor, volume in zip((1, 2, 4), levels, strict=True):
        # The grey value is the X position in fine voxels, so it must not move.
        x = volume.origin[2] + np.arange(volume.shape[2]) * volume.voxel_size[2]
        expected = (x - SPEC["origin"][2]) / SPEC["voxel_size"][2]
        np.testing.assert_allclose(np.asarray(volume.data)[0, 0], expected, rtol=1e-6)
        assert volume.voxel_size == (2.0, 1.0 * factor, 0.5 * factor)
        assert volume.origin[0] == SPEC["origin"][0]
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert group.metadata.zarr_format == 3
    assert group.attrs["ome"]["version"] == "0.5"
    assert group["0"].metadata.dimension_names == ("z", "y", "x")


def test_passes_the_schema_of_others(tmp_path: Path, make_volume: Any) -> None:
    models = pytest.importorskip(
        "ome_zarr_models.v05", reason="pip install ome-zarr-models, as tox does"
    )
    path = io.write(make_volume((2, 5, 6, 7), "CZYX"), tmp_path / "a.ome.zarr")
    image = models.Image.from_zarr(zarr.open_group(path, mode="r"))
    assert [a.name for a in image.ome_attributes.multiscales[0].axes] == list("czyx")


def test_labels_are_never_averaged(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).choice([0, 5, 900], (2, 400, 300))
    shape, dtype = labels.shape, np.uint16
    with io.create(
        tmp_path / "a.zarr",
        io.OutputSpec(shape=shape, dtype=dtype, kind="labels", **SPEC),
    ) as output:
        output.array[...] = labels
    coarse = np.asarray(read_levels(tmp_path / "a.zarr")[1].data)
    assert set(np.unique(coarse)) == {0, 5, 900}


def test_no_levels_when_not_wanted(tmp_path: Path) -> None:
    with io.create(
        tmp_path / "a.zarr",
        io.OutputSpec(shape=(2, 600, 600), dtype="u1", multiscale=False, **SPEC),
    ) as output:
        output.array[0] = 3
    assert len(read_levels(tmp_path / "a.zarr")) == 1


def test_odd_lengths_are_not_cropped() -> None:
    cells = reduced(np.array([[0, 2, 9]], np.uint8), (1, 2), mean=True)
    np.testing.assert_array_equal(cells, [[1, 9]])
    assert cells.dtype == np.uint8
    labels = reduced(np.array([[4, 2, 9]], np.uint8), (1, 2), mean=False)
    np.testing.assert_array_equal(labels, [[4, 9]])


def test_chunks_are_flat_and_shards_small() -> None:
    chunk, shard = chunk_shapes((900, 2000, 2100), 4)
    assert chunk == (4, 256, 256)
    assert np.prod(shard) * 4 <= 16 << 20
    assert all(s % c == 0 for s, c in zip(shard, chunk, strict=True))
    assert chunk_shapes((5, 7), 1)[0] == (5, 7)


def test_every_shard_is_written_once(rng: np.random.Generator) -> None:
    writes: list[Any] = []

    class Target:
        shape = (10, 20, 30)
        dtype = np.dtype("f4")

        def __init__(self) -> None:
            self.data = np.zeros(self.shape, self.dtype)

        def __setitem__(self, key: Any, value: Any) -> None:
            writes.append(tuple((s.start, s.stop) for s in key))
            self.data[key] = value

        def __getitem__(self, key: Any) -> Any:
            return self.data[key]

    target = Target()
    buffer = ShardBuffer(target, (4, 8, 16))
    voxels = rng.random(target.shape, dtype=np.float32)
    for z in range(0, 10, 3):
        for y in range(0, 20, 7):
            for x in range(0, 30, 11):
                key = np.s_[z : z + 3, y : y + 7, x : x + 11]
                buffer[key] = voxels[key]
    buffer.flush()
    np.testing.assert_array_equal(target.data, voxels)
    assert len(writes) == len(set(writes)) == 3 * 3 * 2
    assert buffer.n_rewrites == 0


def test_buffer_stays_in_its_bound(rng: np.random.Generator) -> None:
    target = np.zeros((16, 16, 16), np.float32)
    buffer = ShardBuffer(target, (16, 4, 4), buffer_bytes=3000)
    voxels = rng.random(target.shape, dtype=np.float32)
    for z in range(16):
        buffer[z] = voxels[z]
        assert buffer._pending_bytes() <= 3000
    np.testing.assert_array_equal(buffer[3, 2:5], voxels[3, 2:5])
    np.testing.assert_array_equal(np.asarray(buffer), voxels)
    assert buffer.n_rewrites > 0


def test_a_damaged_shard_that_is_changed_is_named(tmp_path: Path) -> None:
    """The error does not suggest that the disk is full."""
    from zarr.codecs import Crc32cCodec

    shape = (4, 7)
    array = zarr.create_array(
        tmp_path / "out.ome.zarr", name="0", shape=shape, chunks=(2, 2), shards=(4, 4),
        dtype="uint8", compressors=[Crc32cCodec()],
    )  # fmt: skip
    array[...] = 7
    for name in ("0/0", "0/1"):
        file = tmp_path / "out.ome.zarr/0/c" / name
        file.write_bytes(bytes(b ^ 4 for b in file.read_bytes()))
    buffer = ShardBuffer(array, (4, 4), 100, 0, Path("out.ome.zarr"))
    buffer.adopt([np.s_[0:2, 0:4]])
    said = "out.ome.zarr cannot be completed, because its shard 0/c/0/{} is damaged: "
    with pytest.raises(FileError, match=said.format(0)):
        buffer[2:4, 0:2] = np.zeros((2, 2), np.uint8)  # reads the finished part
    with pytest.raises(FileError, match=said.format(1)):
        buffer[0:4, 4:7] = np.zeros((4, 3), np.uint8)  # a shard at the edge
    assert list(buffer.unwritten()) == ["c/0/1"]


def test_reading_is_lazy(tmp_path: Path, make_volume: Any) -> None:
    path = io.write(make_volume((9, 30, 40), "ZYX", "float32"), tmp_path / "a.zarr")
    assert isinstance(io.read(path).data, LazyArray)


def test_plain_arrays_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=np.ones((3, 4, 5), np.uint8))
    assert io.read(path).axes == "ZYX"
    other = zarr.open_group(tmp_path / "b.zarr", mode="w")
    with pytest.raises(FileError, match=r"b\.zarr contains no image"):
        io.read(tmp_path / "b.zarr")
    other.create_array("one", data=np.ones((3, 4)))
    assert io.read(tmp_path / "b.zarr").axes == "YX"
    other.create_array("two", data=np.ones((3, 4)))
    with pytest.raises(FileError, match=r"2 arrays: one, two.*'b\.zarr::one'"):
        io.read(tmp_path / "b.zarr")
    assert io.read(f"{tmp_path / 'b.zarr'}::two").shape == (3, 4)
    with pytest.raises(FileError, match=r"has no 'three'"):
        io.read(f"{tmp_path / 'b.zarr'}::three")


def test_faults(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    with pytest.raises(FileError, match=r"a\.zarr is not a readable zarr folder"):
        io.read(folder)
    (folder / "zarr.json").write_text("{")
    with pytest.raises(FileError, match=r"a\.zarr is not a readable zarr folder"):
        io.read(folder)
    for name, data in [("c", np.ones((2, 3), np.complex64)), ("e", np.ones((0, 3, 4)))]:
        zarr.create_array(tmp_path / f"{name}.zarr", data=data)
        with pytest.raises(FileError, match=rf"{name}\.zarr contains"):
            io.read(tmp_path / f"{name}.zarr")


def test_corrupt_chunk_is_named_when_read(tmp_path: Path, make_volume: Any) -> None:
    path = io.write(make_volume((4, 50, 60), "ZYX", "float32"), tmp_path / "a.zarr")
    volume = io.read(path)
    shard = next(p for p in (path / "0" / "c").rglob("*") if p.is_file())
    content = bytearray(shard.read_bytes())
    content[20:-100] = bytes(len(content) - 120)
    shard.write_bytes(content)
    with pytest.raises(FileError, match=r"a\.zarr is damaged"):
        volume.data[:]


@pytest.mark.parametrize("tile", [(43, 70, 96), (8, 347, 2100), (1, 2000, 2100)])
@pytest.mark.parametrize("shard_bytes", [2 << 20, 16 << 20])
def test_tiles_hold_whole_shards(tile: tuple[int, ...], shard_bytes: int) -> None:
    shape = (900, 2000, 2100)
    layer = tile[0] * shape[1] * shape[2] * 4
    chunk, shard = fitted_shapes(shape, 4, tile, shard_bytes, 3 * layer)
    for c, s, t, n in zip(chunk, shard, tile, shape, strict=True):
        assert s % c == 0
        assert t % s == 0 or t == n or (s % t == 0 and s <= 3 * t)
    assert np.prod(shard) * 4 <= max(shard_bytes, np.prod(chunk) * 4)


def test_an_output_for_tiles_is_written_once_in_little_memory(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    voxels = rng.random((30, 140, 150), dtype=np.float32)
    tile, memory = (14, 36, 50), 2 << 20
    with io.create(
        tmp_path / "a.ome.zarr",
        io.OutputSpec(
            shape=voxels.shape, dtype=voxels.dtype, tile=tile, memory=memory, **SPEC
        ),
    ) as output:
        assert output.array.held_bytes <= memory
        for start in np.ndindex(3, 4, 3):
            key = tuple(
                slice(i * t, (i + 1) * t) for i, t in zip(start, tile, strict=True)
            )
            output.array[key] = voxels[key]
            assert not output.array._pending_bytes()
        assert output.array.n_rewrites == 0
    np.testing.assert_array_equal(io.read(tmp_path / "a.ome.zarr").data, voxels)


def test_stopping_early_writes_only_what_was_begun(tmp_path: Path) -> None:
    shape = (64, 600, 600)
    with io.create(
        tmp_path / "a.zarr", io.OutputSpec(shape=shape, dtype="f4", **SPEC)
    ) as output:
        box = (slice(3, 9), slice(100, 300), slice(10, 40))
        output.array[box] = 2
        output.blank([box])
        shards = output.array
        path = output.keep_incomplete()
    assert shards.n_rewrites == 0
    assert sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) < 2_000_000
    data = np.asarray(io.read(path).data)
    assert np.all(data[box] == 2)
    assert np.isnan(data).sum() == data.size - data[box].size


def test_the_finest_level_is_read_whatever_their_order(tmp_path: Path) -> None:
    voxels = np.arange(16 * 16 * 16, dtype=np.float32).reshape(16, 16, 16)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("fine", data=voxels, chunks=(8, 16, 16))
    group.create_array("coarse", data=voxels[::2, ::2, ::2], chunks=(8, 8, 8))
    scales = {"coarse": 4.0, "fine": 2.0}
    datasets = [
        {
            "path": path,
            "coordinateTransformations": [{"type": "scale", "scale": [scale] * 3}],
        }
        for path, scale in scales.items()
    ]
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": datasets}
    ]
    volume = io.read(tmp_path / "a.zarr")
    assert (volume.shape, volume.voxel_size) == (voxels.shape, (2, 2, 2))
    # Consolidated metadata from before the array grew are not used.
    zarr.consolidate_metadata(tmp_path / "a.zarr")
    group["fine"].resize((24, 16, 16))
    assert io.read(tmp_path / "a.zarr").shape == (24, 16, 16)
    datasets[1]["path"] = "gone"
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": datasets}
    ]
    with pytest.raises(FileError, match=r"resolution level 1 \(gone\) is missing"):
        io.read(tmp_path / "a.zarr")


def test_shards_that_could_not_be_flushed_to_disk_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(8, 4), chunks=(2, 4), dtype="u1")
    buffer = ShardBuffer(array, (2, 4))
    buffer[:] = np.ones((8, 4), np.uint8)
    synced: list[Path] = []

    def sync(path: Path) -> None:
        if len(synced) == 2:
            raise OSError(errno.EIO, "Input/output error")
        synced.append(path)

    module = "napari_geosr.io.formats.ome_zarr.shards"
    monkeypatch.setattr(f"{module}.sync_file", sync)
    folders: list[Path] = []
    monkeypatch.setattr(f"{module}.sync_folder", folders.append)
    with pytest.raises(OSError, match="Input/output"):
        buffer.flush_to_disk(tmp_path / "a")
    synced.clear()
    monkeypatch.setattr(f"{module}.sync_file", synced.append)
    buffer.flush_to_disk(tmp_path / "a")
    assert {path.parent.name for path in synced} == {str(i) for i in range(4)}
    # Also the folders of new shards.
    assert {tmp_path / "a", tmp_path / "a" / "c", tmp_path / "a" / "c" / "3"} <= {
        *folders
    }
