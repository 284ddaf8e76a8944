"""With voxels that are not cubic, porosities are those of the voxels of the scan."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from pore_shapes import measure, scan
from scipy.ndimage import gaussian_filter

from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.phases.parts import add_planes, summed
from napari_geosr.measure.planning import plan_steps
from napari_geosr.measure.planning.config import PlanConfig
from napari_geosr.measure.planning.result import ScanPlan

RATIOS = (1.5, 2, 3, 4)


@pytest.fixture(scope="module")
def rock() -> np.ndarray:
    """Small convex pores, which interpolation shrinks."""
    noise = np.random.default_rng(1).normal(size=(96, 96, 96))
    smooth = gaussian_filter(noise, 2, mode="wrap")
    return smooth > 1.2 * smooth.std()


def flattened(
    rock: np.ndarray, ratio: float, axis: int
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Voxels that are `ratio` times as long along one axis, and their size."""
    n = int(rock.shape[axis] / ratio)
    chosen = np.floor((np.arange(n) + 0.5) * ratio).astype(int)
    sizes = [2.0, 2.0, 2.0]
    sizes[axis] *= ratio
    return np.take(rock, chosen, axis), (sizes[0], sizes[1], sizes[2])


def cylinder(pores: np.ndarray) -> np.ndarray:
    """An elliptical cylinder along Z that fills most of the volume."""
    y, x = (np.linspace(-1, 1, n) for n in pores.shape[1:])
    return np.broadcast_to(y[:, None] ** 2 + x**2 < 0.8, pores.shape)


def planned(
    pores: np.ndarray,
    sizes: tuple[float, float, float],
    mask: np.ndarray | None = None,
    **settings: Any,
) -> ScanPlan:
    volume = Volume(scan(pores), "ZYX", voxel_size=sizes, unit="µm", name="sample")
    config = PlanConfig.create(**{"threshold": 120.0, "spot": "32um"} | settings)
    return run_to_end(plan_steps(volume, config, mask))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("ratio", RATIOS)
def test_porosities_are_those_of_the_scan(
    rock: np.ndarray, ratio: float, axis: int, masked: bool
) -> None:
    pores, sizes = flattened(rock, ratio, axis)
    inside = cylinder(pores) if masked else np.ones_like(pores)
    mask = inside if masked else None
    report = measure(
        scan(pores),
        mask=mask,
        statistics=("profile", "subvolumes"),
        threshold=120.0,
        voxel_size=sizes,
        unit="µm",
    )
    assert report.porosity == pores[inside].mean()
    assert planned(pores, sizes, mask).porosity == report.porosity
    slices = [plane[own].mean() for plane, own in zip(pores, inside, strict=True)]
    profile, parts = report.morphometry["profile"], report.morphometry["subvolumes"]
    assert profile.values["Prof.min"] == min(slices)
    assert profile.values["Prof.max"] == max(slices)
    curve = profile.curves["profile"]
    assert curve["porosity"] == pytest.approx(slices)
    assert curve["distance"] == pytest.approx(np.arange(len(pores)) * sizes[0])
    assert parts.values["Sub.low"] < report.porosity < parts.values["Sub.high"]
    assert not any("cover only" in remark for remark in parts.remarks)


def test_sub_volumes_that_leave_out_pores_cover_less_than_the_sample(
    rock: np.ndarray,
) -> None:
    """Of the last row of sub-volumes, only a sixth lies in the sample: all of it pores.

    A single column of voxels extends the box around the sample to the whole volume.
    """
    pores, sizes = flattened(rock, 4, 0)
    inside = np.ones_like(pores)
    inside[:, 76:, 1:] = False
    pores = pores.copy()
    pores[:, 72:76] = True
    found = measure(
        scan(pores),
        mask=inside,
        statistics=("subvolumes",),
        threshold=120.0,
        voxel_size=sizes,
        unit="µm",
    ).morphometry["subvolumes"]
    (remark,) = (r for r in found.remarks if "cover only" in r)
    share = float(remark.split("cover only ")[1].split(" %")[0])
    assert share == pytest.approx(100 * 72 * 96 / (76 * 96 + 20), abs=0.05)


