"""Zarr folders of every kind are read with the correct voxels and geometry."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from variants import check, examples
from zarr_folders import zarr_folders


@examples(15)
@given(data=st.data())
def test_every_kind_of_zarr(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, expected = data.draw(zarr_folders(Path(folder)))
        check(path, expected, data.draw)
