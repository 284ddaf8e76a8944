"""The rotation centre of simulated scans, for which it is known, and of real ones."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import Cancelled, ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.io.projections import read_projections
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.specimens.phantoms import random_blobs
from napari_geosr.physics.tomography_simulation import cylinder_sample, simulate_scan
from napari_geosr.tomography.centre import CentreConfig, find_centre
from napari_geosr.tomography.centre_scores import opposite_correlation, vertex


@pytest.fixture(scope="module")
def sample():
    phantom = random_blobs((4, 80, 80), porosity=0.25, radius=3, seed=1)
    return cylinder_sample(phantom).attenuation


def scanned(sample, **settings):
    scan = simulate_scan(sample, ScanConfig(**({"projections": 96} | settings)))
    return scan, scan.provenance[0]["truth"]["centre"]


@pytest.mark.parametrize("offset", [0.0, 3.3, -7.65, 21.5])
@pytest.mark.parametrize("photons", [1e4, 300])
def test_half_a_turn_tells_the_centre(sample, offset, photons):
    scan, truth = scanned(sample, centre_offset=offset, photons=photons)
    found = find_centre(scan)
    assert found.method == "wedge"
    assert found.column == pytest.approx(truth, abs=0.25)
    assert found.notes == ()
    assert found.scores.argmin() == np.abs(found.columns - found.column).argmin()
    assert found.lower_is_better


@pytest.mark.parametrize(
    "settings",
    [
        {"projections": 24},
        {"rings": 0.02},
        {"blur": 1.0, "sub_angles": 4},
        {"first_angle": 137.0},
        {"projections": 97, "zingers": 0.0005},
    ],
)
def test_other_scans_of_half_a_turn(sample, settings):
    scan, truth = scanned(sample, centre_offset=-3.3, photons=3000, **settings)
    assert find_centre(scan).column == pytest.approx(truth, abs=0.25)


@pytest.mark.parametrize("offset", [0.4, -6.3])
@pytest.mark.parametrize("photons", [1e4, 100])
@pytest.mark.parametrize("n", [120, 121])
def test_a_full_turn_tells_the_centre(sample, offset, photons, n):
    scan, truth = scanned(
        sample, centre_offset=offset, photons=photons, angle_range=360, projections=n
    )
    found = find_centre(scan)
    assert found.method == "opposite"
    assert found.column == pytest.approx(truth, abs=0.25)
    assert not found.lower_is_better


@pytest.mark.parametrize(
    ("step", "n", "method"), [(137.5, 36, "wedge"), (23.5, 26, "opposite")]
)
def test_golden_angles_that_look_like_a_turn_tell_the_centre(sample, step, n, method):
    whole, truth = scanned(
        sample, centre_offset=-4.3, photons=3000, projections=720, angle_range=360.0
    )
    every = whole.angles[1] - whole.angles[0]
    views = np.round(np.arange(n) * step / every).astype(int) % 720
    found = find_centre(whole.subset(views))
    assert found.method == method
    assert found.column == pytest.approx(truth, abs=0.5)


def test_an_axis_near_the_edge_is_found_from_a_full_turn(sample):
    scan, truth = scanned(
        sample,
        centre_offset=-20.3,
        columns=56,
        angle_range=360,
        projections=180,
        photons=1000,
    )
    assert find_centre(scan).column == pytest.approx(truth, abs=0.25)


def test_angles_in_any_order_with_the_end_included(sample):
    scan, truth = scanned(sample, centre_offset=2.2, projections=91, angle_range=182)
    assert scan.angles[-1] == 180
    mixed = scan.subset(np.random.default_rng(0).permutation(91))
    assert find_centre(mixed).column == pytest.approx(truth, abs=0.1)


def test_one_pair_of_views_will_do(sample):
    scan, truth = scanned(sample, centre_offset=2.2, projections=91, angle_range=182)
    found = find_centre(scan, CentreConfig(method="pair"))
    assert found.column == pytest.approx(truth, abs=0.25)


def test_the_search_keeps_to_its_range_and_says_when_that_is_too_small(sample):
    scan, truth = scanned(sample, centre_offset=5.0)
    found = find_centre(scan, CentreConfig(low=40, high=45))
    assert found.columns.min() >= 40
    assert found.columns.max() <= 45
    assert any("at the end of the search" in note for note in found.notes)
    assert truth > 45


def test_noise_alone_is_not_certain():
    rng = np.random.default_rng(0)
    lines = rng.standard_normal((60, 2, 64)).astype(np.float32)
    scan = Projections(lines, np.arange(60) * 3.0, is_line_integrals=True)
    assert any("is uncertain" in note for note in find_centre(scan).notes)


def test_a_fan_beam_is_said_to_be_taken_as_parallel(sample):
    scan, _ = scanned(sample)
    fan = scan.replace(geometry="fan", source_distance=1e4, detector_distance=0.0)
    around = CentreConfig(low=38, high=50)
    notes = find_centre(fan, around).notes
    assert any("as for a parallel beam" in note for note in notes)


def test_what_tells_nothing_is_refused(sample):
    scan, _ = scanned(sample)
    with pytest.raises(ProjectionsError, match="cover 90 degrees|requires 180 degrees"):
        find_centre(scan.subset(range(48)))
    with pytest.raises(ProjectionsError, match="no views from opposite sides"):
        find_centre(scan.subset(range(48)), CentreConfig(method="opposite"))
    with pytest.raises(ProjectionsError, match="columns 50 to 40, is empty"):
        find_centre(scan, CentreConfig(low=50, high=40))
    with pytest.raises(ProjectionsError, match="no row 9"):
        find_centre(scan, CentreConfig(row=9))
    empty = Projections(np.zeros((60, 2, 64)), np.arange(60) * 3.0)
    with pytest.raises(ProjectionsError, match="axis cannot be determined"):
        find_centre(empty.replace(is_line_integrals=True))
    with pytest.raises(Cancelled):
        find_centre(scan, should_stop=lambda: True)


def test_correlation_is_one_where_views_match(rng):
    wide = rng.standard_normal((1, 5, 60))
    near, far = wide[..., 10:50], wide[..., 20:60][..., ::-1]
    columns, correlation = opposite_correlation(near, far, 8)
    best = int(correlation.argmax())
    assert correlation[best] == pytest.approx(1)
    # The columns match with a shift of 10: 2 c - 39 = 10.
    assert columns[best] == 24.5
    assert np.abs(np.delete(correlation, best)).max() < 0.7


def test_a_vertex_lies_between_columns():
    columns = np.arange(5.0)
    assert vertex(columns, (columns - 2.2) ** 2, 2) == pytest.approx(2.2)
    assert vertex(columns, columns, 0) == 0
    assert vertex(columns, np.ones(5), 2) == 2


def test_the_real_tooth_has_its_known_centre(shared_data):
    scan = read_projections(shared_data / "projections" / "tooth.h5")
    found = find_centre(scan)
    assert found.column == pytest.approx(295.5, abs=0.5)
    assert found.notes == ()
    # The scan's last projection is opposite to the first, so it ends at 180, not 179.
    inclusive = scan.replace(angles=np.linspace(0, 180, 181))
    again = find_centre(inclusive, CentreConfig(low=290, high=300))
    assert again.column == pytest.approx(295.5, abs=0.1)
    assert again.scores.min() < found.scores.min()


def test_real_sinograms_tell_their_centre(shared_data):
    folder = shared_data / "projections"
    shale = read_projections(
        folder / "shale_prj.tiff", angle_range=(0, 180), endpoint=True
    )
    around = CentreConfig(low=150, high=210)
    assert find_centre(shale, around).column == pytest.approx(182.5, abs=0.1)
    neutron = read_projections(
        folder / "sinogram_360_neutron_image.tif", angle_range=(0, 360), endpoint=True
    )
    full = find_centre(neutron)
    around = CentreConfig(method="wedge", low=230, high=260)
    half = find_centre(neutron, around)
    assert full.method == "opposite"
    assert full.column == pytest.approx(half.column, abs=0.5)
