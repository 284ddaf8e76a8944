"""Cubic interpolation as a model: its result, and running it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_geosr import restore
from napari_geosr.core.volume import Volume
from napari_geosr.inference.receptive_field import check_spec
from napari_geosr.models import bundle, zoo
from napari_geosr.networks import build_network


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_straight_lines_stay_straight(factor):
    network = build_network("cubic", ndim=2, upscale_factor=factor)
    x = torch.arange(12.0).expand(1, 1, 5, 12)
    fine = network(x)[0, 0, 0, 3 * factor : 8 * factor]
    expected = 3 + (torch.arange(5 * factor) + 0.5) / factor - 0.5
    torch.testing.assert_close(fine, expected, atol=1e-5, rtol=0)
    assert check_spec(network).local


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_it_is_chosen_by_name(factor):
    name = f"cubic-x{factor}"
    bundle.check(zoo.find(name))
    data = np.random.default_rng(1).normal(100, 20, (4, 6, 5)).astype(np.float32)
    volume = Volume(data, "ZYX", (4.0, 2.0, 2.0), "µm")
    result = restore(volume, name)
    assert result.shape == tuple(factor * n for n in data.shape)
    assert result.voxel_size == tuple(v / factor for v in (4.0, 2.0, 2.0))
    assert np.asarray(result.data).mean() == pytest.approx(data.mean(), abs=2)
