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
