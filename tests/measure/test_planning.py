"""Scan plans: closed forms, and valid intervals for phantoms of known porosity."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from pore_shapes import ellipsoid, scan

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.planning import half_width, n_spots, plan_steps
from napari_geosr.measure.planning.cells import SMALLEST_SPOT, cell_edge
from napari_geosr.measure.planning.config import PlanConfig
from napari_geosr.measure.planning.result import ScanPlan
from napari_geosr.measure.planning.variation import (
    Variation,
    variance_of_cubes,
)
from napari_geosr.measure.porosity import porosity_steps


def planned(pores: np.ndarray, mask: np.ndarray | None = None, **more) -> ScanPlan:
    """Plan the scan of pores in a solid, with voxels of 2 µm."""
    volume = Volume(
        scan(pores),
        axes="ZYX"[-pores.ndim :],
        voxel_size=(2.0,) * pores.ndim,
        unit="µm",
        name="sample",
    )
    config = PlanConfig.create(**{"threshold": 120.0} | more)
    return run_to_end(plan_steps(volume, config, mask))


def field(shape: tuple[int, ...], width: float, cut: float, seed: int) -> np.ndarray:
    """Pores of a smoothed Gaussian random field, periodic along all axes."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = gaussian_filter(noise, width, mode="wrap")
    return smooth / smooth.std() < cut


@pytest.fixture(scope="module")
def rock() -> np.ndarray:
    return field((96, 96, 96), 2, -0.8, 1)


@pytest.fixture(scope="module")
def section() -> np.ndarray:
    return field((512, 512), 2.5, -0.6, 2)


