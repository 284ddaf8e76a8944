"""Every column of the pore table and every value of a volume matches its known value.

The scenes contain bodies with closed forms. The tests run for every name in the
registry, so a statistic without an expected value fails.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure, torus

from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.interval import Deviation
from napari_geosr.measure.porosity import porosity_steps
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.statistics import pore_statistics, volume_statistics
from napari_geosr.physics.specimens.tubes import render_tubes

#: Edge of a voxel in µm, and position of the first one.
EDGE, ORIGIN = 2.0, (10.0, 20.0, 30.0)
#: Grey values of pores, of solid, and of voxels near the threshold on either side.
PORE, SOLID, BARELY_PORE, BARELY_SOLID, THRESHOLD = 60, 180, 117, 124, 120
SPECK, NOT_FINITE = 4, 5
#: Half-width of the interval in deviations, and the deviation in grey values. Shifts by
#: the deviation and by its multiple move nearby grey values across the threshold.
FACTOR, NOMINAL, DEVIATION = 1.5, 0.9, 4.0
#: An expected value that is not compared, as it has no closed form on a voxel grid.
UNKNOWN = math.nan


class Body:
    """A pore with its known values."""

    def __init__(self, mask: np.ndarray, centre: tuple[float, ...], **values: Any):
        self.mask, self.centre, self.values = mask, centre, values


def placed(shape: tuple[int, ...], corner: tuple[int, ...], part: np.ndarray):
    """A mask placed in a larger one."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(c, c + n) for c, n in zip(corner, part.shape, strict=True))] = part
    return mask


def bodies_3d() -> tuple[tuple[int, ...], dict[str, Body]]:
    shape = (48, 96, 96)
    large, small = 12.0, 4.0
    in_plane, along = (4 * large**2 + 3 * small**2) / 8, small**2 / 4
    tube = 2 * math.pi**2 * large * small**2
    skin = 4 * math.pi**2 * large * small
    return shape, {
        "ball": Body(
            ellipsoid(shape, (20, 18, 18), 12),
            (20, 18, 18),
            size=4 / 3 * math.pi * 12**3,
            surface=4 * math.pi * 12**2,
            roundness=1.0,
            ratios=(1.0, 1.0),
            box=((8, 6, 6), (33, 31, 31)),
        ),
        "torus": Body(
            placed(shape, (6, 4, 50), torus(36, large, small)),
            (23.5, 21.5, 67.5),
            size=tube,
            surface=skin,
            roundness=math.pi ** (1 / 3) * (6 * tube) ** (2 / 3) / skin,
            ratios=(1.0, math.sqrt(along / in_plane)),
            box=((20, 6, 52), (28, 38, 84)),
            euler=0,
        ),
        "ellipsoid": Body(
            ellipsoid(shape, (22, 68, 24), (8, 12, 16)),
            (22, 68, 24),
            size=4 / 3 * math.pi * 8 * 12 * 16,
            ratios=(12 / 16, 8 / 12),
            box=((14, 56, 8), (31, 81, 41)),
        ),
        "box at the border": Body(
            placed(shape, (0, 60, 60), np.ones((10, 12, 20), bool)),
            (4.5, 65.5, 69.5),
            size=10 * 12 * 20,
            ratios=(12 / 20, 10 / 12),
            box=((0, 60, 60), (10, 72, 80)),
            is_open=True,
        ),
        "barely pore": Body(
            placed(shape, (40, 50, 50), np.ones((3, 3, 3), bool)),
            (41, 51, 51),
            size=27,
            ratios=(1.0, 1.0),
            box=((40, 50, 50), (43, 53, 53)),
            reliable=False,
        ),
    }


