"""Volumes made from arrays, volumes as arrays, and their display in notebooks."""

from __future__ import annotations

import pickle
import re
from base64 import b64decode
from typing import Any

import dask.array as da
import imagecodecs
import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError, FileError, VolumeError
from napari_geosr.core.volume import Volume


class Recorder:
    """A lazy array that records the requested keys."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.keys = array, []
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, key: Any) -> np.ndarray:
        self.keys.append(key)
        return self.array[key]


def picture(volume: Volume) -> np.ndarray:
    source = re.search(r'base64,([^"]+)"', volume._repr_html_())
    assert source is not None
    return imagecodecs.png_decode(b64decode(source[1]))


@pytest.mark.parametrize("ndim", [2, 3, 4, 5])
def test_axes_are_told_by_their_number(ndim):
    volume = Volume.from_array(np.zeros((2, 3, 4, 5, 6)[-ndim:]))
    assert volume.axes == {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}[ndim]
    assert volume.name == "array"


def test_an_array_is_neither_copied_nor_read():
    data = np.zeros((3, 4, 5))
    assert Volume.from_array(data).data is data
    lazy = Recorder(data)
    assert Volume.from_array(lazy).data is lazy
    Volume.from_array(lazy, axes="YXZ")
    assert lazy.keys == []


def test_axes_in_another_order_are_put_into_ours(rng):
    data = rng.random((5, 4, 3))
    for given in (data, da.from_array(data), Recorder(data)):
        volume = Volume.from_array(given, axes="xyz")
        assert volume.axes == "ZYX"
        assert np.array_equal(np.asarray(volume), data.T)


def test_voxel_size_and_unit():
    data = np.zeros((3, 4, 5))
    assert Volume.from_array(data).unit == "pixel"
    assert Volume.from_array(data, 2, "um").voxel_size == (2.0, 2.0, 2.0)
    assert Volume.from_array(data, (3, 2, 1), "mm").voxel_size == (3.0, 2.0, 1.0)
    with pytest.raises(ConfigError, match="voxel size"):
        Volume.from_array(data, unit="mm")
    with pytest.raises(VolumeError, match="greater than zero"):
        Volume.from_array(data, -1, "mm")


@pytest.mark.parametrize("axes", ["ZYXC", "YX", "ZZX", "QYX", "ZTX", ""])
def test_axes_that_do_not_fit_are_refused(axes):
    with pytest.raises(VolumeError, match="axes"):
        Volume.from_array(np.zeros((3, 4, 5)), axes=axes)


def test_a_picture_in_colours_is_not_taken_for_slices():
    photo = np.zeros((32, 40, 3), np.uint8)
    with pytest.raises(VolumeError, match="axes='YXC' for colours, or axes='ZYX'"):
        Volume.from_array(photo)
    assert Volume.from_array(photo, axes="YXC").shape == (3, 32, 40)
    assert Volume.from_array(photo.astype("f4")).axes == "ZYX"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (np.zeros(3), "two axes"),
        (np.zeros((1,) * 6), "three to five"),
        (np.zeros((3, 0)), "empty"),
        (np.zeros((3, 3), complex), "complex128"),
        (np.array([["a", "b"]]), "real-valued"),
        (np.zeros((3, 3), "M8[s]"), "datetime64"),
        ({"a": 1}, "real-valued"),
        ([[1, 2], [3]], "a list"),
        (np.ma.masked_less(np.arange(6).reshape(2, 3), 3), "masked"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_volume_is_made_of_is_refused(wrong, reason):
    with pytest.raises(VolumeError, match=reason):
        Volume.from_array(wrong)


def test_lists_tensors_and_foreign_byte_orders_become_arrays():
    torch = pytest.importorskip("torch")
    assert Volume.from_array([[1, 2], [3, 4]]).shape == (2, 2)
    tensor = Volume.from_array(torch.ones(3, 4, 5))
    assert tensor.dtype == np.float32
    assert not tensor.is_lazy
    swapped = Volume.from_array(np.arange(6, dtype=">u2").reshape(2, 3))
    assert swapped.dtype.isnative
    assert np.asarray(swapped).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(VolumeError, match="Tensor"):
        Volume.from_array(torch.ones(3, 4, requires_grad=True))


def test_a_volume_is_an_array(rng):
    data = rng.random((3, 4, 5)).astype("f4")
    volume = Volume.from_array(data)
    assert np.asarray(volume) is data
    assert np.shares_memory(np.array(volume, copy=False), data)
    assert not np.shares_memory(np.array(volume), data)
    half = np.asarray(volume, dtype=np.float16)
    assert half.dtype == np.float16
    assert float(np.mean(volume)) == pytest.approx(data.mean())
    with pytest.raises(ValueError, match="copy"):
        np.array(volume, dtype="f8", copy=False)


def test_a_lazy_volume_is_read_to_become_an_array(rng):
    data = rng.random((3, 4, 5))
    for lazy in (Recorder(data), da.from_array(data)):
        volume = Volume.from_array(lazy)
        assert np.array_equal(np.asarray(volume), data)
        assert np.asarray(volume, np.float32).dtype == np.float32
        with pytest.raises(ValueError, match="not in memory"):
            np.array(volume, copy=False)


def test_one_line_says_what_a_volume_is():
    data = np.zeros((8, 64, 32), "u2")
    volume = Volume.from_array(data, (2, 1, 1), "µm", name="scan")
    assert repr(volume) == (
        "<Volume 'scan': Z 8 × Y 64 × X 32, voxel size 2 × 1 × 1 µm, uint16, 32.8 kB>"
    )
    lazy = repr(Volume.from_array(da.from_array(data)))
    assert lazy.endswith("voxel size unknown, uint16, 32.8 kB, lazy>")


def test_the_line_stays_short_whatever_the_volume():
    wide = np.lib.stride_tricks.as_strided(
        np.zeros(1), (10**4, 12, 10**4, 10**4, 10**4), (0,) * 5
    )
    size = (1.23456789e-12, 2.3456789e-12, 3.456789e-12)
    for name in ("x" * 500, "\x00" * 100, "line\nbreak"):
        text = repr(Volume(wide, "TCZYX", size, "µm", name=name))
        assert len(text) < 200
        assert "\n" not in text


def test_the_picture_is_the_middle_slice():
    data = np.zeros((5, 8, 10))
    data[2] = np.linspace(0, 1, 10)
    seen = picture(Volume.from_array(data))
    assert seen.shape == (8, 10)
    assert (seen[:, 0] == 0).all()
    assert (seen[:, -1] == 255).all()


def test_only_the_middle_slice_of_a_lazy_volume_is_read(rng):
    lazy = Recorder(rng.random((6, 2, 5, 8, 10)))
    html = Volume.from_array(lazy)._repr_html_()
    assert lazy.keys == [(3, 0, 2, slice(None), slice(None))]
    assert "T = 3, C = 0, Z = 2" in html


@pytest.mark.parametrize(
    "data",
    [
        np.full((3, 4, 5), np.nan),
        np.full((3, 4, 5), 7, np.uint16),
        np.full((3, 4, 5), -np.inf),
        np.ones((4, 5), bool),
        np.array([[1e308, -1e308], [np.nan, 0]]),
        np.full((1, 1), 2**64 - 1, np.uint64),
    ],
    ids=["nan", "constant", "infinite", "bool", "wide", "one"],
)
@pytest.mark.filterwarnings("error")
def test_odd_voxels_are_shown(data):
    assert picture(Volume.from_array(data)).shape == data.shape[-2:]


def test_colours_and_complex_numbers_are_shown():
    assert picture(Volume(np.zeros((3, 4, 5), "u1"), "CYX")).shape == (4, 5)
    assert picture(Volume(np.zeros((4, 5), complex), "YX")).shape == (4, 5)
    assert "no voxels" in Volume(np.zeros((0, 4, 5)), "ZYX")._repr_html_()


def test_large_slices_are_shown_small():
    seen = picture(Volume.from_array(np.zeros((2, 1000, 300), "u1")))
    assert max(seen.shape) <= 192


def test_a_slice_that_cannot_be_read_is_no_error_of_the_notebook():
    class Gone(Recorder):
        def __getitem__(self, key: Any) -> np.ndarray:
            raise FileError("scan.tif is <gone>.")

    html = Volume.from_array(Gone(np.zeros((3, 4, 5))))._repr_html_()
    assert "scan.tif is &lt;gone&gt;" in html
    assert "base64" not in html


def test_names_cannot_break_the_page():
    assert (
        "<script>"
        not in Volume.from_array(np.zeros((4, 4)), name="<script>")._repr_html_()
    )


def test_a_volume_is_pickled():
    volume = Volume.from_array(np.arange(6.0).reshape(2, 3), 2, "µm", name="a")
    again = pickle.loads(pickle.dumps(volume))
    assert repr(again) == repr(volume)
    assert np.array_equal(np.asarray(again), np.asarray(volume))


@pytest.mark.parametrize("size", [3, 3.0, np.float32(3), np.array(3), [3], (3, 3, 3)])
def test_one_number_is_the_size_of_all_edges(size):
    data = np.zeros((3, 4, 5))
    edges = (3.0, 3.0, 3.0)
    assert Volume(data, "ZYX", size, "um").voxel_size == edges
    assert Volume.from_array(data, size, "um").voxel_size == edges
    assert Volume(data, "ZYX").with_geometry(size, "um").voxel_size == edges


def test_the_limits_of_a_size_depend_on_the_unit():
    volume = Volume(np.zeros((3, 4, 5)), "ZYX", name="scan")
    edge = 0.5e-9  # 5e-13 mm, which is below the limit of 1e-12 mm
    with pytest.raises(ConfigError, match="cannot be right"):
        volume.with_geometry(edge, "um")
    assert volume.with_geometry(edge, "mm").voxel_size == (edge,) * 3


@pytest.mark.parametrize(
    "size", [(1, 2), (1, 2, 3, 4), "three", 1j, np.nan, (1, np.inf, 1), -1, 0, {}]
)
def test_a_size_that_fits_no_volume_is_told_in_one_sentence(size):
    volume = Volume(np.zeros((3, 4, 5)), "ZYX", name="scan")
    makers = (
        lambda: Volume(volume.data, "ZYX", size, name="scan"),
        lambda: volume.with_geometry(size, "um"),
        lambda: Volume.from_array(volume.data, size, "um", name="scan"),
    )
    for make in makers:
        with pytest.raises(VolumeError, match="'scan'.*voxel.size"):
            make()


def test_a_volume_is_indexed_as_its_array_is():
    data = np.arange(60.0).reshape(3, 4, 5)
    for given in (data, da.from_array(data)):
        volume = Volume(given, "ZYX")
        assert (volume.ndim, len(volume)) == (3, 3)
        assert np.array_equal(np.asarray(volume[1]), data[1])
        assert np.array_equal(np.asarray(volume[..., -1]), data[..., -1])
        assert np.array_equal(np.asarray(volume[1:, 2]), data[1:, 2])


def test_a_volume_of_a_volume_holds_its_array():
    volume = Volume(np.zeros((3, 4, 5)), "ZYX")
    assert Volume.from_array(volume).data is volume.data


def test_a_volume_becomes_a_layer_without_napari(tmp_path):
    data = np.zeros((2, 3, 4, 5), "u1")
    size, origin = (3.0, 2.0, 1.0), (10.0, 0.0, 5.0)
    scan = Volume(data, "TZYX", size, "µm", origin, "scan", source=tmp_path / "a.tif")
    found, attributes, layer_type = scan.to_layer_data()
    assert found is data
    assert layer_type == "image"
    assert attributes == {
        "name": "scan",
        "scale": (1.0, *size),
        "translate": (0.0, *origin),
        "units": ("pixel", "um", "um", "um"),
        "axis_labels": ("t", "z", "y", "x"),
        "metadata": {"geosr": {"provenance": [], "source": tmp_path / "a.tif"}},
    }
    assert scan.replace(metadata={"kind": "labels"}).to_layer_data()[2] == "labels"
    lazy = Recorder(data)
    found, _, _ = scan.replace(data=lazy).to_layer_data()
    assert isinstance(found, da.Array)
    assert lazy.keys == []


def test_dask_arrays_with_a_mask_are_refused() -> None:
    masked = da.ma.masked_array(da.zeros((4, 5, 6)), mask=np.ones((4, 5, 6), bool))
    with pytest.raises(VolumeError, match="may have masked voxels"):
        Volume.from_array(masked)


def test_axes_are_those_of_xarray() -> None:
    voxels = np.arange(24.0).reshape(2, 3, 4)

    class Named:
        """The volume as an xarray.DataArray."""

        dims: tuple[str, ...] = ("x", "y", "z")

        def __array__(self, dtype=None, copy=None):
            return voxels

    volume = Volume.from_array(Named())
    assert (volume.axes, volume.shape) == ("ZYX", (4, 3, 2))
    Named.dims = ("a", "y", "z")
    assert Volume.from_array(Named()).shape == (2, 3, 4)


def test_axes_may_be_a_sequence() -> None:
    voxels = np.zeros((2, 3, 4))
    assert Volume.from_array(voxels, axes=("X", "Y", "Z")).shape == (4, 3, 2)
    with pytest.raises(VolumeError, match="axes 3 do not match"):
        Volume.from_array(voxels, axes=3)


@pytest.mark.parametrize(("given", "says"), [(None, "is None"), (b"abc", "is bytes")])
def test_what_is_no_array_is_named(given, says) -> None:
    with pytest.raises(VolumeError, match=says):
        Volume.from_array(given)
