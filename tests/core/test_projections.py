"""Projections: consistent parts, and selections that read nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_geosr.core.array_parts.selection import Selection
from napari_geosr.core.errors import ConfigError, ProjectionsError
from napari_geosr.core.projections import Projections


class OnDisk:
    """An array that accepts only slices of step one, and counts reads."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = (
            array,
            array.shape,
            array.dtype,
            3,
        )
        self.read = 0

    def __getitem__(self, key):
        assert all(isinstance(k, slice) and k.step in (None, 1) for k in key)
        found = self.array[key]
        self.read += found.size
        return found


def make(shape=(6, 4, 5), **kwargs) -> Projections:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    kwargs = {"angles": np.arange(shape[0]) * 30.0, "data": data} | kwargs
    return Projections(name="scan", **kwargs)


def test_what_is_unknown_stays_unknown():
    scan = make()
    assert (scan.n_angles, scan.n_rows, scan.n_columns) == scan.shape == (6, 4, 5)
    assert scan.unit == "pixel"
    assert not scan.has_physical_size
    assert scan.centre is None
    assert scan.geometry == "parallel"
    assert scan.angles.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        scan.angles[0] = 1


def test_a_full_turn_is_told_from_half_a_turn():
    half = make(angles=np.arange(6) * 30.0)
    assert half.angular_range == pytest.approx(180)
    assert not half.is_full_turn
    assert make(angles=np.arange(6)[::-1] * 60.0).is_full_turn
    assert make((1, 2, 3), angles=[0.0]).angular_range == 0


def test_one_number_is_the_size_of_square_pixels():
    assert make(pixel_size=2.5, unit="um").pixel_size == (2.5, 2.5)
    assert make(pixel_size=2.5, unit="um").unit == "µm"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": np.zeros((6, 4))}, "shape .6, 4.; projections need three axes"),
        ({"data": np.zeros((6, 0, 4))}, "none of them empty"),
        (
            {"data": np.zeros((6, 4, 5), complex)},
            "complex128; projections must be real",
        ),
        ({"angles": np.arange(5.0)}, "6 projections but 5 angles"),
        ({"angles": np.zeros((6, 2))}, "Give one angle for each projection"),
        (
            {"angles": [0, 1, np.nan, 3, 4, np.inf]},
            "2 of its 6 angles are NaN",
        ),
        ({"flats": np.zeros((2, 4, 6))}, "flat fields have shape .2, 4, 6."),
        ({"darks": np.zeros((4, 5))}, "dark fields have shape .4, 5."),
        ({"pixel_size": (0.0, 1.0)}, "pixel size .0.0, 1.0.; two numbers"),
        ({"pixel_size": (1.0, 1.0, 1.0)}, "two numbers greater than zero"),
        (
            {"geometry": "spiral"},
            "'spiral' is not a known geometry.*parallel, fan, cone",
        ),
        ({"centre": float("nan")}, "nan is not a valid rotation centre"),
        ({"geometry": "cone"}, "cone-beam scan and needs its source distance"),
        (
            {"geometry": "fan", "source_distance": 10.0},
            "fan-beam scan and needs its detector distance",
        ),
        (
            {"geometry": "fan", "source_distance": 0.0, "detector_distance": 0.0},
            "source distance .not 0.0.",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_sentence(change, says):
    with pytest.raises(ProjectionsError, match=says) as caught:
        make(**change)
    assert "'scan'" in str(caught.value)


def test_an_unknown_unit_is_refused():
    with pytest.raises(ConfigError, match="furlong"):
        make(unit="furlong")


def test_rows_take_flats_and_darks_along():
    scan = make(flats=np.ones((2, 4, 5)), darks=np.zeros((1, 4, 5)), centre=1.5)
    some = scan.rows(1, 3)
    assert some.shape == (6, 2, 5)
    assert some.flats.shape == (2, 2, 5)
    assert some.darks.shape == (1, 2, 5)
    assert some.centre == 1.5
    np.testing.assert_array_equal(some.data, scan.data[:, 1:3])


@pytest.mark.parametrize("rows", [(0, 0), (-1, 2), (2, 5), (3, 2)])
def test_rows_that_are_not_there_are_refused(rows):
    with pytest.raises(ProjectionsError, match="rows 0 to 3"):
        make().rows(*rows)


def test_rows_of_a_cone_beam_are_not_taken_alone():
    scan = make(geometry="cone", source_distance=10.0, detector_distance=0.0)
    with pytest.raises(ProjectionsError, match="cone-beam scan: its rows depend"):
        scan.rows(0, 2)
    assert scan.rows(0, 4).n_rows == 4


def test_every_kth_keeps_angle_and_data_together():
    scan = make()
    some = scan.every(2, first=1)
    assert some.angles.tolist() == [30, 90, 150]
    np.testing.assert_array_equal(some.data, scan.data[1::2])
    assert np.shares_memory(some.data, scan.data)


@pytest.mark.parametrize(("k", "first"), [(0, 0), (1, 6), (2, -1)])
def test_a_thinning_that_leaves_nothing_is_refused(k, first):
    with pytest.raises(ProjectionsError, match="cannot be selected"):
        make().every(k, first)


def test_projections_that_are_not_there_cannot_be_chosen():
    with pytest.raises(ProjectionsError, match="no projection 6"):
        make().subset([0, 6])
    with pytest.raises(ProjectionsError, match="no projection is selected"):
        make().subset([])


planes = st.lists(st.integers(0, 11), min_size=1, max_size=14)


@given(first=planes, second=planes, start=st.integers(0, 2), length=st.integers(1, 3))
def test_choices_of_choices_are_those_of_numpy(first, second, start, length):
    array = np.arange(12 * 5 * 4).reshape(12, 5, 4)
    scan = Projections(OnDisk(array), np.arange(12.0))
    second = [i % len(first) for i in second]
    chosen = scan.subset(first).rows(start, start + length).subset(second)
    expected = array[first][:, start : start + length][second]
    assert chosen.angles.tolist() == np.arange(12.0)[first][second].tolist()
    assert scan.data.read == 0
    assert chosen.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(chosen.data), expected)
    np.testing.assert_array_equal(chosen.data[0], expected[0])
    np.testing.assert_array_equal(chosen.data[::2, -1:, 1], expected[::2, -1:, 1])
    np.testing.assert_array_equal(chosen.data[..., 2], expected[..., 2])
    np.testing.assert_array_equal(chosen.data[:, 0], expected[:, 0])


