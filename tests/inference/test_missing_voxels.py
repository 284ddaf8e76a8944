"""Voxels that are missing in the input are not invented in the result."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.inference import windows
from napari_geosr.inference.runner import restore_region, restore_tiles

GB = 10**9


@pytest.fixture
def masked(rng) -> np.ndarray:
    """A cylinder along Z with NaN around it and an infinite voxel inside."""
    array = rng.normal(100, 20, (6, 24, 22)).astype("float32")
    y, x = np.ogrid[-12:12, -11:11]
    array[:, y * y + x * x > 90] = np.nan
    array[3, 12, 11] = np.inf
    return array


@pytest.mark.parametrize(
    ("kind", "scale"), [("conv", 1), ("shuffle", 2), ("shuffle", 8), ("strided", 1)]
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_what_was_missing_stays_missing(
    kind, scale, ndim, masked, make_network, statistics_of
):
    network = make_network(kind, ndim=ndim, scale=scale)
    factors = (1,) * (3 - ndim) + network.spec.upscale_factor
    expected = ~np.isfinite(masked)
    for axis, s in enumerate(factors):
        expected = expected.repeat(s, axis=axis)
    target = np.zeros(expected.shape, "float32")
    steps = restore_tiles(
        network,
        masked,
        target,
        statistics=statistics_of(masked),
        budget=GB,
        tile=(4, 12, 12),
    )
    summary = run_to_end(steps)
    assert np.array_equal(np.isnan(target), expected)
    assert summary.n_nonfinite == np.count_nonzero(~np.isfinite(masked))


def test_planes_read_in_parts_and_previews_do_alike(
    masked, make_network, statistics_of, tmp_path, monkeypatch
):
    network = make_network("conv", slices=3)
    statistics = statistics_of(masked)
    stored = np.memmap(tmp_path / "scan", "float32", "w+", shape=masked.shape)
    stored[:] = masked
    monkeypatch.setattr(windows, "RELEASE_BYTES", 2 * masked[0].nbytes)
    target = np.zeros(masked.shape, "float64")
    steps = restore_tiles(
        network, stored, target, statistics=statistics, budget=GB, tile=(5, 24, 22)
    )
    run_to_end(steps)
    assert np.array_equal(np.isnan(target), ~np.isfinite(masked))
    box = (slice(2, 5), slice(0, 14), slice(5, 20))
    part = restore_region(network, masked, box, statistics=statistics, budget=GB)
    np.testing.assert_allclose(part, target[box], rtol=1e-5)


def test_integers_cannot_keep_them_and_say_so(masked, make_network, statistics_of):
    target = np.zeros(masked.shape, "uint16")
    steps = restore_tiles(
        make_network("conv"),
        masked,
        target,
        statistics=statistics_of(masked),
        budget=GB,
    )
    said = [step.message for step in steps if isinstance(step, WarningIssued)]
    assert any("uint16 cannot represent them" in sentence for sentence in said)
