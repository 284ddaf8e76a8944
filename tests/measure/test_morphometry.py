"""Morphometry: closed forms, and invariance of every registered statistic."""

from __future__ import annotations

import csv
import math
import pickle
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure, scan, torus

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import run_to_end
from napari_geosr.measure import blocks, phases
from napari_geosr.measure.local_thickness import blocks as thickness_blocks
from napari_geosr.measure.local_thickness import spheres as thickness
from napari_geosr.measure.morphometry import (
    MORPHOMETRY,
    anisotropy,
    network,
    partial_volume,
    structure_model,
)
from napari_geosr.measure.phases import changes, cubic
from napari_geosr.measure.phases.findings import Morphometry
from napari_geosr.measure.reports import export
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.slabs.thickness import block_thickness_steps

#: Four plates of 10 out of 24 planes; the border is in the middle of a gap.
PLATES = ((np.arange(96) - 7) % 24 < 10)[:, None, None] & np.ones((96, 48, 48), bool)


def measured(pores: np.ndarray, *names: str, **more) -> PorosityReport:
    """Measure pores in a solid; both phases are known exactly."""
    axes = "ZYX"[-pores.ndim :]
    more = {"voxel_size": (1.0,) * pores.ndim, "unit": "µm", "threshold": 120.0} | more
    return measure(scan(pores), axes, statistics=names, **more)


