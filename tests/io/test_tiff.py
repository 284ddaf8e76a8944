"""Reading TIFF: layouts, compression, byte orders, colours, axes; lazy if large."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.io.file_voxels import FileArray
from napari_geosr.io.lazy import LazyArray


@pytest.fixture
def stack(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    return rng.integers(0, 60000, (6, 30, 41)).astype(np.uint16)


@pytest.fixture
def all_lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat small files as if they were too large to be read at once."""
    monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    monkeypatch.setattr("napari_geosr.io.arrangement.EAGER_BYTES", 0)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_layouts(
    compression: str | None,
    byteorder: str,
    bigtiff: bool,
    tmp_path: Path,
    stack: np.ndarray[Any, Any],
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        stack,
        compression=compression,
        byteorder=byteorder,  # type: ignore[arg-type]
        bigtiff=bigtiff,
        photometric="minisblack",
        metadata=None,
    )
    volume = io.read(path)
    assert (volume.axes, volume.shape, volume.dtype) == (
        "ZYX",
        stack.shape,
        stack.dtype,
    )
    assert volume.dtype.isnative
    assert volume.unit == "pixel"
    assert any("treated as slices (Z)" in note for note in volume.metadata["notes"])
    np.testing.assert_array_equal(np.asarray(volume.data), stack)


def test_uncompressed_is_read_at_once_or_as_it_is_asked_for(
    tmp_path: Path, stack: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, imagej=True, byteorder="<", metadata={"axes": "ZYX"})
    volume = io.read(path)
    assert type(volume.data) is np.ndarray
    assert not volume.is_lazy
    monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    volume = io.read(path)
    assert isinstance(volume.data, FileArray)
    assert volume.is_lazy
    np.testing.assert_array_equal(np.asarray(volume.data), stack)


