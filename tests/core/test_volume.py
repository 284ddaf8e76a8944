"""The volume: axes, geometry and the half-voxel rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.volume import Volume

lengths = st.floats(1e-3, 1e3)


def make(shape=(4, 5, 6), axes="ZYX", **kwargs) -> Volume:
    return Volume(np.zeros(shape), axes, name="foam", **kwargs)


def test_defaults_say_that_the_size_is_unknown():
    volume = make()
    assert volume.unit == "pixel"
    assert volume.voxel_size == (1.0, 1.0, 1.0)
    assert volume.origin == (0.0, 0.0, 0.0)
    assert not volume.has_physical_size
    assert volume.voxel_volume_mm3 is None


@pytest.mark.parametrize("axes", ["XYZ", "ZXY", "ZY", "QYX", "ZZYX", ""])
def test_axes_out_of_order_are_refused(axes):
    with pytest.raises(VolumeError, match="axes"):
        make((2,) * len(axes), axes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("voxel_size", (1.0, 1.0)),
        ("voxel_size", (0.0, 1.0, 1.0)),
        ("voxel_size", (float("nan"), 1.0, 1.0)),
        ("origin", (0.0,)),
    ],
)
def test_geometry_that_does_not_fit_is_refused(field, value):
    with pytest.raises(VolumeError, match="foam"):
        make(**{field: value})


def test_array_and_axes_must_agree():
    with pytest.raises(VolumeError, match="has 3 axes"):
        make((2, 3, 4), "YX")


@pytest.mark.parametrize("edge", [1e-300, 5e-324, 1e200])
def test_an_edge_out_of_this_world_is_refused(edge):
    with pytest.raises(VolumeError, match="Check voxel size and unit"):
        Volume(np.zeros((2, 2)), "YX", (1.0, edge), "m")


def test_voxel_volume():
    volume = make(voxel_size=(2.0, 1.0, 0.5), unit="um")
    assert volume.unit == "µm"
    assert volume.voxel_volume_mm3 == pytest.approx(1e-9)


@given(
    size=st.tuples(lengths, lengths, lengths),
    origin=st.tuples(*[st.floats(-1e3, 1e3)] * 3),
    factor=st.integers(1, 8),
)
def test_upscaling_keeps_the_outer_edges(size, origin, factor):
    volume = make(voxel_size=size, origin=origin)
    fine, start = volume.upscaled_geometry(factor)
    for n, v, o, f, s in zip(volume.shape, size, origin, fine, start, strict=True):
        assert s - f / 2 == pytest.approx(o - v / 2, rel=1e-9, abs=1e-9)
        last = s + (n * factor - 1) * f
        assert last + f / 2 == pytest.approx(
            o + (n - 1) * v + v / 2, rel=1e-9, abs=1e-9
        )


def test_select_takes_one_time_point_and_channel():
    volume = Volume(np.arange(48).reshape(2, 3, 2, 4), "TCYX")
    chosen = volume.select(time=1, channel=2)
    assert chosen.axes == "YX"
    np.testing.assert_array_equal(chosen.data, volume.data[1, 2])


def test_select_asks_for_what_it_needs():
    volume = Volume(np.zeros((3, 4, 5, 6)), "TZYX", name="cells")
    with pytest.raises(VolumeError, match=r"3 time points. Choose one of them, 0 to 2"):
        volume.select()
    with pytest.raises(VolumeError, match="no time 3"):
        volume.select(time=3)
    with pytest.raises(VolumeError, match="no time -1: choose 0 to 2"):
        volume.select(time=-1, channel=0)
    with pytest.raises(VolumeError, match="no channel axis"):
        volume.select(time=0, channel=1)


def test_axes_of_length_one_need_no_choice():
    assert Volume(np.zeros((1, 4, 5)), "CYX").select().axes == "YX"


def test_with_geometry_moves_the_origin_along():
    volume = make(origin=(-0.25, 0.0, 2.0))
    sized = volume.with_geometry((4.0, 2.0, 2.0), "µm")
    assert sized.origin == (-1.0, 0.0, 4.0)
    assert sized.with_geometry((8.0,), None).voxel_size == (8.0, 8.0, 8.0)
    with pytest.raises(ConfigError, match="voxel size"):
        volume.with_geometry(None, "µm")
    with pytest.raises(VolumeError, match="3 finite numbers for the voxel size"):
        volume.with_geometry((1.0, 2.0), "µm")


def test_select_reads_nothing():
    class Unread:
        """An array on disk that records when it is read."""

        shape, ndim, dtype = (3, 2, 4, 5, 6), 5, np.dtype(np.uint8)

        def __init__(self):
            self.read = []

        def __getitem__(self, key):
            voxels = np.zeros(self.shape, np.uint8)[key]
            self.read.append(voxels.shape)
            return voxels

    data = Unread()
    chosen = Volume(data, "TCZYX").select(time=1, channel=1)
    assert (chosen.shape, chosen.is_lazy) == ((4, 5, 6), True)
    assert data.read == []
    assert np.asarray(chosen.data[2]).shape == (5, 6)
    assert data.read


def test_images_of_a_time_series_are_slices_at_their_place():
    data = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    series = Volume(data, "TCYX", (0.5, 0.25), "µm", (10.0, -20.0))
    slices = series.as_slices(channel=1)
    assert slices.axes == "ZYX"
    np.testing.assert_array_equal(np.asarray(slices.data), data[:, 1])
    # A time step has no length: the first slice is at zero, and the spacing is that of
    # the rows.
    assert slices.origin == (0.0, 10.0, -20.0)
    assert slices.voxel_size == (0.5, 0.5, 0.25)
    assert slices.unit == "µm"
