"""Lacunae that the border of the volume or of the sample cuts."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure
from test_morphometry import measured

from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.morphometry import lacunae
from napari_geosr.measure.sums import Geometry, Pores

#: Edge of a periodic volume, and the number and radius of the spheres in it.
EDGE, NUMBER, RADIUS = 72, 60, 5


@pytest.fixture(scope="module")
def periodic() -> np.ndarray:
    """Separate spheres in a periodic volume."""
    rng, places = np.random.default_rng(5), np.empty((0, 3))
    while len(places) < NUMBER:
        place = rng.uniform(0, EDGE, 3)
        away = (places - place + EDGE / 2) % EDGE - EDGE / 2
        if not (np.linalg.norm(away, axis=1) < 2 * RADIUS + 3).any():
            places = np.vstack([places, place])
    pores = np.zeros((EDGE,) * 3, bool)
    for z, y, x in places:
        shift = np.floor([z, y, x]).astype(int)
        ball = ellipsoid((16,) * 3, 7 + np.array([z, y, x]) - shift, RADIUS)
        pores[tuple((np.argwhere(ball) - 7 + shift).T % EDGE)] = True
    return pores


@pytest.mark.parametrize("sizes", [(3, 3, 3), (2, 5, 7), (1, 1, 1)])
def test_boxes_at_all_positions_count_as_the_number_of_voxels(
    sizes: tuple[int, int, int],
) -> None:
    """The estimator is unbiased for boxes at random positions."""
    shape, h = np.array([9, 12, 15]), np.array(sizes)
    starts = [range(1 - b, n) for n, b in zip(shape, h, strict=True)]
    first = np.array(list(itertools.product(*starts)))
    low, high = np.maximum(first, 0), np.minimum(first + h, shape) - 1
    sums = np.zeros((len(first), column.N_COLUMNS), np.int64)
    sums[:, column.MIN_Z : column.MIN_X + 1] = low
    sums[:, column.MAX_Z : column.MAX_X + 1] = high
    sums[:, column.TOUCHES] = ((low == 0) | (high == shape - 1)).any(axis=1)
    geometry = Geometry((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "µm", flat=False)
    pores = Pores(sums, np.zeros((len(sums), 2)), geometry)
    phases = SimpleNamespace(scan_shape=tuple(shape), sample_from="none", min_voxels=1)
    assert lacunae._shares(pores, phases).sum() == pytest.approx(shape.prod())


@pytest.mark.parametrize("cut", ["by the volume", "by a mask", "by nan"])
def test_density_and_volume_of_lacunae_cut_by_the_border(
    cut: str, periodic: np.ndarray
) -> None:
    pores, more = periodic, {}
    if cut != "by the volume":
        pores = np.pad(periodic, 8, mode="wrap")
        inside = np.pad(np.ones(periodic.shape, np.uint8), 8)
        more["mask"] = inside
    if cut == "by nan":
        grey = np.where(pores, 60, 180).astype(np.float32)
        grey[inside == 0] = np.nan
        report = measure(
            grey,
            voxel_size=(1.0,) * 3,
            unit="µm",
            threshold=120.0,
            statistics=("lacunae",),
        )
    else:
        report = measured(pores, "lacunae", **more)
    values = report.figures
    bone = EDGE**3 - int(periodic.sum())
    volume = periodic.sum() / NUMBER
    assert values["Lc.N"] > 1.3 * NUMBER  # parts of a sphere at opposite faces
    assert values["Lc.N/BV"] * bone == pytest.approx(NUMBER, rel=0.06)
    assert values["Lc.V"] == pytest.approx(volume, rel=0.01)
    assert values["Lc.V.SD"] < 0.05 * volume
    assert values["Lc.TV/BV"] == pytest.approx(periodic.sum() / bone, rel=1e-3)


def _spheres_in_a_box(edge: int, radius: float, number: int) -> np.ndarray:
    """Sums of spheres at random positions, of which the box may contain only a part."""
    sums = np.zeros((number, column.N_COLUMNS), np.int64)
    places = np.random.default_rng(2).uniform(-radius - 1, edge + radius, (number, 3))
    for row, place in zip(sums, places, strict=True):
        first = np.maximum(0, np.ceil(place - radius)).astype(int)
        last = np.minimum(edge - 1, place + radius).astype(int)
        if (last < first).any():
            continue
        z, y, x = (
            np.arange(a, b + 1) - c for a, b, c in zip(first, last, place, strict=True)
        )
        found = np.argwhere(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radius**2)
        if len(found):
            low, high = found.min(axis=0) + first, found.max(axis=0) + first
            row[column.MIN_Z : column.MIN_X + 1] = low
            row[column.MAX_Z : column.MAX_X + 1] = high
            row[column.TOUCHES] = min(low) == 0 or max(high) == edge - 1
            row[column.COUNT] = len(found)
    return sums[sums[:, column.COUNT] > 0]


def test_density_hardly_depends_on_the_minimum_size() -> None:
    """Parts of lacunae below the minimum size are missing at the border."""
    every = _spheres_in_a_box(72, 5, 8000)
    geometry = Geometry((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "µm", flat=False)
    numbers = []
    for least in (1, 8, 27, 100):
        sums = every[every[:, column.COUNT] >= least]
        phases = SimpleNamespace(
            scan_shape=(72,) * 3, sample_from="none", min_voxels=least, flat=False
        )
        pores = Pores(sums, np.zeros((len(sums), 2)), geometry)
        numbers.append(lacunae._shares(pores, phases).sum())
    assert len(sums) < 0.85 * len(every)
    assert numbers == pytest.approx([8000 * (72 / 83) ** 3] * 4, rel=0.02)


def test_pores_at_the_surface_of_a_bone_count_once() -> None:
    """An automatic mask follows the surface, so its border cuts no lacunae."""
    pores = ~ellipsoid((40,) * 3, (19.5,) * 3, 18)
    solid = ~pores
    pores |= ellipsoid((40,) * 3, (20, 20, 12), 4)
    pores |= ellipsoid((40,) * 3, (20, 20, 28), 4)
    pores[18:22, 18:22, 2:6] = True  # closed by the mask
    report = measured(pores, "lacunae", sample_mask="auto", mask_closing=4)
    assert report.table["touches_border"].sum() == 1
    bone = solid.sum() * (1 - report.figures["porosity"])
    assert report.figures["Lc.N/BV"] * bone == pytest.approx(3, rel=0.02)


def test_many_lacunae_at_the_border_are_reported() -> None:
    def told(*places: tuple[int, int, int]) -> list[str]:
        pores = sum(ellipsoid((40,) * 3, place, 4) for place in places) > 0
        found = measured(pores, "lacunae").morphometry["lacunae"]
        return [r for r in found.remarks if "touch the border" in r]

    cut = ((15, 15, 0), (15, 15, 39))
    (remark,) = told((15, 15, 15), *cut)
    assert remark.startswith("2 of 3 lacunae touch the border: their number")
    assert not told((15, 15, 15), (25, 25, 25), *cut)


def test_remarks_on_images_have_the_names_of_images() -> None:
    pore = ellipsoid((1, 40, 40), (0, 20, 20), 8)[0]
    found = measured(pore, "lacunae").morphometry["lacunae"]
    assert "Lc.Ar.SD cannot be determined: there is only one lacuna." in found.remarks
    assert not any("Lc.V" in remark for remark in found.remarks)


def test_round_lacunae_have_no_oblateness() -> None:
    """A sphere of voxels has equal axes; a long and a flat ellipsoid have not."""
    ball = ellipsoid((24,) * 3, (12,) * 3, 6)
    report = measured(ball, "lacunae")
    assert report.figures["Lc.Ob"] is None
    assert report.figures["Lc.St"] == 0
    assert any("Lc.Ob cannot be determined" in text for text in report.warnings)
    rod = ellipsoid((24,) * 3, (12,) * 3, (9, 4, 4))
    report = measured(np.concatenate([ball, rod]), "lacunae")
    assert report.figures["Lc.Ob"] == pytest.approx(-1, abs=0.02)
    assert np.isnan(report.table["oblateness"]).sum() == 1
    assert any("Lc.Ob was determined for 1 of 2" in text for text in report.warnings)


@pytest.mark.parametrize(("radius", "is_told"), [(6, True), (10, True), (14, False)])
def test_thin_lacunae_in_thick_slices_are_reported(radius: int, is_told: bool) -> None:
    """Their stretch is that of the slices, even if they are spheres."""
    z = np.arange(14)[:, None, None] * 3 - 19.5
    y, x = np.ogrid[-20:21, -20:21]
    pore = z**2 + y**2 + x**2 < radius**2
    found = measured(pore, "lacunae", voxel_size=(3.0, 1.0, 1.0))
    found = found.morphometry["lacunae"]
    told = [r for r in found.remarks if "where the voxels are longest" in r]
    assert bool(told) == is_told
    if told:
        n = np.count_nonzero(pore.any(axis=(1, 2)))
        assert f"at most {n} voxels wide along Z" in told[0]
    if radius in (6, 14):
        assert (found.values["Lc.St"] > 0.05) == is_told
    cubic = measured(pore, "lacunae").morphometry["lacunae"]
    assert not any("voxels are longest" in r for r in cubic.remarks)


def test_only_the_named_statistics_depend_on_cubic_voxels(monkeypatch) -> None:
    """The grid of the scan alone determines the others, as the remark says."""
    from scipy.ndimage import gaussian_filter

    from napari_geosr.measure.phases import cubic

    names = ("lacunae", "additive", "thickness", "trabecular", "two_point")
    names += ("profile", "subvolumes", "partial_volume", "cortical", "anisotropy")
    names += ("structure_model", "network", "transport")
    field = gaussian_filter(np.random.default_rng(0).normal(size=(24, 48, 48)), 2)
    mask = np.pad(np.ones((20, 44, 44), np.uint8), 2)

    def figures() -> dict[str, float | None]:
        report = measured(
            field > 0.08, *names, mask=mask, voxel_size=(2.0, 1.0, 1.0), min_voxels=8
        )
        assert any(cubic.ON_CUBIC_VOXELS in w for w in report.warnings)
        return {
            name: value
            for found in report.morphometry.values()
            for name, value in found.values.items()
        }

    before = figures()
    monkeypatch.setattr(
        "napari_geosr.measure.phases.interpolated",
        lambda mask, places, size: np.ones([len(p) for p in places], bool),
    )
    after = figures()
    changed = {name for name, value in before.items() if after[name] != value}
    assert {"Tb.Th", "Po.Dm", "Tb.N", "Conn.D", "SMI", "τ.z", "Net.Po.N"} <= changed
    assert "DA(1-c²/a²)" in changed
    kept = {"BV/TV", "S_v", "Ct.Ar", "Ct.Po", "Lc.St", "Lc.Ob", "Lc.N/BV", "Lc.V"}
    kept |= {"NND", "√area.max", "φ(grey)", "Sub.SD", "Prof.SD", "Lc.Align"}
    assert not kept & changed
    assert kept <= before.keys()
