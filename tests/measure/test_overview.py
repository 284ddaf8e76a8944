"""The picture of the phases in a report: the coarse grid, and its drawing."""

from __future__ import annotations

import itertools
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_geosr import measure_porosity
from napari_geosr.core.volume import Volume
from napari_geosr.measure.overview import MOST_CELLS, Overview, OverviewBuilder
from napari_geosr.measure.overview.curves import _Plot, curve_pictures, profile_of
from napari_geosr.measure.overview.drawing import caption_of, draw, pictures_of
from napari_geosr.measure.reports.export import write_html
from napari_geosr.measure.reports.report import PorosityReport


def _built(pores, sample=None, size=(1.0, 1.0, 1.0)) -> Overview:
    builder = OverviewBuilder(pores.shape, size, "µm")
    builder.add(slice(0, len(pores)), pores, sample)
    return builder.finish()


def _picture(overview: Overview) -> np.ndarray:
    """Opacity of the coloured surface, without the grey lines of the box."""
    picture = draw(overview)
    assert picture is not None
    rgba = np.asarray(Image.open(BytesIO(picture)).convert("RGBA")).astype(int)
    coloured = rgba[..., 0] - rgba[..., 2] > 15
    return coloured & (rgba[..., 3] > 200)


@given(st.lists(st.integers(1, 29), max_size=4), st.integers(0, 2**16))
def test_the_grid_does_not_depend_on_the_slabs(cuts, seed):
    rng = np.random.default_rng(seed)
    pores = rng.random((30, 5, 7)) < 0.3
    sample = pores | (rng.random(pores.shape) < 0.5)
    whole = _built(pores, sample)
    builder = OverviewBuilder(pores.shape, (1.0, 1.0, 1.0), "µm")
    ends = sorted({0, 30, *cuts})
    slabs = [slice(a, b) for a, b in itertools.pairwise(ends)]
    for slab in slabs[1:]:
        builder.add(slab, pores[slab], sample[slab])
    assert {s.start for s in builder.missing()} == set(range(slabs[0].stop))
    for slab in builder.missing():
        builder.add(slab, pores[slab], sample[slab])
    parts = builder.finish()
    assert np.array_equal(parts.pores, whole.pores)
    assert np.array_equal(parts.solid, whole.solid)
    assert np.array_equal(whole.pores == 255, pores)
    assert np.array_equal(whole.solid == 255, sample & ~pores)


def test_large_volumes_have_a_coarse_grid_with_their_shares():
    pores = np.zeros((10, 400, 200), bool)
    pores[:, :, :100] = np.arange(400)[:, None] % 2 == 0
    overview = _built(pores, size=(2.0, 1.0, 1.0))
    assert overview.pores.shape == (5, MOST_CELLS, 48)
    assert overview.lengths == (20, 400, 200)
    assert overview.planes_apart == 2
    assert abs(overview.pores[..., :20].mean() / 255 - 0.5) < 0.02
    assert not overview.pores[..., -20:].any()
    assert "drawn from 5 of 10 planes" in caption_of(overview, "scan")


def test_a_sphere_covers_its_share_of_the_picture():
    grid = np.ogrid[:48, :48, :48]
    ball = sum((g - 23.5) ** 2 for g in grid) <= 15**2
    found = _picture(_built(ball))
    rows, columns = np.nonzero(found)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert abs(height / width - 1) < 0.05
    assert abs(found.sum() / (np.pi / 4 * height * width) - 1) < 0.05
    # The box is 48 · |projected axes| wide: sin 55° + cos 55°.
    box = 48 * (np.sin(np.deg2rad(55)) + np.cos(np.deg2rad(55)))
    drawn = found.shape[1] * 0.88
    assert abs(width / drawn - 30 / box) < 0.05


