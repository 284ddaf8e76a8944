"""Felts, weaves and rocks of several phases: their truth is as requested."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.specimens import textiles
from napari_geosr.physics.specimens.textiles import felt, several_phases, weave

SHAPE = (32, 64, 64)


@pytest.mark.parametrize("porosity", [0.6, 0.85, 0.95])
def test_a_felt_has_the_porosity_asked_for(porosity):
    made = felt(SHAPE, porosity=porosity, seed=1)
    assert made.fraction.dtype == np.float32
    assert made.fraction.shape == SHAPE
    assert made.fraction.min() >= 0
    assert made.fraction.max() <= 1
    # One fibre of radius 2 takes up to 64·√2.25 · 4π voxels of 32 · 64².
    assert made.porosity == pytest.approx(porosity, abs=0.01)
    assert made.mask.mean() == pytest.approx(porosity, abs=0.02)


def test_fibres_are_everywhere_and_as_thick_as_asked_for():
    thin = [felt((64, 64, 64), porosity=0.8, seed=seed) for seed in range(8)]
    middle = np.mean([made.fraction[16:48, 16:48, 16:48].mean() for made in thin])
    assert middle == pytest.approx(0.8, abs=0.03)
    thick = felt((64, 64, 64), porosity=0.85, radius=3.0, seed=2)
    depth = ndimage.distance_transform_edt(~thick.mask)
    assert 2.5 < np.percentile(depth[depth > 0], 95) < 4


def test_without_tilt_fibres_lie_in_the_plane():
    made = felt(SHAPE, porosity=0.8, tilt=0.0, seed=0)
    # A fibre that crosses a plane of voxels continues on both sides.
    change = [np.abs(np.diff(made.fraction, axis=axis)).mean() for axis in (0, 1, 2)]
    assert change[0] > 1.2 * max(change[1:])


def test_a_weave_is_yarns_that_do_not_touch():
    made = weave((40, 64, 64), spacing=16.0, radius=4.0, gap=3.0, jitter=0.0, seed=0)
    _, n = ndimage.label(~made.mask, np.ones((3, 3, 3)))
    # 4 or 5 yarns per layer and direction, in 2 to 4 layers (including cut ones).
    assert 14 <= n <= 40
    # Yarns are longer than straight ones, because they undulate by 5.5 voxels.
    along = np.linspace(0, 32, 1000)
    longer = np.mean(np.hypot(1, 5.5 * np.pi / 16 * np.sin(np.pi * along / 16)))
    share = longer * 2 * np.pi * 4.0**2 / (16 * (2 * (5.5 + 4) + 3))
    assert 1 - made.porosity == pytest.approx(share, rel=0.1)


def test_phases_have_their_shares_and_grey_values():
    made = several_phases((32, 64, 64), seed=3)
    shares = np.bincount(made.labels.reshape(-1), minlength=4) / made.labels.size
    np.testing.assert_allclose(shares, (0.15, 0.35, 0.3, 0.2), atol=0.03)
    assert made.porosity == shares[0]
    for phase, grey in enumerate(made.greys):
        inside = ndimage.binary_erosion(made.labels == phase, iterations=2)
        assert inside.sum() > 500
        assert np.median(made.grey[inside]) == pytest.approx(grey)
    assert made.grey.dtype == np.float32
    assert made.grey.min() >= 0
    assert made.grey.max() <= 1


@pytest.mark.parametrize("make", [felt, weave, several_phases])
def test_the_seed_decides(make):
    def grey(seed):
        made = make((16, 32, 32), seed=seed)
        return made.grey if make is several_phases else made.fraction

    np.testing.assert_array_equal(grey(4), grey(4))
    assert np.abs(grey(4) - grey(5)).max() > 0.4


def test_impossible_settings_are_refused(monkeypatch):
    monkeypatch.setattr(textiles, "_MAX_FIBRES", 50)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        felt(SHAPE, porosity=1.0)
    with pytest.raises(ConfigError, match="thicker"):
        felt((48, 96, 96), porosity=0.05, radius=0.4)
    with pytest.raises(ConfigError, match="spacing of more than 8"):
        weave(SHAPE, spacing=8.0, radius=4.0)
    with pytest.raises(ConfigError, match="At least two phases are needed"):
        several_phases(SHAPE, shares=(0.5, 0.5))
    with pytest.raises(ConfigError, match="add up to 1"):
        several_phases(SHAPE, shares=(0.5, 0.6), greys=(0.0, 1.0))
