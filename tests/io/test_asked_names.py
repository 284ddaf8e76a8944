"""Errors name the requested file, never a hidden temporary one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.projections import Projections
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats.ome_zarr.writer import ZarrOutput
from napari_geosr.io.projections import data_exchange, write_projections
from napari_geosr.io.unfinished_files import atomic

SCAN = Projections(data=np.ones((4, 2, 6), np.float32), angles=np.arange(4) * 45.0)


@pytest.mark.parametrize("name", ["scan.h5", "a.b c.ome.tif", ".dotted.ome.zarr"])
def test_a_hidden_name_is_turned_back(tmp_path: Path, name: str) -> None:
    suffix = "".join(Path(name).suffixes[-1:])
    hidden = atomic.temporary_sibling(tmp_path / name, suffix)
    assert atomic.with_user_names(f"cannot open '{hidden}': no") == (
        f"cannot open '{tmp_path / name}': no"
    )
    assert atomic.with_user_names(f"a.partial {name}") == f"a.partial {name}"


def raising(error: Exception) -> Any:
    def fail(*_: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "scan.h5 could not be written: the disk of .* is full"),
        (errno.EDQUOT, "scan.h5 could not be written: your quota on .* is used up"),
        (errno.EACCES, f"scan.h5 could not .*: {os.strerror(errno.EACCES)}"),
    ],
)
def test_hdf5_that_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, number: int, says: str
) -> None:
    text = (
        "Can't synchronously write data (file write failed: filename = "
        f"'{tmp_path}/.scan.0123abcd.partial.h5', file descriptor = 4, errno = "
        f"{number}, error message = 'of the system')"
    )
    monkeypatch.setattr(data_exchange, "_copy", raising(kind(text)))
    with pytest.raises(FileError, match=says) as caught:
        write_projections(SCAN, tmp_path / "scan.h5")
    assert "partial" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_the_system_does_not_explain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / ".scan.0123abcd.partial.h5"
    error = OSError(f"Unable to lock '{hidden}'")
    monkeypatch.setattr(data_exchange, "_copy", raising(error))
    with pytest.raises(FileError, match="Unable to lock '.*[/\\\\]scan.h5'"):
        write_projections(SCAN, tmp_path / "scan.h5")
    with pytest.raises(FileError, match="scan.h5 cannot be written: the folder"):
        atomic.check_folder(tmp_path / "none" / hidden.name)


def test_a_zarr_without_room_for_coarser_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ZarrOutput, *_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left", str(self.temporary / "1"))

    monkeypatch.setattr(ZarrOutput, "_add_coarser", fail)
    out = tmp_path / "v.ome.zarr"
    volume = Volume(np.zeros((2, 3, 4), np.float32), "ZYX", (1.0,) * 3, "µm", name="v")
    with io.create(
        out,
        io.OutputSpec(
            shape=volume.shape,
            dtype=np.float32,
            axes="ZYX",
            voxel_size=volume.voxel_size,
            unit="µm",
            origin=volume.origin,
            provenance=(),
            multiscale=True,
        ),
    ) as output:
        output.array[...] = volume.data
    assert "No space left" in output.note
    assert str(out) in output.note
    assert "partial" not in output.note