def field(shape: tuple[int, ...], widths: float | tuple[float, ...]) -> np.ndarray:
    """A Gaussian random field of unit variance, smoothed by `widths` voxels."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(3).normal(size=shape)
    smooth = gaussian_filter(noise, widths, mode="wrap")
    return smooth / smooth.std()


@pytest.fixture(scope="module")
def foam() -> np.ndarray:
    """Pores of many sizes and directions, some cut by the border."""
    return field((26, 30, 34), (2, 2.5, 3)) < -0.7


@pytest.mark.parametrize(
    ("start", "thickness", "distance"),
    [(7, 10, 14.25), (19, 10.25, 14), (17, 10.65, 14), (0, 12.75, 17.75)],
)
def test_a_wall_along_a_face_counts_with_up_to_twice_its_thickness(
    start: int, thickness: float, distance: float
) -> None:
    """The values in docs/evidence/morphometry.md."""
    planes = (np.arange(96) - start) % 24 < 10
    solid = planes[:, None, None] & np.ones((96, 40, 40), bool)
    values = measured(~solid, "thickness").figures
    assert values["Tb.Th"] == pytest.approx(thickness, abs=0.02)
    assert values["Tb.Sp"] == pytest.approx(distance, abs=0.02)


def test_plates() -> None:
    values = measured(~PLATES, "thickness", "trabecular", "two_point").figures
    assert values["Tb.Th"] == pytest.approx(10, rel=0.02)
    assert values["Tb.Sp"] == pytest.approx(14, rel=0.02)
    assert values["Po.Dm"] == values["Tb.Sp"]
    assert values["BV/TV"] == pytest.approx(10 / 24)
    assert values["Tb.N(Th+Sp)"] == pytest.approx(1 / 24, rel=0.02)
    assert values["Tb.N"] == pytest.approx(1 / 24, rel=0.03)
    # Chords have ends along one of three axes only.
    assert values["Chord.solid"] == pytest.approx(3 * 10, rel=0.02)
    assert values["Chord.pore"] == pytest.approx(3 * 14, rel=0.02)
    assert values["Chord.pore.SD"] is None


def _solid_of(kind: str, diameter: float, seed: int) -> np.ndarray:
    """A sphere, rod or plate at a random position and in a random direction."""
    rng = np.random.default_rng(seed)
    edge = int(diameter) + 14 if kind == "sphere" else 3 * int(diameter) + 20
    centre = edge / 2 + rng.uniform(-0.5, 0.5, 3)
    points = np.indices((edge,) * 3).reshape(3, -1).T - centre
    axis = rng.normal(size=3)
    along = points @ (axis / np.linalg.norm(axis))
    squares = (points**2).sum(1)
    far = {"sphere": squares, "rod": squares - along**2, "plate": along**2}[kind]
    return (far <= (diameter / 2) ** 2).reshape((edge,) * 3)


@pytest.mark.parametrize("kind", ["sphere", "rod", "plate"])
@pytest.mark.parametrize("diameter", [8, 12, 24])
def test_shapes_are_as_thick_as_they_are(kind: str, diameter: int) -> None:
    """Far from the border, at random positions and in random directions."""
    found = []
    for seed in range(5):
        solid = _solid_of(kind, diameter, seed)
        inner = slice(None) if kind == "sphere" else slice(diameter + 2, -diameter - 2)
        values = thickness.local_thickness(solid)[inner, inner, inner]
        found.append(values[values > 0].mean() / diameter)
    assert np.mean(found) == pytest.approx(1, abs=0.02)
    assert np.std(found) < 0.025


@pytest.mark.parametrize(
    ("diameter", "of_rod", "of_torus"), [(8, -0.080, -0.083), (12, -0.033, -0.077)]
)
def test_repeated_patterns_of_voxels_are_measured_as_documented(
    diameter: int, of_rod: float, of_torus: float
) -> None:
    """A rod along Z and a torus in the plane of Y and X, centred on a voxel."""
    radius, edge = diameter / 2, 4 * diameter + 9
    z, y, x = np.indices((diameter + 7, edge, edge))
    z, y, x = z - (diameter + 6) // 2, y - edge // 2, x - edge // 2
    rod = np.hypot(y, x) <= radius
    torus = np.hypot(np.hypot(y, x) - 3 * radius, z) <= radius
    rod = np.repeat(rod[:1], 60, axis=0)
    for solid, expected in ((rod, of_rod), (torus, of_torus)):
        found = thickness.local_thickness(solid)[solid].mean()
        assert found / diameter - 1 == pytest.approx(expected, abs=0.012)


def test_no_radius_is_skipped() -> None:
    wedge = np.zeros((20, 40, 60), bool)
    widths = np.linspace(4, 30, 60)
    wedge[:] = np.abs(np.arange(40)[:, None] - 19.5) < widths / 2
    found = thickness.local_thickness(wedge)[10, 19]
    assert np.all(np.diff(found[5:-5]) >= -0.3)
    assert len(np.unique(found)) > 25


def test_thickness_does_not_change_the_mask_or_depend_on_blocks() -> None:
    pores = field((41, 30, 37), 2.5) < -0.3
    before, results = pores.copy(), []
    for edge in (200, 17, 9):
        target = np.zeros(pores.shape, np.uint16)
        steps = thickness.thickness_steps(pores, edge=edge, target=target)
        results.append((run_to_end(steps).mean, target))
    assert np.array_equal(pores, before)
    for mean, target in results[1:]:
        assert mean == results[0][0]
        assert np.array_equal(target, results[0][1])


def test_a_gap_at_the_border_continues_beyond_it() -> None:
    values = measured(~PLATES[:43], "thickness").figures
    # Gaps of 7, 14 and 2 planes; a gap cut by the border is measured as twice as wide.
    assert values["Tb.Sp"] == pytest.approx((7 * 14 + 14 * 14 + 2 * 4) / 23, rel=0.03)


def test_connectivity_of_a_ring_and_of_a_ring_with_a_cavity_and_a_speck() -> None:
    ring = torus(48, 15, 5)
    for bone in (ring, _with_cavity_and_speck(ring)):
        values = measured(~bone, "trabecular").figures
        assert values["Conn"] == 1
        assert values["Conn.D"] == pytest.approx(1 / 48**3)
    assert values["BV/TV"] == pytest.approx(bone.mean())


def _with_cavity_and_speck(ring: np.ndarray) -> np.ndarray:
    bone = ring.copy()
    assert bone[22:26, 37:40, 23:26].all()
    bone[23:25, 38, 24] = False
    bone[2:4, 2:4, 2:4] = True
    return bone


def test_connectivity_of_blocks_adds_up() -> None:
    bone = field((25, 25, 49), 2) > 0.1
    bone[:, :, 24] |= True  # one component on each side

    def loops(part: np.ndarray) -> float:
        return 1 - measured(~part, "trabecular").figures["Conn"]

    whole = loops(bone)
    from skimage.measure import label

    one, other = bone[:, :, :25], bone[:, :, 24:]
    if all(label(p, connectivity=3).max() == 1 for p in (bone, one, other)):
        assert whole == loops(one) + loops(other)
    solid = np.ones((6, 7, 9), bool)
    solid[3, 3, 1:8] = False  # a cavity, which is filled
    assert loops(solid) == 0


def test_anisotropy_as_ordered() -> None:
    def degree(pores: np.ndarray) -> PorosityReport:
        return measured(pores, "anisotropy")

    round_ = degree(field((64, 64, 64), 4) < 0).figures
    long = degree(field((64, 64, 64), (12, 4, 4)) < 0).figures
    plates = degree(~PLATES)
    assert round_["DA(1-c²/a²)"] < 0.3
    assert 0.8 < long["DA(1-c²/a²)"] < 0.9
    assert abs(long["MIL.z"]) > 0.98
    assert plates.figures["DA(1-c²/a²)"] == pytest.approx(1, abs=1e-6)
    assert any("MIL is infinite" in warning for warning in plates.warnings)
    assert any(
        "along which MIL is shortest, is (1.00, 0.00, 0.00)" in warning
        for warning in plates.warnings
    )
    a, c = long["MIL.a"], long["MIL.c"]
    assert long["DA(1-c/a)"] == pytest.approx(1 - c / a)
    assert long["DA(a/c)"] == pytest.approx(a / c)


def _stretched_field(axis: np.ndarray) -> np.ndarray:
    """A Gaussian random field of 3 voxels, stretched threefold along a direction."""
    waves = (
        2
        * math.pi
        * np.stack(np.meshgrid(*[np.fft.fftfreq(88)] * 3, indexing="ij"), axis=-1)
    )
    along = waves @ axis
    squares = (waves**2).sum(-1) + 8 * along**2
    noise = np.fft.fftn(np.random.default_rng(7).normal(size=(88,) * 3))
    return np.fft.ifftn(noise * np.exp(-(3**2) * squares / 2)).real


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 1), (1, 1, 1)])
def test_anisotropy_does_not_depend_on_the_direction(axis: tuple[int, ...]) -> None:
    """Compared with the triangles of the grey field, and with Rice's formula."""
    from skimage.measure import marching_cubes

    direction = np.array(axis) / math.sqrt(sum(axis))
    smooth = _stretched_field(direction)
    places, triangles, _, _ = marching_cubes(smooth, 0)
    first, *others = (places[triangles[:, k]] for k in range(3))
    areas = np.cross(*(other - first for other in others)) / 2
    vectors = anisotropy.directions(flat=False)
    rate = np.abs(vectors @ areas.T).sum(axis=1) / 87**3
    expected, _ = anisotropy.ellipsoid(vectors, rate, flat=False)
    found = measured(smooth < 0, "anisotropy").figures
    radii = [found[f"MIL.{name}"] for name in "abc"]
    assert radii == pytest.approx(expected, rel=0.07)
    share = (expected[2] / expected[0]) ** 2
    assert found["DA(1-c²/a²)"] == pytest.approx(1 - share, abs=0.025)
    assert found["DA(1-c²/a²)"] == pytest.approx(1 - 1 / 9, abs=0.045)
    main = np.array([found[f"MIL.{name}"] for name in "zyx"])
    assert abs(main @ direction) > 0.98


