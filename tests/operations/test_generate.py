"""Samples of a diffusion model depend on the seed, and are marked as generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, FileError, ModelError
from napari_geosr.core.steps import run_to_end
from napari_geosr.operations.generate import GenerateConfig, generate_steps

SMALL: dict[str, Any] = {"batch_size": 2, "patch": 16, "steps": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    scan = np.random.default_rng(0).normal(1000, 50, (12, 32, 32)).astype("f4")
    folder = tmp_path_factory.mktemp("prior") / "job"
    geosr.train("ddpm", folder, scan, name="rock", width=8, layers=1, **SMALL)
    return str(folder)


def drawn(model: str, out: Path, **values: Any) -> list[Path]:
    config = GenerateConfig.create(**{"sampling_steps": 3, "shape": "24,40"} | values)
    return run_to_end(generate_steps(model, out, config))


def test_a_sample_is_a_function_of_the_seed(prior: str, tmp_path: Path) -> None:
    first = [geosr.read(p) for p in drawn(prior, tmp_path / "a", number=2)]
    again = [geosr.read(p) for p in drawn(prior, tmp_path / "b", number=1)]
    other = [geosr.read(p) for p in drawn(prior, tmp_path / "c", number=1, seed=1)]
    np.testing.assert_array_equal(first[0].data, again[0].data)
    for volume in (first[1], other[0]):
        assert np.abs(np.asarray(volume.data) - first[0].data).max() > 1
    assert first[0].shape == (24, 40)
    # in grey values of the training data
    assert 500 < float(np.mean(first[0].data)) < 1500


def test_a_sample_is_marked_as_generated(prior: str, tmp_path: Path) -> None:
    (path,) = drawn(prior, tmp_path, number=1)
    assert path.name == "generated_rock_0000.ome.tif"
    record = geosr.read(path).provenance[-1]
    assert (record["operation"], record["generated"]) == ("generate", True)
    assert "not a measurement" in record["note"]
    assert record["model"]["name"] == "rock"
    with pytest.raises(FileError, match="exists"):
        drawn(prior, tmp_path, number=1)


def test_what_cannot_be_drawn(prior: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 numbers"):
        drawn(prior, tmp_path, shape="8,8,8")
    with pytest.raises(ConfigError, match="8 or more"):
        drawn(prior, tmp_path, shape="4,40")
    with pytest.raises(ModelError, match="its task is denoise"):
        drawn("ct-denoise", tmp_path)
    assert not list(tmp_path.iterdir())


def test_command(
    prior: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    line = f"generate {prior} --number 2 --shape 16,16 --sampling-steps 2 --threads 1"
    line += f" -o {out}"
    assert run(line.split()) == 0
    assert "2 generated samples" in capsys.readouterr().out
    assert len(list(out.iterdir())) == 2
