"""Wrong optics, hot pixels and padding are noticed before a reconstruction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.sim_frames import Optics
from napari_geosr.core.steps import NoteIssued, WarningIssued, run_to_end
from napari_geosr.operations.sim import FramesConfig, angle_fits, estimate_steps
from napari_geosr.operations.sim.agreement import (
    agreeing_fits,
    cut_off_remark,
    disagreement_remarks,
)
from napari_geosr.operations.sim.inputs import camera_offsets, frames_of
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.physics.illumination.simulation import SimScene, scene_patterns
from napari_geosr.sim.cut_off import CutOffCheck, check_cut_off
from napari_geosr.sim.noise import frame_noise
from napari_geosr.sim.outliers import without_outliers
from napari_geosr.sim.pattern_problems import missing_pattern
from napari_geosr.sim.patterns import fit_fringe
from sim.sim_scenes import OPTICS, frames_of_scene, scene, volume_of

CONFIG = FramesConfig()
CUT_OFF = 0.37


def warned(frames):
    """The patterns of the frames, and the warnings."""
    seen = []
    found = run_to_end(estimate_steps(frames, CONFIG), seen.append)
    return found, [step.message for step in seen if isinstance(step, WarningIssued)]


def with_pixel(made, values, frame=slice(None)):
    """The frames, with one pixel replaced."""
    frames = made.frames.copy().reshape(9, *made.frames.shape[-2:])
    frames[frame, 60, 41] = values
    return replace(made, frames=frames.reshape(made.frames.shape))


def stated(factor):
    """Optics with this multiple of the true cut-off."""
    return Optics(1.4, (OPTICS.wavelengths[0] / factor,), 1.515)


@pytest.fixture(scope="module")
def fits():
    """Correct fits of three angles, and a function that searches at a frequency."""
    made = scene("er", snr=20, size=96)
    block, otf = made.frames - np.float32(100), Otf(CUT_OFF)
    noise = frame_noise(block, otf).variance

    def search(angle, frequency=None):
        return fit_fringe(block[angle], otf, noise=noise, frequency=frequency)

    return [search(angle) for angle in range(3)], search


def with_frequency(fit, factor, **changes):
    k = tuple(factor * v for v in fit.pattern.wave_vector)
    return replace(fit, pattern=replace(fit.pattern, wave_vector=k), **changes)


@pytest.mark.parametrize(
    "changes", [{}, {"problem": "no pattern found", "is_missing": True}]
)
def test_patterns_are_searched_at_the_period_of_the_other_angles(fits, changes):
    right, search = fits
    wrong = with_frequency(right[2], 0.94, **changes)
    found = agreeing_fits([*right[:2], wrong], search)[2]
    assert not found.problem
    expected = right[2].pattern.wave_vector
    assert found.pattern.wave_vector == pytest.approx(expected, abs=1e-4)
    much_clearer = replace(wrong, confidence=2 * right[2].confidence)
    assert agreeing_fits([*right[:2], much_clearer], search)[2] is much_clearer
    assert agreeing_fits(right, lambda *_: pytest.fail("searched again")) == right


def test_a_cut_off_that_is_too_low_does_not_yield_one_wrong_angle():
    """At the edge of the searched frequencies, another peak was higher in one angle."""
    made = scene("filaments", snr=20)
    found, said = warned(frames_of_scene(made, optics=stated(0.75)))
    assert not found.problems
    for fringe, true in zip(found.patterns.fringes, made.patterns.fringes, strict=True):
        assert fringe.frequency == pytest.approx(true.frequency, rel=2e-3)
    assert ["contain detail finer" in text for text in said] == [True]


def test_angles_that_disagree_are_reported(fits, monkeypatch):
    right, _ = fits
    frames = frames_of_scene(scene("er", snr=20, size=96))
    assert disagreement_remarks(right, frames) == []
    stretched = with_frequency(right[1], 1.01)  # a stage or camera that is not square
    assert disagreement_remarks([right[0], stretched, right[2]], frames) == []
    shorter = with_frequency(right[2], 1.06)
    period, advice = disagreement_remarks([*right[:2], shorter], frames)
    assert "Angle 3: the period of the pattern is 0.195 µm, but that" in period
    assert "0.207 µm" in period
    assert "--na, --wavelength, --pixel" in advice
    weak = replace(right[2], pattern=replace(right[2].pattern, modulation=(0.38,)))
    modulation, _ = disagreement_remarks([*right[:2], weak], frames)
    assert "Angle 3: the modulation is only 0.38, but that of the other" in modulation
    monkeypatch.setattr(angle_fits, "agreeing_fits", lambda *_: [*right[:2], weak])
    _, said = warned(frames)
    assert said == [f"{modulation} {advice}"]


@pytest.mark.parametrize("structure", ["filaments", "rings", "er", "spots"])
def test_wrong_cut_offs_are_noticed(structure):
    for snr in (5, 20, 50):
        block = scene(structure, snr=snr, size=128).frames - 100
        right = check_cut_off(block, Otf(CUT_OFF))
        assert not right.is_too_low
        assert not right.is_too_high
        if snr > 5:
            assert check_cut_off(block, Otf(0.78 * CUT_OFF)).is_too_low
            found = check_cut_off(block, Otf(1.4 * CUT_OFF))
            # The spectrum of small rings decreases as steeply as that of soft edges.
            assert found.is_too_high == (structure != "rings" or snr > 20)


def nuclei(softness: float, seed: int, snr: float = 50, size: int = 128) -> np.ndarray:
    """Frames of ellipses with logistic edges; softness in camera pixels."""
    setting = SimScene(size=size, snr=snr)
    patterns = scene_patterns(setting, np.random.default_rng(0))
    forward = IlluminationOperator.create(patterns, Otf(CUT_OFF), 4)
    shape = forward.grid.fine
    y, x = np.mgrid[: shape[0], : shape[1]]
    rng = np.random.default_rng(seed)
    image = np.zeros(shape)
    for _ in range(12):
        a, b = rng.random(2) * shape
        high, wide = 40 * (0.6 + 0.8 * rng.random(2))
        radius = np.hypot((y - a) / high, (x - b) / wide)
        image += expit((1 - radius) * high / (4 * softness))
    light = forward.forward(torch.from_numpy(image.astype(np.float32))).numpy()
    photons = np.maximum(light, 0) * snr**2 / np.percentile(light, 99)
    frames = 2.0 * np.random.default_rng(seed).poisson(photons)
    return frames.reshape(3, 3, size, size).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 1])
def test_smooth_samples_do_not_contradict_the_optics(seed):
    """Detail in nuclei with soft edges decreases faster than in other samples."""
    assert check_cut_off(nuclei(1.0, seed), Otf(CUT_OFF)) == CutOffCheck()


@pytest.mark.parametrize("shape", [(1, 128), (128, 1)], ids=["columns", "rows"])
def test_noise_of_columns_is_no_fine_detail(shape):
    """It is the same in all frames, like detail."""
    block = scene("er", snr=20).frames - 100
    noise = np.sqrt(block.max()) * np.random.default_rng(9).standard_normal(shape)
    assert check_cut_off(block + noise, Otf(CUT_OFF)) == CutOffCheck()


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1.0, None),
        (0.78, "contain detail finer than 0.225"),
        (1.4, "or the sample has no"),
    ],
)
def test_optics_that_contradict_the_frames_cause_a_warning(factor, words):
    made = scene("er", snr=20)
    _, said = warned(frames_of_scene(made, optics=stated(factor)))
    assert len(said) == (words is not None)
    if words is not None:
        assert words in said[0]
        assert "(--na, --wavelength, --pixel)" in said[0]


def test_refusal_because_of_wrong_optics_names_them():
    made = scene("er", snr=20)
    found, _ = warned(frames_of_scene(made, optics=stated(0.6)))
    with pytest.raises(
        ConfigError, match=r"Periods from 0\.26\d µm to 0\.58\d µm"
    ) as e:
        found.require()
    assert "check the numerical aperture, wavelength and pixel size" in str(e.value)


def test_refusals_name_the_limit_that_was_missed(fits):
    pattern = fits[0][0].pattern
    assert missing_pattern(pattern, 6.0) == ""
    assert missing_pattern(pattern, 5.97) == (
        "no pattern found; confidence 5.9 (at least 6 is needed)."
    )
    faint = replace(pattern, modulation=(0.0496,))
    assert missing_pattern(faint, 58.4) == (
        "no pattern found; modulation 0.04 (at least 0.05 is needed)."
    )
    assert "confidence 2.0 (at least 6 is needed), modulation" in missing_pattern(
        faint, 2.0
    )


def test_scale_of_grey_values_does_not_matter(fits):
    """Squares of very large values overflowed."""
    made = scene("er", snr=20, size=96)
    block, otf = (made.frames[0] - np.float32(100)) * np.float32(1e8), Otf(CUT_OFF)
    found = fit_fringe(block, otf)
    assert found.confidence == pytest.approx(fits[0][0].confidence, rel=1e-3)


@pytest.mark.parametrize("frame", [4, slice(None)], ids=["cosmic ray", "hot pixel"])
def test_hot_pixels_are_named_and_ignored(frame):
    made = scene("er", snr=20)
    clean, _ = warned(frames_of_scene(made))
    frames = frames_of_scene(with_pixel(made, 60000, frame), offset=100.0)
    found, said = warned(frames)
    assert not found.problems
    for one, other in zip(clean.fits, found.fits, strict=True):
        assert other.confidence == pytest.approx(one.confidence, rel=0.05)
    assert found.noise.variance == pytest.approx(clean.noise.variance, rel=0.05)
    (message,) = [text for text in said if "y = 60, x = 41" in text]
    where = "angle 2, phase 2" if frame == 4 else "9 frames"
    assert f"{where}. No objective can produce" in message
    assert found.block.max() == 60000 - 100  # the result still contains it


@pytest.mark.parametrize("structure", ["filaments", "rings", "er", "spots"])
def test_structures_are_no_outliers(structure):
    for snr, seed in ((5, 1), (5, 2), (50, 0), (0, 0)):
        made = scene(structure, snr=snr, seed=seed)
        block = (made.frames - 100).astype(np.float32)
        same, found = without_outliers(block, Otf(CUT_OFF))
        assert found == ()
        assert same is block


@pytest.mark.parametrize("structure", ["filaments", "spots"])
@pytest.mark.parametrize("value", [0, 60])
def test_padding_is_not_the_camera_offset(structure, value):
    made = scene(structure, snr=20)
    (expected,) = camera_offsets(frames_of_scene(made, offset=0.0))
    padded = made.frames.copy()
    padded[..., :20] = value
    padded[..., :5, :] = value
    frames = frames_of_scene(replace(made, frames=padded), offset=0.0)
    assert camera_offsets(frames) == pytest.approx((expected,), abs=3)
    assert cut_off_remark(frames.frames(), Otf(CUT_OFF), frames) == ""


def test_clipped_structures_are_no_fine_detail():
    made = scene("spots", snr=20)
    top = np.percentile(made.frames, 99.5)
    frames = frames_of_scene(replace(made, frames=np.minimum(made.frames, top)))
    assert check_cut_off(frames.frames(), Otf(CUT_OFF)).is_too_low
    assert cut_off_remark(frames.frames(), Otf(CUT_OFF), frames) == ""


def test_dark_background_is_the_camera_offset():
    """Without noise, the background around sparse beads is constant."""
    y, x = np.mgrid[:64, :64]
    image = sum(
        2000 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 1.5)
        for a, b in ((20, 14), (40, 50))
    )
    made = scene("spots", snr=20, size=64)
    frames = np.broadcast_to(np.rint(image) + 100, made.frames.shape)
    beads = replace(made, frames=frames.astype(np.float32))
    assert camera_offsets(frames_of_scene(beads, offset=0.0)) == (100.0,)


@pytest.mark.parametrize("has_dark_area", [False, True])
def test_an_offset_that_cannot_be_estimated_is_reported_once(has_dark_area):
    made = scene("er", snr=50, size=160, haze=1)
    data = made.frames.copy()
    if has_dark_area:
        rng = np.random.default_rng(0)
        data[..., :40, :40] = 100 + rng.normal(0, 1, data[..., :40, :40].shape)
    volume = volume_of(replace(made, frames=data))
    config = FramesConfig(na=1.4, wavelength=OPTICS.wavelengths[0], order="apz")
    _, said = warned(frames_of(volume, config))
    offset = [
        message for message in said if "No large area of the frames is dark" in message
    ]
    assert len(offset) == (not has_dark_area)
    given = frames_of(volume, config.model_copy(update={"offset": 100.0}))
    assert not any("No large area" in message for message in warned(given)[1])


@pytest.mark.parametrize("read_noise", [0.0, 1.6])
def test_a_possible_error_of_the_offset_is_a_note(read_noise):
    """Read noise raises the limit, but not the error: a warning would be wrong."""
    made = scene("er", snr=10, size=128, read_noise=read_noise)
    seen = []
    config = FramesConfig(na=1.4, wavelength=OPTICS.wavelengths[0], order="apz")
    run_to_end(estimate_steps(frames_of(volume_of(made), config), config), seen.append)
    said = [s for s in seen if isinstance(s, WarningIssued) and "offset" in s.message]
    assert [type(each) for each in said] == [NoteIssued]
    assert "by less if the camera has read noise" in said[0].message