@pytest.mark.parametrize(("axis", "row", "column"), [(0, -1, 0), (1, 0, -1), (2, 0, 1)])
def test_z_points_up_and_x_to_the_right(axis, row, column):
    places = []
    for where in (slice(3, 9), slice(31, 37)):
        pores = np.zeros((40, 40, 40), bool)
        box = [slice(17, 23)] * 3
        box[axis] = where
        pores[tuple(box)] = True
        places.append([np.mean(index) for index in np.nonzero(_picture(_built(pores)))])
    moved = np.subtract(places[1], places[0])
    if row:
        assert np.sign(moved[0]) == row
        assert abs(moved[1]) < 2
    if column:
        assert np.sign(moved[1]) == column


def test_reports_have_the_grid_of_volumes_only():
    scan = np.full((12, 14, 16), 200, np.uint8)
    scan[3:8, 4:9, 5:10] = 20
    report = measure_porosity(Volume(scan, "ZYX"))
    assert report.overview is not None
    assert np.array_equal(report.overview.pores == 255, scan == 20)
    assert measure_porosity(Volume(scan[5], "YX")).overview is None


def test_the_grid_is_stored_and_read_again(tmp_path):
    pores = np.random.default_rng(1).random((9, 8, 7)) < 0.3
    overview = _built(pores, size=(1.0, 2.0, 3.0))
    path = tmp_path / "overview.npz"
    path.write_bytes(overview.to_bytes())
    found = Overview.from_file(path)
    assert draw(found) == draw(overview)
    path.write_bytes(b"other")
    assert Overview.from_file(path) is None
    assert Overview.from_file(tmp_path / "none.npz") is None


def _measured(**more) -> PorosityReport:
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(2).normal(size=(48, 40, 44)), 2)
    field += np.linspace(-0.02, 0.02, 48)[:, None, None]
    return measure_porosity(Volume(field, "ZYX", name="foam"), threshold=-0.05, **more)


def test_curves_are_drawn_of_what_was_measured():
    names = ("profile", "subvolumes", "two_point", "thickness")
    report = _measured(statistics=names)
    both = curve_pictures({"scan": report, "restored": report})
    assert len(both) == 4
    assert "slice along Z" in next(iter(both))
    for picture in both.values():
        rgba = np.asarray(Image.open(BytesIO(picture)).convert("RGBA")).astype(int)
        coloured = np.ptp(rgba[..., :3], axis=-1)[rgba[..., 3] > 200] > 60
        assert coloured.sum() > 200  # lines
        assert rgba[2, 2, 3] == 0  # no background
    assert curve_pictures({"scan": _measured()}) == {}


def test_the_profile_of_a_gradient_rises_and_has_errors():
    z, porosity, error = profile_of(_measured(statistics=("profile",)))
    assert np.array_equal(z, np.arange(48))
    assert porosity[:10].mean() > porosity[-10:].mean()
    assert (error > 0).all()
    assert profile_of(_measured()) is None


def test_one_phase_is_not_drawn():
    assert draw(_built(np.ones((8, 8, 8), bool))) is None


def test_lengths_without_a_unit_are_not_called_voxels(tmp_path) -> None:
    """Voxels of 1.953 without a unit: 20 voxels are 39.06, which is not a number of
    voxels.
    """
    rng = np.random.default_rng(0)
    grey = 200 * (rng.random((20, 20, 20)) < 0.6).astype(np.uint8)
    options = {"threshold": 100.0, "statistics": ("profile",)}
    for size, words in ((1.953, "39.06 unit"), (1.0, "20 voxels")):
        volume = Volume(grey, "ZYX", voxel_size=(size,) * 3, name="scan")
        report = measure_porosity(volume, **options)
        numbers, unit = words.split()
        (caption,) = pictures_of({"scan": report})
        assert f"{numbers} × {numbers} × {words} (Z × Y × X)" in caption
        assert _Plot({"scan": report}).unit == unit
        path = write_html(tmp_path / f"{size}.html", {"scan": report})
        page = path.read_text("utf-8")
        assert ("1.953 (unit unknown)" in page) == (size > 1)
