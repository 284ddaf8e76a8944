"""Damaged TIFF files always give one sentence with the file's name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.io.formats.tiff.reading import _tifffile_silenced

_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"metadata": None},
    "shaped": {},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
    "zlib": {"compression": "zlib", "metadata": None},
    "bigtiff": {"bigtiff": True, "metadata": None},
}


def a_file(folder: Path, kind: str) -> Path:
    stack = np.random.default_rng(0).integers(0, 60000, (8, 20, 30)).astype(np.uint16)
    path = folder / f"{kind}.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", **_OPTIONS[kind])
    return path


@pytest.mark.parametrize("kind", list(_OPTIONS))
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_truncated(kind: str, part: float, tmp_path: Path) -> None:
    path = a_file(tmp_path, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(FileError, match=rf"^{kind}\.tif is .*(again|it)\.$"):
        io.read(path)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(list(_OPTIONS)),
    places=st.lists(st.integers(0, 700), min_size=1, max_size=6),
    values=st.lists(st.integers(0, 255), min_size=6, max_size=6),
)
def test_flipped_bytes_never_escape(
    kind: str, places: list[int], values: list[int], tmp_path: Path
) -> None:
    path = a_file(tmp_path, kind)
    content = bytearray(path.read_bytes())
    for place, value in zip(places, values, strict=False):
        content[place] = value
    path.write_bytes(content)
    told = None
    try:
        volume = io.read(path)
        if volume.nbytes < 1 << 24:
            np.asarray(volume.data)
    except FileError as error:
        told = str(error)
    assert told is None or path.name in told


def test_corrupt_pages_are_named_when_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    path = a_file(tmp_path, "zlib")
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[5].dataoffsets[0], tif.pages[5].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\x55" * count
    path.write_bytes(content)
    volume = io.read(path)
    assert np.asarray(volume.data[4]).any()
    with pytest.raises(FileError, match=r"^zlib\.tif is damaged or incomplete"):
        volume.data[5]
    with pytest.raises(FileError, match=r"zlib\.tif"):
        volume.data.to_dask()[5].compute(scheduler="synchronous")


def test_corrupt_small_file_is_told_when_it_is_opened(tmp_path: Path) -> None:
    path = a_file(tmp_path, "zlib")
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[5].dataoffsets[0], tif.pages[5].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\x55" * count
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"^zlib\.tif is damaged"):
        io.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"words\.tif is empty \(0 bytes\)"),
        (b"Some words, no image", r"begins with 'Some words, no i'"),
        (b"\x89PNG\r\n\x1a\n0000", r"not a TIFF file \(it is a PNG picture\)"),
        (b"II*\x00", r"^words\.tif is"),
        (b"II*\x00\xff\xff\xff\x00", r"^words\.tif is"),
        (b"II*\x00\x00\x00\x00\x00", r"^words\.tif contains no pixels"),
    ],
)
def test_not_a_tiff(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "words.tif"
    path.write_bytes(content)
    with pytest.raises(FileError, match=message):
        io.read(path)


def test_complex_numbers_have_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((5, 6), np.complex64))
    with pytest.raises(FileError, match=r"a\.tif contains complex numbers.*magnitude"):
        io.read(path)


def test_a_page_cannot_be_a_thousandfold(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tif:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tif.pages[0].tags[name].overwrite(65535)
        tif.pages[0].tags["ImageDescription"].overwrite("")
    with pytest.raises(FileError, match=r"bomb\.tif"):
        io.read(path)


def test_missing_file_and_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.tif does not exist"):
        io.read(tmp_path / "gone.tif")
    for name, message in [
        ("a.zip", "archive.*Unpack it first"),
        ("a.ply", "not an image volume"),
        ("plain", "not an image volume"),
    ]:
        path = tmp_path / name
        path.write_bytes(b"ply\nformat")
        with pytest.raises(FileError, match=message):
            io.read(path)


def test_the_logger_speaks_again_after_overlapping_reads(caplog: Any) -> None:
    logger = logging.getLogger("tifffile")
    first, second = _tifffile_silenced(), _tifffile_silenced()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    logger.warning("still quiet")
    second.__exit__(None, None, None)
    logger.warning("loud again")
    assert caplog.messages == ["loud again"]
