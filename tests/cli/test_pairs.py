"""``napari-geosr pairs``."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.volume import Volume
from napari_geosr.physics.sampling import coarse_scan
from napari_geosr.physics.specimens.phantoms import sphere_foam
from napari_geosr.registration import itk


@pytest.fixture(scope="module")
def foam() -> np.ndarray:
    made = sphere_foam((64, 72, 80), porosity=0.3, radius=(4, 10), gap=1, seed=2)
    return (0.8 - 0.6 * made.fraction).astype(np.float32)


@pytest.fixture
def files(foam, tmp_path):
    rng = np.random.default_rng(0)
    coarse = 200 * coarse_scan(foam, 2, 0.4) + rng.normal(0, 6, (32, 36, 40))
    low = Volume(coarse.astype(np.uint8), "ZYX", (4.0,) * 3, "µm")
    high = Volume(foam[7:55, 9:57, 12:68], "ZYX", (2.0,) * 3, "µm")
    return {
        "low": str(io.write(low, tmp_path / "low.tif")),
        "high": str(io.write(high, tmp_path / "high.ome.tif")),
    }


def words(files, out, *more) -> list[str]:
    given = ["pairs", "--low", files["low"], "--high", files["high"], *more]
    return [*given, "--out", str(out)]


def test_two_scans_become_a_pair_that_can_be_trained_with(files, tmp_path, capsys):
    out = tmp_path / "new" / "pair"
    assert run(words(files, out, "--search-angle", "0", "--upscale-factor", "2")) == 0
    said = capsys.readouterr().out
    assert "Residual shift: 0.0" in said or "Residual shift: 0.1" in said
    assert f"Wrote {out / 'low.ome.tif'}" in said
    report = json.loads((out / "pairs.json").read_text(encoding="utf-8"))
    # The first voxel of the high-resolution scan is voxel (7, 9, 12) of the foam (2
    # µm).
    moved = np.array(report["transform"]["shift"])
    assert np.abs(moved - (np.array([7, 9, 12]) * 2 - 1)).max() < 0.25 * 4
    line = said.splitlines()[-1].removeprefix("Train with: ")
    assert line == report["train"]
    command = shlex.split(line)
    assert command[0] == "napari-geosr"
    assert run([*command[1:], "--prepare", "--steps", "5"]) == 0
    assert (out / "training" / "config.yaml").is_file()
    assert run(words(files, out)) == 2
    assert "already contains" in capsys.readouterr().err


def test_json_is_all_that_is_printed(files, tmp_path, capsys):
    out = tmp_path / "pair"
    more = ["--offset", "12,16,22", "--transform", "translation", "--json"]
    assert run(words(files, out, *more)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"]["high"] == str(out / "high.ome.tif")
    assert said["transform"]["start"]["how"] == "offset"
    assert said["quality"]["residual_shift"]["median"] < 0.25
    assert said["low"]["voxel_size"] == [4.0] * 3


@pytest.mark.parametrize("kind", ["ct", "fluo"])
def test_one_scan_becomes_a_pair(files, tmp_path, capsys, kind):
    out = tmp_path / kind
    given = ["pairs", "--high", files["high"], "--degrade", kind, "--out", str(out)]
    own = ["--noise", "0.3"] if kind == "ct" else ["--photons", "20"]
    assert run([*given, "--upscale-factor", "4", "--blur", "0.6", *own, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["settings"]["blur"] == 0.6
    assert said["settings"][own[0][2:]] == float(own[1])
    low, high = (io.read(said["files"][key]) for key in ("low", "high"))
    assert high.shape == tuple(4 * n for n in low.shape)
    assert low.unit == "µm"


def test_a_scan_that_skips_voxels_shares_no_noise(files, tmp_path, capsys):
    given = ["pairs", "--high", files["high"], "--degrade", "fluo-scan"]
    given += ["--upscale-factor", "4"]
    assert run([*given, "--out", str(tmp_path / "a")]) == 0
    assert "Noise: not shared" in capsys.readouterr().out
    assert run([*given, "--shared-noise", "--json", "--out", str(tmp_path / "b")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["separated_noise"] is False
    assert said["settings"]["shared_noise"] is True


def test_settings_may_come_from_a_file(files, tmp_path, capsys):
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "upscale_factor: 2\noptions: {blur: 0.2, noise_spectrum: [1, 0.5, 0]}\n",
        encoding="utf-8",
    )
    given = ["pairs", "--high", files["high"], "--degrade", "ct", "--json"]
    more = ["--config", str(settings), "--blur", "0.9", "--out", str(tmp_path / "p")]
    assert run([*given, *more]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["settings"]["blur"] == 0.9
    assert said["settings"]["noise_spectrum"] == [1, 0.5, 0]
    assert said["upscale_factor"] == 2


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--high-voxel-size", "0.002", "--unit", "um"], "times smaller"),
        (["--upscale-factor", "8"], "only 2 times smaller"),
        (["--start", "positions", "--offset", "9000,0,0"], "do not overlap"),
        (["--offset", "1,2"], "needs 3 numbers"),
        (["--offset", "a,b"], "numbers with commas"),
        (["--photons", "3"], "--photons can only be used with --degrade"),
        (["--degrade", "ct"], "not both"),
        (["--upscale-factor", "0"], "upscale factor"),
    ],
)
def test_errors_are_one_sentence(files, tmp_path, capsys, more, says):
    assert run(words(files, tmp_path / "pair", *more)) == 2
    said = capsys.readouterr().err
    assert any(part in said for part in says.split("|")), said
    assert "Traceback" not in said
    assert not (tmp_path / "pair").exists()


def test_bad_files_are_one_sentence(files, foam, tmp_path, capsys):
    data = foam.copy()
    data[30, 30, 30] = np.nan
    bad = {
        "NaN or infinite": Volume(data, "ZYX", (2.0,) * 3, "µm"),
        "is a single image": Volume(foam[0], "YX", (2.0,) * 2, "µm"),
        "--high-voxel-size": Volume(foam, "ZYX"),
        "only one grey value": Volume(np.ones_like(foam), "ZYX", (2.0,) * 3, "µm"),
    }
    for says, volume in bad.items():
        path = io.write(volume, tmp_path / "bad.tif", overwrite=True)
        assert run(words(files | {"high": str(path)}, tmp_path / "pair")) == 2
        assert says in capsys.readouterr().err
    missing = files | {"high": str(tmp_path / "none.tif")}
    assert run(words(missing, tmp_path / "pair")) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "pair").exists()


def test_settings_of_two_scans_are_refused_with_one(files, tmp_path, capsys):
    given = ["pairs", "--high", files["high"], "--out", str(tmp_path / "p")]
    assert run([*given, "--degrade", "ct", "--start", "centres"]) == 2
    assert "--start can only be used with --low" in capsys.readouterr().err
    assert run(given) == 2
    assert "--low" in capsys.readouterr().err
    assert run([*given, "--degrade", "mri", "--upscale-factor", "2"]) == 2
    assert "no kind of degradation 'mri'" in capsys.readouterr().err


def test_without_simpleitk_only_the_alignment_is_missing(
    files, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(itk, "find_spec", lambda _name: None)
    assert run(words(files, tmp_path / "pair")) == 2
    said = capsys.readouterr().err
    assert "pip install 'napari-geosr[registration]'" in said
    given = ["pairs", "--high", files["high"], "--out", str(tmp_path / "p")]
    assert run([*given, "--degrade", "ct", "--upscale-factor", "2"]) == 0
