"""Fan and cone beams, and detectors whose axis is near an edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import Warned
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    reconstruct,
    reconstruct_slice,
    reconstruct_steps,
)
from napari_geosr.physics.geometry import ConeGeometry, FanGeometry, ParallelGeometry
from napari_geosr.physics.projector import project

N = 32
ANGLES = np.arange(120) * 3.0


@pytest.fixture(scope="module")
def balls() -> np.ndarray:
    """A ball, and a small one off the middle: no slice is like another."""
    z, y, x = np.mgrid[:6, :N, :N].astype(np.float32)
    z, y, x = (z - 2.5) * 2, y - 15.5, x - 15.5
    big = np.clip(11.5 - np.sqrt(x**2 + y**2 + z**2), 0, 1)
    small = np.clip(3.5 - np.sqrt((x - 4) ** 2 + y**2 + (z - 3) ** 2), 0, 1)
    return (big - 0.5 * small).astype(np.float32)


def cone_scan(volume, rows: int = 6) -> Projections:
    """Seen twice as large; lengths in µm, detector pixels of 2 µm."""
    distances = {"source_distance": 200.0, "detector_distance": 200.0}
    geometry = ConeGeometry(
        angles=ANGLES, n_columns=N + 8, size=N, pixel_size=2.0, n_rows=rows, **distances
    )
    lines = project(torch.from_numpy(volume), geometry).numpy()
    return Projections(
        data=lines.transpose(1, 0, 2),
        angles=ANGLES,
        pixel_size=(2.0, 2.0),
        unit="µm",
        centre=(N + 7) / 2,
        geometry="cone",
        is_line_integrals=True,
        **distances,
    )


def test_a_cone_beam_goes_to_fdk_in_one_block(balls):
    scan = cone_scan(balls)
    volume = reconstruct(scan, threads=1, size=N)
    assert volume.voxel_size == (1.0, 1.0, 1.0)
    assert volume.origin == (0.0, 4.0, 4.0)
    assert volume.provenance[-1]["settings"]["algorithm"] == "fdk"
    middle = balls[1:5] == 1
    found = np.asarray(volume.data)[1:5][middle]
    assert found.mean() == pytest.approx(1, abs=0.03)
    with pytest.raises(ProjectionsError, match="rows depend on each other"):
        reconstruct(scan, rows=(1, 3))


@pytest.mark.parametrize("row", [0, 2, 5])
def test_a_slice_of_a_cone_has_the_numbers_of_the_whole(balls, row):
    scan = cone_scan(balls)
    config = ReconstructConfig(threads=1)
    whole = reconstruct(scan, threads=1)
    one = reconstruct_slice(scan, row, config)
    np.testing.assert_allclose(one.data[0], whole.data[row], atol=1e-5)
    assert one.origin[0] == row * 1.0


def test_a_fan_beam_row_by_row(balls):
    distances = {"source_distance": 200.0, "detector_distance": 100.0}
    geometry = FanGeometry(angles=ANGLES, n_columns=N + 16, size=N, **distances)
    lines = project(torch.from_numpy(balls[2:4]), geometry).numpy()
    scan = Projections(
        data=lines.transpose(1, 0, 2),
        angles=ANGLES,
        geometry="fan",
        is_line_integrals=True,
        **distances,
    )
    steps = list(reconstruct_steps(scan, ReconstructConfig(threads=1, size=N)))
    result = steps[-1].result
    # The axis was found without being told, and said to be no more than about right.
    assert result.centre.column == pytest.approx((N + 15) / 2, abs=0.5)
    said = [step.message for step in steps if isinstance(step, Warned)]
    assert any("not exact here" in text for text in said)
    assert result.volume.voxel_size == pytest.approx((2 / 3,) * 3)
    solid = balls[2:4] == 1
    assert np.asarray(result.volume.data)[solid].mean() == pytest.approx(1, abs=0.02)
    with pytest.raises(ProjectionsError, match="cannot reconstruct a fan beam"):
        reconstruct(scan, algorithm="fdk")


def test_an_axis_at_the_edge_of_the_detector_widens_the_view(balls):
    full = ParallelGeometry(angles=ANGLES, n_columns=N, size=N)
    lines = project(torch.from_numpy(balls[2:3]), full).numpy()
    columns = slice(11, None)  # the axis at column 4.5 of what is left
    scan = Projections(
        data=lines[:, :, columns].transpose(1, 0, 2),
        angles=ANGLES,
        centre=4.5,
        is_line_integrals=True,
    )
    volume = reconstruct(scan, threads=1)
    assert volume.provenance[-1]["used"]["joined_full_turn"] is True
    assert volume.shape[1] == N
    assert volume.origin[1] == pytest.approx(-5.5)
    found = np.asarray(volume.data)
    solid = balls[2:3] == 1
    assert found[solid].mean() == pytest.approx(1, abs=0.02)
    kept = reconstruct(scan, threads=1, full_turn="keep")
    assert kept.shape[1] == scan.n_columns


def test_what_a_few_angles_and_narrow_slices_do_is_said(balls):
    full = ParallelGeometry(angles=np.arange(60.0), n_columns=N, size=N)
    lines = project(torch.from_numpy(balls[2:3]), full).numpy()
    scan = Projections(
        data=lines.transpose(1, 0, 2), angles=full.angles, is_line_integrals=True
    )
    config = ReconstructConfig(
        threads=1, centre=15.5, algorithm="sirt", iterations=2, size=20
    )
    steps = reconstruct_steps(scan, config)
    said = " ".join(step.message for step in steps if isinstance(step, Warned))
    assert "60 of 180 degrees" in said
    assert "narrower than the 32 columns" in said
