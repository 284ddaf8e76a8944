"""Comparison of a result with its scan: positions, files, rejected input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.cli.app import run as command
from napari_geosr.cli.restore import _print_check
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore.consistency import NOTHING_FOUND
from napari_geosr.physics.noise import gaussian_noise, reconstruction_noise
from napari_geosr.physics.sampling import coarse_scan
from napari_geosr.physics.specimens.phantoms import sphere_foam

SHAPE = (16, 32, 36)


@pytest.fixture
def fine() -> np.ndarray:
    shape = tuple(2 * n for n in SHAPE)
    pores = sphere_foam(shape, porosity=0.1, radius=(4, 9), gap=3.0, seed=2).fraction
    return np.float32(0.8) - np.float32(0.6) * pores


@pytest.fixture
def scan(fine, rng) -> Volume:
    seen = coarse_scan(fine, 2, 0.6)
    seen += rng.normal(0, 0.08, seen.shape).astype(np.float32)
    return Volume(seen, "ZYX", (4.0,) * 3, "µm", (10.0, 20.0, 30.0), name="scan")


def result_of(scan: Volume, fine: np.ndarray) -> Volume:
    voxel_size, origin = scan.upscaled_geometry((2, 2, 2))
    return Volume(fine, "ZYX", voxel_size, scan.unit, origin, name="scan · sr")


def test_a_painted_pore_is_said_with_its_place(scan, fine):
    honest = geosr.check_consistency(scan, result_of(scan, fine))
    assert honest.sentences == ()
    assert honest.figures.is_consistent
    assert honest.verdict.level == "ok"
    solid = np.argwhere(fine[12:20, 20:-20, 20:-20] > 0.79) + np.array([12, 20, 20])
    changed = fine.copy()
    grid = np.ogrid[tuple(slice(0, n) for n in fine.shape)]
    z, y, x = solid[len(solid) // 2]
    changed[(grid[0] - z) ** 2 + (grid[1] - y) ** 2 + (grid[2] - x) ** 2 <= 36] = 0.2
    checked = geosr.check_consistency(scan, result_of(scan, changed))
    (sentence,) = checked.sentences
    assert "the result is darker than the scan" in sentence
    # the limit is large for such a small scan
    assert checked.verdict.level == "harmful"
    assert " % of the volume" in checked.verdict.sentence
    few = replace(checked.figures, flagged_voxels=100)
    verdict = replace(checked, figures=few).verdict
    assert verdict.level == "caution"
    assert "except in one region" in verdict.sentence
    position = checked.position(checked.figures.places[0])
    true = np.array([10.0, 20.0, 30.0]) + (np.array([z, y, x]) - 0.5) / 2 * 4
    assert np.abs(np.array(position) - true).max() <= 8
    assert f"{position[0]:.4g}" in sentence
    residual = checked.residual
    assert residual.name == "scan · sr (residual)"
    assert (residual.voxel_size, residual.origin) == (scan.voxel_size, scan.origin)
    assert residual.provenance[-1]["operation"] == "check"


def test_too_smooth_a_result_is_said(scan):
    from scipy import ndimage

    smooth = scan.replace(data=ndimage.gaussian_filter(scan.data, 2.0))
    checked = geosr.check_consistency(scan, smooth)
    assert any("stronger where the result has edges" in s for s in checked.sentences)


def test_noise_is_the_same_figure_everywhere(rng, capsys):
    """If the noise depends on the grey value, the two estimates of it differ."""
    clean = np.full((16, 32, 36), 0.8, np.float32)
    clean[:, :, :9] = 0.2
    noise = rng.normal(0, np.where(clean < 0.5, 0.3, 0.02)).astype(np.float32)
    scan = Volume(clean + noise, "ZYX", name="scan")
    checked = geosr.check_consistency(scan, scan.replace(data=clean + 0.3))
    figures = checked.figures
    assert figures.noise_rms > 1.5 * figures.noise
    rms, alone = f"{figures.residual_rms:.3g}", f"{figures.noise_rms:.3g}"
    (note,) = (s for s in checked.sentences if "by more than noise: " in s)
    assert f"{rms} (rms; noise alone: {alone})," in note
    _print_check(checked)
    assert f"{rms} (rms; noise alone: {alone})" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda fine: fine[:, ::-1], "almost nothing that it shows"),
        (
            lambda fine: np.minimum(fine, fine[:, ::-1]),
            "its contrast is in the scan",
        ),
        (lambda fine: np.full_like(fine, fine.mean()), "it is uniform and shows"),
        (lambda fine: 0.5 * fine + 0.3, "structure or contrast of the scan is missing"),
        (lambda fine: 1.4 - fine, "bright where the scan is dark"),
    ],
)
def test_what_is_wrong_all_over_is_said(scan, fine, change, words):
    changed = np.ascontiguousarray(change(fine), np.float32)
    checked = geosr.check_consistency(scan, result_of(scan, changed))
    assert any(words in sentence for sentence in checked.sentences)
    said = json.loads(json.dumps(checked.to_json_dict(), allow_nan=False))
    assert said["consistent"] is False
    assert said["faults"]
    assert said["verdict"] == "harmful"
    assert "Do not measure it." in checked.verdict.sentence


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", ["independent", "reconstruction"])
def test_a_good_model_fits(fine, rng, kind):
    seen = coarse_scan(fine, 2, 0.6)
    if kind == "independent":
        seen = seen + gaussian_noise(seen.shape, 0.08, rng)
    else:
        seen = seen + reconstruction_noise(seen.shape, 0.08, rng)
    scan = Volume(seen, "ZYX", (4.0,) * 3, "µm", name="scan")
    for model in ("foam-denoise", "foam-sr-x2"):
        checked = geosr.check_consistency(scan, geosr.restore(scan, model))
        assert checked.sentences == ()
        assert checked.figures.slope == pytest.approx(1, abs=0.05)


def test_a_copy_of_the_scan_is_said(scan, capsys):
    checked = geosr.check_consistency(scan, scan)
    (sentence,) = checked.sentences
    assert "the result is the scan itself" in sentence
    assert checked.verdict.level == "caution"
    assert "a copy of the scan" in checked.verdict.sentence
    _print_check(checked)
    assert NOTHING_FOUND not in capsys.readouterr().out


def test_what_is_found_well_claims_no_more_than_its_figures(scan, fine, capsys):
    checked = geosr.check_consistency(scan, result_of(scan, fine))
    figures = replace(checked.figures, beyond_3_sigma=0.024)
    _print_check(replace(checked, figures=figures))
    said = capsys.readouterr().out
    assert "2.4 % of voxels beyond 3 standard deviations (noise alone: 0.27 %)" in said
    assert said.rstrip().endswith(
        "All values are within the limits of the check: the residual is about as "
        "large as expected for noise alone."
    )


def test_images_are_compared(scan, fine, rng):
    seen = coarse_scan(fine, 2, 0.6)[8]
    flat = scan.replace(data=seen, axes="YX", voxel_size=(4.0, 4.0), origin=(0.0, 0.0))
    noise = rng.normal(0, 0.1, flat.shape).astype(np.float32)
    noise[10:16, 10:16] += 1
    checked = geosr.check_consistency(flat.replace(data=seen + noise), flat)
    assert (checked.residual.data - noise).std() < 0.03
    (place,) = checked.figures.places
    assert 40 <= checked.position(place)[0] <= 60
    assert checked.to_json_dict()["places"][0]["index"] == list(place.index[1:])


def test_what_does_not_show_the_same_place_is_refused(scan, fine):
    result = result_of(scan, fine)
    for wrong, reason in (
        (result.replace(data=fine[1:]), "whole multiple"),
        (result.replace(origin=scan.origin), "same position along Z"),
        (result.replace(voxel_size=(2.0, 2.0, 2.5)), "same position along X"),
        (
            result.replace(
                data=fine[0], axes="YX", voxel_size=(2.0, 2.0), origin=(0.0, 0.0)
            ),
            "different axes",
        ),
    ):
        with pytest.raises(VolumeError, match=reason):
            geosr.check_consistency(scan, wrong)


def test_the_command_writes_the_residual(scan, tmp_path, capsys):
    path = str(io.write(scan, tmp_path / "scan.ome.tif"))
    out = tmp_path / "r.ome.tif"
    words = ["restore", path, "--model", "foam-denoise", "--out", str(out)]
    assert command([*words, "--check-consistency", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["consistency"]
    residual = io.read(tmp_path / "r_residual.ome.tif")
    assert said["residual"] == str(tmp_path / "r_residual.ome.tif")
    assert residual.shape == scan.shape
    assert residual.origin == scan.origin
    rms = float(np.sqrt(np.mean(np.square(residual.data[:], dtype=np.float64))))
    assert said["residual_rms"] == pytest.approx(rms, rel=1e-5)
    assert said["noise"] == pytest.approx(0.08, rel=0.2)
    assert said["beyond_3_sigma"] < 0.02
    out.unlink()
    assert command([*words, "--check-consistency"]) == 2
    assert "r_residual.ome.tif" in capsys.readouterr().err
    both = ["restore", path, path, "--average", "--check-consistency"]
    assert command([*both, "--out", str(tmp_path / "mean.tif")]) == 2
    assert "with a single scan" in capsys.readouterr().err
