"""Warnings about grey values that make a porosity wrong."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from napari_geosr import measure_porosity
from napari_geosr.core.errors import GeoSRWarning
from napari_geosr.core.volume import Volume
from napari_geosr.physics.specimens.phantoms import sphere_foam


@pytest.mark.parametrize(
    ("n", "value"), [(300, 100.0), (300, 1e9), (3000, 10.0), (300, -50.0)]
)
def test_a_few_voxels_that_decide_about_the_threshold_are_a_warning(
    n: int, value: float
) -> None:
    """With 0.1 to 1 % of hot voxels in a foam, pores and solid would be one phase."""
    solid = 1 - sphere_foam((48, 80, 80), porosity=0.25, radius=(4, 9), seed=1).fraction
    rng = np.random.default_rng(0)
    scan = (solid + rng.normal(0, 0.08, solid.shape)).astype(np.float32)
    true = float((scan <= 0.52).mean())
    scan.ravel()[rng.choice(scan.size, n, replace=False)] = value
    with pytest.warns(GeoSRWarning, match=f"{n} voxels .* the porosity is wrong") as w:
        measure_porosity(Volume(scan, "ZYX"))
    (said,) = [str(one.message) for one in w if "is wrong" in str(one.message)]
    found = re.search(r"two phases: ([\d.]+) % of them are below ([\d.]+)", said)
    assert found is not None
    assert float(found[1]) / 100 == pytest.approx(true, abs=0.01)
    assert float(found[2].rstrip(".")) == pytest.approx(0.52, abs=0.02)


def test_a_few_pores_in_a_solid_are_no_hot_voxels() -> None:
    pores = sphere_foam((48, 80, 80), porosity=0.005, radius=(4, 5), seed=1).fraction
    noise = np.random.default_rng(0).normal(0, 0.03, pores.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*the porosity is wrong")
        found = measure_porosity(Volume((1 - pores + noise).astype("f4"), "ZYX"))
    assert found.porosity == pytest.approx(0.005, abs=0.002)


@pytest.mark.parametrize(("share", "value"), [(0.03, 20.0), (0.2, 20.0), (0.1, 300.0)])
@pytest.mark.parametrize("phase", ["dark", "bright"])
def test_saturated_voxels_that_decide_about_the_threshold_are_a_warning(
    share: float, value: float, phase: str
) -> None:
    """Also if there are many; dark pores and bright saturated voxels, or reversed."""
    solid = 1 - sphere_foam((48, 80, 80), porosity=0.25, radius=(4, 9), seed=1).fraction
    rng = np.random.default_rng(0)
    scan = solid + rng.normal(0, 0.08, solid.shape)
    true = float((scan <= 0.52).mean())
    scan[rng.random(scan.shape) < share] = value
    if phase == "bright":
        scan = 1 - scan
    with pytest.warns(GeoSRWarning, match="the porosity is probably wrong") as w:
        measure_porosity(Volume(scan.astype("f4"), "ZYX"), phase=phase)
    (said,) = [str(one.message) for one in w if "probably wrong" in str(one.message)]
    found = re.search(r"two phases: ([\d.]+) % of them are", said)
    assert found is not None
    assert float(found[1]) / 100 == pytest.approx(true, abs=0.01)


def test_pores_far_below_two_solid_phases_are_no_saturated_voxels() -> None:
    pores = sphere_foam((48, 80, 80), porosity=0.1, radius=(4, 9), seed=1).fraction
    grains = sphere_foam((48, 80, 80), porosity=0.3, radius=(6, 12), seed=2).fraction
    scan = np.where(pores > 0.5, 0.0, 20 + grains)
    scan += np.random.default_rng(0).normal(0, 0.08, pores.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*the porosity is")
        found = measure_porosity(Volume(scan.astype("f4"), "ZYX"))
    assert found.porosity == pytest.approx(float((pores > 0.5).mean()), abs=0.002)


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("kind", ["noisy metal", "cut-out regions"])
def test_regions_that_may_be_neither_pores_nor_solid_are_named(
    share: float, kind: str
) -> None:
    solid = 1 - sphere_foam((48, 80, 80), porosity=0.25, radius=(4, 9), seed=1).fraction
    rng = np.random.default_rng(0)
    scan = solid + rng.normal(0, 0.08, solid.shape)
    true = float((scan <= 0.52).mean())
    region = np.s_[:, : round(share * 80)]
    if kind == "noisy metal":
        scan[region] = rng.normal(20, 2, scan[region].shape)
    else:
        scan[region] = -30
    with pytest.warns(GeoSRWarning, match="the porosity may be wrong") as w:
        measure_porosity(Volume(scan.astype("f4"), "ZYX"))
    (said,) = [str(one.message) for one in w if "may be wrong" in str(one.message)]
    found = re.search(r"two phases: ([\d.]+) % of them are below", said)
    assert found is not None
    assert float(found[1]) / 100 == pytest.approx(true, abs=0.02)
    # At the correct threshold, there is no air around the sample.
    assert not any("surround" in str(one.message) for one in w)


def test_two_groups_are_not_two_values(rng: np.random.Generator) -> None:
    """The bins are too wide for the differences within the lower group."""
    scan = rng.random((16, 32, 32))
    scan[:, :12] = 1e9
    with pytest.warns(GeoSRWarning) as w:
        measure_porosity(Volume(scan, "ZYX"), sample_mask="none")
    assert not any("only two values" in str(one.message) for one in w)