def cubes(pores: np.ndarray, edge: int) -> np.ndarray:
    """Porosity of all adjacent cubes with a given edge."""
    numbers = [n // edge for n in pores.shape]
    cut = pores[tuple(slice(0, n * edge) for n in numbers)]
    split = [k for n in numbers for k in (n, edge)]
    return cut.reshape(split).mean(axis=tuple(range(1, 2 * pores.ndim, 2))).ravel()


def cubes_centred(pores: np.ndarray, edge: int) -> np.ndarray:
    """Porosity of all adjacent cubes in the centre of a volume."""
    first = [(n % edge) // 2 for n in pores.shape]
    return cubes(pores[tuple(slice(f, None) for f in first)], edge)


def test_random_voxels_follow_the_binomial_distribution() -> None:
    pores = np.random.default_rng(0).random((96, 96, 96)) < 0.3
    plan = planned(pores, spot="32um", precision=0.02)
    assert plan.sd == pytest.approx(math.sqrt(0.3 * 0.7 / 16**3), rel=0.08)
    assert plan.n_possible == 216
    # 1.96² · 0.21 ÷ 16³ ÷ 0.006² = 5.47, of 216 spots.
    assert plan.n_spots == 6
    assert plan.half_width <= plan.accepted_error == pytest.approx(0.006, rel=0.01)
    smallest, largest = plan.sizes[0], plan.sizes[-1]
    assert smallest.sd / largest.sd == pytest.approx(
        (largest.voxels / smallest.voxels) ** 1.5, rel=0.6
    )


def test_the_plan_matches_the_cubes_of_the_scan(rock: np.ndarray) -> None:
    plan = planned(rock, spot="32um", precision="10%")
    truth = cubes(rock, 16)
    assert plan.spot_edge == 32
    assert plan.porosity == pytest.approx(rock.mean())
    assert plan.sd == pytest.approx(truth.std(ddof=1))
    z = 1.959964
    expected = (
        z * truth.std(ddof=1) * math.sqrt((1 - plan.n_spots / 216) / plan.n_spots)
    )
    assert plan.half_width == pytest.approx(expected, rel=1e-6)
    fewer = plan.n_spots - 1
    assert half_width(plan.sd, fewer, z, 216) > plan.accepted_error


def test_spots_lie_where_the_plan_says(rock: np.ndarray) -> None:
    plan = planned(rock, spot="32um", precision="10%")
    assert len({spot.centre for spot in plan.spots}) == plan.n_spots
    for spot in plan.spots:
        corner = [round(c / 2 - 7.5) for c in spot.centre]
        found = rock[tuple(slice(c, c + 16) for c in corner)]
        assert found.shape == (16, 16, 16)
        assert found.mean() == pytest.approx(spot.porosity)
    porosities = [spot.porosity for spot in plan.spots]
    assert porosities == sorted(porosities)
    again = planned(rock, spot="32um", precision="10%")
    assert again.spots == plan.spots
    assert planned(rock, spot="32um", precision="10%", seed=1).spots != plan.spots


def test_the_interval_holds_for_random_spots(rock: np.ndarray) -> None:
    plan = planned(rock, spot="32um", precision="12%")
    truth = cubes(rock, 16)
    rng = np.random.default_rng(5)
    held = [
        abs(rng.choice(truth, plan.n_spots, replace=False).mean() - rock.mean())
        <= plan.half_width
        for _ in range(200)
    ]
    assert 0.90 <= np.mean(held) <= 0.98


@pytest.mark.parametrize("margin", [0, 12])
def test_the_interval_holds_for_a_sample_that_spots_do_not_cover(
    rock: np.ndarray, margin: int
) -> None:
    """Spots of 20 voxels leave a border of 8 voxels, with or without pores."""
    sample = rock.copy()
    inside = np.zeros_like(rock)
    inside[(slice(margin, 96 - margin),) * 3] = True
    sample &= inside
    precision = 0.05 if margin == 0 else 1.0
    plan = planned(sample, spot="20voxels", precision=precision)
    truth = cubes(sample[8:88, 8:88, 8:88], 20)
    assert plan.n_possible == len(truth) == 64
    assert plan.covered == pytest.approx(80**3 / 96**3)
    assert plan.covered_porosity == pytest.approx(truth.mean())
    row = next(row for row in plan.sizes if row.voxels == 20)
    assert row.share == pytest.approx(plan.n_spots * 20**3 / 96**3)
    rng = np.random.default_rng(5)
    errors = [
        abs(rng.choice(truth, plan.n_spots, replace=False).mean() - sample.mean())
        for _ in range(400)
    ]
    assert 0.90 <= np.mean(np.array(errors) <= plan.half_width) <= 0.98
    assert any(label == "Sample covered by whole spots" for label, _ in plan.rows())


def test_spots_start_at_the_edge_of_the_sample(rock: np.ndarray) -> None:
    """A box of 4³ spots that is not aligned with the volume."""
    mask = np.zeros_like(rock)
    mask[10:74, 7:71, 21:85] = True
    plan = planned(rock, mask, spot="16voxels", precision=1.0)
    assert plan.n_possible == 64
    assert plan.covered == pytest.approx(1.0)
    assert plan.covered_porosity == pytest.approx(plan.porosity)


def test_all_spots_that_cover_the_sample_are_exact() -> None:
    """Rounding is not an error of the mean of all spots."""
    pores = np.random.default_rng(3).random((60, 60, 60)) < 0.137
    plan = planned(pores, spot="40um", precision="0.01%")
    assert plan.n_spots == plan.n_possible == 27
    assert plan.half_width == 0


def test_a_precision_that_spots_cannot_reach_is_told() -> None:
    """Spots cover 58 % of the sample, and all pores: every spot is planned."""
    pores = np.zeros((96, 96, 96), bool)
    pores[8:88, 8:88, 8:88] = field((80, 80, 80), 2, -0.8, 3)
    plan = planned(pores, spot="20voxels", precision="5%")
    assert plan.n_spots == plan.n_possible == 64
    bias = pores[8:88, 8:88, 8:88].mean() - pores.mean()
    assert plan.half_width == pytest.approx(bias)
    assert any("precision is not reached" in remark for remark in plan.remarks)
    assert not any("not worthwhile" in remark for remark in plan.remarks)
    assert any("scan the whole sample, or choose a lower" in r for r in plan.remarks)
    assert plan.rows()[0][1].endswith("(scan the whole sample instead)")


def test_a_size_that_reaches_the_precision_is_named() -> None:
    """Spots of 38 voxels leave out a border of pores; those of 48 voxels cover it."""
    pores = np.ones((192, 192, 192), bool)
    pores[:-2, :-2, :-2] = field((190, 190, 190), 2, -0.8, 3)
    plan = planned(pores, spot="38voxels", precision="4%")
    edges = [row.voxels for row in plan.sizes if row.is_worthwhile(plan.accepted_error)]
    assert edges == [12, 24]
    assert plan.rows()[0][1].endswith("(precision not reached)")
    (remark,) = (r for r in plan.remarks if "precision is not reached" in r)
    n, share = plan.sizes[[row.voxels for row in plan.sizes].index(24)].n_spots, 22.5
    assert f"Choose spots of 48 µm ({n}, {share} % of the sample)." in remark


def test_a_spot_far_larger_than_the_scan_is_refused() -> None:
    with pytest.raises(VolumeError, match="100 times as wide as 'sample'"):
        planned(
            field((96, 96, 96), 4, -0.8, 2),
            spot="20000voxels",
            precision="5%",
            scan="spot",
        )


def test_spots_of_a_useless_size_are_not_recommended_smaller() -> None:
    pores = field((96, 96, 96), 4, -0.8, 2)
    advice = " ".join(planned(pores, spot="20voxels", precision="6%").remarks)
    assert "or choose a lower precision." in advice
    assert "Whole spots fit into only 57.9 % of the sample" in advice
    assert "smaller spot" not in advice


def test_strata_are_at_least_as_precise(rock: np.ndarray) -> None:
    errors = []
    for seed in range(20):
        plan = planned(rock, spot="32um", precision="12%", seed=seed)
        spots = [spot.porosity for spot in plan.spots]
        errors.append(abs(np.mean(spots) - plan.porosity))
    assert np.mean(np.array(errors) <= plan.half_width) >= 0.95


def test_the_interval_of_a_plan_from_one_spot_holds(section: np.ndarray) -> None:
    """Each of 40 first spots is used to plan the others; 5 draws each, from the whole
    sample.
    """
    rng = np.random.default_rng(6)
    first, edge, held = 192, 64, []
    for _ in range(40):
        y, x = rng.integers(0, 512 - first, 2)
        pilot = section[y : y + first, x : x + first]
        plan = planned(pilot, spot=f"{2 * edge}um", precision="10%", scan="spot")
        assert plan.spots == ()
        assert plan.n_possible is None
        for _ in range(5):
            corners = rng.integers(0, 512 - edge, (plan.n_spots, 2))
            spots = [section[a : a + edge, b : b + edge].mean() for a, b in corners]
            held.append(abs(np.mean(spots) - section.mean()) <= plan.half_width)
    assert 0.90 <= np.mean(held) <= 0.98


def test_variance_of_cubes_from_two_points(rock: np.ndarray) -> None:
    both = [
        [(rock & np.roll(rock, n, axis)).mean() for axis in range(3)] for n in range(24)
    ]
    s2 = np.mean(both, axis=1)
    for edge in (12, 24):
        found = variance_of_cubes(np.arange(24.0), s2, edge, 3)
        sd = cubes(rock, edge).std(ddof=1)
        assert math.sqrt(found) == pytest.approx(sd, rel=0.15)


def test_extrapolated_sizes_are_told(rock: np.ndarray) -> None:
    part = rock[:64, :64, :64]
    plan = planned(part, spot="64um", precision="10%", scan="spot")
    assert any("extrapolated" in remark for remark in plan.remarks)
    assert plan.sd == pytest.approx(cubes(rock, 32).std(ddof=1), rel=0.5)
    larger = planned(part, spot="400um", precision="10%", scan="spot")
    assert larger.spot_edge == 400
    assert larger.sd < plan.sd
    assert larger.n_spots == 2


def test_only_spots_in_the_sample_count(rock: np.ndarray) -> None:
    sample = ellipsoid(rock.shape, (48, 48, 48), (1e9, 40, 40))
    plan = planned(rock & sample, sample.astype(np.uint8), spot="32um", precision="10%")
    assert plan.porosity == pytest.approx(rock[sample].mean())
    assert 6 * 12 <= plan.n_possible < 6 * 36
    for spot in plan.spots:
        z, y, x = (round(c / 2) for c in spot.centre)
        assert sample[z, y, x]


def test_voxel_size_changes_lengths_alone(rock: np.ndarray) -> None:
    one = planned(rock, spot="32um")
    volume = Volume(scan(rock), axes="ZYX", voxel_size=(2e-3,) * 3, unit="mm", name="s")
    other = run_to_end(plan_steps(volume, PlanConfig(spot="32um", threshold=120.0)))
    assert other.n_spots == one.n_spots
    assert other.spot_edge == pytest.approx(0.032)
    assert other.representative_edge == pytest.approx(one.representative_edge / 1000)


def test_time_and_energy(rock: np.ndarray) -> None:
    plan = planned(rock, spot="32um", hours_per_spot=2, kilowatts=5)
    costs = plan.to_json_dict()["costs"]
    assert costs["hours"] == 2 * plan.n_spots
    assert costs["hours_saved"] == 2 * (216 - plan.n_spots)
    assert costs["kilograms_co2eq"] == pytest.approx(0.06 * 5 * 2 * plan.n_spots)
    saved = dict(plan.rows())["CO2eq saved"]
    assert saved.endswith("kg (compared with all 216 possible spots)")


@pytest.mark.parametrize(
    ("setting", "text", "says"),
    [
        ("spot", "1e400um", "too large a number"),
        ("spot", "0um", "must be greater than 0"),
        ("precision", "5", "and 100 %; for 5 %, give 5%"),
        ("precision", "0.00001", "0.01 % and 100 %"),
    ],
)
def test_reasons_for_refused_settings(setting: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        PlanConfig.create(**{setting: text})
    assert ("give 5%" in str(error.value)) is (text == "5")


def test_errors_of_a_spot_name_its_setting(rock: np.ndarray) -> None:
    for spot, says in (("3um", "only 1.5 voxels"), ("150um", r"\(--scan spot\)")):
        with pytest.raises(VolumeError, match=says) as error:
            planned(rock, spot=spot)
        assert error.value.fields == ("spot",)


@pytest.mark.parametrize(
    ("spot", "edge"),
    [("23voxels", 23), ("26um", 13), ("27.4um", 13), ("0.0349mm", 17), ("23%", 22)],
)
def test_spots_are_never_larger_than_requested(
    spot: str, edge: int, rock: np.ndarray
) -> None:
    plan = planned(rock, spot=spot, precision="10%")
    assert plan.spot_edge == 2 * edge
    assert plan.sd == pytest.approx(cubes_centred(rock, edge).std(ddof=1))
    told = [r for r in plan.remarks if "the plan uses" in r]
    assert len(told) == (spot in ("27.4um", "0.0349mm"))
    for place in plan.spots[:2]:
        corner = [round(c / 2 - (edge - 1) / 2) for c in place.centre]
        found = rock[tuple(slice(c, c + edge) for c in corner)]
        assert found.mean() == pytest.approx(place.porosity)


def test_spots_without_positions_have_exactly_the_requested_size(
    rock: np.ndarray,
) -> None:
    plan = planned(rock, spot="27.4um", precision="10%", scan="spot")
    assert plan.spot_edge == pytest.approx(27.4)
    assert not any("the plan uses" in remark for remark in plan.remarks)


@pytest.mark.parametrize("spot", [8, 9, 32, 97, 251, 1000])
def test_cells_make_up_a_spot(spot: int) -> None:
    edge = cell_edge(spot)
    tolerance = 0.03 if spot > SMALLEST_SPOT + 2 else 0.1
    assert round(spot / edge) * edge == pytest.approx(spot, rel=tolerance)


@pytest.mark.parametrize("more", [{}, {"local_window": 41}, {"hysteresis": 0.1}])
def test_nan_voxels_are_no_part_of_the_sample(more: dict[str, object]) -> None:
    """A cylinder of rock; the pores of the whole rock are 20 % of it."""
    pores = field((72, 72, 72), 2, -0.8, 1)
    y, x = np.ogrid[:72, :72]
    inside = np.broadcast_to(np.hypot(y - 35.5, x - 35.5) < 34, pores.shape)
    grey = np.where(inside, np.where(pores, 60.0, 180.0), np.nan).astype("f4")
    grey[30, 30, 30] = np.nan
    volume = Volume(grey, "ZYX", voxel_size=(2.0,) * 3, unit="µm", name="core")
    config = PlanConfig.create(spot="16voxels", precision="20%", **more)
    warnings: list[str] = []
    plan = run_to_end(
        plan_steps(volume, config),
        lambda s: warnings.append(s.message) if isinstance(s, WarningIssued) else None,
    )
    assert plan.porosity == pytest.approx(pores[inside].mean(), abs=2e-4)
    for spot in plan.spots:
        z, y, x = (round(c / 2) for c in spot.centre)
        assert inside[z, y, x]
    assert any("are NaN or infinite. They belong neither" in w for w in warnings)
    assert any("For the plan, 1 NaN or infinite voxel " in w for w in warnings)


def test_voxels_that_are_not_cubic() -> None:
    """A plan measures no thickness."""
    pores = field((72, 72, 72), 2, -0.8, 1)[::2]
    volume = Volume(scan(pores), "ZYX", voxel_size=(4, 2, 2), unit="µm", name="s")
    config = PlanConfig.create(spot="32um", precision="20%", threshold=120.0)
    warnings: list[str] = []
    run_to_end(
        plan_steps(volume, config),
        lambda s: warnings.append(s.message) if isinstance(s, WarningIssued) else None,
    )
    note = next(w for w in warnings if "not cubic (4 × 2 × 2 µm)" in w)
    assert "too thin" not in note


def test_number_of_spots_by_hand() -> None:
    assert n_spots(0.1, 0.05, 2.0) == 16
    assert n_spots(0.1, 0.05, 2.0, population=16) == 8
    assert n_spots(0.1, 10.0, 2.0) == 2
    assert half_width(0.1, 16, 2.0) == pytest.approx(0.05)
    assert half_width(0.1, 16, 2.0, population=16) == 0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"spot": "10um"}, "only 5 voxels"),
        ({"spot": "2um"}, "only 1 voxel wide"),
        ({"spot": "120um"}, "more than half as wide"),
        ({"spot": "32um", "threshold": 10.0}, "no pores"),
    ],
)
def test_impossible_plans_are_refused(
    more: dict[str, object], sentence: str, rock: np.ndarray
) -> None:
    with pytest.raises(VolumeError, match=sentence):
        planned(rock, **more)


