"""A published segmented scan of Berea sandstone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import tifffile
from pore_shapes import measure
from skimage.measure import euler_number


def test_berea_sandstone(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "ct_volumes" / "berea.zip"
    with zipfile.ZipFile(archive) as zipped:
        name = next(n for n in zipped.namelist() if n.endswith(".tif"))
        rock = tifffile.imread(zipped.extract(name, tmp_path))
    report = measure(rock, voxel_size=(3, 3, 3), unit="µm", keep_labels=False)
    assert report.porosity == pytest.approx((rock == 0).mean(), abs=1e-12)
    assert report.porosity == pytest.approx(0.1965, abs=5e-4)
    assert report.phase == "dark"
    # One connected pore space contains nearly all pore voxels.
    assert report.table["voxels"].max() > 0.95 * report.pore_voxels
    part = rock[:100, :100, :100]
    small = measure(part, min_voxels=1)
    assert small.euler_number == euler_number(part == 0, connectivity=3)
