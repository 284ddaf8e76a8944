"""Frames of a time series are distinguished from slices by the changes of detail."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from napari_geosr import io
from napari_geosr.core.questions import UNNAMED_AXIS, TimeSeriesQuestion, UnnamedAxis
from napari_geosr.core.volume import Volume
from napari_geosr.measure.time_series import time_series_question

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason="needs the real files of ../shared/data"
)


def series(
    n: int, height: int, width: int, *, noise: float = 0.3, seed: int = 0
) -> npt.NDArray[np.float32]:
    """One scene with `n` noise realisations."""
    rng = np.random.default_rng(seed)
    scene = gaussian_filter(rng.normal(size=(height, width)), 1.5)
    scene /= scene.std()
    frames = scene + noise * rng.normal(size=(n, height, width))
    return frames.astype(np.float32)


def structure(
    shape: tuple[int, int, int], sigma: float | tuple[float, ...] = 2.0
) -> npt.NDArray[np.float32]:
    """A volume of random structures."""
    noise = np.random.default_rng(1).normal(size=shape)
    smooth = gaussian_filter(noise, sigma)
    return (smooth / smooth.std()).astype(np.float32)


def asked(
    data: npt.NDArray[np.float32], *, mixing: bool = False
) -> TimeSeriesQuestion | None:
    volume = Volume(data, "ZYX", metadata={UNNAMED_AXIS: UnnamedAxis("ZYX")})
    return time_series_question(volume, mixing=mixing)


def test_a_thousand_small_frames() -> None:
    found = asked(series(1000, 30, 40))
    assert found is not None
    assert found.certain
    assert found.n_planes == 1000
    assert (found.axes, found.as_depth) == ("TYX", "ZYX")
    assert "30 × 40" in found.reason
    assert "stays in place" in found.reason


def test_small_frames_of_a_scene_that_drifts() -> None:
    scene = np.pad(series(1, 300, 300, noise=0)[0], 0)
    noise = np.random.default_rng(2).normal(0, 0.3, (1000, 30, 40))
    drift = [scene[i // 8 : i // 8 + 30, i // 5 : i // 5 + 40] for i in range(1000)]
    found = asked((np.stack(drift) + noise).astype(np.float32))
    assert found is not None
    assert found.certain


def test_few_frames_are_a_note_only() -> None:
    found = asked(series(8, 64, 64))
    assert found is not None
    assert not found.certain
    assert "may be frames" in str(found)


@pytest.mark.parametrize(
    ("shape", "sigma"),
    [
        ((64, 80, 80), 2.0),
        ((24, 80, 80), (0.7, 2, 2)),  # slice spacing larger than row spacing
        ((64, 80, 80), (8.0, 2, 2)),  # like trabeculae along Z
        ((600, 40, 40), 2.0),  # a drill core
    ],
)
def test_volumes_are_not_taken_for_time_series(
    shape: tuple[int, int, int], sigma: float | tuple[float, ...]
) -> None:
    assert asked(structure(shape, sigma)) is None


def test_rings_that_stay_in_every_slice_do_not_make_a_time_series() -> None:
    y, x = np.mgrid[:96, :96]
    rings = 0.5 * np.sin(1.5 * np.hypot(y - 48, x - 48))
    assert asked((structure((64, 96, 96)) + rings).astype(np.float32)) is None


def test_aligned_fibres_are_asked_about_and_not_refused() -> None:
    section = structure((1, 128, 128), (0, 2, 2))
    found = asked(np.repeat(section, 128, axis=0))
    assert found is not None
    assert not found.certain


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_empty_planes_tell_nothing(value: float) -> None:
    assert asked(np.full((40, 32, 32), value, np.float32)) is None


def test_a_named_axis_is_never_asked_about(tmp_path: Path) -> None:
    frames = series(300, 24, 24)
    tifffile.imwrite(tmp_path / "a.ome.tif", frames, metadata={"axes": "ZYX"})
    assert UNNAMED_AXIS not in io.read(tmp_path / "a.ome.tif").metadata
    plain = tmp_path / "b.tif"
    tifffile.imwrite(plain, frames, photometric="minisblack", metadata=None)
    assert time_series_question(io.read(plain)) is not None
    for axes in ("ZYX", "TYX"):
        assert time_series_question(io.read(plain, axes=axes)) is None


@pytest.mark.parametrize("kind", ["imagej", "raw", "folder", "h5"])
def test_every_reader_says_where_an_axis_has_no_name(kind: str, tmp_path: Path) -> None:
    frames = series(120, 24, 24)
    options = {}
    path = tmp_path / "a.tif"
    if kind == "imagej":  # calls the planes of any stack slices
        tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "ZYX"})
    elif kind == "raw":
        path = tmp_path / "a.raw"
        frames.tofile(path)
        options = {"shape": frames.shape, "dtype": "float32"}
    elif kind == "folder":
        path = tmp_path
        for i, frame in enumerate(frames):
            tifffile.imwrite(path / f"{i}.tif", frame, metadata=None)
    else:
        h5py = pytest.importorskip("h5py")
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            file["frames"] = frames
    found = time_series_question(io.read(path, **options))
    assert found is not None
    assert found.certain


def test_imagej_gives_the_time_between_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "finterval": 5.0}
    tifffile.imwrite(path, structure((12, 40, 40)), imagej=True, metadata=metadata)
    found = time_series_question(io.read(path))
    assert found is not None
    assert found.certain
    assert "5 s" in found.reason


@needs_data
@pytest.mark.parametrize("part", [slice(None), slice(0, 5), slice(10, 30)])
@pytest.mark.parametrize(
    "name",
    [
        "ct_volumes/cement_128x128x128.tif",
        "ct_volumes/bone_128x128x128.tif",
        "microscopy/Bead_Image1_crop.tif",
        "microscopy/DeconvolutionSampleVerticalGrid1AU-crop.tif",
        "microscopy/pollen.tif",
        "microscopy/mri_banana_sequence",
        "bad/psf_all_nan.tif",
    ],
)
def test_real_stacks_are_not_taken_for_time_series(name: str, part: slice) -> None:
    assert asked(np.asarray(io.read(DATA / name).data[part])) is None


@needs_data
def test_a_real_rock_is_not_taken_for_a_time_series(tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "ct_volumes" / "berea.zip") as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("berea.tif"))
        path = archive.extract(name, tmp_path)
    assert asked(io.read(path).data) is None


@needs_data
def test_a_real_time_series_is_asked_about() -> None:
    found = time_series_question(
        io.read(DATA / "microscopy" / "membrane_2d_timelapse.tif")
    )
    assert found is not None
    assert not found.certain


@needs_data
def test_moving_cells_look_like_slices() -> None:
    """A limitation: detail that moves between frames looks like depth."""
    volume = io.read(DATA / "microscopy" / "cancer_cell_migration_crop.tif")
    assert time_series_question(volume) is None
    assert any("treated as slices (Z)" in note for note in volume.metadata["notes"])
    found = time_series_question(volume, mixing=True)
    assert found is not None
    assert not found.certain


@needs_data
@pytest.mark.parametrize("part", [slice(None), slice(20, 84)])
@pytest.mark.parametrize("name", ["cement", "bone"])
def test_real_volumes_may_be_mixed_without_a_question(name: str, part: slice) -> None:
    data = io.read(DATA / f"ct_volumes/{name}_128x128x128.tif").data
    data = np.asarray(data[part, part, part])
    assert asked(data, mixing=True) is None


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_noise_of_slices_is_no_sign_of_frames(level: float) -> None:
    noise = np.random.default_rng(0).normal(size=(40, 96, 96))
    noise = gaussian_filter(noise, (0, 0.8, 0.8))
    walls = structure((40, 96, 96), 3.0) > 0
    data = walls + level * noise / noise.std()
    assert asked(data.astype(np.float32), mixing=True) is None


def test_a_distance_between_slices_shows_that_they_are_slices() -> None:
    data = structure((40, 96, 96), (0.5, 2, 2))
    volume = Volume(
        data,
        "ZYX",
        voxel_size=(8.0, 2.0, 2.0),
        unit="micrometer",
        metadata={UNNAMED_AXIS: UnnamedAxis("ZYX")},
    )
    assert time_series_question(volume, mixing=True) is None


@pytest.mark.parametrize(("along", "asks"), [(2.0, False), (0.5, True), (6.0, False)])
def test_before_slices_are_mixed_they_must_not_change_faster_than_pixels(
    along: float, asks: bool
) -> None:
    data = structure((40, 96, 96), (along, 2, 2))
    assert asked(data) is None
    found = asked(data, mixing=True)
    assert (found is not None) == asks
    assert found is None or not found.certain
