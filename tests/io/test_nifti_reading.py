"""Compressed NIfTI files that are read in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.io.lazy import cache_limited

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")


def test_reading_planes_does_not_start_at_the_beginning_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, reading in small parts takes several times longer."""
    data = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(data.T, np.eye(4)), path)
    for module in ("formats.nifti", "arrangement"):
        monkeypatch.setattr(f"napari_geosr.io.{module}.EAGER_BYTES", 0)
    opened = []

    class Opener(nibabel.openers.ImageOpener):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            opened.append(self)

    volume = io.read(path)
    assert volume.is_lazy
    monkeypatch.setattr("nibabel.openers.ImageOpener", Opener)
    with cache_limited(volume.data, 0):
        for z in (*range(6), 2):
            np.testing.assert_array_equal(volume.data[z : z + 1], data[z : z + 1])
    assert not opened  # the file is open since its header was read
