"""Intervals of the porosity contain that of the material, despite correlation."""

from __future__ import annotations

import numpy as np
import pytest
from pore_shapes import measure, scan
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from napari_geosr.measure.morphometry.profile import standard_error
from napari_geosr.measure.morphometry.subvolumes import QUANTITIES
from napari_geosr.measure.phases.sampling_error import porosity_variance

PORES = 0.2


def field(edges: tuple[int, ...], width: float, seed: int) -> np.ndarray:
    """Pores of a stationary random field with a mean porosity of 20 %."""
    margin = int(3.5 * width) + 1
    noise = np.random.default_rng(seed).standard_normal([n + 2 * margin for n in edges])
    smooth = gaussian_filter(noise, width, truncate=3.5)
    smooth = smooth[tuple(slice(margin, -margin) for _ in edges)]
    smooth *= (2 * np.sqrt(np.pi) * width) ** (len(edges) / 2)
    return np.asarray(smooth < norm.ppf(PORES))


def parts(pores: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pore voxels and voxels in `n` equal parts along each axis."""
    edge = pores.shape[-1] // n
    counts = pores.reshape([k for m in pores.shape for k in (m // edge, edge)])
    counts = counts.sum(axis=tuple(range(1, counts.ndim, 2)))
    return counts, np.full(counts.shape, edge**pores.ndim)


def test_the_standard_error_is_the_spread_between_samples() -> None:
    """Parts treated as independent give half of it."""
    found, errors, naive = [], [], []
    for seed in range(30):
        pores = field((48, 48, 48), 4, seed)
        found.append(pores.mean())
        errors.append(porosity_variance(*parts(pores, 16)) ** 0.5)
        eighths, voxels = parts(pores, 4)
        naive.append((eighths / voxels).std(ddof=1) / 8)
    spread = float(np.sqrt(np.mean((np.array(found) - PORES) ** 2)))
    assert np.median(errors) == pytest.approx(spread, rel=0.3)
    assert np.median(naive) < 0.75 * spread


def test_tubes_count_once() -> None:
    """The porosity of a volume of parallel tubes is that of its cross-section."""
    section = field((64, 64), 2, 3)
    in_plane = porosity_variance(*parts(section, 16))
    tubes = np.broadcast_to(section, (64, 64, 64))
    assert porosity_variance(*parts(tubes, 16)) == pytest.approx(in_plane, rel=0.3)


def test_constant_and_empty_samples() -> None:
    full = np.full((4, 4, 4), 8)
    assert porosity_variance(full, full) == 0
    assert np.isnan(porosity_variance(full * 0, full * 0))


def test_the_interval_of_sub_volumes_of_a_correlated_field() -> None:
    held = []
    for seed in range(24):
        report = measure(
            scan(field((64, 64, 64), 5, seed)),
            "ZYX",
            statistics=("subvolumes",),
            threshold=120.0,
        )
        values = report.morphometry["subvolumes"].values
        assert set(values) <= {q.name for q in QUANTITIES}
        held.append(values["Sub.low"] <= PORES <= values["Sub.high"])
    # 95 % of 24, less three standard deviations; without the correlation, 17 of 24.
    assert sum(held) >= 20


@pytest.mark.parametrize(("seed", "problem"), [(1, "are unreliable"), (2, "are not")])
def test_a_sample_of_few_pores_has_no_reliable_interval(
    seed: int, problem: str
) -> None:
    report = measure(
        scan(field((40, 40, 40), 12, seed)),
        "ZYX",
        statistics=("subvolumes",),
        threshold=120.0,
    )
    found = report.morphometry["subvolumes"]
    assert any(f"Sub.low and Sub.high {problem}" in text for text in found.remarks)
    for name in ("Sub.low", "Sub.high"):
        assert (found.values[name] is None) == (problem == "are not")


@pytest.mark.parametrize("width", [3, 6, 8])
def test_the_band_of_a_slice_contains_its_porosity(width: float) -> None:
    held = []
    for seed in range(150):
        pores = field((128, 128), width, seed)
        error = standard_error(*parts(pores, 32))
        held.append(abs(pores.mean() - PORES) <= 1.96 * error)
    assert 0.90 <= np.mean(held) <= 0.98
