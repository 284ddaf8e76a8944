"""Damaged files are read or rejected with a message: no other error, hang or crash.

The readers run in a separate process with 1 GiB of memory, because a codec may crash,
and memory for sizes that a file merely claims would not fit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from damage import (
    damage_bytes,
    damage_description,
    damage_folder,
    damage_hdf5,
    damage_tiff,
)
from hdf5_files import hdf5_files
from hypothesis import given
from hypothesis import strategies as st
from reading_process import ReadingProcess
from tiff_files import tiff_files
from variants import examples
from zarr_folders import zarr_folders

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="limits memory as Linux does"
)
seeds = st.integers(0, 2**32)


@examples(25)
@given(
    data=st.data(),
    seed=seeds,
    damage=st.sampled_from([damage_bytes, damage_tiff, damage_description]),
)
def test_tiff(data: st.DataObject, seed: int, damage, reader: ReadingProcess) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, _ = data.draw(tiff_files(Path(folder)))
        damage(path, seed)
        assert reader.faults(path) == []


@examples(15)
@given(data=st.data(), seed=seeds)
def test_zarr(data: st.DataObject, seed: int, reader: ReadingProcess) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, _ = data.draw(zarr_folders(Path(folder)))
        damage_folder(path, seed)
        assert reader.faults(path) == []


@examples(25)
@given(data=st.data(), seed=seeds, damage=st.sampled_from([damage_bytes, damage_hdf5]))
def test_hdf5(data: st.DataObject, seed: int, damage, reader: ReadingProcess) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, _ = data.draw(hdf5_files(Path(folder)))
        damage(path, seed)
        assert reader.faults(path) == []
