"""Comparison of a result with its scan: the residual is noise, or was invented."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import run_to_end
from napari_geosr.measure.consistency import (
    EXCESS_LIMIT,
    STRUCTURE_LIMIT,
    Consistency,
    consistency_steps,
)
from napari_geosr.measure.resolution import redegrade
from napari_geosr.measure.resolution.redegrade import Pair, blurred_means
from napari_geosr.physics.noise import gaussian_noise, reconstruction_noise
from napari_geosr.physics.specimens.phantoms import sphere_foam

SHAPE = (20, 56, 60)


@pytest.fixture(scope="module")
def foam():
    """The sharp object on a grid of half the voxel size, and its pores."""
    fine = tuple(2 * n for n in SHAPE)
    made = sphere_foam(fine, porosity=0.12, radius=(5, 12), gap=4.0, seed=5)
    return np.float32(0.8) - np.float32(0.6) * made.fraction, made.mask


def scan_of(fine, factors, blur, sd, seed=1, kind="independent"):
    seen = blurred_means(fine, factors, blur)
    rng = np.random.default_rng(seed)
    if kind == "reconstruction":
        return seen + reconstruction_noise(seen.shape, sd, rng)
    return seen + gaussian_noise(seen.shape, sd, rng)


def compare(scan, result, factors=(1, 1, 1), voxel_size=(1.0, 1.0, 1.0)):
    residual = np.full(scan.shape, np.nan, np.float32)
    pair = Pair(scan, result, factors)
    return run_to_end(consistency_steps(pair, residual, voxel_size)), residual


def painted(fine, mask, radius, value, factors):
    """A sphere of `value` in the middle of the solid, and its position in the scan."""
    depth = ndimage.distance_transform_edt(~mask)
    inside = np.zeros_like(mask)
    edge = radius + 6
    inside[edge:-edge, edge:-edge, edge:-edge] = True
    z, y, x = np.unravel_index((depth * inside).argmax(), mask.shape)
    grid = np.ogrid[tuple(slice(0, n) for n in mask.shape)]
    ball = (grid[0] - z) ** 2 + (grid[1] - y) ** 2 + (grid[2] - x) ** 2 <= radius**2
    assert not (ball & mask).any()
    changed = fine.copy()
    changed[ball] = value
    return changed, np.array([z, y, x]) / np.array(factors)


@pytest.mark.parametrize("kind", ["independent", "reconstruction"])
def test_the_truth_fits_its_scan(foam, kind):
    fine, _ = foam
    scan = scan_of(fine, (2, 2, 2), (0.0, 0.6, 0.6), 0.12, kind=kind)
    found, residual = compare(scan, fine, (2, 2, 2))
    assert found.is_consistent
    assert found.places == ()
    assert found.residual_rms == pytest.approx(0.12, rel=0.03)
    assert found.noise == pytest.approx(0.12, rel=0.03)
    assert found.beyond_3_sigma == pytest.approx(0.0027, abs=0.001)
    assert abs(found.structure) < 0.03
    assert found.blur == (0.0, 0.6, 0.6)
    assert residual.std() == pytest.approx(found.residual_rms, rel=1e-3)


@pytest.mark.parametrize("invented", [True, False])
def test_a_painted_or_erased_pore_is_found_in_its_place(foam, invented):
    fine, mask = foam
    changed, where = painted(fine, mask, 6, 0.2, (2, 2, 2))
    shown, result = (fine, changed) if invented else (changed, fine)
    scan = scan_of(shown, (2, 2, 2), (0.4, 0.6, 0.6), 0.18)
    found, residual = compare(scan, result, (2, 2, 2))
    assert not found.is_consistent
    assert len(found.places) == 1
    place = found.places[0]
    assert np.abs(np.array(place.index) - where).max() <= 2
    assert place.result_is == ("darker" if invented else "brighter")
    assert place.strength > found.limit
    at = residual[tuple(np.round(where).astype(int))]
    assert at == pytest.approx(0.6 if invented else -0.6, abs=0.5)
    assert found.noise == pytest.approx(0.18, rel=0.03)


def test_equal_voxels_and_single_images_are_compared_as_well(foam):
    fine, mask = foam
    flat, holes = fine[20:21], mask[20:21]
    scan = scan_of(flat, (1, 1, 1), (0.0, 0.6, 0.6), 0.1)
    found, _ = compare(scan, flat)
    assert found.is_consistent
    assert found.blur == (0.0, 0.6, 0.6)
    depth = ndimage.distance_transform_edt(~holes[0])
    y, x = np.unravel_index(depth[5:-5, 5:-5].argmax(), (102, 110))
    changed = flat.copy()
    changed[0, y + 2 : y + 9, x + 2 : x + 9] = 0.2
    found, _ = compare(scan, changed)
    assert len(found.places) == 1
    assert np.abs(np.array(found.places[0].index) - (0, y + 5, x + 5)).max() <= 2


def test_smoothing_too_much_is_told_by_its_edges(foam):
    fine, _ = foam
    scan = scan_of(fine, (1, 1, 1), (0.5, 0.5, 0.5), 0.1)
    smooth = ndimage.gaussian_filter(scan, 2.5)
    found, _ = compare(scan, smooth)
    assert found.structure > STRUCTURE_LIMIT
    assert not found.is_consistent
    assert found.residual_rms > 1.02 * found.noise


def test_noise_that_grows_with_the_signal_is_no_structure(foam):
    fine, _ = foam
    light = blurred_means(1 - fine, (1, 1, 1), (0.5, 0.5, 0.5)) * 100
    scan = np.random.default_rng(2).poisson(light).astype(np.float32)
    found, _ = compare(scan, light)
    assert found.is_consistent
    assert found.beyond_3_sigma < 0.006


@pytest.fixture(scope="module")
def other():
    """Another object of the same kind."""
    fine = tuple(2 * n for n in SHAPE)
    made = sphere_foam(fine, porosity=0.12, radius=(5, 12), gap=4.0, seed=77)
    return np.float32(0.8) - np.float32(0.6) * made.fraction


WRONG = {
    "another object": ("shows too much", lambda fine, other: other),
    "pores made up all over": (
        "shows too much",
        lambda fine, other: np.minimum(fine, other),
    ),
    "a constant": ("uniform", lambda fine, other: np.full_like(fine, fine.mean())),
    "noise": (
        "shows too much",
        lambda fine, other: gaussian_noise(fine.shape, 1.0, np.random.default_rng(3)),
    ),
    "half the contrast": ("shows too little", lambda fine, other: 0.5 * fine),
    "more contrast": ("shows too much", lambda fine, other: 1.2 * fine - 0.15),
    "turned over": ("shows too much", lambda fine, other: 1.45 - fine),
}


@pytest.mark.every(3)
@pytest.mark.parametrize("kind", ["independent", "reconstruction"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_all_over_is_told(foam, other, wrong, kind):
    fine, _ = foam
    scan = scan_of(fine, (2, 2, 2), (0.4, 0.6, 0.6), 0.12, kind=kind)
    fault, made = WRONG[wrong]
    found, _ = compare(scan, made(fine, other).astype(np.float32), (2, 2, 2))
    assert fault in found.faults
    assert not found.is_consistent


def test_the_slope_says_how_much_the_scan_shows(foam, other):
    fine, _ = foam
    scan = scan_of(fine, (2, 2, 2), (0.4, 0.6, 0.6), 0.12)
    for result, slope in ((fine, 1.0), (2 * fine, 0.5), (other, 0.0), (-fine, -1.0)):
        found, _ = compare(scan, result, (2, 2, 2))
        # For a wrong result, it depends on the best-fitting blur.
        assert found.slope == pytest.approx(slope, abs=0.25)
        assert 0 < found.slope_error < 0.15
    found, _ = compare(scan, fine, (2, 2, 2))
    assert abs(found.slope - 1) < 3 * found.slope_error + 0.01


def test_a_residual_that_follows_the_result_either_way_is_structure():
    fine = Consistency(1, 1, 1, 0.0027, 0.0, 1.0, 0.01, False, 1.0, (0, 0, 0), 5, 0, ())
    assert fine.is_consistent
    for sign in (-1, 1):
        assert replace(fine, structure=sign * 0.85).faults == ("structure",)
    assert replace(fine, residual_rms=1.5).faults == ("large",)
    assert replace(fine, beyond_3_sigma=0.06).faults == ("large",)
    # not accurately known
    assert replace(fine, slope=0.8, slope_error=0.1).is_consistent


@pytest.mark.parametrize("cutoff", [0.5, 1.0])
def test_the_noise_of_the_scan_is_known_with_its_grain(foam, cutoff):
    """Blurred or varying noise is not mistaken for structure, nor vice versa."""
    fine, _ = foam
    clean = blurred_means(fine, (1, 1, 1), (0.5, 0.5, 0.5))
    rng = np.random.default_rng(8)
    noise = reconstruction_noise(clean.shape, 0.1, rng, cutoff=cutoff)
    if cutoff < 1:  # along Z as well
        noise = 1.5 * ndimage.gaussian_filter1d(noise, 0.7, axis=0)
    found, _ = compare(clean + noise, clean)
    assert found.is_consistent
    assert 0.7 < found.excess < 1.15
    found, _ = compare(clean + noise, clean[:, ::-1])
    assert found.excess > EXCESS_LIMIT


def test_noise_that_differs_from_place_to_place_is_no_excess(foam):
    fine, _ = foam
    clean = blurred_means(fine, (1, 1, 1), (0.5, 0.5, 0.5))
    levels = np.linspace(0.08, 0.16, clean.shape[2], dtype=np.float32)
    noise = gaussian_noise(clean.shape, 1.0, np.random.default_rng(8)) * levels
    found, _ = compare(clean + noise, clean)
    assert found.is_consistent
    masked = np.where(fine > 0, clean + noise, 0)
    masked[:, :, :12] = 0  # padding around a sample has no noise
    shown = clean.copy()
    shown[:, :, :12] = 0
    found, _ = compare(masked, shown)
    assert found.excess < EXCESS_LIMIT


def test_boxes_change_nothing(foam, monkeypatch):
    fine, mask = foam
    changed, _ = painted(fine, mask, 6, 0.2, (2, 2, 2))
    scan = scan_of(fine, (2, 2, 2), (0.4, 0.6, 0.6), 0.15)
    found, residual = compare(scan, changed, (2, 2, 2))
    monkeypatch.setattr(redegrade, "_MAX_VOXELS", 1 << 19)
    pair = Pair(scan, changed, (2, 2, 2))
    assert len(pair.boxes((10, 10, 10))) > 4
    again, pieces = compare(scan, changed, (2, 2, 2))
    np.testing.assert_allclose(pieces, residual, atol=1e-6)
    assert again.flagged_voxels == found.flagged_voxels
    assert [p.index for p in again.places] == [p.index for p in found.places]
    assert again.structure == pytest.approx(found.structure, abs=1e-6)
    assert again.slope == pytest.approx(found.slope, abs=1e-5)
    assert again.slope_error == pytest.approx(found.slope_error, rel=1e-3)


def test_unknown_voxels_are_left_out(foam):
    fine, _ = foam
    fine = fine.copy()
    scan = scan_of(fine, (2, 2, 2), (0.0, 0.6, 0.6), 0.12)
    scan[:, :, :10] = np.nan
    fine[:, :, :20] = np.nan
    found, residual = compare(scan, fine, (2, 2, 2))
    assert found.is_consistent
    unknown = np.isnan(residual)
    assert unknown[:, :, :10].all()
    assert not unknown[:, :, 16:].any()
    assert found.noise == pytest.approx(0.12, rel=0.05)


def test_a_copy_of_the_scan_leaves_nothing(foam):
    fine, _ = foam
    found, residual = compare(fine, fine)
    assert found.noise == 0
    assert found.residual_rms == 0
    assert not found.flagged_voxels
    assert (residual == 0).all()


def test_it_can_be_stopped(foam):
    fine, _ = foam
    pair = Pair(fine, fine, (1, 1, 1))
    steps = consistency_steps(
        pair, np.empty(fine.shape), (1, 1, 1), should_stop=lambda: True
    )
    with pytest.raises(Cancelled):
        run_to_end(steps)
