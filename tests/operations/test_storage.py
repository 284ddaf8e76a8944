"""Unsaved results are kept in memory only if enough remains for a run."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
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


_RESIDENT = """
import numpy as np, psutil
from napari_geosr.operations import storage
process = psutil.Process()
before = process.memory_info().rss
result = storage.array_for(({planes}, 1024, 1024), np.dtype("{dtype}"), {fill})
print((process.memory_info().rss - before) / result.nbytes)
"""


@pytest.mark.parametrize(
    ("planes", "dtype", "fill"), [(64, "uint8", "0"), (16, "float32", "np.nan")]
)
def test_a_result_in_memory_is_not_counted_as_free(planes, dtype, fill):
    """Otherwise, a run would plan with the memory required for its result."""
    # Use a separate process, because this one may reuse memory freed by earlier tests.
    code = _RESIDENT.format(planes=planes, dtype=dtype, fill=fill)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) > 0.9
