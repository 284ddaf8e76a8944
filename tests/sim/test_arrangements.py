"""Slices, time points and channels: each has its own frames, patterns and offset."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, GeoSRError, VolumeError
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.sim import (
    FramesConfig,
    SimConfig,
    estimate_steps,
    frames_of,
    run_steps,
)
from napari_geosr.operations.sim.check import check_steps
from napari_geosr.operations.sim.known_patterns import patterns_document, read_patterns
from napari_geosr.operations.sim.order_checks import difference_growth, order_remark
from sim.sim_scenes import OPTICS, PIXEL, scene

SIZE = 64
WAVELENGTH = OPTICS.wavelengths[0]
SETTINGS = {
    "na": 1.4,
    "wavelength": WAVELENGTH,
    "method": "wiener",
    "checks": False,
    "threads": 1,
    "device": "cpu",
}


def planes(n: int, **settings: object) -> np.ndarray:
    """Frames of several planes: (planes, 9, Y, X), with the same patterns."""
    made = [scene("er", snr=20, size=SIZE, plane=i, **settings) for i in range(n)]
    return np.stack([each.frames.reshape(9, SIZE, SIZE) for each in made])


def raw(data: np.ndarray, axes: str) -> Volume:
    size = (0.2, PIXEL, PIXEL)[-sum(a in "ZYX" for a in axes) :]
    return Volume(np.rint(data).astype(np.uint16), axes, size, "µm", name="raw")


def warned(volume: Volume, **settings: object) -> tuple[object, list[str]]:
    """The result of a run, and its warnings."""
    config = SimConfig.create(**{**SETTINGS, **settings})
    seen: list[object] = []
    result = run_to_end(run_steps(frames_of(volume, config), config), seen.append)
    return result, [s.message for s in seen if isinstance(s, WarningIssued)]


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("TZYX", (9, 4)), ("CZYX", (9, 4)), ("TCZYX", (3, 3, 4))],
)
def test_slices_may_have_their_own_axis(axes, shape):
    data = planes(4).transpose(1, 0, 2, 3).reshape(*shape, SIZE, SIZE)
    frames = frames_of(raw(data, axes), FramesConfig())
    assert (frames.n_planes, frames.n_times, frames.n_channels) == (4, 1, 1)
    assert difference_growth(frames) < 1.5
    assert "raw SIM frames" not in order_remark(frames, FramesConfig())
    assert frames.index(2, 1, 3) == frames.index(2, 1, 0)


def test_frames_along_the_time_axis_are_a_time_series():
    series = planes(3).reshape(27, SIZE, SIZE)
    result, _ = warned(raw(series, "TYX"))
    assert result.volume.axes == "TYX"
    assert result.volume.shape == (3, 2 * SIZE, 2 * SIZE)
    assert result.volume.voxel_size == (PIXEL / 2, PIXEL / 2)
    assert set(result.estimates) == {(0, 0), (1, 0), (2, 0)}
    single, _ = warned(raw(series.reshape(3, 9, SIZE, SIZE), "TZYX"))
    np.testing.assert_array_equal(result.volume.data, single.volume.data)


def test_every_image_knows_its_plane():
    volume = raw(planes(3).reshape(27, SIZE, SIZE), "TYX")
    series = frames_of(volume, FramesConfig())
    assert [series.plane_at({"T": t}) for t in (0, 8, 9, 26)] == [
        (0, 0, 0), (0, 0, 0), (0, 1, 0), (0, 2, 0),
    ]  # fmt: skip
    stack = volume.replace(
        axes="ZYX", data=volume.data, voxel_size=(0.2, PIXEL, PIXEL), origin=(0,) * 3
    )
    interleaved = SimFrames.from_volume(stack, angles=3, phases=3, order="apz")
    assert [interleaved.plane_at({"Z": z})[0] for z in range(5)] == [0, 1, 2, 0, 1]


def test_five_slices_of_nine_frames_are_not_taken_as_forty_five():
    stack = planes(5)
    for order, axes in (("zap", (0, 1)), ("apz", (1, 0))):
        data = stack.transpose(*axes, 2, 3).reshape(45, SIZE, SIZE)
        frames = frames_of(raw(data, "ZYX"), FramesConfig())
        assert (frames.angles, frames.phases, frames.order) == (3, 3, order)
    made = scene("er", snr=20, size=SIZE, angles=5, phases=9)
    frames = frames_of(raw(made.frames.reshape(45, SIZE, SIZE), "ZYX"), FramesConfig())
    assert (frames.angles, frames.phases) == (5, 9)


def test_assumed_numbers_of_frames_are_named():
    data = np.random.default_rng(0).poisson(
        np.broadcast_to(planes(1)[0].mean(0), (15, SIZE, SIZE))
    )
    config = FramesConfig(na=1.4, wavelength=(WAVELENGTH,))
    for given in ({}, {"angles": 3, "phases": 5}):
        own = config.model_copy(update=given)
        found = run_to_end(estimate_steps(frames_of(raw(data, "ZYX"), own), own))
        with pytest.raises(ConfigError, match="no pattern found") as error:
            found.require()
        is_named = "taken as 3 angles × 5 phases" in str(error.value)
        assert is_named == (not given)


@pytest.fixture(scope="module")
def channels() -> tuple[Volume, list]:
    """Two channels with different patterns, and their scenes."""
    made = [scene("er", snr=30, size=SIZE, seed=s) for s in (1, 2)]
    return raw(np.stack([m.frames.reshape(9, SIZE, SIZE) for m in made]), "CZYX"), made


def test_known_patterns_of_one_channel_are_refused_for_two(tmp_path, channels):
    volume, made = channels
    config = SimConfig.create(**SETTINGS)
    frames = frames_of(volume, config)
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(made[0].patterns.to_dict()))
    with pytest.raises(ConfigError, match=r"one channel, but 'raw' has 2 channels"):
        warned(volume, patterns=path, offset=100)
    path.write_text(yaml.safe_dump({**made[0].patterns.to_dict(), "channels": "all"}))
    same = read_patterns(path, frames, 1).fringes[0].wave_vector
    assert same == made[0].patterns.fringes[0].wave_vector
    both = patterns_document([m.patterns for m in made])
    path.write_text(yaml.safe_dump(both))
    result, _ = warned(volume, patterns=path, offset=100)
    for channel, each in enumerate(made):
        used = result.estimates[0, channel].patterns.fringes
        np.testing.assert_allclose(
            used[0].wave_vector, each.patterns.fringes[0].wave_vector
        )
    path.write_text(yaml.safe_dump({"channels": both["channels"][:1]}))
    with pytest.raises(ConfigError, match="2 channels"):
        warned(volume, patterns=path, offset=100)


def test_every_channel_is_checked_before_a_run(tmp_path, channels, capsys):
    volume, made = channels
    io.write(volume, tmp_path / "raw.ome.tif")
    words = ["sim", "check", f"{tmp_path}/raw.ome.tif", "--out", f"{tmp_path}/c"]
    words += ["--na", "1.4", "--wavelength", f"{WAVELENGTH},{WAVELENGTH}"]
    assert run(words) == 0
    said = capsys.readouterr().out
    assert said.index("Channel 1") < said.index("Channel 2")
    facts = json.loads((tmp_path / "c/check.json").read_text("utf-8"))
    assert set(facts) == {"frames", "order_misfit", "checks", "warnings", "notes"}
    assert list(facts["checks"]) == ["channel 1", "channel 2"]
    for number, each in enumerate(facts["checks"].values(), start=1):
        assert each["channel"] == number
        assert [angle["found"] for angle in each["angles"]] == [True] * 3
    written = yaml.safe_load((tmp_path / "c/patterns.yaml").read_text("utf-8"))
    assert len(written["channels"]) == 2
    config = SimConfig.create(**SETTINGS, patterns=tmp_path / "c/patterns.yaml")
    for channel, each in enumerate(made):
        found = read_patterns(config.patterns, frames_of(volume, config), channel)
        np.testing.assert_allclose(
            found.fringes[0].wave_vector,
            each.patterns.fringes[0].wave_vector,
            atol=0.1 / SIZE,
        )


def test_a_channel_that_cannot_be_checked_has_its_own_entry(tmp_path, channels, capsys):
    """The other channels and time points are checked nevertheless."""
    volume, _ = channels
    data = np.stack([volume.data.copy()] * 2)
    data[1, 1] = 100  # constant
    volume = volume.replace(data=data, axes="TCZYX")
    io.write(volume, tmp_path / "raw.ome.tif")
    words = ["sim", "check", f"{tmp_path}/raw.ome.tif", "--out", f"{tmp_path}/c"]
    words += ["--na", "1.4", "--wavelength", f"{WAVELENGTH},{WAVELENGTH}"]
    assert run([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["checks"]) == [
        f"time point {time}, channel {channel}" for time in (1, 2) for channel in (1, 2)
    ]
    reason = facts["checks"]["time point 2, channel 2"].pop("warnings")[0]
    assert facts["checks"].pop("time point 2, channel 2") == {
        "time_point": 2,
        "channel": 2,
    }
    assert "same grey value everywhere" in reason
    assert reason in facts["warnings"]
    assert all(not each["warnings"] for each in facts["checks"].values())
    assert run([*words, "--overwrite"]) == 0
    assert f"warning: {reason}" in capsys.readouterr().out


def test_every_channel_and_the_last_time_point_are_checked_after_a_run(tmp_path):
    one = scene("er", snr=30, size=SIZE)
    data = np.stack([one.frames.reshape(9, SIZE, SIZE)] * 2)
    # The second time point has other phases than the given patterns.
    data[1] = scene("er", snr=30, size=SIZE, seed=7).frames.reshape(9, SIZE, SIZE)
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(one.patterns.to_dict()))
    result, said = warned(raw(data, "TZYX"), patterns=path, checks=True, offset=100)
    assert set(result.other_checks) == {(1, 0)}
    assert result.checks.frc_resolution is not None
    assert result.other_checks[1, 0].frc_resolution is None
    assert said
    assert all(message.startswith("Time point 2: ") for message in said)
    assert result.summary["other_checks"][0]["time_point"] == 2


def test_drifting_patterns_are_noticed_before_a_run():
    made = [scene("er", snr=30, size=SIZE, seed=s) for s in (0, 7)]
    data = np.stack([m.frames.reshape(9, SIZE, SIZE) for m in made])
    config = FramesConfig(na=1.4, wavelength=(WAVELENGTH,))
    frames = frames_of(raw(data, "TZYX"), config)
    check = run_to_end(check_steps(frames, config, every_channel=True))
    assert [(c.time, c.channel) for c in check.others] == [(1, 0)]
    assert any("patterns drift" in w for w in check.others[0].warnings)
    facts = check.to_json_dict()
    assert list(facts["checks"]) == ["time point 1", "time point 2"]
    assert [w for w in facts["warnings"] if w.startswith("Time point 2: The patterns")]
    assert run_to_end(check_steps(frames, config)).others == ()


def test_one_wavelength_for_two_channels_is_said(channels):
    volume, _ = channels
    single, double = (
        warned(volume, wavelength=w, offset=100)[1]
        for w in (WAVELENGTH, (WAVELENGTH, WAVELENGTH))
    )
    assert any("used for all 2 channels" in message for message in single)
    assert double == []


def test_each_channel_has_its_own_offset(channels):
    volume, _ = channels
    data = volume.data.copy()
    data[1] += 400
    frames = frames_of(volume.replace(data=data), FramesConfig(order="apz"))
    plain = frames_of(volume, FramesConfig(order="apz"))
    assert len(frames.offsets) == 2
    assert frames.channel_offset(0) == plain.channel_offset(0)
    assert frames.channel_offset(1) == pytest.approx(plain.channel_offset(1) + 400)


def test_a_dim_slice_sets_the_offset():
    """Out-of-focus light fills the middle slices, but not the outer ones."""
    stack = planes(5) + 200
    stack[[0, 4]] = 100 + 0.05 * (planes(5)[[0, 4]] - 100)
    data = stack.transpose(1, 0, 2, 3).reshape(45, SIZE, SIZE)
    settings = {"angles": 3, "phases": 3, "order": "apz"}
    frames = frames_of(raw(data, "ZYX"), FramesConfig(**settings))
    assert frames.offset == pytest.approx(100, abs=5)
    assert frames.frames(0).mean(axis=(2, 3)).min() >= 0
    blank = data.reshape(9, 5, SIZE, SIZE).copy()
    blank[:, 4] = 0  # a missing slice
    frames = frames_of(
        raw(blank.reshape(45, SIZE, SIZE), "ZYX"), FramesConfig(**settings)
    )
    assert frames.offset > 50


def noise_only() -> np.ndarray:
    """Frames without a pattern."""
    mean = np.broadcast_to(planes(1)[0].mean(0), (9, SIZE, SIZE))
    return np.random.default_rng(0).poisson(mean)


def test_unclear_time_points_use_the_patterns_of_others():
    """The first one uses those of the second, the last one those of the third."""
    good = planes(1)[0]
    data = raw(np.stack([noise_only(), good, good, noise_only()]), "TZYX")
    result, said = warned(data, offset=100)
    assert np.isfinite(result.volume.data).all()
    vectors = {f.wave_vector for f in result.patterns.fringes}
    for time, used in ((0, 2), (3, 3)):
        estimate = result.estimates[time, 0]
        assert f"time point {used}" in estimate.where
        (message,) = (m for m in said if f"(time point {time + 1}): no pat" in m)
        assert message.endswith(
            f"The patterns of time point {used} are used instead; do not trust this "
            "time point without checking it."
        )
    assert {f.wave_vector for f in result.estimates[0, 0].patterns.fringes} == vectors
    with pytest.raises(ConfigError, match=r"Angle 1 \(time point 1\): no pattern"):
        warned(raw(np.stack([noise_only()] * 2), "TZYX"), offset=100)


@pytest.mark.parametrize("fault", [np.nan, 90])
def test_unusable_planes_are_left_empty(tmp_path, fault):
    """At the first time point, and in the middle slice of the second one."""
    good = planes(3).transpose(1, 0, 2, 3)
    data = np.stack([good, good]).reshape(2, 27, SIZE, SIZE).astype(np.float32)
    data[0, 5] = data[0, 7] = data[0, 18] = data[1, 1] = fault
    volume = raw(good.reshape(27, SIZE, SIZE), "ZYX")
    volume = Volume(data, "TZYX", volume.voxel_size, "µm", name="raw")
    settings = {"offset": 100, "order": "apz", "checks": True}
    result, said = warned(volume, **settings)
    is_empty = np.isnan(result.volume.data).all(axis=(2, 3))
    np.testing.assert_array_equal(is_empty, [[1, 1, 1], [0, 1, 0]])
    assert np.isfinite(result.volume.data[~is_empty]).all()
    assert result.checks is not None
    left = [m for m in said if m.endswith("This plane is left empty (NaN).")]
    assert len(left) == 4
    assert "'raw' (time point 2, slice 2)" in left[-1]
    assert ("NaN or infinite" if np.isnan(fault) else "same grey value") in left[-1]
    assert len(result.summary["empty_planes"]) == 4
    with pytest.raises(VolumeError, match=r"\(time point 1, slice 2\)"):
        warned(volume.replace(data=np.full_like(data, fault)), **settings)


@pytest.mark.parametrize("fault", ["constant", "noise"])
def test_warnings_of_the_first_usable_time_point_are_issued(fault):
    """Each once, though patterns are first found at the second time point."""
    spoiled = planes(1)[0].copy()
    spoiled[:, 20, 30] = 60000
    bad = noise_only() if fault == "noise" else np.full_like(spoiled, 90)
    data = np.stack([np.stack([each] * 2) for each in (bad, spoiled, spoiled)])
    _, said = warned(raw(data, "TCZYX"), offset=100, order="apz")
    for channel in (1, 2):
        place = f"(time point 2, channel {channel}). No objective can produce"
        assert sum(place in message for message in said) == 1
    assert sum("is used for all 2 channels" in message for message in said) == 1


def test_bright_and_dim_slices_have_their_own_number_of_iterations():
    """The first slice is not the measure of all others."""
    rng = np.random.default_rng(0)
    clean = [scene("filaments", snr=0, size=SIZE, plane=i).clean for i in range(3)]
    light = (3, 300, 320)
    counts = [100 + rng.poisson(c * n) for c, n in zip(clean, light, strict=True)]
    data = np.stack(counts, 2).reshape(27, SIZE, SIZE)
    settings = {"method": "joint-rl", "offset": 100, "order": "apz"}
    stack, _ = warned(raw(data, "ZYX"), **settings)
    alone, _ = warned(raw(data.reshape(9, 3, SIZE, SIZE)[:, 1], "ZYX"), **settings)
    used = stack.summary["iterations"]
    assert len(used) == 2  # the bright slices share one
    assert used[0] < used[1]
    assert used[1:] == alone.summary["iterations"]


def test_an_unknown_distance_of_slices_is_said():
    stack = planes(2).reshape(18, SIZE, SIZE).astype(np.float32)
    settings = {"order": "zap", "method": "widefield"}
    plain = Volume(stack, "ZYX", name="raw")
    _, said = warned(plain, pixel=65, **settings)
    assert said[0].startswith("The slice spacing is unknown")
    assert warned(raw(stack, "ZYX"), pixel=65, **settings)[1] == []
    assert warned(plain.replace(data=stack[:9]), pixel=65, **settings)[1] == []


def test_pixels_must_be_square():
    volume = raw(planes(1)[0], "ZYX")
    for width, is_right in ((1.005, True), (1.08, False)):
        size = (0.2, PIXEL, PIXEL * width)
        other = volume.replace(voxel_size=size)
        if is_right:
            frames_of(other, FramesConfig())
            continue
        with pytest.raises(VolumeError, match=r"0\.0702 µm wide and 0\.065 µm high"):
            frames_of(other, FramesConfig())
        frames_of(other, FramesConfig(pixel=65))


def test_widefield_needs_neither_optics_nor_patterns():
    data = planes(1)[0]
    settings = {"method": "widefield", "na": None, "wavelength": None}
    result, said = warned(raw(data, "ZYX"), **settings)
    assert said == []
    assert result.patterns.fringes == ()
    checked, said = warned(raw(data, "ZYX"), **settings, checks=True)
    assert checked.checks is None
    (message,) = said
    assert message.startswith("The result is not checked. 'raw' does not state")
    np.testing.assert_array_equal(checked.volume.data, result.volume.data)
    plain = np.random.default_rng(0).poisson(np.broadcast_to(data.mean(0), data.shape))
    _, said = warned(raw(plain, "ZYX"), method="widefield", checks=True, order="apz")
    assert "no pattern found" in said[0]


def test_numbers_of_frames_are_taken_from_known_patterns(tmp_path):
    made = scene("er", snr=20, size=SIZE, angles=2, phases=4)
    volume = raw(made.frames.reshape(8, SIZE, SIZE), "ZYX")
    with pytest.raises(GeoSRError, match="multiple of the 9"):
        frames_of(volume, FramesConfig())
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(made.patterns.to_dict()))
    frames = frames_of(volume, FramesConfig(patterns=path))
    assert (frames.angles, frames.phases) == (2, 4)
    images = Volume(np.ones((70, SIZE, SIZE), np.float32), "ZYX")
    io.write(images, tmp_path / "p.tif")
    many = raw(np.tile(planes(1)[0], (8, 1, 1))[:70], "ZYX")
    frames = frames_of(many, FramesConfig(patterns=tmp_path / "p.tif"))
    assert (frames.angles, frames.phases) == (1, 70)
    FramesConfig(phases=500)


def test_pixels_too_large_for_the_detail_are_said(channels):
    made = scene("er", snr=30, size=SIZE)
    volume = raw(made.frames.reshape(9, SIZE, SIZE), "ZYX")
    _, said = warned(volume, upscale_factor=1, offset=100)
    assert "Use --upscale-factor 2." in said[0]
    assert warned(volume, offset=100)[1] == []
    both = {"wavelength": (WAVELENGTH, WAVELENGTH), "offset": 100, "order": "apz"}
    _, said = warned(channels[0], upscale_factor=1, **both)
    assert [message[:10] for message in said] == ["Channel 1:", "Channel 2:"]


def test_a_measured_spot_is_sampled_as_its_file_says(tmp_path):
    """1.4 pixels per camera pixel are not rounded to 1; larger pixels are refused."""
    from napari_geosr.operations.sim.inputs import transfer_function
    from napari_geosr.physics.illumination.otf import Otf

    volume = raw(planes(1)[0], "ZYX")
    f = np.fft.fftfreq(64)
    for ratio in (1.4, 0.65):
        ideal = Otf(0.37 / ratio, camera=False).at(f[:, None], f[None])
        spot = np.fft.fftshift(np.fft.ifft2(ideal).real).astype(np.float32)
        edge = PIXEL / ratio
        path = tmp_path / f"psf{ratio}.ome.tif"
        io.write(Volume(spot, "YX", (edge, edge), "µm"), path)
        config = FramesConfig(psf=path)
        frames = frames_of(volume, config)
        if ratio < 1:
            with pytest.raises(ConfigError, match="larger than those of the camera"):
                transfer_function(frames, config)
            continue
        found = transfer_function(frames, config)
        assert found.sampling == pytest.approx(ratio, rel=1e-3)
        assert found.cut_off == pytest.approx(0.37, rel=0.06)


def test_patterns_and_spot_may_be_arrays(tmp_path):
    """As accepted from files."""
    made = scene("er", snr=20, size=SIZE)
    volume = raw(made.frames.reshape(9, SIZE, SIZE), "ZYX")
    f = np.fft.fftfreq(32)
    spot = np.fft.fftshift(np.fft.ifft2(made.otf.at(f[:, None], f[None])).real)
    images = np.abs(np.random.default_rng(0).normal(1, 0.2, (9, SIZE, SIZE)))
    values = made.patterns.to_dict()
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    io.write(Volume(images.astype(np.float32), "ZYX"), tmp_path / "p.tif")
    io.write(Volume(spot.astype(np.float32), "YX"), tmp_path / "s.tif")
    settings = {
        "psf_sampling": 1, "offset": 100, "order": "apz", "iterations": 3,
        "checks": False, "device": "cpu", "threads": 1,
    }  # fmt: skip
    for known, file in (
        (values, "p.yaml"),
        (made.patterns, "p.yaml"),
        (images.astype(np.float32), "p.tif"),
    ):
        one = geosr.reconstruct_sim(
            volume, patterns=known, psf=spot.astype(np.float32), **settings
        )
        other = geosr.reconstruct_sim(
            volume, patterns=tmp_path / file, psf=tmp_path / "s.tif", **settings
        )
        np.testing.assert_allclose(one.data, other.data, rtol=1e-5)
