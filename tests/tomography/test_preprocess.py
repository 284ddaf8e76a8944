"""Counts to line integrals: exact where possible, and reported otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_geosr.core.errors import ConfigError, ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.io.projections import read_projections
from napari_geosr.tomography.preparation_config import PreparationConfig
from napari_geosr.tomography.preprocess import (
    ClippingReport,
    beam_without_sample,
    line_integrals,
    prepare_rows,
)


def scan(counts, flats=None, darks=None, **more) -> Projections:
    counts = np.asarray(counts)
    return Projections(
        counts,
        np.arange(len(counts)) * 180.0 / len(counts),
        flats=flats,
        darks=darks,
        name="scan",
        **more,
    )


def known(rng, shape=(12, 3, 20), dtype=np.float32):
    """Line integrals, and the corresponding counts, flats and darks."""
    lines = rng.uniform(0, 2, shape)
    gain = rng.uniform(500, 2000, shape[1:])
    dark = rng.uniform(50, 100, shape[1:])
    counts = (gain * np.exp(-lines) + dark).astype(dtype)
    flats = np.stack([gain + dark] * 4).astype(dtype)
    darks = np.stack([dark] * 3).astype(dtype)
    return lines, scan(counts, flats, darks)


def test_line_integrals_are_those_that_the_counts_came_from(rng):
    lines, projections = known(rng)
    sinogram, report = prepare_rows(projections, 0, 3)
    assert sinogram.dtype == np.float32
    assert sinogram.shape == (3, 12, 20)
    np.testing.assert_allclose(sinogram, lines.transpose(1, 0, 2), atol=1e-4)
    assert report == ClippingReport(n_values=lines.size)
    assert report.summary_lines() == []


@settings(max_examples=15, deadline=None)
@given(
    n_rows=st.integers(1, 4),
    stripes=st.sampled_from(["none", "sorting", "all"]),
    zingers=st.sampled_from([0.0, 8.0]),
)
def test_blocks_of_rows_give_what_the_whole_gives(n_rows, stripes, zingers):
    _, projections = known(np.random.default_rng(1), (15, 4, 24))
    prepared = line_integrals(
        projections, PreparationConfig(stripes=stripes, zingers=zingers, stripe_size=5)
    )
    whole, report = prepared.rows(0, 4)
    parts = np.zeros_like(whole)
    summed = ClippingReport()
    for place, block, one in prepared.blocks(n_rows):
        parts[place] = block
        summed += one
    np.testing.assert_array_equal(parts, whole)
    assert summed == report


def test_what_is_not_light_is_clipped_and_counted(rng):
    _, projections = known(rng, dtype=np.float64)
    counts = np.array(projections.data)
    counts[2, 1, 5:8] = 0
    sinogram, report = prepare_rows(projections.replace(data=counts), 0, 3)
    assert report.n_clipped == 3
    np.testing.assert_allclose(sinogram[1, 2, 5:8], -np.log(1e-4), rtol=1e-6)
    assert (
        "3 of 720 values were below the minimum transmission"
        in report.summary_lines()[0]
    )
    config = PreparationConfig(minimum_transmission=0.01)
    sinogram, _ = prepare_rows(projections.replace(data=counts), 1, 2, config)
    assert sinogram[0, 2, 5] == pytest.approx(-np.log(0.01))


def test_saturated_values_are_counted():
    counts = np.full((4, 1, 6), 1000, np.uint16)
    counts[1, 0, 2:4] = 65535
    flats = np.full((1, 1, 6), 2000, np.uint16)
    _, report = prepare_rows(scan(counts, flats), 0, 1)
    assert report.n_saturated == 2
    assert report.notes == (
        "There are no dark fields; a dark level of zero was assumed.",
    )
    _, report = prepare_rows(
        scan(counts, flats), 0, 1, PreparationConfig(saturation=1000)
    )
    assert report.n_saturated == 24


def test_dead_pixels_are_interpolated_and_counted(rng):
    lines = np.broadcast_to(np.linspace(0, 1, 20), (6, 2, 20))
    flats = np.full((2, 2, 20), 1e4)
    counts = 1e4 * np.exp(-lines)
    flats[:, 1, 7] = 0
    counts[:, 1, 7] = np.nan
    sinogram, report = prepare_rows(scan(counts, flats, flats * 0), 0, 1)
    assert report.n_dead == 0
    with pytest.raises(ProjectionsError, match=r"NaN or infinite values \(6 in"):
        prepare_rows(scan(counts, flats, flats * 0), 0, 2)
    config = PreparationConfig(nonfinite="fill")
    sinogram, report = prepare_rows(scan(counts, flats, flats * 0), 0, 2, config)
    assert report.n_dead == 1
    assert "1 detector pixels recorded no signal" in " ".join(report.summary_lines())
    np.testing.assert_allclose(sinogram[1], lines[:, 1], atol=2e-3)


def test_a_row_in_the_shade_is_empty_not_an_error(rng):
    flats = np.full((2, 2, 20), 1e4)
    flats[:, 1] = 0
    counts = np.full((6, 2, 20), 5e3)
    counts[:, 1] = 0
    sinogram, report = prepare_rows(scan(counts, flats, flats * 0), 0, 2)
    assert (report.n_dead, report.n_empty) == (0, 1)
    assert not sinogram[1].any()
    (said,) = report.summary_lines()
    assert "1 detector row recorded no signal" in said
    assert "zero attenuation" in said
    flats[0, :, 3] = flats[1, :, 3] = 0
    _, report = prepare_rows(scan(counts, flats, flats * 0), 0, 2)
    assert (report.n_dead, report.n_empty) == (1, 1)
    assert (report + report).n_empty == 2


def test_values_that_are_no_numbers_are_refused_or_filled(rng):
    lines, projections = known(rng)
    counts = np.array(projections.data)
    counts[4, 2, 9] = np.nan
    counts[5, 2, 0] = np.inf
    bad = projections.replace(data=counts)
    with pytest.raises(ProjectionsError, match=r"\(2 in .*projection 4, row 2, col"):
        prepare_rows(bad, 2, 3)
    sinogram, report = prepare_rows(bad, 2, 3, PreparationConfig(nonfinite="fill"))
    assert np.isfinite(sinogram).all()
    assert report.n_nonfinite == 2
    lines = projections.replace(data=np.log(counts), is_line_integrals=True)
    with pytest.raises(ProjectionsError, match="NaN or infinite"):
        prepare_rows(lines, 0, 3)
    sinogram, report = prepare_rows(lines, 0, 3, PreparationConfig(nonfinite="fill"))
    assert np.isfinite(sinogram).all()
    assert report.n_nonfinite == 2


@pytest.mark.parametrize(
    ("flats", "darks", "says"),
    [
        (0.0, None, "the flat fields contain no signal"),
        (0.0, 0.0, "the flat fields contain no signal"),
        (100.0, 100.0, "the flat field is nowhere brighter"),
        (100.0, 200.0, "the flat field is nowhere brighter"),
        (
            np.nan,
            None,
            "flat field 0 contains NaN or infinite values .row 0, column 0.",
        ),
        (100.0, np.inf, "dark field 0 contains NaN"),
    ],
)
def test_flat_and_dark_fields_that_tell_nothing_are_refused(flats, darks, says):
    frames = [None if v is None else np.full((2, 2, 8), v) for v in (flats, darks)]
    with pytest.raises(ProjectionsError, match=says) as caught:
        prepare_rows(scan(np.ones((4, 2, 8)), *frames), 0, 1)
    assert "'scan'" in str(caught.value)


@pytest.mark.parametrize("flats", [None, np.full((1, 2, 8), 100.0)])
def test_projections_without_light_are_refused(flats):
    with pytest.raises(ProjectionsError, match=r"'scan'.*no signal"):
        prepare_rows(scan(np.zeros((4, 2, 8)), flats), 0, 2)


def test_without_flat_fields_the_beam_is_taken_from_the_brightest_part(rng):
    lines = rng.uniform(0, 2, (10, 3, 100))
    lines[..., :20] = 0
    counts = 5000 * np.exp(-lines)
    sinogram, report = prepare_rows(scan(counts), 1, 2)
    np.testing.assert_allclose(sinogram[0], lines[:, 1], atol=1e-4)
    assert "There are no flat fields; 5000 counts" in report.notes[0]
    config = PreparationConfig(incident=10000)
    twice, report = prepare_rows(scan(counts), 1, 2, config)
    np.testing.assert_allclose(twice - sinogram, np.log(2), atol=1e-4)
    assert "(given)" in report.notes[0]


@pytest.mark.parametrize("incident", [1e-20, 1e20])
def test_counts_without_the_sample_that_cannot_be_are_refused(rng, incident):
    counts = rng.poisson(500, (20, 4, 32)).astype(np.uint16)
    scan = Projections(counts, np.arange(20) * 9.0, name="scan")
    config = PreparationConfig(incident=incident)
    with pytest.raises(ProjectionsError, match="cannot be the counts"):
        beam_without_sample(scan, config)
    assert beam_without_sample(scan, PreparationConfig(incident=900)) == 900


def test_the_median_of_flat_fields_knows_no_zinger(rng):
    lines, projections = known(rng)
    flats = np.array(projections.flats)
    flats[0] *= 40
    changed = projections.replace(flats=flats)
    config = PreparationConfig(frames="median")
    sinogram, _ = prepare_rows(changed, 0, 3, config)
    np.testing.assert_allclose(sinogram, lines.transpose(1, 0, 2), atol=1e-4)
    assert prepare_rows(changed, 0, 3)[0].mean() > lines.mean() + 1


def test_line_integrals_stay_as_they_are_and_the_file_unchanged(rng):
    lines = rng.uniform(-1, 5, (6, 2, 8)).astype(np.float32)
    projections = scan(lines, is_line_integrals=True)
    config = PreparationConfig(zingers=8, stripes="sorting")
    before = lines.copy()
    sinogram, report = prepare_rows(projections, 0, 2)
    np.testing.assert_array_equal(sinogram, lines.transpose(1, 0, 2))
    prepare_rows(projections, 0, 2, config)
    sinogram += 1
    np.testing.assert_array_equal(lines, before)
    assert report.n_clipped == 0


def test_zingers_go_and_photons_stay(rng):
    lines = np.broadcast_to(np.sin(np.linspace(0, 3, 60)), (40, 2, 60))
    counts = rng.poisson(1000 * np.exp(-lines)).astype(np.float64)
    clean = counts.copy()
    hit = rng.random(counts.shape) < 0.002
    counts[hit] += 4000
    flats = np.full((1, 2, 60), 1000.0)
    config = PreparationConfig(zingers=8)
    sinogram, report = prepare_rows(scan(counts, flats, flats * 0), 0, 2, config)
    truth, _ = prepare_rows(scan(clean, flats, flats * 0), 0, 2)
    assert abs(report.n_zingers - hit.sum()) <= 1
    where = hit.transpose(1, 0, 2)
    assert np.abs(sinogram[where]).max() < 2
    np.testing.assert_array_equal(sinogram[~where], truth[~where])
    _, report = prepare_rows(scan(clean, flats, flats * 0), 0, 2, config)
    assert report.n_zingers == 0
    assert "zingers" not in " ".join(report.summary_lines())


def test_rows_that_are_not_there_are_refused(rng):
    _, projections = known(rng)
    for rows in ((0, 4), (2, 2), (-1, 1)):
        with pytest.raises(ProjectionsError, match="rows 0 to 2"):
            prepare_rows(projections, *rows)
    with pytest.raises(ConfigError, match="stripes"):
        PreparationConfig.create(stripes="wipe")


def test_the_real_tooth_is_prepared(shared_data):
    projections = read_projections(shared_data / "projections" / "tooth.h5")
    sinogram, report = prepare_rows(projections, 0, 2)
    assert sinogram.shape == (2, 181, 640)
    assert report.summary_lines() == []
    assert np.abs(np.median(sinogram[:, :, :20])) < 0.02
    assert 1.5 < sinogram.max() < 2.5


def test_flat_fields_of_another_exposure_are_doubted(rng):
    _lines, projections = known(rng)
    bright = projections.replace(data=8 * np.asarray(projections.data))
    _, report = prepare_rows(bright, 0, 3)
    assert any("brighter behind the sample" in note for note in report.notes)


def test_a_detector_that_is_half_in_the_dark_is_doubted(rng):
    _lines, projections = known(rng)
    flats = np.array(projections.flats)
    flats[:, :, :8] = np.asarray(projections.darks)[0, :, :8]
    _, report = prepare_rows(projections.replace(flats=flats), 0, 3)
    assert any("twentieth of the detector" in note for note in report.notes)
