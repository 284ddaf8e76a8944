"""Morphometry of a part of a volume: sample masks, and voxels that are NaN."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import test_morphometry
from pore_shapes import ellipsoid, measure
from scipy import ndimage

from napari_geosr.core.steps import run_to_end
from napari_geosr.measure import phases
from napari_geosr.measure.morphometry import transport
from napari_geosr.measure.phases import PhasePlanes, Phases, phases_of
from napari_geosr.measure.phases.gaps import GapFiller
from napari_geosr.measure.phases.shared import purified_steps
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.slabs.thickness import block_thickness_steps

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

#: The measured part of the volumes.
PART = (slice(12, 60), slice(10, 58), slice(14, 62))
NAMES = ("thickness", "trabecular", "network")


def measured(grey: np.ndarray, *names: str, **more: Any) -> PorosityReport:
    settings = {"voxel_size": (1.0,) * 3, "unit": "µm", "threshold": 120.0} | more
    return measure(grey, statistics=names, **settings)


def random_solid(edge: int, width: float = 3.0, seed: int = 0) -> np.ndarray:
    """Solid in 30 % of the volume, dark pores in the rest."""
    noise = np.random.default_rng(seed).standard_normal((edge,) * 3)
    smooth = ndimage.gaussian_filter(noise, width, mode="wrap")
    return np.where(smooth < np.quantile(smooth, 0.7), 60, 180).astype(np.float32)


def phases_in(pores: np.ndarray, sample: np.ndarray | None) -> Phases:
    """Both phases of a volume, or of a part of it."""

    def read(slab: slice) -> PhasePlanes:
        if sample is None:
            return PhasePlanes(pores[slab])
        around, inside = pores[slab], sample[slab]
        return PhasePlanes(around & inside, inside, around, np.zeros_like(around))

    shape = pores.shape
    return phases_of(read, [slice(0, shape[0])], shape, (1.0,) * 3, "pixel")


@pytest.fixture(scope="module")
def solid() -> np.ndarray:
    return random_solid(72)


@pytest.fixture(scope="module")
def cropped(solid: np.ndarray) -> PorosityReport:
    return measured(solid[PART].copy(), *NAMES)


@pytest.mark.parametrize(
    ("around", "tolerance"), [("nan", 0.015), ("air", 0.15), ("more", 0.18)]
)
def test_a_masked_part_is_like_a_cropped_volume(
    solid: np.ndarray, cropped: PorosityReport, around: str, tolerance: float
) -> None:
    """The rest is unknown, air, or more of the material.

    Spheres extend beyond the border; the tolerance is for what limits them there.
    """
    inside = np.zeros(solid.shape, np.uint8)
    inside[PART] = 1
    grey = solid.copy()
    if around != "more":
        grey[inside == 0] = np.nan if around == "nan" else 60
    mask = None if around == "nan" else inside
    values, expected = measured(grey, *NAMES, mask=mask).figures, cropped.figures
    assert values["BV/TV"] == expected["BV/TV"]
    assert values["BS/BV"] == pytest.approx(expected["BS/BV"])
    assert values["Conn.D"] == pytest.approx(expected["Conn.D"], abs=1e-12)
    for name in ("Tb.N", "Tb.Th", "Tb.Sp"):
        assert values[name] == pytest.approx(expected[name], rel=tolerance), name
    # There are about 40 pores, and the surface is located differently at the border.
    for name in ("Net.Po.N", "Coordination"):
        assert values[name] == pytest.approx(expected[name], rel=max(tolerance, 0.1))


def test_connectivity_of_cylinders_is_that_of_the_whole_volume() -> None:
    """Averaged over volumes; without a correction, it would be a third too low."""
    y, x = np.indices((64, 64)) - 31.5
    inside = np.broadcast_to(np.hypot(y, x) < 24, (64, 64, 64))
    density = []
    for seed in range(6):
        pores = random_solid(64, 2.0, seed) < 120
        for sample in (inside, None):
            steps = purified_steps(phases_in(pores, sample))
            found = run_to_end(steps)
            loops = 1 - (found.euler_number - found.shared_euler)
            n_voxels = pores.size if sample is None else np.count_nonzero(sample)
            density.append(loops / n_voxels)
    masked, whole = np.reshape(density, (-1, 2)).mean(axis=0)
    assert masked == pytest.approx(whole, rel=0.07)


def test_thickness_in_other_processes_stays_in_the_mask(solid: np.ndarray) -> None:
    phase = solid < 120
    within = phase & ellipsoid(phase.shape, (36, 36, 36), 20)

    def share(work: Any, items: Any) -> Any:
        for item in items:
            yield work(item, lambda: False, 0)

    counts = []
    for given in (None, share):
        steps = block_thickness_steps(
            phase,
            within=within,
            share=given,
            check=lambda: None,
            message="",
            edge=30,
        )
        counts.append(run_to_end(steps).counts)
    assert np.array_equal(*counts)
    assert counts[0].sum() == np.count_nonzero(within)


def test_a_wall_in_air_is_as_thick_as_it_is() -> None:
    """Air outside the mask ends the wall; solid outside the mask continues it."""
    grey = np.full((40, 60, 60), 60, np.float32)
    grey[10:18] = 180
    mask = np.zeros(grey.shape, np.uint8)
    mask[10:30] = 1
    assert measured(grey, "thickness", mask=mask).figures["Tb.Th"] == pytest.approx(8)
    mask[:14] = 0
    cut = measured(grey, "thickness", mask=mask).figures["Tb.Th"]
    assert cut == pytest.approx(8, abs=1.1)  # half of the wall is in the sample


def test_coordination_excludes_pores_at_the_sample_border(solid: np.ndarray) -> None:
    y, x = np.indices((72, 72)) - 35.5
    inside = np.broadcast_to(np.hypot(y, x) < 22, (72, 72, 72)).astype(np.uint8)
    report = measured(solid, "network", mask=inside)
    table = report.morphometry["network"].tables["network"]
    at_border = table["pore.sample_border"] | table["pore.zmin"] | table["pore.zmax"]
    # Pores whose centres are near the border touch it.
    z, y, x = (table[f"pore.coords[{i}]"] * 1e6 for i in (2, 1, 0))
    wide = table["pore.inscribed_diameter"] * 1e6
    far = np.hypot(y - 35.5, x - 35.5) + wide / 2 < 22
    assert at_border[~far].all()
    assert 0 < np.count_nonzero(table["pore.sample_border"]) < len(z)
    ends = np.concatenate([table[f"throat.conns[{i}]"] for i in range(2)])
    degree = np.bincount(ends, minlength=len(z))
    expected = degree[~at_border].mean()
    assert report.figures["Coordination"] == pytest.approx(expected)


def test_isolated_nan_voxels_are_filled(solid: np.ndarray) -> None:
    """Dead pixels in one of 1,000 voxels, a dead column and a missing slice."""
    part = solid[PART].copy()
    grey = part.copy()
    rng = np.random.default_rng(1)
    grey[rng.random(grey.shape) < 0.001] = np.inf
    grey[:, 20, 30] = np.nan
    grey[24] = np.nan
    names = ("thickness", "trabecular", "network", "transport")
    report, whole = measured(grey, *names), measured(part, *names)
    for name in ("Tb.Th", "Tb.Sp", "Tb.N", "Net.Po.N", "Conn", "τ.z", "τ.x"):
        value = report.figures[name]
        assert value == pytest.approx(whole.figures[name], rel=0.03), name
    n = np.count_nonzero(~np.isfinite(grey))
    remark = f"For morphometry, {n:,} NaN or infinite voxels in gaps narrower than 3"
    assert any(w.startswith(remark) for w in report.warnings)
    assert not any("enclosed cavit" in w for w in report.warnings)
    assert report.porosity == pytest.approx(np.mean(grey[np.isfinite(grey)] < 120))


@pytest.mark.parametrize("flat", [False, True])
def test_only_narrow_gaps_are_filled(flat: bool) -> None:
    """Compared with the definition, by other means, for slabs of any thickness."""
    rng = np.random.default_rng(2)
    shape = (1, 90, 80) if flat else (24, 40, 36)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), 1.2)
    missing = noise > np.quantile(noise, 0.85)
    missing[:, :4] = True  # the border of the field of view
    pores = rng.random(shape) < 0.4
    cube = np.ones((1, 3, 3) if flat else (3, 3, 3), bool)
    margin = [(0, 0) if flat else (4, 4), (4, 4), (4, 4)]
    padded = np.pad(missing, margin, constant_values=True)
    wide = ndimage.binary_opening(padded, cube)
    wide = wide[
        tuple(slice(a, n - b) for (a, b), n in zip(margin, wide.shape, strict=True))
    ]
    left = missing & ndimage.binary_dilation(wide & missing, cube, 2)
    weights = cube.astype(float)
    known = ndimage.convolve((~missing).astype(float), weights, mode="constant")
    counts = ndimage.convolve((pores & ~missing) * 1.0, weights, mode="constant")
    filled = np.where(missing, 2 * counts > known + 1e-9, pores)
    assert left.any()
    assert (missing & ~left).any()
    for step in (1, 5, 24):
        filler = GapFiller(shape, flat=flat)
        slabs = [slice(z, min(z + step, shape[0])) for z in range(0, shape[0], step)]
        for slab in slabs:
            filler.add(slab.start, pores[slab] & ~missing[slab], None, missing[slab])
        found = [filler.planes(slab) for slab in slabs]
        assert np.array_equal(np.concatenate([p.missing for p in found]), left)
        assert np.array_equal(np.concatenate([p.sample for p in found]), ~left)
        expected = filled & ~left
        assert np.array_equal(np.concatenate([p.pores for p in found]), expected)
        filler.planes(slabs[0])  # reading planes again does not count twice
        assert filler.n_filled == np.count_nonzero(missing & ~left)


def test_nan_voxels_are_no_free_surface() -> None:
    """Neither a dead voxel nor the end of the field of view gives depths."""
    grey = np.full((40, 60, 60), 180, np.float32)
    grey[ellipsoid(grey.shape, (20, 20, 30), 4)] = 60
    grey[ellipsoid(grey.shape, (20, 40, 30), 4)] = 60
    grey[30, 10, 10] = np.nan
    assert measured(grey, "additive").figures["Depth.min"] is None
    field = ellipsoid(grey.shape, (20, 30, 30), (1e9, 26, 26))
    grey[~field] = np.nan
    report = measured(grey, "additive")
    assert report.figures["Depth.min"] is None
    assert any("ends only at NaN voxels" in w for w in report.warnings)
    mask = np.ones(grey.shape, np.uint8)
    mask[:6] = 0  # air above the part, within the field of view
    grey[:6][np.isfinite(grey[:6])] = 60
    report = measured(grey, "additive", mask=mask)
    assert report.table["depth"] == pytest.approx([14.5, 14.5])


def test_packed_masks_of_a_whole_volume_are_not_kept() -> None:
    """A mask of ones gives the same as no mask, also in the remarks."""
    grey = random_solid(32, 2.0)
    ones = measured(grey, "transport", mask=np.ones(grey.shape, np.uint8))
    plain = measured(grey, "transport")
    assert ones.figures["τ.x"] == plain.figures["τ.x"]
    assert ones.morphometry["transport"].remarks == (
        plain.morphometry["transport"].remarks
    )


def test_too_many_pore_voxels_for_transport(monkeypatch: Any) -> None:
    monkeypatch.setattr(transport.diffusion, "MOST_VOXELS", 1000)
    report = measured(random_solid(24, 2.0), "transport")
    assert report.figures["τ.x"] is None
    assert any("more than the limit of 1,000" in w for w in report.warnings)


def test_spread_of_volumes_and_representative_size() -> None:
    grey = np.full((24, 24, 48), 180, np.float32)
    for x, radius in ((10, 3), (24, 4), (38, 5)):
        grey[ellipsoid(grey.shape, (12, 12, x), radius)] = 60
    report = measured(grey, "lacunae")
    sizes = report.table["volume"]
    assert report.figures["Lc.V.SD"] == pytest.approx(np.std(sizes, ddof=1))
    grey[:] = 180
    report = measured(grey, "subvolumes")
    assert report.figures["RVE"] is None
    assert any("the sample contains only solid" in w for w in report.warnings)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_sample_that_is_small_compared_with_the_structure_is_told() -> None:
    """Values as large as the sample are unreliable, as in the cropped volume."""
    solid = random_solid(48)
    mask = np.zeros(solid.shape, bool)
    mask[14:34, 14:34, 14:34] = True
    names = ("thickness", "anisotropy", "two_point")
    report = measured(solid, *names, mask=mask)
    said = " ".join(report.warnings)
    for name in ("Tb.Sp (Po.Dm)", "MIL.a"):
        assert re.search(rf"{re.escape(name)} \(\d+ voxels\) is unreliable", said), name
    assert "the shortest edge of the sample is 20 voxels" in said
    curves = report.to_json_dict()["morphometry"]["two_point"]["curves"]["two_point"]
    assert curves["S2_z"][0] == pytest.approx(report.porosity)


def test_a_representative_size_from_few_sub_volumes_is_uncertain() -> None:
    """The eight octants of a symmetric volume are equal."""
    grey = np.full((32, 32, 32), 180, np.float32)
    grey[ellipsoid(grey.shape, (15.5,) * 3, 8)] = 60
    report = measured(grey, "subvolumes")
    assert report.figures["RVE"] == 16
    assert any("only 8 sub-volumes have this size" in w for w in report.warnings)
    grey = np.tile(np.where(ellipsoid((8,) * 3, (3.5,) * 3, 3), 60, 180), (6, 6, 6))
    report = measured(grey.astype(np.float32), "subvolumes")
    assert report.figures["RVE"] <= 16
    assert not any("sub-volumes have this size" in w for w in report.warnings)


def test_sub_volumes_of_a_box_are_those_of_the_cropped_box() -> None:
    rng = np.random.default_rng(4)
    smooth = ndimage.gaussian_filter(rng.standard_normal((64, 64, 64)), 2)
    grey = np.where(smooth > np.quantile(smooth, 0.2), 180, 60).astype(np.uint8)
    box = (slice(9, 53), slice(11, 55), slice(10, 54))
    mask = np.zeros(grey.shape, np.uint8)
    mask[box] = 1
    report = measured(grey, "subvolumes", mask=mask)
    cropped = measured(grey[box], "subvolumes")
    for name in ("Sub.N", "Sub.SD", "Sub.low", "Sub.high", "RVE"):
        assert report.figures[name] == cropped.figures[name]
    assert report.figures["Sub.N"] == 64


def test_interval_that_leaves_out_a_porous_rim_is_reported() -> None:
    z, y, x = np.indices((64, 64, 64)) - 31.5
    radius = np.sqrt(z**2 + y**2 + x**2)
    noise = np.random.default_rng(0).random(radius.shape)
    grey = np.where(noise > np.where(radius > 21, 0.5, 0.05), 180, 60).astype(np.uint8)
    ball = (radius < 26).astype(np.uint8)
    report = measured(grey, "subvolumes", mask=ball)
    assert any("do not apply to the whole sample" in w for w in report.warnings)
    even = np.where(noise > 0.2, 180, 60).astype(np.uint8)
    report = measured(even, "subvolumes", mask=ball)
    assert not any("do not apply" in w for w in report.warnings)


def test_permeability_of_a_sample_that_ends_inside_the_volume_has_no_value() -> None:
    """Its pores connect its ends, but not the faces of the volume."""
    solid = random_solid(40, 2.0)
    alone = np.zeros(solid.shape, np.uint8)
    alone[5:35, 6:34, 4:36] = 1
    alone[5:8, 6:9, 4:7] = 0  # not a box
    report = measured(solid, "transport", mask=alone)
    assert report.figures["k(estimate)"] is None
    assert report.figures["D_eff/D0.z"] is None
    assert any("k(estimate) cannot be determined" in w for w in report.warnings)
    assert not any("no pores connect" in w for w in report.warnings)
    missing = np.where(alone, solid, np.nan)
    assert measured(missing, "transport").figures["k(estimate)"] is None


def test_only_the_axis_of_a_full_height_cylinder_has_a_tortuosity() -> None:
    solid = random_solid(40, 2.0)
    y, x = np.indices((40, 40)) - 19.5
    cylinder = np.broadcast_to(np.hypot(y, x) < 17, solid.shape).astype(np.uint8)
    report = measured(solid, "transport", mask=cylinder)
    assert report.figures["τ.z"] > 1
    assert report.figures["k(estimate)"] > 0
    assert report.figures["τ.y"] is None
    said = "cannot be determined along Y and X: the sample"
    assert any(said in w for w in report.warnings)
    assert not any("no pores connect" in w for w in report.warnings)
    closed = solid.copy()
    closed[20] = 180  # a solid plane: the sample reaches the faces, its pores do not
    report = measured(closed, "transport")
    assert report.figures["D_eff/D0.z"] == 0


def test_sub_volumes_of_a_flat_sample_are_nearly_cubic() -> None:
    noise = np.random.default_rng(6).random((16, 128, 128))
    grey = np.where(noise < 0.3, 60, 180).astype(np.float32)
    report = measured(grey, "subvolumes")
    assert report.figures["Sub.N"] == 7 * 7  # of 16 × 18.3 × 18.3 voxels
    curves = report.morphometry["subvolumes"].curves["subvolumes"]
    assert max(curves["distance"]) == pytest.approx((16 + 2 * 128 / 7) / 3)
    expected = (0.3 * 0.7 / (grey.size / 49)) ** 0.5
    assert report.figures["Sub.SD"] == pytest.approx(expected, rel=0.25)
    report = measured(grey[:10, :20, :40], "subvolumes")
    assert report.figures["Sub.N"] == 8
    # Student's distribution for 7 degrees of freedom, because there are few parts.
    half = (report.figures["Sub.high"] - report.figures["Sub.low"]) / 2
    assert half > 1.1 * 1.96 * report.figures["Sub.SD"] / 8**0.5 * (7 / 8) ** 0.5


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_sample_too_narrow_for_sub_volumes_is_told() -> None:
    grey = random_solid(24)
    mask = np.zeros(grey.shape, bool)
    mask[4:7, 4:7, 4:7] = True
    for report in (
        measured(grey, "subvolumes", mask=mask, threshold=120.0),
        measured(grey[:3], "subvolumes"),
    ):
        assert report.figures["Sub.SD"] is report.figures["Sub.N"] is None
        assert any("There are no sub-volumes" in w for w in report.warnings)


def test_statistics_that_exceed_the_memory_budget_are_left_out(
    monkeypatch: Any,
) -> None:
    solid = np.full((128, 128, 128), 180, np.uint8)
    solid[:, :, ::2] = 60
    report = measured(solid, "network", "transport", memory="100MB", min_voxels=1)
    assert report.figures["Net.Po.N"] is report.figures["τ.z"] is None
    for what in ("The pore network was", "The tortuosity factor was"):
        (said,) = (w for w in report.warnings if w.startswith(what))
        assert "MB of memory" in said
        assert said.endswith("or increase the memory budget (--memory).")
    ball = np.where(ellipsoid((24,) * 3, (12,) * 3, 10), 180, 60).astype(np.float32)
    ball[11:14, 11:14, 11:14] = 60
    more = {"sample_mask": "auto", "mask_closing": 2}
    assert measured(ball, "additive", **more).figures["Depth.min"] > 8
    monkeypatch.setattr(phases, "free_host_memory", lambda: 10**5)
    report = measured(ball, "additive", **more)
    assert report.figures["Depth.min"] is None
    (said,) = (w for w in report.warnings if w.startswith("The depth of the pores"))
    assert said.endswith("kB of memory. Measure a part of the volume.")


def test_the_lineal_path_of_pores_alone_is_one() -> None:
    """Lines that leave the sample, which is not convex, do not count."""
    pores = np.ones((12, 24, 24), bool)
    mask = np.ones(pores.shape, np.uint8)
    mask[:, 8:14, 6:10] = 0
    found = test_morphometry.measured(pores, "two_point", mask=mask).morphometry[
        "two_point"
    ]
    (curve,) = found.curves.values()
    assert curve["lineal_path"] == pytest.approx(np.ones(len(curve["distance"])))


def test_diffusion_in_a_box_within_the_volume(rng: np.random.Generator) -> None:
    grey = np.full((24, 20, 20), 180, np.uint8)
    grey[:, 6:12, 6:12] = 60  # a straight tube
    box = np.zeros(grey.shape, np.uint8)
    box[4:20, 3:17, 2:18] = 1
    report = measured(grey, "transport", mask=box)
    assert report.figures["τ.z"] == pytest.approx(1, abs=0.005)
    assert not any("Crop the volume" in w for w in report.warnings)


def test_no_bone_has_no_trabecular_number() -> None:
    grey = np.full((24, 24, 24), 60, np.uint8)
    grey[:, :, 20:] = 180  # outside the sample
    empty = np.ones(grey.shape, np.uint8)
    empty[:, :, 20:] = 0
    report = measured(grey, "trabecular", mask=empty)
    assert report.figures["BV/TV"] == 0
    assert report.figures["Tb.N"] is None
    assert "There is no bone (solid) in the sample." in report.warnings
