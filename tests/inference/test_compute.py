"""Settings of a forward pass, which must not affect anything else."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from napari_geosr.inference import compute


def test_overlapping_forwards_stay_exact_and_leave_no_trace(monkeypatch):
    flags = SimpleNamespace(allow_tf32=True)
    flags_to_set = [(flags, "allow_tf32", False)]
    monkeypatch.setattr(compute, "_tf32_flags", lambda: flags_to_set)
    first, second = compute._full_precision(), compute._full_precision()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert flags.allow_tf32 is False
    second.__exit__(None, None, None)
    assert flags.allow_tf32 is True


def test_settings_are_as_before_after_an_error(monkeypatch):
    flags = SimpleNamespace(allow_tf32=True)
    flags_to_set = [(flags, "allow_tf32", False)]
    monkeypatch.setattr(compute, "_tf32_flags", lambda: flags_to_set)
    threads = torch.get_num_threads()
    try:
        with compute.exact_settings(1):
            assert flags.allow_tf32 is False
            assert torch.is_inference_mode_enabled()
            raise InterruptedError
    except InterruptedError:
        pass
    assert flags.allow_tf32 is True
    assert not torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == threads
