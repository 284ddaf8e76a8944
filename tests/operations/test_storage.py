"""Results that nobody asked to save: in memory only where they leave room for a run."""

from __future__ import annotations

import gc

import numpy as np
import psutil
import pytest

from napari_geosr.operations import storage


def test_a_limit_of_the_process_sends_large_results_to_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr(storage, "free_host_memory", lambda: 10_000)
    small = storage.array_for((10, 10, 40), np.dtype(np.uint8))
    assert isinstance(small, np.ndarray)
    large = storage.array_for((10, 10, 41), np.dtype(np.uint8))
    assert not isinstance(large, np.ndarray)
    assert list((tmp_path / "results").iterdir())


@pytest.mark.parametrize(("dtype", "fill"), [("uint8", 0), ("float32", np.nan)])
def test_a_result_in_memory_is_not_counted_as_free(dtype, fill):
    """Or a run would plan with the memory that its result is about to take."""
    dtype = np.dtype(dtype)
    process = psutil.Process()
    gc.collect()  # or what is freed meanwhile would be taken off
    before = process.memory_info().rss
    result = storage.array_for((64, 1024, (1 << 10) // dtype.itemsize), dtype, fill)
    assert process.memory_info().rss - before > 0.9 * result.nbytes