@pytest.mark.parametrize("axis", [0, 2])
def test_spots_have_the_porosity_of_their_voxels(rock: np.ndarray, axis: int) -> None:
    """Spots of 16 cubic voxels: 5⅓ voxels of the scan."""
    pores, sizes = flattened(rock, 3, axis)
    plan = planned(pores, sizes, precision="20%")
    fine = np.repeat(pores, 3, axis=axis)  # each voxel as three cubic ones
    for spot in plan.spots:
        # The first spot of 32 µm has its centre 15 µm from that of the first cubic
        # voxel, 1 or 3 µm from the origin of the scan.
        origin = [(2 - size) / 2 for size in sizes]
        corner = [
            round((c - o) / 2 - 7.5) for c, o in zip(spot.centre, origin, strict=True)
        ]
        found = fine[tuple(slice(c, c + 16) for c in corner)]
        assert found.mean() == pytest.approx(spot.porosity, abs=1e-6)
    parts = fine.reshape(6, 16, 6, 16, 6, 16).mean(axis=(1, 3, 5))
    assert plan.sd == pytest.approx(parts.std(ddof=1), rel=1e-5)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_the_interval_holds_for_random_spots(rock: np.ndarray, ratio: int) -> None:
    pores, sizes = flattened(rock, ratio, 0)
    plan = planned(pores, sizes, precision="20%")
    fine = np.repeat(pores, ratio, axis=0)
    truth = fine.reshape(6, 16, 6, 16, 6, 16).mean(axis=(1, 3, 5)).ravel()
    rng = np.random.default_rng(5)
    held = [
        abs(rng.choice(truth, plan.n_spots, replace=False).mean() - pores.mean())
        <= plan.half_width
        for _ in range(400)
    ]
    assert 0.90 <= np.mean(held) <= 0.98


def test_an_image_of_pixels_that_are_not_square(rock: np.ndarray) -> None:
    image = rock[:, ::3, 0]
    volume = Volume(scan(image), "YX", voxel_size=(2, 6), unit="µm", name="section")
    config = PlanConfig.create(threshold=120.0, spot="32um", precision="40%")
    assert run_to_end(plan_steps(volume, config)).porosity == image.mean()


