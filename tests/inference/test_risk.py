"""The risk estimate is unbiased where the truth is known, for any known noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.inference.risk.evaluation import draw_blocks, draw_sample, evaluate
from napari_geosr.inference.risk.probes import level_map, noise_like
from napari_geosr.inference.risk.stein import (
    CellMeans,
    common_scale,
    estimate,
    expected_scale,
)
from napari_geosr.networks import build_network


@dataclass
class Plain:
    """Unscaled grey values."""

    mean: float = 0.0
    input_mean: float = 0.0
    input_std: float = 1.0
    output_mean: float = 0.0
    output_std: float = 1.0
    hot: None = None
    padding: None = None


def neighbours(noise: np.ndarray, axis: int) -> float:
    a = np.moveaxis(noise, axis, 0)
    return float((a[1:] * a[:-1]).mean() / np.square(noise).mean())


@settings(max_examples=12, deadline=None)
@given(st.tuples(*[st.floats(-0.6, 0.8)] * 3))
def test_noise_has_the_correlations_asked_for(correlations: tuple[float, ...]) -> None:
    given_ = dict(zip("zyx", correlations, strict=True))
    noise = noise_like((40, 60, 60), given_, np.random.default_rng(0))
    assert noise.std() == pytest.approx(1.0, abs=0.06)
    for axis in range(3):
        assert neighbours(noise, axis) == pytest.approx(correlations[axis], abs=0.05)


def test_the_noise_of_small_bright_objects_is_not_spread_around_them() -> None:
    """A mean over the neighbourhood would have 0.6 and 2.4 times the variance."""
    rng = np.random.default_rng(0)
    clean = np.full((12, 64, 64), 0.3)
    clean[tuple(rng.integers(1, n - 1, 150) for n in clean.shape)] = 400
    clean = ndimage.gaussian_filter(clean, (1.6, 0.9, 0.9))
    greys = np.linspace(0, 60, 200)
    noise = Noise(
        level=1.0,
        contrast=10.0,
        greys=tuple(greys.tolist()),
        levels=tuple(np.sqrt(1 + greys).tolist()),
        correlation={"z": 0.0, "y": 0.0, "x": 0.0},
        interval=(1.0, 1.0),
    )
    window = clean + np.sqrt(1 + clean) * rng.standard_normal(clean.shape)
    variances = level_map(window, noise) ** 2
    for low, high in ((2.0, 6.0), (20.0, 60.0)):
        there = (clean > low) & (clean < high)
        assert variances[there].mean() == pytest.approx(
            (1 + clean[there]).mean(), rel=0.25
        )


def test_its_level_follows_the_grey_value() -> None:
    noise = Noise(level=1.0, contrast=10.0, greys=(0.0, 10.0), levels=(1.0, 3.0))
    window = np.zeros((4, 40, 40))
    window[..., 20:] = 10.0
    levels = level_map(window, noise)
    assert levels[0, 20, 5] == pytest.approx(1.0)
    assert levels[0, 20, 35] == pytest.approx(3.0)


#: Correlation along the axes, and noise level at the grey values 0 and 1.
CASES = [
    pytest.param({}, (0.2, 0.2), id="independent"),
    pytest.param({"z": 0.4, "y": 0.5, "x": 0.3}, (0.2, 0.2), id="correlated"),
    pytest.param({"z": 0.3, "y": 0.3, "x": 0.3}, (0.05, 0.15), id="grey-dependent"),
]
NETWORKS = [
    pytest.param("gaussian", {"strength": 0.8}, id="gaussian"),
    pytest.param("tv", {"strength": 0.6}, id="tv"),
    pytest.param("nlm", {"strength": 1.0}, id="nlm"),
]


@pytest.mark.every(2)
@pytest.mark.parametrize(("correlation", "levels"), CASES)
@pytest.mark.parametrize(("name", "kwargs"), NETWORKS)
def test_the_estimate_is_the_true_error_on_average(
    name: str,
    kwargs: dict[str, float],
    correlation: dict[str, float],
    levels: tuple[float, float],
) -> None:
    rng = np.random.default_rng(1)
    shape = (12, 80, 80)
    clean = (ndimage.gaussian_filter(rng.standard_normal(shape), 4) > 0).astype(float)
    clean = ndimage.gaussian_filter(clean, 0.8)
    sd = np.interp(clean, (0, 1), levels)
    noise = Noise(
        level=float(np.sqrt(np.square(sd).mean())),
        contrast=1.0,
        greys=(0.0, 1.0),
        levels=levels,
        correlation=correlation,
    )
    network = build_network(name, ndim=3, **kwargs).eval()
    network.set_noise(noise)
    gains, found = [], []
    for _ in range(3):
        scan = clean + sd * noise_like(shape, correlation, rng)
        sample = draw_sample(scan, noise, n=2)
        cells = evaluate(network, sample, Plain(), threads=1)
        found.append(estimate(cells).gain)
        # The same denoiser on the same blocks, compared with the truth.
        truth = draw_sample(scan, noise, second=clean, n=2)
        true = evaluate(network, truth, Plain(), threads=1)
        assert true.second is not None
        error = true.mean(true.removed)
        gains.append(10 * np.log10(true.mean(true.second) / error))
    # If the level depends strongly on the grey value, it is underestimated at edges,
    # and the estimate is cautious.
    caution = 0.35 if levels[0] == levels[1] else 0.75
    assert -caution < np.mean(found) - np.mean(gains) < 0.35
    assert np.mean(gains) > 1


@pytest.mark.parametrize("correlation", [{}, {"z": 0.5, "y": 0.3, "x": 0.6}])
def test_the_trace_of_a_linear_filter_is_the_analytic_one(
    correlation: dict[str, float], rng: np.random.Generator
) -> None:
    """``tr(C J)`` per voxel: the kernel times the noise's autocovariance."""
    level, strength = 2.0, 0.7
    noise = Noise(level=level, contrast=1.0, correlation=correlation)
    scan = level * noise_like((14, 90, 90), correlation, rng)
    sample = draw_sample(scan, noise, n=4)
    network = build_network("gaussian", ndim=3, strength=strength).eval()
    cells = evaluate(network, sample, Plain(), threads=1)
    delta = np.zeros((11, 11, 11))
    delta[5, 5, 5] = 1.0
    kernel = ndimage.gaussian_filter(delta, strength)
    many = noise_like((64, 64, 64), correlation, rng)
    power = np.abs(np.fft.fftn(many)) ** 2
    covariance = np.fft.fftshift(np.fft.ifftn(power).real) / many.size
    expected = level**2 * float((kernel * covariance[27:38, 27:38, 27:38]).sum())
    assert cells.mean(cells.kept) == pytest.approx(expected, rel=0.06)
    assert cells.mean(cells.noise) == pytest.approx(level**2)
    # For noise alone, only the part that passes the filter remains.
    assert cells.mean(cells.risks()) == pytest.approx(
        cells.mean(cells.passed), abs=0.06 * level**2
    )


