"""Compressed NIfTI files that are read in parts."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import psutil
import pytest

from napari_geosr import io
from napari_geosr.io.lazy import cache_limited

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")


@pytest.fixture(autouse=True)
def _lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("formats.nifti", "arrangement"):
        monkeypatch.setattr(f"napari_geosr.io.{module}.EAGER_BYTES", 0)


def saved(path: Path, seed: int = 0) -> tuple[Path, np.ndarray]:
    """Write a random volume, and return its path and voxels."""
    data = np.random.default_rng(seed).integers(0, 999, (6, 5, 4), np.int16)
    nibabel.save(nibabel.Nifti1Image(data.T, np.eye(4)), path)
    return path, data


def test_reading_planes_does_not_start_at_the_beginning_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, reading in small parts takes several times longer."""
    path, data = saved(tmp_path / "scan.nii.gz")
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
    assert len({id(each) for each in opened}) <= 2  # header and voxels


def test_an_interrupted_read_does_not_shift_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = saved(tmp_path / "scan.nii.gz")
    volume = io.read(path)
    with cache_limited(volume.data, 0):
        np.testing.assert_array_equal(volume.data[:1], data[:1])
        with monkeypatch.context() as patched:
            read = nibabel.openers.Opener.read

            def interrupted(opener: object, size: int = -1, /) -> bytes:
                read(opener, size)  # the file has been read further than anyone knows
                raise KeyboardInterrupt

            patched.setattr(nibabel.openers.Opener, "read", interrupted)
            patched.setattr(nibabel.openers.Opener, "readinto", interrupted)
            with pytest.raises(KeyboardInterrupt):
                volume.data[1:2]
        for z in (1, 3, 2, 5):
            np.testing.assert_array_equal(volume.data[z : z + 1], data[z : z + 1])


def test_few_compressed_files_are_open_at_a_time(tmp_path: Path) -> None:
    files = [saved(tmp_path / f"scan{i}.nii.gz", seed=i) for i in range(24)]
    volumes = [io.read(path) for path, _ in files]
    for z in (0, 3):
        for volume, (_, data) in zip(volumes, files, strict=True):
            with cache_limited(volume.data, 0):
                np.testing.assert_array_equal(volume.data[z : z + 1], data[z : z + 1])
    gc.collect()
    opened = [each.path for each in psutil.Process().open_files()]
    assert 0 < sum(path.startswith(str(tmp_path)) for path in opened) <= 16
