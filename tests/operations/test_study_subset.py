"""Subsets of a scan in a study: fewer projections, shorter exposures; the savings."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from napari_geosr import io, reconstruct, simulate
from napari_geosr.core.errors import ConfigError, ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.io.projections import read_projections
from napari_geosr.models import bundle
from napari_geosr.operations.reconstruct.fewer_views import unused_views
from napari_geosr.operations.study import (
    StudyConfig,
    _is_outdated,
    study_steps,
)
from napari_geosr.operations.study import figures as study_figures
from napari_geosr.operations.study import report as study_report
from napari_geosr.operations.study.cell import Cell
from napari_geosr.operations.study.result import computing, fewest, least_light, savings
from napari_geosr.operations.study.setup import study_warnings
from napari_geosr.operations.study.subset import (
    ScanSubset,
    all_subsets,
    check_subsets,
    take_subset,
    training_pair,
    tuning_pair,
)
from napari_geosr.tomography.flat_fields import incident_counts

N, ROWS, VIEWS = 32, 24, 48


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    made = simulate(
        "blobs",
        tmp_path_factory.mktemp("scan"),
        size=N,
        rows=ROWS,
        projections=VIEWS,
        radius=(3, 5),
        photons=3e3,
    )
    return made.files


@pytest.fixture
def scan(files):
    return read_projections(files["projections"], centre=19.5)


@pytest.fixture
def quick_pictures(monkeypatch):
    for name in ("curves_png", "table_png", "volumes_png"):
        monkeypatch.setattr(study_report, name, lambda *_: b"")


def settings(**changes) -> StudyConfig:
    given = {"counts": (8, 24), "algorithms": ("fbp",), "threads": 1, **changes}
    return StudyConfig.create(**given)


def run(scan, out, config, **more):
    """Return the result and all other steps."""
    steps = []
    result = run_to_end(study_steps(scan, out, config, **more), steps.append)
    return result, steps


def line_integrals(scan):
    flats, darks = (np.asarray(f[:], float).mean(0) for f in (scan.flats, scan.darks))
    light = (np.asarray(scan.data[:], float) - darks) / (flats - darks)
    return scan.replace(
        data=-np.log(np.clip(light, 1e-3, None)).astype(np.float32),
        flats=None,
        darks=None,
        is_line_integrals=True,
    )


@pytest.mark.slow
def test_exposures_are_cells_of_their_own(scan, files, tmp_path):
    truth, mask = io.read(files["truth"]), io.read(files["sample"])
    more = {"reference": truth, "mask": mask}
    first, _ = run(scan, tmp_path, settings(), **more)
    config = settings(counts=(8, 24, VIEWS), exposure="1, 0.03, 0.3")
    done, _ = run(scan, tmp_path, config, **more)
    cells = [ScanSubset.of(row) for row in done.rows[1:]]
    assert cells == [
        *(ScanSubset(8, e) for e in (1, 0.3, 0.03)),
        *(ScanSubset(24, e) for e in (1, 0.3, 0.03)),
        *(ScanSubset(VIEWS, e) for e in (0.3, 0.03)),  # the whole scan is not a cell
    ]
    by = {ScanSubset.of(row): row for row in done.rows[1:]}
    assert by[ScanSubset(8)] == first.rows[1]  # kept
    for count in (24, VIEWS):
        assert (
            by[ScanSubset(count, 0.3)]["psnr"] > by[ScanSubset(count, 0.03)]["psnr"] + 1
        )
    with done.files["csv"].open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    shares = [float(row["exposure (share)"]) for row in table[1:]]
    assert shares == [subset.exposure for subset in cells]
    page = done.files["html"].read_text(encoding="utf-8")
    assert "how short an exposure" in page
    assert "24 at 30 %" in page
    assert "Porosity error by exposure and projections" in page
    kept = json.loads(done.files["json"].read_text(encoding="utf-8"))
    assert kept["least"] == done.least
    assert kept["settings"]["exposure"] == [1, 0.3, 0.03]


@pytest.mark.parametrize("exposure", [1, 0.3])
def test_what_is_learned_shares_no_photons_with_what_is_given(scan, exposure):
    """Photons of selected views are divided; all photons of the others are for
    training.
    """
    subset = ScanSubset(8, exposure)
    config = settings(counts=(8,), exposure=(exposure,), counts_per_photon=1)
    given, target, _ = training_pair(scan, subset, config)
    dark = np.asarray(scan.darks[:], float).mean(0)
    whole = np.clip(np.asarray(scan.data[:], float) - dark, 0, None)
    share = min(exposure, 0.8)
    at = np.flatnonzero(np.isin(scan.angles, given.angles))
    others = np.setdiff1d(np.arange(VIEWS), at)
    kept = np.asarray(given.data[:], float) - dark
    left = np.asarray(target.data[:], float) - dark
    assert len(at) == given.n_angles == 8
    np.testing.assert_allclose(
        kept + (1 - share) * left[at], np.rint(whole[at]), atol=1e-2
    )
    np.testing.assert_allclose(left[others], whole[others], atol=1e-2)
    assert kept.sum() / whole[at].sum() == pytest.approx(share, abs=0.003)
    assert left[at].sum() / whole[at].sum() == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(target.angles, scan.angles)


def test_streaks_of_few_views_are_not_learned_upside_down(tmp_path):
    """Without noise, the omitted views contain the negative of the streaks."""
    made = simulate("blobs", tmp_path, size=N, rows=2, projections=VIEWS, photons=1e8)
    scan = read_projections(made.files["projections"])
    config = settings(counts=(12,), counts_per_photon=1)
    given, target, _ = training_pair(scan, ScanSubset(12), config)
    whole, few, others, learned = (
        np.asarray(reconstruct(part).data).ravel()
        for part in (scan, given, unused_views(scan, 12), target)
    )
    streaks = few - whole
    assert np.corrcoef(streaks, others - whole)[0, 1] < -0.8
    assert np.abs(learned - whole).mean() < 0.05 * np.abs(streaks).mean()


@pytest.mark.parametrize(
    ("subset", "more"),
    [
        (ScanSubset(12), {}),
        (ScanSubset(40), {}),
        (ScanSubset(40, 0.3), {}),
        (ScanSubset(12), {"acquisition": "continuous"}),
        (ScanSubset(12), {"acquisition": "continuous", "light": "all"}),
    ],
    ids=["few", "many", "short", "quick", "slow"],
)
def test_settings_are_tuned_on_noise_of_its_own(scan, subset, more):
    config = settings(counts=(subset.projections,), exposure=(subset.exposure,), **more)
    beam = np.asarray(scan.flats[:], float).mean()
    # In air, counts vary only because of photon noise.
    flat = np.random.default_rng(0).poisson(beam, (VIEWS, 2, 4000)).astype(np.uint16)
    air = scan.replace(
        data=flat,
        flats=np.full((1, 2, 4000), beam, np.float32),
        darks=None,
        source=None,
    )
    config = config.model_copy(update={"counts_per_photon": 1.0})
    source, target, _ = tuning_pair(air, subset, config)
    assert source.n_angles == subset.projections
    ours, theirs = (
        (np.asarray(s.data[:], float) / np.asarray(s.flats[:], float).mean()).mean(0)
        for s in (source, target)
    )
    assert ours.mean() == pytest.approx(1, abs=0.01)
    assert theirs.mean() == pytest.approx(1, abs=0.01)
    # For 8000 pixels, the random error is within 0.04.
    assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.06
    whole = np.asarray(air.data[:], float).mean(0)
    shared = np.corrcoef(ours.ravel(), whole.ravel())[0, 1]
    assert shared > 0.2  # which is what the whole scan would have


@pytest.mark.parametrize("acquisition", ["step", "continuous"])
@pytest.mark.parametrize("count", [12, 44])
def test_without_counts_views_are_left_out_to_tune_on(count, acquisition):
    noise = np.random.default_rng(0).normal(1, 0.1, (VIEWS, 2, 4000))
    scan = Projections(
        data=noise.astype(np.float32),
        angles=np.arange(VIEWS) * 180 / VIEWS,
        is_line_integrals=True,
    )
    config = settings(counts=(count,), acquisition=acquisition)
    given, target, made_of = tuning_pair(scan, ScanSubset(count), config)
    assert made_of == "views left out"
    few = min(count, 36 if acquisition == "step" else VIEWS // 2)
    assert given.n_angles == few
    assert target.n_angles >= VIEWS // 4
    ours, theirs = (np.asarray(s.data[:]).mean(0).ravel() for s in (given, target))
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.06


def test_more_light_is_no_worse_where_most_views_are_taken(
    scan, files, tmp_path, quick_pictures
):
    truth, mask = io.read(files["truth"]), io.read(files["sample"])
    config = settings(counts=(44,), exposure="1,0.5", algorithms=("cgls",))
    done, _ = run(scan, tmp_path, config, reference=truth, mask=mask)
    whole, half = done.rows[1:]
    assert whole["psnr"] > half["psnr"]


def test_what_pairs_share_is_said(scan):
    few = settings(counts=(24, 40), algorithms="fbp,msdnet,noise2inverse")
    assert study_warnings(scan, few) == []
    lines = scan.replace(is_line_integrals=True, flats=None, darks=None)
    (said,) = study_warnings(lines, few)
    assert "line integrals instead of counts" in said
    assert "MSDNet learn" in said
    unknown = scan.replace(flats=np.asarray(scan.flats[:1]))
    (said,) = study_warnings(unknown, few)
    assert "number of counts per photon is unknown" in said
    assert (
        study_warnings(unknown, few.model_copy(update={"counts_per_photon": 2.0})) == []
    )
    given, target, _ = training_pair(lines, ScanSubset(24), few)
    assert target is lines
    assert given.n_angles == 24
    light = settings(counts=(12, VIEWS), algorithms="tomogan", exposure="1,0.7")
    (said,) = study_warnings(scan, light)
    assert f"With {VIEWS} projections at 70 % exposure, the training targets" in said
    assert "from 12" not in said


@pytest.mark.parametrize(
    ("name", "settings_kept", "again"),
    [
        ("fbp", {}, False),
        ("cgls", {"iterations": 10}, True),  # chosen by an earlier release
        ("cgls", {"iterations": 10, "tuned_on": "views left out"}, False),
        ("msdnet", {"method": "supervised"}, True),
        ("msdnet", {"method": "supervised", "learned_from": "light left out"}, False),
        ("noise2inverse", {"method": "noise2inverse"}, True),  # of four parts
        ("noise2inverse", {"method": "noise2inverse", "parts": 2}, False),
        ("noise2inverse", {"method": "noise2inverse", "parts": 3}, True),
    ],
)
def test_which_cells_are_made_again(name, settings_kept, again):
    context = SimpleNamespace(config=settings(counts=(12,)))
    cell = Cell(context, ScanSubset(12), name)
    assert _is_outdated({"settings": settings_kept}, cell) is again


def test_scans_of_few_rows_are_tuned_and_what_was_said_is_in_the_report(
    scan, tmp_path, quick_pictures
):
    wedge = scan.rows(9, 13).replace(angles=scan.angles * 0.6)
    done, _ = run(wedge, tmp_path, settings(counts=(12,), algorithms=("cgls",)))
    assert done.rows[1]["settings"]["tuned_on"] == "views left out"
    (said,) = (text for text in done.warnings if "cover 108 of 180" in text)
    assert said in done.files["html"].read_text(encoding="utf-8")
    kept = json.loads(done.files["json"].read_text(encoding="utf-8"))
    assert said in kept["warnings"]


def test_not_a_number_can_be_filled(scan, tmp_path, quick_pictures):
    values = np.asarray(scan.rows(9, 11).data[:], np.float32)
    values[3, 1, 20] = np.nan
    holed = scan.rows(9, 11).replace(data=values)
    with pytest.raises(ProjectionsError, match="--nonfinite fill"):
        run(holed, tmp_path / "a", settings(counts=(12,)))
    done, _ = run(holed, tmp_path / "b", settings(counts=(12,), nonfinite="fill"))
    assert len(done.rows) == 2


def test_a_network_learns_from_short_exposures(scan, tmp_path, quick_pictures):
    config = settings(
        counts=(12,),
        exposure=(0.25,),
        algorithms=("msdnet", "tv"),
        steps=2,
        batch_size=1,
        patch=16,
        options={"tv": {"iterations": 5}},
        sample="circle",
    )
    done, _ = run(scan, tmp_path, config)
    assert not any("failed" in row for row in done.rows)
    model = bundle.load(tmp_path / done.rows[1]["settings"]["model"])
    assert model.card.name == "msdnet-12-exposure-0-25"
    inputs = model.card.provenance["inputs"]
    assert "wanted-" in inputs["target 1"]["path"]
    assert done.rows[2]["settings"]["weight"] > 0  # was chosen
    page = done.files["html"].read_text(encoding="utf-8")
    assert "<td>from light left out</td>" in page
    assert "<td>chosen by views left out</td>" in page
    assert "number of counts per photon" not in page


def test_photons_of_unknown_size_are_told_of(scan, tmp_path, quick_pictures):
    flats = np.asarray(scan.flats[:1])
    config = settings(counts=(12,), exposure=(0.5,), sample="circle")
    _, steps = run(scan.replace(flats=flats), tmp_path / "a", config)
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert sum("--counts-per-photon" in message for message in said) == 1
    config = config.model_copy(update={"counts_per_photon": 2.0})
    _, steps = run(scan.replace(flats=flats), tmp_path / "b", config)
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert not any("--counts-per-photon" in message for message in said)


def test_exposures_that_are_refused(scan, tmp_path):
    said = r"fractions from 0\.001 to 0\.9 .*, or 1 .*decimal point|nan is outside"
    for bad in ("0", "1.5", "-1", "nan", "0,3", "0.99"):
        with pytest.raises(ConfigError, match=said):
            settings(exposure=bad)
    with pytest.raises(ConfigError, match=r"1,0\.3,0\.1"):
        settings(exposure="short")
    with pytest.raises(ConfigError, match=r"contains line integrals.*--exposure 1"):
        run(line_integrals(scan), tmp_path / "x", settings(exposure="1,0.5"))
    with pytest.raises(ConfigError, match=r"49 were requested.*up to 48"):
        run(scan, tmp_path / "x", settings(counts=(49,), exposure=(0.5,)))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("light", ["one", "all"])
def test_continuous_views_are_means(scan, light):
    config = settings(acquisition="continuous", light=light)
    few, note = take_subset(scan, ScanSubset(12), config)
    assert note == ""
    assert few.n_angles == 12
    np.testing.assert_allclose(np.diff(few.angles), 15.0)
    counts, dark = np.asarray(scan.data[:4], float), np.asarray(scan.darks[:], float)
    flat = np.asarray(scan.flats[:], float).mean(0) - dark.mean(0)
    expected = (counts.mean(0) - dark.mean(0)) / flat
    level = np.asarray(few.darks[:], float).mean(0)
    beam = np.asarray(few.flats[:], float).mean(0) - level
    found = (np.asarray(few.data[0], float) - level) / beam
    noise = np.std(found - expected)
    # A short exposure has a quarter of the light, and hence different noise.
    assert (noise > 0.005) if light == "one" else (noise < 0.005)
    assert found.mean() == pytest.approx(expected.mean(), abs=0.01)


def test_line_integrals_cannot_be_thinned(scan, tmp_path, quick_pictures):
    lines = line_integrals(scan)
    config = settings(acquisition="continuous", counts=(12,), sample="circle")
    few, note = take_subset(lines, ScanSubset(12), config)
    assert few.n_angles == 12
    assert "contains line integrals instead of counts" in note
    result, steps = run(lines, tmp_path, config)
    assert [s.message for s in steps if isinstance(s, WarningIssued)].count(note) == 1
    # Views with the full exposure save no time.
    assert result.savings[1]["time_factor"] == 1
    assert result.savings[1]["data_factor"] == 4
    page = result.files["html"].read_text(encoding="utf-8")
    assert "with all of their photons" in page
    assert "with the photons of one projection" not in page


def test_savings_follow_the_published_factors(scan):
    full, half, sixth = savings(scan, settings())
    assert full["synchrotron_kilowatt_hours"] == 300
    assert full["synchrotron_kilograms_co2eq"] == pytest.approx(18)
    assert full["laboratory_kilowatt_hours"] == 5
    assert full["laboratory_kilograms_co2eq"] == pytest.approx(0.3)
    assert half["time_factor"] == half["data_factor"] == 2
    assert sixth["time_factor"] == pytest.approx(6)
    assert sixth["synchrotron_kilograms_co2eq"] == pytest.approx(3)
    assert sixth["bytes"] == 8 * ROWS * scan.n_columns * 2
    slow = savings(scan, settings(acquisition="continuous", light="all"))[1]
    assert (slow["time_factor"], slow["data_factor"]) == (1, 2)
    row = {"seconds": 1800, "training_seconds": 1800}
    assert computing(row, settings()) == {
        "computing_kilowatt_hours": pytest.approx(0.3),
        "computing_kilograms_co2eq": pytest.approx(0.018),
    }
    # A quarter of the rows is evaluated: four times the seconds, and one training run.
    whole = computing(row, settings(), 0.25)["computing_kilowatt_hours"]
    assert whole == pytest.approx(0.3 / 2 * 5)


def test_fewest_is_right_from_there_on():
    config = settings(counts=(10, 20, 30), algorithms=("fbp", "tv", "sirt"))
    errors = {"fbp": (0.01, 0.2, -0.04), "tv": (0.2, -0.03, 0.0), "sirt": (0, 0, 0.06)}
    rows = [
        {"projections": count, "algorithm": name, "porosity_error": error}
        for name, found in errors.items()
        for count, error in zip((10, 20, 30), found, strict=True)
    ]
    assert fewest(rows, config, 60) == {"fbp": 30, "tv": 20, "sirt": None}


def test_whole_numbers_in_floating_point_are_counts_and_means_are_none(scan):
    counts = np.asarray(scan.data[:], np.float32)
    floats = scan.replace(data=counts, source=None)
    subset, config = ScanSubset(12, 0.3), settings(exposure=(0.3,))
    ours, theirs = (take_subset(s, subset, config)[0].data[:2] for s in (floats, scan))
    np.testing.assert_array_equal(ours, theirs)
    means = scan.replace(data=counts + np.float32(0.25), source=None)
    with pytest.raises(ConfigError, match=r"fractions .*--exposure 1"):
        check_subsets(means, config)


def test_the_beam_of_a_scan_without_flats_is_shorter_as_well(
    scan, files, tmp_path, quick_pictures
):
    truth, mask = io.read(files["truth"]), io.read(files["sample"])
    config = settings(counts=(24,), exposure="1,0.1")
    bare = scan.replace(flats=None)
    beam = incident_counts(bare) + np.asarray(scan.darks[:], np.float32).mean(0)
    flat = scan.replace(flats=beam[None])
    found = [
        run(one, tmp_path / name, config, reference=truth, mask=mask)[0].rows
        for name, one in (("bare", bare), ("flat", flat))
    ]
    for ours, theirs in zip(*found, strict=True):
        assert ours["psnr"] == pytest.approx(theirs["psnr"], abs=0.1)


def test_a_slow_continuous_scan_has_as_much_light_with_few_views():
    config = settings(
        counts=(10, 60), exposure="1,0.5", acquisition="continuous", light="all"
    )
    rows = [
        {
            "projections": t.projections,
            "exposure": t.exposure,
            "algorithm": "fbp",
            "porosity_error": 0.2 if t == ScanSubset(10, 0.5) else 0.0,
        }
        for t in all_subsets(config, 60)
    ]
    assert least_light(rows, config, 60) == {
        "fbp": {"projections": 60, "exposure": 0.5}
    }


def test_the_least_light_is_right_with_more_of_it():
    config = settings(counts=(10, 20, 60), exposure="1,0.5,0.1", algorithms=("fbp",))
    right = {(20, 1), (20, 0.5), (60, 0.5), (60, 0.1), (10, 0.1)}
    rows = [
        {
            "projections": t.projections,
            "exposure": t.exposure,
            "algorithm": "fbp",
            "porosity_error": 0.01 if (t.projections, t.exposure) in right else -0.2,
        }
        for t in all_subsets(config, 60)
    ]
    # 10 at 0.1 is correct by chance, because 10 at 1 is not.
    assert least_light(rows, config, 60) == {
        "fbp": {"projections": 60, "exposure": 0.1}
    }
    assert fewest(rows, config, 60) == {"fbp": 20}
    none = [row | {"porosity_error": None} for row in rows]
    assert least_light(none, config, 60) == {"fbp": None}


def test_a_short_exposure_saves_time_and_no_data(scan):
    rows = savings(scan, settings(counts=(24,), exposure="1,0.1"))
    assert [(r["projections"], r["exposure"]) for r in rows] == [
        (VIEWS, 1),
        (24, 1),
        (24, 0.1),
    ]
    assert rows[2]["time_factor"] == pytest.approx(20)
    assert rows[2]["data_factor"] == 2


def test_curves_are_over_what_was_changed():
    def rows(*subsets):
        return [
            {
                "projections": t.projections,
                "exposure": t.exposure,
                "algorithm": "fbp",
                "title": "FBP",
                "dice": t.exposure,
            }
            for t in subsets
        ]

    some = rows(
        ScanSubset(30, 0.1), ScanSubset(30), ScanSubset(60), ScanSubset(60, 0.1)
    )
    curves, word = study_figures.curves_over(some, ["fbp"])
    assert {k: [x for x, _ in line] for k, line in curves.items()} == {
        ("fbp", 0): [30, 60],
        ("fbp", 1): [30, 60],
    }
    assert "10 % dashed" in word
    curves, word = study_figures.curves_over(some[:2], ["fbp"])
    assert [x for x, _ in curves["fbp", 0]] == [10, 100]
    assert word == "exposure (%), 30 projections"
    for theme in ("light", "dark"):
        drawn = study_figures.curves_png(some, ["fbp"], theme, 0.05)
        assert drawn.startswith(b"\x89PNG")
