"""``napari-geosr train`` with several files, and for shapes."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.cli.train import _EXAMPLES
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.shapes import (
    ShapeTrainJob,
    SimulateShapesConfig,
    simulate_shape_steps,
)


@pytest.fixture
def files(tmp_path):
    ball = np.zeros((24, 24, 24), np.uint8)
    ball[6:18, 6:18, 6:18] = 1
    made = []
    for name in ("one.tif", "two.tif"):
        shape = Volume(ball, "ZYX", (0.5,) * 3, "mm")
        made.append(str(io.write(shape, tmp_path / name, kind="labels")))
    return made


@pytest.mark.parametrize("method", ["shape-sr", "shape-completion", "noise2void"])
def test_files_are_separated_by_commas(method: str, files, tmp_path) -> None:
    out = tmp_path / "job"
    words = ["train", method, "--source", ",".join(files), "--patch", "16"]
    assert run([*words, "--name", "mine", "-o", str(out), "--prepare"]) == 0
    values = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    assert values["training"]["source"] == files


def test_labels_are_separated_by_commas(files, tmp_path) -> None:
    out, both = tmp_path / "job", ",".join(files)
    words = ["train", "sparse-segmentation", "--source", both, "--target", both]
    assert run([*words, "--n-labels", "2", "-o", str(out), "--prepare"]) == 0
    values = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    assert values["training"]["target"] == files


def test_shells_are_separated_by_commas(files, tmp_path, capsys) -> None:
    words = ["train", "shell-completion", "--source", ",".join(files)]
    assert run([*words, "-o", str(tmp_path / "job")]) == 2
    assert "There are 2 shells" in capsys.readouterr().err


def test_a_pattern_without_files_is_missing(tmp_path, capsys) -> None:
    """The shell passes on a pattern that matches nothing as it is."""
    words = ["train", "shell-completion", "--source", str(tmp_path / "*.nii.gz")]
    assert run([*words, "-o", str(tmp_path / "job")]) == 2
    assert "*.nii.gz does not exist" in capsys.readouterr().err


def test_examples_match_only_the_complete_skulls(tmp_path) -> None:
    config = SimulateShapesConfig(number=2, shape=32)
    written = run_to_end(simulate_shape_steps(tmp_path / "skulls", config))
    complete = {path for path in written if path.name.startswith("complete")}
    assert len(complete) == 2
    for method in ("shape-completion", "shell-completion"):
        _, pattern, *_ = _EXAMPLES[method][0].split()
        assert set(tmp_path.glob(pattern)) == complete


@pytest.mark.parametrize("option", ["--source", "--target"])
@pytest.mark.parametrize("method", ["shape-completion", "shape-sr"])
def test_each_complete_skull_of_a_folder_is_a_shape(
    option: str, method: str, tmp_path
) -> None:
    config = SimulateShapesConfig(number=2, shape=64)
    written = run_to_end(simulate_shape_steps(tmp_path / "skulls", config))
    out = tmp_path / "job"
    words = ["train", method, option, str(tmp_path / "skulls"), "--patch", "16"]
    assert run([*words, "-o", str(out), "--prepare"]) == 0
    values = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    complete = [str(path) for path in written if path.name.startswith("complete")]
    assert values["training"]["source"] == complete
    assert values["training"]["target"] == []


def sources(**training) -> list[str]:
    """Names of the files that a job in Python learns from."""
    job = ShapeTrainJob.from_values({"method": "shape_sr", "training": training})
    return [path.name for path in job.training.source]


def test_only_a_folder_of_volumes_is_taken_apart(files, tmp_path) -> None:
    folder = tmp_path / "slices"
    folder.mkdir()
    plane = np.zeros((24, 24), np.uint8)
    for i in range(3):
        io.write(Volume(plane, "YX"), folder / f"{i}.tif", kind="labels")
    ball = io.read(files[0])
    io.write(ball, tmp_path / "whole.ome.zarr", kind="labels")
    (tmp_path / "readme.txt").write_text("Shapes")
    assert sources(source=[str(folder)]) == ["slices"]
    assert sources(source=[str(tmp_path / "whole.ome.zarr")]) == ["whole.ome.zarr"]
    assert sources(target=[str(tmp_path)]) == ["one.tif", "two.tif", "whole.ome.zarr"]
    (tmp_path / "incomplete_0000.tif").write_bytes((tmp_path / "one.tif").read_bytes())
    assert "incomplete_0000.tif" in sources(source=[str(tmp_path)])


def test_sources_and_targets_of_shapes_are_not_combined(files) -> None:
    values = {"source": files[:1], "target": files[1:]}
    job = ShapeTrainJob.from_values({"method": "shape_sr", "training": values})
    with pytest.raises(ConfigError, match="give all shapes with --source"):
        job.check()
    values = {"target": files, "simulated": "mixed"}
    job = ShapeTrainJob.from_values({"method": "shape_sr", "training": values})
    with pytest.raises(ConfigError, match="Give either volumes of shapes"):
        job.check()