@pytest.mark.usefixtures("all_lazy")
@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "zlib", "tile": (16, 16)},
        {"byteorder": ">"},
    ],
)
def test_large_files_are_decoded_on_demand(
    options: dict[str, Any],
    tmp_path: Path,
    stack: np.ndarray[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=None, **options)
    decoded: list[int] = []
    original = tifffile.TiffPage.asarray

    def count(page: Any, *args: Any, **kwargs: Any) -> Any:
        decoded.append(page.index)
        return original(page, *args, **kwargs)

    monkeypatch.setattr(tifffile.TiffPage, "asarray", count)
    monkeypatch.setattr(tifffile.TiffFrame, "asarray", count)
    volume = io.read(path)
    assert isinstance(volume.data, LazyArray)
    assert len(decoded) <= 1
    np.testing.assert_array_equal(volume.data[2:4, 5:9, 7], stack[2:4, 5:9, 7])
    np.testing.assert_array_equal(volume.data[3], stack[3])
    assert len(decoded) <= 3  # cached: page 3 is not decoded again
    np.testing.assert_array_equal(np.asarray(volume.data), stack)


@pytest.mark.usefixtures("all_lazy")
def test_lazy_reading_from_many_threads(
    tmp_path: Path, stack: np.ndarray[Any, Any]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, stack, compression="zlib", photometric="minisblack", metadata=None
    )
    data = io.read(path).data
    wrong: list[int] = []

    def check(seed: int) -> None:
        rng = np.random.default_rng(seed)
        chosen = [int(z) for z in rng.integers(0, len(stack), 30)]
        wrong.extend(z for z in chosen if not np.array_equal(data[z], stack[z]))

    threads = [threading.Thread(target=check, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_rgb_becomes_channels(
    planar: str, compression: str | None, tmp_path: Path, rng: np.random.Generator
) -> None:
    picture = rng.integers(0, 255, (3, 20, 30)).astype(np.uint8)
    path = tmp_path / "rgb.tif"
    stored = picture if planar == "separate" else np.moveaxis(picture, 0, -1)
    tifffile.imwrite(
        path,
        stored,
        photometric="rgb",
        planarconfig=planar,  # type: ignore[arg-type]
        compression=compression,
    )
    volume = io.read(path)
    assert volume.axes == "CYX"
    np.testing.assert_array_equal(np.asarray(volume.data), picture)
    with pytest.raises(Exception, match="3 channels. Choose one of them, 0 to 2"):
        volume.select()
    np.testing.assert_array_equal(np.asarray(io.read(path, channel=1).data), picture[1])


@pytest.mark.usefixtures("all_lazy")
def test_channels_of_a_lazy_file_stay_lazy(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    stack = rng.integers(0, 255, (4, 20, 30, 3)).astype(np.uint8)
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(path, stack, photometric="rgb", compression="zlib", metadata=None)
    volume = io.read(path)
    assert volume.axes == "CZYX"
    channel = volume.select(channel=2)
    assert channel.is_lazy
    np.testing.assert_array_equal(np.asarray(channel.data), stack[..., 2])


def test_imagej_hyperstack(tmp_path: Path, rng: np.random.Generator) -> None:
    stored = rng.integers(0, 999, (2, 4, 3, 10, 12)).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, imagej=True, metadata={"axes": "TZCYX"})
    volume = io.read(path)
    assert volume.axes == "TCZYX"
    np.testing.assert_array_equal(
        np.asarray(volume.data), stored.transpose(0, 2, 1, 3, 4)
    )
    one = io.read(path, time=1, channel=2)
    assert one.axes == "ZYX"
    np.testing.assert_array_equal(np.asarray(one.data), stored[1, :, 2])


@pytest.mark.parametrize("n", [3, 9])
def test_an_rgb_stack_for_imagej_is_a_stack_of_slices(
    n: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    """tifffile calls its slices channels, but ImageJ has no channels of RGB images."""
    stored = rng.integers(0, 255, (n, 10, 12, 3), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, imagej=True, photometric="rgb")
    volume = io.read(path)
    assert volume.axes == "CZYX"
    np.testing.assert_array_equal(np.asarray(volume.data), np.moveaxis(stored, -1, 0))


@pytest.mark.parametrize("axes", ["TYX", "CYX", "zyx"])
def test_axes_can_be_told(axes: str, tmp_path: Path, stack: Any) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=None)
    assert io.read(path, axes=axes).axes == axes.upper()
    for wrong in ("YX", "QYX", "ZZX", "TCZYX"):
        with pytest.raises(FileError, match=r"a\.tif has 3 axes .* do not match"):
            io.read(path, axes=wrong)


def test_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((5, 7, 1), np.float32))
    assert io.read(path).shape == (5, 7)
    tifffile.imwrite(path, np.zeros((1, 7), np.float32))
    assert io.read(path).shape == (1, 7)


def test_four_unknown_axes_are_time_and_slices(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    stack = np.zeros((2, 3, 8, 9), np.float32)
    tifffile.imwrite(path, stack, photometric="minisblack")
    volume = io.read(path)
    assert (volume.axes, volume.shape) == ("TZYX", (2, 3, 8, 9))
    assert len(volume.metadata["notes"]) == 2


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16"])
def test_white_is_zero_is_turned_round(
    dtype: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    stored = rng.integers(0, 2, (16, 16)).astype(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="miniswhite", software="scanner")
    np.testing.assert_array_equal(np.asarray(io.read(path).data), ~stored)


@pytest.mark.parametrize("grey", [True, False])
def test_palette_becomes_what_is_seen(
    grey: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    index = rng.integers(0, 256, (16, 17)).astype(np.uint8)
    table = np.stack([np.arange(256)[::-1]] * 3).astype(np.uint16) * 257
    if not grey:
        table[1] = 0
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, index, photometric="palette", colormap=table)
    volume = io.read(path)
    assert volume.dtype == np.uint8
    if grey:
        np.testing.assert_array_equal(np.asarray(volume.data), 255 - index)
    else:
        assert volume.axes == "CYX"
        np.testing.assert_array_equal(np.asarray(volume.data[0]), 255 - index)
        assert not np.asarray(volume.data[1]).any()


def test_imagej_lookup_tables_are_only_colours(tmp_path: Path) -> None:
    table = np.zeros((3, 256), np.uint8)
    table[0] = np.arange(256)
    voxels = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        voxels,
        imagej=True,
        metadata={"axes": "ZYX"},
        colormap=table.astype(np.uint16) * 257,
    )
    volume = io.read(path)
    assert volume.axes == "ZYX"
    np.testing.assert_array_equal(np.asarray(volume.data), voxels)


def test_several_images_must_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.zeros((10, 11), np.uint8))
        writer.write(np.ones((20, 21), np.uint8))
    with pytest.raises(FileError, match=r"2 images of different shape.*a\.tif::1"):
        io.read(path)
    assert io.read(f"{path}::1").shape == (20, 21)
    assert io.read(path, dataset="0").shape == (10, 11)
    with pytest.raises(FileError, match=r"no image '2': choose 0 to 1"):
        io.read(path, dataset="2")


def test_thumbnails_are_no_second_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.zeros((40, 44), np.uint8), metadata=None)
        writer.write(np.ones((10, 11), np.uint8), subfiletype=1, metadata=None)
    assert io.read(path).shape == (40, 44)


@pytest.mark.parametrize(("n", "axes"), [(3, "CYX"), (9, "ZYX")])
def test_a_stack_that_calls_its_slices_channels(
    n: int, axes: str, tmp_path: Path
) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((n, 8, 9), np.float32), imagej=True)
    volume = io.read(path)
    assert volume.axes == axes
    said = " ".join(volume.metadata.get("notes", ()))
    assert ("slices (Z)" in said) == (axes == "ZYX")
