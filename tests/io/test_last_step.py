"""Written data are not lost if the last step fails."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.io.formats.ome_zarr.writer import ZarrOutput
from napari_geosr.io.formats.tiff.writer import TiffOutput

_SPEC: dict[str, Any] = {
    "shape": (4, 300, 310),
    "dtype": "float32",
    "axes": "ZYX",
    "voxel_size": (1, 2, 3),
    "unit": "mm",
    "origin": (0, 0, 0),
}


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def full(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_coarser_levels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.ome.zarr"
    monkeypatch.setattr(ZarrOutput, "_reduce", full)
    with io.create(path, io.OutputSpec(**_SPEC)) as output:
        output.array[...] = 3
        output.provenance = ({"complete": True},)
    assert "resolution levels" in output.note
    assert names(tmp_path) == ["out.ome.zarr"]
    assert not (path / "1").exists()
    back = io.read(path)
    assert (np.asarray(back.data) == 3).all()
    assert back.provenance == ({"complete": True},)


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".tif", TiffOutput), (".ome.zarr", ZarrOutput)]
)
def test_a_file_that_cannot_be_completed_is_kept(
    suffix: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "complete", full)

    def run() -> None:
        with io.create(tmp_path / f"out{suffix}", io.OutputSpec(**_SPEC)) as output:
            output.array[...] = 3

    with pytest.raises(FileError, match=r"disk.*full.*kept as out\.incomplete"):
        run()
    assert names(tmp_path) == [f"out.incomplete{suffix}"]
    back = np.asarray(io.read(tmp_path / f"out.incomplete{suffix}").data)
    assert (back == 3).all()


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_a_folder_that_allows_no_rename_keeps_the_file(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> None:
        with io.create(tmp_path / f"out{suffix}", io.OutputSpec(**_SPEC)) as output:
            output.array[...] = 3
            for name in ("link", "replace"):
                monkeypatch.setattr(os, name, refuse)

    def refuse(*args: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(FileError, match=r"Permission denied.*kept as \.out\."):
        run()
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(suffix)
    assert (np.asarray(io.read(left).data) == 3).all()


def test_an_unfinished_zarr_is_kept_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffered data cannot be written; data on the disk are kept."""
    import zarr

    spec = _SPEC | {"shape": (8, 64, 64)}

    def run() -> None:
        with io.create(
            tmp_path / "out.ome.zarr",
            io.OutputSpec(**spec, provenance=[{"complete": False}]),
        ) as output:
            n = output.block_shape[0]
            assert n == 8
            output.array[:] = 3
            output.array[:2] = 4
            monkeypatch.setattr(zarr.Array, "__setitem__", full)
            output.keep_incomplete()
            raise KeyError

    with pytest.raises(KeyError):
        run()
    back = io.read(tmp_path / "out.incomplete.ome.zarr")
    assert (np.asarray(back.data) == 3).all()
    assert back.provenance == ({"complete": False},)


def test_an_error_of_the_source_is_none_of_the_target(
    tmp_path: Path, make_volume: Any
) -> None:
    class Gone:
        shape, dtype, ndim = (4, 5, 6), np.dtype("uint16"), 3

        def __getitem__(self, key: Any) -> Any:
            raise OSError(errno.EIO, "Input/output error")

    volume = make_volume((4, 5, 6)).replace(data=Gone())
    with pytest.raises(FileError, match=r"cannot be read \(Input/output error\)") as e:
        io.write(volume, tmp_path / "out.tif")
    assert "could not be written" not in str(e.value)

    def run() -> None:
        with io.create(tmp_path / "out.tif", io.OutputSpec(**_SPEC)):
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output") as bare:
        run()
    assert not isinstance(bare.value, FileError)
    assert names(tmp_path) == []


_LONG = ({"complete": False, "finished": [[[0, 4], [0, 300], [0, 310]]] * 200},)
_LAYOUTS = [(".tif", "float32"), (".ome.tif", "float32"), (".tif", "uint64")]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
@pytest.mark.parametrize(("suffix", "dtype"), _LAYOUTS)
def test_the_description_of_a_tiff_fits_on_a_full_disk(
    suffix: str, dtype: str, tmp_path: Path
) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        spec = io.OutputSpec(**{**_SPEC, "dtype": dtype})
        with io.create(tmp_path / f"out{suffix}", spec) as output:
            output.array[...] = 3
            size = output.temporary.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            output.provenance = _LONG
            output.keep_incomplete()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    back = io.read(tmp_path / f"out.incomplete{suffix}")
    assert back.provenance == _LONG
    assert (np.asarray(back.data) == 3).all()


@pytest.mark.parametrize(("suffix", "dtype"), _LAYOUTS)
def test_a_tiff_is_readable_if_its_description_cannot_be_replaced(
    suffix: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(tag: Any, *args: object, **kwargs: object) -> None:
        handle = tag.parent.filehandle
        handle.seek(tag.valueoffset)
        handle.write(b"x" * 40)
        full()

    monkeypatch.setattr("tifffile.TiffTag.overwrite", half)
    with io.create(
        tmp_path / f"out{suffix}", io.OutputSpec(**{**_SPEC, "dtype": dtype})
    ) as output:
        output.array[...] = 3
        output.provenance = _LONG
        output.keep_incomplete()
    back = io.read(tmp_path / f"out.incomplete{suffix}")
    assert back.provenance == ()
    assert back.voxel_size == (1, 2, 3)
    assert (np.asarray(back.data) == 3).all()


def test_what_a_full_disk_refuses_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that could not be written is neither lost nor listed as finished."""
    import zarr

    boxes = [(slice(z, z + 2), slice(0, 64), slice(0, 64)) for z in range(0, 8, 2)]
    with io.create(
        tmp_path / "out.ome.zarr", io.OutputSpec(**_SPEC | {"shape": (16, 64, 64)})
    ) as output:
        assert output.block_shape[0] == 16
        for z, box in enumerate(boxes):
            output.array[box] = z
        with monkeypatch.context() as now:
            now.setattr(zarr.Array, "__setitem__", full)
            assert output.written(boxes) == []
            with pytest.raises(FileError, match=r"disk.*full"):
                output.flush_to_disk()
        assert output.written(boxes) == boxes
        output.array[8:] = 7
    back = np.asarray(io.read(tmp_path / "out.ome.zarr").data)
    assert list(back[:, 0, 0]) == [0, 0, 1, 1, 2, 2, 3, 3] + [7] * 8