def test_far_planes_are_read_without_those_between():
    on_disk = OnDisk(np.zeros((100, 4, 5)))
    some = Selection(on_disk, np.arange(0, 100, 10), (0, 2))
    some[...]
    assert on_disk.read == 10 * 2 * 5
    with pytest.raises(IndexError, match="4 indices"):
        some[0, 0, 0, 0]


def test_a_dask_array_stays_lazy():
    da = pytest.importorskip("dask.array")
    scan = make(data=da.zeros((6, 4, 5), chunks=(1, 4, 5)))
    assert isinstance(scan.subset([4, 1]).rows(0, 2).data, da.Array)


def test_lists_are_projections():
    scan = Projections([[[1, 2]]], [0], flats=[[[3, 3]]], darks=[[[0, 0]]])
    assert scan.shape == np.asarray(scan).shape == (1, 1, 2)
    assert scan.flats.shape == (1, 1, 2)


@pytest.mark.parametrize("wrong", ["scan.h5", None, [[[1], [1, 2]]], [[["a"]]]])
def test_what_is_no_array_is_refused_in_one_sentence(wrong):
    with pytest.raises(ProjectionsError) as caught:
        Projections(wrong, [0])
    assert str(caught.value).endswith(".")
    with pytest.raises(ProjectionsError):
        make(flats=wrong) if wrong is not None else Projections(wrong, [0])


def test_projections_are_an_array_for_numpy():
    scan = make()
    assert np.array_equal(np.asarray(scan), scan.data)
    lazy = make(data=OnDisk(scan.data))
    assert np.array_equal(np.asarray(lazy), scan.data)
    with pytest.raises(ValueError, match="not in memory"):
        np.array(lazy, copy=False)


def test_one_line_says_what_projections_are():
    scan = make(pixel_size=2.5, unit="um")
    assert repr(scan) == (
        "<Projections 'scan': angles 6 × rows 4 × columns 5, pixel size 2.5 µm, "
        "float32, 480 B>"
    )
    assert repr(make(data=OnDisk(scan.data))).endswith("480 B, lazy>")
    lazy = make(data=OnDisk(scan.data))
    assert "angle 90°" in lazy._repr_html_()
    assert lazy.data.read == 4 * 5