@pytest.mark.parametrize("step", [0.4, 1.0, 1.75, 3.0])
def test_sums_of_cut_voxels(step: float) -> None:
    """Limits between, on and several within voxels; planes added in slabs."""
    values = np.random.default_rng(2).random((13, 9, 11)) < 0.4
    limits = [np.arange(0.2 * (step % 1), n, step) for n in values.shape]
    fine = 20  # parts of a voxel; every limit is one of their limits

    def along(array: np.ndarray, axis: int) -> np.ndarray:
        parts = np.repeat(array, fine, axis) / fine
        ends = np.rint(limits[axis] * fine).astype(int)
        pieces = [
            np.take(parts, range(a, b), axis).sum(axis=axis, keepdims=True)
            for a, b in itertools.pairwise(ends)
        ]
        return np.concatenate(pieces, axis)

    limits = [np.rint(each * fine) / fine for each in limits]
    expected = along(along(along(values, 0), 1), 2)
    whole = step in (1.0, 3.0)
    target = np.zeros(expected.shape, np.int64 if whole else np.float64)
    for start in (0, 4, 8, 12):
        planes = values[start : start + 4]
        add_planes(target, planes, start, (limits[0], limits[1], limits[2]))
    assert target == pytest.approx(expected, abs=1e-4)
    assert (summed(values, limits[1], 1).dtype.kind == "i") is whole


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("ratio", [1, 1.5, 2, 3])
def test_pores_of_a_cortex_are_those_of_the_scan(ratio: float, axis: int) -> None:
    """Canals 5 µm wide, of which interpolation removes up to 40 %."""
    y, x = np.indices((128, 128)) - 63.7
    radius, canals = np.hypot(y, x), np.zeros((128, 128), bool)
    for angle in np.arange(24) * math.pi / 12:
        at = 42.5 * math.sin(angle), 42.5 * math.cos(angle)
        canals |= np.hypot(y - at[0], x - at[1]) <= 2.5
    ring = (radius <= 50) & (radius >= 35)
    bone, hollow, filled = (
        flattened(np.repeat(plane[None], 12, 0), ratio, axis)[0]
        for plane in (ring & ~canals, ring, radius <= 50)
    )
    sizes = flattened(canals[None], 1, 0)[1]
    sizes = tuple(v * (ratio if i == axis else 1) for i, v in enumerate(sizes))
    found = measure(
        scan(~bone),
        statistics=("cortical",),
        threshold=120.0,
        voxel_size=sizes,
        unit="µm",
        min_voxels=2,
    ).morphometry["cortical"]
    values, pixel = found.values, sizes[1] * sizes[2]
    assert values["Tt.Ar"] == pytest.approx(filled[0].sum() * pixel)
    assert values["Ct.Ar"] == pytest.approx(hollow[0].sum() * pixel)
    assert values["Ct.Po"] == pytest.approx(1 - bone[0].sum() / hollow[0].sum())
    assert values["Po.N"] == 24
    assert values["Ct.Po.Dm"] == pytest.approx(2 * 5, rel=0.04)
    assert values["Ct.Th"] == pytest.approx(2 * 15, rel=0.04)
    assert not any("may not be a cortex" in remark for remark in found.remarks)


@pytest.mark.parametrize("axis", [1, 2])
def test_flat_pixels_at_the_border_are_not_taken_for_cut_bone(axis: int) -> None:
    """A ring that just touches the border of the image."""
    y, x = np.indices((240, 240)) - 119.5
    radius = np.hypot(y, x)
    ring = np.repeat(((radius <= 120) & (radius >= 80))[None], 2, axis=0)
    bone, sizes = flattened(ring, 4, axis)
    touching = np.count_nonzero(np.take(bone[0], 0, axis - 1))
    assert touching > 2.5 * math.sqrt(240)  # more than if the pixels were square
    found = measure(
        scan(~bone),
        statistics=("cortical",),
        threshold=120.0,
        voxel_size=sizes,
        unit="µm",
    ).morphometry["cortical"]
    assert not any("cut off" in remark for remark in found.remarks)


def test_a_mask_that_cuts_the_bone_is_reported_for_flat_pixels() -> None:
    y, x = np.indices((120, 120)) - 59.5
    radius = np.hypot(y, x)
    ring = np.repeat(((radius <= 55) & (radius >= 30))[None], 4, axis=0)
    bone, sizes = flattened(ring, 3, 1)
    inside, _ = flattened(np.repeat((radius <= 45)[None], 4, axis=0), 3, 1)
    found = measure(
        scan(~bone),
        mask=inside,
        statistics=("cortical",),
        threshold=120.0,
        voxel_size=sizes,
        unit="µm",
    ).morphometry["cortical"]
    assert any("NaN voxels in 4 of 4 slices" in remark for remark in found.remarks)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("ratio", "axis"), [(1, 0), (2, 1), (3, 0), (3, 2), (4, 1)])
