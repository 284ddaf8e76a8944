"""Remarks of statistics on volumes that do not fit their assumptions."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure
from test_morphometry import field, measured

from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.morphometry import MORPHOMETRY, trabecular
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.reports.rows import summary_rows


def _remarks(pores: np.ndarray, name: str, word: str, **more) -> list[str]:
    found = measured(pores, name, **more).morphometry[name].remarks
    return [remark for remark in found if word in remark]


def test_pores_that_do_not_percolate_have_no_permeability() -> None:
    cube = np.zeros((40, 40, 40), bool)
    cube[16:23, 16:23, 16:23] = True
    found = measured(cube, "transport").morphometry["transport"]
    assert [found.values[f"D_eff/D0.{axis}"] for axis in "zyx"] == [0, 0, 0]
    assert found.values["k(estimate)"] == 0
    assert any(
        r.startswith("k(estimate) is 0: no pores connect") for r in found.remarks
    )


def test_a_permeability_along_one_axis_only_is_told() -> None:
    tubes = np.zeros((24, 30, 30), bool)
    tubes[:, 3:11, 4:14] = True
    found = measured(tubes, "transport").morphometry["transport"]
    assert found.values["k(estimate)"] > 0
    (remark,) = (r for r in found.remarks if r.startswith("k(estimate)"))
    assert "the permeability along Y and X is 0" in remark
    tubes[10:14] = tubes[:, 10:14] = True
    assert not _remarks(tubes, "transport", "k(estimate)")


@pytest.mark.parametrize(
    ("edge", "expected"), [(1, "only 1 voxel:"), (2, "8 voxels or fewer:")]
)
def test_the_size_of_most_pores_is_told(edge: int, expected: str) -> None:
    pores = np.zeros((20, 20, 20), bool)
    for place in (4, 9, 14):
        pores[place : place + edge, 6 : 6 + edge, 6 : 6 + edge] = True
    (remark,) = _remarks(pores, "additive", "Half of the pores", min_voxels=1)
    assert expected in remark


@pytest.mark.parametrize(
    ("shape", "radii", "expected"),
    [
        ((40, 40, 40), 19, "make up 81.7 % of the bone volume"),
        ((40, 40, 40), (1e9, 6, 6), "1 pore reaches from one face"),
        ((40, 40, 40), 8, None),
    ],
)
def test_a_single_pore_may_be_no_lacuna(
    shape: tuple[int, ...], radii: float, expected: str | None
) -> None:
    pore = ellipsoid(shape, [n / 2 - 0.5 for n in shape], radii)
    for size in ((1.0, 1.0, 1.0), (2.0, 1.0, 1.0)):
        said = _remarks(pore, "lacunae", "canals", voxel_size=size)
        assert len(said) == (expected is not None)
        assert expected is None or re.search(expected, said[0])


def test_a_space_filling_pore_is_no_lacuna() -> None:
    pores = np.zeros((30, 30, 30), bool)
    pores[1:-1, 1:-1, 1:-1] = True
    assert _remarks(pores, "lacunae", "probably not lacunae")
    network = field((40, 40, 40), 3) < 0
    assert _remarks(network, "lacunae", "canal")


def test_the_advice_fits_the_sample_mask() -> None:
    """What was already done is not advised."""
    pore = ellipsoid((40, 40, 40), (20, 20, 20), (1e9, 6, 6))
    pore |= ellipsoid((40, 40, 40), (20, 32, 20), 3)
    inside = np.ones(pore.shape, np.uint8)
    (plain,) = _remarks(pore, "lacunae", "canals")
    assert plain.endswith("(--sample cortex).")
    (own,) = _remarks(pore, "lacunae", "canals", mask=inside)
    assert own.endswith("from your sample mask.")
    (cortex,) = _remarks(~_ring(), "lacunae", "canals", sample_mask="cortex")
    assert cortex.endswith("with a mask of your own (--mask).")


def _rods(directions: np.ndarray) -> np.ndarray:
    """Ellipsoids of revolution, twice as long as wide, in rows along X."""
    grid = np.indices((24, 24, 24)) - 11.5
    bodies = []
    for direction in directions:
        along = np.tensordot(direction, grid, 1)
        across = (grid**2).sum(axis=0) - along**2
        bodies.append((along / 10) ** 2 + across / 25 <= 1)
    return np.concatenate(bodies, axis=2)


def test_an_alignment_by_chance_is_told() -> None:
    rng = np.random.default_rng(3)
    random = rng.normal(size=(24, 3))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    found = measured(_rods(random), "lacunae")
    expected = np.linalg.eigvalsh(random.T @ random / 24)[-1]
    assert found.figures["Lc.Align"] == pytest.approx(expected, abs=0.01)
    (remark,) = _remarks(_rods(random), "lacunae", "Lc.Align")
    limit = 1 / 3 + 0.91 / np.sqrt(24)
    assert f"for 24 random axes, it is up to {limit:.2f}" in remark
    assert remark.endswith("mean longest axis (Lc.z, Lc.y, Lc.x) then means little.")
    parallel = np.tile([-0.6, 0.0, 0.8], (6, 1))
    found = measured(_rods(parallel), "lacunae")
    assert found.figures["Lc.Align"] > 0.99
    for name, component in zip("zyx", parallel[0], strict=True):
        assert found.figures[f"Lc.{name}"] == pytest.approx(component, abs=0.02)
        axis = found.table[f"axis_{name}"]
        assert axis == pytest.approx([component] * 6, abs=0.02)
    assert not _remarks(_rods(parallel), "lacunae", "Lc.Align")


@pytest.mark.parametrize("flat", [False, True])
def test_spheres_have_no_orientation(flat: bool) -> None:
    pores = np.zeros((30, 60, 60), bool)
    for y, x in ((15.2, 15.0), (15.0, 44.6), (44.3, 15.1), (44.0, 44.0)):
        pores |= ellipsoid(pores.shape, (15, y, x), 7)
    pores = pores[15] if flat else pores
    found = measured(pores, "lacunae")
    assert found.figures["Lc.Align"] is None
    assert _remarks(pores, "lacunae", "but there are 0")
    assert found.figures["Lc.y"] is found.figures["Lc.x"] is None
    assert np.isnan(found.table["axis_y"]).all()
    assert ("axis_z" in found.table) is not flat
    if not flat:
        assert np.isnan(found.table["angle_to_z"]).all()


def _connectivity(solid: np.ndarray) -> tuple[float, list[str]]:
    found = measured(~solid, "trabecular")
    said = found.morphometry["trabecular"].remarks
    return found.figures["Conn"], [r for r in said if "onnectivity" in r]


def test_the_constant_of_the_connectivity_is_told() -> None:
    block = np.ones((24, 24, 24), bool)
    block[12, 12, 12] = False  # an enclosed cavity
    value, said = _connectivity(block)
    assert value == 1
    assert "which is the constant in its formula" in said[0]
    assert "no closed loops" in said[0]
    cross = np.zeros_like(block)
    cross[10:14, 10:14] = cross[10:14, :, 10:14] = cross[:, 10:14, 10:14] = True
    value, said = _connectivity(cross)
    assert value == 3
    assert "makes up 33 % of the connectivity" in said[0]
    bar = np.zeros_like(block)
    bar[:, 10:14, 10:14] = True  # each end counts half
    corner = bar.copy()
    corner[:20] = False
    value, said = _connectivity(corner)
    assert value == 0.5
    assert "no more than the constant in its formula" in said[0]
    ring = np.zeros_like(block)
    ring[10:14, 4:20, 4:20] = True
    ring[10:14, 8:16, 8:16] = False
    assert _connectivity(ring) == (1, [])


def test_infinite_voxels_are_not_called_a_sample_mask() -> None:
    grey = np.full((24, 24, 24), 180, np.float32)
    grey[:, 8:14, 8:14] = 60
    grey[2:6, 2:6, 2:6] = np.inf  # narrower gaps are filled
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        report = measure(grey, statistics=("transport",), threshold=120.0)
    (remark,) = (
        r for r in report.morphometry["transport"].remarks if "measuring τ" in r
    )
    assert remark.startswith("0.46 % of the voxels are NaN or infinite")
    masked = measure(
        np.where(np.isfinite(grey), grey, 180),
        statistics=("transport",),
        threshold=120.0,
        mask=np.isfinite(grey),
    )
    assert any("Crop the volume" in r for r in masked.warnings)


def _ring(depth: int = 30) -> np.ndarray:
    """The bone of a tube with some pores."""
    y, x = np.indices((80, 80)) - 39.5
    radius = np.hypot(y, x)
    bone = np.repeat(((radius <= 38) & (radius > 26))[None], depth, axis=0)
    bone[:, 38:42, 68:74] = bone[5:20, 10:13, 38:42] = False
    return bone


def _no_cortex(pores: np.ndarray) -> list[str]:
    return _remarks(pores, "cortical", "may not be a cortex")


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("level", [-1.0, -0.3, 0.0, 0.5])
@pytest.mark.parametrize("in_air", [False, True])
def test_a_random_field_is_no_cortex(width: int, level: float, in_air: bool) -> None:
    pores = field((40, 80, 80), width) < level
    if in_air:
        y, x = np.indices((80, 80)) - 39.5
        pores |= np.hypot(y, x) > 34
    assert len(_no_cortex(pores)) == 1


def test_a_ring_is_a_cortex_also_if_it_is_cropped_tightly() -> None:
    bone = _ring()
    assert not _no_cortex(~bone)
    assert not _no_cortex(~bone[:, 1:-1, 1:-1])
    assert not _no_cortex(~bone[4])
    moving = np.stack([np.roll(plane, z // 15, axis=0) for z, plane in enumerate(bone)])
    assert not _no_cortex(~moving)


def test_what_a_cortex_lacks_is_told() -> None:
    bone = _ring()
    assert (
        "bone lies on the border of the image in 30 of 30 slices"
        in (_no_cortex(~bone[:, 10:])[0])
    )
    filled = bone.copy()
    filled[:10] = field((10, 80, 80), 1) > -2
    assert "in only 20 of 30 slices" in _no_cortex(~filled)[0]
    jumping = np.zeros((20, 80, 80), bool)
    jumping[:, 2:-2, 2:-2] = True
    for z in range(20):
        jumping[z, 10:30, 10 + 20 * (z % 2) : 30 + 20 * (z % 2)] = False
    assert (
        "changes position or size between adjacent slices" in (_no_cortex(~jumping)[0])
    )


@pytest.mark.parametrize("name", MORPHOMETRY.names())
@pytest.mark.parametrize("flat", [False, True])
def test_declared_columns_are_those_of_the_table(name: str, flat: bool) -> None:
    """Groups are checked against them before anything is measured."""
    pores = ellipsoid((30, 40, 40), (15, 12, 12), (4, 6, 8))
    pores |= ellipsoid((30, 40, 40), (15, 28, 28), 5)
    own = pores[15] if flat else pores

    def columns(*names: str) -> set[str]:
        found: PorosityReport = measured(own, *names)
        assert set(found.to_dataframe().attrs["units"]) == set(found.table)
        return set(found.table)

    declared = getattr(MORPHOMETRY.load(name), "COLUMNS", ())
    expected = {c.name for c in declared if c.flat in (None, flat)}
    assert columns(name) - columns() == expected


#: Words that name the part of a publication that a statistic takes from it.
_PLACES = r"eq\.|equation|section|chapter|definition|algorithm|, on |relation of"


@pytest.mark.parametrize("name", MORPHOMETRY.names())
def test_sources_say_what_is_taken_from_them(name: str) -> None:
    for source in MORPHOMETRY.load(name).SOURCES:
        _, after_the_year = re.split(r"\(\d{4}\)", source, maxsplit=1)
        assert re.search(_PLACES, after_the_year), source


def spheres(radius: float, edge: int, every: int) -> np.ndarray:
    """Spheres in a lattice, at different positions between voxels."""
    pores = np.zeros((edge,) * 3, bool)
    places = np.indices(pores.shape)
    rng = np.random.default_rng(5)
    for corner in np.ndindex((edge // every,) * 3):
        centre = (np.array(corner) + 0.5) * every + rng.uniform(-0.5, 0.5, 3) - 0.5
        box = tuple(slice(i * every, (i + 1) * every) for i in corner)
        offsets = places[(slice(None), *box)] - centre[:, None, None, None]
        pores[box] = (offsets**2).sum(axis=0) <= radius**2
    return pores


@pytest.mark.parametrize(
    ("radius", "tolerance"), [(1.5, 0.28), (2, 0.13), (2.5, 0.07), (3, 0.08)]
)
def test_the_mil_of_small_spheres_is_told_to_be_uncertain(
    radius: float, tolerance: float
) -> None:
    pores = spheres(radius, 50, 10)
    found = measured(pores, "anisotropy")
    true = 10**3 / (2 * math.pi * radius**2)
    assert found.figures["MIL.c"] == pytest.approx(true, rel=tolerance)
    said = any("MIL and DA are uncertain" in text for text in found.warnings)
    assert said == (radius < 3)


def test_sparse_pores_are_enough_for_their_mil() -> None:
    """MIL is more than half of the edge, but there are 64 spheres."""
    found = measured(spheres(3, 56, 14), "anisotropy")
    assert found.figures["MIL.a"] > 28
    assert not any("MIL.a" in text and "unreliable" in text for text in found.warnings)


def test_a_mil_longer_than_the_sample_is_unreliable() -> None:
    """There are 64 spheres, but few pores on a line across the sample."""
    found = measured(spheres(2, 56, 14), "anisotropy")
    assert found.figures["MIL.a"] > 56
    assert any("MIL.a" in text and "unreliable" in text for text in found.warnings)


def test_a_solid_block_has_no_connectivity() -> None:
    found = measured(np.zeros((12,) * 3, bool), "trabecular")
    assert found.figures["Conn.D"] is None
    assert found.figures["BV/TV"] == 1
    assert any(
        "Conn.D cannot be determined: there are no pores" in w for w in found.warnings
    )


def test_a_spread_has_the_unit_of_its_mean() -> None:
    """Po.Dm of equal spheres is some micrometres, Po.Dm.SD some nanometres."""
    found = measured(spheres(5, 56, 28), "thickness", voxel_size=(0.5,) * 3)
    rows = {label.split(" ")[0]: text for label, text in summary_rows(found)}
    assert rows["Po.Dm"].endswith(" µm")
    assert found.figures["Po.Dm.SD"] < 1
    assert rows["Po.Dm.SD"].endswith(" µm")


def test_all_statistics_can_be_requested_at_once() -> None:
    config = PorosityConfig.create(statistics="all")
    assert config.statistics == tuple(MORPHOMETRY.names())


def test_a_single_voxel_has_no_intercept_length() -> None:
    grey = np.full((20, 20, 20), 180, np.uint8)
    grey[10, 10, 10] = 60
    report = measure(
        grey, statistics=("anisotropy",), threshold=120.0, min_voxels=1, unit="µm"
    )
    assert report.figures["MIL.a"] is None
    assert report.figures["DA(a/c)"] is None
    assert any("MIL cannot be determined: there are only" in w for w in report.warnings)


def test_trabecular_numbers_that_differ_are_mentioned() -> None:
    assert trabecular._disagreement(0.03, 40.0) == []
    assert trabecular._disagreement(0.036, 40.0) == []  # as in rough bone
    assert "Tb.N is 1.8 times" in trabecular._disagreement(0.045, 40.0)[0]
    assert trabecular._disagreement(0.01, 40.0)


def test_the_units_of_values_in_python() -> None:
    grey = np.full((20, 20, 20), 180, np.uint8)
    grey[4:12, 4:12, 4:12] = 60
    report = measure(
        grey, statistics=("trabecular", "lacunae"), threshold=120.0, unit="µm"
    )
    assert report.units["Conn.D"] == report.units["Lc.N/BV"] == "1/µm³"
    assert report.units["BV/TV"] == ""


@pytest.mark.parametrize("n", [1, 5])
def test_a_few_voxels_of_the_solid_are_a_phase(n: int) -> None:
    pores = np.ones((40, 40, 40), bool)
    pores[20, 20, 18 : 18 + n] = False
    (remark,) = _remarks(pores, "structure_model", "SMI cannot be determined")
    assert f"of the solid ({n} voxel{'s' if n > 1 else ''}) at least 8 voxels" in remark
    pores[:] = True
    pores[0, 0, 0] = False
    (few,) = _remarks(pores, "structure_model", "SMI cannot be determined")
    assert "only one phase" not in few


@pytest.mark.parametrize("name", MORPHOMETRY.names())
@pytest.mark.parametrize("level", [0.5, 1.2])
def test_remarks_about_an_image_name_only_its_values(name: str, level: float) -> None:
    """An isotropic image, and one with few pores."""
    found = measured(field((1, 96, 90), (0, 3, 3))[0] > level, name)
    quantities = MORPHOMETRY.load(name).QUANTITIES
    absent = {q.name for q in quantities if q.flat_name not in ("", q.name)}
    absent -= {q.flat_name for q in quantities}
    for remark in found.morphometry[name].remarks:
        assert not absent & set(re.findall(r"[^\s,;:]*[^\s,;:.)]", remark)), remark


def test_an_image_has_no_plane_of_directions() -> None:
    texture = field((1, 120, 120), (0, 3, 3.2))[0] > 0
    assert not _remarks(texture, "anisotropy", "within a plane")
    (isotropic,) = _remarks(texture, "anisotropy", "isotropic")
    assert "(MIL.y, MIL.x)" in isotropic
    assert not _remarks(field((1, 96, 96), (0, 2, 2.6))[0] > 0, "anisotropy", "MIL.b")
