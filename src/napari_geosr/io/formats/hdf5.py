"""HDF5 and NeXus: one dataset of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.io.formats import FileFormat, ReadOptions

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume


class Hdf5Format(FileFormat):
    """Read through h5py; `io/projections.py` reads projections from such files."""

    title = "HDF5"
    suffixes = (".hdf5", ".h5", ".nxs", ".nx5", ".hdf")
    rank = 30

    def read(self, path: Path, options: ReadOptions) -> Volume:
        from napari_geosr.io.hdf5 import read_hdf5

        return read_hdf5(path, axes=options.axes, dataset=options.dataset)


FORMAT = Hdf5Format()
