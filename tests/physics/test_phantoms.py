from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.specimens import phantoms

SHAPE = (24, 64, 64)


@pytest.mark.every(4)
@pytest.mark.parametrize("porosity", [0.05, 0.2, 0.6])
@pytest.mark.parametrize("gap", [0.0, 1.5])
def test_balls_do_not_overlap(porosity: float, gap: float) -> None:
    balls = phantoms.place_balls(
        SHAPE, porosity=porosity, radius=(2, 6), seed=3, gap=gap
    )
    assert len(balls) > 5
    centres, radii = balls[:, :3], balls[:, 3]
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    walls = distances - radii[:, None] - radii[None]
    np.fill_diagonal(walls, np.inf)
    assert walls.min() >= gap - 1e-9
    assert radii.min() >= 2
    assert radii.max() <= 6


def test_ball_is_rendered_with_its_volume() -> None:
    for radius in (2.0, 3.3, 7.5):
        ball = np.array([[15.3, 15.1, 14.8, radius]])
        fraction = phantoms.render_balls((31, 31, 31), ball)
        true = 4 / 3 * np.pi * radius**3
        assert fraction.sum(dtype=float) == pytest.approx(
            true, rel=0.25 / radius**2 + 0.005
        )


def test_flattened_ball_is_flat() -> None:
    ball = np.array([[15.0, 15.0, 15.0, 8.0]])
    flat = phantoms.render_balls((31, 31, 31), ball, np.array([0.5])) >= 0.5
    extent = [np.ptp(np.flatnonzero(flat.any(axis=(1, 2)))) for _ in range(1)]
    assert extent[0] == pytest.approx(8, abs=1)
    assert np.ptp(np.flatnonzero(flat.any(axis=(0, 1)))) == pytest.approx(16, abs=1)


@pytest.mark.parametrize("porosity", [0.03, 0.15, 0.3])
def test_foam_reaches_its_porosity(porosity: float) -> None:
    foam = phantoms.sphere_foam(
        (48, 64, 64), porosity=porosity, radius=(2, 5), gap=0, seed=1
    )
    assert foam.porosity == pytest.approx(porosity, rel=0.15)


@pytest.mark.parametrize("porosity", [0.02, 0.2, 0.5, 0.8])
def test_cut_fields_have_exact_porosity(porosity: float) -> None:
    blobs = phantoms.random_blobs(SHAPE, porosity=porosity, radius=4, seed=2)
    network = phantoms.bicontinuous(SHAPE, porosity=porosity, wavelength=14, seed=2)
    sheets = phantoms.bicontinuous(
        SHAPE, porosity=porosity, wavelength=14, sheets=True, seed=2
    )
    for phantom in (blobs, network, sheets):
        assert phantom.mask.mean() == pytest.approx(porosity, abs=2e-4)
        assert phantom.porosity == pytest.approx(porosity, abs=0.02)


def test_struts_have_the_wavelength_asked_for() -> None:
    phantom = phantoms.bicontinuous((64, 64, 64), wavelength=16, seed=0)
    power = np.abs(np.fft.rfftn(phantom.fraction - phantom.fraction.mean())) ** 2
    axes = [np.fft.fftfreq(64), np.fft.fftfreq(64), np.fft.rfftfreq(64)]
    f = np.sqrt(sum(g**2 for g in np.meshgrid(*axes, indexing="ij")))
    assert 1 / f.ravel()[power.argmax()] == pytest.approx(16, rel=0.3)


def test_rare_pores_are_rare() -> None:
    phantom = phantoms.rare_pores((48, 96, 96), porosity=0.01, seed=4)
    assert phantom.porosity == pytest.approx(0.01, rel=0.35)
    assert phantom.mask.any()


@pytest.mark.parametrize(
    "make",
    [
        phantoms.sphere_foam,
        phantoms.random_blobs,
        phantoms.bicontinuous,
        phantoms.rare_pores,
    ],
)
def test_phantoms_are_seeded_and_well_formed(make) -> None:
    first, again, other = (make(SHAPE, seed=s) for s in (5, 5, 6))
    np.testing.assert_array_equal(first.fraction, again.fraction)
    assert (first.fraction != other.fraction).any()
    assert first.fraction.dtype == np.float32
    assert first.fraction.shape == SHAPE
    assert first.fraction.min() == 0
    assert first.fraction.max() == 1
    np.testing.assert_array_equal(first.mask, first.fraction >= 0.5)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="porosity"):
        phantoms.random_blobs(SHAPE, porosity=1.0)
    with pytest.raises(ConfigError, match="Radii"):
        phantoms.sphere_foam(SHAPE, radius=(5, 2))
