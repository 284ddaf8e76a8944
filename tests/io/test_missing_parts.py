"""Missing chunks and slices are found without reading, and reported with positions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from napari_geosr import io
from napari_geosr.core.file_warnings import file_warnings
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats.ome_zarr.missing_chunks import missing_chunks
from napari_geosr.io.formats.ome_zarr.reading import read_levels

DATA = np.arange(1, 6 * 8 * 10 + 1, dtype=np.uint16).reshape(6, 8, 10)
LAYOUTS: dict[str, dict[str, Any]] = {
    "v2 dots": {"zarr_format": 2},
    "v2 folders": {
        "zarr_format": 2,
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
    "v3": {"zarr_format": 3},
    "v3 dots": {
        "zarr_format": 3,
        "chunk_key_encoding": {"name": "default", "separator": "."},
    },
    "v3 old keys": {
        "zarr_format": 3,
        "chunk_key_encoding": {"name": "v2", "separator": "."},
    },
    "sharded": {"zarr_format": 3, "shards": (2, 4, 5), "chunks": (1, 2, 5)},
}


def chunk_files(folder: Path) -> list[Path]:
    """Chunks of an array, in the order of their indices."""
    found = [p for p in folder.rglob("*") if p.is_file()]
    return sorted(p for p in found if "zarr" not in p.name and p.name != ".zattrs")


def warnings_of(path: Path) -> tuple[str, ...]:
    return file_warnings(io.read(path).metadata)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_chunks_that_are_not_there_are_said(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "a.zarr"
    options = {"chunks": (2, 4, 5), "fill_value": 0} | LAYOUTS[layout]
    zarr.create_array(path, data=DATA, **options)
    assert warnings_of(path) == ()
    files = chunk_files(path)
    assert len(files) == 12
    files[0].unlink()
    (said,) = warnings_of(path)
    assert said.startswith(
        "1 of 12 chunks are not in the file and are read as 0 (Z 0–1, Y 0–3, X 0–4). "
    )
    for file in files[1:5]:
        file.unlink()
    (said,) = warnings_of(path)
    assert "5 of 12 chunks" in said
    assert "Z 0–1, Y 0–3, X 5–9; Z 0–1, Y 4–7, X 0–4; and 2 more" in said
    assert not np.asarray(io.read(path).data)[:2].any()


def test_a_renamed_chunk_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=DATA, chunks=(2, 8, 10))
    (path / "c" / "1").rename(path / "c" / "01")
    assert "1 of 3 chunks" in file_warnings(io.read(path).metadata)[0]


def test_the_fill_value_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    data = DATA.astype(np.float32)
    zarr.create_array(path, data=data, chunks=(2, 8, 10), fill_value=np.nan)
    chunk_files(path)[1].unlink()
    (said,) = warnings_of(path)
    assert "1 of 3 chunks are not in the file and are read as nan (Z 2–3)" in said


def test_nothing_but_names_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=DATA, chunks=(2, 4, 5))
    for file in chunk_files(path):
        file.write_bytes(b"")  # it would be unreadable
    (path / "c" / "99").mkdir()
    (path / "c" / "99" / "notes").write_text("x")
    assert warnings_of(path) == ()


def test_what_holds_the_fill_value_alone_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    data = np.array(DATA)
    data[:2] = 0
    zarr.create_array(path, data=data, chunks=(2, 8, 10), fill_value=0)
    (said,) = warnings_of(path)
    assert "Some programs omit chunks that contain only this value" in said
    assert "damaged" not in said


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_our_own_files_have_every_chunk(tmp_path: Path, dtype: type) -> None:
    data = DATA.astype(dtype)
    data[:3] = 0
    path = io.write(Volume(data, "ZYX"), tmp_path / "a.ome.zarr")
    assert warnings_of(path) == ()
    files = chunk_files(path / "0")
    assert files
    files[0].unlink()
    (said,) = warnings_of(path)
    assert "It was complete when it was written, so copy it again." in said


def test_an_unfinished_file_of_ours_does_not_claim_to_be_whole(tmp_path: Path) -> None:
    spec = io.OutputSpec((4, 8, 8), "u1", "ZYX", (1, 1, 1), "µm", (0, 0, 0))
    with io.create(tmp_path / "a.ome.zarr", spec) as output:
        kept = output.keep_incomplete()
    (said,) = warnings_of(kept)
    assert "It was complete when" not in said


def test_coarser_levels_warn_of_nothing(tmp_path: Path) -> None:
    data = np.ones((2, 300, 300), np.uint8)
    path = io.write(Volume(data, "ZYX"), tmp_path / "a.ome.zarr")
    for file in chunk_files(path / "1"):
        file.unlink()
    assert [file_warnings(level.metadata) for level in read_levels(path)] == [(), ()]


def slices(folder: Path, *numbers: int) -> Path:
    folder.mkdir()
    for i in numbers:
        tifffile.imwrite(folder / f"s{i:03}.tif", np.full((6, 7), i, np.uint8))
    return folder


def test_gaps_between_slices_are_said(tmp_path: Path) -> None:
    assert warnings_of(slices(tmp_path / "whole", 1, 2, 3)) == ()
    assert warnings_of(slices(tmp_path / "second", 2, 4, 6)) == ()
    (said,) = warnings_of(slices(tmp_path / "one", 1, 2, 4))
    assert said == (
        "according to the numbers in the file names, 1 image seems to be missing "
        "(s004.tif follows s002.tif); the others are stacked without gaps. Add the "
        "missing files, or do not measure across the gaps."
    )
    (said,) = warnings_of(slices(tmp_path / "more", 1, 2, 5, 6, 8, 9, 11, 12, 14, 15))
    assert "5 images seem to be missing (s005.tif follows s002.tif, " in said
    assert "s011.tif follows s009.tif and 1 more gaps)" in said


def test_of_chunks_with_unknown_names_nothing_is_said(tmp_path: Path) -> None:
    array = SimpleNamespace(
        store=SimpleNamespace(root=tmp_path),
        path="",
        shape=(4, 4),
        chunks=(2, 2),
        fill_value=0,
        metadata=SimpleNamespace(encode_chunk_key=lambda _: "first"),
    )
    assert missing_chunks(array, "YX") == ""


def test_missing_sources_of_a_virtual_hdf5_dataset_are_said(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((4, 6, 8), "f4")
    for i in range(4):
        name = f"part{i}.h5"
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = np.full((6, 8), i + 1, np.float32)
        layout[i] = h5py.VirtualSource(name, "data", (6, 8))
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)
    assert file_warnings(io.read(path).metadata) == ()
    for i in (1, 2):
        (tmp_path / f"part{i}.h5").unlink()
    volume = io.read(path)
    assert not np.asarray(volume.data)[1:3].any()
    (said,) = file_warnings(volume.metadata)
    assert "2 of 4 files" in said
    assert "part1.h5 and 1 more" in said
    assert "read as 0" in said


def test_missing_chunks_of_an_hdf5_dataset_are_said(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", (8, 6, 8), "u2", chunks=(2, 6, 8))
        data[:4] = 7
    (said,) = file_warnings(io.read(path).metadata)
    assert said.startswith(
        "2 of 4 chunks are not in the file and are read as 0 (Z 4–7). "
    )
    with h5py.File(path, "r+") as file:
        file["data"][4:] = 7
    assert file_warnings(io.read(path).metadata) == ()
