"""The measurement as a whole: figures, table, masks, errors, cancelling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure, scan
from scipy import ndimage
from skimage.measure import regionprops_table

from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.steps import BlockDone, Step, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure import blocks
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.porosity import porosity_steps

RADII = (9, 10, 12)
CENTRES = ((16, 16, 16), (16, 45, 20), (45, 45, 45))


@pytest.fixture(scope="module")
def spheres() -> np.ndarray:
    return sum(
        ellipsoid((64,) * 3, c, r) for c, r in zip(CENTRES, RADII, strict=True)
    ).astype(bool)


def foam(seed: int, shape=(30, 34, 38)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), 1.3)
    return (smooth / smooth.std()).astype(np.float32)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64]
)
def test_spheres_with_the_defaults(spheres, dtype) -> None:
    data = scan(spheres).astype(dtype)
    report = measure(data, voxel_size=(2, 2, 2), unit="µm", origin=(1, 2, 3))
    assert report.porosity == pytest.approx(spheres.mean(), abs=1e-12)
    assert report.pore_count == 3
    assert report.pores_per_mm3 == pytest.approx(3 / (128e-3) ** 3)
    assert report.closed_porosity == report.porosity
    expected = [ellipsoid((64,) * 3, c, r).sum() * 8 for c, r in zip(CENTRES, RADII)]  # noqa: B905
    np.testing.assert_allclose(sorted(report.table["volume"]), expected)
    i = int(np.argmax(report.table["volume"]))
    centroid = [report.table[f"centroid_{a}"][i] for a in "zyx"]
    np.testing.assert_allclose(centroid, (91, 92, 93))
    assert report.labels[45, 45, 45] == report.table["label"][i]
    for radius, area in zip(RADII, sorted(report.table["surface_area"]), strict=True):
        assert area == pytest.approx(4 * math.pi * (2 * radius) ** 2, rel=0.02)
    assert (report.table["sphericity"] > 0.97).all()
    # Values above 1, where the surface is underestimated, are not clipped.
    surface = report.table["surface_area"]
    expected = np.pi ** (1 / 3) * (6 * report.table["volume"]) ** (2 / 3) / surface
    np.testing.assert_allclose(report.table["sphericity"], expected)
    assert report.table["sphericity"].max() > 1
    assert (report.table["elongation"] > 0.99).all()


@pytest.mark.parametrize("phase", ["dark", "bright"])
def test_bright_pores(spheres, phase) -> None:
    pore, solid = (60, 180) if phase == "dark" else (180, 60)
    report = measure(scan(spheres, pore, solid), phase=phase)
    assert report.porosity == spheres.mean()
    assert report.unit == "pixel"
    assert report.pores_per_mm3 is None


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("seed", range(3))
def test_table_equals_regionprops(seed: int, connectivity: int) -> None:
    size, origin = (2.0, 0.5, 0.25), (10.0, -3.0, 7.0)
    report = measure(
        foam(seed), threshold=-1.0, connectivity=connectivity, min_voxels=1,
        voxel_size=size, unit="mm", origin=origin,
    )  # fmt: skip
    structure = ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3)
    expected, n = ndimage.label(foam(seed) <= -1.0, structure)
    np.testing.assert_array_equal(report.labels, expected)
    names = ("label", "area", "centroid", "bbox", "inertia_tensor_eigvals")
    props = regionprops_table(expected, spacing=size, properties=names)
    table = report.table
    assert report.pore_count == n > 20
    np.testing.assert_array_equal(table["label"], props["label"])
    np.testing.assert_allclose(table["volume"], props["area"], rtol=1e-12)
    voxels = regionprops_table(expected, properties=("area", "bbox"))
    np.testing.assert_array_equal(table["voxels"], voxels["area"])
    for i, axis in enumerate("zyx"):
        centroid = props[f"centroid-{i}"] + origin[i]
        np.testing.assert_allclose(table[f"centroid_{axis}"], centroid, rtol=1e-10)
        np.testing.assert_array_equal(table[f"bbox_start_{axis}"], voxels[f"bbox-{i}"])
        np.testing.assert_array_equal(
            table[f"bbox_end_{axis}"], voxels[f"bbox-{i + 3}"]
        )


def test_axis_ratios_are_those_of_the_covariance(rng: np.random.Generator) -> None:
    body = ellipsoid((50, 50, 50), (24, 25, 26), (20, 10, 5))
    report = measure(scan(body))
    assert report.table["elongation"][0] == pytest.approx(0.5, abs=0.01)
    assert report.table["flatness"][0] == pytest.approx(0.5, abs=0.02)
    points = np.argwhere(body).astype(float)
    lengths = np.sqrt(np.linalg.eigvalsh(np.cov(points.T, ddof=0) + np.eye(3) / 12))
    assert report.table["elongation"][0] == pytest.approx(lengths[1] / lengths[2])


def test_small_pores_are_in_the_porosity_but_not_counted(spheres) -> None:
    pores = spheres.copy()
    pores[60, 2, 2:5] = True
    report = measure(scan(pores), min_voxels=4)
    assert report.pore_count == 3
    assert report.small_pore_count == 1
    assert report.small_pore_voxels == 3
    assert report.porosity == pores.mean()
    assert report.counted_porosity == spheres.mean()
    assert report.labels[60, 2, 3] == 0
    assert set(np.unique(report.labels)) == {0, 1, 2, 3}
    assert len(report.table["label"]) == 3


def test_the_longest_edge_decides_whether_a_surface_is_reliable() -> None:
    pores = ellipsoid((31, 31, 31), (15, 15, 15), 6)
    assert measure(scan(pores), voxel_size=(1, 1, 1)).table["surface_reliable"].all()
    # The same number of voxels, but a radius of two planes along Z.
    flat = ellipsoid((11, 61, 61), (15, 30, 30), 6.2, (3, 1, 1))
    report = measure(scan(flat), voxel_size=(3, 1, 1))
    assert report.table["voxels"] > 4 / 3 * np.pi * 4**3
    assert not report.table["surface_reliable"].any()


def test_open_and_closed_pores() -> None:
    shell = ellipsoid((40,) * 3, (20,) * 3, 16) & ~ellipsoid((40,) * 3, (20,) * 3, 10)
    inner, outer = (
        ellipsoid((40,) * 3, (20,) * 3, 10),
        ~(shell | ellipsoid((40,) * 3, (20,) * 3, 10)),
    )
    report = measure(scan(~shell))
    assert report.closed_porosity == pytest.approx(inner.mean())
    assert report.open_porosity == pytest.approx(outer.mean())
    assert report.table["touches_border"].tolist() == [True, False]


def test_automatic_sample_mask_leaves_out_the_air() -> None:
    body = ellipsoid((48,) * 3, (24,) * 3, 20)
    pore = ellipsoid((48,) * 3, (24,) * 3, 6)
    report = measure(scan(~body | pore), sample_mask="auto")
    assert report.sample_voxels == pytest.approx(body.sum(), rel=0.02)
    assert report.pore_count == 1
    assert report.closed_porosity == pytest.approx(pore.sum() / report.sample_voxels)


def test_given_mask(spheres) -> None:
    mask = np.zeros(spheres.shape, np.int16)
    mask[:32] = 7
    report = measure(scan(spheres), mask=mask)
    assert report.sample_voxels == mask.size // 2
    assert report.porosity == pytest.approx(spheres[:32].mean())
    with pytest.raises(VolumeError, match="mask"):
        measure(scan(spheres), mask=mask[1:])
    with pytest.raises(VolumeError, match="empty"):
        measure(scan(spheres), mask=np.zeros_like(mask))


def test_pore_at_the_sample_mask_is_open(spheres) -> None:
    mask = np.ones(spheres.shape, bool)
    mask[:, :, :16] = False
    report = measure(scan(spheres), mask=mask)
    # The spheres around x = 16 and x = 20 are cut by the mask, the one around x = 45 is
    # not.
    assert sorted(report.table["touches_border"].tolist()) == [False, True, True]
    area = report.table["surface_area"][report.table["touches_border"]].min()
    assert area == pytest.approx(2 * math.pi * 81, rel=0.05)


def test_nan_is_neither_pore_nor_sample(spheres) -> None:
    data = scan(spheres).astype(np.float32)
    data[50:, :10] = np.nan
    data[0, 0, 0] = np.inf
    report = measure(data)
    left_out = ~np.isfinite(data)
    assert report.nonfinite_voxels == left_out.sum()
    assert report.sample_voxels == data.size - left_out.sum()
    assert report.porosity == spheres[~left_out].mean()


@pytest.mark.parametrize(
    ("value", "threshold", "match"),
    [
        (np.nan, "otsu", "no finite value"),
        (np.nan, 3.0, "no finite value"),
        (5.0, "otsu", "only one grey value \\(5\\)"),
    ],
)
def test_hopeless_volumes_are_refused_after_one_look(value, threshold, match) -> None:
    steps = porosity_steps(
        Volume(np.full((8, 32, 32), value, np.float32), "ZYX", name="pores.tif"),
        PorosityConfig(threshold=threshold),
    )
    seen = []
    with pytest.raises(VolumeError, match=match):
        seen.extend(steps)
    assert not any("Labelling" in getattr(step, "message", "") for step in seen)


def test_other_refusals() -> None:
    with pytest.raises(VolumeError, match="complex"):
        measure(np.zeros((4, 4, 4), complex))
    with pytest.raises(VolumeError, match="empty"):
        measure(np.zeros((0, 4, 4)))
    with pytest.raises(VolumeError, match="time points. Choose one"):
        measure(np.zeros((2, 4, 4, 4)), "TZYX")
    with pytest.raises(VolumeError, match="uint32"):
        measure(foam(0), labels_target=np.zeros(foam(0).shape, np.uint8))
    with pytest.raises(ConfigError):
        PorosityConfig.create(threshold=float("nan"))
    with pytest.raises(ConfigError):
        PorosityConfig.create(connectivity=18)


def test_no_pores() -> None:
    report = measure(foam(1), threshold=-1e6, voxel_size=(1, 1, 1), unit="µm")
    assert report.porosity == 0
    assert report.pore_count == 0
    assert report.labels.max() == 0
    assert report.to_json_dict()["mean_volume"] is None


@pytest.mark.parametrize("axes", ["YX", "ZYX"])
def test_image(axes: str) -> None:
    y, x = np.indices((50, 60))
    disc = (y - 25) ** 2 + (x - 30) ** 2 <= 15**2
    data = scan(disc)
    report = measure(
        data if axes == "YX" else data[None], axes,
        voxel_size=(0.01,) * len(axes), unit="mm",
    )  # fmt: skip
    assert report.pores_per_mm3 is None
    assert report.pores_per_mm2 == pytest.approx(1 / 0.3)
    assert report.table["area"][0] == pytest.approx(disc.sum() * 1e-4)
    assert report.perimeter == pytest.approx(2 * math.pi * 0.15, rel=0.03)
    assert not report.table["touches_border"][0]
    assert report.labels.shape == (data.shape if axes == "YX" else (1, *data.shape))
    assert report.euler_number == 1
    assert "centroid_z" not in report.table
    said = " ".join(report.warnings)
    assert ("only one slice" in said) == (axes == "ZYX"), said


def test_progress_and_cancelling(monkeypatch) -> None:
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 5 * 34 * 38)
    volume = Volume(foam(2), "ZYX")
    steps: list[Step] = []
    report = run_to_end(porosity_steps(volume), steps.append)
    counted = [(s.done, s.total) for s in steps if isinstance(s, BlockDone)]
    assert counted == [(i, 18) for i in range(1, 19)]
    assert report.pore_count > 0
    for stop_after in (0, 3, 8, 14):
        n = 0

        def should_stop(limit: int = stop_after) -> bool:
            nonlocal n
            n += 1
            return n > limit

        with pytest.raises(Cancelled):
            list(porosity_steps(volume, should_stop=should_stop))


def test_uncertainty_brackets_the_porosity(rng: np.random.Generator) -> None:
    noisy = scan(foam(4) < -1).astype(float) + rng.normal(0, 25, foam(4).shape)
    report = measure(noisy)
    assert report.porosity_low < report.porosity < report.porosity_high
    assert measure(scan(foam(4) < -1)).porosity_uncertainty == 0
