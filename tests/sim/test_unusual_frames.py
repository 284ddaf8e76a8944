"""Frames with unusual grey values, pixel sizes and pattern images."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.sim_frames import guess_order
from napari_geosr.core.steps import run_to_end
from napari_geosr.operations.sim import FramesConfig, estimate_steps, frames_of
from napari_geosr.operations.sim.inputs import transfer_function
from napari_geosr.operations.sim.known_patterns import read_patterns
from napari_geosr.sim.patterns import fit_fringe
from sim.sim_scenes import PIXEL, frames_of_scene, scene, volume_of

SIZE = 96
CONFIG = FramesConfig(na=1.4, wavelength=(492,))


def raw(change=lambda values: values):
    volume = volume_of(scene("filaments", size=SIZE, snr=30))
    return volume.replace(data=change(np.asarray(volume.data)))


@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e18])
def test_extreme_grey_values_are_refused_in_a_sentence(factor):
    with pytest.raises(VolumeError, match="must lie between 1e-06 and 1e\\+12"):
        frames_of(raw(lambda v: (v.astype("f8") * factor).astype("f8")), CONFIG)


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_the_patterns_do_not_depend_on_the_unit_of_the_grey_values(factor):
    found = [
        run_to_end(estimate_steps(frames_of(volume, CONFIG), CONFIG)).patterns
        for volume in (raw(), raw(lambda v: (v * factor).astype("f4")))
    ]
    for one, other in zip(*(patterns.fringes for patterns in found), strict=True):
        np.testing.assert_allclose(one.phases, other.phases, atol=0.01)


def test_an_infinite_pixel_has_no_effect_on_the_order():
    def with_infinity(values):
        values = values.astype("f4")
        values[4, 3, 3] = np.inf
        return values

    frames = frames_of(raw(with_infinity), CONFIG)
    assert np.isfinite(list(guess_order(frames)[1].values())).all()
    with pytest.raises(VolumeError, match="1 NaN or infinite pixels"):
        run_to_end(estimate_steps(frames, CONFIG))


def test_signed_integers_may_have_a_negative_baseline():
    frames = frames_of(raw(lambda v: (v - 1000).astype("i2")), CONFIG)
    positive = frames_of(raw(lambda v: v.astype("i2")), CONFIG)
    assert frames.offset == pytest.approx(positive.offset - 1000, abs=1)
    assert not run_to_end(estimate_steps(frames, CONFIG)).problems


def test_frames_with_an_unstated_distance_keep_their_pixel_size(tmp_path):
    """ImageJ means 1 nm by an unstated distance, which frames do not have."""
    images = np.asarray(raw().data).astype("u2")

    def written(resolution: float, unit: str):
        metadata = {"unit": unit, "axes": "ZYX"}
        path = tmp_path / f"{unit}.tif"
        options = {"resolution": (resolution, resolution), "metadata": metadata}
        tifffile.imwrite(path, images, imagej=True, **options)
        return frames_of(io.read(path), CONFIG)

    frames = written(1 / 65, "nm")
    assert (frames.pixel_size, frames.volume.unit) == (pytest.approx(65), "nm")
    with pytest.raises(ConfigError, match="states a pixel size of 6.5 cm") as caught:
        transfer_function(written(1 / 6.5, "cm"), CONFIG)
    assert caught.value.fields == ("pixel",)


def test_the_advice_on_pattern_images_names_sizes_that_fit():
    frames = frames_of_scene(scene("filaments", size=SIZE, snr=30))
    images = np.ones((9, 70, 70), np.float32)
    volume = raw().replace(data=images, voxel_size=(1, PIXEL, PIXEL))
    with pytest.raises(
        ConfigError, match="96 × 96 pixels, or to the size of the result"
    ):
        read_patterns(volume, frames)


def test_a_circle_dropped_near_its_peak_is_pulled_back():
    made = scene("filaments", size=128, snr=30)
    frames = frames_of_scene(made)
    otf = run_to_end(estimate_steps(frames, CONFIG)).otf
    true = made.patterns.fringes[0].wave_vector
    for step in ((2.1, 0), (0, -2.1), (1.5, 1.5)):
        near = (true[0] + step[0] / 128, true[1] + step[1] / 128)
        found = fit_fringe(frames.frames()[0], otf, near=near).pattern.wave_vector
        distances = [
            np.hypot(*np.subtract(found, sign * np.asarray(true))) for sign in (1, -1)
        ]
        assert min(distances) * 128 < 0.1
