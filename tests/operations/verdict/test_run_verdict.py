"""Verdict before a run: noise, expected gain, and what would be removed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_geosr.core.errors import Cancelled, ConfigError, ModelError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import VerdictReached, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io import read_file
from napari_geosr.models.bundle import Model
from napari_geosr.operations.restore import (
    PreparedRestoration,
    RestoreConfig,
    prepare_steps,
    preview_steps,
    restore_average_steps,
    restore_steps,
    with_strength,
)
from napari_geosr.operations.restore.upscaling.result import UpscalingVerdict
from napari_geosr.operations.restore.verdict import rules
from napari_geosr.operations.restore.verdict import steps as verdicts
from napari_geosr.operations.restore.verdict.pore_counts import count_pores
from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict
from napari_geosr.operations.restore.verdict.steps import (
    removed_steps,
    reported_verdict_steps,
    verdict_steps,
)
from napari_geosr.physics.correlated_noise import noise_like

BONE = Path(__file__).parents[4] / "shared/data/ct_volumes/bone_128x128x128.tif"
SHAPE = (10, 72, 72)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """Dark pores with soft edges in a bright solid, contrast about 100."""
    rng = np.random.default_rng(3)
    grid = np.indices(SHAPE)
    data = np.full(SHAPE, 100.0)
    for _ in range(16):
        centre = rng.uniform((0, 0, 0), SHAPE)[:, None, None, None]
        data[np.square(grid - centre).sum(axis=0) < rng.uniform(3, 7) ** 2] = 0
    gradient = np.linspace(0, 4, SHAPE[-1])
    return (ndimage.gaussian_filter(data, 0.8) + gradient).astype(np.float32)


def noisy(clean: np.ndarray, level: float, seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    data = clean + rng.normal(0, level, clean.shape).astype(np.float32)
    return Volume(data, "ZYX", (2.0, 2.0, 2.0), "µm", (1.0, 2.0, 3.0), name="scan")


def known(level: float) -> Noise:
    flat = {"z": 0.0, "y": 0.0, "x": 0.0}
    return Noise(level, 100.0, correlation=flat, interval=(0.9 * level, 1.1 * level))


def prepared(
    volume: Volume, model: str = "foam-denoise", **more
) -> PreparedRestoration:
    config = RestoreConfig(model=model, device="cpu", threads=1)
    return run_to_end(prepare_steps(volume, config, **more))


def unbounded(ready: PreparedRestoration) -> PreparedRestoration:
    """The same network without the noise bound."""
    card = ready.model.card.model_copy(update={"noise_bound": None})
    free = Model(card, ready.model.path)
    return replace(ready, model=free, network=free.network())


def test_the_expected_gain_is_about_the_true_one(clean):
    volume = noisy(clean, 20)
    ready = prepared(volume, noise=known(20))
    verdict = run_to_end(verdict_steps(ready))
    whole = tuple(slice(0, n) for n in volume.shape)
    result = run_to_end(preview_steps(ready, whole)).data
    errors = [np.square(data - clean).mean() for data in (volume.data, result)]
    true = 10 * np.log10(errors[0] / errors[1])
    gain, low, high = verdict.gain
    assert gain == pytest.approx(true, abs=2)
    assert low - 1 < true < high + 1
    assert not verdict.is_harmful
    assert verdict.level == "ok"
    assert verdict.sentence.startswith("Noise 20 % of the contrast, expected gain +")


@pytest.mark.parametrize("level", [0.0, 1.5])
def test_a_network_that_would_remove_structure_is_harmful(clean, level):
    """Trained with noise of at least 8 % of the contrast, it mistakes clean structure
    for noise.
    """
    free = unbounded(prepared(noisy(clean, level), noise=known(level)))
    verdict = run_to_end(verdict_steps(free, noise=known(level)))
    assert verdict.is_harmful
    said = "hardly any noise" if level == 0 else "make this scan worse"
    assert said in verdict.sentence
    assert verdict.noise.level == level


def test_a_bounded_model_gives_a_clean_scan_back_and_says_so(clean):
    none = known(0.0)
    verdict = run_to_end(verdict_steps(prepared(noisy(clean, 0), noise=none)))
    assert not verdict.is_harmful
    assert "the result will be identical to the scan" in verdict.sentence
    assert verdict.figures["change"] < 1e-5


def test_noise_out_of_the_trained_range_is_said(clean):
    volume = noisy(clean, 20)
    ready = prepared(volume, noise=known(20))
    training = ready.model.card.training.model_copy(update={"noise": (0.0, 0.1)})
    card = ready.model.card.model_copy(update={"training": training})
    narrow = replace(ready, model=Model(card, ready.model.path))
    verdict = run_to_end(verdict_steps(narrow))
    assert verdict.level != "ok"
    assert "was trained only on noise of up to 10 %" in verdict.words


def test_voxels_that_no_such_microscope_has_are_said(clean):
    volume = noisy(clean, 20).replace(voxel_size=(80.0, 80.0, 80.0))
    ready = prepared(volume, "fluo-denoise", noise=known(20))
    verdict = run_to_end(verdict_steps(ready, noise=known(20)))
    assert verdict.level != "ok"
    assert "is for Fluorescence" in verdict.words


def test_what_is_removed_lies_in_its_place(clean):
    ready = prepared(noisy(clean, 10), noise=known(10))
    region = (slice(4, 6), slice(8, 40), slice(16, 60))
    removed = run_to_end(removed_steps(ready, region))
    assert removed.shape == (2, 32, 44)
    assert removed.origin == (9.0, 18.0, 35.0)
    assert removed.voxel_size == ready.volume.voxel_size
    result = run_to_end(preview_steps(ready, region)).data
    np.testing.assert_allclose(removed.data + result, ready.volume.data[region], 1e-4)
    verdict = run_to_end(verdict_steps(ready, region))
    np.testing.assert_array_equal(verdict.removed.data, removed.data)


def test_of_a_finer_result_the_mean_is_held_against_the_scan(clean):
    ready = prepared(noisy(clean, 5), "foam-sr-x2")
    region = (slice(4, 6), slice(8, 24), slice(16, 30))
    removed = run_to_end(removed_steps(ready, region))
    assert removed.shape == (2, 16, 14)
    verdict = run_to_end(verdict_steps(ready, noise=known(5)))
    assert verdict.gain_over == "cubic"
    assert "removed_over_noise" in verdict.figures


def test_an_image_is_looked_at_as_a_volume_is(clean):
    plane = noisy(clean, 20)
    plane = Volume(plane.data[5], "YX", (2.0, 2.0), "µm", name="plane")
    verdict = run_to_end(verdict_steps(prepared(plane, noise=known(20))))
    assert verdict.gain[0] > 2


def test_strict_refuses_harm_before_anything_is_written(clean, tmp_path, monkeypatch):
    monkeypatch.setattr(Model, "restorer", Model.network)
    config = RestoreConfig(model="foam-denoise", device="cpu", threads=1)
    out = tmp_path / "out.tif"
    steps = restore_steps(noisy(clean, 0), config, out=out, strict=True)
    with pytest.raises(ModelError, match="nothing was written.*Leave the scan"):
        run_to_end(steps)
    assert list(tmp_path.iterdir()) == []
    told = []
    steps = restore_steps(noisy(clean, 0), config, out=out, look=True)
    restored = run_to_end(steps, told.append)
    assert out.exists()
    assert restored.verdict.is_harmful
    warned = [step.message for step in told if isinstance(step, WarningIssued)]
    assert any(restored.verdict.sentence in message for message in warned)
    record = restored.volume.provenance[-1]["verdict"]
    assert record["level"] == "harmful"


def test_strict_judges_every_input_of_an_average(clean, tmp_path, monkeypatch):
    monkeypatch.setattr(Model, "restorer", Model.network)
    config = RestoreConfig(model="foam-denoise", device="cpu", threads=1)
    out = tmp_path / "out.tif"
    given = [noisy(clean, 20), noisy(clean, 0).replace(name="clean one")]
    steps = restore_average_steps(given, config, out=out, strict=True)
    with pytest.raises(ModelError, match="clean one. was not restored"):
        run_to_end(steps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("level", "kind", "begins"),
    [
        ("ok", VerdictReached, ""),
        ("caution", WarningIssued, "Caution: "),
        ("harmful", WarningIssued, "Harmful: "),
    ],
)
def test_every_verdict_is_a_result_and_no_stage(
    clean, monkeypatch, level, kind, begins
):
    def examine(*_, **__):
        yield from ()
        return RunVerdict(level, "It removes noise.", ("Small pores may be lost.",))

    monkeypatch.setattr(verdicts, "verdict_steps", examine)
    told = []
    ready = prepared(noisy(clean, 20), noise=known(20))
    run_to_end(reported_verdict_steps(ready), told.append)
    assert told == [kind(message=f"{begins}It removes noise. Small pores may be lost.")]


def test_looking_can_be_cancelled(clean):
    ready = prepared(noisy(clean, 20), noise=known(20))
    with pytest.raises(Cancelled):
        run_to_end(verdict_steps(ready, should_stop=lambda: True))


def test_another_strength_needs_no_preparation(clean):
    ready = prepared(noisy(clean, 20), noise=known(20))
    region = (slice(4, 5), slice(0, 40), slice(0, 40))
    before = run_to_end(preview_steps(ready, region)).data
    none = run_to_end(preview_steps(with_strength(ready, 0.0), region)).data
    np.testing.assert_allclose(none, ready.volume.data[region], atol=1e-3)
    np.testing.assert_array_equal(run_to_end(preview_steps(ready, region)).data, before)
    again = with_strength(with_strength(ready, 0.0), 1.0)
    np.testing.assert_allclose(
        run_to_end(preview_steps(again, region)).data, before, atol=1e-4
    )
    with pytest.raises(ConfigError):
        with_strength(ready, 3.0)
    with pytest.raises(ConfigError, match="does not use the noise level"):
        with_strength(unbounded(ready), 0.5)


@pytest.mark.skipif(not BONE.exists(), reason="the shared real volumes are not here")
def test_real_bone_is_left_alone_unless_it_is_noisy():
    bone = tifffile.imread(BONE)[40:52, :96, :96].astype(np.float32)
    free = unbounded(prepared(Volume(bone, "ZYX", name="bone")))
    verdict = run_to_end(verdict_steps(free))
    assert verdict.is_harmful
    assert verdict.noise.is_negligible
    rng = np.random.default_rng(0)
    added = bone + rng.normal(0, 40, bone.shape).astype(np.float32)
    free = unbounded(prepared(Volume(added, "ZYX", name="bone")))
    verdict = run_to_end(verdict_steps(free))
    assert not verdict.is_harmful
    assert verdict.gain[0] > 4


@pytest.mark.skipif(not BONE.exists(), reason="the shared real volumes are not here")
def test_specks_of_noise_are_no_pores_that_the_scan_shows():
    """Six of nine dark objects with about 81 voxels are noise; no pore is lost."""
    bone = tifffile.imread(BONE)[40:72, 16:112, 16:112].astype(np.float32)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=bone.shape), 1)
    scan = Volume(bone + 45 * (noise / noise.std()).astype(np.float32), "ZYX")
    verdict = run_to_end(verdict_steps(prepared(scan, "ct-denoise")))
    assert verdict.figures["found_of_147_voxels"] > 0.9
    assert "lost pores" not in verdict.causes


def test_a_message_with_limits_is_marked(clean):
    told = []
    ready = prepared(noisy(clean, 35), noise=known(35))
    run_to_end(reported_verdict_steps(ready), told.append)
    (said,) = (each for each in told if isinstance(each, VerdictReached))
    assert "annot be counted" in said.message or "Do not count" in said.message
    assert said.has_limits


def test_strict_refuses_to_mix_what_may_be_time_points(clean, tmp_path):
    rng = np.random.default_rng(0)
    frames = [clean[5] + rng.normal(0, 20, clean[5].shape) for _ in range(40)]
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.float32(frames))
    ready = prepared(read_file(path), noise=known(20))
    with pytest.raises(VolumeError, match="would mix time points"):
        run_to_end(reported_verdict_steps(ready, strict=True))
    run_to_end(reported_verdict_steps(ready))


def test_what_changes_nothing_needs_no_inspection(clean):
    noise = Noise(0.0, 100.0, correlation={}, interval=(0.0, 12.0))
    ready = prepared(noisy(clean, 0), "gaussian", noise=noise)
    verdict = run_to_end(verdict_steps(ready))
    assert verdict.level == "ok"
    assert "gaussian returns the scan as it is" in verdict.sentence


@pytest.mark.parametrize("level", [0.0, 2.0, 20.0])
def test_interpolation_is_not_said_to_remove_anything(clean, level):
    ready = prepared(noisy(clean, level), "cubic-x2", noise=known(level))
    verdict = run_to_end(verdict_steps(ready))
    assert verdict.level == "ok"
    assert verdict.words.endswith("it adds no detail, and removes hardly any noise.")


@pytest.mark.parametrize(
    ("level", "along", "loses"), [(4, 0.0, False), (35, 0.5, True)]
)
def test_small_pores_that_the_noise_hides_are_said(clean, level, along, loses):
    noise = replace(known(level), correlation=dict.fromkeys("zyx", along))
    rng = np.random.default_rng(5)
    unit = noise_like(clean.shape, noise.correlation, rng).astype(np.float32)
    volume = noisy(clean, 0).replace(data=clean + level * unit)
    verdict = run_to_end(
        verdict_steps(prepared(volume, "ct-denoise", noise=noise), noise=noise)
    )
    said = "cannot be counted in either the scan or the result" in verdict.words
    assert said == loses
    # The record contains the size as a number, for measurements of the result.
    limits = verdict.to_json_dict()["limits"]
    assert [limit["objects"] for limit in limits] == ["pores"] * loses
    for limit in limits:
        assert limit["voxels"] == verdict.figures["largest_lost_voxels"]
        assert limit["sentence"] in verdict.words
    assert verdict.level == "ok"
    assert verdict.earns_tick == (not loses)
    found = verdict.figures["found_of_33_voxels"]
    assert found < 0.7 if loses else found == 1.0


@pytest.mark.slow
def test_looking_first_changes_nothing_in_the_run():
    rng = np.random.default_rng(2)
    smooth = ndimage.gaussian_filter(rng.normal(size=(20, 48, 48)), 1.5)
    data = 100 * (smooth > 0) + rng.normal(0, 8, smooth.shape)
    ready = prepared(Volume(data.astype(np.float32), "ZYX"), "foam-sr-x2")
    region = (slice(4, 12), slice(8, 40), slice(8, 40))
    before = run_to_end(preview_steps(ready, region)).data
    assert run_to_end(verdict_steps(ready)).gain is not None
    after = run_to_end(preview_steps(ready, region)).data
    np.testing.assert_array_equal(before, after)


@pytest.mark.slow
def test_a_scan_too_small_to_judge_super_resolution_on_is_said(clean):
    ready = prepared(noisy(clean, 10), "foam-sr-x2")
    verdict = run_to_end(verdict_steps(ready))
    assert verdict.level == "caution"
    assert "could not be compared with cubic interpolation" in verdict.words


def test_a_spline_that_cannot_be_compared_is_doubted(clean):
    ready = prepared(noisy(clean, 10), "spline-x2", noise=known(10))
    verdict = run_to_end(verdict_steps(ready))
    assert verdict.level == "caution"
    assert "could not be compared with cubic interpolation" in verdict.words


@pytest.mark.parametrize(("gain", "level"), [(-2.0, "caution"), (0.6, "ok")])
def test_a_spline_on_a_noisy_scan_amplifies_the_noise(clean, monkeypatch, gain, level):
    ready = prepared(noisy(clean, 10), "spline-x2", noise=known(10))
    tested = UpscalingVerdict(
        gain, (gain - 2, gain + 4), 0.0, None, 4, interpolation="spline-x2"
    )
    monkeypatch.setattr(verdicts, "_gain_over_cubic", lambda *_: (tested, ""))
    verdict = run_to_end(verdict_steps(ready))
    assert verdict.level == level
    assert ("Use cubic interpolation" in verdict.words) == (gain < 0)
    assert "amplifies" in verdict.words


def test_noise_that_cannot_be_measured_is_no_clean_scan(clean):
    unknown = Noise(0.0, 100.0, correlation=known(0).correlation, interval=(0.0, 30.0))
    assert not unknown.is_measured
    bounded = prepared(noisy(clean, 20), noise=unknown)
    verdict = run_to_end(verdict_steps(bounded))
    assert "The noise could not be measured" in verdict.sentence
    assert "returns the scan as it is" in verdict.sentence
    assert verdict.level == "ok"
    assert not verdict.earns_tick
    verdict = run_to_end(verdict_steps(unbounded(bounded), noise=unknown))
    assert verdict.level != "ok"
    assert "could not be measured" in verdict.words


def test_an_end_of_the_gain_that_nobody_knows_is_no_infinity_in_json(clean):
    vague = replace(known(20), interval=(0.0, 22.0))
    ready = prepared(noisy(clean, 20), noise=vague)
    verdict = run_to_end(verdict_steps(ready))
    text = json.dumps(verdict.to_json_dict(), allow_nan=False)
    assert "null" in text
    assert "inf" not in verdict.words


def test_bright_spots_are_counted_where_most_is_dark():
    dark = np.zeros((12, 48, 48))
    all_voxels = np.ones(dark.shape, bool)
    for z, y, x in [(5, 8, 8), (5, 8, 30), (5, 30, 8)]:
        dark[z - 2 : z + 2, y : y + 4, x : x + 4] = 1
    assert count_pores([dark], [all_voxels], bright=True) == 3
    assert count_pores([1 - dark], [all_voxels]) == 3
    assert count_pores([dark], [all_voxels]) == 1


def test_what_puts_the_noise_in_doubt_is_said(clean):
    volume = noisy(clean, 15)
    doubted = replace(known(15.0), doubts=("Half of the voxels are clipped.",))
    verdict = run_to_end(verdict_steps(prepared(volume, "ct-denoise", noise=doubted)))
    assert verdict.level == "caution"
    assert "Half of the voxels are clipped." in verdict.sentence


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((1.2, 5.6), "+3.4 dB (between +1.2 and +5.6)"),
        ((1.2, 3.4), "+3.4 dB (at least +1.2)"),
        ((3.4, 5.6), "+3.4 dB (at most +5.6)"),
        ((3.37, 3.42), "+3.4 dB"),
        ((3.12, 3.12), "+3.4 dB (at most +3.1)"),
        ((-math.inf, 3.4), "+3.4 dB (possibly far worse)"),
        ((-math.inf, 5.6), "+3.4 dB (possibly far worse, at most +5.6)"),
    ],
)
def test_the_interval_of_a_gain_in_words(ends, words):
    assert rules._gain((3.4, *ends)) == words
