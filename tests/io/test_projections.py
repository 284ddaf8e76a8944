"""Writing and reading of projections; real and damaged Data Exchange files."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_geosr.core.errors import ConfigError, FileError, ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.io.projections import (
    is_projections,
    read_projections,
    write_projections,
)

KEPT = (
    "pixel_size",
    "unit",
    "centre",
    "geometry",
    "source_distance",
    "detector_distance",
    "is_line_integrals",
    "provenance",
    "name",
)

lengths = st.floats(1e-3, 1e3)


def make(shape=(6, 4, 5), **kwargs) -> Projections:
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    angles = np.arange(shape[0]) * 30.0
    return Projections(**({"data": data, "angles": angles, "name": "scan"} | kwargs))


def exchange(path, **changes):
    """A plain Data Exchange file as written by others; None omits a part."""
    parts = {
        "exchange/data": np.full((6, 4, 5), 500, np.uint16),
        "exchange/data_white": np.full((2, 4, 5), 1000, np.uint16),
        "exchange/data_dark": np.zeros((2, 4, 5), np.uint16),
        "exchange/theta": np.arange(6) * 30.0,
    } | changes
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            if value is not None:
                file[name] = value
    return path


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    data=arrays(
        st.sampled_from([np.uint8, np.dtype(">u2"), np.int32, np.float32, np.float64]),
        array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements=st.integers(0, 100),
    ),
    pixel_size=st.tuples(lengths, lengths),
    unit=st.sampled_from(["pixel", "µm", "mm"]),
    centre=st.none() | st.floats(-50, 50),
    geometry=st.sampled_from(["parallel", "fan", "cone"]),
    is_line_integrals=st.booleans(),
    n_flats=st.integers(0, 2),
)
def test_what_is_written_is_read_back(
    tmp_path, data, pixel_size, unit, centre, geometry, is_line_integrals, n_flats
):
    flats = np.ones((n_flats, *data.shape[1:]), data.dtype) if n_flats else None
    scan = Projections(
        data,
        np.linspace(0, 1 / 3, len(data)),
        flats=flats,
        darks=flats,
        pixel_size=pixel_size,
        unit=unit,
        centre=centre,
        geometry=geometry,
        source_distance=None if geometry == "parallel" else 1 / 3,
        detector_distance=None if geometry == "parallel" else 0.0,
        is_line_integrals=is_line_integrals,
        provenance=({"operation": "simulate", "seed": 1},),
        name="Scan 1",
    )
    path = write_projections(scan, tmp_path / "scan.h5", overwrite=True)
    found = read_projections(path)
    np.testing.assert_array_equal(np.asarray(found.data), data)
    assert found.data.dtype == data.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found.angles, scan.angles)
    for frames in (found.flats, found.darks):
        if flats is None:
            assert frames is None
        else:
            np.testing.assert_array_equal(np.asarray(frames), flats)
    for name in KEPT:
        assert getattr(found, name) == getattr(scan, name), name
    assert found.source == path
    assert is_projections(path)


def test_the_pixel_size_is_where_others_look_for_it(tmp_path):
    path = write_projections(make(pixel_size=(2.0, 3.0), unit="µm"), tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file.attrs["napari-geosr"]
    found = read_projections(path)
    assert (found.pixel_size, found.unit) == ((2.0, 3.0), "µm")
    assert found.name == "a"


def test_two_units_of_a_pixel_become_one(tmp_path):
    path = exchange(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        detector = file.create_group("measurement/instrument/detector")
        for axis, size, unit in (("y", 2000.0, "nm"), ("x", 3.0, "um")):
            detector[f"actual_pixel_size_{axis}"] = size
            detector[f"actual_pixel_size_{axis}"].attrs["units"] = unit
    assert read_projections(path).pixel_size == pytest.approx((2.0, 3.0))


def test_chosen_views_of_a_file_are_written_again(tmp_path):
    first = write_projections(make(), tmp_path / "a.h5")
    some = read_projections(first).every(2).rows(1, 3)
    second = read_projections(write_projections(some, tmp_path / "b.hdf5"))
    np.testing.assert_array_equal(np.asarray(second.data), make().data[::2, 1:3])
    with pytest.raises(ConfigError, match=r"read from .*a.h5, which cannot be"):
        write_projections(some, first, overwrite=True)


def test_a_file_is_replaced_only_when_asked(tmp_path):
    path = write_projections(make(), tmp_path / "a.h5")
    with pytest.raises(FileError, match="exists already"):
        write_projections(make(), path)
    with pytest.raises(FileError, match=r"a.tif: .* this suffix.*\.h5, \.hdf5"):
        write_projections(make(), tmp_path / "a.tif")
    with pytest.raises(FileError, match="does not exist"):
        write_projections(make(), tmp_path / "no" / "a.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_sinograms_first_are_turned(tmp_path):
    path = exchange(tmp_path / "a.h5")
    values = np.arange(120, dtype=np.uint16).reshape(4, 6, 5)
    with h5py.File(path, "a") as file:
        del file["exchange/data"]
        file["exchange/data"] = values
        file["exchange/data"].attrs["axes"] = "y:theta:x"
    np.testing.assert_array_equal(
        np.asarray(read_projections(path).data), values.transpose(1, 0, 2)
    )


def test_radians_are_read_where_they_are_said(tmp_path):
    path = exchange(tmp_path / "a.h5", **{"exchange/theta": np.arange(6) * np.pi / 6})
    with h5py.File(path, "a") as file:
        file["exchange/theta"].attrs["units"] = "rad"
    np.testing.assert_allclose(read_projections(path).angles, np.arange(6) * 30)


def test_what_a_person_says_overrules_the_file(tmp_path):
    path = exchange(tmp_path / "a.h5")
    scan = read_projections(
        path, angle_range=(0, 360), pixel_size=2.0, unit="um", centre=1.5
    )
    assert scan.angles.tolist() == [0, 60, 120, 180, 240, 300]
    assert (scan.pixel_size, scan.unit, scan.centre) == ((2.0, 2.0), "µm", 1.5)
    assert not scan.is_line_integrals
    assert read_projections(path, line_integrals=True).is_line_integrals
    named = read_projections(path, dataset="exchange/data_white", angles=[0, 90])
    assert named.shape == (2, 4, 5)
    inner = read_projections(f"{path}::exchange/data", angles="exchange/theta")
    assert inner.angles[1] == 30


def test_floats_without_flats_are_taken_as_line_integrals_and_that_is_said(tmp_path):
    floats = {"exchange/data": np.ones((6, 4, 5), np.float32)}
    floats |= {"exchange/data_white": None}
    none = {"exchange/data_dark": None}
    path = exchange(tmp_path / "a.h5", **floats, **none)
    scan = read_projections(path)
    assert scan.is_line_integrals
    assert "taken as line integrals" in scan.metadata["notes"][0]
    assert not read_projections(path, line_integrals=False).is_line_integrals
    # Dark fields mean that the values are counts.
    scan = read_projections(exchange(tmp_path / "b.h5", **floats))
    assert scan.darks is not None
    assert not scan.is_line_integrals
    assert not scan.metadata.get("notes")


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"exchange/theta": None}, "does not contain its angles. Give a text file"),
        ({"exchange/theta": np.arange(5.0)}, "6 projections, but a.h5, exchange/theta"),
        ({"exchange/theta": b"none"}, "exchange/theta: the angles are not numbers"),
        ({"exchange/theta": [0, 1, 2, np.nan, 4, 5]}, "a.h5: 1 of its 6 angles"),
        ({"exchange/data": np.ones((6, 4))}, "shape 6 × 4; projections need three"),
        ({"exchange/data": np.ones((6, 0, 4))}, "none of them empty"),
        (
            {"exchange/data": np.ones((6, 4, 5), complex)},
            "does not contain real numbers",
        ),
        ({"exchange/data_white": np.ones((2, 4, 4))}, "flat fields have shape .2, 4"),
        ({"exchange/data_dark": np.ones((4, 5))}, "data_dark' has shape 4 × 5"),
        ({"exchange/data": None}, "neither a Data Exchange file"),
    ],
)
def test_bad_files_are_told_in_one_sentence(tmp_path, parts, says):
    path = exchange(tmp_path / "a.h5", **parts)
    with pytest.raises((FileError, ProjectionsError), match=says) as caught:
        read_projections(path)
    assert "a.h5" in str(caught.value)


def test_files_that_are_no_projections(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        read_projections(tmp_path / "no.h5")
    (tmp_path / "empty.h5").touch()
    with pytest.raises(FileError, match="empty.h5 is empty"):
        read_projections(tmp_path / "empty.h5")
    (tmp_path / "text.h5").write_text("angles")
    with pytest.raises(FileError, match=r"text.h5 is not a readable HDF5 file"):
        read_projections(tmp_path / "text.h5")
    (tmp_path / "a.pdf").write_text("%PDF")
    with pytest.raises(FileError, match="contains no readable projections.*PDF"):
        read_projections(tmp_path / "a.pdf")
    assert not is_projections(tmp_path / "text.h5")
    assert not is_projections(tmp_path / "a.pdf")


def test_a_truncated_file_is_told(tmp_path):
    path = exchange(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:2500])
    with pytest.raises(FileError, match=r"a.h5 is truncated"):
        read_projections(path)
    assert not is_projections(path)


def test_a_damaged_stamp_is_told(tmp_path):
    path = write_projections(make(), tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs["napari-geosr"] = "{"
    with pytest.raises(FileError, match="is not valid JSON"):
        read_projections(path)
    with h5py.File(path, "a") as file:
        file.attrs["napari-geosr"] = json.dumps({"later_release": 1})
    assert read_projections(path).name == "a"


def test_contradictions_are_told(tmp_path):
    path = exchange(tmp_path / "a.h5")
    with pytest.raises(ProjectionsError, match="both angles and a range"):
        read_projections(path, angles=[0.0] * 6, angle_range=(0, 180))
    with pytest.raises(ConfigError, match="without a pixel size"):
        read_projections(path, unit="mm")
    with pytest.raises(ConfigError, match="own flat and dark"):
        read_projections(path, flats=path)
    for wrong in ((0, 0), (0, 1e20), (0, 1e-300)):
        with pytest.raises(ProjectionsError, match="is not a range"):
            read_projections(path, angle_range=wrong)


def test_the_real_tooth_opens(shared_data):
    scan = read_projections(shared_data / "projections" / "tooth.h5")
    assert scan.shape == (181, 2, 640)
    assert scan.flats.shape == scan.darks.shape == (10, 2, 640)
    assert scan.angles[-1] == pytest.approx(179.005525, abs=1e-5)
    assert scan.unit == "pixel"
    assert not scan.is_line_integrals
    assert is_projections(scan.source)
