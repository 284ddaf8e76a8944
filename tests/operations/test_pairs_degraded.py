"""Pairs of one scan: coarser, blurred and noisy as set, or like a real scan."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.pairs.degraded import DegradeConfig, degrade, degrade_steps
from napari_geosr.operations.pairs.quality import report_lines
from napari_geosr.physics.sampling import area_downsample, coarse_scan
from napari_geosr.physics.specimens.phantoms import bicontinuous


@pytest.fixture(scope="module")
def foam() -> np.ndarray:
    made = bicontinuous((64, 130, 132), porosity=0.6, wavelength=30.0, seed=4)
    return (0.8 - 0.6 * made.fraction).astype(np.float32)


@pytest.fixture
def high(foam) -> Volume:
    return Volume(foam, "ZYX", (2.0,) * 3, "µm", (5.0, 6.0, 7.0), name="fine")


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_without_noise_it_is_blur_and_means(tmp_path, high, factor):
    out = tmp_path / "p"
    options = {"blur": 0.4, "noise": 0.0}
    done = degrade(high, out, upscale_factor=factor, options=options)
    low, fine = (io.read(done.files[key]) for key in ("low", "high"))
    shape = tuple(n // factor for n in high.shape)
    assert low.shape == shape
    assert fine.shape == tuple(n * factor for n in shape)
    kept = high.data[tuple(slice(0, n) for n in fine.shape)]
    assert np.array_equal(np.asarray(fine.data), kept)
    assert np.abs(np.asarray(low.data) - coarse_scan(kept, factor, 0.4)).max() < 1e-5
    assert low.voxel_size == (2.0 * factor,) * 3
    # The outer edges of both fields of view are the same.
    size, origin = low.upscaled_geometry(factor)
    assert (fine.voxel_size, fine.origin) == (size, pytest.approx(origin))
    assert fine.origin == high.origin


def test_noise_is_that_asked_for_and_does_not_depend_on_blocks(tmp_path, high):
    options = {"noise": 0.2, "blur": 0.5, "seed": 5}
    clean = degrade(
        high, tmp_path / "clean", upscale_factor=4, options=options | {"noise": 0}
    )
    one = degrade(high, tmp_path / "one", upscale_factor=4, options=options)
    many = degrade(
        high, tmp_path / "many", upscale_factor=4, options=options, memory="2MB"
    )
    volumes = [np.asarray(io.read(d.files["low"]).data) for d in (clean, one, many)]
    contrast = one.report["grey_levels"]["contrast"]
    assert contrast == pytest.approx(0.6, rel=0.1)
    noise = volumes[1] - volumes[0]
    assert noise.std() == pytest.approx(0.2 * contrast, rel=0.03)
    assert np.abs(volumes[2] - volumes[1]).max() < 1e-5
    other = degrade(
        high, tmp_path / "other", upscale_factor=4, options=options | {"seed": 6}
    )
    assert not np.array_equal(np.asarray(io.read(other.files["low"]).data), volumes[1])


def test_grey_values_beyond_float32_are_refused(tmp_path, high):
    with pytest.raises(VolumeError, match="beyond float32"):
        degrade(
            high.replace(data=high.data * 1e10),
            tmp_path / "p",
            upscale_factor=2,
            options={"grey_gain": 1e35},
        )
    assert not list(tmp_path.rglob("*.tif"))


def test_it_becomes_like_a_real_scan(tmp_path, high):
    real = degrade(
        high,
        tmp_path / "real",
        upscale_factor=2,
        options={
            "blur": 0.7,
            "noise": 0.15,
            "grey_gain": 150.0,
            "grey_offset": 20.0,
            "seed": 9,
        },
    )
    like = io.read(real.files["low"])
    done = degrade(high, tmp_path / "p", like)
    measured, settings = done.report["measured"], done.report["settings"]
    print(measured["blur"], settings["noise"], measured["gain"], measured["misfit"])
    assert done.report["upscale_factor"] == 2
    assert measured["blur"] == pytest.approx(0.7, rel=0.15)
    assert settings["noise"] == pytest.approx(0.15, rel=0.1)
    assert measured["gain"] == pytest.approx(150, rel=0.08)
    low, fine = (io.read(done.files[key]) for key in ("low", "high"))
    a, b = np.asarray(low.data), np.asarray(like.data)
    assert a.mean() == pytest.approx(b.mean(), rel=0.02)
    assert a.std() == pytest.approx(b.std(), rel=0.05)
    # The target also has the grey values of the real scan.
    assert np.asarray(fine.data).max() == pytest.approx(0.8 * 150 + 20, rel=0.08)
    record = low.provenance[-1]
    assert set(record["inputs"]) == {"high", "like"}
    assert "Measured blur: 0.7" in "\n".join(report_lines(done.report))


@pytest.mark.slow
def test_settings_overrule_what_is_measured(tmp_path, high):
    like = Volume(
        coarse_scan(high.data[:, :128, :128], 2, 0.6), "ZYX", (4.0,) * 3, "µm"
    )
    done = degrade(high, tmp_path / "p", like, options={"blur": 0.1, "noise": 0.3})
    settings = done.report["settings"]
    assert (settings["blur"], settings["noise"]) == (0.1, 0.3)
    assert done.report["measured"]["blur"] == pytest.approx(0.6, rel=0.15)


def test_fluorescence_is_blurred_more_along_the_axis(tmp_path):
    data = np.full((33, 32, 34), 100, np.uint16)
    data[16, 16, 16] = 60_000
    bead = Volume(data, "ZYX", (1.0, 0.5, 0.5), "µm")
    options = {"blur": 1.0, "elongation": 3.0, "photons": 1e8, "read_noise": 0.0}
    done = degrade(
        bead, tmp_path / "p", degrade="fluo", upscale_factor=2, options=options
    )
    low = np.asarray(io.read(done.files["low"]).data, np.float64) - 100
    at = np.unravel_index(low.argmax(), low.shape)
    spread = []
    for axis in range(3):
        line = low.sum(axis=tuple(i for i in range(3) if i != axis))
        places = np.arange(len(line)) - at[axis]
        mean = (line * places).sum() / line.sum()
        spread.append(np.sqrt((line * (places - mean) ** 2).sum() / line.sum()))
    # 3 µm along Z are 1.5 coarse voxels, in addition to the width of a voxel.
    assert spread[0] == pytest.approx(np.hypot(1.5, 0.29), rel=0.1)
    assert spread[2] == pytest.approx(np.hypot(1.0, 0.29), rel=0.1)
    assert io.read(done.files["high"]).dtype == np.uint16


def test_slices_may_stay_as_many(tmp_path, high):
    options = {"blur": 0.5, "noise": 0.0}
    done = degrade(
        high, tmp_path / "p", upscale_factor=2, dimensions="2D", options=options
    )
    low = io.read(done.files["low"])
    assert low.shape == (64, 65, 66)
    assert low.voxel_size == (2.0, 4.0, 4.0)
    one = Volume(high.data[10:11], "ZYX", high.voxel_size, "µm")
    alone = degrade(
        one, tmp_path / "q", upscale_factor=2, dimensions="2D", options=options
    )
    assert np.asarray(io.read(alone.files["low"]).data)[0] == pytest.approx(
        np.asarray(low.data)[10], abs=1e-5
    )


def test_images_are_degraded_as_well(tmp_path, foam):
    image = Volume(foam[0], "YX", (1.0, 1.0), "µm")
    done = degrade(
        image, tmp_path / "p", upscale_factor=4, options={"noise": 0, "blur": 0}
    )
    low = io.read(done.files["low"])
    assert low.axes == "YX"
    assert np.asarray(low.data) == pytest.approx(area_downsample(foam[0, :128], 4))
    assert "--dimensions 2D" in done.report["train"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "--upscale-factor"),
        ({"upscale_factor": 2, "degrade": "xray"}, "no kind of degradation 'xray'"),
        ({"upscale_factor": 2, "options": {"photons": 3}}, "no setting 'photons'"),
        ({"upscale_factor": 2, "options": {"noise": -1}}, "noise"),
        ({"upscale_factor": 2, "options": {"mtf10": 1e9}}, "line pairs"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, high, settings, says):
    with pytest.raises((ConfigError, VolumeError), match=says):
        degrade(high, tmp_path / "p", **settings)
    assert not (tmp_path / "p").exists()


def test_bad_voxels_are_refused(tmp_path, high):
    data = high.data.copy()
    data[50, 60, 60] = np.inf
    with pytest.raises(VolumeError, match="NaN or infinite"):
        degrade(high.replace(data=data), tmp_path / "p", upscale_factor=2)
    small = high.replace(data=high.data[:, :40, :40])
    with pytest.raises(VolumeError, match="too few low-resolution voxels"):
        degrade(small, tmp_path / "p", upscale_factor=8)
    flat = high.replace(data=np.full(high.shape, 7, np.uint8))
    with pytest.raises(VolumeError, match="only one grey value"):
        degrade(flat, tmp_path / "p", upscale_factor=2)
    coarse = Volume(np.asarray(high.data[::4, ::4, ::4]), "ZYX", (2.0,) * 3, "µm")
    with pytest.raises(VolumeError, match="too large for"):
        degrade(high, tmp_path / "p", coarse, upscale_factor=4)
    assert not (tmp_path / "p").exists()


def test_stopped_nothing_is_left(tmp_path, high):
    asked = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) > 3

    steps = degrade_steps(
        high,
        tmp_path / "p",
        DegradeConfig(upscale_factor=2, memory="2MB"),
        should_stop=should_stop,
    )
    with pytest.raises(Cancelled):
        run_to_end(steps)
    assert list(tmp_path.iterdir()) == []


def test_the_report_can_be_read(tmp_path, high):
    done = degrade(high, tmp_path / "p", upscale_factor=8, options={"mtf10": 20.0})
    report = json.loads(done.files["report"].read_text(encoding="utf-8"))
    assert report == done.report
    assert report["upscale_factor"] == 8
    assert "--upscale-factor 8" in report["train"]
    assert "Frequency at MTF 10 %: 20 line pairs per mm" in "\n".join(
        report_lines(report)
    )


def test_no_line_trains_with_a_factor_that_no_network_has(tmp_path, high):
    done = degrade(high, tmp_path / "p", upscale_factor=3)
    assert done.report["train"] is None
    assert "none of them can be trained" in " ".join(done.report["warnings"])
