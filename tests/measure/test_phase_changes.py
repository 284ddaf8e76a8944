"""S_v from phase changes between voxels, extrapolated: closed forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import owens_t
from test_morphometry import measured

from napari_geosr.measure.crofton import PAIRS
from napari_geosr.measure.morphometry.anisotropy import directions
from napari_geosr.measure.phases.changes import REACH, PhaseChanges

#: So many pairs that the rounding of their numbers does not matter.
MANY = 10**12


def expected(probability: Callable[[float], float]) -> PhaseChanges:
    """Return the expected numbers for a probability of a change by distance."""
    found = PhaseChanges((1.0, 1.0, 1.0), flat=False)
    for k, (one, other) in enumerate(PAIRS):
        length = float(np.linalg.norm(np.subtract(one, other)))
        for step in range(1, (REACH if length == 1 else 2) + 1):
            found.pairs[step - 1, k] = MANY
            found.changes[step - 1, k] = round(MANY * probability(step * length))
    return found


def counted(pores: np.ndarray) -> PhaseChanges:
    found = PhaseChanges((1.0, 1.0, 1.0), flat=False)
    found.add(pores, None, len(pores))
    return found


@pytest.mark.parametrize("radius", [4, 6, 8, 12])
@pytest.mark.parametrize("porosity", [0.1, 0.3, 0.6])
def test_overlapping_spheres(radius: float, porosity: float) -> None:
    """Their surface has edges, so that close pairs of crossings are frequent."""
    density = -np.log(1 - porosity)

    def change(r: float) -> float:
        both = 1 + 3 * r / (4 * radius) - r**3 / (16 * radius**3)
        return float(2 * (1 - porosity - np.exp(-density * both)))

    found, truth = expected(change), 3 * density * (1 - porosity) / radius
    assert found.plain is not None
    assert found.plain < 0.995 * truth
    assert found.extrapolated == pytest.approx(truth, rel=0.011)


@pytest.mark.parametrize("width", [1.5, 2, 3, 5])
@pytest.mark.parametrize("level", [0, -1, -1.6])
def test_gaussian_random_fields(width: float, level: float) -> None:
    """Their surface is smooth; the shortest mean chords are 3 voxels long."""

    def change(r: float) -> float:
        alike = np.exp(-((r / width) ** 2) / 4)
        return float(4 * owens_t(level, np.sqrt((1 - alike) / (1 + alike))))

    truth = np.sqrt(2) / np.pi * np.exp(-(level**2) / 2) / width
    assert expected(change).extrapolated == pytest.approx(truth, rel=0.011)


@pytest.mark.parametrize("radius", [3, 4, 6])
def test_digital_spheres(radius: float) -> None:
    """In a lattice, at many positions relative to the voxels."""
    period, rng, found = 20, np.random.default_rng(0), []
    for _ in range(12):
        places = np.indices((2 * period,) * 3) + rng.uniform(0, period, (3, 1, 1, 1))
        squares = ((places % period - period / 2) ** 2).sum(axis=0)
        found.append(counted(squares <= radius**2).extrapolated)
    truth = 4 * np.pi * radius**2 / period**3
    assert np.mean(found) == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("thickness", [2, 3, 4, 8])
def test_plates_in_all_directions(thickness: float) -> None:
    """Segments longer than the plates are thick are not extrapolated from."""
    rng, ratios, period = np.random.default_rng(1), [], 4 * thickness
    places = np.indices((48,) * 3).reshape(3, -1).T
    for normal in directions(flat=False)[3::8]:
        depth = places @ normal + rng.uniform(0, period)
        found = counted((depth % period < thickness).reshape((48,) * 3))
        assert found.plain is not None
        assert found.extrapolated is not None
        ratios.append((found.plain * period / 2, found.extrapolated * period / 2))
    plain, extrapolated = np.mean(ratios, axis=0)
    assert extrapolated == pytest.approx(1, abs=0.02)
    assert extrapolated == pytest.approx(plain, abs=0.015)


def test_noise_is_told() -> None:
    noise = np.random.default_rng(0).random((30, 30, 30)) < 0.3
    remarks = measured(noise, "two_point").morphometry["two_point"].remarks
    assert any(r.startswith("S_v is unreliable: at a distance of two") for r in remarks)


@pytest.mark.parametrize("others", [(), ("two_point",)])
def test_a_permeability_from_noise_is_told(others: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    for grey, is_noise in ((rng.random((30, 30, 30)), True), (_smooth(rng), False)):
        pores = grey < np.quantile(grey, 0.4)
        found = measured(pores, "transport", *others).morphometry["transport"]
        assert found.values["k(estimate)"]
        told = [r for r in found.remarks if r.startswith("k(estimate) is unreliable")]
        assert len(told) == is_noise


def test_no_permeability_is_not_called_unreliable() -> None:
    noise = np.random.default_rng(0).random((30, 30, 30)) < 0.2
    found = measured(noise, "transport").morphometry["transport"]
    assert found.values["k(estimate)"] == 0
    assert not any("is unreliable" in remark for remark in found.remarks)


def _smooth(rng: np.random.Generator) -> np.ndarray:
    return gaussian_filter(rng.normal(size=(30, 30, 30)), 3)


def test_thick_slices_are_not_taken_for_noise() -> None:
    """The long steps between thick slices have almost no weight in S_v."""
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(30, 96, 96)), 3)
    thick = gaussian_filter(np.random.default_rng(0).normal(size=(120, 96, 96)), 3)
    found = PhaseChanges((4.0, 1.0, 1.0), flat=False)
    found.add(thick[::4] > 0, None, 30)
    assert found.decrease < 0.13
    found = PhaseChanges((1.0, 1.0, 1.0), flat=False)
    found.add(smooth > 0, None, 30)
    assert found.decrease < 0.13
