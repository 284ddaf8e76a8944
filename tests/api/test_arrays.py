"""Verbs accept plain arrays as well as volumes."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr
from scipy.ndimage import gaussian_filter

import napari_geosr as geosr
from napari_geosr.api.arrays import as_companion, as_volume
from napari_geosr.api.restore import _question_slices
from napari_geosr.core.errors import (
    ConfigError,
    GeoSRWarning,
    ProjectionsError,
    VolumeError,
)
from napari_geosr.core.volume import Volume


@pytest.fixture
def noisy(rng) -> np.ndarray:
    return rng.normal(100, 10, (6, 32, 32)).astype(np.float32)


def test_an_array_is_restored_as_its_volume_is(noisy):
    result = geosr.restore(noisy, threads=1)
    assert isinstance(result, Volume)
    assert result.unit == "pixel"
    assert result.voxel_size == (1.0, 1.0, 1.0)
    expected = geosr.restore(Volume(noisy, "ZYX"), threads=1)
    assert np.array_equal(np.asarray(result), np.asarray(expected))


@pytest.mark.parametrize("make", [da.from_array, zarr.array], ids=["dask", "zarr"])
def test_lazy_arrays_are_arrays(noisy, make):
    result = geosr.restore(make(noisy), "cubic-x2", threads=1)
    assert np.array_equal(result, geosr.restore(noisy, "cubic-x2", threads=1))


def test_the_axes_of_an_array_may_be_told(noisy):
    series = geosr.restore(noisy, "gaussian", axes="TYX", threads=1)
    assert series.axes == "TYX"
    turned = geosr.restore(noisy.transpose(2, 1, 0), "gaussian", axes="XYZ", threads=1)
    plain = geosr.restore(noisy, "gaussian", threads=1)
    assert np.array_equal(np.asarray(turned), np.asarray(plain))
    with pytest.raises(ConfigError, match="plain arrays.*axes 'ZYX'"):
        geosr.restore(Volume(noisy, "ZYX"), axes="TYX")


def test_a_list_of_arrays_is_several_scans_of_one_object(noisy, rng):
    again = noisy + rng.normal(0, 1, noisy.shape).astype(np.float32)
    mean = geosr.restore([noisy, again], "ct-denoise", threads=1)
    alone = [geosr.restore(scan, threads=1).data for scan in (noisy, again)]
    np.testing.assert_allclose(mean.data, np.mean(alone, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    ["scan.tif", Path("scan.tif"), None, 3, {}, np.zeros(5), [[1], [2, 3]]],
    ids=str,
)
def test_what_is_no_volume_is_refused_in_a_sentence(wrong):
    for verb in (geosr.restore, geosr.measure_porosity):
        with pytest.raises(VolumeError) as error:
            verb(wrong)
        assert str(error.value).endswith(".")


def test_a_path_is_told_to_be_opened():
    with pytest.raises(VolumeError, match=r"'scan\.tif' is a path.*read\(\)"):
        geosr.restore("scan.tif")


def test_a_companion_lies_where_its_volume_does(noisy):
    scan = Volume(noisy, "ZYX", (2.0, 1.0, 1.0), "µm", (5.0, 0.0, 0.0))
    inside = as_volume(np.ones((6, 32, 32), bool), like=scan)
    assert (inside.voxel_size, inside.unit) == (scan.voxel_size, "µm")
    assert inside.origin == scan.origin
    other = as_volume(np.ones((3, 32, 32), bool), like=scan)
    assert other.unit == "pixel"


def test_a_mask_and_a_reference_may_be_arrays(noisy):
    data = np.full((8, 20, 20), 200, np.uint8)
    data[2:6, 4:10, 4:10] = 20
    scan = Volume(data, "ZYX", (2.0, 2.0, 2.0), "µm", (7.0, 0.0, 0.0))
    mask = np.zeros(data.shape, np.uint8)
    mask[:, :12] = 1
    report = geosr.measure_porosity(scan, mask)
    assert report.sample_voxels == mask.sum()
    assert report.porosity == pytest.approx(4 * 6 * 6 / mask.sum())


def test_a_result_that_is_an_array_lies_where_its_scan_does(rng):
    true = np.zeros((12, 32, 32), np.float32)
    true[:, 8:20, 8:20] = 100
    noisy = true + rng.normal(0, 5, true.shape).astype(np.float32)
    scan = Volume(noisy, "ZYX", (2.0, 2.0, 2.0), "µm", (7.0, 0.0, 0.0))
    checked = geosr.check_consistency(scan, true)
    assert checked.residual.origin == scan.origin
    assert checked.figures.is_consistent


def test_the_deviation_of_arrays_makes_an_interval(rng):
    data = np.full((8, 24, 24), 200.0, np.float32)
    data[2:6, 4:14, 4:14] = 100
    noisy = data + rng.normal(0, 10, data.shape).astype(np.float32)
    mean, deviation = geosr.restore_with_uncertainty(
        noisy, uncertainty_members=2, threads=1
    )
    report = geosr.measure_porosity(mean, deviation=deviation)
    assert report.interval is not None


def test_projections_need_their_angles():
    with pytest.raises(ProjectionsError, match="Projections\\(array, angles"):
        geosr.reconstruct(np.zeros((8, 2, 16)))


def test_an_array_is_written_with_its_axes(tmp_path, noisy):
    path = geosr.write(noisy, tmp_path / "series.ome.tif", axes="TYX")
    found = geosr.read(path)
    assert found.axes == "TYX"
    assert np.array_equal(np.asarray(found), noisy)


def test_a_simulation_is_repeated_on_request(tmp_path):
    small = {"size": 16, "rows": 2, "projections": 4}
    first = geosr.simulate("blobs", tmp_path / "new", **small)
    again = geosr.simulate("blobs", tmp_path / "new", overwrite=True, seed=1, **small)
    assert first.files == again.files
    assert first.truth["porosity"] != again.truth["porosity"]


def test_what_a_command_would_warn_of_is_a_warning_at_the_callers_line(noisy):
    with pytest.warns(
        GeoSRWarning, match="differs from the training data of ct-denoise"
    ) as caught:
        geosr.restore(noisy, threads=1)
    assert {Path(each.filename).name for each in caught} == {Path(__file__).name}


def test_the_axes_of_an_array_are_those_of_its_mask(rng):
    # a cube, so the shape does not distinguish the axes
    data = np.full((12, 12, 12), 200.0)
    data[1:4, 2:5, 3:9] = 20
    mask = np.zeros(data.shape, bool)
    mask[:6, :, :] = True
    deviation = rng.uniform(1, 200, data.shape)
    settings = {"interval_factor": 1.0, "threshold": 100.0}
    expected = geosr.measure_porosity(data, mask, deviation=deviation, **settings)
    turned = geosr.measure_porosity(
        data.T, mask.T, deviation=deviation.T, axes="XYZ", **settings
    )
    assert turned.porosity == expected.porosity > 0
    assert turned.interval == expected.interval is not None


def test_companions_take_the_axes_of_their_array(rng):
    data = rng.random((4, 4, 4))
    volume = as_volume(data.T, "XYZ")
    assert np.array_equal(as_companion(data.T, "XYZ", name="mask", like=volume), data)
    series = as_volume(data[None], "TZYX")
    found = as_companion(data, "TZYX", name="mask", like=series)
    assert found.axes == "ZYX"
    assert as_companion(volume, "TZYX", name="mask", like=series) is volume


def test_a_check_of_arrays_knows_their_axes(rng):
    true = np.zeros((24, 24, 24), np.float32)
    true[4:14, 6:20, 8:12] = 100
    scan = true + rng.normal(0, 5, true.shape).astype(np.float32)
    expected = geosr.check_consistency(scan, true)
    turned = geosr.check_consistency(scan.T, true.T, axes="XYZ")
    assert np.array_equal(turned.residual, expected.residual)
    assert repr(turned).startswith("<ConsistencyCheck 'result (residual)': ")
    assert len(repr(turned)) < 200


@pytest.mark.parametrize("verb", [geosr.compare, geosr.check_consistency])
def test_two_volumes_have_axes_of_their_own(verb, noisy):
    volume = Volume(noisy, "ZYX")
    with pytest.raises(ConfigError, match="plain arrays.*axes 'ZYX'"):
        verb(volume, volume, axes="ZYX")


@pytest.mark.parametrize(
    "named",
    [
        lambda: geosr.load_model("gaussian"),
        lambda: geosr.load_model("gaussian").path,
        lambda: geosr.list_models(words="bundled gaussian")[0],
        lambda: "gaussian",
    ],
    ids=["model", "path", "entry", "name"],
)
def test_a_model_may_be_given_itself(named, noisy):
    model = named()
    assert geosr.load_model(model).card.name == "gaussian"
    restored = geosr.restore(noisy, model, threads=1)
    assert restored.name == "array · gaussian"
    if not isinstance(model, Path):  # a path is kept unchanged
        assert restored.provenance[-1]["settings"]["model"] == "gaussian"


def test_members_of_an_ensemble_may_be_given_themselves(noisy):
    members = (geosr.load_model("foam-denoise"),)
    named = geosr.restore_with_uncertainty(
        noisy, "porous-denoise", "ensemble", ensemble_with=("foam-denoise",), threads=1
    )
    given = geosr.restore_with_uncertainty(
        noisy,
        geosr.load_model("porous-denoise"),
        "ensemble",
        ensemble_with=members,
        threads=1,
    )
    assert all(np.array_equal(a, b) for a, b in zip(named, given, strict=True))


def test_what_is_no_model_is_refused_in_a_sentence(noisy):
    with pytest.raises(ConfigError, match="model"):
        geosr.restore(noisy, 3)


def test_a_simulation_is_shown_on_one_line(tmp_path):
    made = geosr.simulate("blobs", tmp_path, size=16, rows=2, projections=4)
    assert re.fullmatch(
        r"<SimulationResult 'blobs': porosity .*2 × 16 × 16 .*>", repr(made)
    )
    assert len(repr(made)) < 200


def test_pairs_are_built_from_arrays_with_their_axes(rng, tmp_path):
    pytest.importorskip("SimpleITK")
    high = rng.random((8, 8, 8)).repeat(6, 0).repeat(6, 1).repeat(6, 2).astype("f4")
    low = high.reshape(24, 2, 24, 2, 24, 2).mean((1, 3, 5))
    options = {"upscale_factor": 2, "start": "positions"}
    expected = geosr.build_pairs(low, high, tmp_path / "plain", **options)
    turned = geosr.build_pairs(
        low.T, high.T, tmp_path / "turned", axes="XYZ", **options
    )
    for name in ("low", "high"):
        first, second = (geosr.read(p.files[name]) for p in (expected, turned))
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
        assert np.asarray(first).shape == {"low": low, "high": high}[name].shape
    volume = Volume.from_array(low, voxel_size=2.0)
    mixed = geosr.build_pairs(volume, high.T, tmp_path / "mixed", axes="XYZ", **options)
    assert sorted(mixed.files) == sorted(expected.files)
    with pytest.raises(ConfigError, match="axes='XYZ' applies only to plain arrays"):
        geosr.build_pairs(volume, volume, tmp_path / "both", axes="XYZ", **options)


def test_nested_lists_are_one_volume(noisy):
    planes = np.asarray(noisy)[:4, :24, :24]
    found = geosr.restore(planes.tolist(), "gaussian")
    assert found.shape == planes.shape


def test_a_dask_array_of_unknown_shape_is_refused_in_a_sentence():
    data = da.ones((4, 24, 24), chunks=(2, 24, 24))
    unknown = data[data.mean((1, 2)) > 0]
    with pytest.raises(VolumeError, match="compute_chunk_sizes"):
        geosr.Volume.from_array(unknown)


def test_a_list_of_slices_is_questioned():
    images = list(np.zeros((4, 16, 16), np.float32))
    with pytest.warns(GeoSRWarning, match=r"numpy\.stack"):
        _question_slices(images)
    _question_slices([np.stack(images)] * 4)
    _question_slices(images[:2])


def test_unnamed_frames_of_an_array_are_asked_about(rng):
    """Models combine slices, which would mix the frames."""
    frames = _moving_discs(rng)
    with pytest.warns(GeoSRWarning, match=r"60 planes may be .* Pass axes='TYX' if"):
        mixed = geosr.restore(frames, "ct-denoise", threads=1)
    assert mixed.axes == "ZYX"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        geosr.restore(frames[:20], "ct-denoise", axes="ZYX", threads=1)
        geosr.restore(frames[:5], "ct-denoise", axes="TYX", threads=1)
    assert not [one for one in caught if "frames of a time series" in str(one.message)]


def test_certain_frames_of_an_array_are_refused(rng):
    still = gaussian_filter(rng.normal(0, 30, (30, 40)), 1.0)
    frames = still + rng.normal(0, 1, (400, 30, 40))
    with pytest.raises(VolumeError, match=r"look like frames .* Pass axes='TYX' if"):
        geosr.restore(frames.astype(np.float32), "ct-denoise", threads=1)


def _moving_discs(rng) -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    starts, speeds = rng.uniform(8, 56, (8, 2)), rng.normal(0, 3, (8, 2))
    frames = np.full((60, 64, 64), 60.0)
    for t, frame in enumerate(frames):
        for start, speed in zip(starts, speeds, strict=True):
            at = (start + speed * t) % 64
            frame[(y - at[0]) ** 2 + (x - at[1]) ** 2 < 25] = 160
        frame[:] = gaussian_filter(frame, 0.8)
    return (frames + rng.normal(0, 20, frames.shape)).astype(np.float32)
