"""From counts to slices: centre, angles, rows and units are consistent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_geosr.io.projections import read_projections, write_projections
from napari_geosr.physics.projection.geometry import ParallelGeometry
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.specimens.phantoms import random_blobs
from napari_geosr.physics.tomography_simulation import cylinder_sample, simulate_scan
from napari_geosr.tomography.algorithms import reconstruct_slices
from napari_geosr.tomography.centre import find_centre
from napari_geosr.tomography.full_turn import fold_full_turn
from napari_geosr.tomography.preparation_config import PreparationConfig
from napari_geosr.tomography.preprocess import prepare_rows

SIZE = 96


@pytest.fixture(scope="module")
def sample():
    phantom = random_blobs((2, SIZE, SIZE), porosity=0.25, radius=5, seed=1)
    return cylinder_sample(phantom)


def scanned(sample, **settings):
    config = ScanConfig(**({"projections": 160, "photons": 1e5} | settings))
    scan = simulate_scan(sample.attenuation, config)
    return scan, scan.provenance[0]["truth"]


def error(sample, truth, sinogram, angles, centre):
    """Root-mean-square error of the slices inside the sample, whose contrast is 1."""
    geometry = ParallelGeometry(
        angles=angles, n_columns=sinogram.shape[-1], centre=centre, size=SIZE
    )
    lines = torch.from_numpy(np.ascontiguousarray(sinogram))
    slices = reconstruct_slices("fbp", lines, geometry).numpy()
    wrong = slices / truth["attenuation_scale"] - sample.attenuation
    return float(np.sqrt((wrong[sample.inside] ** 2).mean()))


def test_half_a_turn_through_a_file(sample, tmp_path):
    scan, truth = scanned(sample, centre_offset=5.3)
    read = read_projections(write_projections(scan, tmp_path / "scan.h5"))
    sinogram, report = prepare_rows(read, 0, 2)
    assert report.n_clipped == 0
    found = find_centre(read).column
    assert error(sample, truth, sinogram, read.angles, found) < 0.07
    assert error(sample, truth, sinogram, -read.angles, found) > 0.3


def test_a_full_turn_with_the_axis_near_the_edge(sample):
    scan, truth = scanned(
        sample, projections=320, angle_range=360, columns=70, centre_offset=-27.2
    )
    sinogram, _ = prepare_rows(scan, 0, 2)
    found = find_centre(scan).column
    folded, angles, centre = fold_full_turn(sinogram, scan.angles, found)
    assert error(sample, truth, folded, angles, centre) < 0.09


def test_rings_grow_faint(sample):
    scan, truth = scanned(sample, rings=0.03, dead_columns=0.03, seed=2)
    errors = {}
    for stripes in ("none", "sorting", "all"):
        config = PreparationConfig(stripes=stripes)
        sinogram, _ = prepare_rows(scan, 0, 2, config)
        errors[stripes] = error(sample, truth, sinogram, scan.angles, truth["centre"])
    assert errors["all"] < errors["sorting"] < errors["none"] / 5
    assert errors["all"] < 0.2
