"""Tiles give the values of one forward pass over the whole volume."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_variants import CASES

from napari_geosr.core.errors import ModelError
from napari_geosr.core.steps import run_to_end
from napari_geosr.inference.runner import restore_region, restore_tiles
from napari_geosr.inference.tiles.tiling import lay_out
from napari_geosr.networks import build_network

GB = 10**9
KINDS = ("conv", "dilated", "reflecting", "strided", "shuffle")


def tiled(network, array, statistics, tile, dtype="float64", **settings_):
    shape = lay_out(array.shape, network.spec).output_shape
    target = np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 0, dtype)
    run_to_end(
        restore_tiles(
            network,
            array,
            target,
            statistics=statistics,
            budget=GB,
            tile=tile,
            **settings_,
        )
    )
    return target


@st.composite
def cases(draw):
    kind = draw(st.sampled_from(KINDS))
    ndim = draw(st.sampled_from((2, 3)))
    slices = draw(st.sampled_from((1, 3, 5))) if ndim == 2 else 1
    longest = 29 if ndim == 2 else 15
    plane = [draw(st.integers(1, longest)) for _ in range(ndim)]
    image = ndim == 2 and draw(st.booleans())
    shape = plane if ndim == 3 or image else [draw(st.integers(1, 4)), *plane]
    tile = [draw(st.integers(1, 17)) for _ in shape]
    dtype = draw(st.sampled_from(("uint8", "uint16", "int32", "float32", "float64")))
    scale = draw(st.sampled_from((2, 3)))
    return kind, ndim, slices, scale, tuple(shape), tuple(tile), dtype


@settings(max_examples=60, deadline=None)
@given(cases())
def test_tiles_equal_the_whole(make_network, restore_whole, statistics_of, case):
    kind, ndim, slices, scale, shape, tile, dtype = case
    network = make_network(kind, ndim, slices, scale, double=True)
    array = np.random.default_rng(3).integers(0, 200, shape).astype(dtype)
    statistics = statistics_of(array)
    whole = restore_whole(network, array, statistics)
    difference = np.abs(tiled(network, array, statistics, tile) - whole).max()
    assert difference <= 1e-12 * max(1.0, np.abs(whole).max()) * 10


@settings(max_examples=30, deadline=None)
@given(cases(), st.data())
def test_a_region_equals_its_part_of_the_whole(
    make_network, restore_whole, statistics_of, case, data
):
    kind, ndim, slices, scale, shape, _, dtype = case
    network = make_network(kind, ndim, slices, scale, double=True)
    array = np.random.default_rng(4).integers(0, 200, shape).astype(dtype)
    statistics = statistics_of(array)
    region = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, n))))
    scales = lay_out(shape, network.spec).scale[3 - len(shape) :]
    part = tuple(
        slice(r.start * s, r.stop * s) for r, s in zip(region, scales, strict=True)
    )
    expected = restore_whole(network, array, statistics)[part]
    got = restore_region(network, array, region, statistics=statistics, budget=GB)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-11 * max(1.0, np.abs(expected).max())


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("name", "kwargs"), [pytest.param(n, k, id=label) for n, k, label in CASES]
)
def test_registered_networks(name, kwargs, restore_whole, statistics_of, rng):
    import torch

    torch.manual_seed(0)
    network = build_network(name, **kwargs).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    three_d = network.spec.axes == "ZYX"
    # The finer the result, the smaller the volume, to keep the test fast.
    shapes = {
        1: [(19, 22, 31)] if three_d else [(45, 53), (3, 41, 37)],
        2: [(11, 13, 17)] if three_d else [(35, 43), (3, 29, 31)],
        4: [(5, 9, 11)] if three_d else [(23, 29), (2, 21, 17)],
        8: [(4, 7, 9)] if three_d else [(23, 29), (2, 21, 17)],
    }[max(network.spec.upscale_factor)]
    for shape in shapes:
        array = rng.normal(1000, 200, shape).astype("float32")
        statistics = statistics_of(array)
        tile = tuple(max(1, n // 2 - 2) for n in shape)
        exact = restore_whole(network.double(), array, statistics)
        got = tiled(network, array, statistics, tile)
        assert np.abs(got - exact).max() <= 1e-12 * np.abs(exact).max()
        whole = restore_whole(network.float(), array, statistics)
        got = tiled(network, array, statistics, tile, "float32")
        assert np.abs(got - whole).max() <= 1e-5 * np.ptp(array)
        assert np.abs(got - whole).max() <= 1e-5 * max(whole.std(), array.std())


@pytest.mark.parametrize(
    ("kind", "short"), [("conv", 1), ("dilated", 1), ("strided", 4)]
)
def test_a_short_halo_is_seen(
    make_network, restore_whole, statistics_of, rng, kind, short
):
    network = make_network(kind, double=True)
    array = rng.normal(size=(64, 64))
    statistics = statistics_of(array)
    whole = restore_whole(network, array, statistics)
    assert np.abs(tiled(network, array, statistics, (16, 16)) - whole).max() < 1e-12
    less = tuple(h - short for h in network.spec.halo)
    network.spec = dataclasses.replace(network.spec, halo=less)
    assert np.abs(tiled(network, array, statistics, (16, 16)) - whole).max() > 1e-6


def test_tiles_off_the_stride_grid_are_seen(make_network, statistics_of, rng):
    network = make_network("strided", double=True)
    array = rng.normal(size=(64, 64))
    network.spec = dataclasses.replace(network.spec, stride=(2, 2))
    with pytest.raises(ModelError, match="its spec declares"):
        tiled(network, array, statistics_of(array), (18, 18))
