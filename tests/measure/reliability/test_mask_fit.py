"""An automatic sample mask that cuts through the material is recognised."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pore_shapes import measure, scan

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import run_to_end
from napari_geosr.measure.reliability.mask_fit import (
    sample_mask_fit_steps,
    sample_mask_remarks,
)
from napari_geosr.measure.sample.mask import sample_mask_steps
from napari_geosr.physics.specimens.phantoms import bicontinuous, sphere_foam
from napari_geosr.physics.specimens.textiles import felt, weave

SHAPE = (48, 72, 72)
Z, Y, X = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
CYLINDER = np.broadcast_to(np.hypot(Y - 35.5, X - 35.5) < 30, SHAPE)


def said(pores: np.ndarray, **settings) -> list[str]:
    """Sentences on the automatic mask of a clean scan."""
    report = measure(scan(pores), sample_mask="auto", keep_labels=False, **settings)
    return [w for w in report.warnings if "automatic sample mask" in w]


def test_a_felt_that_fills_the_volume() -> None:
    pores = felt(SHAPE, porosity=0.85, radius=1.5, seed=0).mask
    (sentence,) = said(pores)
    assert "cuts through the material" in sentence
    assert f"{100 * pores.mean():.2g} % in the whole volume" in sentence
    assert "Measure without a sample mask" in sentence
    inside = measure(scan(pores), sample_mask="auto").porosity
    assert inside < 0.7
    assert f"about {100 * inside:.2g} % in the mask" in sentence


@pytest.mark.parametrize("kind", ["felt", "bicontinuous"])
def test_open_material_with_air_around_it(kind: str) -> None:
    if kind == "felt":
        pores = felt(SHAPE, porosity=0.85, radius=1.5, seed=0).mask
    else:
        pores = bicontinuous(SHAPE, porosity=0.7).mask
    pores = pores | ~CYLINDER
    sentence = said(pores)[-1]
    assert "may exclude open pores" in sentence
    narrow, wide = (
        measure(scan(pores), sample_mask="auto", mask_closing=n).porosity
        for n in (5, 10)
    )
    assert f"{100 * narrow:.2g} % with a mask closing of 5 voxels" in sentence
    assert f"about {100 * wide:.2g} % with 10" in sentence
    assert f"{100 * pores.mean():.2g} % in the whole volume" in sentence
    assert "measure without a sample mask" in sentence
    assert "increase the closing" in sentence


@pytest.mark.parametrize(
    ("tilt", "seed", "start"),
    [(0.2, 1, "The automatic sample mask"), (0.0, 0, "61 % of the solid")],
)
def test_a_felt_of_fibres_in_the_plane(tilt: float, seed: int, start: str) -> None:
    """Its solid does not cover the top and bottom faces of the volume."""
    pores = felt(SHAPE, porosity=0.89, radius=2.0, tilt=tilt, seed=seed).mask
    assert measure(scan(pores), sample_mask="auto").porosity < 0.4
    (sentence,) = said(pores)
    assert sentence.startswith(start)
    assert "89 % in the whole volume" in sentence
    assert "measure without a sample mask" in sentence


def test_yarns_that_do_not_touch() -> None:
    sentences = said(weave(SHAPE, gap=2.0, seed=0).mask)
    assert "of the solid" in sentences[0]
    assert "largest connected solid" in sentences[0]
    assert "cuts through the material" in sentences[1]


def test_a_piece_of_the_sample_outside_of_the_mask() -> None:
    pores = np.ones(SHAPE, bool)
    pores[:, 8:60, 8:32] = False
    pores[:, 8:60, 40:60] = False
    (sentence,) = said(pores)
    share = 20 / 44
    assert sentence.startswith(f"{100 * share:.2g} % of the solid")


def bodies() -> dict[str, np.ndarray]:
    """Pores and air of specimens that are well described by an envelope."""
    foam = sphere_foam(SHAPE, porosity=0.1, radius=(2, 5)).mask
    skin = np.hypot(Y - 35.5, X - 35.5) > 24
    hollow = np.hypot(Y - 35.5, X - 35.5) < 16
    corner = np.zeros(SHAPE, bool)
    corner[6:42, 8:64, 8:30] = corner[6:42, 42:64, 8:64] = True
    return {
        "dense": ~CYLINDER,
        "closed pores": ~CYLINDER | (foam & ~skin),
        "ring": ~CYLINDER | hollow,
        "L shape": ~corner,
    }


@pytest.mark.parametrize("kind", list(bodies()))
def test_no_false_alarm_on_specimens_in_air(kind: str) -> None:
    assert said(bodies()[kind]) == []


def test_no_false_alarm_on_cement(shared_data: Path) -> None:
    cement = tifffile.imread(shared_data / "ct_volumes" / "cement_128x128x128.tif")
    report = measure(cement, sample_mask="auto", keep_labels=False)
    assert report.sample_voxels > 0.98 * cement.size
    assert not [w for w in report.warnings if "automatic sample mask" in w]


def test_pieces_cut_out_of_rock_and_bone(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "ct_volumes" / "berea.zip"
    with zipfile.ZipFile(archive) as zipped:
        name = next(n for n in zipped.namelist() if n.endswith(".tif"))
        rock = tifffile.imread(zipped.extract(name, tmp_path))[:96, :96, :96]
    (sentence,) = [s for s in said(rock == 0) if "cuts through" in s]
    assert f"{100 * (rock == 0).mean():.2g} % in the whole volume" in sentence
    bone = tifffile.imread(shared_data / "ct_volumes" / "bone_128x128x128.tif")
    report = measure(bone, sample_mask="auto", keep_labels=False)
    assert report.porosity < 0.3 < measure(bone, keep_labels=False).porosity
    (sentence,) = [w for w in report.warnings if "may exclude open pores" in w]
    # At the threshold of the sample, which differs from that of the whole volume.
    assert f"is {100 * report.porosity:.2g} % with a mask closing of 5" in sentence


def test_a_fit_tells_both_porosities_and_can_be_stopped() -> None:
    solid = ~felt(SHAPE, porosity=0.85, radius=1.5, seed=0).mask & CYLINDER
    envelope = run_to_end(sample_mask_steps(solid, 4))
    fit = run_to_end(sample_mask_fit_steps(solid, envelope, 4))
    assert fit.porosity == pytest.approx(1 - solid[envelope].mean())
    assert fit.whole == pytest.approx(1 - solid.mean())
    assert not fit.fills_volume
    wide = run_to_end(sample_mask_steps(solid, 8))
    assert fit.wider is not None
    assert fit.wider[:2] == (8, pytest.approx(1 - solid[wide].mean()))
    assert fit.wider[2] < fit.left_out
    with pytest.raises(Cancelled):
        run_to_end(sample_mask_fit_steps(solid, envelope, 4, should_stop=lambda: True))
    convex = run_to_end(sample_mask_fit_steps(CYLINDER.copy(), CYLINDER.copy(), 4))
    assert convex.wider is None
    assert list(sample_mask_remarks(convex, "rod")) == []


def test_images_are_judged_like_slices() -> None:
    pores = felt(SHAPE, porosity=0.6, radius=1.5, tilt=0.0, seed=1).mask[20]
    report = measure(scan(pores), "YX", sample_mask="auto", mask_closing=1)
    assert any("automatic sample mask" in w for w in report.warnings)