def test_anisotropy_of_long_ellipsoids_in_any_orientation() -> None:
    """Boolean models of ellipsoids twice as long as wide have a DA of 0.75."""
    points = np.indices((88,) * 3).reshape(3, -1).T - 43.5
    degrees = []
    for axis in ((0, 0, 1), (0, 1, 1), (1, 1, 1)):
        direction = np.array(axis) / math.sqrt(sum(axis))
        pores = np.zeros(len(points), bool)
        for centre in np.random.default_rng(3).uniform(-44, 44, (150, 3)):
            near = np.flatnonzero(np.abs(points - centre).max(axis=1) <= 10)
            offsets = points[near] - centre
            along = offsets @ direction
            pores[near] |= (offsets**2).sum(axis=1) - 0.75 * along**2 <= 25
        found = measured(pores.reshape((88,) * 3), "anisotropy").figures
        degrees.append(found["DA(1-c²/a²)"])
    assert degrees == pytest.approx([0.75] * 3, abs=0.03)
    assert max(degrees) - min(degrees) < 0.03


def test_intercepts_of_a_sphere_and_of_circles() -> None:
    ball = measured(ellipsoid((48,) * 3, (23.7, 23.4, 23.9), 10), "anisotropy")
    expected = 48**3 / (2 * math.pi * 10**2)
    for name in "abc":
        assert ball.figures[f"MIL.{name}"] == pytest.approx(expected, rel=0.025)
    rose = ball.morphometry["anisotropy"].curves["rose"]
    assert rose["MIL"] == pytest.approx([expected] * len(rose["MIL"]), rel=0.04)
    double = measured(
        ellipsoid((48,) * 3, (23.7, 23.4, 23.9), 10),
        "anisotropy",
        voxel_size=(2.0,) * 3,
    )
    stored = double.to_json_dict()["morphometry"]["anisotropy"]["curves"]["rose"]
    assert stored["unit"] == "µm"
    assert stored["MIL"] == pytest.approx(2 * np.array(rose["MIL"]))
    assert any("nearly isotropic" in warning for warning in ball.warnings)
    discs = np.zeros((1, 160, 160), bool)
    for y, x in np.ndindex(4, 4):
        centre = (0, 20 + 39.7 * y, 20.3 + 39.7 * x)
        discs |= ellipsoid(discs.shape, centre, 10)
    found = measured(discs[0], "anisotropy", voxel_size=(1.0, 1.0)).figures
    length = 16 * 2 * math.pi * 10
    assert found["MIL.a"] == pytest.approx(math.pi / 2 * 160**2 / length, rel=0.025)
    assert found["DA(1-c²/a²)"] < 0.03


def test_structure_model_of_balls_rods_and_plates() -> None:
    z, y, x = np.indices((56, 56, 56)) - 27.6
    slanted = np.hypot(y - 0.25 * z, x + 0.2 * z) <= 8  # an elliptic rod
    for bone, expected, tolerance in (
        (z**2 + y**2 + x**2 <= 12**2, 4, 0.03),
        (np.hypot(y, x) <= 8, 3, 0.03),
        (slanted, 3, 0.06),
        (np.abs(0.5 * z + 0.6 * y + 0.62 * x) <= 6, 0, 0.05),
    ):
        values = measured(~bone, "structure_model").figures
        assert values["SMI"] == pytest.approx(expected, abs=expected / 50 + tolerance)
        assert values["SMI.concave"] < (0.01 if expected else 0.1)
    # A spherical pore in bone: the surface is concave everywhere.
    hollow = measured(z**2 + y**2 + x**2 <= 12**2, "structure_model")
    assert hollow.figures["SMI"] < -4
    assert hollow.figures["SMI.concave"] > 0.99
    assert any("concave" in warning for warning in hollow.warnings)


