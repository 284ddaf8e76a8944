"""Scans derived from a scan: aligned, with correct counts, independent of reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_geosr import reconstruct
from napari_geosr.core.errors import ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.operations.reconstruct import ReconstructConfig
from napari_geosr.operations.reconstruct.fewer_views import (
    ThinnedCounts,
    check_same_detector,
    fewer_views,
    splits,
    thinned,
)
from napari_geosr.tomography.filters import angle_weights


class Stored:
    """An array that, like files, can be read only with slices of step one."""

    ndim = 3

    def __init__(self, values: Any) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, key: Any) -> Any:
        assert all(isinstance(k, slice) and k.step is None for k in key)
        return self.values[key]


def scan(n: int = 12, **values: Any) -> Projections:
    rng = np.random.default_rng(0)
    counts = rng.poisson(1000.0, (n, 4, 6)).astype(np.uint16)
    given: dict[str, Any] = {"angles": np.arange(n) * 180 / n} | values
    return Projections(data=Stored(counts), **given)


def test_splits_are_disjoint_interleaved_and_all() -> None:
    parts = splits(scan(14), 4)
    angles = [part.scan.angles for part in parts]
    assert [len(a) for a in angles] == [4, 4, 3, 3]
    assert sorted(np.concatenate(angles)) == pytest.approx(scan(14).angles)
    assert all(np.ptp(np.diff(a)) < 1e-9 for a in angles)
    assert angles[1][0] == pytest.approx(180 / 14)


@pytest.mark.parametrize("acquisition", ["step", "continuous"])
@pytest.mark.parametrize("pieces", [(120,), (160,), (170,), (180,), (60, 60)])
def test_few_views_know_what_the_whole_scan_did_not_see(
    pieces: tuple[int, ...], acquisition: Any
) -> None:
    """Otherwise, their slices would be brighter than those of the whole scan."""
    n, covered = 240, sum(pieces)
    angles = np.arange(n) * covered / n
    angles[angles >= pieces[0]] += 30  # a second piece, if there is one
    whole = scan(n, angles=angles + 25)
    assert sum(width for _, width in whole.wedges) == pytest.approx(180 - covered)
    for n in (8, 12, 20, 60):
        few = fewer_views(whole, n, acquisition)
        few = fewer_views(few.rows(0, 2), n)  # remembered
        weights = angle_weights(few.angles, few.unseen)
        assert np.rad2deg(weights.sum()) == pytest.approx(covered)
        if len(pieces) == 1:
            assert np.ptp(weights) < 1e-6
        assert few.wedges == whole.wedges


@pytest.mark.parametrize(
    ("n", "k"), [(8, 2), (50, 2), (149, 2), (150, 3), (200, 4), (600, 4)]
)
def test_few_views_are_shared_out_to_few_parts(n: int, k: int) -> None:
    assert len(splits(scan(n), "auto")) == k


def test_splits_follow_the_angles_and_not_the_order_of_recording() -> None:
    order = np.random.default_rng(1).permutation(12)
    parts = splits(scan(angles=order * 15.0), 3)
    for j, part in enumerate(parts):
        assert part.scan.angles == pytest.approx(np.arange(j, 12, 3) * 15.0)


@pytest.mark.parametrize("n", [24, 36, 48, 49, 50, 97])
@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_parts_of_a_full_turn_are_spread_over_half_a_turn(
    n: int, k: int, noise: float
) -> None:
    rng = np.random.default_rng(0)
    turn = np.arange(n) * 360 / n + rng.uniform(-noise, noise, n)
    whole = scan(n, angles=turn)
    parts = [part.scan.angles for part in splits(whole, k)]
    assert sorted(np.concatenate(parts)) == pytest.approx(np.sort(turn))
    for angles in parts:
        assert np.all(np.diff(angles) > 0)
        places = np.sort(np.mod(angles + 1, 180))
        gaps = np.sort(np.diff(places, append=places[0] + 180)) * n / 180
        # One view more or less; the remaining ones are missing at the end of half a
        # turn.
        off = 4 * noise * n / 180 + 1e-6
        assert gaps[-1] <= 2 * k + off
        assert k - 1 - off <= gaps[1] <= gaps[-2] <= k + 1 + off
    if k % 2 == 0 and n % (2 * k) == 0 and not noise:
        assert {(angles < 180).mean() for angles in parts} == {0.5}


@pytest.mark.parametrize("k", [2, 3])
def test_opposite_views_that_complete_each_other_stay_together(k: int) -> None:
    turn = np.arange(24) * 15.0
    for part in splits(scan(24, angles=turn), k, joined=True):
        assert len(np.unique(part.scan.angles % 180)) == 12 // k
    fan = {"geometry": "fan", "source_distance": 100.0, "detector_distance": 100.0}
    for j, part in enumerate(splits(scan(24, angles=turn, **fan), k)):
        assert part.scan.angles == pytest.approx(turn[j::k])


def test_the_mean_of_equal_parts_is_the_reconstruction_of_all(foam_scan: Any) -> None:
    whole = foam_scan(shape=(3, 24, 24), projections=32).scan
    config = {"centre": (whole.n_columns - 1) / 2, "device": "cpu", "threads": 1}
    parts = [reconstruct(part.scan, **config).data for part in splits(whole, 4)]
    together = reconstruct(whole, **config).data
    assert np.mean(parts, axis=0) == pytest.approx(np.asarray(together), abs=1e-5)


@pytest.mark.parametrize("acquisition", ["step", "continuous"])
def test_fewer_views_cover_the_same_angles(acquisition: Any) -> None:
    few = fewer_views(scan(12), 4, acquisition)
    values = scan(12).data[0:12, 0:4, 0:6]
    if acquisition == "step":
        assert few.angles == pytest.approx([0, 45, 90, 135])
        assert np.array_equal(few.data[:], values[::3])
    else:
        assert few.angles == pytest.approx([15, 60, 105, 150])
        means = values.reshape(4, 3, 4, 6).mean(axis=1)
        assert few.data[:] == pytest.approx(means, rel=1e-6)
    assert few.provenance[-1]["acquisition"] == acquisition


def test_continuous_line_integrals_are_averaged_as_light() -> None:
    given = scan(4, is_line_integrals=True, angles=np.arange(4) * 10.0)
    values = np.random.default_rng(2).random((4, 4, 6))
    given = given.replace(data=values)
    few = fewer_views(given, 2, "continuous")
    expected = -np.log(np.exp(-values).reshape(2, 2, 4, 6).mean(axis=1))
    assert few.data[:] == pytest.approx(expected, rel=1e-6)


def test_an_exposure_over_a_missing_wedge_is_refused() -> None:
    angles = np.concatenate([np.arange(6) * 5.0, 100 + np.arange(6) * 5.0])
    with pytest.raises(
        ProjectionsError, match="no projections were recorded in between"
    ):
        fewer_views(scan(angles=angles), 5, "continuous")


def test_thinned_light_and_its_rest_make_the_whole() -> None:
    dark = np.full((2, 4, 6), 100, np.uint16)
    flat = np.full((3, 4, 6), 1500, np.uint16)
    given = scan(200, flats=flat, darks=dark)
    short, rest = thinned(given, 0.2), thinned(given, 0.2, rest=True)
    photons = given.data[0:200, 0:4, 0:6] - 100.0
    a, b = short.data[:] - 100, rest.data[:] - 100
    assert a + b == pytest.approx(photons)
    assert a.mean() == pytest.approx(0.2 * photons.mean(), rel=0.01)
    # Parts of a Poisson number are independent Poisson numbers.
    assert a.var() == pytest.approx(0.2 * 1000 - 20, rel=0.15)
    assert np.asarray(short.flats)[0, 0, 0] == pytest.approx(100 + 0.2 * 1400)
    assert np.asarray(rest.flats)[0, 0, 0] == pytest.approx(100 + 0.8 * 1400)


def test_what_is_read_does_not_depend_on_how() -> None:
    for made in (thinned(scan(), 0.3), fewer_views(scan(), 5, "continuous")):
        whole = made.data[:]
        assert np.array_equal(made.data[2, 1:3], whole[2, 1:3])
        assert np.array_equal(made.data[1:4, 2, ::2], whole[1:4, 2, ::2])
        assert np.array_equal(made.rows(1, 3).data[:], whole[:, 1:3])
        assert np.array_equal(made.every(2).data[:, 0:2], whole[::2, 0:2])
        assert whole.shape == made.shape


def test_weak_light_with_noise_of_the_detector_keeps_its_mean() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, (4, 50, 400)) + rng.normal(100, 3, (4, 50, 400))
    counts = np.rint(counts).astype(np.uint16)
    data = ThinnedCounts(counts, np.full((50, 400), 100.0), 0.3, rest=False, seed=1)
    rest = ThinnedCounts(counts, np.full((50, 400), 100.0), 0.3, rest=True, seed=1)
    light = counts.mean() - 100
    assert data[:].mean() - 100 == pytest.approx(0.3 * light, abs=0.02)
    assert rest[:].mean() - 100 == pytest.approx(0.7 * light, abs=0.02)
    np.testing.assert_allclose(data[:] + rest[:] - 100, counts, atol=1e-3)


def test_line_integrals_cannot_be_thinned() -> None:
    with pytest.raises(ProjectionsError, match="contains line integrals"):
        thinned(scan(is_line_integrals=True), 0.5)
    with pytest.raises(ProjectionsError, match="between 0 and 1"):
        thinned(scan(), 1.5)


def test_scans_of_different_detectors_are_refused() -> None:
    text = r"differ in their pixel size \(1 × 1 \w+ and 2 × 2 \w+\)"
    with pytest.raises(ProjectionsError, match=text):
        check_same_detector(scan(), scan(pixel_size=(2.0, 2.0)))


def test_pairs_lie_in_the_same_place(foam_scan: Any) -> None:
    from napari_geosr.learning.sampling.pairs import check_pair

    given = foam_scan(shape=(6, 48, 48), projections=96, photons=1e5).scan
    config = ReconstructConfig(
        centre=(given.n_columns - 1) / 2, device="cpu", threads=1
    ).model_dump(exclude_unset=True)
    whole = reconstruct(given, **config)
    for few in (
        fewer_views(given, 32),
        fewer_views(given, 32, "continuous"),
        thinned(given, 0.1),
    ):
        made = reconstruct(few, **config)
        assert made.shape == whole.shape
        assert made.origin == whole.origin
        assert made.voxel_size == whole.voxel_size
        assert not check_pair(made, whole, 1, 2).warnings
        ours, theirs = (np.asarray(v.data)[:, 14:42, 14:42] for v in (made, whole))
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.7


GOLDEN = 90 * (np.sqrt(5) - 1)


def directions(made: Projections) -> int:
    return len(np.unique(np.round(np.mod(made.angles, 180), 6) % 180))


@pytest.mark.parametrize("n", [500, 501, 720, 361])
@pytest.mark.parametrize("count", [2, 7, 50, 75, 100, 150, 249, 250])
@pytest.mark.parametrize("acquisition", ["step", "continuous"])
def test_views_of_a_full_turn_are_of_different_directions(
    n: int, count: int, acquisition: Any
) -> None:
    count = min(count, n // 2)
    given = scan(n, angles=np.arange(n) * 360 / n)
    if acquisition == "continuous" and count < 3:
        return  # such exposures cover all directions
    few = fewer_views(given, count, acquisition)
    assert few.n_angles == directions(few) == count
    assert np.all(np.diff(few.angles) > 0)
    # Evenly spread, and on both sides.
    gaps = np.diff(np.sort(np.mod(few.angles, 180)))
    assert gaps.max() < (2 if acquisition == "step" else 2.6) * 180 / count + 1e-6
    assert (few.angles < 180).sum() == pytest.approx(count / 2, abs=1)


def test_more_views_of_a_full_turn_than_directions() -> None:
    given = scan(40, angles=np.arange(40) * 9.0)
    for count in (20, 23, 33, 40):
        few = fewer_views(given, count)
        assert len(set(few.angles.tolist())) == count
        assert directions(few) == 20 if count % 2 == 0 else directions(few) >= 17
    twice = scan(80, angles=np.arange(80) * 9.0)
    assert directions(fewer_views(twice, 20)) == 20
    closed = scan(41, angles=np.linspace(0, 360, 41))
    assert directions(fewer_views(closed, 20)) == 20


@pytest.mark.parametrize("beam", ["parallel", "fan"])
def test_half_turns_and_fans_are_thinned_along_the_angle(beam: str) -> None:
    more: dict[str, Any] = {"angles": np.random.default_rng(3).permutation(90) * 2.0}
    if beam == "fan":
        far = {"source_distance": 9.0, "detector_distance": 9.0}
        more = {"angles": np.arange(90) * 4.0, "geometry": beam, **far}
    given = scan(90, **more)
    for count in (9, 10, 37):
        chosen = np.sort(given.angles)[
            np.floor(np.arange(count) * 90 / count + 1e-9).astype(int)
        ]
        assert np.array_equal(fewer_views(given, count).angles, chosen)


def test_one_exposure_is_of_views_side_by_side_on_the_turn() -> None:
    golden = scan(180, angles=np.arange(180) * GOLDEN)
    few = fewer_views(golden, 45, "continuous")
    groups: Any = few.data.groups
    for group, middle in zip(groups, few.angles, strict=True):
        away = np.mod(golden.angles[group] - middle + 180, 360) - 180
        assert np.abs(away).max() < 8
    zero = scan(180, angles=np.r_[270.0:360.0, 0.0:90.0])
    few = fewer_views(zero, 12, "continuous")
    assert few.angles == pytest.approx(270 + 7 + 15 * np.arange(12))
    with pytest.raises(ProjectionsError, match="recorded in between"):
        fewer_views(scan(12, angles=np.arange(12) * 30.0), 4, "continuous")


def counted_by_a_camera(gain: float, n_flats: int = 8) -> Projections:
    """Ten thousand photons per pixel, this gain in counts, and a flickering beam."""
    rng = np.random.default_rng(0)
    flicker = 1 + 0.05 * rng.standard_normal((n_flats, 1, 1))
    counts = 100 + gain * rng.poisson(1e4, (40, 16, 24))
    flats = 100 + gain * rng.poisson(1e4 * flicker, (n_flats, 16, 24))
    return Projections(
        data=np.rint(counts).astype(np.uint32),
        angles=np.arange(40) * 4.5,
        flats=np.rint(flats).astype(np.uint32),
        darks=np.full((2, 16, 24), 100, np.uint32),
    )


@pytest.mark.parametrize("gain", [0.4, 1.0, 10.0])
@pytest.mark.parametrize("given", ["auto", "number"])
def test_a_short_exposure_has_the_noise_of_its_photons(gain: float, given: Any) -> None:
    setting = gain if given == "number" else given
    short = thinned(counted_by_a_camera(gain), 0.1, counts_per_photon=setting)
    light = short.data[:] - 100
    assert light.mean() == pytest.approx(gain * 1000, rel=0.01)
    assert light.std() / light.mean() == pytest.approx(1000**-0.5, rel=0.06)
    said = short.provenance[-1]["counts_per_photon"]
    assert said == 1 if gain == 1 else said == pytest.approx(gain, rel=0.1)
    assert not short.metadata.get("notes")


def test_counts_are_taken_for_photons_where_flats_cannot_tell() -> None:
    camera = counted_by_a_camera(10.0, n_flats=2)
    for given in (camera, scan()):
        short = thinned(given, 0.1)
        assert short.provenance[-1]["counts_per_photon"] == 1
        assert "one count per photon was assumed" in short.metadata["notes"][-1]
        assert not thinned(given, 0.1, rest=True).metadata.get("notes")
    with pytest.raises(ProjectionsError, match="greater than zero, not 0"):
        thinned(camera, 0.1, counts_per_photon=0)
