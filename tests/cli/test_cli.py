"""The command line as used by a script: exit codes, JSON, messages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.volume import Volume
from napari_geosr.operations.measure import MeasureConfig
from napari_geosr.operations.models.catalogue import find as find_model


def save(path, data, voxel=2.0):
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=(1 / voxel, 1 / voxel),
        metadata={"spacing": voxel, "unit": "um", "axes": "ZYX"[-data.ndim :]},
    )
    return str(path)


@pytest.fixture
def pores(tmp_path):
    """A bright block, 8 × 40 × 40, with two dark cubes of 4³ and 5³ voxels."""
    data = np.full((8, 40, 40), 200, np.uint8)
    data[2:6, 5:9, 5:9] = 50
    data[1:6, 20:25, 20:25] = 50
    return save(tmp_path / "pores.tif", data)


def test_info_json(pores, capsys):
    assert run(["info", pores, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["shape"] == [8, 40, 40]
    assert values["axes"] == "ZYX"
    assert values["voxel_size"] == pytest.approx([2.0] * 3)
    assert values["unit"] == "µm"
    assert values["origin"] == pytest.approx([0.0] * 3)


def test_no_command_shows_the_help(capsys):
    assert run([]) == 0
    assert "Usage: napari-geosr COMMAND" in capsys.readouterr().out


def test_info_is_shown_if_the_noise_cannot_be_measured(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "nan.tif", np.full((6, 20, 20), np.nan, np.float32))
    assert run(["info", str(tmp_path / "nan.tif"), "--noise"]) == 2
    shown = capsys.readouterr()
    assert "6 × 20 × 20" in shown.out
    assert "nan.tif" in shown.err


def test_info_for_people_says_when_the_size_is_unknown(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "bare.tif", np.zeros((4, 5), np.uint8))
    assert run(["info", str(tmp_path / "bare.tif")]) == 0
    assert "unknown" in capsys.readouterr().out


def test_measure_json_and_files(pores, tmp_path, capsys):
    out = tmp_path / "report"
    arguments = ["measure", pores, "--out", str(out), "--labels", "--json"]
    assert run(arguments) == 0
    captured = capsys.readouterr()
    values = json.loads(captured.out)
    assert values["pore_count"] == 2
    assert values["porosity"] == pytest.approx((64 + 125) / (8 * 40 * 40))
    assert values["pores_per_mm3"] == pytest.approx(2 / (8 * 40 * 40 * 8e-9))
    names = {"report.json", "report.html", "pores.csv", "values.csv"}
    names |= {"histogram.png"}
    assert {p.name for p in out.iterdir()} == names | {"pores.ome.tif"}
    labels = tifffile.imread(out / "pores.ome.tif")
    assert np.bincount(labels.ravel())[1:].tolist() == [125, 64]
    assert run(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*arguments, "--overwrite"]) == 0


def test_the_record_of_a_measurement_names_mask_and_deviation(pores, tmp_path):
    scan = io.read(pores)
    mask = io.write(scan.replace(data=np.ones(scan.shape, "u1")), tmp_path / "m.tif")
    sigma = io.write(scan.replace(data=np.ones(scan.shape, "f4")), tmp_path / "s.tif")
    out = tmp_path / "m"
    given = ["--mask", str(mask), "--deviation", str(sigma)]
    assert run(["measure", pores, "--out", str(out), *given]) == 0
    inputs = json.loads((out / "report.json").read_text())["provenance"]["inputs"]
    assert list(inputs) == ["input", "mask", "deviation"]
    assert inputs["deviation"]["checksum"] != inputs["mask"]["checksum"]


def test_measure_with_a_reference_and_a_given_voxel_size(pores, tmp_path, capsys):
    out = str(tmp_path / "report")
    given = ["--voxel-size", "4,4,4", "--unit", "um", "--threshold", "100"]
    given += ["--connectivity", "6"]
    words = ["measure", pores, "--reference", pores, pores, "--out", out, "--json"]
    assert run([*words, *given]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["threshold"] == 100
    assert values["connectivity"] == 6
    assert values["voxel_size"] == [4.0] * 3
    assert values["reference"]["porosity"] == values["porosity"]
    assert values["reference_2"]["porosity"] == values["porosity"]


def test_measure_compares_with_a_time_point(pores, tmp_path, capsys):
    scan = io.read(pores)
    frames = np.stack([scan.data, np.flip(scan.data, 0), np.full_like(scan.data, 255)])
    frames[2, :, :, :2] = 0
    series = str(io.write(Volume(frames, "TZYX", (2.0,) * 3, "µm"), tmp_path / "t.tif"))
    words = ["measure", pores, "--reference", series, "--json", "--out"]
    words += [str(tmp_path / "report")]
    assert run(words) == 2
    assert "0 to 2 (--reference-time)" in capsys.readouterr().err
    assert run([*words, "--reference-time", "1"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["reference"]["porosity"] == values["porosity"]
    words = ["measure", series, "--reference", series, "--json", "--threshold", "100"]
    words += ["--time", "0", "--reference-time", "2", "--out", str(tmp_path / "two")]
    assert run(words) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["reference"]["porosity"] == pytest.approx(2 / frames.shape[-1])
    assert values["porosity"] != values["reference"]["porosity"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--voxel-size", "1", "2", "3"], "several numbers with commas"),
        (["--dataset", "-3GB"], "begins with a minus: --dataset=-3GB"),
    ],
)
def test_what_cannot_be_parsed_is_explained(pores, words, says, capsys):
    assert run(["info", pores, *words]) == 2
    assert says in capsys.readouterr().err


def test_only_what_is_missing_is_asked_for(tmp_path, capsys):
    data = np.full((8, 40, 40), 200, np.uint8)
    data[2:6, 5:9, 5:9] = 50
    tifffile.imwrite(tmp_path / "bare.tif", data)
    given = [str(tmp_path / "bare.tif"), "--out", str(tmp_path / "out")]
    assert run(["measure", *given, "--voxel-size", "3"]) == 0
    said = capsys.readouterr().err
    assert "give --unit" in said
    assert "give --voxel-size" not in said


@pytest.mark.parametrize(
    ("names", "more"),
    [("abc", []), ("ab", ["--statistics", "trabecular,profile", "--bands"])],
)
def test_numbers_are_not_cut_off_in_a_narrow_terminal(
    pores, tmp_path, capsys, monkeypatch, names, more
):
    paths = [save(tmp_path / f"{name}.tif", tifffile.imread(pores)) for name in names]
    given = ["measure", pores, "--reference", *paths, *more, "--out"]
    numbers = []
    for columns in ("400", "80", "48"):
        monkeypatch.setenv("COLUMNS", columns)
        assert run([*given, str(tmp_path / columns)]) == 0
        lines = capsys.readouterr().out.partition("second lines")[0].split("\n")
        start = len(lines[0]) - len(lines[0].lstrip())
        shown = " ".join(line[start:] for line in lines)  # without the labels
        words = re.split(r"[ ()]+", shown)  # not at spaces between digits
        numbers.append(sorted(word for word in words if word[:1].isdigit()))
    assert numbers[0] == numbers[1] == numbers[2]


def test_warnings_name_their_volumes(pores, tmp_path, capsys):
    other = save(tmp_path / "other.tif", tifffile.imread(pores))
    out = tmp_path / "report"
    words = ["measure", pores, "--reference", other, "--out", str(out)]
    assert run([*words, "--group", "d>3"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    text = "The group 'd>3' compares 'equivalent_diameter' with a number without a unit"
    for name in ("pores.tif", "other.tif"):  # each when it is measured
        assert said.count(f"{name}: {text}: the number is in µm.") == 1
    values = json.loads((out / "report.json").read_text())
    assert any(w.startswith(f"pores.tif: {text}") for w in values["warnings"])
    of_other = values["reference"]["warnings"]
    assert any(w.startswith(f"other.tif: {text}") for w in of_other)
    assert (out / "report.html").read_text().count("with a number without a unit") == 1


def test_columns_of_a_comparison_are_told_apart(pores, tmp_path, capsys):
    data = tifffile.imread(pores)
    data[1:6, 30:35, 20:25] = 50
    (tmp_path / "b").mkdir()
    other = save(tmp_path / "b" / "pores.tif", data)
    out = tmp_path / "report"
    assert run(["measure", pores, "--reference", other, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "pores (input)" in shown
    assert "pores (reference)" in shown
    assert "change: relative to pores (reference)" in shown
    assert "−39.8 %" in shown.splitlines()[1]  # 189 voxels instead of 314
    page = (out / "report.html").read_text()
    assert "change relative to pores (reference)" in page
    assert page.index("pores (reference)") < page.index("pores (input)")


def test_a_given_voxel_size_is_that_of_the_input_alone(pores, tmp_path, capsys):
    data = np.repeat(np.repeat(np.repeat(tifffile.imread(pores), 2, 0), 2, 1), 2, 2)
    fine = save(tmp_path / "[b]fine.tif", data, voxel=1.0)
    bare = str(tmp_path / "bare.tif")
    tifffile.imwrite(bare, tifffile.imread(pores))
    arguments = ["measure", bare, "--reference", fine, "--out", str(tmp_path / "m")]
    arguments += ["--voxel-size", "2", "--unit", "um"]
    assert run([*arguments, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["pores_per_mm3"] == pytest.approx(
        values["reference"]["pores_per_mm3"]
    )
    assert run([*arguments, "--overwrite"]) == 0
    assert "[b]fine" in capsys.readouterr().out


def test_a_dataset_is_chosen_by_every_command_that_reads(tmp_path, capsys):
    path = tmp_path / "two.h5"
    data = np.full((4, 30, 30), 200, np.uint8)
    data[1:3, 5:9, 5:9] = 50
    with h5py.File(path, "w") as file:
        file["scan/raw"], file["scan/other"] = data, data[:, ::2]
    commands = {
        "info": [],
        "measure": ["--out", str(tmp_path / "report")],
        "restore": ["--out", str(tmp_path / "out.tif"), "--device", "cpu"],
    }
    for command, more in commands.items():
        arguments = [command, str(path), "--json", *more]
        assert run(arguments) == 2
        said = capsys.readouterr().err
        assert "scan/other 4×15×30, scan/raw 4×30×30" in said
        assert "--dataset scan/other" in said
        assert run([*arguments, "--dataset", "scan/raw"]) == 0
        values = json.loads(capsys.readouterr().out)
        assert values.get("shape", [4, 30, 30]) == [4, 30, 30]
    assert values["run"] is not None


def test_settings_of_a_file_are_overruled_by_flags(pores, tmp_path, capsys):
    settings = tmp_path / "settings.yaml"
    settings.write_text(MeasureConfig(threshold=90.0, min_voxels=100).to_yaml())
    arguments = ["measure", pores, "--out", str(tmp_path / "m"), "--json"]
    arguments += ["--config", str(settings), "--threshold", "100"]
    assert run(arguments) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["threshold"] == 100
    assert values["min_voxels"] == 100
    assert values["pore_count"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["info", "absent.tif"], "absent.tif"),
        (["measure", "absent.tif", "--out", "m"], "absent.tif"),
        (["restore", "PORES", "--out", "x.tif", "--model", "nope"], "nope"),
        (["restore", "PORES", "--out", "x.tif", "--memory", "lots"], "4GB"),
        (["restore", "PORES", "--out", "x.png"], "x.png"),
        (["restore", "PORES", "--out", "new/x.tif"], "new does not exist. Create"),
        (["restore", "PORES", "--out", "/dev/null/x.tif"], "/dev/null is not a folder"),
        (["measure", "PORES", "--out", "m", "--threshold", "osu"], "threshold"),
        (["measure", "PORES", "--out", "m", "--voxel-size", "4,x"], "voxel size"),
        (["models", "show", "nope"], "nope"),
        (["models", "verify", "absent"], "absent"),
        (["restor"], "restor"),
        (["restore", "PORES"], "out"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments, says, pores, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = [pores if word == "PORES" else word for word in arguments]
    assert run(words) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert sorted(os.listdir(tmp_path)) == ["pores.tif"]


def test_a_path_that_cannot_be_is_the_users_matter(capsys):
    assert run(["info", "x" * 300]) == 2
    assert "a bug" not in capsys.readouterr().err


def test_our_own_fault_is_exit_code_1(pores, monkeypatch, capsys):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("napari_geosr.io.read", broken)
    assert run(["info", pores]) == 1
    assert "This is a bug" in capsys.readouterr().err


def test_debug_shows_where_an_error_came_from(tmp_path, capsys):
    assert run(["info", str(tmp_path / "absent.tif"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_models_list_show_verify(capsys):
    assert run(["models", "list", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert set(values) == {"models", "damaged"}
    models = {m["name"]: m for m in values["models"]}
    assert {"foam-denoise", "foam-sr-x2"} <= set(models)
    assert run(["models", "show", "foam-denoise"]) == 0
    assert "Not for" in capsys.readouterr().out
    assert run(["models", "verify", models["foam-denoise"]["path"]]) == 0
    assert "complete and undamaged" in capsys.readouterr().out


def test_models_show_refuses_damaged_weights(tmp_path, capsys):
    bundle = shutil.copytree(find_model("foam-denoise").path, tmp_path / "mine")
    weights = bundle / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run(["models", "verify", str(bundle)]) == 2
    verified = capsys.readouterr()
    assert run(["models", "show", str(bundle), "--json"]) == 2
    assert capsys.readouterr() == verified
    assert verified.err.count("\n") == 1
    assert "checksum" in verified.err


def test_doctor_names_devices_and_versions(capsys):
    assert run(["doctor", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["packages"]["torch"] != "not installed"
    assert values["devices"]["chosen by 'auto'"]
    assert "foam-denoise" in values["models"]


def test_damaged_models_are_named(tmp_path, monkeypatch, capsys):
    bundle = tmp_path / "models" / "[red]broken"
    bundle.mkdir(parents=True)
    (bundle / "card.yaml").write_text("1: x")
    monkeypatch.setattr("napari_geosr.models.zoo.user_folder", lambda: bundle.parent)
    assert run(["models", "list", "--json"]) == 0
    damaged = json.loads(capsys.readouterr().out)["damaged"]
    assert list(damaged) == [str(bundle)]
    assert run(["models", "list"]) == 0
    assert str(bundle) in capsys.readouterr().err
    assert run(["doctor"]) == 0
    assert str(bundle) in capsys.readouterr().out


def test_the_installed_program_answers_help():
    out = subprocess.run(
        [sys.executable, "-m", "napari_geosr", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0
    for command in ("demo", "restore", "measure", "models", "info", "doctor"):
        assert command in out.stdout


def test_info_says_how_to_correct_what_was_assumed(tmp_path, capsys):
    pages = np.random.default_rng(0).random((8, 20, 20), np.float32)
    tifffile.imwrite(tmp_path / "pages.tif", pages, metadata=None)
    assert run(["info", str(tmp_path / "pages.tif")]) == 0
    said = capsys.readouterr().out
    assert "treated as slices (Z). If that is wrong, give --axes" in said


def test_mistyped_choices_and_a_mask_in_the_wrong_option_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = tmp_path / "scan.tif"
    data = np.random.default_rng(0).integers(0, 255, (8, 16, 16), np.uint8)
    tifffile.imwrite(scan, data, imagej=True)
    words = ["measure", str(scan), "-o", str(tmp_path / "report")]
    assert run([*words, "--threshold", "ots"]) == 2
    assert "(given: 'ots'; did you mean 'otsu'?)" in capsys.readouterr().err
    assert run([*words, "--sample-mask", "rock.tif"]) == 2
    assert "give the mask in rock.tif with --mask" in capsys.readouterr().err
