"""HDF5 files of every kind are read with the correct voxels and geometry."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hdf5_files import hdf5_files
from hypothesis import given
from hypothesis import strategies as st
from variants import check, examples


@examples(25)
@given(data=st.data())
def test_every_kind_of_hdf5(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, expected = data.draw(hdf5_files(Path(folder)))
        check(path, expected, data.draw)