def test_leaving_the_scan_has_the_risk_of_its_noise(rng: np.random.Generator) -> None:
    noise = Noise(level=3.0, contrast=10.0)
    sample = draw_sample(3 * rng.standard_normal((12, 60, 60)), noise)
    network = build_network("gaussian", ndim=3, strength=0).eval()
    found = estimate(evaluate(network, sample, Plain(), threads=1))
    assert found.error == pytest.approx(3.0, rel=0.02)
    assert found.gain == pytest.approx(0.0, abs=0.15)


def test_an_uncertain_noise_widens_the_interval() -> None:
    n = np.full(9, 100.0)
    removed, kept, passed, noise = (np.full(9, v) for v in (0.95, 0.075, 0.05, 1.0))
    cells = CellMeans(removed, kept, passed, noise, n)
    sure, unsure = estimate(cells), estimate(cells, (0.8, 1.2))
    assert sure.gain == unsure.gain == pytest.approx(10.0)
    assert unsure.interval[0] < sure.interval[0]
    assert unsure.interval[0] <= unsure.gain <= unsure.interval[1]
    # The removed part is 0.95, and the noise in it cannot exceed this.
    assert cells.max_noise_scale == pytest.approx(0.95 / 0.875)


def test_no_gain_leaves_less_than_half_of_what_small_changes_pass_on() -> None:
    noise = np.full(40, 1.0)
    removed, kept, passed = 0.97 * noise, 0.01 * noise, 0.04 * noise
    risk = estimate(CellMeans(removed, kept, passed, noise, np.full(40, 500.0)))
    assert risk.gain == pytest.approx(10 * np.log10(1 / 0.02))
    assert risk.interval[1] == pytest.approx(10 * np.log10(1 / 0.02))


def test_padding_and_missing_voxels_do_not_count(rng: np.random.Generator) -> None:
    scan = np.zeros((20, 200, 200), np.float32)
    scan[:, 60:160, 60:160] = rng.standard_normal((20, 100, 100))
    scan[3, 100, 100] = np.nan
    blocks = draw_blocks(scan)
    assert blocks
    for block in blocks:
        assert np.isfinite(block.window).all()
        values = block.window[block.core][block.valid]
        assert (values == 0).mean() < 0.05
    with pytest.raises(VolumeError, match="enough voxels"):
        draw_blocks(np.zeros((10, 50, 50)))


