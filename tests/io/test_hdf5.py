"""HDF5 and NeXus: choice of the dataset, position, voxel size, lazy reading."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.projections import is_projections

VOXELS = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.h5"


@pytest.mark.parametrize("chunks", [None, (1, 5, 6), (2, 3, 2)])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_the_only_dataset(
    path: Path, chunks: tuple[int, ...] | None, compression: str | None
) -> None:
    with h5py.File(path, "w") as file:
        options = {"compression": compression} if chunks else {}
        file.create_dataset("entry/data", data=VOXELS, chunks=chunks, **options)
        file["entry/angles"] = np.arange(9.0)
        file["entry/title"] = "scan"
    volume = io.read(path)
    assert (volume.axes, volume.unit) == ("ZYX", "pixel")
    assert volume.metadata["dataset"] == "entry/data"
    assert isinstance(volume.data, LazyArray)
    np.testing.assert_array_equal(volume.data[1:3, 2], VOXELS[1:3, 2])
    np.testing.assert_array_equal(np.asarray(volume.data), VOXELS)
    with h5py.File(path, "r+"):  # the file is not kept open
        pass


def test_several_datasets_must_be_chosen(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a/one"] = VOXELS
        file["b/two"] = VOXELS + 1
    with pytest.raises(
        FileError,
        match=r"2 datasets: a/one 4×5×6, b/two 4×5×6\. .*--dataset a/one .*::a/one'",
    ):
        io.read(path)
    np.testing.assert_array_equal(io.read(f"{path}::b/two").data[0], VOXELS[0] + 1)
    np.testing.assert_array_equal(io.read(path, dataset="/a/one").data[0], VOXELS[0])
    with pytest.raises(
        FileError, match=r"no dataset 'c'.*Its top level contains: a, b"
    ):
        io.read(path, dataset="c")
    with pytest.raises(FileError, match=r"'a' is a group.*contains: one"):
        io.read(path, dataset="a")


def test_projections_are_to_be_reconstructed_first(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("data", "data_white", "data_dark"):
            file[f"exchange/{name}"] = np.zeros((4, 5, 6), np.uint16)
    with pytest.raises(FileError, match=r"3 datasets: .*napari-geosr reconstruct a"):
        io.read(path)


def test_of_many_datasets_the_first_are_named(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a_preview"] = VOXELS[0]
        for i in range(20):
            file[f"scan{i:02}"] = VOXELS
    with pytest.raises(FileError, match="21 datasets") as complaint:
        io.read(path)
    said = str(complaint.value)
    assert said.count("×") == 1 + 7 * 2  # out of a picture and seven volumes
    assert "--dataset scan00 " in said


def test_a_volume_beside_pictures_is_meant(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["preview"] = VOXELS[0]
        file["volume"] = VOXELS
    assert io.read(path).metadata["dataset"] == "volume"


def test_nexus_default_and_coordinates(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["other"] = VOXELS
        data = file.create_group("entry/data")
        file.attrs["default"] = "entry"
        file["entry"].attrs["default"] = "data"
        data.attrs["signal"] = "voxels"
        data.attrs["axes"] = ["z", "y", "x"]
        data["voxels"] = VOXELS
        for name, n, step, start in (("z", 4, 2, 1), ("y", 5, 3, 0), ("x", 6, 4, -8)):
            data[name] = start + step * np.arange(n)
            data[name].attrs["units"] = "um"
    volume = io.read(path)
    assert volume.metadata["dataset"] == "entry/data/voxels"
    assert (volume.voxel_size, volume.unit) == ((2, 3, 4), "µm")
    assert volume.origin == (1, 0, -8)


def test_element_size(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = VOXELS
        file["data"].attrs["element_size_um"] = (3.0, 2.0, 1.5)
    volume = io.read(path)
    assert (volume.voxel_size, volume.unit) == ((3, 2, 1.5), "µm")


def test_links(path: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["voxels"] = VOXELS
    with h5py.File(path, "w") as file:
        file["here"] = h5py.ExternalLink("raw.h5", "/voxels")
        file["again"] = h5py.SoftLink("/here")
        file["group/loop"] = h5py.SoftLink("/")
        file["gone"] = h5py.ExternalLink("gone.h5", "/voxels")
    np.testing.assert_array_equal(np.asarray(io.read(path).data), VOXELS)
    with pytest.raises(FileError, match=r"'gone' is in gone\.h5, which is missing"):
        io.read(path, dataset="gone")
    (tmp_path / "raw.h5").unlink()
    with pytest.raises(FileError, match=r"links are broken: .*gone\.h5"):
        io.read(path)


def test_links_that_lead_in_a_circle(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = h5py.SoftLink("/b")
        file["b"] = h5py.SoftLink("/a")
        file["self"] = h5py.ExternalLink(path.name, "/self")
        file["voxels"] = VOXELS
    volume = io.read(path)
    np.testing.assert_array_equal(np.asarray(volume.data), VOXELS)
    assert volume.metadata["notes"] == (
        "The dataset 'voxels' was read; the file also contains broken links "
        f"(a → /b, b → /a, self → {path.name}).",
    )
    for name in ("a", "b/c", "self"):
        with pytest.raises(FileError, match="a circular or broken link"):
            io.read(path, dataset=name)
    assert not is_projections(path)


def test_a_default_that_leads_in_a_circle(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "a"
        file["a"] = h5py.SoftLink("/a")
        file["voxels"] = VOXELS
    np.testing.assert_array_equal(np.asarray(io.read(path).data), VOXELS)


def test_what_is_no_volume(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["complex"] = VOXELS.astype(np.complex64)
        file["empty"] = np.zeros((0, 5, 6))
        file["words"] = ["a", "b"]
        file["line"] = np.arange(5)
    for name, message in [
        ("complex", "complex numbers.*magnitude"),
        ("empty", r"shape \(0, 5, 6\) is not an image"),
        ("words", "are not numbers"),
        ("line", r"shape \(5,\) is not an image"),
    ]:
        with pytest.raises(FileError, match=message):
            io.read(path, dataset=name)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_truncated(path: Path, part: float) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = np.random.default_rng(0).random((20, 30, 40))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(FileError, match=r"a\.h5 is truncated"):
        io.read(path)


def test_words(path: Path) -> None:
    path.write_text("no HDF5 at all")
    with pytest.raises(
        FileError, match=r"not a readable HDF5 file \(it begins with 'no"
    ):
        io.read(path)


def test_corrupt_chunk_is_named_when_read(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (8, 40, 40)).astype(np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=noise, chunks=(1, 40, 40), compression="gzip")
        place = file["a"].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + 10 : place.byte_offset + 200] = bytes(190)
    path.write_bytes(content)
    volume = io.read(path)
    np.testing.assert_array_equal(volume.data[2], noise[2])
    with pytest.raises(FileError, match=r"a\.h5 is damaged"):
        volume.data[3]


def test_a_null_dataset_beside_the_volume(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((3, 4, 5), np.uint8)
        file["note"] = h5py.Empty("f4")
    assert io.read(path).shape == (3, 4, 5)
    with pytest.raises(FileError, match="note.*no voxels"):
        io.read(f"{path}::note")