def test_structure_model_does_not_depend_on_blocks(
    foam: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = ellipsoid(foam.shape, (13, 15, 17), (14, 14, 16)).astype(np.uint8)
    whole = measured(foam, "structure_model", mask=sample).figures["SMI"]
    monkeypatch.setattr(structure_model, "_BLOCK", 5)
    parts = measured(foam, "structure_model", mask=sample).figures["SMI"]
    assert parts == pytest.approx(whole, rel=1e-9)


def _row_of(report: PorosityReport, name: str) -> str:
    """The line of a value in the summary."""
    (line,) = (text for text in report.summary_lines() if text.startswith(name))
    return line


def test_sub_volumes_of_independent_voxels() -> None:
    pores = np.random.default_rng(5).random((48, 48, 48)) < 0.3
    found = measured(pores, "subvolumes")
    assert _row_of(found, "Sub.SD").endswith("percentage points")
    values = found.figures
    assert values["Sub.N"] == 64
    sd = math.sqrt(0.3 * 0.7 / 12**3)
    assert values["Sub.SD"] == pytest.approx(sd, rel=0.25)
    assert values["Sub.low"] < found.porosity < values["Sub.high"]
    width = values["Sub.high"] - values["Sub.low"]
    assert width == pytest.approx(2 * 1.96 * sd / 8, rel=0.25)
    # 1.96 √(0.21 ÷ edge³) ≤ 0.05 · 0.3 for at least 15.3 voxels.
    assert values["RVE"] in (16, 24)
    curve = found.morphometry["subvolumes"].curves["subvolumes"]
    expected = np.sqrt(0.21 / np.array(curve["distance"]) ** 3)
    assert np.array(curve["SD"]) == pytest.approx(expected, rel=0.35)


def test_the_interval_of_sub_volumes_holds_the_porosity() -> None:
    holds = 0
    for seed in range(40):
        cells = np.random.default_rng(seed).random((16, 16, 16)) < 0.3
        pores = np.kron(cells, np.ones((2, 2, 2), bool)).astype(bool)
        values = measured(pores, "subvolumes").figures
        holds += values["Sub.low"] <= 0.3 <= values["Sub.high"]
    assert holds >= 34  # 95 % of 40 draws, less three standard deviations


def test_specific_surface_of_a_random_field() -> None:
    cut = -0.5
    pores = field((80, 80, 80), 4) < cut
    found = measured(pores, "two_point")
    theory = 2 / math.pi / math.sqrt(2) / 4 * math.exp(-(cut**2) / 2)
    assert found.figures["S_v"] == pytest.approx(theory, rel=0.03)
    curve = found.morphometry["two_point"].curves["two_point"]
    assert curve["S2"][0] == pytest.approx(found.porosity)
    assert curve["lineal_path"][0] == pytest.approx(found.porosity)
    assert np.all(np.diff(curve["lineal_path"]) <= 0)


def test_straight_tubes_have_no_tortuosity() -> None:
    tubes = np.zeros((24, 30, 30), bool)
    tubes[:, 3:11, 4:14] = tubes[:, 18:26, 15:20] = True
    values = measured(tubes, "transport").figures
    assert values["τ.z"] == pytest.approx(1, abs=0.005)
    assert values["D_eff/D0.z"] == pytest.approx(tubes.mean(), rel=0.005)
    assert values["τ.y"] is None
    assert values["D_eff/D0.y"] == 0


def test_a_tube_in_series_with_a_narrower_one() -> None:
    space = np.zeros((40, 20, 20), bool)
    space[:20] = True
    space[20:, :, :10] = True
    # At least 1 ÷ (half of 1 + half of 2) for parallel slices; the bend increases it.
    found = measured(space, "transport").figures["D_eff/D0.z"]
    assert 0.6 < found < 1 / 1.5


def test_a_lacuna() -> None:
    pore = ellipsoid((64, 40, 24), (32, 20, 12), (16, 8, 4))
    found = measured(pore, "lacunae", "additive", voxel_size=(0.5,) * 3)
    values = found.figures
    assert values["Lc.V"] == pytest.approx(pore.sum() / 8)
    assert values["Lc.St"] == pytest.approx(1 - (4 / 16) ** 2, rel=0.01)
    assert values["Lc.Ob"] == pytest.approx(2 * (64 - 16) / (256 - 16) - 1, abs=0.02)
    assert values["Lc.Align"] is None
    assert values["√area.max"] == pytest.approx(
        0.5 * math.sqrt(math.pi * 128), rel=0.02
    )
    assert found.table["angle_to_z"] == pytest.approx([0], abs=1)
    axis = [found.table[f"axis_{name}"][0] for name in "zyx"]
    assert axis == pytest.approx([1, 0, 0], abs=0.02)
    assert found.units["sqrt_area"] == "µm"
    bone_mm3 = (64 * 40 * 24 - pore.sum()) * 0.5**3 * 1e-9
    stored = found.to_json_dict()["morphometry"]["lacunae"]["values"]["Lc.N/BV"]
    assert stored["value"] == pytest.approx(1 / bone_mm3)
    assert stored["unit"] == "1/mm³"


def test_a_canal_is_no_lacuna() -> None:
    """Two lacunae and a canal: the canal has most of the volume, and this is said."""
    lacunae = ellipsoid((40, 60, 40), (20, 15, 20), 5)
    lacunae |= ellipsoid((40, 60, 40), (20, 40, 28), 5)
    large = lacunae | ellipsoid((40, 60, 40), (20, 40, 10), 8)  # 4 times as large
    canal = lacunae.copy()
    canal[:, 40:60, :20] = True
    said = [
        [w for w in measured(p, "lacunae").warnings if "canal" in w]
        for p in (lacunae, large, canal)
    ]
    share = 100 * 16000 / canal.sum()
    assert said[:2] == [[], []]
    assert said[2][0].startswith(f"One pore makes up {share:.3g} % of the volume")


@pytest.mark.parametrize(
    ("unit", "size", "expected"),
    [("pixel", 1.0, "voxel"), ("pixel", 1.95, "unit"), ("µm", 1.95, "µm")],
)
def test_columns_of_statistics_have_the_unit_of_the_other_columns(
    unit: str, size: float, expected: str
) -> None:
    pores = ellipsoid((40, 60, 40), (20, 15, 20), 6)
    pores |= ellipsoid((40, 60, 40), (20, 40, 20), 6)
    found = measured(pores, "additive", voxel_size=(size,) * 3, unit=unit)
    names = ("equivalent_diameter", "depth", "nearest_neighbour", "sqrt_area")
    assert [found.units[name] for name in names] == [expected] * 4
    assert found.table["nearest_neighbour"] == pytest.approx([25 * size] * 2)
    stored = found.to_json_dict()["morphometry"]["additive"]["values"]["NND"]
    assert stored["value"] == pytest.approx(25 * size)
    assert stored["unit"] == expected


def test_depth_below_the_free_surface() -> None:
    rod = ellipsoid((60, 60, 60), (30, 30, 30), (1e9, 25, 25))
    pores = ellipsoid((60, 60, 60), (20, 30, 20), 4)
    pores |= ellipsoid((60, 60, 60), (40, 30, 30), 4)
    found = measured(pores, "additive", mask=rod.astype(np.uint8))
    assert found.table["depth"] == pytest.approx([15, 25], abs=0.6)
    assert found.figures["Depth.min"] == pytest.approx(15, abs=0.6)
    assert found.figures["NND"] == pytest.approx(math.hypot(20, 10), rel=0.01)
    assert measured(pores, "additive").figures["Depth.min"] is None


def test_a_ring_of_cortex() -> None:
    y, x = np.indices((80, 80)) - 39.5
    ring = (np.hypot(y, x) <= 36) & (np.hypot(y, x) > 24)
    bone = np.repeat(ring[None], 3, axis=0)
    bone[:, 38:42, 68:72] = False
    values = measured(~bone, "cortical").figures
    assert values["Tt.Ar"] == pytest.approx(math.pi * 36**2, rel=0.01)
    assert values["Ct.Ar"] == pytest.approx(math.pi * (36**2 - 24**2), rel=0.01)
    assert values["Ma.Ar"] == pytest.approx(math.pi * 24**2, rel=0.01)
    assert values["Ct.Th"] == pytest.approx(12, rel=0.03)
    assert values["Ct.Po"] == pytest.approx(16 / values["Ct.Ar"])
    assert values["Po.N"] == 1
    assert values["Ct.Po.Dm"] == pytest.approx(math.sqrt(64 / math.pi))


def test_a_lattice_of_pores() -> None:
    pores = np.zeros((66, 66, 66), bool)
    for centre in np.ndindex(3, 3, 3):
        pores |= ellipsoid((66,) * 3, [11 + 22 * c for c in centre], 12)
    values = measured(pores, "network").figures
    assert values["Net.Po.N"] == 27
    assert values["Net.Th.N"] == 54
    assert values["Coordination"] == 6
    assert values["Net.Po.Dm"] == pytest.approx(24, abs=0.4)
    # Two spheres of radius 12 at a distance of 22 meet in a circle.
    circle = 2 * math.sqrt(12**2 - 11**2)
    assert values["Net.Th.Dm"] == pytest.approx(circle, rel=0.15)


@pytest.mark.parametrize("diameter", [8, 12, 16, 24])
def test_the_pores_of_a_network_are_as_wide_as_they_are(diameter: int) -> None:
    """At random positions; in 2D, discs."""
    n, rng = diameter + 12, np.random.default_rng(diameter)
    places = n / 2 + rng.uniform(-0.5, 0.5, (5, 3))
    balls = [network.divide(ellipsoid((n,) * 3, c, diameter / 2))[1] for c in places]
    assert all(len(found) == 1 for found in balls)
    assert np.mean(balls) == pytest.approx(diameter, abs=0.25)
    discs = [
        network.divide(ellipsoid((1, n, n), (0, *c[1:]), diameter / 2)[0])[1]
        for c in places
    ]
    assert np.mean(discs) == pytest.approx(diameter, abs=0.4)


def test_the_network_is_a_table_that_openpnm_reads(tmp_path) -> None:
    pores = np.zeros((30, 44, 66), bool)
    for y, x in np.ndindex(2, 3):
        pores |= ellipsoid(pores.shape, (14, 11 + 22 * y, 11 + 22 * x), 12)
    found = measured(pores, "network", voxel_size=(2.0,) * 3, origin=(0.0, 10.0, 0.0))
    table = found.morphometry["network"].tables["network"]
    assert len(table["pore.volume"]) == 6
    assert len(table["throat.conns[0]"]) == 7
    pairs = np.stack([table["throat.conns[0]"], table["throat.conns[1]"]], axis=1)
    at = np.stack([table[f"pore.coords[{i}]"] for i in range(3)], axis=1)
    # Neighbours are 22 voxels (44 µm) apart along X or Y.
    apart = np.abs(np.diff(at[pairs], axis=1)[:, 0])
    assert np.sort(apart, axis=1)[:, 2] == pytest.approx(np.full(7, 44e-6), rel=0.05)
    assert table["throat.spacing"] == pytest.approx(np.full(7, 44e-6), rel=0.05)
    assert sorted(np.round(at[:, 1] * 1e6)) == [32, 32, 32, 76, 76, 76]  # origin too
    assert table["pore.volume"].sum() == pytest.approx(pores.sum() * 8e-18)
    assert table["pore.xmin"].sum() == table["pore.xmax"].sum() == 2
    assert table["pore.ymin"].sum() == 3
    path = export.write_columns(tmp_path / "network.csv", table)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 7
    assert rows[6]["pore.volume"] == ""
    assert {row["pore.xmin"] for row in rows[:6]} == {"True", "False"}  # labels there
    assert int(rows[6]["throat.conns[0]"]) < int(rows[6]["throat.conns[1]"]) < 6


def test_the_porosity_of_every_slice() -> None:
    """A linear gradient, columns of equal porosity, and random voxels."""
    pores = np.zeros((11, 40, 60), bool)
    for z in range(11):
        pores[z].reshape(-1)[: 240 * z] = True  # 10 % of the slice per plane
    found = measured(pores, "profile", voxel_size=(2.0,) * 3)
    assert found.figures["Prof.min"] == 0
    assert found.figures["Prof.max"] == 1
    assert found.figures["Prof.slope"] == pytest.approx(0.1 / 2)
    assert found.figures["Prof.SD"] == pytest.approx(np.std(np.arange(11) / 10, ddof=1))
    assert "33.2 percentage points" in _row_of(found, "Prof.SD")
    assert "100 %" in _row_of(found, "Prof.max")
    curve = found.to_json_dict()["morphometry"]["profile"]["curves"]["profile"]
    assert curve["porosity"] == pytest.approx(np.arange(11) / 10)
    assert curve["distance"] == pytest.approx(2.0 * np.arange(11))
    columns = np.zeros((6, 40, 40), bool)
    columns[:, ::4] = True
    even = measured(columns, "profile")
    assert even.figures["Prof.SD"] == pytest.approx(0, abs=1e-12)
    assert even.figures["Prof.slope"] == 0
    ball = ellipsoid((64, 64, 64), (31.5, 31.5, 31.5), 10)
    assert measured(ball, "profile").figures["Prof.slope"] == 0
    random = np.random.default_rng(1).random((200, 48, 48)) < 0.3
    table = measured(random, "profile").morphometry["profile"].curves["profile"]
    expected = math.sqrt(0.3 * 0.7 / 48**2)
    assert np.mean(table["standard_error"]) == pytest.approx(expected, rel=0.05)
    assert np.std(table["porosity"]) == pytest.approx(expected, rel=0.15)


#: Values that belong to an axis, under a rotation that exchanges Z and X.
EXCHANGED = {f"{name}.z": f"{name}.x" for name in ("τ", "D_eff/D0", "MIL")}
EXCHANGED |= {b: a for a, b in EXCHANGED.items()}


@pytest.mark.parametrize("name", MORPHOMETRY.names())
def test_rotated_by_a_right_angle(name: str, foam: np.ndarray) -> None:
    # Slices of the cortex remain slices.
    sliced = name in ("cortical", "profile")
    axes = (1, 2) if sliced else (0, 2)
    exchanged = {} if sliced else EXCHANGED
    one = measured(foam, name).morphometry[name]
    turned = np.rot90(foam, axes=axes)
    other = measured(np.ascontiguousarray(turned), name).morphometry[name]
    tolerance = {
        "anisotropy": 0.05,
        "thickness": 0.01,
        "network": 1e-12,
        "trabecular": 0.05,
    }.get(name, 1e-2)
    assert any(value is not None for value in one.values.values())
    for key, value in one.values.items():
        found = other.values[exchanged.get(key, key)]
        if value and found and key.startswith("MIL.") and key[-1] in "zyx":
            value, found = abs(value), abs(found)
        if value is None or found is None:
            assert value is found
            continue
        assert found == pytest.approx(value, rel=tolerance, abs=0.08 * ("MIL" in key))


@pytest.mark.parametrize("name", MORPHOMETRY.names())
def test_lengths_grow_with_the_voxel_size(name: str, foam: np.ndarray) -> None:
    one = measured(foam, name)
    other = measured(foam, name, voxel_size=(2.0,) * 3)
    for quantity in one.morphometry[name].quantities:
        value, found = (r.figures[quantity.name] for r in (one, other))
        if value is None:
            assert found is None
        else:
            assert found == pytest.approx(value * 2**quantity.power, rel=1e-9)


@pytest.mark.parametrize("name", MORPHOMETRY.names())
def test_streamed_is_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (26, 30, 34)
    sample = ellipsoid(shape, (13, 15, 17), (14, 14, 16)).astype(np.uint8)
    for mask in (None, sample):
        whole = _of_grey(name, mask)
        assert mask is not None or any(v is not None for v in whole.values.values())
        with monkeypatch.context() as patch:
            _cut(patch, shape)
            parts = _of_grey(name, mask)
        assert parts.values == whole.values
        assert parts.histograms == whole.histograms
        np.testing.assert_equal(parts.curves, whole.curves)  # NaN equals NaN
        for key, table in whole.tables.items():
            for column, values in table.items():
                np.testing.assert_array_equal(parts.tables[key][column], values)


def _cut(patch: pytest.MonkeyPatch, shape: tuple[int, int, int]) -> None:
    """Measure in slabs of 7 planes and blocks of 13³ voxels."""
    for module in (phases, blocks):
        patch.setattr(module, "SLAB_VOXELS", 7 * shape[1] * shape[2])
    for module in (anisotropy, partial_volume):
        patch.setattr(module, "_BLOCK", 13)
    patch.setattr(thickness, "BLOCK_VOXELS", 13**3)
    patch.setattr(thickness, "FIRST_MARGIN", 3)


def _of_grey(name: str, mask: np.ndarray | None = None) -> Morphometry:
    """Measure grey values that change gradually from pores to solid."""
    grey = (120 + 40 * (field((26, 30, 34), (2, 2.5, 3)) + 0.7)).astype(np.float32)
    options = {"voxel_size": (1.0,) * 3, "unit": "µm", "threshold": 120.0}
    found = measure(grey, "ZYX", statistics=(name,), mask=mask, **options)
    return found.morphometry[name]


def test_slabs_without_a_halo_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _of_grey("partial_volume")
    _cut(monkeypatch, (26, 30, 34))
    monkeypatch.setattr(partial_volume, "_HALO", 0)
    assert _of_grey("partial_volume").values != whole.values


@pytest.mark.parametrize(("wide", "is_coarse"), [(3, True), (4, False)])
def test_narrow_throats_are_told(wide: int, is_coarse: bool) -> None:
    """Pores of 8 voxels, connected along Z by channels of some voxels."""
    pores = np.zeros((24, 16, 16), bool)
    pores[:, 4 : 4 + wide, 5 : 5 + wide] = True
    for z in (0, 16):
        pores[z : z + 8, 4:12, 4:12] = True
    found = measured(pores, "transport")
    assert found.figures["τ.z"] > 1
    said = [w for w in found.warnings if w.startswith("τ.z may be inaccurate")]
    assert len(said) == is_coarse


def test_rows_are_interpolated_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """On voxels that are not cubic, with the same result and less memory."""
    mask = field((9, 90, 60), 2.0) > 0.3
    size = (2.5, 1.2, 1.0)
    shape = cubic.cubic_shape(mask.shape, size)
    places = tuple(
        cubic.places_of(a, b) for a, b in zip(shape, mask.shape, strict=True)
    )
    results = []
    for n in (2**22, 2**14):
        monkeypatch.setattr(cubic, "_STRIP_VOXELS", n)
        tracemalloc.start()
        results.append(
            (cubic.interpolated(mask, places, size), tracemalloc.get_traced_memory()[1])
        )
        tracemalloc.stop()
    (whole, most), (strips, peak) = results
    assert np.array_equal(strips, whole)
    assert peak < 80 * 2 * 2**14 + whole.size < most


@pytest.mark.parametrize("name", MORPHOMETRY.names())
@pytest.mark.parametrize("kind", ["no pores", "only pores", "one pore", "image"])
def test_odd_volumes_have_no_nan_and_say_why(name: str, kind: str) -> None:
    pores = np.zeros((12, 14, 16), bool)
    if kind == "only pores":
        pores[:] = True
    elif kind != "no pores":
        pores[4:7, 5:8, 6:9] = True
    found = measured(pores[5] if kind == "image" else pores, name)
    values = found.morphometry[name].values
    for value in values.values():
        assert value is None or math.isfinite(value)
    if any(value is None for value in values.values()) and kind != "image":
        assert found.morphometry[name].remarks
    found.to_json_dict()


@pytest.mark.parametrize("name", MORPHOMETRY.names())
def test_every_statistic_is_cited_and_documented(name: str) -> None:
    module = MORPHOMETRY.load(name)
    assert module.SOURCES
    assert module.CONVENTION.endswith(".")
    assert re.search("[=÷√]", module.CONVENTION), "no formula"
    assert module.ABOUT.endswith(".")
    page = Path(__file__).parents[2] / "docs" / "morphometry.md"
    text = page.read_text(encoding="utf-8")
    assert f"`{name}`" in text
    for quantity in module.QUANTITIES:
        assert quantity.name in text, quantity.name


def test_coarse_voxels_are_told() -> None:
    pores = np.ones((30, 30, 30), bool)
    pores[4::10] = pores[5::10] = False
    found = measured(pores, "thickness")
    assert any(
        w.startswith("Tb.Th is only 2.0 voxels, so its value is unreliable")
        for w in found.warnings
    )


def test_structures_too_large_for_the_volume_are_told() -> None:
    """A single ball: the spheres around it extend beyond the volume."""
    ball = ellipsoid((48, 64, 64), (24, 32, 32), 8)
    said = " ".join(measured(ball, "thickness", "anisotropy").warnings)
    for name in ("Tb.Th", "MIL.a"):
        assert re.search(rf"{re.escape(name)} \(\d+ voxels\) is unreliable", said)
    assert "the shortest edge of the sample is 48 voxels" in said
    assert "Tb.Sp" not in said
    wide = measured(~PLATES, "thickness").warnings
    assert not any("shortest edge" in warning for warning in wide)


def test_two_point_statistics_read_few_planes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Distances along Z can be much larger than a slab."""
    monkeypatch.setattr(phases, "SLAB_VOXELS", 4 * 48**2)
    planes, sizes = phases.Phases.planes, []

    def counted(self, mask, slab: slice) -> np.ndarray:
        sizes.append(slab.stop - slab.start)
        return planes(self, mask, slab)

    monkeypatch.setattr(phases.Phases, "planes", counted)
    chord = measured(~PLATES, "two_point").figures["Chord.solid"]
    assert chord == pytest.approx(3 * 10, rel=0.02)
    assert max(sizes) <= 4 + changes.REACH


def test_voxels_that_are_not_cubic_are_divided() -> None:
    found = measured(~PLATES[::2], "thickness", voxel_size=(2.0, 1.0, 1.0))
    assert found.figures["Tb.Th"] == pytest.approx(10, rel=0.02)
    assert any("not cubic" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("size", "is_cubic"),
    [((1.953, 1.9531, 1.953), True), ((1.02, 1.0, 1.0), False)],
)
def test_edges_of_voxels_decide_whether_they_are_cubic(
    foam: np.ndarray, size: tuple[float, ...], is_cubic: bool
) -> None:
    """The number of cubic voxels along each axis is that of the scan in both cases."""
    pores = foam[:20]
    found = measured(pores, "trabecular", voxel_size=size)
    assert any("not cubic" in warning for warning in found.warnings) is not is_cubic
    tolerance = 1e-3 if is_cubic else 1e-9
    volume = pores.size * math.prod(size)
    assert found.figures["TV"] == pytest.approx(volume, rel=tolerance)
    surface = found.figures["surface_area"]
    assert found.figures["BS"] == pytest.approx(surface, rel=tolerance)


def test_rounded_voxel_sizes_leave_large_volumes_as_they_are() -> None:
    pores = np.broadcast_to(np.arange(4) < 2, (1, 600, 4))
    one = phases.phases_of(
        lambda slab: phases.PhasePlanes(pores[slab]),
        *([slice(0, 1)], pores.shape, (1.0, 1.0009, 1.0), "µm"),
    )
    assert one.original is None
    assert one.shape == pores.shape


def _balls(ratio: int) -> np.ndarray:
    """Eight spheres of 5 to 8.5 voxels, in slices that are `ratio` voxels thick."""
    z, y, x = np.ogrid[: 72 // ratio, :72, :72]
    pores = np.zeros((72 // ratio, 72, 72), bool)
    for i, (a, b, c) in enumerate(np.ndindex(2, 2, 2)):
        squares = ((z + 0.5) * ratio - 18.3 - 36 * a) ** 2
        squares = squares + (y - 17.6 - 36 * b) ** 2 + (x - 17.9 - 36 * c) ** 2
        pores |= squares <= (5 + i / 2) ** 2
    return pores


@pytest.mark.parametrize(("ratio", "tolerance"), [(2, 0.07), (4, 0.15)])
def test_spheres_in_voxels_that_are_not_cubic(ratio: int, tolerance: float) -> None:
    """Surfaces agree within a report and with the truth; diameters nearly do."""
    radii = 2 * (5 + np.arange(8) / 2)  # µm
    names = ("thickness", "trabecular", "two_point", "lacunae")
    size = (2.0 * ratio, 2.0, 2.0)
    found = measured(_balls(ratio), *names, voxel_size=size)
    values, surface = found.figures, 4 * math.pi * (radii**2).sum()
    assert values["BS"] == pytest.approx(values["surface_area"])
    assert values["BS"] == pytest.approx(surface, rel=0.03)
    assert values["S_v"] * 144**3 == pytest.approx(surface, rel=0.05)
    assert values["BV/TV"] == pytest.approx(1 - found.porosity)
    assert values["TV"] == pytest.approx(144**3)
    width = 2 * (radii**4).sum() / (radii**3).sum()
    assert values["Po.Dm"] == pytest.approx(width, rel=tolerance)
    assert values["Lc.St"] < 0.045 * ratio  # few slices per sphere
    note = next(w for w in found.warnings if "not cubic" in w)
    assert f"longest edge of a voxel ({20 * ratio} µm) appear too thin" in note


def test_permeability_of_voxels_that_are_not_cubic(foam: np.ndarray) -> None:
    """It uses the surface of the voxels of the scan."""
    found = measured(~foam, "transport", "two_point", voxel_size=(2.0, 1.0, 1.0))
    expected = found.porosity**3 / (5 * found.figures["S_v"] ** 2)
    assert found.figures["k(estimate)"] == pytest.approx(expected)


@pytest.mark.parametrize("size", [(3.0, 1.0, 1.0), (1.0, 2.0, 1.3), (2.0, 1.0, 1.5)])
def test_cubic_voxels_do_not_depend_on_slabs(size: tuple[float, ...]) -> None:
    pores = field((24, 17, 19), 1.5) < -0.3
    sample = ellipsoid(pores.shape, (12, 8, 9), (12, 8, 9))
    found = []
    for edge in (24, 8, 5, 1):
        slabs = [slice(z, min(z + edge, 24)) for z in range(0, 24, edge)]

        def read(slab: slice) -> phases.PhasePlanes:
            around, inside = pores[slab], sample[slab]
            missing = np.zeros_like(inside)
            return phases.PhasePlanes(around & inside, inside, around, missing)

        one = phases.phases_of(read, slabs, pores.shape, size, "µm")
        assert one.original is not None
        every = (slice(None),) * 3
        counts = one.original.changes
        sums = (*counts.changes.flat, *counts.pairs.flat, one.original.pores)
        found.append((one.pores[every], one.solid[every], sums))
    for part in found[1:]:
        assert np.array_equal(part[0], found[0][0])
        assert np.array_equal(part[1], found[0][1])
        assert part[2] == found[0][2]


def test_an_unknown_statistic_is_refused() -> None:
    with pytest.raises(ConfigError, match="no statistic 'density'"):
        measured(~PLATES, "density")


@pytest.mark.parametrize("to_centres", [False, True])
def test_thickness_of_blocks_in_other_processes_is_the_same(to_centres: bool) -> None:
    """Each block is sent the voxels it needs: more where pores are wide."""
    pores = field((61, 50, 67), 5.0) < -0.3
    pores[8:52, 8:46, 10:58] |= field((44, 38, 48), 12.0) < 0.6
    pores |= ellipsoid(pores.shape, (30, 25, 33), 20)
    sent: list[int] = []

    def share(work: Any, items: Any) -> Any:
        for item in items:
            work, item = pickle.loads(pickle.dumps((work, item)))
            sent.append(item[1].bits.nbytes)
            yield work(item, lambda: False, 0)

    alone, shared = (
        run_to_end(
            block_thickness_steps(
                pores,
                share=given,
                check=lambda: None,
                message="",
                to_centres=to_centres,
                edge=17,
            )
        )
        for given in (None, share)
    )
    assert np.array_equal(alone.counts, shared.counts)
    n_blocks = len(list(thickness_blocks.cut_blocks(pores.shape, 17)))
    assert len(sent) > 2 * n_blocks  # some required more
    solid = np.ones((30, 30, 30), bool)
    whole = block_thickness_steps(
        solid, share=share, check=lambda: None, message="", edge=10
    )
    assert run_to_end(whole).unbounded_voxels == 30**3


@pytest.mark.parametrize(("unit", "edge"), [("µm", 1.0), ("µm", 2.0), ("pixel", 1.0)])
def test_an_image_has_areas_and_perimeters(unit: str, edge: float) -> None:
    """A disc of 20 pixels in a square of 100, with the names used for images."""
    disc = ellipsoid((1, 100, 100), (0, 50, 50), 20)[0]
    names = ("trabecular", "lacunae", "two_point", "additive")
    found = measured(disc, *names, voxel_size=(edge, edge), unit=unit)
    pore, total = math.pi * 20**2 * edge**2, 1e4 * edge**2
    around, solid = 2 * math.pi * 20 * edge, total - math.pi * 20**2 * edge**2
    per_mm = 1.0 if unit == "pixel" else 1e6
    expected = {
        "T.Ar": (total, f"{unit}²"),
        "B.Ar": (solid, f"{unit}²"),
        "B.Ar/T.Ar": (solid / total, ""),
        "B.Pm": (around, unit),
        "B.Pm/B.Ar": (around / solid, f"1/{unit}"),
        "B.Pm/T.Ar": (around / total, f"1/{unit}"),
        "Lc.N/B.Ar": (per_mm / solid, "1/pixel²" if unit == "pixel" else "1/mm²"),
        "Lc.Ar": (pore, f"{unit}²"),
        "Lc.T.Ar/B.Ar": (pore / solid, ""),
        "L_A": (around / total, f"1/{unit}"),
    }
    values = {}
    for one in found.to_json_dict()["morphometry"].values():
        values |= one["values"]
    for name, (value, unit_of_value) in expected.items():
        assert values[name]["value"] == pytest.approx(value, rel=0.04), name
        assert values[name]["unit"] == unit_of_value, name
    said = " ".join(one["title"] for one in values.values())
    assert not any(word in said for word in ("volume", "surface", "sphericity"))
    assert "Lc.Ar" in " ".join(found.summary_lines())
