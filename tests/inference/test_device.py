from __future__ import annotations

from pathlib import Path

import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.inference.device import (
    container_memory_left,
    device_name,
    free_memory,
    pick_device,
)


def test_auto_is_a_device_that_works():
    import torch

    device = pick_device("auto")
    assert torch.zeros(3, device=device).sum().item() == 0
    assert device_name(device)
    assert free_memory(device) > 0


@pytest.mark.parametrize("wanted", ["gpu", "cuda:x", "cpu:1", "", "cuda:99", "tpu"])
def test_unknown_or_absent_devices_are_refused(wanted):
    with pytest.raises(ConfigError, match=r"Use auto"):
        pick_device(wanted)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_containers_limit_counts(tmp_path):
    assert container_memory_left(tmp_path) is None
    files = {
        "memory_DOT_max": "1000000\n",
        "memory_DOT_current": "600000\n",
        "memory_DOT_stat": "anon 300000\ninactive_file 200000\n",
    }
    assert container_memory_left(write(tmp_path, **files)) == 600_000
    write(tmp_path, memory_DOT_max="max\n")
    assert container_memory_left(tmp_path) is None


def test_the_older_kind_of_limit_counts(tmp_path):
    files = {
        "memory__memory_DOT_limit_in_bytes": "5000",
        "memory__memory_DOT_usage_in_bytes": "1000",
        "memory__memory_DOT_stat": "total_inactive_file 300\n",
    }
    # Underscores inside names are kept: only a double one is a folder.
    assert container_memory_left(write(tmp_path, **files)) == 4300
    write(tmp_path, memory__memory_DOT_limit_in_bytes=str(1 << 62))
    assert container_memory_left(tmp_path) is None


def test_free_memory_is_no_more_than_the_container_leaves(monkeypatch):
    import napari_geosr.inference.device as module

    monkeypatch.setattr(module, "container_memory_left", lambda: 12345)
    assert free_memory("cpu") == 12345