def test_two_point_statistics_are_those_of_the_scan(
    rock: np.ndarray, ratio: int, axis: int, masked: bool
) -> None:
    pores, sizes = flattened(rock, ratio, axis)
    inside = cylinder(pores) if masked else np.ones_like(pores)
    report = measure(
        scan(pores),
        mask=inside if masked else None,
        statistics=("two_point",),
        threshold=120.0,
        voxel_size=sizes,
        unit="µm",
    )
    found = report.morphometry["two_point"]
    curve = {
        k: np.array(v) for k, v in found.curves["two_point"].items() if k != "unit"
    }
    pores = pores & inside
    for name in ("S2", "S2_z", "S2_y", "S2_x", "lineal_path"):
        assert curve[name][0] == pytest.approx(report.porosity, rel=1e-12)
    along = np.moveaxis(pores, axis, 0), np.moveaxis(inside, axis, 0)
    for lag in (1, 2):
        (k,) = np.flatnonzero(np.isclose(curve["distance"], lag * sizes[axis]))
        both, pairs = ((a[:-lag] & a[lag:]).sum() for a in along)
        assert curve[f"S2_{'zyx'[axis]}"][k] == pytest.approx(both / pairs)
    lengths, weights, density = [], [], 0.0
    for i, size in enumerate(sizes):
        turned = np.moveaxis(pores, i, -1), np.moveaxis(inside, i, -1)
        pairs = np.count_nonzero(turned[1][..., 1:] & turned[1][..., :-1])
        found_runs = _chords(*turned)
        rate = sum(ends for _, ends in found_runs) / 2 / pairs / size
        density += rate / 3
        for length, weight in _product_limit(found_runs):
            lengths.append(size * length)
            weights.append(rate * weight)
    mean = np.average(lengths, weights=weights)
    sd = math.sqrt(np.average((np.array(lengths) - mean) ** 2, weights=weights))
    assert found.values["Chord.pore"] == pytest.approx(report.porosity / density)
    assert found.values["Chord.pore.SD"] == pytest.approx(sd)


def _chords(pores: np.ndarray, inside: np.ndarray) -> list[tuple[int, int]]:
    """Lengths of the runs of pores along the last axis, and how many ends are known."""
    found = []
    for line, own in zip(
        pores.reshape(-1, pores.shape[-1]),
        inside.reshape(-1, pores.shape[-1]),
        strict=True,
    ):
        for value, group in itertools.groupby(range(len(line)), key=line.__getitem__):
            run = list(group)
            ends = [k for k in (run[0] - 1, run[-1] + 1) if 0 <= k < len(line)]
            if value:
                found.append((len(run), int(sum(own[k] for k in ends))))
    return found


def _product_limit(runs: list[tuple[int, int]]) -> list[tuple[int, float]]:
    """Probability of each length, seen from every known end; cut runs are longer."""
    left, found = 1.0, []
    for length in sorted({n for n, ends in runs if ends == 2}):
        ending = sum(2 for n, ends in runs if ends == 2 and n == length)
        longer = sum(ends for n, ends in runs if n > length)
        found.append((length, left * ending / (ending + longer)))
        left *= longer / (ending + longer)
    return [*found, (max(n for n, ends in runs if ends), left)]


@pytest.mark.parametrize("ratio", [2, 3])
def test_correlation_length_and_chords_hardly_depend_on_the_voxels(
    rock: np.ndarray, ratio: int
) -> None:
    """Interpolated, the pores would be smaller: φ by 5 % at a ratio of 3."""
    for axis in (0, 2):
        fine, coarse = (
            measure(
                scan(pores),
                statistics=("two_point",),
                threshold=120.0,
                voxel_size=sizes,
                unit="µm",
            ).morphometry["two_point"]
            for pores, sizes in (flattened(rock, r, axis) for r in (1, ratio))
        )
        for name in ("S2.Lc", "Chord.pore", "Chord.solid"):
            assert coarse.values[name] == pytest.approx(fine.values[name], rel=0.08)


def test_slices_of_a_profile_are_at_their_places() -> None:
    """The number of cubic planes is rounded; the distance of slices is not."""
    rng = np.random.default_rng(0)
    pores = rng.random((10, 40, 40)) < np.linspace(0.1, 0.5, 10)[:, None, None]
    report = measure(
        pores, voxel_size=(1.25, 1.0, 1.0), statistics=("profile",), threshold=120.0
    )
    curve = report.morphometry["profile"].curves["profile"]
    np.testing.assert_allclose(curve["distance"], 1.25 * np.arange(10))
