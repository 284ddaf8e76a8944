"""Sharpness of a result relative to the scan, and its handling in a run."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr import restore
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore import RestoreConfig, prepare_steps
from napari_geosr.operations.restore.upscaling.sample_boxes import structured_boxes
from napari_geosr.operations.restore.upscaling.sharpness import EXPLAINED, fit_sharpness

CLEAN = Noise(level=0.0, contrast=1.0)


def balls(edge: int = 40) -> np.ndarray:
    z, y, x = np.indices((edge,) * 3)
    rng = np.random.default_rng(4)
    made = np.zeros((edge,) * 3, np.float32)
    for centre in rng.uniform(0, edge, (14, 3)):
        r = rng.uniform(4, 8)
        made[
            (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < r * r
        ] = 1
    return made


def averaged(fine: np.ndarray, blur: float = 0.0, factor: int = 2) -> np.ndarray:
    if blur:
        fine = ndimage.gaussian_filter(fine, blur * factor, mode="nearest")
    n = fine.shape[0] // factor
    return fine.reshape(n, factor, n, factor, n, factor).mean(
        (1, 3, 5), dtype=np.float32
    )


@pytest.mark.parametrize("blur", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_right_result_explains_the_scan_by_its_blur(blur, level):
    fine = balls()
    scan = averaged(fine, blur)
    scan += np.random.default_rng(1).normal(0, 1, scan.shape).astype(np.float32) * level
    fit = fit_sharpness([(scan, fine)], (2, 2, 2), Noise(level=level, contrast=1.0))
    assert fit.excess == pytest.approx(blur, abs=0.1)
    assert fit.is_explained


def test_edges_that_the_scan_does_not_show_are_not_explained():
    """A network trained on two phases, applied to a scan of three."""
    fine = balls()
    fine[:, :20] *= 0.5
    wrong = (fine > 0.25).astype(np.float32)
    fit = fit_sharpness([(averaged(fine, 0.3), wrong)], (2, 2, 2), CLEAN)
    assert fit.misfit > 2 * EXPLAINED


def test_noise_that_is_not_well_known_proves_nothing():
    fine = balls()
    scan = averaged(fine, 0.4)
    scan += np.random.default_rng(1).normal(0, 0.1, scan.shape).astype(np.float32)
    noise = Noise(level=0.1, contrast=1.0, interval=(0.05, 0.15))
    assert not fit_sharpness([(scan, fine)], (2, 2, 2), noise).is_explained


def test_images_have_a_blur_in_the_plane_alone():
    fine = balls()[:1]
    scan = ndimage.gaussian_filter(fine, (0, 0.8, 0.8), mode="nearest")
    scan = scan.reshape(1, 20, 2, 20, 2).mean((2, 4))
    fit = fit_sharpness([(scan, fine)], (1, 2, 2), CLEAN)
    assert fit.excess == pytest.approx(0.4, abs=0.05)


def test_boxes_hold_structure():
    data = np.zeros((60, 60, 60), np.float32)
    data[40:, 40:, 40:] = balls(20)
    data[:5] = np.nan
    found = structured_boxes(Volume(data, "ZYX"), (20, 20, 20), 3)
    assert found == [(slice(40, 60),) * 3]


@pytest.mark.parametrize("edge", [16, 24, 32, 40])
@pytest.mark.parametrize("padding", [0.0, -100.0])
def test_boxes_avoid_the_padding_around_a_cylinder(edge, padding):
    rng = np.random.default_rng(5)
    data = balls(80) + rng.normal(0, 0.1, (80, 80, 80)).astype(np.float32)
    y, x = np.indices((80, 80)) - 39.5
    outside = np.hypot(y, x) > 36
    data[:, outside] = padding
    found = structured_boxes(Volume(data, "ZYX"), (edge,) * 3, 4)
    assert len(found) >= 2
    for box in found:
        assert outside[box[1:]].mean() < 0.03
    taken = np.zeros(data.shape, int)
    for box in found:
        taken[box] += 1
    assert taken.max() == 1


def test_boxes_that_all_have_padding_have_the_least():
    data = np.zeros((48, 48, 48), np.float32)
    data[:, 20:36, 16:32] = np.random.default_rng(6).normal(1, 0.1, (48, 16, 16))
    found = structured_boxes(Volume(data, "ZYX"), (24, 24, 24), 4)
    assert found
    least = 1 - 16 * 16 / 24**2
    for box in found:
        assert (data[box] == 0).mean() <= least + 0.11


def test_boxes_of_a_scan_without_noise_hold_structure():
    clean = balls(60)
    for box in structured_boxes(Volume(clean, "ZYX"), (20, 20, 20), 3):
        assert 0.1 < clean[box].mean() < 0.9


@pytest.mark.parametrize("model", ["foam-sr-x2", "fluo-sr-x2", "ct-sr-x2"])
def test_restored_and_averaged_the_scan_comes_back(model):
    rng = np.random.default_rng(2)
    scan = averaged(balls(32))[:6] + rng.normal(0, 0.02, (6, 16, 16)).astype(np.float32)
    volume = Volume(scan, "ZYX", (2.0, 2.0, 2.0), "µm")
    result = restore(volume, model)
    factors = [n // m for n, m in zip(result.shape, scan.shape, strict=True)]
    split = [p for n, f in zip(scan.shape, factors, strict=True) for p in (n, f)]
    seen = np.asarray(result.data).reshape(split).mean((1, 3, 5))
    record = result.provenance[-1]
    noise, (facts,) = record["noise"], record["data_consistency"]
    if facts["as_sharp_as"] == "scan":
        most = facts["bound"] * max(noise["levels"])
        assert np.abs(seen - scan).max() <= most + 1e-4
    assert 0 <= facts["excess_sharpness"] <= 0.9


def test_a_person_may_choose_the_sharpness():
    scan = averaged(balls(32), 0.4)[:6]
    volume = Volume(scan, "ZYX")
    records = [
        restore(volume, "foam-sr-x2", sharpness=choice).provenance[-1]
        for choice in ("scan", "object")
    ]
    assert [r["data_consistency"][0]["as_sharp_as"] for r in records] == [
        "scan",
        "object",
    ]


def test_a_model_that_does_not_sharpen_uses_the_sharpness_of_the_scan(recwarn):
    """It has no layer whose result could be sharper than the scan."""
    fine = balls(48)
    results = []
    for blur in (0.0, 0.7):
        scan = averaged(fine, blur)
        scan += np.random.default_rng(2).normal(0, 0.02, scan.shape).astype(np.float32)
        job = RestoreConfig(model="ct-sr-x2", threads=1, device="cpu")
        volume = Volume(scan, "ZYX")
        results.append(run_to_end(prepare_steps(volume, job)).network._sharpness)
    assert 0.35 < results[0] < 0.5
    assert 0.25 <= results[1] < results[0] - 0.05
    made = restore(volume, "ct-sr-x2", sharpness="object", threads=1)
    assert any("no effect" in str(w.message) for w in recwarn)
    (agreement,) = made.provenance[-1]["data_consistency"]
    assert agreement == {"bound": 4.0, "excess_sharpness": 0.0, "as_sharp_as": "scan"}


def test_flips_and_turns_agree_as_well():
    scan = averaged(balls(32))[:6]
    volume = Volume(scan, "ZYX")
    result = restore(
        volume, "foam-sr-x2", uncertainty="tta", uncertainty_members=2, sharpness="scan"
    )
    seen = np.asarray(result.data).reshape(6, 2, 16, 2, 16, 2).mean((1, 3, 5))
    most = 4 * max(result.provenance[-1]["noise"]["levels"])
    assert np.abs(seen - scan).max() <= most + 1e-4