def test_numbers_and_units_of_a_plan_are_written_alike(rock: np.ndarray) -> None:
    volume = Volume(scan(rock), axes="ZYX", name="s")
    with pytest.raises(VolumeError, match=r"A spot of 400 voxels .* 's' \(96 voxels\)"):
        run_to_end(plan_steps(volume, PlanConfig(spot=400.0)))
    core = ellipsoid(rock.shape, (48, 48, 48), (1e9, 30, 30))
    sample = ellipsoid(rock.shape, (48, 48, 48), (1e9, 40, 40))
    plan = planned(rock | ~core, sample.astype(np.uint8), spot="40um", precision="10%")
    assert any(re.search(r"fit into only \d\d\.\d % of", r) for r in plan.remarks)
    small = Volume(scan(rock[:64, :64, :64]), axes="ZYX", name="s")
    config = PlanConfig(spot=30.0, scan="spot", threshold=120.0)
    extrapolated = run_to_end(plan_steps(small, config))
    assert any(re.search(r"cubes of \d+ voxels", r) for r in extrapolated.remarks)
    for one in (plan, extrapolated):
        for text in (*(text for _, text in one.rows()), *one.remarks):
            assert not re.search(r"\d%|\d voxel\b|\d{2}\.\d{2}", text), text


def test_the_default_spot_fits_a_small_scan(rock: np.ndarray) -> None:
    """10 % of 96 voxels are fewer than the smallest spot."""
    small = rock[:64, :64, :64]
    plan = planned(small, precision="20%")
    assert plan.spot_edge / plan.voxel_size >= SMALLEST_SPOT
    assert 2 <= plan.n_spots <= plan.n_possible