def test_blocks_are_spread_and_the_same_every_time(rng: np.random.Generator) -> None:
    scan = rng.standard_normal((60, 300, 300))
    first, again = draw_blocks(scan), draw_blocks(scan)
    assert [b.box for b in first] == [b.box for b in again]
    for axis in (0, 1, 2):
        starts = [b.box[axis].start for b in first]
        assert max(starts) - min(starts) > 0.3 * scan.shape[axis]


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (1, 9, 9), (2, 3, 300)])
def test_small_volumes_give_small_blocks(
    shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    scan = rng.standard_normal(shape)
    if shape == (1, 1):
        with pytest.raises(VolumeError):
            draw_blocks(scan)
        return
    for block in draw_blocks(scan):
        assert all(part.stop <= n for part, n in zip(block.box, shape, strict=True))
        places = np.zeros(block.valid.shape, int)
        for cell in block.cells():
            places[cell] += 1
        assert (places == 1).all()


def test_too_much_noise_measured_does_not_change_the_order() -> None:
    """A blurring filter leaves little noise; a network leaves more without blur."""

    def measured(risk: float, kept: float, passed: float, excess: float) -> CellMeans:
        # The true variance is 1, so the removed part follows from the true risk.
        removed = risk + 1 - 2 * kept
        values = (removed, kept * excess, passed * excess, excess)
        return CellMeans(*(np.full(4, v) for v in values), np.full(4, 100.0))

    for excess in (1.0, 1.05, 1.15):
        network = measured(0.036, 0.034, 0.036, excess)
        blur = measured(0.050, 0.045, 0.012, excess)
        scale = common_scale([network, blur])
        found = [estimate(cells, (0.9, 1.1), scale) for cells in (network, blur)]
        assert found[0].risk < found[1].risk
        assert found[0].gain - found[1].gain > 0.8
        for each in found:
            assert each.interval[0] <= each.gain <= each.interval[1]
    assert common_scale([]) == 1.0
    assert scale == pytest.approx(1 / 1.15, rel=0.03)


def test_an_unstable_network_does_not_limit_the_noise() -> None:
    """The response to a small probe exceeds the removed part; the noise is as measured.

    Measured on bone with 40 % noise correlated along all axes: `foam-denoise`, which
    was not made for such noise, and `ct-denoise`.
    """

    def measured(removed: float, kept: float, passed: float) -> CellMeans:
        values = (np.full(6, v) for v in (removed, kept, passed, 1.0, 100.0))
        return CellMeans(*values)

    unstable = measured(0.482, 0.674, 1.361)
    stable = measured(0.923, 0.090, 0.075)
    assert common_scale([unstable, stable]) == 1.0
    assert estimate(stable).gain == pytest.approx(9.9, abs=0.2)
    assert estimate(unstable).gain == pytest.approx(0.8, abs=0.1)
    keeping = measured(0.193, 0.711, 0.689)  # porous-denoise on cement
    assert common_scale([keeping, stable]) == 1.0
    smoothing = measured(0.6, 0.15, 0.1)
    assert common_scale([smoothing]) == pytest.approx(0.6 / 0.75)


def test_correlated_noise_of_an_image_is_expected_to_be_stronger() -> None:
    """An image of HeLa cells with 20 % noise, measured 15 % too low.

    Non-local means removes less noise than `fluo-denoise`, which is 2.2 dB better.
    """

    def measured(removed: float, kept: float, passed: float) -> CellMeans:
        values = (np.full(6, v) for v in (removed, kept, passed, 1.0, 100.0))
        return CellMeans(*values)

    weak, strong = measured(0.657, 0.361, 0.211), measured(1.102, 0.172, 0.145)
    lags = {"y": 0.65, "x": 0.65}
    image = Noise(level=1.0, contrast=5.0, correlation=lags)
    volume = Noise(level=1.0, contrast=5.0, correlation={"z": 0.6} | lags)
    white = Noise(level=1.0, contrast=5.0, correlation={"y": 0.0, "x": 0.0})
    assert expected_scale(volume) == expected_scale(white) == 1.0
    assert estimate(strong).gain < estimate(weak).gain - 0.5
    scale = common_scale([weak, strong], expected_scale(image))
    assert scale == expected_scale(image) > 1
    gains = [estimate(each, scale=scale).gain for each in (weak, strong)]
    assert gains[1] > gains[0] - 0.35
    smoothing = measured(0.6, 0.15, 0.1)
    assert common_scale([smoothing, weak], scale) == pytest.approx(0.6 / 0.75)
