"""Raw frames: position and order of angles and phases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.sim_frames import (
    ORDERS,
    Optics,
    SimFrames,
    guess_order,
    unclear_order,
)
from napari_geosr.core.sim_frames import order as orders
from napari_geosr.core.volume import Volume
from napari_geosr.operations.sim import FramesConfig, frames_of
from napari_geosr.operations.sim.order_checks import (
    difference_growth,
    largest_growth,
    order_remark,
)
from napari_geosr.physics.illumination.simulation import SimScene, simulate_frames
from sim.sim_scenes import frames_of_scene, scene, volume_of


def numbered(shape, axes, order, angles=3, phases=3, planes=2) -> SimFrames:
    """Frames whose values encode angle, phase and slice: 100 a + 10 p + z."""
    a, p, z = np.ogrid[:angles, :phases, :planes]
    values = (100 * a + 10 * p + z).transpose(["apz".index(c) for c in order])
    data = np.broadcast_to(
        values.reshape(shape)[..., None, None], (*shape, 4, 5)
    ).astype(np.uint16)
    volume = Volume(data, axes)
    return SimFrames.from_volume(volume, angles=angles, phases=phases, order=order)


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_is_read(order):
    frames = numbered((18,), "ZYX", order)
    assert (frames.n_planes, frames.n_times, frames.n_channels) == (2, 1, 1)
    for angle, phase, plane in np.ndindex(3, 3, 2):
        expected = 100 * angle + 10 * phase + plane
        assert (frames.frame(angle, phase, plane) == expected).all()
    assert frames.frames(1)[2, 1, 0, 0] == 211


def test_frames_along_two_axes_are_those_of_other_programs():
    """Five axes of an array: angle, phase, z, y, x."""
    frames = numbered((3, 3, 2), "TCZYX", "apz")
    assert frames.n_planes == 2
    assert frames.frame(2, 1, 1).mean() == 211


def test_time_and_channels_are_kept():
    rng = np.random.default_rng(0)
    data = rng.random((2, 3, 9, 16, 16)).astype(np.float32)
    frames = SimFrames.from_volume(Volume(data, "TCZYX"), order="apz")
    assert (frames.n_times, frames.n_channels, frames.n_planes) == (2, 3, 1)
    assert frames.kept_axes == "TCYX"
    np.testing.assert_array_equal(
        frames.frames(0, 1, 2), data[1, 2].reshape(3, 3, 16, 16)
    )


@pytest.mark.parametrize(
    ("n", "counts"), [(9, (3, 3)), (15, (3, 5)), (25, (5, 5)), (45, (5, 9))]
)
def test_usual_numbers_of_frames(n, counts):
    volume = Volume(np.zeros((n, 8, 8), np.float32), "ZYX")
    frames = SimFrames.from_volume(volume, order="apz")
    assert (frames.angles, frames.phases) == counts


def test_missing_frames_are_refused():
    volume = Volume(np.zeros((8, 8, 8), np.float32), "ZYX")
    with pytest.raises(VolumeError, match=r"8 images.*9 frames"):
        SimFrames.from_volume(volume)
    with pytest.raises(ConfigError, match="apz"):
        SimFrames.from_volume(
            Volume(np.zeros((9, 8, 8), np.float32), "ZYX"), order="abc"
        )


@pytest.mark.parametrize("structure", ["filaments", "rings"])
@pytest.mark.parametrize("snr", [5, 20])
@pytest.mark.parametrize("order", ["apz", "paz"])
def test_order_is_guessed(structure, snr, order):
    volume = volume_of(scene(structure, snr=snr), order)
    assert SimFrames.from_volume(volume, angles=3, phases=3).order == order


@pytest.mark.parametrize("order", ["apz", "azp", "zap", "paz"])
def test_order_of_a_stack_is_guessed(order):
    planes = [
        simulate_frames("filaments", SimScene(size=64, plane=z)).frames
        for z in range(3)
    ]
    stack = np.stack(planes, 2).transpose([*("apz".index(c) for c in order), 3, 4])
    volume = Volume(stack.reshape(27, 64, 64), "ZYX")
    frames = SimFrames.from_volume(volume, angles=3, phases=3)
    assert frames.order == order
    _, misfit = guess_order(frames)
    assert misfit[order] < 0.8 * sorted(misfit.values())[1]


def series(n: int, snr: float = 20.0, size: int = 64) -> np.ndarray:
    """Time points of one object, which differ in their noise: (n, 3, 3, Y, X)."""
    clean = scene("er", snr=0, size=size).clean
    light = np.broadcast_to(clean * snr**2 / clean.max(), (n, *clean.shape))
    return 100 + np.random.default_rng(0).poisson(light)


@pytest.mark.parametrize("order", ["apz", "azp", "zap", "paz"])
@pytest.mark.parametrize("n", [2, 5])
def test_time_points_along_z_are_not_mixed(n, order):
    """Their sums over the phases are equal in several orders, but not their patterns.

    45 images are not taken as 5 × 9 frames.
    """
    places = {"z": 0, "a": 1, "p": 2}
    stack = series(n, snr=5).transpose([*(places[c] for c in order), 3, 4])
    frames = SimFrames.from_volume(Volume(stack.reshape(-1, 64, 64), "ZYX"))
    assert (frames.angles, frames.phases, frames.order) == (3, 3, order)
    assert unclear_order(guess_order(frames)[1]) is None


def test_frames_are_along_the_axis_with_the_patterns():
    """27 images along Z are three slices at nine time points, or the reverse."""
    stack = series(27, size=48).reshape(9, 27, 48, 48)
    frames = SimFrames.from_volume(Volume(stack, "TZYX"))
    assert (frames.frame_axes, frames.n_times, frames.n_planes) == ("Z", 9, 3)
    stack = series(27, size=48).reshape(27, 9, 48, 48).swapaxes(0, 1)
    frames = SimFrames.from_volume(Volume(stack, "TZYX"))
    assert (frames.frame_axes, frames.n_times, frames.n_planes) == ("T", 1, 27)


def test_a_mask_is_refused():
    with pytest.raises(VolumeError, match="is a mask"):
        SimFrames.from_volume(Volume(np.ones((9, 32, 32), bool), "ZYX"))


def test_optics_that_cannot_be_right():
    with pytest.raises(ConfigError, match="refractive index"):
        Optics(1.49, (525,), 1.33)
    optics = Optics(1.4, (525,))
    assert optics.cut_off(0.065, "µm") == pytest.approx(2 * 1.4 * 65 / 525)
    for size in (65, 65e-6):
        with pytest.raises(ConfigError, match="unit of the pixel size"):
            optics.cut_off(size, "µm")
    assert optics.cut_off(1, "pixel") is None
    with pytest.raises(ConfigError, match="Channel 2"):
        Optics(1.4, (525, 610)).wavelength(2)


def test_offset_is_subtracted():
    made = scene()
    frames = frames_of_scene(made)
    np.testing.assert_allclose(frames.frames(), made.frames - 100)


@pytest.mark.parametrize("structure", ["filaments", "spots"])
@pytest.mark.parametrize("snr", [5, 20])
def test_an_order_that_cannot_be_told_is_noticed(structure, snr):
    """Shuffled frames match no order; ordered frames clearly match one of them."""
    volume = volume_of(scene(structure, snr=snr, size=64))
    frames = SimFrames.from_volume(volume, angles=3, phases=3)
    assert unclear_order(guess_order(frames)[1]) is None
    mixed = np.random.default_rng(3).permutation(9)
    shuffled = volume.replace(data=volume.data[mixed])
    frames = SimFrames.from_volume(shuffled, angles=3, phases=3)
    assert set(unclear_order(guess_order(frames)[1])) == {"apz", "paz"}
    assert unclear_order({"apz": 0.2, "azp": 0.2}) is None


@pytest.mark.parametrize("order", ["apz", "paz"])
def test_a_cosmic_ray_does_not_hide_the_order(order):
    volume = volume_of(scene("filaments", snr=20, size=64), order)
    data = volume.data.copy()
    data[2, 30, 20:22] = 60000
    frames = SimFrames.from_volume(volume.replace(data=data), angles=3, phases=3)
    assert frames.order == order
    assert unclear_order(guess_order(frames)[1]) is None


@pytest.mark.parametrize("order", ["apz", "paz"])
def test_an_even_number_of_phases_leaves_equal_sums_in_two_orders(order):
    """The patterns of the angles are distinct only in one of them."""
    made = scene("filaments", snr=20, size=96, angles=2, phases=4)
    frames = SimFrames.from_volume(volume_of(made, order), angles=2, phases=4)
    assert frames.order == order
    assert unclear_order(guess_order(frames)[1]) is None


def test_the_note_on_an_unclear_order_names_the_order_that_is_used():
    """Patterns of sparse samples are hardly distinct in either order."""
    sparse = scene("spots", snr=20, size=96, angles=2, phases=4)
    config = FramesConfig(angles=2, phases=4)
    frames = frames_of(volume_of(sparse), config)
    assert f"unclear: {frames.order} is used" in order_remark(frames, config)


@pytest.mark.parametrize("structure", ["filaments", "rings", "er", "spots"])
@pytest.mark.parametrize("order", ["apz", "paz"])
def test_raw_frames_differ_equally_whatever_their_distance(structure, order):
    frames = frames_of(volume_of(scene(structure, snr=5), order), FramesConfig())
    assert difference_growth(frames) < 1.5
    assert "raw SIM frames" not in order_remark(frames, FramesConfig())


@pytest.mark.parametrize("settings", [{"phases": 7}, {"phases": 9, "snr": 50}])
@pytest.mark.parametrize("response", ["linear", "switching"])
def test_adjacent_frames_of_many_phases_differ_little(settings, response):
    made = scene("er", size=96, angles=5, cut_off=0.3, response=response, **settings)
    frames = frames_of_scene(made)
    assert difference_growth(frames) < 0.9 * largest_growth(frames)
    assert "raw SIM frames" not in order_remark(frames, FramesConfig())


def test_a_cosmic_ray_does_not_make_raw_frames_look_like_a_volume():
    made = scene("rings", snr=20, size=96)
    data = made.frames.copy()
    data[0, 0, 60, 41] += 60000
    plain, hit = (
        difference_growth(frames_of_scene(each))
        for each in (made, replace(made, frames=data))
    )
    assert hit == pytest.approx(plain, abs=0.1)


def test_slices_of_a_volume_are_no_raw_frames():
    rng = np.random.default_rng(0)
    data = gaussian_filter(rng.normal(size=(9, 64, 64)), (3, 2, 2))
    frames = frames_of(Volume(100 + 100 * data, "ZYX", name="rock"), FramesConfig())
    assert difference_growth(frames) > 2.5
    said = order_remark(frames, FramesConfig())
    assert said.startswith("'rock' does not look like raw SIM frames")
    assert order_remark(frames, FramesConfig(order="apz")) == ""


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_shuffled_frames_of_several_slices_are_noticed(seed):
    """By chance, the patterns of the slices agreed better in one of the orders."""
    slices = np.stack(
        [scene("er", snr=20, size=64, seed=seed, plane=z).frames for z in range(3)]
    )
    mixed = slices.reshape(3, 9, 64, 64)[:, np.random.default_rng(seed).permutation(9)]
    for stack, expected in (
        (mixed, {"zap", "zpa"}),
        (mixed.swapaxes(0, 1), {"apz", "paz"}),
    ):
        volume = Volume(stack.reshape(-1, 64, 64), "ZYX")
        frames = SimFrames.from_volume(volume, angles=3, phases=3)
        assert set(unclear_order(guess_order(frames)[1])) == expected


def test_whole_frames_are_not_kept(monkeypatch):
    """A view of the central part kept the whole frame in memory."""
    monkeypatch.setattr(orders, "_GUESS_EDGE", 16)
    images = orders.OrderImages(frames_of_scene(scene(size=64)))
    images.blocks("apz")
    kept = list(images._read.values())
    assert [image.base is None for image in kept] == [True] * 9
    assert {image.shape for image in kept} == {(16, 16)}