def test_a_plan_never_asks_for_a_large_part_of_all_spots(rock: np.ndarray) -> None:
    def advice(**more) -> list[str]:
        plan = planned(rock, **more)
        assert (plan.n_spots >= plan.n_possible / 3) == ("instead" in plan.rows()[0][1])
        return [r for r in plan.remarks if "Scan the whole sample at high" in r]

    assert len(advice(spot="32um", precision="0.5%")) == 1
    assert advice(spot="32um", precision="20%") == []


def test_a_length_needs_a_scan_with_a_unit(rock: np.ndarray) -> None:
    volume = Volume(scan(rock), axes="ZYX", name="s")
    with pytest.raises(VolumeError, match="no unit of length"):
        run_to_end(plan_steps(volume, PlanConfig(spot="32um")))
    in_voxels = planned(rock, spot="16 voxels", precision="10%")
    assert in_voxels.spot_edge == pytest.approx(32)
    assert in_voxels.spots == planned(rock, spot="32um", precision="10%").spots


@pytest.mark.parametrize(
    "values",
    [
        {"spot": "wide"},
        {"spot": "3 parsec"},
        {"spot": -1},
        {"precision": "none"},
        {"confidence": "sure"},
        {"confidence": "40%"},
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        PlanConfig.create(**values)


def test_percent_and_fractions_are_equal() -> None:
    assert PlanConfig.create(precision="5 %") == PlanConfig.create(precision=0.05)
    assert PlanConfig.create(confidence="90%") == PlanConfig.create(confidence=0.9)
    with pytest.raises(ConfigError, match=r"for 95 %, give 95%"):
        PlanConfig.create(confidence=95)


def test_a_power_needs_the_duration_of_a_scan() -> None:
    with pytest.raises(ConfigError, match="hours per spot"):
        PlanConfig.create(kilowatts=5)


def _uneven() -> np.ndarray:
    """Grey values of pores in uneven brightness, with faint specks."""
    rng = np.random.default_rng(4)
    pores = field((72, 72, 72), 2, -1.0, 5)
    grey = np.where(pores, 60.0, 180.0) + rng.normal(0, 6, pores.shape)
    specks = rng.random(pores.shape) < 0.002
    grey[specks & ~pores] = 105
    return (grey + np.linspace(-90, 90, 72)).astype(np.float32)


@pytest.mark.parametrize(
    "settings",
    [
        {"local_window": 31},
        {"threshold": 60.0, "hysteresis": 0.9},
        {"local_window": 31, "hysteresis": 0.5, "connectivity": 6},
    ],
)
def test_pores_are_found_as_in_a_measurement(settings: dict[str, object]) -> None:
    volume = Volume(_uneven(), "ZYX", voxel_size=(2.0,) * 3, unit="µm", name="sample")
    config = PlanConfig.create(spot="24um", precision=0.05, **settings)
    plan = run_to_end(plan_steps(volume, config))
    measured = run_to_end(porosity_steps(volume, PorosityConfig.create(**settings)))
    assert plan.porosity == measured.porosity
    assert plan.threshold == measured.threshold
    without = {k: v for k, v in settings.items() if k == "threshold"}
    config = PlanConfig.create(spot="24um", precision=0.05, **without)
    assert run_to_end(plan_steps(volume, config)).porosity != plan.porosity


def test_a_plan_has_every_setting_that_decides_what_is_a_pore() -> None:
    """All settings of a measurement except for counting, listing and reporting."""
    later = {
        "min_voxels",
        "histogram_bins",
        "interval_factor",
        "graph",
        "statistics",
        "bands",
        "group",
    }
    names = set(PorosityConfig.model_fields) - later
    others = {
        "threshold": "li",
        "local_window": 21,
        "hysteresis": 0.3,
        "phase": "bright",
        "connectivity": 6,
        "sample_mask": "marrow",
        "mask_closing": 9,
        "memory": "3GB",
    }
    assert set(others) == names
    config = PlanConfig.create(**others).porosity_config()
    for name, value in others.items():
        assert getattr(config, name) == value, name


def test_equal_cubes_of_one_size_do_not_end_the_extrapolation() -> None:
    """As in a lattice whose period is the edge of these cubes."""
    cubes = [
        SimpleNamespace(edge=edge, sd=sd)
        for edge, sd in ((4, 0.1), (8, 0.0), (16, 0.05))
    ]
    distances = np.arange(30.0)
    s2 = 0.25 + 0.25 * np.exp(-distances / 2)
    variation = Variation(tuple(cubes), distances, s2, 3)
    assert variation.sd(8) == 0
    assert variation.sd(64) < 0.3 * variation.sd(16)


def test_a_spot_alone_supports_its_own_interval(rock: np.ndarray) -> None:
    """The precision of spots that have not been scanned is not that of this scan."""
    spots = [
        planned(rock[z : z + 48, y : y + 48, x : x + 48], scan="spot", precision="1%")
        for z in (0, 48)
        for y in (0, 48)
        for x in (0, 48)
    ]
    for plan in spots:
        assert plan.scan_interval is not None
        low, high = plan.scan_interval
        assert low < plan.porosity < high
        assert (high - low) / 2 > 5 * plan.half_width
        labels = dict(plan.rows())
        assert "95 % interval from this spot alone" in labels
        assert labels[f"Expected 95 % interval from {plan.n_spots} spots"].endswith(
            "percentage points"
        )
        assert "±" not in labels["Porosity of this scan"]
    held = [p.scan_interval[0] <= rock.mean() <= p.scan_interval[1] for p in spots]
    assert sum(held) >= 7
    whole = planned(rock, spot="32um")
    assert whole.scan_interval is None
    assert "95 % interval from this spot alone" not in dict(whole.rows())
