"""Parts of HDF5 datasets read as a fill value are reported with their positions."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import file_warnings
from napari_geosr.io.projections import read_projections

SHAPE = (12, 6, 8)
DATA = np.arange(10, 10 + 12 * 6 * 8, dtype=np.float32).reshape(SHAPE)
UNLIMITED = h5py.h5s.UNLIMITED


def write(path: Path, data: Any, name: str = "data", **options: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=data, **options)


def virtual(path: Path, layout: h5py.VirtualLayout, name: str = "data") -> Path:
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset(name, layout, fillvalue=7)
    return path


def in_three(folder: Path) -> Path:
    """A virtual dataset of three files with four slices each."""
    layout = h5py.VirtualLayout(SHAPE, "f4")
    for i in range(3):
        part = slice(4 * i, 4 * i + 4)
        write(folder / f"p{i}.h5", DATA[part])
        layout[part] = h5py.VirtualSource(f"p{i}.h5", "data", (4, 6, 8))
    return virtual(folder / "scan.h5", layout)


def warnings_of(path: Path | str, **options: Any) -> tuple[str, ...]:
    """Warnings of a file; the parts reported as 7 are compared with its voxels."""
    volume = io.read(path, **options)
    said = file_warnings(volume.metadata)
    n_filled = int((np.asarray(volume.data) == 7).sum())
    if said and "voxels are read as 7" in said[0]:
        assert said[0].startswith(f"{n_filled:,} of {np.asarray(volume.data).size:,} ")
    else:
        assert n_filled == 0 or len(said) == 1
    return said


def test_a_missing_file(tmp_path: Path) -> None:
    path = in_three(tmp_path)
    assert warnings_of(path) == ()
    (tmp_path / "p1.h5").unlink()
    assert warnings_of(path) == (
        "192 of 576 voxels are read as 7 (Z 4–7): 1 of 3 files that contain them "
        "cannot be found (p1.h5). Copy the missing files next to this file.",
    )


def test_a_missing_dataset_of_a_file(tmp_path: Path) -> None:
    path = in_three(tmp_path)
    write(tmp_path / "p2.h5", DATA, name="{other}")
    (said,) = warnings_of(path)
    assert "(Z 8–11): there is no 'data' in p2.h5. The file was not written" in said


def test_a_part_without_a_source(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "f4")
    write(tmp_path / "p.h5", DATA)
    layout[:, :, 2:] = h5py.VirtualSource("p.h5", "data", SHAPE)[:, :, 2:]
    (said,) = warnings_of(virtual(tmp_path / "scan.h5", layout))
    assert said.startswith(
        "144 of 576 voxels are read as 7 (X 0–1): the file does not state where they "
        "are stored. "
    )


def test_both_at_once(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "f4")
    write(tmp_path / "p.h5", DATA)
    layout[:4] = h5py.VirtualSource("p.h5", "data", SHAPE)[:4]
    layout[4:8] = h5py.VirtualSource("{gone}.h5", "data", SHAPE)[4:8]
    (said,) = warnings_of(virtual(tmp_path / "scan.h5", layout))
    assert (
        "1 of 2 files that contain them cannot be found ({gone}.h5); for some, " in said
    )


def test_interleaved_and_overlapping_sources(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "f4")
    for i in range(2):
        write(tmp_path / f"p{i}.h5", DATA[:, i::2])
        layout[:, i::2] = h5py.VirtualSource(f"p{i}.h5", "data", (12, 3, 8))
    write(tmp_path / "again.h5", DATA[:, :2])
    layout[:, :2] = h5py.VirtualSource("again.h5", "data", (12, 2, 8))
    path = virtual(tmp_path / "scan.h5", layout)
    assert warnings_of(path) == ()
    (tmp_path / "p1.h5").unlink()
    (said,) = warnings_of(path)  # row 1 is in the third file as well
    assert said.startswith("192 of 576 voxels are read as 7 (Y 3; Y 5): ")


def test_sources_that_grow(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "f4", maxshape=(None, 6, 8))
    for i, n in enumerate((6, 3)):
        write(tmp_path / f"p{i}.h5", DATA[i::2][:n], maxshape=(None, 6, 8))
        source = h5py.VirtualSource(
            f"p{i}.h5", "data", (6, 6, 8), maxshape=(None, 6, 8)
        )
        layout[i:UNLIMITED:2] = source[0:UNLIMITED]
    (said,) = warnings_of(virtual(tmp_path / "scan.h5", layout))
    assert "are read as 7 (Z 7; Z 9): the file does not state where" in said


def test_a_source_with_missing_parts_of_its_own(tmp_path: Path) -> None:
    path = in_three(tmp_path)
    with h5py.File(tmp_path / "p1.h5", "w") as file:
        part = file.create_dataset("data", (4, 6, 8), "f4", chunks=(2, 6, 8))
        part[2:] = DATA[6:8]
    (said,) = warnings_of(path)
    assert said.startswith("p1.h5, dataset 'data': 1 of 2 chunks are not in the file")
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:] = h5py.VirtualSource("scan.h5", "data", SHAPE)
    assert warnings_of(virtual(tmp_path / "outer.h5", layout)) == (
        f"scan.h5, dataset 'data': {said}",
    )


def test_a_source_that_is_too_small(tmp_path: Path) -> None:
    path = in_three(tmp_path)
    write(tmp_path / "p1.h5", DATA[4:6])
    (said,) = file_warnings(io.read(path).metadata)
    assert "(Z 4–7): this file requires a larger 'data' in p1.h5. " in said


def test_a_source_that_is_no_hdf5_file(tmp_path: Path) -> None:
    path = in_three(tmp_path)
    (tmp_path / "p1.h5").write_bytes(b"x" * 999)
    with pytest.raises(
        FileError, match=r"contains voxels from p1\.h5, which cannot be"
    ):
        io.read(path)


def test_sources_are_found_where_hdf5_finds_them(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:6] = h5py.VirtualSource("/nowhere/p.h5", "data", SHAPE)[:6]
    layout[6:] = h5py.VirtualSource(".", "here", (6, 6, 8))
    path = virtual(tmp_path / "scan.h5", layout)
    write(tmp_path / "p.h5", DATA)  # its folder was moved
    with h5py.File(path, "r+") as file:
        file["here"] = DATA[6:]
    assert warnings_of(f"{path}::data") == ()
    np.testing.assert_array_equal(np.asarray(io.read(f"{path}::data").data), DATA)


def test_a_dataset_that_was_never_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("data", SHAPE, "f4", fillvalue=7)
    assert warnings_of(tmp_path / "scan.h5") == (
        "none of its voxels were written; all are read as 7. Export the file again.",
    )


def test_only_missing_parts_of_the_chosen_channel_are_said(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", (2, 2, *SHAPE), "f4", chunks=(1, 1, *SHAPE))
        data[0] = data[1, 1] = DATA
    whole = io.read(path, axes="TCZYX")
    (said,) = file_warnings(whole.metadata)
    assert "1 of 4 chunks are not in the file and are read as 0 (T 1, C 0). " in said
    assert warnings_of(path, axes="TCZYX", time=0) == ()
    assert warnings_of(path, axes="TCZYX", channel=1) == ()
    (said,) = file_warnings(pickle.loads(pickle.dumps(whole)).take(channel=0).metadata)
    assert said.startswith(
        "1 of 2 chunks are not in the file and are read as 0 (T 1). "
    )
    (said,) = file_warnings(whole.take(channel=0, time=1).metadata)
    assert "1 of 1 chunks are not in the file and are read as 0 (all of it). " in said


def test_missing_projections_are_said(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:4] = h5py.VirtualSource("gone.h5", "data", SHAPE)[:4]
    path = virtual(tmp_path / "scan.h5", layout, "exchange/data")
    with h5py.File(path, "r+") as file:
        file["exchange/theta"] = np.linspace(0, 180, 12)
        file["exchange/loop"] = h5py.SoftLink("/exchange/loop")
    notes = read_projections(path).metadata["notes"]
    assert [note for note in notes if "read as" in note] == [
        "scan.h5, dataset 'exchange/data': 576 of 576 voxels are read as 7 (all of "
        "it): 1 of 1 files that contain them cannot be found (gone.h5); for some, "
        "the file does not state where they are stored. Copy the missing files next "
        "to this "
        "file."
    ]


def test_missing_frames_of_an_nxtomo_file_are_said(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry/instrument/detector")
        frames = detector.create_dataset("data", SHAPE, "u2", chunks=(4, 6, 8))
        frames[:8] = 5
        detector["image_key"] = np.zeros(12, int)
        file["entry/sample/rotation_angle"] = np.linspace(0, 180, 12)
        file["entry/instrument/loop"] = h5py.SoftLink("/entry/instrument/loop")
    metadata = read_projections(path).metadata
    assert any("(projection 8–11)" in note for note in metadata["notes"])
    assert not any("read as 0" in fact for fact in metadata["remarks"])


def test_external_voxels_beyond_the_end_of_their_file(tmp_path: Path) -> None:
    """HDF5 reads them as 0, which would look like pores."""
    voxels = np.full((6, 8, 10), 9, np.uint16)
    content = voxels.tobytes()
    parts = [(str(tmp_path / f"{i}.raw"), 16, len(content) // 2) for i in range(2)]
    for name, offset, nbytes in parts:
        Path(name).write_bytes(bytes(offset) + content[:nbytes])
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("data", voxels.shape, voxels.dtype, external=parts)
    assert warnings_of(tmp_path / "scan.h5") == ()
    last = Path(parts[1][0])
    last.write_bytes(last.read_bytes()[:-202])
    (warning,) = warnings_of(tmp_path / "scan.h5")
    assert warning.startswith("101 of 480 voxels are read as 0 (from Z 4): 1.raw")
    assert np.count_nonzero(np.asarray(io.read(tmp_path / "scan.h5").data) != 9) == 101
