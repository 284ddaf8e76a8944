"""Assessment of a super-resolution model on a scan before a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from napari_geosr import networks
from napari_geosr.core.errors import ModelError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.models import zoo
from napari_geosr.operations.restore.upscaling.trial import ScanTrial
from napari_geosr.operations.restore.upscaling.upscaling_verdict import (
    UpscalingVerdict,
    _positive,
    upscaling_verdict,
)
from napari_geosr.physics.noise import reconstruction_noise


def scan_of(shape=(40, 40, 40), level=0.0) -> Volume:
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 3, mode="wrap")
    data = ndimage.gaussian_filter((smooth > 0).astype(np.float32), 0.7)
    return Volume(data + level * rng.normal(size=shape).astype(np.float32), "ZYX")


def test_it_gives_a_gain_and_an_interval_around_it():
    noise = Noise(level=0.1, contrast=1.0)
    found = upscaling_verdict(scan_of(level=0.1), zoo.find("foam-sr-x2"), noise)
    assert found.interval[0] < found.gain < found.interval[1]
    assert f"{found.gain:+.1f} dB" in found.sentence
    assert found.to_json_dict()["doubtful"] is found.is_doubtful


def test_interpolation_gains_nothing_over_itself():
    found = upscaling_verdict(
        scan_of(), zoo.find("cubic-x2"), Noise(level=0.05, contrast=1.0)
    )
    assert found.gain == pytest.approx(0, abs=1e-3)


def test_a_network_of_noise_is_expected_to_be_worse(monkeypatch):
    import torch
    from torch import nn

    class Wild(nn.Module):
        spec = zoo.find("foam-sr-x2").network().spec

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            fine = x
            for axis in (2, 3, 4):
                fine = fine.repeat_interleave(2, dim=axis)
            generator = torch.Generator().manual_seed(1)
            return fine + torch.randn(fine.shape, generator=generator)

    model = zoo.find("foam-sr-x2")
    monkeypatch.setattr(model, "restorer", lambda: Wild().eval())
    found = upscaling_verdict(scan_of(), model, Noise(level=0.0, contrast=1.0))
    assert found.gain < -5
    assert "Choose interpolation" in found.sentence


def blurred(width: float, rng: np.random.Generator) -> np.ndarray:
    white = rng.standard_normal((64, 64, 64))
    noise = ndimage.gaussian_filter(white, width, mode="wrap")
    return noise / noise.std() if width else noise


def noise_and_scan(kind: str) -> tuple[Noise, np.ndarray]:
    """Noise of level 0.2 for a scan without structure, independent of the trial."""
    rng = np.random.default_rng(1)
    white, cutoff = 0.0, None
    if kind == "white":
        unit, white = blurred(0, rng), 1.0
    elif kind == "blurred":
        unit = blurred(0.75, rng)
    elif kind == "mixed":
        unit = np.sqrt(0.5) * (blurred(1.0, rng) + blurred(0, rng))
        white = 0.5
    else:
        unit, cutoff = reconstruction_noise((64, 64, 64), 1.0, rng), 1.0
    lags = {
        axis: float((moved[1:] * moved[:-1]).mean() / unit.var())
        for axis, moved in ((a, np.moveaxis(unit, i, 0)) for i, a in enumerate("zyx"))
    }
    noise = Noise(0.2, 1.0, correlation=lags, white=white, cutoff=cutoff)
    return noise, (0.2 * unit).astype(np.float32)


@pytest.mark.parametrize("kind", ["white", "blurred", "mixed", "reconstructed"])
@pytest.mark.parametrize("model", ["foam-sr-x2", "foam-sr-x4"])
def test_input_and_reference_have_independent_noise(model, kind):
    noise, scan = noise_and_scan(kind)
    trial = ScanTrial(zoo.find(model), Volume(scan, "ZYX"), noise, "auto")
    rng = np.random.default_rng(2)
    own, coarse = trial.draw((slice(0, 64),) * 3, rng)
    assert own.network_input.std() == pytest.approx(trial.own_noise.level, rel=0.1)
    seen = coarse.network_input
    assert seen.std() == pytest.approx(trial.coarse_noise.level, rel=0.05)
    if trial.variance_share < 0.8:  # as noisy as the scan
        assert trial.coarse_noise.level == pytest.approx(0.2)
    for axis, name in enumerate("zyx"):  # but less correlated
        moved = np.moveaxis(seen, axis, 0)
        lag = float((moved[1:] * moved[:-1]).mean() / seen.var())
        assert lag == pytest.approx(trial.coarse_noise.correlation[name], abs=0.06)
    means = trial.averaged(coarse.reference)
    # The part on the scan's own scale is smaller by the upscale factor along each axis.
    for part, compared, tolerance in (
        (own, own.reference, 0.15),
        (coarse, means, 0.06),
    ):
        assert part.reference.var() == pytest.approx(part.noise, rel=tolerance)
        together = np.corrcoef(part.network_input.ravel(), compared.ravel())[0, 1]
        assert abs(together) < tolerance
    assert means.var() == pytest.approx(trial.variance_share * coarse.noise, rel=0.06)
    # Noise has no detail.
    assert all(abs(v) < 0.05 * coarse.noise for v in trial.detail(coarse))


@pytest.mark.parametrize("keep", [False, True])
def test_the_sharpness_of_the_run_is_tested(keep, monkeypatch):
    """And not that of another measurement; on the coarser scale, that of the scan."""
    measured = networks.Sharpness(0.4, keep)
    seen = []
    errors = ScanTrial.errors

    def watched(trial, part):
        seen.append((trial.network.sharpness, trial.blur))
        return errors(trial, part)

    monkeypatch.setattr(ScanTrial, "errors", watched)
    noise = Noise(level=0.2, contrast=1.0, interval=(0.19, 0.21))
    model = zoo.find("foam-sr-x2")
    found = upscaling_verdict(scan_of(level=0.2), model, noise, measured=measured)
    half = len(seen) // 2
    assert seen[:half] == [(measured, 0.4 if keep else 0.0)] * half
    assert not any(sharp.keep or blur for sharp, blur in seen[half:])
    assert found.is_as_object == keep
    assert found.to_json_dict()["as_sharp_as"] == ("object" if keep else "scan")


def test_a_sharp_result_is_compared_after_the_blur_of_the_scan():
    """A perfect one has no error, although its averages differ from the scan."""
    rng = np.random.default_rng(3)
    noise = Noise(level=1e-3, contrast=1.0)
    scan = Volume(rng.random((32, 32, 32), np.float32), "ZYX")
    trial = ScanTrial(zoo.find("foam-sr-x2"), scan, noise, "object")
    fine = ndimage.gaussian_filter(rng.random((32, 32, 32)), 2).astype(np.float32)
    blurred = ndimage.gaussian_filter(fine, 1.0, mode="nearest")
    expected = trial.averaged(blurred)
    inner = (slice(4, -4),) * 3
    seen = trial.seen(fine, 0.5)
    np.testing.assert_allclose(seen[inner], expected[inner], atol=1e-4)
    np.testing.assert_array_equal(trial.seen(fine, 0.0), trial.averaged(fine))
    assert np.abs(trial.averaged(fine) - expected)[inner].max() > 1e-3


def test_sentences():
    good = UpscalingVerdict(2.0, (0.8, 3.2), 0.4, (0.25, 0.7), 4)
    worse = UpscalingVerdict(-0.4, (-2.4, 3.2), 0.4, (0.25, 0.7), 4)
    assert worse.is_doubtful
    assert "Choose interpolation" in worse.sentence
    assert not good.is_doubtful
    assert "+2.0 dB" in good.sentence
    unsure = UpscalingVerdict(0.3, (-0.8, 1.3), 0.4, (0.25, 0.7), 4)
    assert not unsure.is_doubtful
    assert "no better" in unsure.sentence
    soft = UpscalingVerdict(2.0, (0.8, 3.2), 0.9, (0.25, 0.7), 4)
    assert "softer than" in soft.sentence
    assert "about 0.9 voxels (standard deviation)" in soft.sentence
    # 0.0 voxels would be meaningless
    for excess, says in ((0.004, False), (0.11, True)):
        sharp = UpscalingVerdict(2.0, (0.8, 3.2), excess, (0.25, 0.7), 4)
        assert ("sharper than" in sharp.sentence) == says


def test_what_cannot_be_judged_is_refused():
    noise = Noise(level=0.0, contrast=1.0)
    with pytest.raises(ModelError, match="does not upscale"):
        upscaling_verdict(scan_of(), zoo.find("ct-denoise"), noise)
    with pytest.raises(VolumeError, match="too small: .* Restore a larger part"):
        upscaling_verdict(scan_of((8, 40, 40)), zoo.find("foam-sr-x2"), noise)
    flat = Volume(np.zeros((40, 40, 40), np.float32), "ZYX")
    with pytest.raises(VolumeError, match="no region that shows structure"):
        upscaling_verdict(flat, zoo.find("foam-sr-x2"), noise)


def test_images_are_judged_in_the_plane():
    plane = Volume(np.asarray(scan_of((3, 64, 64)).data)[1], "YX")
    found = upscaling_verdict(
        plane, zoo.find("fluo-sr-x2"), Noise(level=0.0, contrast=1.0)
    )
    assert np.isfinite(found.gain)


def test_an_uncertain_noise_level_widens_the_interval():
    volume, model = scan_of(level=0.4), zoo.find("foam-sr-x2")
    sure, unsure = (
        upscaling_verdict(
            volume, model, Noise(level=0.4, contrast=1.0, interval=interval)
        )
        for interval in ((0.4, 0.4), (0.3, 0.5))
    )
    assert unsure.interval[0] < sure.interval[0] - 0.5
    assert unsure.gain <= sure.gain
    # Regions with far more noise do not make the gain uncertain downwards.
    above = Noise(level=0.4, contrast=1.0, interval=(0.4, 1.6))
    more = upscaling_verdict(volume, model, above)
    assert more.gain == pytest.approx(sure.gain, abs=1e-6)
    assert more.interval[0] == pytest.approx(sure.interval[0], abs=1e-6)
    assert more.interval[1] >= sure.interval[1]


@given(value=st.floats(-1e3, 1e3), deviation=st.floats(1e-3, 1e3))
def test_the_expectation_of_a_positive_error(value: float, deviation: float):
    """That of a truncated normal distribution, as scipy computes it."""
    found = _positive(value, deviation)
    assert found > 0 or value < -5 * deviation
    if -5 < value / deviation < 30:
        low = -value / deviation
        expected = stats.truncnorm.mean(low, np.inf, loc=value, scale=deviation)
        assert found == pytest.approx(expected, rel=1e-3)
    assert _positive(value, 0.0) == max(value, 0.0)


@pytest.mark.parametrize(
    ("porosities", "is_told"),
    [(None, False), ((0.155, 0.165), False), ((0.155, 0.174), True)],
)
def test_a_porosity_that_depends_on_the_method_is_told(porosities, is_told):
    found = UpscalingVerdict(3.0, (1.0, 6.0), 0.4, None, 4, porosities=porosities)
    assert ("15.5 %" in found.porosity_sentence) == is_told
    plain = replace(found, interpolation="spline-x2")
    assert not plain.porosity_sentence
    json = found.to_json_dict()
    assert json["porosity"] == (porosities and porosities[0])


def test_the_porosity_of_parts_is_that_of_the_object(rng):
    balls = np.ones((40, 40, 40), np.float32)
    z, y, x = np.indices(balls.shape)
    for centre in ((10, 10, 10), (28, 28, 12), (12, 28, 28), (28, 12, 28)):
        parts = zip((z, y, x), centre, strict=True)
        balls[sum((a - c) ** 2 for a, c in parts) < 49] = 0
    noise = Noise(level=0.05, contrast=1.0)
    scan = Volume(balls + rng.normal(0, 0.05, balls.shape).astype(np.float32), "ZYX")
    found = upscaling_verdict(scan, zoo.find("ct-sr-x2"), noise)
    model, cubic = found.porosities
    assert 0.02 < cubic < 0.5
    assert model == pytest.approx(cubic, abs=0.015)
