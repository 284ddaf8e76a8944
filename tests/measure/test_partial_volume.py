"""Porosity from grey values is exact for blurred pores, unlike a threshold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_geosr import measure_porosity
from napari_geosr.core.volume import Volume
from napari_geosr.measure import blocks

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def rare_pores(radius: float = 3.6, edge: int = 96) -> tuple[np.ndarray, float]:
    """Pore fraction of each voxel for spheres at random positions, and the total."""
    rng = np.random.default_rng(4)
    fine = 4
    shares = np.zeros((edge,) * 3)
    places = np.arange(10, edge - 9, 19)
    size = 2 * int(radius + 3)
    grid = (np.indices((size * fine,) * 3) + 0.5) / fine - size / 2
    count = 0
    for z in places:
        for y in places:
            for x in places:
                move = rng.uniform(-1, 1, 3)
                squares = sum((g - m) ** 2 for g, m in zip(grid, move, strict=True))
                ball = (squares <= radius**2).astype(float)
                part = ball.reshape(size, fine, size, fine, size, fine)
                low = [p - size // 2 for p in (z, y, x)]
                box = tuple(slice(a, a + size) for a in low)
                shares[box] += part.mean(axis=(1, 3, 5))
                count += 1
    return shares, count * 4 / 3 * np.pi * radius**3 / edge**3


def scanned(shares: np.ndarray, blur: float, noise: float, **more):
    data = gaussian_filter(200 - 120 * shares, blur)
    data += np.random.default_rng(0).normal(0, noise, shares.shape)
    return Volume(data.astype(np.float32), "ZYX", name="scan", **more)


@pytest.mark.parametrize("blur", [0.7, 1.0])
def test_rare_pores_are_exact_where_a_threshold_is_not(blur):
    shares, truth = rare_pores()
    assert shares.mean() == pytest.approx(truth, rel=0.01)
    found = measure_porosity(scanned(shares, blur, 3), statistics=("partial_volume",))
    values = found.figures
    assert values["Grey.solid"] == pytest.approx(200, abs=0.3)
    assert values["φ(grey)"] == pytest.approx(truth, rel=0.02)
    assert abs(found.porosity / truth - 1) > 2 * abs(values["φ(grey)"] / truth - 1)


def test_a_local_threshold_does_not_change_the_grey_values():
    """Pores are visible in the local mean, so values relative to it are biased."""
    shares, truth = rare_pores(5.3)
    scan = scanned(shares, 0.7, 3)
    found = measure_porosity(scan, local_window=31, statistics=("partial_volume",))
    assert found.figures["φ(grey)"] == pytest.approx(truth, rel=0.02)
    assert found.figures["Grey.pore"] == pytest.approx(80, abs=0.5)


def test_the_value_does_not_depend_on_the_threshold():
    shares, _ = rare_pores()
    scan = scanned(shares, 0.7, 2)
    found = [
        measure_porosity(scan, threshold=t, statistics=("partial_volume",))
        for t in (120.0, 160.0)
    ]
    grey, plain = ([r.figures[n] for r in found] for n in ("φ(grey)", "porosity"))
    assert plain[1] > 1.2 * plain[0]
    assert grey[1] == pytest.approx(grey[0], rel=0.02)


def test_it_does_not_depend_on_slabs(monkeypatch):
    shares, _ = rare_pores()
    scan = scanned(shares, 0.8, 3)
    mask = np.zeros(shares.shape, bool)
    mask[5:, :90, 8:] = True
    whole = measure_porosity(scan, mask, statistics=("partial_volume",))
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 96 * 96 * 5)
    parts = measure_porosity(scan, mask, statistics=("partial_volume",))
    assert parts.figures == whole.figures


def test_pores_without_an_inside_are_told():
    rng = np.random.default_rng(1)
    data = np.full((40, 40, 40), 200, np.uint8)
    data[tuple(rng.integers(2, 38, (3, 60)))] = 50
    found = measure_porosity(
        Volume(data, "ZYX"), threshold=100.0, statistics=("partial_volume",)
    )
    assert found.figures["φ(grey)"] is None
    assert any("too small to determine their grey value" in w for w in found.warnings)


@pytest.mark.parametrize("grains", [190, 230])
def test_grains_of_another_grey_value_are_told(grains: int) -> None:
    shares, truth = rare_pores()
    data = 150 - 120 * shares
    z, y, x = (np.indices(shares.shape) + 0.5).reshape(3, *shares.shape)
    far = gaussian_filter(shares, 2) < 1e-6
    centres = (np.sin(z / 5) + np.sin(y / 5) + np.sin(x / 5)) > 0
    data[far & centres] = grains
    data = gaussian_filter(data, 0.7)
    data += np.random.default_rng(0).normal(0, 3, shares.shape)
    found = measure_porosity(
        Volume(data.astype(np.float32), "ZYX"),
        threshold=90.0,
        statistics=("partial_volume",),
    )
    assert found.figures["φ(grey)"] > 1.05 * truth
    assert any("the grey value of the solid varies" in w for w in found.warnings)


@pytest.mark.parametrize("noise", [0, 20])
def test_noise_is_no_variation_of_the_solid(noise: float) -> None:
    shares, _ = rare_pores()
    found = measure_porosity(
        scanned(shares, 0.7, noise), threshold=140.0, statistics=("partial_volume",)
    )
    assert not any("grey value of the solid" in w for w in found.warnings)
