"""A simulated scan: exact ground truth, consistent files."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from napari_geosr import io, reconstruct, simulate
from napari_geosr.core.errors import Cancelled, ConfigError, FileError
from napari_geosr.core.steps import BlockDone, WarningIssued, run_to_end
from napari_geosr.io.projections import read_projections
from napari_geosr.operations.simulate import FILES, SimulateConfig, simulate_steps

SMALL = {"size": 32, "rows": 40, "projections": 60, "radius": (3, 5), "photons": 1e5}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return simulate("blobs", tmp_path_factory.mktemp("blobs") / "new", **SMALL)


def test_files_and_porosity(made):
    assert {p.name for p in made.files["json"].parent.iterdir()} == set(FILES.values())
    truth, sample = io.read(made.files["truth"]), io.read(made.files["sample"])
    assert truth.shape == sample.shape == (40, 32, 32)
    assert truth.voxel_size == (10.0,) * 3
    assert truth.unit == "µm"
    facts = json.loads(made.files["json"].read_text(encoding="utf-8"))
    assert facts["files"] == FILES
    inside = np.asarray(sample.data) != 0
    solid = np.asarray(truth.data, float)[inside] / facts["attenuation"]
    assert facts["sample_voxels"] == inside.sum()
    # The volume of the pores is known exactly, and differs from that at a threshold.
    assert facts["porosity"] == pytest.approx((1 - solid).mean(), abs=1e-6)
    at_half = facts["porosity_at_half_contrast"]
    assert at_half == pytest.approx((solid <= 0.5 + 1e-6).mean(), abs=1e-9)
    assert set(facts["definitions"]) == {"porosity", "porosity_at_half_contrast"}
    for volume in (truth, sample):
        assert volume.provenance[-1]["operation"] == "simulate"
        assert volume.provenance[-1]["settings"]["photons"] == 1e5


def test_cuffs_of_dentin_are_denser_and_no_pores(tmp_path):
    """The solid of dentin has two densities; the porosity is that of the tubules."""
    made = simulate("dentin", tmp_path / "d", size=48, rows=8, projections=4)
    assert made.truth["voxel_size"] == 0.2
    truth, sample = (io.read(made.files[key]) for key in ("truth", "sample"))
    inside = np.asarray(sample.data) != 0
    seen = np.asarray(truth.data, float)[inside] / made.truth["attenuation"]
    assert seen.max() == pytest.approx(1.25, abs=1e-4)
    assert (seen > 1.2).mean() > 0.02
    assert np.median(seen) == pytest.approx(1.0, abs=1e-4)
    assert 0.02 < made.truth["porosity"] < 0.3
    # Denser solid does not count as negative pore.
    assert made.truth["porosity"] > (1 - seen).mean()


def test_the_scan_shows_the_truth(made):
    scan = read_projections(made.files["projections"])
    assert scan.shape == (60, 40, 40)
    assert scan.pixel_size == (10.0, 10.0)
    assert scan.unit == "µm"
    assert scan.provenance[-1]["truth"]["porosity"] == made.truth["porosity"]
    volume = reconstruct(scan, centre=made.truth["centre"], size=32, threads=1)
    truth = np.asarray(io.read(made.files["truth"]).data)
    found = np.asarray(volume.data)
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.95
    solid = truth > 0.99 * made.truth["attenuation"]
    assert found[solid].mean() == pytest.approx(made.truth["attenuation"], rel=0.05)


def test_no_two_blocks_of_rows_have_the_same_noise(made):
    scan = read_projections(made.files["projections"])
    flats = np.asarray(scan.flats[:], float)
    assert np.abs(flats[:, :8] - flats[:, 32:]).mean() > 10


def test_the_same_seed_gives_the_same_scan(made, tmp_path):
    again = simulate("blobs", tmp_path / "a", **SMALL)
    other = simulate("blobs", tmp_path / "b", **SMALL, seed=1)
    first, same, another = (
        np.asarray(read_projections(m.files["projections"]).data[:])
        for m in (made, again, other)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != another).mean() > 0.5


def test_existing_files_are_kept(made):
    folder = made.files["json"].parent
    with pytest.raises(
        FileError, match=r"already contains projections\.h5.*--overwrite"
    ):
        simulate("blobs", folder, **SMALL)


def test_stopped_it_leaves_nothing(tmp_path):
    steps = simulate_steps(
        "blobs", tmp_path, SimulateConfig.create(**SMALL), should_stop=lambda: True
    )
    with pytest.raises(Cancelled):
        list(steps)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_simulated_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(ConfigError):
        simulate("foam", tmp_path / "new" / "foam", **{**SMALL, "radius": (90, 99)})
    assert list(tmp_path.iterdir()) == []

    def full(*args, **kwargs):
        raise FileError("projections.h5 could not be written: the disk is full.")

    monkeypatch.setattr("napari_geosr.operations.simulate.write_projections", full)
    with pytest.raises(FileError, match="full"):
        simulate("blobs", tmp_path / "new" / "blobs", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_with_the_result(tmp_path):
    config = SimulateConfig.create(**{**SMALL, "rows": 33, "projections": 4})
    steps = []
    made = run_to_end(simulate_steps("foam", tmp_path, config), steps.append)
    blocks = [(s.done, s.total) for s in steps if isinstance(s, BlockDone)]
    assert blocks == [(32, 33), (33, 33)]
    assert made.files["projections"].exists()


@pytest.mark.parametrize(
    ("structure", "settings", "says"),
    [
        ("sponge", {}, "Unknown structure 'sponge'.*foam, blobs, bone, lacunae"),
        ("foam", {"radius": (5, 3)}, "two numbers above zero"),
        ("foam", {"unit": "pixel"}, "unit of length"),
        ("foam", {"size": 4}, "size: .*16"),
        ("foam", {"photons": 0}, "photons"),
    ],
)
def test_bad_settings_are_said_in_one_sentence(tmp_path, structure, settings, says):
    with pytest.raises(ConfigError, match=says):
        simulate(structure, tmp_path, **settings)


def test_a_continuous_scan_turns_while_it_is_exposed():
    assert SimulateConfig(continuous=True).scan().sub_angles >= 5
    assert SimulateConfig(continuous=True, sub_angles=3).scan().sub_angles == 3
    assert SimulateConfig().scan().sub_angles == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"radius": (2, 3)},
            r"fill about \d\d % .* instead of the requested 90 %.* use thinner walls "
            r"\(--gap 0\.25 or 0\) or a wider range of radii \(--radius 2,6\) or blobs",
        ),
        (
            {"radius": (2, 8), "gap": 0},
            "instead of the requested 90 %. For more, use blobs",
        ),
    ],
)
def test_a_foam_that_cannot_be_so_dense_is_said(tmp_path, settings, says):
    few = {"size": 24, "rows": 4, "projections": 4, "porosity": 0.9, "flats": 1}
    config = SimulateConfig.create(**few, **settings)
    steps = list(simulate_steps("foam", tmp_path, config))
    (warned,) = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert re.search(says, warned)


def test_no_warning_where_the_porosity_is_reached(tmp_path):
    few = {"size": 24, "rows": 4, "projections": 4, "porosity": 0.25, "radius": (2, 6)}
    steps = list(simulate_steps("foam", tmp_path, SimulateConfig.create(**few)))
    assert not [s for s in steps if isinstance(s, WarningIssued)]


def test_only_foams_have_gaps(tmp_path):
    with pytest.raises(ConfigError, match="blobs has none: remove --gap"):
        simulate("blobs", tmp_path / "new", **SMALL, gap=1)
