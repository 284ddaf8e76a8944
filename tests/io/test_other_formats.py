"""Raw files, pictures, NIfTI: shape, order, voxel size, and errors."""

from __future__ import annotations

import builtins
import logging
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.file_warnings import NO_UNIT


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "float32"])
@pytest.mark.parametrize("offset", [0, 100])
def test_raw(dtype: str, offset: int, tmp_path: Path, rng: np.random.Generator) -> None:
    voxels = (rng.random((4, 5, 6)) * 999).astype(dtype)
    path = tmp_path / "a.raw"
    path.write_bytes(b"x" * offset + voxels.tobytes())
    volume = io.read(path, shape=(4, 5, 6), dtype=dtype, offset=offset)
    assert volume.axes == "ZYX"
    assert volume.dtype.isnative
    np.testing.assert_array_equal(np.asarray(volume.data), voxels)


def test_raw_needs_shape_and_type(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(240))
    with pytest.raises(
        FileError, match=r"a\.raw is a raw file of 240 bytes.*Give both"
    ):
        io.read(path)
    with pytest.raises(FileError, match=r"a\.raw has 240 bytes, but 4 × 5 × 7 .* 280"):
        io.read(path, shape=(4, 5, 7), dtype="uint16")
    with pytest.raises(FileError, match="need 250 after 10 bytes of header"):
        io.read(path, shape=(4, 5, 6), dtype="uint16", offset=10)
    for shape, dtype in [((240,), "u1"), ((0, 4), "u1"), ((4, 30), "c8")]:
        with pytest.raises(ConfigError):
            io.read(path, shape=shape, dtype=dtype)
    with pytest.raises(ConfigError, match="'u15' is not a valid voxel type"):
        io.read(path, shape=(4, 60), dtype="u15")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("samples", [1, 3, 4])
def test_png(
    dtype: str, samples: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    shape = (10, 12) if samples == 1 else (10, 12, samples)
    pixels = rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(pixels))
    volume = io.read(path)
    assert volume.dtype == dtype
    assert volume.axes == ("YX" if samples == 1 else "CYX")
    expected = pixels if samples == 1 else np.moveaxis(pixels, -1, 0)
    np.testing.assert_array_equal(volume.data, expected)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_broken_pictures(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    encode: Any = {
        "a.png": imagecodecs.png_encode,
        "a.jpg": imagecodecs.jpeg8_encode,
        "a.bmp": imagecodecs.bmp_encode,
    }[name]
    content = encode(pixels)
    path.write_bytes(content)
    assert io.read(path).axes == "CYX"
    path.write_bytes(content[: len(content) // 8])
    with pytest.raises(FileError, match=name):
        io.read(path)
    path.write_bytes(b"words")
    with pytest.raises(
        FileError, match=rf"{name} is not a .* \(it begins with 'words'"
    ):
        io.read(path)


def nifti(path: Path, voxels: Any, affine: Any, unit: str) -> Path:
    import nibabel

    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("lazy", [True, False])
def test_nifti(
    suffix: str, lazy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lazy:
        monkeypatch.setattr("napari_geosr.io.formats.nifti.EAGER_BYTES", 0)
    voxels = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    affine = np.diag([0.5, 1.5, 2.5, 1.0])
    affine[:3, 3] = 1, 2, 3
    volume = io.read(nifti(tmp_path / f"a{suffix}", voxels, affine, "micron"))
    assert volume.axes == "TZYX"
    assert volume.is_lazy == lazy
    assert (volume.voxel_size, volume.unit) == ((2.5, 1.5, 0.5), "µm")
    assert volume.origin == (3, 2, 1)
    np.testing.assert_array_equal(np.asarray(volume.data), voxels.T)
    one = volume.select(time=4)
    np.testing.assert_array_equal(np.asarray(one.data), voxels[..., 4].T)


def test_a_nifti_voxel_size_without_a_unit_is_told(tmp_path: Path) -> None:
    """Programs that do not state the unit often mean mm, but not always."""
    voxels = np.zeros((4, 5, 6), np.uint8)
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    unknown = io.read(nifti(tmp_path / "a.nii", voxels, affine, "unknown"))
    assert (unknown.unit, unknown.voxel_size) == ("pixel", (0.5,) * 3)
    assert unknown.metadata["notes"] == (NO_UNIT,)
    given = io.read(nifti(tmp_path / "b.nii", voxels, affine, "mm"))
    assert "notes" not in given.metadata


def test_nifti_faults(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", np.zeros((9, 8, 7), np.float32), np.eye(4), "mm")
    content = path.read_bytes()
    for part in (b"words", content[:100], content[:900]):
        path.write_bytes(part)
        with pytest.raises(FileError, match=r"a\.nii"):
            io.read(path)
    colours = np.ones((3, 4, 5), np.complex64)
    with pytest.raises(FileError, match="complex"):
        io.read(nifti(tmp_path / "c.nii", colours, np.eye(4), "mm"))


def test_nifti_without_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(b"0" * 400)
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("nibabel"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FileError, match=r'pip install "napari-geosr\[nifti\]"'):
        io.read(path)


def test_nifti_headers_that_are_invalid(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    voxels = np.ones((3, 4, 5), np.uint8)
    path = nifti(tmp_path / "a.nii", voxels, np.eye(4), "mm")
    content = path.read_bytes()

    def changed(offset: int, code: str, *values: float) -> Path:
        new = bytearray(content)
        struct.pack_into(f"<{code}", new, offset, *values)
        path.write_bytes(new)
        return path

    with pytest.raises(FileError, match="byte 0, which is inside the header"):
        io.read(changed(108, "f", 0))
    volume = io.read(changed(123, "B", 255))
    assert not volume.has_physical_size
    assert "unit" in volume.metadata["notes"][0]
    volume = io.read(changed(80, "3f", -1, 2, 0))
    assert any("pixdim" in note for note in volume.metadata["notes"])
    assert capfd.readouterr().err == ""


def test_corrections_of_nibabel_are_those_of_one_file(tmp_path: Path) -> None:
    good = nifti(tmp_path / "good.nii", np.ones((3, 4, 5), np.uint8), np.eye(4), "mm")
    content = bytearray(good.read_bytes())
    struct.pack_into("<3f", content, 80, -1, 2, 0)
    bad = tmp_path / "bad.nii"
    bad.write_bytes(content)
    logger = logging.getLogger("nibabel.global")
    before = logger.propagate, list(logger.handlers)
    with ThreadPoolExecutor(4) as pool:
        volumes = list(pool.map(io.read, [good, bad] * 20))
    assert [bool(v.metadata.get("notes")) for v in volumes] == [False, True] * 20
    assert (logger.propagate, logger.handlers) == before


def test_a_surface_file_is_no_volume(tmp_path: Path) -> None:
    import nibabel

    axes = (
        nibabel.cifti2.SeriesAxis(0, 1, 3),
        nibabel.cifti2.BrainModelAxis.from_mask(np.ones(4, bool), "thalamus_left"),
    )
    image = nibabel.Cifti2Image(np.zeros((3, 4), np.float32), axes)
    nibabel.save(image, tmp_path / "a.dtseries.nii")
    with pytest.raises(FileError, match="not a NIfTI image or volume"):
        io.read(tmp_path / "a.dtseries.nii")
