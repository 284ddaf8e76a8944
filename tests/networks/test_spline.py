"""Spline interpolation: it preserves the mean of every voxel, and smooth structure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import CubicSpline

from napari_geosr import restore
from napari_geosr.core.volume import Volume
from napari_geosr.inference.receptive_field import check_spec
from napari_geosr.models import bundle, zoo
from napari_geosr.networks import build_network


def upscaled(values: np.ndarray, factor: int) -> np.ndarray:
    network = build_network("spline", ndim=values.ndim, upscale_factor=factor)
    x = torch.from_numpy(values.astype(np.float32))[None, None]
    return network(x)[0, 0].numpy()


def averaged(values: np.ndarray, factor: int) -> np.ndarray:
    split = [part for n in values.shape for part in (n // factor, factor)]
    return values.reshape(split).mean(axis=tuple(range(1, 2 * values.ndim, 2)))


@settings(deadline=None)
@given(
    arrays(np.float32, (3, 5, 4), elements=st.floats(-100, 100, width=32)),
    st.sampled_from([2, 3, 4, 8]),
)
def test_averaged_back_it_is_the_scan(values, factor):
    fine = upscaled(values, factor)
    np.testing.assert_allclose(averaged(fine, factor), values, atol=1e-3)


@pytest.mark.parametrize("factor", [2, 4])
def test_it_is_the_spline_through_the_integrals(factor):
    values = np.random.default_rng(3).normal(100, 20, (1, 80))
    faces = np.linspace(0, 80, 80 * factor + 1)
    integral = np.concatenate([[0.0], np.cumsum(values[0])])
    expected = factor * np.diff(CubicSpline(np.arange(81), integral)(faces))
    inner = slice(30 * factor, 50 * factor)
    found = upscaled(np.repeat(values, 3, axis=0), factor)[factor, inner]
    np.testing.assert_allclose(found, expected[inner], atol=1e-3)


@pytest.mark.parametrize("factor", [2, 4])
def test_it_restores_averaged_structure_better_than_cubic_interpolation(factor):
    z, y, x = np.indices((64, 64, 64)) * (2 * np.pi / 32)
    truth = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)
    scan = averaged(truth, factor).astype(np.float32)
    inner = (slice(16, -16),) * 3
    cubic = build_network("cubic", ndim=3, upscale_factor=factor)
    other = cubic(torch.from_numpy(scan)[None, None])[0, 0].numpy()
    error, usual = (
        np.sqrt(np.mean((one - truth)[inner] ** 2))
        for one in (upscaled(scan, factor), other)
    )
    assert error < 0.3 * usual


@pytest.mark.parametrize("ndim", [2, 3])
def test_tiles_know_its_reach(ndim):
    assert check_spec(build_network("spline", ndim=ndim, upscale_factor=2)).local


@pytest.mark.parametrize("factor", [2, 4])
def test_tiles_are_exact(factor):
    values = np.random.default_rng(4).normal(100, 20, (3, 90, 4)).astype(np.float32)
    whole = upscaled(values, factor)
    tile = upscaled(values[:, 20:70], factor)
    halo = 12
    inner = slice((20 + halo) * factor, (70 - halo) * factor)
    np.testing.assert_array_equal(
        whole[:, inner], tile[:, halo * factor : -halo * factor]
    )


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_it_is_chosen_by_name(factor):
    name = f"spline-x{factor}"
    bundle.check(zoo.find(name))
    data = np.random.default_rng(1).normal(100, 20, (4, 6, 5)).astype(np.float32)
    result = restore(Volume(data, "ZYX", (4.0, 2.0, 2.0), "µm"), name)
    assert result.voxel_size == tuple(v / factor for v in (4.0, 2.0, 2.0))
    np.testing.assert_allclose(
        averaged(np.asarray(result.data), factor), data, atol=0.1
    )
