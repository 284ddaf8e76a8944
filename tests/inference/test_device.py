from __future__ import annotations

import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.inference.device import device_name, free_memory, pick_device


def test_auto_is_a_device_that_works():
    import torch

    device = pick_device("auto")
    assert torch.zeros(3, device=device).sum().item() == 0
    assert device_name(device)
    assert free_memory(device) > 0


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", "", "cuda:99", "tpu"])
def test_unknown_or_absent_devices_are_refused(name):
    with pytest.raises(ConfigError, match=r"Use auto"):
        pick_device(name)


def test_on_the_processor_the_limits_of_the_process_count(monkeypatch):
    monkeypatch.setattr("napari_geosr.inference.device.free_host_memory", lambda: 12345)
    assert free_memory("cpu") == 12345
