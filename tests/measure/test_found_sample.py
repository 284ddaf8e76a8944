"""The blurred surface of a sample is not counted as pores."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from pore_shapes import measure
from scipy import ndimage

from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure import blocks
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.operations.measure.automatic_sample import automatic_sample_steps
from napari_geosr.operations.measure.grey_levels import histogram_steps

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SHAPE = (64, 72, 72)
#: Grey values of air and solid.
AIR, SOLID = 60.0, 180.0


def blurred(parts: np.ndarray) -> np.ndarray:
    """A scan with a blur of 1 voxel and a noise of 3 %."""
    noise = np.random.default_rng(1).normal(0, 4, parts.shape)
    scan = ndimage.gaussian_filter(parts, 1.0, mode="nearest") + noise
    return np.clip(scan, 0, 255).astype(np.uint8)


def spheres(
    shape: Sequence[int], radius: float, edge: float
) -> tuple[np.ndarray, np.ndarray]:
    """A cylinder, and spheres in it that are at least `edge` below its surface."""
    z, y, x = np.indices(shape, dtype=np.float32)
    middle = (shape[1] - 1) / 2
    cylinder = (np.hypot(y - middle, x - middle) <= 30) & (z >= 6) & (z < 58)
    pores = np.zeros(shape, bool)
    for height in (18.3, 31.9, 45.2):
        for angle in np.arange(5) * 2 * np.pi / 5 + height:
            distance = 30 - edge - radius
            centre = (
                height,
                middle + distance * np.sin(angle),
                middle + distance * np.cos(angle),
            )
            away = [g - c for g, c in zip((z, y, x), centre, strict=True)]
            pores |= sum(a**2 for a in away) <= radius**2
    return cylinder, pores & cylinder


@pytest.fixture(scope="module")
def metal() -> tuple[np.ndarray, float]:
    """A dense cylinder in air with 15 pores, and its porosity."""
    cylinder, pores = spheres(SHAPE, 4.0, 6.0)
    parts = np.where(cylinder & ~pores, SOLID, AIR)
    return blurred(parts), pores.sum() / cylinder.sum()


def test_surface_of_a_dense_sample_is_not_pore(metal) -> None:
    scan, truth = metal
    report = measure(scan, sample_mask="auto", statistics=("partial_volume",))
    assert report.porosity == pytest.approx(truth, rel=0.2)
    assert report.open_porosity < 0.02 * truth
    assert report.pore_count == 15
    assert report.threshold == measure(scan).threshold
    assert report.figures["φ(grey)"] == pytest.approx(truth, rel=0.05)
    low, high = report.figures["porosity_low"], report.figures["porosity_high"]
    assert 0.8 * report.porosity < low < report.porosity < high < 1.2 * report.porosity


@pytest.mark.parametrize(
    "settings",
    [{"threshold": 120.0}, {"local_window": 61}, {"hysteresis": 0.5}],
    ids=lambda settings: next(iter(settings)),
)
def test_limits_and_local_thresholds_leave_the_surface_out(metal, settings) -> None:
    scan, truth = metal
    report = measure(scan, sample_mask="auto", **settings)
    assert report.porosity == pytest.approx(truth, rel=0.25)
    assert report.open_porosity < 0.05 * truth
    assert report.figures["porosity_high"] < 1.2 * report.porosity


def test_result_does_not_depend_on_slabs(metal, monkeypatch) -> None:
    scan, _ = metal
    whole = measure(scan, sample_mask="auto")
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 7 * 72 * 72)
    slabs = measure(scan, sample_mask="auto")
    np.testing.assert_array_equal(slabs.sample_mask, whole.sample_mask)
    for name in ("porosity", "porosity_low", "porosity_high", "threshold"):
        assert slabs.figures[name] == whole.figures[name]


def test_dense_sample_without_pores_has_none() -> None:
    cylinder, _ = spheres(SHAPE, 4.0, 6.0)
    report = measure(blurred(np.where(cylinder, SOLID, AIR)), sample_mask="auto")
    assert report.porosity < 1e-4


@pytest.mark.parametrize("level", [50.0, 110.0])
def test_pores_with_a_grey_value_of_their_own(level: float) -> None:
    """Pores filled with resin, in a sample in air."""
    cylinder, pores = spheres(SHAPE, 4.5, 3.0)
    parts = np.where(cylinder, SOLID, 0.0)
    parts[pores] = level
    report = measure(blurred(parts), sample_mask="auto")
    middle = (level + SOLID) / 2
    assert report.threshold == pytest.approx(middle, abs=0.2 * (SOLID - level))
    expected = pores.sum() / report.sample_voxels
    assert report.porosity == pytest.approx(expected, rel=0.25)
    assert report.open_porosity < 0.2 * report.porosity
    assert report.threshold_scope == "inner"
    # The mask keeps the blurred surface, or the report states how much is missing.
    share = report.sample_voxels / cylinder.sum()
    text = " ".join(report.warnings)
    if level < 100:
        assert share == pytest.approx(1, abs=0.01)
        assert "leaves out" not in text
    else:
        lost = re.search(r"sample, which is (\d+) % of its volume", text)
        assert lost is not None
        assert float(lost[1]) == pytest.approx(100 * (1 - share), abs=1)


def test_pores_that_touch_the_surface_are_kept() -> None:
    """The surface beside pores filled with resin stays solid, and the pores open."""
    cylinder, pores = spheres(SHAPE, 4.5, 0.0)
    parts = np.where(cylinder, SOLID, 0.0)
    parts[pores] = 50
    report = measure(blurred(parts), sample_mask="auto")
    expected = pores.sum() / cylinder.sum()
    assert report.porosity == pytest.approx(expected, rel=0.15)
    assert report.open_porosity > 0.9 * report.porosity
    assert report.sample_voxels == pytest.approx(cylinder.sum(), rel=0.02)


def test_surface_stays_solid_in_the_preview_and_by_workers() -> None:
    cylinder, pores = spheres(SHAPE, 4.5, 3.0)
    parts = np.where(cylinder, SOLID, 0.0)
    parts[pores] = 50
    scan = blurred(parts)
    report = measure(scan, sample_mask="auto", statistics=("partial_volume",))
    assert report.figures["φ(grey)"] == pytest.approx(report.porosity, rel=0.1)
    config, volume = PorosityConfig(sample_mask="auto"), Volume(scan, "ZYX")
    levels = run_to_end(histogram_steps(volume))
    found = run_to_end(automatic_sample_steps(volume, levels, config))
    is_pore = found.mask & (scan <= found.levels.threshold(config))
    assert is_pore.sum() == pytest.approx(report.porosity * report.sample_voxels)


def test_pores_too_small_for_a_threshold_are_reported() -> None:
    cylinder, pores = spheres(SHAPE, 3.5, 3.0)
    parts = np.where(cylinder, SOLID, 0.0)
    parts[pores] = 110
    report = measure(blurred(parts), sample_mask="auto")
    (text,) = (w for w in report.warnings if "reliable threshold" in w)
    assert "too small, too rare or too low in contrast" in text
    other = re.search(r"alone give ([\d.]+), and a porosity of about (\S+) %", text)
    assert other is not None
    threshold, percent = map(float, other.groups())
    by_hand = measure(blurred(parts), sample_mask="auto", threshold=threshold)
    assert by_hand.porosity == pytest.approx(percent / 100, rel=0.2)
    assert by_hand.porosity > 2 * report.porosity
    metal = measure(blurred(np.where(cylinder, SOLID, 0.0)), sample_mask="auto")
    assert not any("reliable threshold" in w for w in metal.warnings)


@pytest.mark.parametrize("blur", [1.0, 3.0])
def test_no_pores_are_not_reported_as_too_small(blur: float) -> None:
    """Remainders of the blur lie beyond the threshold found inside."""
    cylinder, _ = spheres(SHAPE, 3.5, 3.0)
    scan = ndimage.gaussian_filter(cylinder.astype(np.float32), blur)
    report = measure(scan, sample_mask="auto")
    assert report.porosity == 0
    assert not any("reliable threshold" in w for w in report.warnings)


@pytest.fixture(scope="module")
def bone() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A tube with canals in its wall and struts inside; its cortex and marrow."""
    shape = (24, 96, 96)
    _, y, x = np.indices(shape) - np.array([0, 47.5, 47.5])[:, None, None, None]
    radius = np.hypot(y, x)
    cortex = (radius <= 40) & (radius > 26)
    canals = np.zeros(shape, bool)
    for angle in np.arange(16) * np.pi / 8:
        canals |= np.hypot(y - 33 * np.sin(angle), x - 33 * np.cos(angle)) <= 2.3
    struts = (radius <= 26) & ((abs(y) <= 2) | (abs(x) <= 2))
    solid = (cortex & ~canals) | struts
    return blurred(np.where(solid, SOLID, AIR)), cortex, solid, radius <= 26


