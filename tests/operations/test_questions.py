"""Operations and commands ask about doubtful properties of a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from napari_geosr import io, load_model, measure_porosity
from napari_geosr.cli.app import run as main
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import Step, WarningIssued, run_to_end
from napari_geosr.operations.inputs.scan import input_warnings, open_questions
from napari_geosr.operations.restore import RestoreConfig, prepare_steps
from napari_geosr.operations.train.checks import reading_warnings


@pytest.fixture
def inches(tmp_path: Path) -> Path:
    """As ImageJ saves a stack whose scale was never set."""
    rng = np.random.default_rng(0)
    pores = gaussian_filter(rng.normal(size=(24, 32, 32)), 2) > 0.05
    data = (np.where(pores, 180, 60) + rng.normal(0, 5, pores.shape)).astype(np.uint8)
    path = tmp_path / "inches.tif"
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=(100, 100),
        metadata={"axes": "ZYX", "unit": "inch"},
    )
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A time series of small frames that is not marked as such."""
    rng = np.random.default_rng(0)
    scene = gaussian_filter(rng.normal(size=(30, 40)), 1.5)
    data = scene / scene.std() + rng.normal(0, 0.3, (1000, 30, 40))
    path = tmp_path / "frames.tif"
    tifffile.imwrite(path, data.astype(np.float32), photometric="minisblack")
    return path


def test_figures_of_an_implausible_voxel_size_are_in_voxels(inches: Path) -> None:
    report = measure_porosity(io.read(inches))
    assert report.unit == "pixel"
    assert report.pores_per_mm3 is None
    assert any("1 × 0.01 × 0.01 in" in warning for warning in report.warnings)
    told = measure_porosity(io.read(inches, voxel_size=[5], unit="um"))
    assert told.pores_per_mm3 is not None
    assert not any("voxel size" in warning for warning in told.warnings)


def test_a_report_states_an_implausible_size_that_was_confirmed(inches: Path) -> None:
    report = measure_porosity(io.read(inches, voxel_size=(1, 0.01, 0.01), unit="inch"))
    assert report.pores_per_mm3 is not None
    (sentence,) = [w for w in report.warnings if "voxel size" in w]
    assert "confirmed voxel size of 1 × 0.01 × 0.01 in" in sentence
    assert "factor of 100; a voxel size of 25.4 mm is 10 mm or more" in sentence


def test_measure_asks_for_the_size(
    inches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", str(inches), "--out", str(tmp_path / "r"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert any("--voxel-size Z,Y,X --unit um" in text for text in said["warnings"])


def test_info_says_both(
    inches: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(inches)]) == 0
    out = capsys.readouterr().out
    assert "unknown; give --voxel-size and --unit" in out
    assert "many programs write inches if no voxel size was set" in out
    assert main(["info", str(frames), "--json"]) == 0
    (question,) = json.loads(capsys.readouterr().out)["questions"]
    assert "--axes TYX" in question
    assert main(["info", str(frames), "--axes", "ZYX", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["questions"] == []


def test_a_ranking_asks_about_frames(
    frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "rank", str(frames), "--models", "gaussian"]) == 0
    assert "time series" in capsys.readouterr().err


def test_networks_with_neighbours_refuse_frames(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.tif"
    command = ["restore", str(frames), "--model", "foam-denoise", "--out", str(out)]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "--axes TYX" in said
    assert "would mix time points" in said
    assert not out.exists()


def test_a_person_may_say_that_they_are_slices(frames: Path) -> None:
    volume = io.read(frames, axes="ZYX")
    steps: list[Step] = []
    config = RestoreConfig(model="foam-denoise")
    prepared = run_to_end(prepare_steps(volume, config), steps.append)
    assert prepared.volume is volume
    assert not any(
        isinstance(s, WarningIssued) and "frames" in s.message for s in steps
    )


def test_what_may_be_frames_is_a_warning(frames: Path) -> None:
    few = io.read(frames)
    few = few.replace(data=few.data[:20])
    (question,) = open_questions(few)
    assert "may be frames" in question
    steps = list(prepare_steps(few, RestoreConfig(model="foam-denoise")))
    assert any(isinstance(s, WarningIssued) and s.message == question for s in steps)


def test_measuring_frames_as_a_volume_is_a_warning(frames: Path) -> None:
    report = measure_porosity(io.read(frames))
    assert any("--axes TYX" in warning for warning in report.warnings)


def test_the_reason_is_a_volume_error(frames: Path) -> None:
    steps = prepare_steps(io.read(frames), RestoreConfig(model="foam-denoise"))
    with pytest.raises(VolumeError, match="1000 planes look like frames"):
        list(steps)


def test_a_training_asks_before_it_starts(frames: Path, inches: Path) -> None:
    volumes = {"source": [io.read(frames), io.read(inches)]}
    said = " ".join(reading_warnings(volumes))
    assert "frames.tif: its 1000 planes look like frames" in said
    assert "inches.tif: the file specifies a voxel size of 1 × 0.01 × 0.01 in" in said


def test_a_model_that_adds_slices_warns_where_the_file_names_none(tmp_path):
    rng = np.random.default_rng(0)
    pores = gaussian_filter(rng.normal(size=(24, 32, 32)), 2) > 0.05
    data = np.where(pores, 180, 60) + rng.normal(0, 5, pores.shape)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, data.astype(np.float32), photometric="minisblack")

    def said(model: str, axes: str | None = None) -> list[str]:
        cards = [load_model(model).card]
        messages = input_warnings(io.read(path, axes=axes), cards)
        return [each for each in messages if "adds slices" in each]

    (warning,) = said("foam-sr-x2")
    assert "does not name its axis of length 24" in warning
    assert "--axes ZYX" in warning
    assert said("foam-sr-x2", axes="ZYX") == []
    assert said("ct-denoise") == []


def test_an_axis_in_doubt_is_mentioned_once(frames: Path) -> None:
    """Only the question about frames is asked, without a note on added slices."""
    few = io.read(frames)
    few = few.replace(data=few.data[:20])
    said = input_warnings(few, [load_model("foam-sr-x2").card])
    (about_axes,) = [each for each in said if "axes" in each]
    assert "may be frames" in about_axes
