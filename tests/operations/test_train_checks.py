"""Errors in the settings of training are reported before a process is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr.core.errors import ConfigError, GeoSRError, VolumeError
from napari_geosr.core.steps import WarningIssued
from napari_geosr.core.volume import Volume
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.train import (
    TrainJob,
    config_class,
    open_roles,
    train_steps,
)
from napari_geosr.operations.train.checks import (
    check_contents,
    check_slices,
    smaller_patch_warnings,
)


def job(source: Path, *, axes: str | None = None, **settings: Any) -> TrainJob:
    training = config_class("noise2void").create(source=(source,), **settings)
    reading = InputConfig(axes=axes, channel=settings.get("channel"))
    return TrainJob(method="noise2void", training=training, reading=reading)


@pytest.fixture
def stack(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "stack.tif"
    data = rng.normal(size=(6, 32, 32)).astype(np.float32)
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "ZYX"})
    return path


def test_the_electricity_of_the_country_has_to_be_known(stack: Path) -> None:
    job(stack, country="DEU").check()
    with pytest.raises(ConfigError, match=r"'ZZZ' is unknown.*ZAF \(South Africa\)"):
        job(stack, country="ZZZ").check()


def test_countries_are_known_without_codecarbon() -> None:
    code = (
        "import sys; from napari_geosr.learning.energy import known_countries as k; "
        "assert len(k()) > 150; assert k()['FRA'] == 'France'; "
        "assert 'codecarbon' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_slice_to_show_has_to_be_there(stack: Path) -> None:
    job(stack, preview_slice=5).check()
    with pytest.raises(ConfigError, match=r"no preview slice 6.*slices 0 … 5"):
        job(stack, preview_slice=6).check()


def test_neighbours_have_to_be_there(rng: np.random.Generator) -> None:
    training = config_class("noise2void").create(source=(Path("a.tif"),))
    flat = config_class("noise2void").create(
        source=(Path("a.tif"),), dimensions="2D", preview_slice=0
    )
    image = Volume(rng.random((8, 8)), "YX", name="image")
    few = Volume(rng.random((4, 8, 8)), "ZYX", name="few")
    with pytest.raises(ConfigError, match=r"single image.*Set dimensions to 2D"):
        check_slices(training, [few, image])
    assert check_slices(flat, [few, image]) == []
    (sentence,) = check_slices(training, [few])
    assert "4 slices, but the network takes 5" in sentence
    assert "adjacent slices to 3" in sentence


def test_patches_that_do_not_fit_are_said(stack: Path) -> None:
    """The default is adjusted without a message; the user's setting is not."""
    for patch, dimensions, expected in (
        (64, "2.5D", ""),  # the default
        (32, "2.5D", ""),
        (40, "2.5D", r"patch of 40 voxels is larger than stack.tif (32 × 32 voxels)"),
        (16, "3D", r"larger than stack.tif (6 × 32 × 32 voxels)"),
    ):
        given = job(stack, patch=patch, dimensions=dimensions)
        said = smaller_patch_warnings(given.training, given.check()["source"])
        assert expected in "".join(said)
        assert bool(said) == bool(expected)


def test_the_run_warns_of_patches_that_do_not_fit(stack: Path, tmp_path: Path) -> None:
    given = job(stack, patch=40, steps=1)
    warned = (
        s.message for s in train_steps(given, tmp_path) if isinstance(s, WarningIssued)
    )
    assert any("Set the patch to 32 or less" in message for message in warned)


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_volumes_of_nothing_are_refused(stack: Path, value: float) -> None:
    empty = np.full((6, 32, 32), value, np.float32)
    path = stack.with_name("empty.tif")
    tifffile.imwrite(path, empty, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(VolumeError, match=r"empty\.tif"):
        job(path).check()
    # One slice of sixty-four, not in the middle, is sufficient for training.
    data = np.full((65, 8, 8), value)
    data[1, 2] = 7
    data[1, 3] = 8
    check_contents({"source": [Volume(data, "ZYX")]})


def test_images_of_a_time_series_are_slices_to_learn_from(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    data = rng.normal(size=(5, 2, 16, 24)).astype(np.float32)
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, data)
    training = config_class("noise2void").create(source=(path,), dimensions="2D")
    reading = InputConfig(axes="TCYX", channel=1, voxel_size=(2.0,), unit="um")
    movie = TrainJob(method="noise2void", training=training, reading=reading)
    (volume,) = open_roles(movie, method_of(movie))["source"]
    assert volume.axes == "ZYX"
    assert volume.voxel_size == (2, 2, 2)
    np.testing.assert_array_equal(np.asarray(volume.data), data[:, 1])
    one = movie.model_copy(
        update={"reading": reading.model_copy(update={"time": 3})},
    )
    (image,) = open_roles(one, method_of(one))["source"]
    np.testing.assert_array_equal(np.asarray(image.data), data[3, 1])


def test_a_time_series_is_no_volume_of_neighbours(stack: Path) -> None:
    with pytest.raises(GeoSRError, match=r"6 time points. Set dimensions to 2D"):
        job(stack, axes="TYX").check()


def method_of(train_job: TrainJob) -> Any:
    from napari_geosr.learning.methods import METHODS

    return METHODS.load(train_job.method).Method


def test_one_file_given_twice_is_refused(stack: Path) -> None:
    training = config_class("noise2inverse").create(source=(stack, stack))
    with pytest.raises(ConfigError, match=r"stack\.tif is given twice"):
        TrainJob(method="noise2inverse", training=training).check()


def test_settings_that_the_network_has_not_got_are_refused_at_once(stack: Path) -> None:
    training = config_class("tomogan").create(
        source=(stack,), target=(stack,), network="tomogan", layers=4
    )
    with pytest.raises(ConfigError, match="has no setting layers"):
        TrainJob(method="tomogan", training=training).check()
