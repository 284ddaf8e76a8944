"""Noisy scans are reported; good and restored scans and phantoms are not."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pore_shapes import measure
from scipy import ndimage

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import Step, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import histogram_steps
from napari_geosr.measure.reliability import noise_check
from napari_geosr.measure.reliability.noise_check import noise_check_steps
from napari_geosr.physics.specimens.phantoms import (
    random_blobs,
    rare_pores,
    sphere_foam,
)
from napari_geosr.physics.specimens.textiles import felt, several_phases, weave

SHAPE = (40, 64, 64)


def about_noise(warnings) -> list[str]:
    return [w for w in warnings if "wrong side of the threshold" in w]


def foam() -> np.ndarray:
    grey = 1 - sphere_foam(SHAPE, porosity=0.25, radius=(2, 5), seed=3).fraction
    return 50 + 150 * ndimage.gaussian_filter(grey, 0.7)


@pytest.mark.parametrize("phase", ["dark", "bright"])
def test_the_porosity_of_noise_is_not_left_without_a_word(rng, phase):
    clean = foam()
    data = clean + 60 * rng.standard_normal(SHAPE)
    if phase == "bright":
        clean, data = 250 - clean, 250 - data
    truth = measure(clean, phase=phase)
    report = measure(data, phase=phase, name="scan")
    assert report.porosity > 1.4 * truth.porosity
    assert report.pore_count < 0.1 * truth.pore_count
    (said,) = about_noise(report.warnings)
    assert (
        "porosity and pore counts are unreliable. Measure a scan with less noise"
        in said
    )
    at = report.threshold
    wrong = np.mean((data <= at) != (clean <= at))
    assert report.noise.misclassified.share == pytest.approx(wrong, rel=0.2)
    assert f"About {100 * report.noise.misclassified.share:.0f} %" in said
    values = report.to_json_dict()["noise"]
    assert values["misclassified_share"] == report.noise.misclassified.share
    assert values["relative_level"] == pytest.approx(0.4, rel=0.3)


def test_weaker_noise_spoils_counts_first(rng):
    data = foam() + 16 * rng.standard_normal(SHAPE)
    report = measure(data, name="scan")
    (said,) = about_noise(report.warnings)
    assert "pore counts and sizes are unreliable" in said


def test_specks_are_said(rng):
    data = foam() + 30 * rng.standard_normal(SHAPE)
    report = measure(data)
    assert report.small_pore_count > 3 * report.pore_count
    assert any("are single voxels" in w for w in report.warnings)
    clean = measure(foam())
    assert not any("are single voxels" in w for w in clean.warnings)


SCENES = {
    "foam": lambda: 1 - sphere_foam(SHAPE, porosity=0.25, radius=(2, 5)).fraction,
    "fine felt": lambda: 1 - felt(SHAPE, radius=1.0).fraction,
    "felt": lambda: 1 - felt(SHAPE, radius=2.0).fraction,
    "weave": lambda: 1 - weave(SHAPE).fraction,
    "blobs": lambda: 1 - random_blobs(SHAPE, radius=2.0).fraction,
    "phases": lambda: several_phases(SHAPE).grey,
    "rare pores": lambda: 1 - rare_pores(SHAPE, radius=(2, 4)).fraction,
}


@pytest.mark.every(2)
@pytest.mark.parametrize("scene", list(SCENES))
def test_no_false_alarm_on_clean_phantoms(scene):
    made = SCENES[scene]()
    for blur in (0, 0.5, 1.0):
        data = 20 + 200 * ndimage.gaussian_filter(made, blur)
        for array in (data.astype(np.float32), data.round().astype(np.uint8)):
            report = measure(array, keep_labels=False)
            assert about_noise(report.warnings) == [], (blur, array.dtype)
            assert not any("single voxels" in w for w in report.warnings)


def test_no_false_alarm_on_real_scans(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "ct_volumes" / "berea.zip"
    with zipfile.ZipFile(archive) as zipped:
        name = next(n for n in zipped.namelist() if n.endswith(".tif"))
        rock = tifffile.imread(zipped.extract(name, tmp_path))[:96, :96, :96]
    folder = shared_data / "ct_volumes"
    for scan in (
        rock,
        ndimage.gaussian_filter(rock.astype(np.float32), 0.7),
        tifffile.imread(folder / "bone_128x128x128.tif"),
        tifffile.imread(folder / "cement_128x128x128.tif"),
    ):
        report = measure(scan, keep_labels=False)
        assert about_noise(report.warnings) == []
        assert not any("single voxels" in w for w in report.warnings)


@pytest.mark.parametrize("level", [0.2, 0.4])
def test_noise_on_real_scans(shared_data: Path, rng, level) -> None:
    for name in ("bone", "cement"):
        path = shared_data / "ct_volumes" / f"{name}_128x128x128.tif"
        clean = tifffile.imread(path).astype(np.float32)
        low, high = np.percentile(clean, [2, 98])
        data = clean + level * (high - low) * rng.standard_normal(clean.shape)
        report = measure(data.astype(np.float32), keep_labels=False)
        wrong = np.mean((data <= report.threshold) != (clean <= report.threshold))
        assert report.noise.misclassified.share == pytest.approx(wrong, rel=0.25)
        assert about_noise(report.warnings)


@pytest.mark.parametrize("blur", [1.3, 2.0, 3.0])
def test_smooth_noise_is_bounded_by_the_grey_values(rng, blur) -> None:
    """It cannot be measured, but it widens the peaks of the histogram."""
    clean = foam()
    noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE), blur)
    for level in (0.1, 0.3):
        data = clean + level * 150 * noise / noise.std()
        report = measure(data.astype(np.float32), keep_labels=False)
        wrong = np.mean((data <= report.threshold) != (clean <= report.threshold))
        assert not report.noise.noise.is_measured
        assert report.noise.possible.share == pytest.approx(wrong, rel=0.3)
        said = about_noise(report.warnings)
        assert len(said) == (wrong > 0.02 or report.noise.possible.share >= 0.02)
    assert "could not be measured" in said[0]
    values = report.to_json_dict()["noise"]
    assert values["misclassified_share"] is None
    assert values["possible_misclassified_share"] == report.noise.possible.share


@pytest.mark.parametrize("kind", ["uint8", "float steps", "stretched"])
def test_rounding_hides_no_smooth_noise(rng, kind) -> None:
    """Eight-bit values may be stored as other numbers, with gaps between them."""
    clean = foam()
    noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2.0)
    data = (clean + 45 * noise / noise.std()).round().clip(0, 255).astype(np.uint8)
    if kind == "float steps":
        data = data.astype(np.float32) / 255
    elif kind == "stretched":
        data = data.astype(np.uint16) * 257
    report = measure(data, keep_labels=False)
    usual = measure(clean + 45 * noise / noise.std(), keep_labels=False)
    share = usual.noise.possible.share
    assert report.noise.possible.share == pytest.approx(share, rel=0.25)


def test_smooth_noise_on_top_of_fine_noise_is_told(rng) -> None:
    """Only the fine noise is measured."""
    clean = foam() + 5 * rng.standard_normal(SHAPE)
    smooth = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2.0)
    data = clean + 45 * smooth / smooth.std()
    report = measure(data.astype(np.float32), keep_labels=False)
    assert report.noise.noise.relative < 0.1
    wrong = np.mean((data <= report.threshold) != (clean <= report.threshold))
    assert wrong > 0.05
    assert report.noise.possible.share == pytest.approx(wrong, rel=0.3)
    certain, possible = about_noise(report.warnings)
    assert "are expected to be on the wrong side" in certain
    assert "more noise than was measured" in possible
    assert measure(clean.astype(np.float32)).noise.possible is None


def test_padding_hides_no_noise(rng):
    data = foam() + 60 * rng.standard_normal(SHAPE)
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    data[:, np.hypot(y - 31.5, x - 31.5) > 29] = 0
    report = measure(data.astype(np.float32).clip(0))
    assert about_noise(report.warnings)
    assert report.noise.misclassified is not None


def test_what_cannot_be_measured_is_none():
    data = np.full((12, 12, 12), np.nan, np.float32)
    data[::3, ::3, ::3] = 100 + np.arange(64).reshape(4, 4, 4)
    report = measure(data)
    assert report.noise is None
    assert report.to_json_dict()["noise"] is None
    assert any("its noise cannot be measured" in text for text in report.warnings)


def test_what_is_not_expected_is_not_hidden(monkeypatch):
    def broken(*_: object, **__: object):
        yield Step()
        raise VolumeError("Something else.")

    monkeypatch.setattr(noise_check, "noise_steps", broken)
    with pytest.raises(VolumeError, match="Something else"):
        measure(foam())


def test_only_a_sample_is_read(rng):
    class Counted:
        """An array that counts the voxels that were read."""

        def __init__(self, data: np.ndarray) -> None:
            self.data, self.read = data, 0
            self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim

        def __getitem__(self, key):
            part = self.data[key]
            self.read += part.size
            return part

    small = 100 + 20 * rng.standard_normal((60, 160, 160))
    data = np.tile(small, (2, 2, 2)).astype(np.float32)
    histogram = run_to_end(histogram_steps(data, thickness=8))
    counted = Counted(data)
    threshold = PorosityConfig().phase, 100.0
    steps = noise_check_steps(
        Volume(counted, "ZYX"), histogram, threshold[1], threshold[0], warnings=[]
    )
    check = run_to_end(steps)
    assert check.noise.level == pytest.approx(20, rel=0.1)
    assert counted.read < 0.5 * data.size
