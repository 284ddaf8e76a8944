"""Settings of a forward pass, which must not affect anything else."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_geosr.core.steps import run_to_end
from napari_geosr.inference import compute
from napari_geosr.inference.runner import restore_tiles


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


@pytest.fixture
def interrupted(make_network):
    """A network that sleeps, as while the computer runs other programs."""
    network = make_network("conv", slices=3)
    network.register_forward_pre_hook(lambda *_: time.sleep(0.3))
    return network


def test_windows_are_timed_as_if_no_other_program_ran(interrupted):
    began = time.perf_counter()
    speed = compute.seconds_per_voxel(interrupted, "cpu", 1)
    assert time.perf_counter() - began > 0.6
    assert speed * 48**2 < 0.15  # the first window has 48² voxels


def test_the_first_tile_is_timed_as_if_no_other_program_ran(
    interrupted, statistics_of, rng
):
    compute.learn_speed(interrupted, "cpu", 1, 1.0)
    source = rng.normal(size=(1, 48, 48)).astype("float32")
    run_to_end(
        restore_tiles(
            interrupted,
            source,
            np.empty_like(source),
            statistics=statistics_of(source),
            budget=10**9,
            threads=1,
        )
    )
    assert compute.known_speed(interrupted, "cpu", 1) * 48**2 < 0.15
