"""A folder that is not one of our volumes is never replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.atomic import write_text

CUBE = Volume(np.zeros((3, 4, 5), np.uint8), "ZYX")


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr"])
def test_a_folder_of_files_stays(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / f"dir{suffix}"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    with pytest.raises(FileError, match=r"is a folder.*not an OME-Zarr"):
        io.check_output(folder, overwrite=True)
    with pytest.raises(FileError, match="is a folder"):
        io.write(CUBE, folder, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "years"
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_a_zarr_is_replaced_by_a_zarr_alone(tmp_path: Path) -> None:
    path = io.write(CUBE, tmp_path / "a.ome.zarr")
    io.write(CUBE.replace(name="again"), path, overwrite=True)
    disguised = path.rename(tmp_path / "a.tif")
    with pytest.raises(FileError, match="is a folder"):
        io.write(CUBE, disguised, overwrite=True)
    with pytest.raises(FileError, match="is a folder"):
        write_text(disguised, "words", overwrite=True)
    assert io.read(disguised).shape == CUBE.shape


def test_a_folder_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.tif"

    class Meddling:
        """Voxels that create the folder when they are read."""

        shape, ndim, dtype = (2, 3, 4), 3, np.dtype("u1")

        def __getitem__(self, key: Any) -> Any:
            path.mkdir()
            (path / "thesis.txt").write_text("years")
            return np.zeros(self.shape, self.dtype)[key]

    with pytest.raises(FileError, match=r"kept as out\.2\.tif"):
        io.write(Volume(Meddling(), "ZYX"), path, overwrite=True)
    assert (path / "thesis.txt").exists()
    assert io.read(tmp_path / "out.2.tif").shape == (2, 3, 4)
