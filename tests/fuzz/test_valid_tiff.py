"""TIFF files of every kind are read with the correct voxels and geometry."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tiff_files import tiff_files
from variants import check, examples


@examples(40)
@given(data=st.data())
def test_every_kind_of_tiff(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, expected = data.draw(tiff_files(Path(folder)))
        check(path, expected, data.draw)
