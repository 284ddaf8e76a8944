"""The registry of file formats, and adding a format from another package."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import napari_geosr
from napari_geosr import io
from napari_geosr.core import registry
from napari_geosr.core.errors import FileError
from napari_geosr.io.formats import (
    ReadOptions,
    WritableFileFormat,
    format_of,
    format_that_reads,
    format_that_writes,
    formats,
    is_volume_folder,
    slice_suffixes,
)
from napari_geosr.io.meshes import MESH_SUFFIXES
from napari_geosr.io.slices import read_folder
from napari_geosr.io.suffixes import incomplete_path, stem_of

SPEC = {
    "axes": "ZYX",
    "voxel_size": (1, 1, 1),
    "unit": "pixel",
    "origin": (0, 0, 0),
}


def bring(monkeypatch: pytest.MonkeyPatch, **modules: str) -> None:
    """Register these modules as formats by entry points."""

    def entry_points(group: str) -> list[EntryPoint]:
        ours = group == "napari_geosr.formats"
        return [EntryPoint(n, m, group) for n, m in modules.items()] if ours else []

    monkeypatch.setattr(registry, "entry_points", entry_points)


@pytest.fixture
def npy(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).with_name("npy_format.py")
    spec = importlib.util.spec_from_file_location("theirs_npy", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "theirs_npy", module)
    spec.loader.exec_module(module)
    bring(monkeypatch, npy="theirs_npy")


def test_the_order_of_suffixes_in_messages() -> None:
    assert io.read_suffixes() == (
        *(".ome.tiff", ".ome.tif", ".tiff", ".tif", ".btf", ".tf8", ".lsm"),
        *(".ome.zarr", ".zarr"),
        *(".hdf5", ".h5", ".nxs", ".nx5", ".hdf"),
        *(".raw", ".bin", ".dat"),
        *(".nii.gz", ".nii"),
        *(".nrrd", ".nhdr"),
        *(".dcm", ".dicom"),
        *(".png", ".jpg", ".jpeg", ".bmp"),
    )
    assert io.write_suffixes() == (
        *(".ome.tiff", ".ome.tif", ".tiff", ".tif"),
        *(".ome.zarr", ".zarr"),
        *(".nii.gz", ".nii"),
    )
    assert slice_suffixes() == (*io.read_suffixes()[:7], *io.read_suffixes()[-4:])


@pytest.mark.parametrize("one", formats(), ids=lambda each: each.title)
def test_each_format_owns_its_suffixes(one: Any) -> None:
    for suffix in one.suffixes:
        assert suffix == suffix.lower()
        assert format_of(Path(f"Scan{suffix.upper()}")) is one
    if isinstance(one, WritableFileFormat):
        written = [s for suffixes in one.file_types.values() for s in suffixes]
        assert set(written) <= set(one.suffixes)
        assert all(format_that_writes(Path(f"a{s}")) is one for s in written)
    else:
        assert all(format_that_writes(Path(f"a{s}")) is None for s in one.suffixes)


def test_what_is_read_only_is_not_written() -> None:
    assert format_of(Path("a.lsm")) is format_of(Path("a.tif"))
    assert format_that_writes(Path("a.lsm")) is None


def test_what_a_path_is_decides_where_its_suffix_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "scan.tif"
    folder.mkdir()
    assert format_that_reads(folder) is None
    assert not is_volume_folder(folder)
    (folder / "zarr.json").touch()
    assert format_that_reads(folder) is format_of(Path("a.zarr"))
    assert is_volume_folder(folder)
    odd = tmp_path / "scan.volume"
    odd.write_bytes(bytes(24))
    assert format_that_reads(odd) is None
    described = ReadOptions(shape=(2, 3, 4), dtype="u1")
    assert format_that_reads(odd, described) is format_of(Path("a.raw"))
    assert io.read(odd, shape=(2, 3, 4), dtype="u1").shape == (2, 3, 4)


def test_napari_is_told_of_formats_that_there_are() -> None:
    manifest = Path(napari_geosr.__file__).with_name("napari.yaml")
    listed = yaml.safe_load(manifest.read_text("utf-8"))["contributions"]
    for reader in listed["readers"]:
        patterns = {p.removeprefix("*").lower() for p in reader["filename_patterns"]}
        volumes = patterns - set(MESH_SUFFIXES)
        assert patterns > set(MESH_SUFFIXES)
        assert volumes <= set(io.read_suffixes())
        assert all(format_of(Path(f"a{p}")).states_shape for p in volumes)
    for writer in listed["writers"]:
        assert set(writer["filename_extensions"]) == set(io.write_suffixes())


@pytest.mark.usefixtures("npy")
def test_a_format_of_another_package(tmp_path: Path, make_volume: Any) -> None:
    assert io.read_suffixes()[-1] == io.write_suffixes()[-1] == ".npy"
    assert stem_of(Path("a.b.NPY")) == "a.b"
    volume = make_volume((3, 4, 5), dtype="float32")
    path = io.write(volume, tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(path), volume.data)
    back = io.read(path, voxel_size=[2], unit="mm")
    np.testing.assert_array_equal(np.asarray(back.data), volume.data)
    assert (back.name, back.voxel_size, back.unit) == ("a", (2, 2, 2), "mm")
    with pytest.raises(FileError, match="exists already"):
        io.write(volume, path)
    with pytest.raises(FileError, match=r"Supported: .*\.bmp, \.npy and folders"):
        io.read(Path(__file__))


@pytest.mark.usefixtures("npy")
def test_its_unfinished_files_are_kept_and_killed_ones_removed(tmp_path: Path) -> None:
    spec = io.OutputSpec(shape=(2, 3, 4), dtype="f4", **SPEC)
    path = tmp_path / "a.npy"
    with io.create(path, spec) as output:
        output.array[0] = 7
        output.blank([(slice(0, 1), slice(0, 3), slice(0, 4))])
        output.keep_incomplete()
    assert [p.name for p in tmp_path.iterdir()] == ["a.incomplete.npy"]
    data = np.load(incomplete_path(path))
    assert (data[0] == 7).all()
    assert np.isnan(data[1]).all()

    def fail() -> None:
        with io.create(path, spec):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a.incomplete.npy"]


@pytest.mark.usefixtures("npy")
def test_a_dialog_offers_it() -> None:
    offered = {
        name: suffixes
        for each in formats()
        if isinstance(each, WritableFileFormat)
        for name, suffixes in each.file_types.items()
    }
    assert list(offered) == [
        *("OME-TIFF", "ImageJ TIFF", "OME-Zarr"),
        *("NIfTI", "NumPy array"),
    ]


def test_one_that_cannot_be_imported_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bring(monkeypatch, broken="no_such_module_here")
    with caplog.at_level(logging.WARNING, "napari_geosr.core.registry"):
        known = [each.title for each in formats()]
    assert known == [
        "TIFF",
        "OME-Zarr",
        "HDF5",
        "raw",
        "NIfTI",
        "NRRD",
        "DICOM",
        "picture",
    ]
    (message,) = caplog.messages
    assert re.search("file format 'broken' cannot be used.*no_such_module", message)


@pytest.mark.parametrize("source", ["1 / 0", "", "FORMAT = 'npy'"])
def test_a_broken_format_of_another_package_stops_no_reading(
    source: str, tmp_path: Path, make_volume: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_format.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_format", raising=False)
    bring(monkeypatch, theirs="their_format")
    path = io.write(make_volume((6, 7), "YX", dtype="uint8"), tmp_path / "a.tif")
    assert io.read(path).shape == (6, 7)


def test_slices_are_read_in_any_format_of_images(
    tmp_path: Path, make_volume: Any
) -> None:
    image = make_volume((6, 7), "YX", dtype="uint8")
    for i in range(3):
        io.write(image.replace(data=np.asarray(image.data) + i), tmp_path / f"{i}.tif")
    assert read_folder(tmp_path).shape == (3, 6, 7)
    (tmp_path / "a.h5").touch()  # not an image: left out
    assert io.read(tmp_path).shape == (3, 6, 7)


@pytest.mark.parametrize(
    ("change", "nbytes"),
    [({}, 96), ({"dtype": bool}, 24), ({"dtype": ">u2"}, 48)],
)
def test_a_spec_knows_its_size(change: dict[str, Any], nbytes: int) -> None:
    spec = io.OutputSpec(**({"shape": (2, 3, 4), "dtype": "f4"} | SPEC | change))
    stored = spec.checked("a.tif")
    assert stored.nbytes == nbytes
    assert np.dtype(stored.dtype).isnative
    with pytest.raises(FileError, match="cannot hold voxels of type complex64"):
        io.OutputSpec(**({"shape": (2, 3, 4), "dtype": "c8"} | SPEC)).checked("a.tif")


def test_channel_names_are_kept_where_there_is_one_for_each() -> None:
    spec = io.OutputSpec((2, 4, 5), "u1", "CYX", (1, 1), "pixel", (0, 0))
    named = io.OutputSpec.like(
        _volume_like(spec), channels=("DAPI", "GFP"), multiscale=False
    )
    assert named.checked("a").stamp.channels == ("DAPI", "GFP")
    assert named.checked("a").multiscale is False
    few = io.OutputSpec.like(_volume_like(spec), channels=("DAPI",))
    assert few.checked("a").stamp.channels == ()


def _volume_like(spec: io.OutputSpec) -> Any:
    from napari_geosr.core.volume import Volume

    return Volume(data=np.zeros(spec.shape, spec.dtype), axes=spec.axes)