def bodies_2d() -> tuple[tuple[int, ...], dict[str, Body]]:
    shape = (128, 160)
    disc = ellipsoid((1, *shape), (0, 30, 30), 20)[0]
    outer, inner = (ellipsoid((1, *shape), (0, 40, 100), r)[0] for r in (24, 12))
    return shape, {
        "disc": Body(
            disc,
            (30, 30),
            size=math.pi * 20**2,
            surface=2 * math.pi * 20,
            roundness=1.0,
            ratios=(1.0,),
            box=((10, 10), (51, 51)),
        ),
        "ring": Body(
            outer & ~inner,
            (40, 100),
            size=math.pi * (24**2 - 12**2),
            surface=2 * math.pi * (24 + 12),
            roundness=(24 - 12) / (24 + 12),
            ratios=(1.0,),
            box=((16, 76), (65, 125)),
            euler=0,
        ),
        "ellipse": Body(
            ellipsoid((1, *shape), (0, 90, 40), (1, 12, 24))[0],
            (90, 40),
            size=math.pi * 12 * 24,
            ratios=(0.5,),
            box=((78, 16), (103, 65)),
        ),
        "box at the border": Body(
            placed(shape, (108, 100), np.ones((20, 40), bool)),
            (117.5, 119.5),
            size=20 * 40,
            ratios=(0.5,),
            box=((108, 100), (128, 140)),
            is_open=True,
        ),
        "barely pore": Body(
            placed(shape, (90, 120), np.ones((3, 3), bool)),
            (91, 121),
            size=9,
            ratios=(1.0,),
            box=((90, 120), (93, 123)),
            reliable=False,
        ),
    }


class Scene:
    """Bodies in a solid, and the report of their measurement."""

    def __init__(self, ndim: int) -> None:
        self.ndim = ndim
        self.shape, bodies = bodies_3d() if ndim == 3 else bodies_2d()
        # Pores are listed in the order of their first voxels.
        self.bodies = sorted(bodies.values(), key=lambda b: int(b.mask.argmax()))
        grey = np.full(self.shape, SOLID, np.float32)
        for name, body in bodies.items():
            grey[body.mask] = BARELY_PORE if name == "barely pore" else PORE
        corner = tuple(n - 8 for n in self.shape)
        edge = (slice(c, c + 3) for c in corner)
        grey[tuple(edge)] = BARELY_SOLID  # becomes a pore at a higher threshold
        grey[(*(c - 6 for c in corner[:-1]), slice(20, 20 + SPECK))] = PORE
        grey[(2,) * (ndim - 1)][2 : 2 + NOT_FINITE] = np.nan
        axes, origin = "ZYX"[-ndim:], ORIGIN[-ndim:]
        volume = Volume(grey, axes, (EDGE,) * ndim, "µm", origin, name="scene")
        spread = np.full(self.shape, DEVIATION, np.float32)
        self.report: PorosityReport = run_to_end(
            porosity_steps(
                volume,
                PorosityConfig(threshold=THRESHOLD, min_voxels=8),
                deviation=Deviation(spread, FACTOR, NOMINAL),
            )
        )

    @property
    def size_of_voxel(self) -> float:
        """Volume (area) of a voxel."""
        return EDGE**self.ndim

    def counts(self) -> dict[str, int]:
        """Numbers of voxels."""
        own = [int(b.mask.sum()) for b in self.bodies]
        open_ones = [int(b.mask.sum()) for b in self.bodies if "is_open" in b.values]
        return {
            "sample": math.prod(self.shape) - NOT_FINITE,
            "counted": sum(own),
            "pores": sum(own) + SPECK,
            "open": sum(open_ones),
            "near": 3**self.ndim,
        }


