"""Each writer preserves voxels, axes, geometry and provenance."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume

SUFFIXES = [".tif", ".ome.tif", ".ome.zarr", ".nii", ".nii.gz"]
_OME_DTYPES = [
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "uint32",
    "f4",
    "f8",
    "bool",
]
_MORE_DTYPES = ["int64", "uint64", "f2"]


def supported(suffix: str) -> list[str]:
    more = {".ome.tif": [], ".nii": _MORE_DTYPES[:2], ".nii.gz": _MORE_DTYPES[:2]}
    return _OME_DTYPES + more.get(suffix, _MORE_DTYPES)


lengths = st.floats(1e-7, 1e7, allow_nan=False)
places = st.floats(-1e6, 1e6, allow_nan=False)
provenance = st.lists(
    st.dictionaries(
        st.text(max_size=8),
        st.one_of(st.integers(-5, 5), st.text(max_size=12), st.booleans()),
        max_size=3,
    ),
    max_size=2,
)


@st.composite
def volumes(draw: st.DrawFn, dtypes: list[str]) -> Volume:
    axes = draw(st.sampled_from(["YX", "ZYX", "CYX", "TZYX", "CZYX", "TCZYX"]))
    shape = tuple(draw(st.integers(1, 6)) for _ in axes)
    n = sum(a in "ZYX" for a in axes)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dtype = draw(st.sampled_from(dtypes))
    return Volume(
        data=(rng.random(shape) * 100).astype(dtype),
        axes=axes,
        voxel_size=tuple(draw(lengths) for _ in range(n)),
        unit=draw(st.sampled_from(["µm", "mm", "nm", "cm", "m", "Å", "in", "pixel"])),
        origin=tuple(draw(places) for _ in range(n)),
        provenance=tuple(draw(provenance)),
    )


def assert_same(back: Volume, volume: Volume) -> None:
    assert (back.axes, back.shape, back.unit) == (
        volume.axes,
        volume.shape,
        volume.unit,
    )
    stored = np.dtype(np.uint8) if volume.dtype == bool else volume.dtype
    assert back.dtype == stored
    np.testing.assert_array_equal(np.asarray(back.data), np.asarray(volume.data))
    np.testing.assert_allclose(back.voxel_size, volume.voxel_size, rtol=1e-6)
    np.testing.assert_allclose(back.origin, volume.origin, rtol=1e-6, atol=1e-9)
    assert back.provenance == volume.provenance


@pytest.mark.every(2)
@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_everything_survives(suffix: str, data: st.DataObject) -> None:
    volume = data.draw(volumes(supported(suffix)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"volume{suffix}"
        assert io.write(volume, path) == path
        assert_same(io.read(path), volume)
        assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_lazy_volume_is_copied_by_blocks(
    suffix: str, tmp_path: Path, make_volume: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask.array as da

    monkeypatch.setattr("napari_geosr.io.output.COPY_BYTES", 4000)
    whole = make_volume((40, 30, 20), "ZYX", "float32")
    seen: list[int] = []

    def note(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen.append(block.size)
        return block

    lazy = da.from_array(whole.data, chunks=(4, 30, 20)).map_blocks(
        note, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    path = io.write(whole.replace(data=lazy), tmp_path / f"lazy{suffix}")
    assert len(seen) >= 10
    assert_same(io.read(path), whole)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_stay_labels(suffix: str, tmp_path: Path, make_volume: Any) -> None:
    labels = make_volume((4, 5, 6), "ZYX", "int32")
    labels.data[0, 0, 0] = 2**31 - 1
    path = io.write(labels, tmp_path / f"labels{suffix}", kind="labels")
    back = io.read(path)
    assert back.metadata["kind"] == "labels"
    assert_same(back, labels)


def test_ome_tiff_says_what_it_cannot_hold(tmp_path: Path, make_volume: Any) -> None:
    with pytest.raises(FileError, match=r"a\.ome\.tif .*int64.*\.tif or \.ome\.zarr"):
        io.write(make_volume(dtype="int64"), tmp_path / "a.ome.tif")


def test_nifti_says_what_it_cannot_hold(tmp_path: Path, make_volume: Any) -> None:
    with pytest.raises(FileError, match=r"a\.nii .*float16.*\.tif or \.ome\.zarr"):
        io.write(make_volume(dtype="float16"), tmp_path / "a.nii")


def test_complex_is_refused(tmp_path: Path) -> None:
    volume = Volume(np.zeros((3, 3), np.complex64), "YX")
    with pytest.raises(FileError, match="complex64"):
        io.write(volume, tmp_path / "a.tif")


def test_tiff_is_what_imagej_understands(tmp_path: Path, make_volume: Any) -> None:
    import tifffile

    volume = make_volume((2, 3, 4, 5, 6), "TCZYX", "uint16")
    path = io.write(volume, tmp_path / "a.tif")
    with tifffile.TiffFile(path) as tif:
        assert tif.is_imagej
        metadata = tif.imagej_metadata
        assert metadata["unit"] == "\\u00B5m"
        assert metadata["spacing"] == pytest.approx(0.5)
        assert (metadata["frames"], metadata["channels"], metadata["slices"]) == (
            2,
            3,
            4,
        )
        assert tif.series[0].axes == "TZCYX"
        x = tif.pages[0].tags["XResolution"].value
        assert x[0] / x[1] == pytest.approx(3.0, rel=1e-6)
        assert -metadata["zorigin"] * 0.5 == pytest.approx(-1.5)
        np.testing.assert_array_equal(
            tif.asarray(), np.asarray(volume.data).transpose(0, 2, 1, 3, 4)
        )


def test_ome_tiff_is_what_ome_readers_understand(
    tmp_path: Path, make_volume: Any
) -> None:
    import tifffile

    volume = make_volume((2, 3, 4, 5, 6), "TCZYX", "float64")
    path = io.write(volume, tmp_path / "a.ome.tif")
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "TCZYX"
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        np.testing.assert_array_equal(tif.asarray(), volume.data)
    assert pixels["PhysicalSizeX"] == pytest.approx(1 / 3)
    assert pixels["PhysicalSizeZUnit"] == "µm"
    assert pixels["Plane"]["PositionZ"] == -1.5
    assert pixels["Plane"]["PositionZUnit"] == "µm"
    with tifffile.TiffFile(path) as tif:
        from napari_geosr.io.formats.tiff.writer import _OME_NAMESPACE

        assert _OME_NAMESPACE in tif.ome_metadata


@pytest.mark.parametrize("dtype", ["int32", "uint32", "float64", "int8"])
def test_what_imagej_cannot_hold_is_not_cast(
    dtype: str, tmp_path: Path, make_volume: Any
) -> None:
    volume = make_volume(dtype=dtype)
    path = io.write(volume, tmp_path / "a.tif")
    assert io.read(path).metadata["format"] == "OME-TIFF"
    assert_same(io.read(path), volume)


def test_large_files_are_bigtiff(
    tmp_path: Path, make_volume: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_geosr.io.formats.tiff.writer.BIGTIFF_BYTES", 100)
    volume = make_volume()
    with io.create(
        tmp_path / "big.tif",
        io.OutputSpec(
            shape=volume.shape,
            dtype=volume.dtype,
            axes="ZYX",
            voxel_size=volume.voxel_size,
            unit="µm",
            origin=volume.origin,
        ),
    ) as output:
        output.array[...] = volume.data
        assert "4 GB" in output.note
        assert "OME-TIFF" in output.note
    back = io.read(tmp_path / "big.tif")
    assert "BigTIFF" in back.metadata["format"]
    assert_same(back, volume)