def test_cortex_ends_at_the_threshold(bone) -> None:
    scan, cortex, solid, _ = bone
    report = measure(scan, sample_mask="cortex", statistics=("cortical",))
    truth = 1 - solid[cortex].mean()
    assert report.porosity == pytest.approx(truth, rel=0.3)
    assert report.pore_count == 16
    assert report.figures["Ct.Th"] == pytest.approx(14, rel=0.05)
    assert report.sample_voxels == pytest.approx(cortex.sum(), rel=0.02)


def test_marrow_ends_at_the_threshold(bone) -> None:
    scan, _, solid, marrow = bone
    report = measure(scan, sample_mask="marrow")
    assert report.porosity == pytest.approx(1 - solid[marrow].mean(), rel=0.05)


@pytest.mark.parametrize("which", ["auto", "cortex", "marrow"])
def test_preview_has_the_sample_and_threshold_of_the_measurement(bone, which) -> None:
    volume = Volume(bone[0], "ZYX", name="bone")
    config = PorosityConfig(sample_mask=which)
    levels = run_to_end(histogram_steps(volume))
    found = run_to_end(automatic_sample_steps(volume, levels, config))
    report = measure(bone[0], sample_mask=which)
    assert found.levels.threshold(config) == report.threshold
    np.testing.assert_array_equal(found.mask, report.sample_mask)
    by_hand = config.model_copy(update={"threshold": 77.0})
    assert found.levels.threshold(by_hand) == 77.0