@pytest.fixture(scope="module", params=[3, 2], ids=["volume", "image"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


def expected_columns(scene: Scene) -> dict[str, tuple[list[Any], float]]:
    """Values of the pores by the name of the column, with their tolerance."""
    ndim, unit, bodies = scene.ndim, scene.size_of_voxel, scene.bodies
    sizes = [b.values["size"] for b in bodies]
    if ndim == 3:
        diameters = [2 * EDGE * (3 * s / (4 * math.pi)) ** (1 / 3) for s in sizes]
    else:
        diameters = [2 * EDGE * math.sqrt(s / math.pi) for s in sizes]
    surfaces = [b.values.get("surface", UNKNOWN) * EDGE ** (ndim - 1) for b in bodies]
    round_ones = [b.values.get("roundness", UNKNOWN) for b in bodies]
    found: dict[str, tuple[list[Any], float]] = {
        "voxels": (sizes, 0.025),
        "volume" if ndim == 3 else "area": ([s * unit for s in sizes], 0.025),
        "equivalent_diameter": (diameters, 0.01),
        "surface_area" if ndim == 3 else "perimeter": (surfaces, 0.02),
        "sphericity" if ndim == 3 else "circularity": (round_ones, 0.04),
        "surface_reliable": ([b.values.get("reliable", True) for b in bodies], 0),
        "euler_number": ([b.values.get("euler", 1) for b in bodies], 0),
        "elongation": ([b.values["ratios"][0] for b in bodies], 0.01),
        "touches_border": ([b.values.get("is_open", False) for b in bodies], 0),
    }
    if ndim == 3:
        found["flatness"] = [b.values["ratios"][1] for b in bodies], 0.02
    for i, axis in enumerate("zyx"[-ndim:]):
        start = ORIGIN[-ndim:][i]
        found[f"centroid_{axis}"] = [start + EDGE * b.centre[i] for b in bodies], 1e-6
        for j, end in enumerate(("start", "end")):
            found[f"bbox_{end}_{axis}"] = [b.values["box"][j][i] for b in bodies], 0
    return found


def test_the_columns_of_the_table_have_known_values(scene: Scene) -> None:
    expected = expected_columns(scene)
    for statistic in pore_statistics(flat=scene.ndim == 2):
        values, tolerance = expected.pop(statistic.name)
        found = scene.report.table[statistic.name]
        assert len(found) == len(values) == 5
        known = [i for i, value in enumerate(values) if value == value]
        assert known, statistic.name
        for i in known:
            assert found[i] == pytest.approx(values[i], rel=tolerance), statistic.name
    assert not expected


def quantiles(values: list[float]) -> dict[str, float]:
    """Mean, interpolated percentiles, and maximum."""
    ranked, n = sorted(values), len(values)

    def at(share: float) -> float:
        place = share * (n - 1)
        below = int(place)
        above = min(below + 1, n - 1)
        return ranked[below] + (place - below) * (ranked[above] - ranked[below])

    names = {"p10": 0.1, "median": 0.5, "p90": 0.9, "max": 1.0}
    return {"mean": sum(values) / n} | {k: at(share) for k, share in names.items()}


def expected_figures(scene: Scene) -> dict[str, Any]:
    """Values of the whole volume by name, without those of the graph."""
    ndim, n = scene.ndim, scene.counts()
    columns = expected_columns(scene)
    size = "volume" if ndim == 3 else "area"
    sample = n["sample"]
    millimetres = sample * scene.size_of_voxel * 1e-3**ndim
    low, high = ((n["pores"] + s * n["near"]) / sample for s in (-1, 1))
    exact = quantiles([float(b.mask.sum()) for b in scene.bodies])
    sizes = {k: v * scene.size_of_voxel for k, v in exact.items()}
    density = [4 / millimetres, 6 / millimetres]
    figures: dict[str, Any] = {
        "porosity": n["pores"] / sample,
        "porosity_low": low,
        "porosity_high": high,
        "threshold_sensitivity": n["near"] / sample,
        "porosity_uncertainty": n["near"] / sample,
        "porosity_interval": [low, high],
        "porosity_interval_nominal": NOMINAL,
        "porosity_interval_factor": FACTOR,
        "porosity_spread": n["near"] / sample,
        f"pores_per_mm{ndim}_interval": density,
        "counted_porosity": n["counted"] / sample,
        "open_porosity": n["open"] / sample,
        "closed_porosity": (n["pores"] - n["open"]) / sample,
        "pore_count": 5,
        "small_pore_count": 1,
        "pores_per_mm3": 5 / millimetres if ndim == 3 else None,
        "pores_per_mm2": 5 / millimetres if ndim == 2 else None,
        "sample_voxels": sample,
        "pore_voxels": n["pores"],
        "small_pore_voxels": SPECK,
        "nonfinite_voxels": NOT_FINITE,
        f"sample_{size}": sample * scene.size_of_voxel,
        f"pore_{size}": n["pores"] * scene.size_of_voxel,
        "euler_number": 4 + 1,  # the torus (ring) has a tunnel (hole); the speck has 1
        "pore_size_voxels": exact,
        f"pore_{size}_quantiles": sizes,
        f"mean_{size}": sizes["mean"],
        f"median_{size}": sizes["median"],
        f"largest_{size}": sizes["max"],
        "equivalent_diameter": pytest.approx(
            quantiles(columns["equivalent_diameter"][0]), rel=0.01
        ),
        "threshold": THRESHOLD,
    }
    # Bodies without flat faces; flat faces along the axes are a documented limitation.
    return figures | dict.fromkeys(SURFACES) | _round_surface(ndim)


SURFACES = ("surface_area", "specific_surface_area", "perimeter", "specific_perimeter")


def _round_surface(ndim: int) -> dict[str, Any]:
    """Surface of the scene of `smooth_report`, in total and per size of the sample."""
    count, radius = 4, 12 * EDGE
    one = 4 * math.pi * radius**2 if ndim == 3 else 2 * math.pi * radius
    sample = (64 * EDGE) ** 2 * (32 * EDGE if ndim == 3 else 1)
    total, name = count * one, "surface_area" if ndim == 3 else "perimeter"
    specific = f"specific_{name}"
    return {
        name: pytest.approx(total, rel=0.02),
        specific: pytest.approx(total / sample, rel=0.02),
    }


def smooth_report(ndim: int) -> PorosityReport:
    """Four spheres (discs)."""
    shape = (32, 64, 64) if ndim == 3 else (1, 64, 64)
    pores = np.zeros(shape, bool)
    for y in (16, 48):
        for x in (16, 48):
            pores |= ellipsoid(shape, (16 if ndim == 3 else 0, y, x), 12)
    grey = np.where(pores, PORE, SOLID).astype(np.uint8)
    options = {"voxel_size": (EDGE,) * ndim, "unit": "µm", "threshold": 120.0}
    return measure(grey if ndim == 3 else grey[0], "ZYX"[-ndim:], **options)


def graph_figures(ndim: int) -> tuple[PorosityReport, dict[str, Any]]:
    """A ladder along the first axis of the plane: two rails and three rungs."""
    z = 32.0 if ndim == 3 else 0.0
    rails = [[(z, 4.0, x), (z, 60.0, x)] for x in (8.0, 56.0)]
    rungs = [[(z, y, 8.0), (z, y, 56.0)] for y in (16.0, 32.0, 48.0)]
    lines = [np.array(path) for path in (*rails, *rungs)]
    shape = (64, 64, 64) if ndim == 3 else (1, 64, 64)
    pores = render_tubes(shape, lines, [2.5] * 5) >= 0.5
    # A tube along X, which joins two faces.
    through = np.zeros(shape, bool)
    if ndim == 3:
        through[6:10, 6:10] = True
    else:
        pores[:, 62:] = False
    grey = np.where(pores | through, PORE, SOLID).astype(np.uint8)
    options = {"voxel_size": (0.5,) * ndim, "unit": "µm", "threshold": 120.0}
    report = measure(
        grey if ndim == 3 else grey[0], "ZYX"[-ndim:], graph=True, **options
    )
    more = 1 if ndim == 3 else 0
    length = 0.5 * (2 * 56 + 3 * 48 + 64 * more)
    joining = {"Z": 0, "Y": 0, "X": more}
    values: dict[str, Any] = {
        "nodes": 10 + 2 * more,
        "branches": 11 + more,
        "mean_degree": 3.0,
        "loops": 2,
        "length": pytest.approx(length, rel=0.05),
        "mean_branch_length": pytest.approx(length / (11 + more), rel=0.05),
        "joining_components": {k: joining[k] for k in "ZYX"[-ndim:]},
    }
    if ndim == 3:
        area = 0.032**2
        values["tubules_per_mm2"] = {
            "Z": 0.0,
            "Y": pytest.approx(2 / area),
            "X": pytest.approx((3 + 1) / area),
        }
    return report, values


def test_the_values_of_a_volume_are_known(scene: Scene) -> None:
    ndim = scene.ndim
    expected, smooth = expected_figures(scene), smooth_report(ndim).figures
    traced, graph = graph_figures(ndim)
    for statistic in volume_statistics(flat=ndim == 2):
        name = statistic.name
        if name == "graph":
            found = traced.figures[name]
            for key, value in graph.items():
                assert found[key] == value, key
        elif name.startswith("graph_"):
            value = graph.pop(name.removeprefix("graph_"))
            assert traced.figures[name] == value, name
        elif name in SURFACES:
            assert smooth[name] == expected.pop(name), name
        else:
            value = expected.pop(name)
            if not hasattr(value, "rel"):
                value = _approx(value)
            assert scene.report.figures[name] == value, name
    assert not expected
    assert not graph


def _approx(value: Any) -> Any:
    """Equal apart from rounding."""
    return value if value is None else pytest.approx(value, rel=1e-9)
